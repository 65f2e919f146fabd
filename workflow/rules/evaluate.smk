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
        task=lambda wildcards: learned(wildcards.task),
        group=CONFIG["splits"]["group"],
        folds=lambda wildcards: folds_of(wildcards.task),
        seeds=CONFIG["splits"]["seeds"],
    message:
        "Baselines for {wildcards.task}"
    script:
        "../scripts/run_baselines.py"


rule evaluate_annotation:
    input:
        predictions=runs_of("<results>/finetune/{task}/{recipe}/fold{fold}_seed{seed}/predictions.parquet"),
        baselines=expand("<results>/evaluate/baselines/{task}.parquet", task=tasks_of("classification")),
        variants=expand(
            "<results>/evaluate/variants/{task}/{variant}.parquet",
            task=tasks_of("classification"),
            variant=CONFIG["annotation_ablation"]["variants"],
        ),
        lib=lib("evaluate_annotation"),
    output:
        annotation=report(
            "<results>/evaluate/annotation.tsv",
            caption="../report/annotation.rst",
            category="Evaluation",
            labels={"what": "annotation, with baselines"},
        ),
        differences=report(
            "<results>/evaluate/annotation_differences.tsv",
            caption="../report/annotation_differences.rst",
            category="Evaluation",
            labels={"what": "annotation, differences to every other method"},
        ),
        recall="<results>/evaluate/recall.tsv",
        reliability="<results>/evaluate/reliability.tsv",
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
        group=CONFIG["splits"]["group"],
        ours=f"regulonformer ({RECIPE})",
        # Data set of each file, in the order of the inputs.
        datasets=runs_of(f"{CONFIG['run']}:{{task}}"),
        baseline_datasets=expand(f"{CONFIG['run']}:{{task}}", task=tasks_of("classification")),
        variant_datasets=[
            f"{CONFIG['run']}:{task}"
            for task in tasks_of("classification")
            for _ in CONFIG["annotation_ablation"]["variants"]
        ],
    message:
        "Scoring annotation"
    script:
        "../scripts/evaluate_annotation.py"


rule evaluate_regression:
    input:
        multiome="<results>/features/multiome.h5mu",
        predictions=runs_of(
            "<results>/finetune/{task}/{recipe}/fold{fold}_seed{seed}/predictions.parquet", "regression"
        ),
        lib=lib("evaluate_regression"),
    output:
        regression=report(
            "<results>/evaluate/regression.tsv",
            caption="../report/regression.rst",
            category="Evaluation",
            labels={"what": "predicted numbers, with baselines"},
        ),
    log:
        "<logs>/evaluate_regression.log",
    benchmark:
        "<benchmarks>/evaluate_regression.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=240,
    params:
        evaluate=section("evaluate"),
        # One entry per file, in the order of the inputs.
        datasets=runs_of(f"{CONFIG['run']}:{{task}}", "regression"),
        ours=f"regulonformer ({RECIPE})",
    message:
        "Scoring predicted numbers"
    script:
        "../scripts/evaluate_regression.py"


rule evaluate_embedding:
    input:
        multiome="<results>/features/multiome.h5mu",
        embedding=f"<results>/embed/{RECIPE}.h5ad",
        lib=lib("evaluate_embedding"),
    output:
        embedding=report(
            "<results>/evaluate/embedding.tsv",
            caption="../report/embedding_scores.rst",
            category="Evaluation",
            labels={"what": "embeddings of cells, with baselines"},
        ),
    log:
        "<logs>/evaluate_embedding.log",
    benchmark:
        "<benchmarks>/evaluate_embedding.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=120,
    params:
        embedding_metrics=section("embedding_metrics"),
        evaluate=section("evaluate"),
        label=cell_types(),
        recipe=RECIPE,
        run=CONFIG["run"],
    message:
        "Scoring embeddings of cells"
    script:
        "../scripts/evaluate_embedding.py"


