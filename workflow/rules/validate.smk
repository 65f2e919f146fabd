# Reads headers and indexes of everything that was given, and stops in seconds with the fix.


rule validate_inputs:
    input:
        matrix_h5=of_samples("matrix_h5"),
        fragments=of_samples("fragments"),
        fragments_index=index_of(of_samples("fragments")),
        peaks=of_samples("peaks"),
        labels=of_samples("labels"),
        annotation=given(CONFIG["reference"]["annotation"]),
        fasta=given(CONFIG["reference"]["fasta"]),
        network=given(CONFIG["reference"]["network"]),
        lib=lib("validate_inputs"),
    output:
        verdict="<results>/validate/inputs.json",
    log:
        "<logs>/validate_inputs.log",
    conda:
        ENVIRONMENT
    resources:
        # A full GTF takes some gigabytes to parse.
        mem_mb=lambda wildcards, attempt: 6000 * attempt,
        runtime=10,
    params:
        samples=list(SAMPLES.values()),
        tasks=section("tasks"),
        network_confidence=CONFIG["regulons"]["network_confidence"],
    message:
        "Checking the inputs"
    script:
        "../scripts/validate_inputs.py"
