"""The Slurm profile on a real Slurm: tests/cluster/slurm.sh starts one of one node."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROFILES = ROOT / "workflow" / "profiles"
# What rules run on the submitting machine by declaration; everything else has to be a Slurm job.
LOCAL_RULES = {"all"}

pytestmark = pytest.mark.slurm


def ask(*command) -> str:
    """Answer of a Slurm client, empty if there is none or it does not reach its controller."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout if done.returncode == 0 else ""


@pytest.fixture(scope="module")
def options() -> list[str]:
    """Options that send jobs to the Slurm of this machine; skips where there is none to use."""
    wanted = os.environ.get("REGULONFORMER_SLURM") == "1"
    # Somebody else's cluster is not ours to load with jobs: only the one from slurm.sh is used unasked.
    ours = re.search(r"ClusterName\s*=\s*regulonformer\b", ask("scontrol", "show", "config"))
    memory = re.findall(r"\d+", ask("sinfo", "--noheader", "--format=%m"))
    if not memory and wanted:
        pytest.fail("REGULONFORMER_SLURM=1, but sinfo shows no node. Run tests/cluster/slurm.sh start")
    if not memory or not (ours or wanted):
        pytest.skip("no Slurm of our own is running; start one with tests/cluster/slurm.sh start")
    profiles = ["--profile", PROFILES / "slurm", "--workflow-profile", PROFILES / "ci"]
    # A request beyond the node's memory would be refused: the rules ask for what real data need.
    return [*map(str, profiles), "--resources", f"mem_mb={min(map(int, memory))}"]


def check_all_jobs_ran_in_slurm(printed: str) -> int:
    """Compare what Snakemake announced, what it submitted and what Slurm remembers; return the number of jobs."""
    announced = dict(re.findall(r"^(\w+) +(\d+)$", printed, flags=re.MULTILINE))
    jobs = sum(int(count) for rule, count in announced.items() if rule not in {"total", *LOCAL_RULES})
    numbers = re.findall(r"has been submitted with SLURM jobid (\d+)", printed)
    assert len(numbers) == jobs
    run = re.search(r"^SLURM run ID: (\S+)$", printed, flags=re.MULTILINE)[1]
    states = ask("squeue", "--states=all", "--noheader", "--format=%i %T", "--name", run).splitlines()
    assert sorted(states) == sorted(f"{number} COMPLETED" for number in numbers)
    return jobs


def test_toy_runs_as_slurm_jobs(toy, options):
    printed = toy.snakemake(*options, timeout=180)
    assert check_all_jobs_ran_in_slurm(printed) == 3
    total, python, job = (toy.path / "results" / "total.txt").read_text().split()
    assert total == "5"
    assert python == sys.executable  # the node finds the environment that Snakemake was started from
    assert job.isdigit()
    assert "Nothing to be done" in toy.snakemake(*options, timeout=60)


@pytest.mark.slow
def test_the_whole_line_runs_as_slurm_jobs(small, options):
    options = [*options, "--configfile", "tests/config/small.yaml"]
    printed = small.snakemake(*options, timeout=1200)
    assert check_all_jobs_ran_in_slurm(printed) >= 12
    assert (small.path / "results" / "small" / "report" / "report.html").stat().st_size > 10_000
    assert "Nothing to be done" in small.snakemake(*options, timeout=120)
