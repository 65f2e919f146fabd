# Our model and honest baselines, judged on the same held-out cells.


rule run_baselines:
    input:
        multiome="<results>/features/multiome.h5mu",
        lib=lib("run_baselines"),
    output:
        predictions="<results>/evaluate/baselines/{task}.parquet",
    log:
        "<logs>/run_baselines/{task}.log",
    benchmark:
        "<benchmarks>/run_baselines/{task}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=240,
    params:
        evaluate=section("evaluate"),
        task=lambda wildcards: CONFIG["tasks"][wildcards.task],
        group=CONFIG["splits"]["group"],
        folds=N_FOLDS,
        seeds=CONFIG["splits"]["seeds"],
    message:
        "Baselines for {wildcards.task}"
    script:
        "../scripts/run_baselines.py"


rule evaluate_annotation:
    input:
        predictions=runs_of("<results>/finetune/{task}/{recipe}/fold{fold}_seed{seed}/predictions.parquet"),
        baselines=expand("<results>/evaluate/baselines/{task}.parquet", task=CONFIG["tasks"]),
        lib=lib("evaluate_annotation"),
    output:
        annotation=report(
            "<results>/evaluate/annotation.tsv",
            caption="../report/annotation.rst",
            category="Evaluation",
            labels={"what": "annotation, with baselines"},
        ),
        confusion="<results>/evaluate/confusion.json",
    log:
        "<logs>/evaluate_annotation.log",
    benchmark:
        "<benchmarks>/evaluate_annotation.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=60,
    params:
        evaluate=section("evaluate"),
        # One entry per file, in the order of the inputs.
        datasets=runs_of(f"{CONFIG['run']}:{{task}}"),
        recipes=runs_of("{recipe}"),
        baseline_datasets=expand(f"{CONFIG['run']}:{{task}}", task=CONFIG["tasks"]),
    message:
        "Scoring annotation"
    script:
        "../scripts/evaluate_annotation.py"


rule resample_regulons:
    input:
        multiome="<results>/features/multiome.h5mu",
        regulons="<results>/regulons/regulons.parquet",
        tss=annotation_table("tss"),
        fasta=given(CONFIG["reference"]["fasta"]),
        fasta_index=given(CONFIG["reference"]["fasta"], ".fai"),
        motif_hits=given(CONFIG["reference"]["fasta"] and "<results>/regulons/motif_hits.npz"),
        network=given(CONFIG["reference"]["network"]),
        tfs=given(CONFIG["reference"]["tfs"]),
        aliases=given(CONFIG["reference"]["aliases"]),
        lib=lib("resample_regulons"),
    output:
        stability="<results>/evaluate/stability.tsv",
        fold_regulons="<results>/evaluate/fold_regulons.parquet",
    log:
        "<logs>/resample_regulons.log",
    benchmark:
        "<benchmarks>/resample_regulons.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=240,
    params:
        grn=section("grn"),
        regulons=section("regulons"),
    message:
        "Building regulons again from resampled cells"
    script:
        "../scripts/resample_regulons.py"


rule evaluate_grn:
    input:
        multiome="<results>/features/multiome.h5mu",
        regulons="<results>/regulons/regulons.parquet",
        links="<results>/regulons/links.parquet",
        motif_hits=given(CONFIG["reference"]["fasta"] and "<results>/regulons/motif_hits.npz"),
        network=given(CONFIG["reference"]["network"]),
        truth_grn=given(CONFIG["simulate"]["activate"] and "<results>/simulate/truth/grn.tsv"),
        truth_links=given(CONFIG["simulate"]["activate"] and "<results>/simulate/truth/links.tsv"),
        gold=given(CONFIG["grn"]["gold"]),
        elements=given(CONFIG["grn"]["elements"]),
        stability="<results>/evaluate/stability.tsv",
        fold_regulons="<results>/evaluate/fold_regulons.parquet",
        aliases=given(CONFIG["reference"]["aliases"]),
        lib=lib("evaluate_grn"),
    output:
        grn=report(
            "<results>/evaluate/grn.tsv",
            caption="../report/grn.rst",
            category="Evaluation",
            labels={"what": "regulons and links, with baselines"},
        ),
    log:
        "<logs>/evaluate_grn.log",
    benchmark:
        "<benchmarks>/evaluate_grn.tsv"
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=240,
    params:
        grn=section("grn"),
        regulons=section("regulons"),
        run=CONFIG["run"],
    message:
        "Judging regulons and links"
    script:
        "../scripts/evaluate_grn.py"
