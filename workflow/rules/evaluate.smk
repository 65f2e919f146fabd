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
        reliability="<results>/evaluate/grn_reliability.tsv",
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


rule evaluate_pretraining:
    input:
        model_config=f"<results>/pretrain/{RECIPE}/config.json",
        model=f"<results>/pretrain/{RECIPE}/model.safetensors",
        model_vocabulary=f"<results>/pretrain/{RECIPE}/vocabulary.tsv",
        shards="<results>/corpus/shards",
        cells="<results>/corpus/cells.parquet",
        vocabulary="<results>/corpus/vocabulary.tsv",
        lib=lib("evaluate_pretraining"),
    output:
        pretraining=report(
            "<results>/evaluate/pretraining.tsv",
            caption="../report/pretraining.rst",
            category="Evaluation",
            labels={"what": "pretraining, with baselines"},
        ),
    log:
        "<logs>/evaluate_pretraining.log",
    benchmark:
        "<benchmarks>/evaluate_pretraining.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=240,
    params:
        evaluate=section("evaluate"),
        pretrain=pretrain_settings(RECIPE),
        run=CONFIG["run"],
    message:
        "Scoring pretraining beside simple predictors"
    script:
        "../scripts/evaluate_pretraining.py"


rule ablate_model:
    input:
        shards="<results>/corpus/shards",
        cells="<results>/corpus/cells.parquet",
        vocabulary="<results>/corpus/vocabulary.tsv",
        regulons="<results>/regulons/regulons.parquet",
        truth_grn=given(CONFIG["simulate"]["activate"] and "<results>/simulate/truth/grn.tsv"),
        gold=given(CONFIG["grn"]["gold"]),
        aliases=given(CONFIG["reference"]["aliases"]),
        lib=lib("ablate_model"),
    output:
        ablation=report(
            "<results>/evaluate/ablation.tsv",
            caption="../report/ablation.rst",
            category="Evaluation",
            labels={"what": "the model without single parts"},
        ),
    log:
        "<logs>/ablate_model.log",
    benchmark:
        "<benchmarks>/ablate_model.tsv"
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=1440,
        gpu=0,
    params:
        ablation=section("ablation"),
        pretrain=pretrain_settings(RECIPE),
        confidence=CONFIG["evaluate"]["confidence"],
        run=CONFIG["run"],
    message:
        "Training variants of the model"
    script:
        "../scripts/ablate_model.py"
