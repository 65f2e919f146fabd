# Which genes, in which modality, drive a prediction.


rule attribute_task:
    input:
        model_config=f"<results>/pretrain/{RECIPE}/config.json",
        model=f"<results>/pretrain/{RECIPE}/model.safetensors",
        model_vocabulary=f"<results>/pretrain/{RECIPE}/vocabulary.tsv",
        shards="<results>/corpus/shards",
        cells="<results>/corpus/cells.parquet",
        vocabulary="<results>/corpus/vocabulary.tsv",
        adapters=finetuned("adapter_model.safetensors", CONFIG["explain"]["seeds"]),
        adapter_configs=finetuned("adapter_config.json", CONFIG["explain"]["seeds"]),
        tasks=finetuned("task.json", CONFIG["explain"]["seeds"]),
        predictions=finetuned("predictions.parquet", CONFIG["explain"]["seeds"]),
        lib=lib("attribute_task"),
    output:
        attribution="<results>/explain/{task}/attribution.parquet",
        completeness="<results>/explain/{task}/completeness.json",
        explained="<results>/explain/{task}/cells.h5ad",
        stability="<results>/explain/{task}/stability.tsv",
    log:
        "<logs>/attribute_task/{task}.log",
    benchmark:
        "<benchmarks>/attribute_task/{task}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=480,
    params:
        explain=section("explain"),
    message:
        "Attributing {wildcards.task} to genes"
    script:
        "../scripts/attribute_task.py"


rule rank_drivers:
    input:
        explained="<results>/explain/{task}/cells.h5ad",
        vocabulary="<results>/corpus/vocabulary.tsv",
        regulons="<results>/regulons/regulons.parquet",
        markers=given(CONFIG["drivers"]["markers"]),
        lib=lib("rank_drivers"),
    output:
        drivers=report(
            "<results>/explain/{task}/drivers.tsv",
            caption="../report/drivers.rst",
            category="Explanation",
            labels={"what": "driver genes of {task}"},
        ),
        tfs=report(
            "<results>/explain/{task}/driver_tfs.tsv",
            caption="../report/driver_tfs.rst",
            category="Explanation",
            labels={"what": "driver TFs of {task}"},
        ),
        influence="<results>/explain/{task}/regulon_influence.tsv",
        agreement="<results>/explain/{task}/agreement.json",
        enrichment="<results>/explain/{task}/enrichment.tsv",
    log:
        "<logs>/rank_drivers/{task}.log",
    benchmark:
        "<benchmarks>/rank_drivers/{task}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=120,
    params:
        drivers=section("drivers"),
    message:
        "Ranking the drivers of {wildcards.task}"
    script:
        "../scripts/rank_drivers.py"


rule perturb_genes:
    input:
        model_config=f"<results>/pretrain/{RECIPE}/config.json",
        model=f"<results>/pretrain/{RECIPE}/model.safetensors",
        model_vocabulary=f"<results>/pretrain/{RECIPE}/vocabulary.tsv",
        shards="<results>/corpus/shards",
        cells="<results>/corpus/cells.parquet",
        vocabulary="<results>/corpus/vocabulary.tsv",
        regulons="<results>/regulons/regulons.parquet",
        lib=lib("perturb_genes"),
    output:
        tfs="<results>/explain/perturb/tfs.parquet",
        targets="<results>/explain/perturb/targets.parquet",
        shifts="<results>/explain/perturb/shifts.h5ad",
    log:
        "<logs>/perturb_genes.log",
    benchmark:
        "<benchmarks>/perturb_genes.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=240,
        gpu=0,
    params:
        perturbation=perturbation_settings(),
    message:
        "Perturbing TFs in silico"
    script:
        "../scripts/perturb_genes.py"
