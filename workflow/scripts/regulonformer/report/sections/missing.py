"""The section on missing modalities: what cells that show RNA or accessibility alone lose."""

from regulonformer.report.blocks import Note, Section, Studio
from regulonformer.report.evidence import Evidence
from regulonformer.report.questions import part_of
from regulonformer.report.tables.scores import score_table
from regulonformer.report.words.names import slug

READING = (
    "All methods were fitted to libraries that are not scored here; peaks and prior are those of the run. R2 is the "
    "share of the spread of an embedding that is predicted; the mean of the cell type is beside it, because a student "
    "may know no more than that. The model of equal size has the same layers, and was trained for as many steps on RNA "
    "alone."
)


def missing_section(evidence: Evidence, studio: Studio) -> Section:
    """Scores of every question, one table each."""
    section = Section("missing", "Missing modalities", "Held-out cells of which one modality is shown alone.")
    if evidence.missing is None or evidence.missing.empty:
        return section
    scores = evidence.missing[~evidence.missing["metric"].str.startswith("gap_")]
    for dataset, table in scores.groupby("dataset", sort=False):
        name = f"missing-{slug(part_of(dataset))}"
        section.blocks.append(score_table(table, name, f"held-out cells: {part_of(dataset)}", "evaluate/missing.tsv"))
    section.blocks.append(Note("How to read these scores", [READING]))
    return section
