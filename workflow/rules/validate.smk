# Reads headers, indexes and samples of everything that was given, and stops in seconds with the fix.


rule validate_inputs:
    input:
        matrix=of_samples("matrix"),
        peak_matrix=of_samples("peak_matrix"),
        fragments=of_samples("fragments"),
        fragments_index=index_of(of_samples("fragments")),
        peaks=of_samples("peaks"),
        barcode_metrics=of_samples("barcode_metrics"),
        labels=of_samples("labels"),
        annotation=given(CONFIG["reference"]["annotation"]),
        fasta=given(CONFIG["reference"]["fasta"]),
        fai=given(CONFIG["reference"]["fasta"], ".fai"),
        network=given(CONFIG["reference"]["network"]),
        tfs=given(CONFIG["reference"]["tfs"]),
        aliases=given(CONFIG["reference"]["aliases"]),
        blacklist=given(CONFIG["reference"]["blacklist"]),
        variants=given(CONFIG["variants"]["file"]),
        lib=lib("validate_inputs"),
    output:
        verdict="<results>/validate/inputs.json",
    log:
        "<logs>/validate_inputs.log",
        # Stays when the run stops, as outputs of a failed rule do not.
        verdict="<logs>/validate_inputs.json",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
        runtime=10,
    params:
        samples=list(SAMPLES.values()),
        tasks=section("tasks"),
        splits={key: CONFIG["splits"][key] for key in ("group", "folds")},
        ingest={key: CONFIG["ingest"][key] for key in ("counts", "second_modality", "chromosomes")},
        perturbation={key: CONFIG["perturbation"][key] for key in ("column", "control", "group")}
        | {"states": perturbation_settings()["group"] if reaches("full") and perturbs() else None},
        variants=(
            {key: CONFIG["variants"][key] for key in ("file", "group")}
            | {"states": variant_settings()["group"] if reaches("full") else None}
            if CONFIG["variants"]["file"]
            else {}
        ),
        network_confidence=CONFIG["regulons"]["network_confidence"],
        goal=CONFIG["goal"],
        rules_mb=lambda wildcards: memory_of("ingest_sample", "count_sample", "merge_samples", "build_corpus"),
    message:
        "Checking the inputs"
    script:
        "../scripts/validate_inputs.py"
