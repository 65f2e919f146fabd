# What single parts of the model, and labels, are worth: costly, and only on demand.


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


rule ablate_task:
    input:
        model_config=f"<results>/pretrain/{RECIPE}/config.json",
        model=f"<results>/pretrain/{RECIPE}/model.safetensors",
        model_vocabulary=f"<results>/pretrain/{RECIPE}/vocabulary.tsv",
        shards="<results>/corpus/shards",
        cells="<results>/corpus/cells.parquet",
        vocabulary="<results>/corpus/vocabulary.tsv",
        regulons="<results>/regulons/regulons.parquet",
        lib=lib("ablate_task"),
    output:
        predictions="<results>/evaluate/variants/{task}/{variant}.parquet",
    log:
        "<logs>/ablate_task/{task}_{variant}.log",
    benchmark:
        "<benchmarks>/ablate_task/{task}_{variant}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=1440,
        gpu=0,
    params:
        finetune=section("finetune"),
        pretrain=pretrain_settings(RECIPE),
        task=lambda wildcards: learned(wildcards.task),
        group=CONFIG["splits"]["group"],
        folds=lambda wildcards: folds_of(wildcards.task),
        seeds=CONFIG["splits"]["seeds"],
    message:
        "Fine-tuning for {wildcards.task}, variant {wildcards.variant}"
    script:
        "../scripts/ablate_task.py"


rule learn_from_few:
    input:
        multiome="<results>/features/multiome.h5mu",
        model_config=f"<results>/pretrain/{RECIPE}/config.json",
        model=f"<results>/pretrain/{RECIPE}/model.safetensors",
        model_vocabulary=f"<results>/pretrain/{RECIPE}/vocabulary.tsv",
        shards="<results>/corpus/shards",
        cells="<results>/corpus/cells.parquet",
        vocabulary="<results>/corpus/vocabulary.tsv",
        regulons="<results>/regulons/regulons.parquet",
        lib=lib("learn_from_few"),
    output:
        predictions="<results>/evaluate/learning_curve/{task}/{labels}.parquet",
    log:
        "<logs>/learn_from_few/{task}_{labels}.log",
    benchmark:
        "<benchmarks>/learn_from_few/{task}_{labels}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=1440,
        gpu=0,
    params:
        finetune=section("finetune"),
        evaluate=section("evaluate"),
        pretrain=pretrain_settings(RECIPE),
        task=lambda wildcards: learned(wildcards.task),
        group=CONFIG["splits"]["group"],
        folds=lambda wildcards: folds_of(wildcards.task),
        seeds=CONFIG["splits"]["seeds"],
        ours=f"regulonformer ({RECIPE})",
    message:
        "Learning {wildcards.task} from {wildcards.labels} cells per class"
    script:
        "../scripts/learn_from_few.py"


rule learning_curve:
    input:
        predictions=expand(
            "<results>/evaluate/learning_curve/{task}/{labels}.parquet",
            task=tasks_of("classification"),
            labels=CONFIG["learning_curve"]["labels_per_class"],
        ),
        lib=lib("learning_curve"),
    output:
        learning_curve=report(
            "<results>/evaluate/learning_curve.tsv",
            caption="../report/learning_curve.rst",
            category="Evaluation",
            labels={"what": "annotation from few labels"},
        ),
    log:
        "<logs>/learning_curve.log",
    benchmark:
        "<benchmarks>/learning_curve.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=60,
    params:
        evaluate=section("evaluate"),
        group=CONFIG["splits"]["group"],
        ours=f"regulonformer ({RECIPE})",
        # Of each file, in the order of the inputs.
        datasets=[
            f"{CONFIG['run']}:{task}"
            for task in tasks_of("classification")
            for _ in CONFIG["learning_curve"]["labels_per_class"]
        ],
        labels_per_class=len(tasks_of("classification")) * CONFIG["learning_curve"]["labels_per_class"],
    message:
        "Scoring what was learned from few labels"
    script:
        "../scripts/learning_curve.py"


# Recipes are trained and adapted as by the rules of these steps, each with several seeds and in a folder of its own.
use rule pretrain_model as pretrain_recipe with:
    input:
        shards="<results>/corpus/shards",
        cells="<results>/corpus/cells.parquet",
        vocabulary="<results>/corpus/vocabulary.tsv",
        regulons="<results>/regulons/regulons.parquet",
        elements="<results>/corpus/elements.parquet",
        base=compared_base,
        sequence=sequence_vectors,
        lib=lib("pretrain_model"),
    output:
        config="<results>/recipes/{recipe}/seed{seed}/config.json",
        weights="<results>/recipes/{recipe}/seed{seed}/model.safetensors",
        vocabulary="<results>/recipes/{recipe}/seed{seed}/vocabulary.tsv",
        elements="<results>/recipes/{recipe}/seed{seed}/elements.parquet",
        card="<results>/recipes/{recipe}/seed{seed}/README.md",
        run="<results>/recipes/{recipe}/seed{seed}/run.json",
        metrics="<results>/recipes/{recipe}/seed{seed}/metrics.tsv",
    log:
        "<logs>/pretrain_recipe/{recipe}_seed{seed}.log",
    benchmark:
        "<benchmarks>/pretrain_recipe/{recipe}_seed{seed}.tsv"
    params:
        pretrain=lambda wildcards: compared_settings(wildcards.recipe, wildcards.seed),
        checkpoints=f"results/{CONFIG['run']}/checkpoints/compared",
    message:
        "Pretraining recipe {wildcards.recipe} with seed {wildcards.seed}"


