"""The way over job scripts that every cluster takes, with `sh` in the place of a submit command."""

import importlib.util

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("snakemake_executor_plugin_cluster_generic") is None,
    reason="snakemake-executor-plugin-cluster-generic is not installed",
)

# The job script's path is the only argument: note it, then run it.
SUBMIT = """sh -c 'echo "$0" >> submitted.txt && exec sh "$0"'"""
OPTIONS = ["--executor", "cluster-generic", "--cluster-generic-submit-cmd", SUBMIT]
OPTIONS += ["--jobs", 2, "--seconds-between-status-checks", 1, "--latency-wait", 5]


def submitted(folder) -> list[str]:
    """Rules whose job scripts were submitted, in order of their names."""
    lines = (folder.path / "submitted.txt").read_text().split()
    return sorted(line.split("snakejob.")[1].split(".")[0] for line in lines)


def test_every_job_of_the_toy_is_submitted(toy):
    toy.snakemake(*OPTIONS, timeout=120)
    assert (toy.path / "results" / "total.txt").read_text().startswith("5 ")
    assert submitted(toy) == ["add", "draw", "draw"]


def test_one_library_of_the_small_demo_goes_through_job_scripts(small):
    target = "results/small/ingest/donor1.h5mu"
    small.snakemake(target, *OPTIONS, "--configfile", "tests/config/small.yaml", timeout=300)
    assert (small.path / target).stat().st_size > 0
    assert submitted(small) == ["ingest_sample", "read_annotation", "simulate_multiome", "validate_inputs"]
