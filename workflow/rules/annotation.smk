# Genes and their starts, read once.


if CONFIG["reference"]["annotation"]:

    rule read_annotation:
        input:
            annotation=CONFIG["reference"]["annotation"],
            # Only that the inputs were judged matters here: a new verdict alone reruns nothing.
            verdict=ancient("<results>/validate/inputs.json"),
            lib=lib("read_annotation"),
        output:
            genes="<results>/annotation/genes.parquet",
            tss="<results>/annotation/tss.parquet",
            summary="<results>/annotation/summary.json",
        log:
            "<logs>/read_annotation.log",
        benchmark:
            "<benchmarks>/read_annotation.tsv"
        conda:
            ENVIRONMENT
        resources:
            mem_mb=lambda wildcards, attempt: 2000 * attempt,
            runtime=30,
        message:
            "Reading genes and transcription start sites"
        script:
            "../scripts/read_annotation.py"