use rule finetune_task as finetune_recipe with:
    input:
        model_config="<results>/recipes/{recipe}/seed{seed}/config.json",
        model="<results>/recipes/{recipe}/seed{seed}/model.safetensors",
        model_vocabulary="<results>/recipes/{recipe}/seed{seed}/vocabulary.tsv",
        shards="<results>/corpus/shards",
        cells="<results>/corpus/cells.parquet",
        vocabulary="<results>/corpus/vocabulary.tsv",
        lib=lib("finetune_task"),
    output:
        adapter_config="<results>/recipes/{recipe}/seed{seed}/{task}/fold{fold}/adapter_config.json",
        adapter="<results>/recipes/{recipe}/seed{seed}/{task}/fold{fold}/adapter_model.safetensors",
        task="<results>/recipes/{recipe}/seed{seed}/{task}/fold{fold}/task.json",
        predictions="<results>/recipes/{recipe}/seed{seed}/{task}/fold{fold}/predictions.parquet",
        metrics="<results>/recipes/{recipe}/seed{seed}/{task}/fold{fold}/metrics.tsv",
        run="<results>/recipes/{recipe}/seed{seed}/{task}/fold{fold}/run.json",
    log:
        "<logs>/finetune_recipe/{task}_{recipe}_fold{fold}_seed{seed}.log",
    benchmark:
        "<benchmarks>/finetune_recipe/{task}_{recipe}_fold{fold}_seed{seed}.tsv"


rule compare_recipes:
    input:
        models=expand(
            "<results>/recipes/{recipe}/seed{seed}/model.safetensors",
            recipe=compared_recipes(),
            seed=CONFIG["comparison"]["seeds"],
        ),
        model_configs=expand(
            "<results>/recipes/{recipe}/seed{seed}/config.json",
            recipe=compared_recipes(),
            seed=CONFIG["comparison"]["seeds"],
        ),
        model_vocabularies=expand(
            "<results>/recipes/{recipe}/seed{seed}/vocabulary.tsv",
            recipe=compared_recipes(),
            seed=CONFIG["comparison"]["seeds"],
        ),
        runs=expand(
            "<results>/recipes/{recipe}/seed{seed}/run.json",
            recipe=compared_recipes(),
            seed=CONFIG["comparison"]["seeds"],
        ),
        base_runs=base_runs(),
        predictions=expand(
            "<results>/recipes/{recipe}/seed{seed}/{task}/fold{fold}/predictions.parquet",
            recipe=compared_recipes(),
            seed=CONFIG["comparison"]["seeds"],
            task=compared_task(),
            fold=range(folds_of(compared_task()[0])) if compared_task() else [],
        ),
        multiome="<results>/features/multiome.h5mu",
        shards="<results>/corpus/shards",
        cells="<results>/corpus/cells.parquet",
        vocabulary="<results>/corpus/vocabulary.tsv",
        regulons="<results>/regulons/regulons.parquet",
        truth_grn=given(CONFIG["simulate"]["activate"] and "<results>/simulate/truth/grn.tsv"),
        gold=given(CONFIG["grn"]["gold"]),
        aliases=given(CONFIG["reference"]["aliases"]),
        lib=lib("compare_recipes"),
    output:
        recipes=report(
            "<results>/evaluate/recipes.tsv",
            caption="../report/recipes.rst",
            category="Evaluation",
            labels={"what": "recipes side by side"},
        ),
    log:
        "<logs>/compare_recipes.log",
    benchmark:
        "<benchmarks>/compare_recipes.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=240,
    params:
        # Of each model, in the order of the inputs.
        made=[
            {
                "recipe": recipe,
                "seed": seed,
                "base": RECIPES[recipe]["objective"]["base"] if is_dynamic(recipe) else None,
            }
            for recipe in compared_recipes()
            for seed in CONFIG["comparison"]["seeds"]
        ],
        embedding_metrics=section("embedding_metrics"),
        evaluate=section("evaluate"),
        holdout=CONFIG["pretrain"]["holdout"],
        run=CONFIG["run"],
    message:
        "Comparing recipes"
    script:
        "../scripts/compare_recipes.py"


rule evaluate_missing:
    input:
        multiome="<results>/features/multiome.h5mu",
        shards="<results>/corpus/shards",
        cells="<results>/corpus/cells.parquet",
        vocabulary="<results>/corpus/vocabulary.tsv",
        regulons="<results>/regulons/regulons.parquet",
        lib=lib("evaluate_missing"),
    output:
        missing=report(
            "<results>/evaluate/missing.tsv",
            caption="../report/missing.rst",
            category="Evaluation",
            labels={"what": "missing modalities"},
        ),
    log:
        "<logs>/evaluate_missing.log",
    benchmark:
        "<benchmarks>/evaluate_missing.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=1440,
    params:
        missing=section("missing"),
        pretrain=pretrain_settings("scmomer"),
        translation=section("translation"),
        evaluate=section("evaluate"),
        label=cell_types(),
        group=CONFIG["splits"]["group"],
        run=CONFIG["run"],
    message:
        "Judging a model of missing modalities on held-out libraries"
    script:
        "../scripts/evaluate_missing.py"
