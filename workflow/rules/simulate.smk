# The embedded demo: libraries with known truth, laid out as Cell Ranger ARC does.

if CONFIG["simulate"]["activate"]:

    rule simulate_multiome:
        input:
            lib=lib("simulate_multiome"),
        output:
            matrix=expand(
                "<results>/simulate/{sample}/outs/filtered_feature_bc_matrix.h5",
                sample=SAMPLES,
            ),
            fragments=expand(
                "<results>/simulate/{sample}/outs/atac_fragments.tsv.gz",
                sample=SAMPLES,
            ),
            fragments_index=expand(
                "<results>/simulate/{sample}/outs/atac_fragments.tsv.gz.tbi",
                sample=SAMPLES,
            ),
            peaks=expand("<results>/simulate/{sample}/outs/atac_peaks.bed", sample=SAMPLES),
            barcode_metrics=expand(
                "<results>/simulate/{sample}/outs/per_barcode_metrics.csv",
                sample=SAMPLES,
            ),
            labels=expand("<results>/simulate/{sample}/labels.tsv", sample=SAMPLES),
            fasta="<results>/simulate/reference/genome.fa",
            fasta_index="<results>/simulate/reference/genome.fa.fai",
            annotation="<results>/simulate/reference/genes.gtf",
            grn="<results>/simulate/truth/grn.tsv",
            links="<results>/simulate/truth/links.tsv",
            cells="<results>/simulate/truth/cells.tsv",
            tfs="<results>/simulate/truth/tfs.tsv",
            motif_sites="<results>/simulate/truth/motif_sites.tsv",
        log:
            "<logs>/simulate_multiome.log",
        benchmark:
            "<benchmarks>/simulate_multiome.tsv"
        conda:
            ENVIRONMENT
        resources:
            mem_mb=4000,
            runtime=20,
        params:
            samples=list(SAMPLES),
            simulate=section("simulate"),
        message:
            "Simulating {params.samples}"
        script:
            "../scripts/simulate_multiome.py"
