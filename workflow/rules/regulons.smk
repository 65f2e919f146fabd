# The prior: TF to CRE to gene.


rule scan_motifs:
    input:
        peaks="<results>/features/peaks.bed",
        multiome="<results>/features/multiome.h5mu",
        fasta=given(CONFIG["reference"]["fasta"]),
        fasta_index=given(CONFIG["reference"]["fasta"], ".fai"),
        motifs=given(CONFIG["reference"]["motifs"]),
        aliases=given(CONFIG["reference"]["aliases"]),
        lib=lib("scan_motifs"),
    output:
        hits="<results>/regulons/motif_hits.npz",
    log:
        "<logs>/scan_motifs.log",
    benchmark:
        "<benchmarks>/scan_motifs.tsv"
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        mem_mb=lambda wildcards, attempt: 6000 * attempt,
        runtime=120,
    params:
        regulons=section("regulons"),
    message:
        "Scanning peaks for TF motifs"
    script:
        "../scripts/scan_motifs.py"


rule link_peaks:
    input:
        multiome="<results>/features/multiome.h5mu",
        tss=annotation_table("tss"),
        fasta=given(CONFIG["reference"]["fasta"]),
        fasta_index=given(CONFIG["reference"]["fasta"], ".fai"),
        lib=lib("link_peaks"),
    output:
        links="<results>/regulons/links.parquet",
        summary="<results>/regulons/links.json",
    log:
        "<logs>/link_peaks.log",
    benchmark:
        "<benchmarks>/link_peaks.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 6000 * attempt,
        runtime=120,
    params:
        regulons=section("regulons"),
    message:
        "Linking peaks to genes"
    script:
        "../scripts/link_peaks.py"


rule build_regulons:
    input:
        multiome="<results>/features/multiome.h5mu",
        links=links(),
        motif_hits=motif_hits(),
        network=given(CONFIG["reference"]["network"]),
        tfs=given(CONFIG["reference"]["tfs"]),
        aliases=given(CONFIG["reference"]["aliases"]),
        lib=lib("build_regulons"),
    output:
        regulons="<results>/regulons/regulons.parquet",
        gmt=report(
            "<results>/regulons/regulons.gmt",
            caption="../report/regulons.rst",
            category="Regulons",
            labels={"what": "target sets"},
        ),
        summary="<results>/regulons/summary.json",
        unmapped="<results>/regulons/unmapped.tsv",
    log:
        "<logs>/build_regulons.log",
    benchmark:
        "<benchmarks>/build_regulons.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 6000 * attempt,
        runtime=60,
    params:
        regulons=section("regulons"),
    message:
        "Building regulons"
    script:
        "../scripts/build_regulons.py"


rule score_regulons:
    input:
        multiome="<results>/features/multiome.h5mu",
        regulons="<results>/regulons/regulons.parquet",
        lib=lib("score_regulons"),
    output:
        activity="<results>/regulons/activity.h5ad",
    log:
        "<logs>/score_regulons.log",
    benchmark:
        "<benchmarks>/score_regulons.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 6000 * attempt,
        runtime=60,
    params:
        regulons=section("regulons"),
    message:
        "Scoring regulons in cells"
    script:
        "../scripts/score_regulons.py"
