"""Settings, sample sheet and the list of modules a script imports."""

import os
import subprocess
import sys
from pathlib import Path

import anndata
import h5py
import mudata
import numpy as np
import pandas as pd
import pytest
import yaml

from regulonformer.config.schema import check_settings, read_yaml
from regulonformer.config.settings import load_settings
from regulonformer.config.sheet import may_have_label, read_samples
from regulonformer.config.sources import modules_of
from regulonformer.errors import InputError

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "workflow" / "scripts"
SCHEMA = read_yaml(ROOT / "workflow" / "schemas" / "config.schema.yaml")


def checked(**settings):
    return check_settings({"samples": "samples.tsv"} | settings, SCHEMA, "my.yaml")


def test_defaults_are_filled_at_every_depth():
    settings = checked(finetune={"rank": 4})
    assert settings["finetune"]["rank"] == 4
    assert settings["finetune"]["alpha"] == 16
    assert settings["splits"]["seeds"] == [0, 1, 2]


def test_order_of_keys_has_no_meaning():
    assert repr(checked(finetune={"rank": 4, "alpha": 8})) == repr(checked(finetune={"alpha": 8, "rank": 4}))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"finetunne": {}}, ["my.yaml", "'finetunne'", "'finetune'"]),
        ({"finetune": {"rnak": 4}}, ["my.yaml", "'rnak'", "finetune", "'rank'"]),
        ({"finetune": {"rank": "four"}}, ["my.yaml", "finetune/rank", "'four'", "integer"]),
        ({"pretrain": {"learning_rate": "1e-4"}}, ["pretrain/learning_rate", "'1e-4'", "1.0e-4"]),
        ({"goal": "everything"}, ["goal", "'everything'", "matrices, embedding, full"]),
        ({"finetune": {"rank": 0}}, ["finetune/rank", "0", "minimum"]),
        ({"tasks": {"state": {}}}, ["tasks/state", "column"]),
    ],
)
def test_bad_settings_are_refused_in_one_line(settings, words):
    with pytest.raises(InputError) as caught:
        checked(**settings)
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == []


