"""The profiles: each entry has its reason in the table, and Snakemake accepts it."""

import re
from pathlib import Path

import pytest
import yaml

PROFILES = Path(__file__).parents[2] / "workflow" / "profiles"
NAMES = ["local", "slurm", "ci"]


def reasons() -> dict[str, dict[str, str]]:
    """Profile -> entry -> reason, as the README's tables give them."""
    found: dict[str, dict[str, str]] = {}
    for line in (PROFILES / "README.md").read_text().splitlines():
        if heading := re.match(r"## `(\w+)`", line):
            table = found.setdefault(heading[1], {})
        elif row := re.match(r"\| `([\w-]+)` \| `[^|]*` \| (.+) \|$", line):
            table[row[1]] = row[2]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_entry_has_one_reason(name):
    entries = yaml.safe_load((PROFILES / name / "profile.yaml").read_text())
    assert set(reasons()[name]) == set(entries)


@pytest.mark.parametrize("name", NAMES)
def test_snakemake_accepts_the_profile(name, toy):
    printed = toy.snakemake("--workflow-profile", PROFILES / name, "--cores", 1, "--dry-run", timeout=60)
    assert f"workflow specific profile {PROFILES / name}" in printed
