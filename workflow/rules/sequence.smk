# DNA sequence as gene vectors (recipes with dynamic tokens), and what variants do to them.


rule train_sequence_encoder:
    input:
        multiome="<results>/features/multiome.h5mu",
        fasta=given(CONFIG["reference"]["fasta"]),
        fasta_index=given(CONFIG["reference"]["fasta"], ".fai"),
        motifs=given(CONFIG["reference"]["motifs"]),
        aliases=given(CONFIG["reference"]["aliases"]),
        lib=lib("train_sequence_encoder"),
    output:
        config="<results>/sequence/encoder/config.json",
        weights="<results>/sequence/encoder/model.safetensors",
        cells="<results>/sequence/cells.parquet",
    log:
        "<logs>/train_sequence_encoder.log",
    benchmark:
        "<benchmarks>/train_sequence_encoder.tsv"
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        mem_mb=lambda wildcards, attempt: 6000 * attempt,
        runtime=240,
    params:
        sequence=section("sequence"),
        jaspar_release=CONFIG["regulons"]["jaspar_release"],
    message:
        "Training the sequence network on peaks"
    script:
        "../scripts/train_sequence_encoder.py"


rule encode_sequences:
    input:
        encoder=sequence_encoder(),
        fasta=given(CONFIG["reference"]["fasta"]),
        fasta_index=given(CONFIG["reference"]["fasta"], ".fai"),
        elements="<results>/corpus/elements.parquet",
        tss=annotation_table("tss"),
        vocabulary="<results>/corpus/vocabulary.tsv",
        lib=lib("encode_sequences"),
    output:
        windows="<results>/sequence/windows.parquet",
        pairs="<results>/sequence/pairs.parquet",
        vectors="<results>/sequence/vectors.npz",
        genes="<results>/sequence/genes.tsv",
        summary="<results>/sequence/summary.json",
    log:
        "<logs>/encode_sequences.log",
    benchmark:
        "<benchmarks>/encode_sequences.tsv"
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        mem_mb=lambda wildcards, attempt: 6000 * attempt,
        runtime=240,
    params:
        sequence=section("sequence"),
    message:
        "Encoding the sequences around genes"
    script:
        "../scripts/encode_sequences.py"


if CONFIG["variants"]["file"]:

    rule score_variants:
        input:
            variants=CONFIG["variants"]["file"],
            model_config=f"<results>/pretrain/{DYNAMIC}/config.json",
            model=f"<results>/pretrain/{DYNAMIC}/model.safetensors",
            model_vocabulary=f"<results>/pretrain/{DYNAMIC}/vocabulary.tsv",
            encoder=sequence_encoder(),
            vectors="<results>/sequence/vectors.npz",
            sequence_cells=given(not CONFIG["sequence"]["encoder"] and "<results>/sequence/cells.parquet"),
            fasta=given(CONFIG["reference"]["fasta"]),
            fasta_index=given(CONFIG["reference"]["fasta"], ".fai"),
            tss=annotation_table("tss"),
            elements="<results>/corpus/elements.parquet",
            motifs=given(CONFIG["reference"]["motifs"]),
            aliases=given(CONFIG["reference"]["aliases"]),
            shards="<results>/corpus/shards",
            cells="<results>/corpus/cells.parquet",
            vocabulary="<results>/corpus/vocabulary.tsv",
            lib=lib("score_variants"),
        output:
            table="<results>/explain/variants/variants.parquet",
            tsv="<results>/explain/variants/variants.tsv",
            responders="<results>/explain/variants/responders.parquet",
            summary="<results>/explain/variants/summary.json",
        log:
            "<logs>/score_variants.log",
        benchmark:
            "<benchmarks>/score_variants.tsv"
        conda:
            ENVIRONMENT
        threads: 2
        resources:
            mem_mb=lambda wildcards, attempt: 8000 * attempt,
            runtime=480,
        params:
            variants=variant_settings(),
            jaspar_release=CONFIG["regulons"]["jaspar_release"],
        message:
            "Scoring variants"
        script:
            "../scripts/score_variants.py"


if CONFIG["simulate"]["activate"]:

    rule evaluate_variants:
        input:
            multiome="<results>/features/multiome.h5mu",
            fasta=CONFIG["reference"]["fasta"],
            fasta_index=f"{CONFIG['reference']['fasta']}.fai",
            elements="<results>/corpus/elements.parquet",
            tss=annotation_table("tss"),
            base=f"<results>/pretrain/{BASE}/model.safetensors",
            base_config=f"<results>/pretrain/{BASE}/config.json",
            base_vocabulary=f"<results>/pretrain/{BASE}/vocabulary.tsv",
            shards="<results>/corpus/shards",
            cells="<results>/corpus/cells.parquet",
            vocabulary="<results>/corpus/vocabulary.tsv",
            truth_grn="<results>/simulate/truth/grn.tsv",
            truth_tfs="<results>/simulate/truth/tfs.tsv",
            truth_sites="<results>/simulate/truth/motif_sites.tsv",
            lib=lib("evaluate_variants"),
        output:
            scores=report(
                "<results>/evaluate/variants.tsv",
                caption="../report/variants.rst",
                category="Evaluation",
                labels={"what": "dynamic tokens and variants"},
            ),
            tfs="<results>/evaluate/variant_tfs.tsv",
        log:
            "<logs>/evaluate_variants.log",
        benchmark:
            "<benchmarks>/evaluate_variants.tsv"
        conda:
            ENVIRONMENT
        threads: 2
        resources:
            mem_mb=lambda wildcards, attempt: 8000 * attempt,
            runtime=240,
        params:
            sequence=section("sequence"),
            variants=variant_settings(),
            pretrain=pretrain_settings(DYNAMIC),
            jaspar_release=CONFIG["regulons"]["jaspar_release"],
            evaluate={key: CONFIG["evaluate"][key] for key in ("bootstrap", "confidence")},
            run=CONFIG["run"],
        message:
            "Judging dynamic tokens by the truth"
        script:
            "../scripts/evaluate_variants.py"
