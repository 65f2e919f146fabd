"""The section on variants: edits of the genome that were scored, and genes that answer to an ablated TSS."""

import pandas as pd

from regulonformer.report.blocks import Note, Section, Studio
from regulonformer.report.evidence import Evidence
from regulonformer.report.tables.table import Table
from regulonformer.report.words.names import number

SHOWN = 20
READING = (
    "A change has no unit; what tells is how often random edits of the same kind do as much (p): in the same element, "
    "and in elements of genes that are expressed alike. The larger of those that are there is given: edits of most of "
    "a window have the second alone. Variants off every window were not tested."
)


def variant_section(evidence: Evidence, studio: Studio) -> Section:
    """Variants with the smallest p, and how many were not tested."""
    section = Section("variants", "Variants", "Edits of the genome, read by the sequence encoder and by the model.")
    found = evidence.variants
    if found is None or found.empty:
        return section
    tested = found[found["status"] == "tested"]
    if len(tested):
        section.blocks.append(variant_table(tested))
    each = found.drop_duplicates("variant")
    reasons = each.loc[each["status"] != "tested", "status"].value_counts()
    untested = "; ".join(f"{number(int(count))} not tested ({reason})" for reason, count in reasons.items())
    counted = f"{number(len(each))} variants" + (f", of which {untested}." if untested else ", all tested.")
    section.blocks.append(Note("How to read these variants", [counted, READING]))
    return section


def variant_table(tested: pd.DataFrame) -> Table:
    """Pairs of a variant and a gene over all cells, smallest p first."""
    best = tested[tested["group"] == "all"].sort_values(
        ["p", "context_change"], ascending=[True, False], kind="stable", na_position="last"
    )
    rows = [
        [row.variant, row.kind, row.gene, f"{row.context_change:.3g}", f"{row.expression_change:+.3f}", f"{row.p:.2g}",
         f"{row.fdr:.2g}"]
        for row in best.head(SHOWN).itertuples()
    ]  # fmt: skip
    columns = ["Variant", "Kind", "Gene", "Change of the vector", "Change of log expression", "p", "FDR"]
    caption = "Change of the contextual vector of the gene and of its predicted expression, mean over the cell groups."
    source = "explain/variants/variants.parquet"
    return Table("variant_table", "Variants that change their gene most", columns, rows, caption, source)
