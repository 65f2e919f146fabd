"""Put the report together: one HTML page that needs nothing beside it."""

import base64
from pathlib import Path

import jinja2
import yaml

from regulonformer.report.blocks import Section, Studio
from regulonformer.report.evidence import Evidence
from regulonformer.report.questions import answers
from regulonformer.report.sections.annotation import annotation_section
from regulonformer.report.sections.cells import cell_section
from regulonformer.report.sections.cost import cost_blocks
from regulonformer.report.sections.data import data_section
from regulonformer.report.sections.drivers import driver_section
from regulonformer.report.sections.embedding import embedding_section
from regulonformer.report.sections.fusion import fusion_section
from regulonformer.report.sections.missing import missing_section
from regulonformer.report.sections.model import model_section
from regulonformer.report.sections.perturbation import perturbation_section
from regulonformer.report.sections.regression import regression_section
from regulonformer.report.sections.regulons import regulon_section
from regulonformer.report.sections.spatial import spatial_section
from regulonformer.report.sections.transfer import transfer_section
from regulonformer.report.sections.translation import translation_section
from regulonformer.report.sections.variants import variant_section
from regulonformer.report.style import theme
from regulonformer.report.tables.opening import results_table
from regulonformer.report.words.findings import balance, findings, headline_numbers, question
from regulonformer.report.words.methods import citation_numbers, methods, references

DEFAULTS = {"title": None, "dpi": 120, "top_regulons": 10, "top_genes": 10, "max_cells_plot": 20000, "colour_by": None}


def render_page(
    evidence: Evidence, *, config: dict, settings: dict, run: str, version: str, template, figures, tables
) -> str:
    """Draw all figures and fill the template.

    Parameters
    ----------
    evidence
        Results of the run.
    config
        All settings of the run, shown at the end.
    settings
        The report's own settings; `DEFAULTS` fills what is missing.
    run
        Name of the run.
    version
        Version of Regulonformer.
    template
        Jinja template of the page.
    figures
        Folder that gets each figure as SVG and PNG.
    tables
        Folder that gets each table as TSV.

    Returns
    -------
    str
        HTML.
    """
    settings, columns = DEFAULTS | settings, task_columns(evidence, config)
    studio = Studio(Path(figures), settings)
    with theme():
        built, costs = sections(evidence, columns, studio), cost_blocks(evidence, studio)
    paragraphs, compared = methods(evidence, config), answers(evidence)
    opening = results_table(compared)
    write_tables([opening, *(block for section in built for block in section.blocks), *costs], tables)
    names = {section.name for section in built}
    said = findings(evidence, compared)
    for finding in said:
        # A sentence may be about a section that had nothing to draw.
        finding.section = finding.section if finding.section in names else "summary"
    return (
        _environment()
        .from_string(Path(template).read_text())
        .render(
            title=settings["title"] or f"Multiome report: {run}",
            run=run,
            version=version,
            question=question(evidence, columns),
            numbers=headline_numbers(evidence),
            balance=balance(compared),
            results=opening,
            findings=said,
            sections=built,
            methods=paragraphs,
            citations=citation_numbers(paragraphs),
            references=references(paragraphs),
            runtime=costs,
            config=yaml.safe_dump(config, sort_keys=True, allow_unicode=True, default_flow_style=False),
        )
    )


def write_tables(blocks: list, folder) -> None:
    """Write every table of the page as TSV."""
    for block in blocks:
        if block is not None and block.kind == "table":
            Path(folder, f"{block.name}.tsv").write_text(block.tsv, encoding="utf-8")


def _environment() -> jinja2.Environment:
    """Jinja with escaping on: labels come from the user's files and may hold any character."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["base64"] = lambda text: base64.b64encode(text.encode()).decode()
    return environment


def task_columns(evidence: Evidence, config: dict) -> dict[str, str]:
    """Task -> column of the cells that it predicts."""
    columns = {task: block["column"] for task, block in (config.get("tasks") or {}).items() if block.get("column")}
    columns |= {
        task: records[0]["column"] for task, records in evidence.task_records.items() if records[0].get("column")
    }
    return columns


def sections(evidence: Evidence, columns: dict[str, str], studio: Studio) -> list[Section]:
    """Build the sections that have something to show, in the order of the page."""
    built = [
        data_section(evidence, studio),
        model_section(evidence, studio),
        cell_section(evidence, studio, columns),
        spatial_section(evidence, studio, columns),
        annotation_section(evidence, studio),
        fusion_section(evidence, studio),
        transfer_section(evidence, studio),
        regression_section(evidence, studio),
        translation_section(evidence, studio),
        missing_section(evidence, studio),
        embedding_section(evidence, studio),
        regulon_section(evidence, studio, columns),
        driver_section(evidence, studio),
        perturbation_section(evidence, studio),
        variant_section(evidence, studio),
    ]
    for section in built:
        section.blocks = [block for block in section.blocks if block is not None]
    return [section for section in built if section.blocks]