def test_every_key_has_type_and_description():
    def walk(schema, place):
        for key, rule in schema.get("properties", {}).items():
            here = f"{place}/{key}"
            assert {"type", "enum"} & rule.keys(), here
            assert rule.get("description"), here
            assert "default" in rule or key in schema.get("required", []), here
            yield here
            yield from walk(rule, here)
            if isinstance(rule.get("additionalProperties"), dict):
                yield from walk(rule["additionalProperties"], here)

    assert len(list(walk(SCHEMA, ""))) > 60


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tasks": {"perturb": {"column": "knockout"}}}, ["'perturb'", "explain/perturb/", "another name"]),
        ({"perturbation": {"column": "knockout", "group": "knockout"}}, ["perturbation/group", "'knockout'"]),
        ({"comparison": {"task": "age"}}, ["comparison/task", "'age'", "state"]),
        ({"comparison": {"controls": {"no contrast": {"recipe": "scdmc", "objective": {}}}}}, ["'no contrast'", "'_'"]),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, words, monkeypatch):
    monkeypatch.chdir(ROOT)
    demo = yaml.safe_load(Path("config/config.yaml").read_text())
    load_settings(demo, "config/config.yaml", ROOT)
    with pytest.raises(InputError) as caught:
        load_settings(demo | changes, "config/config.yaml", ROOT)
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pretrain": {"recipe": "biodta"}}, ["recipe biodta", "reads the sequence of peaks"]),
        ({"comparison": {"recipes": ["biodta"]}}, ["recipe biodta", "reads the sequence of peaks"]),
        ({"comparison": {"recipes": ["scmomer"]}}, ["recipe scmomer", "RNA and ATAC"]),
        ({"comparison": {"recipes": ["biodta"]}, "fasta": None}, ["recipe biodta", "reference/fasta"]),
    ],
)
def test_recipes_that_rna_alone_cannot_train_are_refused(changes, words, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    demo = yaml.safe_load(Path("config/config.yaml").read_text())
    columns, *rows = Path("config/samples.tsv").read_text().splitlines()
    demo["samples"] = write_sheet(tmp_path, *(f"{row}\trna" for row in rows), columns=f"{columns}\tmodality")
    demo["reference"]["network"] = "results/demo/simulate/network.tsv"
    load_settings(demo, "config/config.yaml", ROOT)
    if "fasta" in changes:
        demo["reference"]["fasta"] = changes.pop("fasta")
    with pytest.raises(InputError) as caught:
        load_settings(demo | changes, "config/config.yaml", ROOT)
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize("file", sorted(map(str, (ROOT / "config").rglob("*.yaml"))))
def test_shipped_configs_follow_the_schema(file):
    if "recipes" not in file:
        check_settings(yaml.safe_load(Path(file).read_text()), SCHEMA, file)


def write_library(folder, index=True):
    folder.mkdir(parents=True)
    for name in ["filtered_feature_bc_matrix.h5", "atac_fragments.tsv.gz", "atac_peaks.bed"]:
        (folder / name).touch()
    if index:
        (folder / "atac_fragments.tsv.gz.tbi").touch()
    return folder


def write_sheet(tmp_path, *rows, columns="sample\touts"):
    sheet = tmp_path / "samples.tsv"
    sheet.write_text("\n".join([columns, *rows]) + "\n")
    return str(sheet)


def test_files_of_outs_are_found(tmp_path, monkeypatch):
    write_library(tmp_path / "a" / "outs")
    monkeypatch.setenv("LIBRARIES", str(tmp_path))
    (sample,) = read_samples(write_sheet(tmp_path, "a\t${LIBRARIES}/a/outs\t61", columns="sample\touts\tage"))
    assert sample["matrix"] == f"{tmp_path}/a/outs/filtered_feature_bc_matrix.h5"
    assert sample["barcode_metrics"] is None
    assert sample["donor"] == "a"
    assert sample["age"] == "61"


def test_a_matrix_folder_stands_for_its_matrix_file(tmp_path):
    outs = tmp_path / "outs"
    (outs / "filtered_feature_bc_matrix").mkdir(parents=True)
    mtx = outs / "filtered_feature_bc_matrix" / "matrix.mtx.gz"
    with pytest.raises(
        InputError, match="holds no filtered_feature_bc_matrix.h5 or filtered_feature_bc_matrix or filtered_peak"
    ):
        read_samples(write_sheet(tmp_path, f"a\t{outs}"))
    with pytest.raises(InputError, match="filtered_feature_bc_matrix is a folder without matrix.mtx"):
        read_samples(write_sheet(tmp_path, f"a\t{mtx.parent}", columns="sample\tmatrix"))
    mtx.touch()
    for column, value in [("outs", outs), ("matrix", mtx.parent), ("matrix", mtx)]:
        (sample,) = read_samples(write_sheet(tmp_path, f"a\t{value}", columns=f"sample\t{column}"))
        assert sample["matrix"] == str(mtx)
    (outs / "filtered_feature_bc_matrix.h5").touch()
    (sample,) = read_samples(write_sheet(tmp_path, f"a\t{outs}"))
    assert sample["matrix"] == f"{outs}/filtered_feature_bc_matrix.h5"


def test_the_old_name_of_a_column_is_told(tmp_path):
    with pytest.raises(InputError, match="'matrix_h5' is now called 'matrix'"):
        read_samples(write_sheet(tmp_path, "a\tx.h5", columns="sample\tmatrix_h5"))


def bad_sheet(tmp_path, case):
    outs = write_library(tmp_path / "outs", index=case != "no index")
    if case == "no matrix":
        (outs / "filtered_feature_bc_matrix.h5").unlink()
    rows = {
        "twice": [f"a\t{outs}", f"a\t{outs}"],
        "missing": [f"a\t{tmp_path}/nowhere"],
        "name": [f"a b\t{outs}"],
        "variable": ["a\t${NO_SUCH_VARIABLE}/outs"],
        "empty": [],
    }
    return write_sheet(tmp_path, *rows.get(case, [f"a\t{outs}"]))


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("twice", ["samples.tsv", "'a'", "2 times"]),
        ("missing", ["'a'", "nowhere", "does not exist"]),
        ("name", ["'a b'"]),
        ("variable", ["NO_SUCH_VARIABLE", "export"]),
        ("no index", ["atac_fragments.tsv.gz", ".tbi", "tabix -p bed"]),
        ("no matrix", ["filtered_feature_bc_matrix.h5", "'a'"]),
        ("empty", ["no rows"]),
    ],
)
def test_bad_sheet_is_refused_in_one_line(tmp_path, case, words):
    with pytest.raises(InputError) as caught:
        read_samples(bad_sheet(tmp_path, case))
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == []


# Every script in a process of its own, forked where the libraries that take long to import are loaded already.
IMPORT_EACH = f"""
import os, sys
import captum.attr, matplotlib.pyplot, peft, pyranges, scanpy, torch
sys.path.insert(0, {str(SCRIPTS)!r})
for script in sys.argv[1:]:
    if not os.fork():
        __import__(script)
        loaded = [m.__file__ for n, m in sorted(sys.modules.items()) if n.split(".")[0] == "regulonformer"]
        print(script, *loaded, flush=True)
        os._exit(0)
    os.wait()
"""
ALL_SCRIPTS = sorted(path.stem for path in SCRIPTS.glob("*.py"))


@pytest.fixture(scope="module")
def imported_at_run_time():
    """Modules of the package that importing each script loads, asked of Python itself."""
    command = [sys.executable, "-c", IMPORT_EACH, *ALL_SCRIPTS]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    lines = [line.split() for line in done.stdout.splitlines()]
    found = {script: set(files) for script, *files in lines}
    assert sorted(found) == ALL_SCRIPTS, done.stderr
    return found


