# Which genes, in which modality, drive a prediction.


rule attribute_task:
    input:
        model_config=f"<results>/pretrain/{RECIPE}/config.json",
        model=f"<results>/pretrain/{RECIPE}/model.safetensors",
        model_vocabulary=f"<results>/pretrain/{RECIPE}/vocabulary.tsv",
        shards="<results>/corpus/shards",
        cells="<results>/corpus/cells.parquet",
        vocabulary="<results>/corpus/vocabulary.tsv",
        adapters=finetuned("adapter_model.safetensors"),
        adapter_configs=finetuned("adapter_config.json"),
        tasks=finetuned("task.json"),
        predictions=finetuned("predictions.parquet"),
        lib=lib("attribute_task"),
    output:
        attribution="<results>/explain/{task}/attribution.parquet",
        completeness="<results>/explain/{task}/completeness.json",
    log:
        "<logs>/attribute_task/{task}.log",
    benchmark:
        "<benchmarks>/attribute_task/{task}.tsv"
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=240,
    params:
        explain=section("explain"),
    message:
        "Attributing {wildcards.task} to genes"
    script:
        "../scripts/attribute_task.py"
