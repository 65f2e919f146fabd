# One library's raw outputs to cells that passed quality control in every modality that it has.


rule ingest_sample:
    input:
        matrix=of_sample("matrix"),
        peak_matrix=of_sample("peak_matrix"),
        fragments=of_sample("fragments"),
        fragments_index=fragments_index,
        peaks=of_sample("peaks"),
        barcode_metrics=of_sample("barcode_metrics"),
        labels=of_sample("labels"),
        tss=annotation_table("tss"),
        blacklist=given(CONFIG["reference"]["blacklist"]),
        # Only that the inputs were judged matters here: a new verdict alone reruns nothing.
        verdict=ancient("<results>/validate/inputs.json"),
        lib=lib("ingest_sample"),
    output:
        mudata="<results>/ingest/{sample}.h5mu",
        cells="<results>/ingest/{sample}.cells.parquet",
        qc=report(
            "<results>/ingest/{sample}.qc.json",
            caption="../report/qc.rst",
            category="Quality control",
            labels={"library": "{sample}", "what": "cells kept and removed"},
        ),
    log:
        "<logs>/ingest_sample/{sample}.log",
    benchmark:
        "<benchmarks>/ingest_sample/{sample}.tsv"
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        mem_mb=lambda wildcards, attempt: 6000 * attempt,
        runtime=60,
    params:
        sample=lambda wildcards: SAMPLES[wildcards.sample],
        ingest=section("ingest"),
    message:
        "Quality control of library {wildcards.sample}"
    script:
        "../scripts/ingest_sample.py"
