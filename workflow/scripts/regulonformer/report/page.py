"""Put the report together: one HTML page that needs nothing beside it."""

import base64
from pathlib import Path

import jinja2
import yaml

from regulonformer.report.blocks import Studio
from regulonformer.report.evidence import Evidence
from regulonformer.report.methods import citation_numbers, methods, references
from regulonformer.report.sections import runtime_blocks, sections, task_columns
from regulonformer.report.style import theme
from regulonformer.report.text import findings, headline_numbers, question

DEFAULTS = {"title": None, "dpi": 120, "top_regulons": 10, "top_genes": 10, "max_cells_plot": 20000, "colour_by": None}


def render_page(evidence: Evidence, *, config: dict, settings: dict, run: str, version: str, template, figures) -> str:
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

    Returns
    -------
    str
        HTML.
    """
    settings = DEFAULTS | settings
    with theme():
        built = sections(evidence, config, Studio(Path(figures), settings))
    paragraphs = methods(evidence, config)
    names = {section.name for section in built}
    said = findings(evidence)
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
            question=question(evidence, task_columns(evidence, config)),
            numbers=headline_numbers(evidence),
            findings=said,
            sections=built,
            methods=paragraphs,
            citations=citation_numbers(paragraphs),
            references=references(paragraphs),
            runtime=runtime_blocks(evidence),
            config=yaml.safe_dump(config, sort_keys=True, allow_unicode=True, default_flow_style=False),
        )
    )


def _environment() -> jinja2.Environment:
    """Jinja with escaping on: labels come from the user's files and may hold any character."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["base64"] = lambda text: base64.b64encode(text.encode()).decode()
    return environment