rule evaluate_translation:
    input:
        multiome="<results>/features/multiome.h5mu",
        model_config=f"<results>/pretrain/{RECIPE}/config.json",
        model=f"<results>/pretrain/{RECIPE}/model.safetensors",
        model_vocabulary=f"<results>/pretrain/{RECIPE}/vocabulary.tsv",
        shards="<results>/corpus/shards",
        cells="<results>/corpus/cells.parquet",
        vocabulary="<results>/corpus/vocabulary.tsv",
        lib=lib("evaluate_translation"),
    output:
        translation=report(
            "<results>/evaluate/translation.tsv",
            caption="../report/translation.rst",
            category="Evaluation",
            labels={"what": "one modality from the other, with baselines"},
        ),
    log:
        "<logs>/evaluate_translation.log",
    benchmark:
        "<benchmarks>/evaluate_translation.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=240,
    params:
        translation=section("translation"),
        evaluate=section("evaluate"),
        recipe=RECIPE,
        group=CONFIG["splits"]["group"],
        folds=CONFIG["splits"]["folds"],
        seeds=CONFIG["splits"]["seeds"],
        run=CONFIG["run"],
    message:
        "Predicting one modality from the other"
    script:
        "../scripts/evaluate_translation.py"


rule resample_regulons:
    input:
        multiome="<results>/features/multiome.h5mu",
        regulons="<results>/regulons/regulons.parquet",
        tss=annotation_table("tss"),
        fasta=given(CONFIG["reference"]["fasta"]),
        fasta_index=given(CONFIG["reference"]["fasta"], ".fai"),
        motif_hits=motif_hits(),
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
        links=links(),
        motif_hits=motif_hits(),
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


rule evaluate_drivers:
    input:
        multiome="<results>/features/multiome.h5mu",
        activity="<results>/regulons/activity.h5ad",
        truth="<results>/simulate/truth/tfs.tsv",
        tfs=expand("<results>/explain/{task}/driver_tfs.tsv", task=tasks_of("classification")),
        lib=lib("evaluate_drivers"),
    output:
        drivers=report(
            "<results>/evaluate/drivers.tsv",
            caption="../report/driver_scores.rst",
            category="Evaluation",
            labels={"what": "driver TFs, with baselines"},
        ),
    log:
        "<logs>/evaluate_drivers.log",
    benchmark:
        "<benchmarks>/evaluate_drivers.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=60,
    params:
        evaluate=section("evaluate"),
        datasets=expand(f"{CONFIG['run']}:{{task}}", task=tasks_of("classification")),
        columns=[CONFIG["tasks"][task]["column"] for task in tasks_of("classification")],
        recipe=RECIPE,
    message:
        "Judging driver TFs"
    script:
        "../scripts/evaluate_drivers.py"


rule evaluate_perturbation:
    input:
        shards="<results>/corpus/shards",
        cells="<results>/corpus/cells.parquet",
        vocabulary="<results>/corpus/vocabulary.tsv",
        shifts="<results>/explain/perturb/shifts.h5ad",
        embedding=f"<results>/embed/{RECIPE}.h5ad",
        activity="<results>/regulons/activity.h5ad",
        regulons="<results>/regulons/regulons.parquet",
        links=links(),
        motif_hits=motif_hits(),
        lib=lib("evaluate_perturbation"),
    output:
        perturbation=report(
            "<results>/evaluate/perturbation.tsv",
            caption="../report/perturbation.rst",
            category="Evaluation",
            labels={"what": "perturbed TFs, with baselines"},
        ),
    log:
        "<logs>/evaluate_perturbation.log",
    benchmark:
        "<benchmarks>/evaluate_perturbation.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=120,
    params:
        perturbation=perturbation_settings(),
        evaluate=section("evaluate"),
        decay_bp=CONFIG["regulons"]["distance_decay_bp"],
        recipe=RECIPE,
        run=CONFIG["run"],
    message:
        "Looking for perturbed TFs"
    script:
        "../scripts/evaluate_perturbation.py"
