# Consensus peaks, counts of every library over them, and the joint matrices.


rule call_consensus_peaks:
    input:
        ingested=expand("<results>/ingest/{sample}.h5mu", sample=SAMPLES),
        peaks=of_samples("peaks"),
        fragments=of_samples("fragments"),
        fragments_index=index_of(of_samples("fragments")),
        blacklist=given(CONFIG["reference"]["blacklist"]),
        fai=given(CONFIG["reference"]["fasta"], ".fai"),
        lib=lib("call_consensus_peaks"),
    output:
        peaks="<results>/features/peaks.bed",
        summary="<results>/features/peaks.json",
    log:
        "<logs>/call_consensus_peaks.log",
    benchmark:
        "<benchmarks>/call_consensus_peaks.tsv"
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        mem_mb=lambda wildcards, attempt: 6000 * attempt,
        runtime=120,
    params:
        peak_samples=having("peaks"),
        fragment_samples=having("fragments"),
        features=section("features"),
    message:
        "Consensus peaks"
    script:
        "../scripts/call_consensus_peaks.py"


rule count_sample:
    input:
        ingested="<results>/ingest/{sample}.h5mu",
        peaks="<results>/features/peaks.bed",
        fragments=of_sample("fragments"),
        fragments_index=fragments_index,
        lib=lib("count_sample"),
    output:
        mudata="<results>/features/counts/{sample}.h5mu",
        summary="<results>/features/counts/{sample}.json",
    log:
        "<logs>/count_sample/{sample}.log",
    benchmark:
        "<benchmarks>/count_sample/{sample}.tsv"
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        mem_mb=lambda wildcards, attempt: 6000 * attempt,
        runtime=60,
    params:
        features=section("features"),
    message:
        "Counting library {wildcards.sample} over the consensus peaks"
    script:
        "../scripts/count_sample.py"


rule merge_samples:
    input:
        counts=expand("<results>/features/counts/{sample}.h5mu", sample=SAMPLES),
        genes=annotation_table("genes"),
        tss=annotation_table("tss"),
        aliases=given(CONFIG["reference"]["aliases"]),
        lib=lib("merge_samples"),
    output:
        multiome="<results>/features/multiome.h5mu",
        summary="<results>/features/merge.json",
    log:
        "<logs>/merge_samples.log",
    benchmark:
        "<benchmarks>/merge_samples.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=120,
    params:
        features=section("features"),
    message:
        "Joint matrices of all libraries"
    script:
        "../scripts/merge_samples.py"
