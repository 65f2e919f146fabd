# What the model makes of genes: vectors, modules, networks, and what they tell of genes. Only on demand.


rule embed_genes:
    input:
        model_config="<results>/pretrain/{recipe}/config.json",
        model="<results>/pretrain/{recipe}/model.safetensors",
        model_vocabulary="<results>/pretrain/{recipe}/vocabulary.tsv",
        shards="<results>/corpus/shards",
        cells="<results>/corpus/cells.parquet",
        vocabulary="<results>/corpus/vocabulary.tsv",
        lib=lib("embed_genes"),
    output:
        vectors="<results>/embed/{recipe}_genes.parquet",
    log:
        "<logs>/embed_genes/{recipe}.log",
    benchmark:
        "<benchmarks>/embed_genes/{recipe}.tsv"
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=120,
    params:
        column=cell_types(),
    message:
        "Vectors of genes with recipe {wildcards.recipe}"
    script:
        "../scripts/embed_genes.py"


rule find_modules:
    input:
        vectors=f"<results>/embed/{RECIPE}_genes.parquet",
        vocabulary="<results>/corpus/vocabulary.tsv",
        regulons="<results>/regulons/regulons.parquet",
        truth_grn=given(CONFIG["simulate"]["activate"] and "<results>/simulate/truth/grn.tsv"),
        gold=given(CONFIG["grn"]["gold"]),
        aliases=given(CONFIG["reference"]["aliases"]),
        lib=lib("find_modules"),
    output:
        modules="<results>/explain/modules/modules.tsv",
        networks="<results>/explain/modules/networks.parquet",
        agreement="<results>/explain/modules/agreement.tsv",
    log:
        "<logs>/find_modules.log",
    benchmark:
        "<benchmarks>/find_modules.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=120,
    params:
        seed=CONFIG["features"]["seed"],
        run=CONFIG["run"],
        ours=f"regulonformer ({RECIPE})",
    message:
        "Gene modules and networks of cell states"
    script:
        "../scripts/find_modules.py"


rule evaluate_genes:
    input:
        vectors=f"<results>/embed/{RECIPE}_genes.parquet",
        shards="<results>/corpus/shards",
        cells="<results>/corpus/cells.parquet",
        vocabulary="<results>/corpus/vocabulary.tsv",
        regulons="<results>/regulons/regulons.parquet",
        tasks=[task["file"] for task in CONFIG["gene_tasks"].values()],
        aliases=given(CONFIG["reference"]["aliases"]),
        lib=lib("evaluate_genes"),
    output:
        genes=report(
            "<results>/evaluate/genes.tsv",
            caption="../report/genes.rst",
            category="Evaluation",
            labels={"what": "what vectors of genes tell"},
        ),
    log:
        "<logs>/evaluate_genes.log",
    benchmark:
        "<benchmarks>/evaluate_genes.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=240,
    params:
        tasks=list(CONFIG["gene_tasks"]),
        settings={
            "seeds": CONFIG["splits"]["seeds"],
            "bootstrap": CONFIG["evaluate"]["bootstrap"],
            "confidence": CONFIG["evaluate"]["confidence"],
        },
        recipe=RECIPE,
        run=CONFIG["run"],
    message:
        "Judging vectors of genes"
    script:
        "../scripts/evaluate_genes.py"
