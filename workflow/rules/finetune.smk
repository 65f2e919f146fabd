# LoRA fine-tuning: one job per task, held-out fold and seed; and labels for the cells that have none.


rule finetune_task:
    input:
        model_config="<results>/pretrain/{recipe}/config.json",
        model="<results>/pretrain/{recipe}/model.safetensors",
        model_vocabulary="<results>/pretrain/{recipe}/vocabulary.tsv",
        shards="<results>/corpus/shards",
        cells="<results>/corpus/cells.parquet",
        vocabulary="<results>/corpus/vocabulary.tsv",
        lib=lib("finetune_task"),
    output:
        adapter_config="<results>/finetune/{task}/{recipe}/fold{fold}_seed{seed}/adapter_config.json",
        adapter="<results>/finetune/{task}/{recipe}/fold{fold}_seed{seed}/adapter_model.safetensors",
        task="<results>/finetune/{task}/{recipe}/fold{fold}_seed{seed}/task.json",
        predictions="<results>/finetune/{task}/{recipe}/fold{fold}_seed{seed}/predictions.parquet",
        metrics="<results>/finetune/{task}/{recipe}/fold{fold}_seed{seed}/metrics.tsv",
        run="<results>/finetune/{task}/{recipe}/fold{fold}_seed{seed}/run.json",
    log:
        "<logs>/finetune_task/{task}_{recipe}_fold{fold}_seed{seed}.log",
    benchmark:
        "<benchmarks>/finetune_task/{task}_{recipe}_fold{fold}_seed{seed}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 6000 * attempt,
        runtime=480,
        gpu=0,
    params:
        finetune=section("finetune"),
        task=lambda wildcards: learned(wildcards.task),
        group=CONFIG["splits"]["group"],
        folds=lambda wildcards: folds_of(wildcards.task),
    message:
        "Fine-tuning {wildcards.recipe} for {wildcards.task}: fold {wildcards.fold}, seed {wildcards.seed}"
    script:
        "../scripts/finetune_task.py"


rule predict_labels:
    input:
        model_config=f"<results>/pretrain/{RECIPE}/config.json",
        model=f"<results>/pretrain/{RECIPE}/model.safetensors",
        model_vocabulary=f"<results>/pretrain/{RECIPE}/vocabulary.tsv",
        shards="<results>/corpus/shards",
        cells="<results>/corpus/cells.parquet",
        vocabulary="<results>/corpus/vocabulary.tsv",
        multiome="<results>/features/multiome.h5mu",
        adapters=finetuned("adapter_model.safetensors"),
        adapter_configs=finetuned("adapter_config.json"),
        tasks=finetuned("task.json"),
        predictions=finetuned("predictions.parquet"),
        lib=lib("predict_labels"),
    output:
        labels=f"<results>/finetune/{{task}}/{RECIPE}/labels.parquet",
        summary=f"<results>/finetune/{{task}}/{RECIPE}/labels.json",
    log:
        "<logs>/predict_labels/{task}.log",
    benchmark:
        "<benchmarks>/predict_labels/{task}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 6000 * attempt,
        runtime=240,
        gpu=0,
    params:
        task=lambda wildcards: learned(wildcards.task) | predicted(wildcards.task),
    message:
        "Predicting the cells without a label of {wildcards.task}"
    script:
        "../scripts/predict_labels.py"
