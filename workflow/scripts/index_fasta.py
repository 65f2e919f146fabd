"""Index a genome, so that its sequence can be read by position."""

from regulonformer.log import rule_log


def main(*, fasta: str, output: str) -> None:
    """Write the .fai index of a FASTA file."""
    import pysam

    pysam.faidx(fasta, "--fai-idx", output)


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(fasta=job.input.fasta, output=job.output.index)
