"""Download one file that the config names by URL."""

from regulonformer.io.download import download
from regulonformer.log import rule_log


def main(*, source: dict, output: str) -> None:
    """Download, check and unpack."""
    download(source["url"], output, sha256=source["sha256"], md5=source["md5"], unpack=source["unpack"])


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(source=job.params.source, output=job.output.file)
