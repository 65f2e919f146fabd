# Cells as model input.


rule build_corpus:
    input:
        multiome="<results>/features/multiome.h5mu",
        regulons="<results>/regulons/regulons.parquet",
        links=links(),
        regulons_unmapped="<results>/regulons/unmapped.tsv",
        tfs=given(CONFIG["reference"]["tfs"]),
        aliases=given(CONFIG["reference"]["aliases"]),
        lib=lib("build_corpus"),
    output:
        shards=directory("<results>/corpus/shards"),
        cells="<results>/corpus/cells.parquet",
        vocabulary="<results>/corpus/vocabulary.tsv",
        genes="<results>/corpus/genes.tsv",
        elements="<results>/corpus/elements.parquet",
        unmapped="<results>/corpus/unmapped.tsv",
        summary="<results>/corpus/summary.json",
    log:
        "<logs>/build_corpus.log",
    benchmark:
        "<benchmarks>/build_corpus.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 6000 * attempt,
        runtime=60,
    params:
        corpus=section("corpus"),
    message:
        "Writing cells as model input"
    script:
        "../scripts/build_corpus.py"
