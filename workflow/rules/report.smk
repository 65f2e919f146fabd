# One page that tells what was asked and found.


rule write_report:
    input:
        **report_inputs(),
        template=workflow.source_path("../report/page.html.jinja"),
        lib=lib("write_report"),
    output:
        html=report(
            "<results>/report/report.html",
            caption="../report/report.rst",
            category="Report",
            labels={"what": "the whole run on one page"},
        ),
        figures=report(
            directory("<results>/report/figures"),
            patterns=["{name}.svg"],
            caption="../report/figures.rst",
            category="Figures",
            labels={"figure": "{name}"},
        ),
        tables=report(
            directory("<results>/report/tables"),
            patterns=["{name}.tsv"],
            caption="../report/tables.rst",
            category="Tables",
            labels={"table": "{name}"},
        ),
    log:
        "<logs>/write_report.log",
    benchmark:
        "<benchmarks>/write_report.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 6000 * attempt,
        runtime=60,
    params:
        report=section("report"),
        config=CONFIG,
        run=CONFIG["run"],
        benchmarks=f"results/{CONFIG['run']}/benchmarks",
    message:
        "Writing the report"
    script:
        "../scripts/write_report.py"
