# Masked pretraining, and what the model makes of every cell.


rule pretrain_model:
    input:
        shards="<results>/corpus/shards",
        cells="<results>/corpus/cells.parquet",
        vocabulary="<results>/corpus/vocabulary.tsv",
        regulons="<results>/regulons/regulons.parquet",
        elements="<results>/corpus/elements.parquet",
        base=base_model,
        sequence=sequence_vectors,
        lib=lib("pretrain_model"),
    output:
        config="<results>/pretrain/{recipe}/config.json",
        weights="<results>/pretrain/{recipe}/model.safetensors",
        vocabulary="<results>/pretrain/{recipe}/vocabulary.tsv",
        elements="<results>/pretrain/{recipe}/elements.parquet",
        card="<results>/pretrain/{recipe}/README.md",
        run="<results>/pretrain/{recipe}/run.json",
        metrics="<results>/pretrain/{recipe}/metrics.tsv",
    log:
        "<logs>/pretrain_model/{recipe}.log",
    benchmark:
        "<benchmarks>/pretrain_model/{recipe}.tsv"
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=1440,
        gpu=0,
    params:
        pretrain=lambda wildcards: pretrain_settings(wildcards.recipe),
        # Outside the outputs, which Snakemake deletes before a job: a killed job goes on from here.
        checkpoints=f"results/{CONFIG['run']}/checkpoints",
    message:
        "Pretraining recipe {wildcards.recipe}"
    script:
        "../scripts/pretrain_model.py"


rule embed_cells:
    input:
        model_config="<results>/pretrain/{recipe}/config.json",
        model="<results>/pretrain/{recipe}/model.safetensors",
        model_vocabulary="<results>/pretrain/{recipe}/vocabulary.tsv",
        shards="<results>/corpus/shards",
        cells="<results>/corpus/cells.parquet",
        vocabulary="<results>/corpus/vocabulary.tsv",
        lib=lib("embed_cells"),
    output:
        embedding="<results>/embed/{recipe}.h5ad",
    log:
        "<logs>/embed_cells/{recipe}.log",
    benchmark:
        "<benchmarks>/embed_cells/{recipe}.tsv"
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=120,
        gpu=0,
    params:
        seed=CONFIG["features"]["seed"],
        precision=CONFIG["pretrain"]["precision"],
    message:
        "Embedding all cells with recipe {wildcards.recipe}"
    script:
        "../scripts/embed_cells.py"
