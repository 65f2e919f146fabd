"""Write what was asked and found on one self-contained HTML page."""

import logging
from pathlib import Path

from regulonformer import __version__
from regulonformer.log import rule_log
from regulonformer.report.evidence import INPUT_NAMES, read_evidence
from regulonformer.report.page import render_page
from regulonformer.report.readers import find_benchmarks


def main(*, inputs: dict, settings: dict, config: dict, run: str, template, html, figures, tables) -> None:
    """Write the page and its figures.

    Parameters
    ----------
    inputs
        Result files by name (`regulonformer.report.evidence.INPUT_NAMES`): a path, a list of paths, or None. Sections
        without their files are left out.
    settings
        Section `report` of the configuration: title, dpi, top_regulons, top_genes, max_cells_plot, colour_by.
    config
        All settings of the run.
    run
        Name of the run.
    template
        Jinja template of the page.
    html
        Page to write.
    figures
        Folder to write each figure to, as SVG and PNG.
    tables
        Folder to write each table to, as TSV.
    """
    for folder in (figures, tables):
        Path(folder).mkdir(parents=True, exist_ok=True)
    evidence = read_evidence(inputs)
    page = render_page(
        evidence,
        config=config,
        settings=settings,
        run=run,
        version=__version__,
        template=template,
        figures=figures,
        tables=tables,
    )
    Path(html).write_text(page, encoding="utf-8")
    logging.info("%s: %.1f MB", html, len(page) / 1e6)


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        given = {name: getattr(job.input, name, None) or None for name in INPUT_NAMES}
        main(
            inputs=given | {"benchmarks": find_benchmarks(job.params.benchmarks)},
            settings=job.params.report,
            config=job.params.config,
            run=job.params.run,
            template=job.input.template,
            html=job.output.html,
            figures=job.output.figures,
            tables=job.output.tables,
        )