@pytest.mark.parametrize("script", ALL_SCRIPTS)
def test_listed_modules_hold_all_that_are_imported(script, imported_at_run_time):
    listed = set(modules_of(SCRIPTS / f"{script}.py", SCRIPTS))
    assert imported_at_run_time[script] <= listed


def test_imports_inside_functions_count(tmp_path):
    package = tmp_path / "regulonformer"
    (package / "deep").mkdir(parents=True)
    for name in ["__init__.py", "deep/__init__.py", "deep/used.py", "deep/unused.py"]:
        (package / name).touch()
    (package / "door.py").write_text("def f():\n    from regulonformer.deep import used\n")
    script = tmp_path / "script.py"
    script.write_text("import regulonformer.door\n")
    names = {str(Path(file).relative_to(package)) for file in modules_of(script, tmp_path)}
    assert names == {"__init__.py", "door.py", "deep/__init__.py", "deep/used.py"}


def test_importing_the_package_is_cheap():
    code = "import time; t = time.perf_counter(); import regulonformer; print(time.perf_counter() - t)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=SCRIPTS, capture_output=True, text=True, check=True, timeout=60
    )
    assert float(done.stdout) < 0.3
    heavy = "import sys, regulonformer; print(sorted({'torch', 'scanpy', 'muon', 'pandas'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", heavy], cwd=SCRIPTS, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_runs_are_planned_where_snakemake_alone_is_installed(tmp_path):
    """Packages come with the environment of the rules; only labels inside an h5ad need h5py to plan folds by."""
    table = anndata.AnnData(np.ones((2, 3)), pd.DataFrame({"state": ["a", "b"]}, index=["1", "2"]))
    table.write_h5ad(tmp_path / "cells.h5ad")
    table.write_h5ad(tmp_path / "cells.hdf5")  # what a file holds decides, not its name
    h5py.File(tmp_path / "matrix.h5", "w").close()
    code = """
import sys
sys.modules.update(dict.fromkeys(["anndata", "h5py", "numpy", "pandas", "scipy", "torch"]))
from pathlib import Path
import yaml
from regulonformer.config.settings import load_settings
from regulonformer.config.sheet import may_have_label
from regulonformer.config.sources import modules_of
from regulonformer.errors import InputError
folder, labels, scripts = Path(sys.argv[1]), sys.argv[2], Path("workflow/scripts")
load_settings(yaml.safe_load(Path("tests/config/small.yaml").read_text()), "small.yaml", Path())
modules_of(scripts / "pretrain_model.py", scripts)
for matrix in ("matrix.h5", "cells.h5ad", "cells.hdf5"):
    try:
        print(may_have_label({"matrix": str(folder / matrix), "labels": labels}, "state"))
    except InputError as error:
        print(error)
"""

    def planned(labels):
        command = [sys.executable, "-c", code, str(tmp_path), labels]
        how = {"cwd": ROOT, "env": os.environ | {"PYTHONPATH": str(SCRIPTS)}, "capture_output": True, "text": True}
        return subprocess.run(command, check=True, **how).stdout.splitlines()

    assert planned("labels.tsv") == ["True", "True", "True"]
    none, *needs = planned("")
    assert none == "False", "a .h5 is taken for a 10x file, which has no labels"
    for name, said in zip(("cells.h5ad", "cells.hdf5"), needs, strict=True):
        assert f"{name}: " in said and "h5py" in said and "column labels" in said


def test_a_matrix_may_have_labels_if_its_table_of_cells_has_the_column(tmp_path):
    paths = {name: tmp_path / name for name in ("labelled.h5ad", "query.h5ad", "both.h5mu", "copy.h5", "damaged.h5ad")}
    obs = pd.DataFrame({"state": ["a", "b"]}, index=["1", "2"])
    table = anndata.AnnData(np.ones((2, 3)), obs)
    table.write_h5ad(paths["labelled.h5ad"])
    table.write_h5ad(paths["copy.h5"])
    mudata.MuData({"rna": table}).write_h5mu(paths["both.h5mu"])
    anndata.AnnData(np.ones((2, 3))).write_h5ad(paths["query.h5ad"])
    paths["damaged.h5ad"].write_bytes(paths["labelled.h5ad"].read_bytes()[:600])
    paths["yet_to_come.h5ad"] = tmp_path / "yet_to_come.h5ad"
    may = {name: may_have_label({"matrix": str(path), "labels": None}, "state") for name, path in paths.items()}
    assert may == dict.fromkeys(may, True) | {"query.h5ad": False, "damaged.h5ad": False}
    os.utime(paths["query.h5ad"], (0, 0))
    table.write_h5ad(paths["query.h5ad"])
    assert may_have_label({"matrix": str(paths["query.h5ad"]), "labels": None}, "state"), "a file that changed"
