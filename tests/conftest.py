"""Fixtures of the tests that run the workflow: a copy of the project and one finished small run in it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ["Snakefile", "workflow", "config", "envs", "resources", "tests/config"]
SMALL = "tests/config/small.yaml"


class Project:
    """A checkout of the workflow that a test may change."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def snakemake(self, *arguments, timeout=600, check=True, **environment):
        """Run Snakemake in the checkout and return the finished process, its output in `stdout`."""
        command = [sys.executable, "-m", "snakemake", "--cores", "2", *map(str, arguments)]
        done = subprocess.run(
            command,
            cwd=self.root,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        if check and done.returncode:
            pytest.fail(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-6000:]}")
        return done

    def planned(self, *arguments) -> dict[str, int]:
        """Number of jobs per rule that a dry-run announces, `all` left out."""
        text = self.snakemake("--dry-run", "--quiet", "rules", *arguments).stdout
        rows = re.findall(r"^(\w+) +(\d+)$", text, flags=re.MULTILINE)
        return {rule: int(count) for rule, count in rows if rule not in ("all", "total")}


def copy_project(target: Path) -> Project:
    """Copy what the workflow consists of."""
    for part in PARTS:
        source = ROOT / part
        ignore = shutil.ignore_patterns("__pycache__", "downloads")
        if source.is_dir():
            shutil.copytree(source, target / part, ignore=ignore)
        else:
            (target / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / part)
    return Project(target)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Project:
    """A copy of the workflow of a test file's own, in which its tests may run what they like."""
    return copy_project(tmp_path_factory.mktemp("own") / "project")


@pytest.fixture(scope="session")
def project(tmp_path_factory) -> Project:
    """A copy of the workflow in which nothing has run."""
    return copy_project(tmp_path_factory.mktemp("fresh") / "project")


@pytest.fixture(scope="session")
def small_run(tmp_path_factory) -> Project:
    """A copy of the workflow in which the small demo has run from end to end."""
    project = copy_project(tmp_path_factory.mktemp("small") / "project")
    project.snakemake("--configfile", SMALL)
    return project


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real data sets; the tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("REGULONFORMER_DATA", ROOT.parent / "shared" / "data")).resolve()
    if not (folder / "multiome").is_dir():
        # Where everything is to be tested, a missing data set is a failure and not a reason to skip.
        stop = pytest.fail if os.environ.get("CI") else pytest.skip
        stop(f"no real data at {folder}; set REGULONFORMER_DATA")
    return folder


@pytest.fixture(scope="session")
def peer() -> Path:
    """Python of the peers that tests compare with; they are skipped where `make peers` was not run."""
    python = Path(os.environ.get("REGULONFORMER_PEERS", ROOT / ".venv-peers")) / "bin/python"
    if not python.exists():
        stop = pytest.fail if os.environ.get("CI") else pytest.skip
        stop(f"no {python}; run `make peers`")
    return python
