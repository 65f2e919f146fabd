"""One environment, told three times: the three must agree."""

import re
from pathlib import Path

import yaml

ENVS = Path(__file__).parents[2] / "envs"
# Names that differ between conda and pip.
PIP_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib", "py-xgboost-cpu": "xgboost-cpu"}


def locked():
    lines = (ENVS / "requirements.lock").read_text().splitlines()
    return dict(line.lower().split("==") for line in lines if line and not line.startswith("#"))


def test_conda_pins_agree_with_the_lock():
    lock, dependencies = locked(), yaml.safe_load((ENVS / "regulonformer.yaml").read_text())["dependencies"]
    pip = next(item["pip"] for item in dependencies if isinstance(item, dict))
    pins = dict(re.split("==?", item) for item in [*dependencies, *pip] if isinstance(item, str) and "=" in item)
    del pins["python"], pins["macs3"]  # MACS3 is an extra of the pip environment
    different = {name: pin for name, pin in pins.items() if lock.get(PIP_NAMES.get(name, name).lower()) != pin}
    assert len(pins) > 20
    assert different == {}


def test_container_installs_the_lock():
    text = (ENVS / "Containerfile").read_text()
    assert "requirements.lock" in text


def test_every_installer_names_the_same_macs3():
    root = ENVS.parent
    files = ["envs/regulonformer.yaml", "envs/Containerfile", "Makefile"]
    assert {re.search(r"macs3==?([\d.]+)", (root / file).read_text())[1] for file in files} == {"3.0.4"}


def test_no_copyleft_is_required():
    assert {"igraph", "leidenalg", "louvain", "python-igraph"} & locked().keys() == set()


def test_no_cuda_builds_are_locked():
    assert [name for name in locked() if name.startswith(("nvidia", "triton", "cuda"))] == []


def test_links_of_the_docs_lead_somewhere():
    root = ENVS.parent
    pages = [root / "README.md", root / "config/README.md", root / "CONTRIBUTING.md", *(root / "docs").glob("*.md")]
    for page in pages:
        text = page.read_text()
        assert "@@" not in text, page
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
