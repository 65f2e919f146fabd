"""However a step is cut up, between processes, parts or number formats, it is the same step."""

import shutil

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from regulonformer.corpus.shards import write_counts
from regulonformer.io.store import write_parquet, write_tsv
from regulonformer.model.batch import RegulonEdges
from regulonformer.model.config import ModelConfig
from regulonformer.model.encoder import Regulonformer
from regulonformer.model.precision import has_bf16
from regulonformer.objectives import make_objective
from regulonformer.training.checkpoint import Checkpoint
from regulonformer.training.launch import launch
from regulonformer.training.settings import TrainSettings
from regulonformer.training.step import cut
from regulonformer.training.train import train

N_CELLS, N_GENES = 61, 40
TRAINING, VALIDATION = np.arange(50), np.arange(50, N_CELLS)
# Ten steps; the last of an epoch has 2 cells, fewer than there are parts.
BUDGET = {"steps": 10, "batch_cells": 8, "validate_steps": 5, "checkpoint_steps": 3}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files of a corpus in which one library has no accessibility."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    rate = np.where((np.arange(N_GENES) % 2)[None] == rng.integers(0, 2, N_CELLS)[:, None], 3.0, 0.3)
    rna, atac = (rng.poisson(rate / part).astype(np.int32) for part in (1, 2))
    lacks = np.arange(N_CELLS) % 7 == 0
    atac[lacks] = 0
    write_counts(folder / "shards", [(sp.csr_matrix(rna), sp.csr_matrix(atac))], N_GENES)
    cells = pd.DataFrame({"sample": "s1", "has_rna": True, "has_atac": ~lacks})
    cells["n_counts_rna"], cells["n_counts_atac"] = rna.sum(1), atac.sum(1)
    cells["n_active"] = ((rna > 0) | (atac > 0)).sum(1)
    cells.index = pd.Index([f"cell{i}" for i in range(N_CELLS)], name="cell")
    write_parquet(cells, folder / "cells.parquet")
    vocabulary = pd.DataFrame({"token": np.arange(N_GENES), "gene_id": "", "symbol": [f"g{i}" for i in range(N_GENES)]})
    write_tsv(vocabulary.assign(is_tf=vocabulary["token"] < 4, chrom="", tss=""), folder / "vocabulary.tsv")
    return folder / "shards", folder / "cells.parquet", folder / "vocabulary.tsv"


def network(predicts):
    torch.manual_seed(1)
    config = ModelConfig(width=16, heads=2, slots=4, layers=["regulon", "explorer"], dropout=0.0, predicts=predicts)
    edges = RegulonEdges(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 9, 1, 30]), torch.ones(4), torch.tensor([0, 1]))
    model = Regulonformer(config, N_GENES, edges, torch.full((N_GENES, 2), -np.log(N_GENES)))
    model.shortcut.start_from(torch.randn(N_GENES, 16) / N_GENES, torch.ones(N_GENES, 2))
    return model


def trained(files, processes=1, checkpoint=None, validation=VALIDATION, objective="masked", **changes):
    """What `train` returns."""
    objective = make_objective({"name": objective}, N_GENES)
    model, budget = network(objective.predicts), TrainSettings(**BUDGET | changes)
    return launch(train, processes, model, objective, files, TRAINING, validation, budget, checkpoint)


@pytest.fixture(scope="module")
def alone(files):
    """A run in one process, in one part, in float32."""
    return trained(files)


def assert_same_run(result, expected, tolerance=1e-5):
    curves = [pd.DataFrame(run["rows"]).filter(regex="step|loss|floor|rate") for run in (result, expected)]
    pd.testing.assert_frame_equal(*curves, rtol=tolerance, atol=tolerance)
    for name, weights in expected["weights"].items():
        np.testing.assert_allclose(result["weights"][name], weights, rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("accumulate", [2, 3, 8])
def test_parts_of_a_step_add_up(files, alone, accumulate):
    assert_same_run(trained(files, accumulate=accumulate), alone)


def test_two_processes_give_the_weights_of_one(files, alone):
    assert_same_run(trained(files, processes=2, accumulate=2), alone)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["values", "contrast"])
def test_two_processes_give_the_weights_of_one_for_other_objectives(files, objective):
    """A part of a batch may have no hidden value of a modality, or no cell with both; totals are those of the batch."""
    runs = (trained(files, number, objective=objective, accumulate=number, steps=4) for number in (2, 1))
    assert_same_run(*runs)


@given(n_cells=st.integers(1, 70), accumulate=st.integers(1, 9), processes=st.integers(1, 5))
def test_every_cell_of_a_batch_belongs_to_one_part(n_cells, accumulate, processes):
    parts = [cut(n_cells, accumulate, processes, rank) for rank in range(processes)]
    rows = [row for own in parts for part in own if part for row in range(n_cells)[part]]
    assert rows == list(range(n_cells))
    assert len({len(own) for own in parts}) == 1, "processes meet after each part"
    assert parts[0][-1], "the part whose end is when gradients are summed has cells somewhere"


def test_two_processes_resume_and_leave_the_log_of_the_first(files, alone, tmp_path, caplog):
    """A state saved by one process is taken up by two; the first of them alone writes and speaks."""
    checkpoint = Checkpoint(tmp_path / "run")
    trained(files, checkpoint=checkpoint)
    assert checkpoint.load()["step"] == 9
    with caplog.at_level("INFO"):
        result = trained(files, processes=2, checkpoint=checkpoint)
    assert_same_run(result, alone)
    said = [record.message for record in caplog.records if record.name == "root"]
    assert len(said) == 3 and said[0].startswith("resuming at step 9"), said


def test_bf16_trains_and_stays_near_float32(files, alone):
    result = trained(files, precision="bf16")
    assert result["precision"] == "bf16" and all(
        weights.dtype != torch.bfloat16 for weights in result["weights"].values()
    )
    rows, expected = (pd.DataFrame(run["rows"]) for run in (result, alone))
    np.testing.assert_allclose(rows["loss_rna"], expected["loss_rna"], rtol=0.01)
    assert not np.allclose(rows["loss_rna"], expected["loss_rna"], rtol=1e-7), "something was rounded"


def test_auto_is_what_the_hardware_has(files):
    expected = "bf16" if has_bf16(gpu=False) else "float32"
    assert trained(files, precision="auto", steps=1)["precision"] == expected


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("c++") and not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_compiled_model_is_the_model(files):
    result, expected = (trained(files, steps=2, validation=[], compile=choice) for choice in (True, False))
    assert_same_run(result, expected, tolerance=1e-4)


def test_cells_without_counts_teach_nothing_and_break_nothing(files, tmp_path):
    """Zero loss and a warning, not NaN, even if it is a whole batch of them."""
    shards, cells, vocabulary = files
    nothing = sp.csr_matrix((N_CELLS, N_GENES), dtype=np.int32)
    write_counts(tmp_path / "shards", [(nothing, nothing)], N_GENES)
    table = pd.read_parquet(cells).assign(n_counts_rna=0, n_counts_atac=0, n_active=0)
    write_parquet(table, tmp_path / "cells.parquet")
    with pytest.warns(RuntimeWarning, match="no gene to mask"):
        result = trained((tmp_path / "shards", tmp_path / "cells.parquet", vocabulary), steps=2)
    for name, weights in result["weights"].items():
        assert torch.isfinite(weights).all(), name
