"""Fixtures of the cluster tests: a folder to run in, a two-rule toy workflow, and the Slurm of this machine."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TOY_SNAKEFILE = """
rule all:
    localrule: True
    input: "results/total.txt"

rule draw:
    output: "results/{n}.txt"
    log: "logs/{n}.log"
    threads: 2
    resources: mem_mb=200, runtime=5
    params: number=lambda wildcards: int(wildcards.n)
    script: "scripts/write_number.py"

rule add:
    input: expand("results/{n}.txt", n=[2, 3])
    output: "results/total.txt"
    log: "logs/total.log"
    resources: mem_mb=200, runtime=5
    params: number=0
    script: "scripts/write_number.py"
"""

TOY_SCRIPT = """
import os
import sys
from pathlib import Path

numbers = [int(Path(file).read_text().split()[0]) for file in snakemake.input]
words = [snakemake.params.number + sum(numbers), sys.executable, os.environ.get("SLURM_JOB_ID", "-")]
Path(snakemake.output[0]).write_text(" ".join(map(str, words)))
"""


class Folder:
    """A working directory of its own, and Snakemake running in it."""

    def __init__(self, path: Path, snakefile: Path) -> None:
        self.path = path
        self.snakefile = snakefile

    def snakemake(self, *arguments, timeout: int) -> str:
        """Run Snakemake and return all that it printed; a failure or a run out of time fails the test."""
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(self.snakefile), *map(str, arguments)]
        # A file, not a pipe: what has been printed is there to be shown after a time-out as well.
        output = self.path / "snakemake.out"
        with output.open("w") as stream:
            process = subprocess.Popen(
                command, cwd=self.path, stdout=stream, stderr=subprocess.STDOUT, env=environment()
            )
            try:
                process.wait(timeout)
                problem = f"ended with {process.returncode}" if process.returncode else ""
            except subprocess.TimeoutExpired:
                end(process)
                problem = f"did not end within {timeout} s"
        text = output.read_text()
        if problem:
            pytest.fail(f"{' '.join(command)} {problem}:\n{text[-8000:]}")
        return text


def environment() -> dict[str, str]:
    """Surroundings of a plain shell: no profile of the user's, and no sign of a job that the tests may run in."""
    return {key: value for key, value in os.environ.items() if key != "SNAKEMAKE_PROFILE"}


def end(process: subprocess.Popen) -> None:
    """Interrupt Snakemake, so that it cancels its jobs, and kill it if it does not end."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture
def toy(tmp_path) -> Folder:
    """Two rules and three jobs that take no time."""
    (tmp_path / "source" / "scripts").mkdir(parents=True)
    (tmp_path / "source" / "Snakefile").write_text(TOY_SNAKEFILE)
    (tmp_path / "source" / "scripts" / "write_number.py").write_text(TOY_SCRIPT)
    (tmp_path / "run").mkdir()
    return Folder(tmp_path / "run", tmp_path / "source" / "Snakefile")


@pytest.fixture
def small(tmp_path) -> Folder:
    """The workflow itself, run elsewhere; paths in a config are relative to where it runs, so its sheet comes along."""
    shutil.copytree(ROOT / "tests" / "config", tmp_path / "tests" / "config")
    return Folder(tmp_path, ROOT / "Snakefile")
