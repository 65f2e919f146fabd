import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

import embed_cells
import pretrain_model
import regulonformer
from regulonformer.corpus.encoding import encode_cells
from regulonformer.corpus.sampler import EpochSampler, hold_out, length_sorted
from regulonformer.corpus.shards import Corpus, write_counts
from regulonformer.errors import InputError
from regulonformer.io.store import read_json, write_parquet, write_tsv
from regulonformer.pretrained import load_model
from regulonformer.training.checkpoint import Checkpoint
from regulonformer.training.loop import Trainer
from regulonformer.training.schedule import warmup_cosine
from regulonformer.training.step import decayed_groups

N_CELLS, N_GENES = 90, 40
SETTINGS = {
    "recipe": "tiny",
    "recipe_settings": {
        "description": "",
        "model": {"width": 16, "heads": 2, "slots": 4, "layers": ["regulon", "explorer"], "dropout": 0.1},
        "objective": {"fraction": 0.25},
    },
    "model": {},
    "steps": 12,
    "batch_cells": 16,
    "learning_rate": 3.0e-3,
    "warmup_share": 0.1,
    "weight_decay": 0.01,
    "clip_norm": 1.0,
    "holdout": "auto",
    "validate_steps": 4,
    "patience": None,
    "checkpoint_steps": 5,
    "precision": "float32",
    "accumulate": 1,
    "processes": 1,
    "compile": False,
    "seed": 0,
}
FILES = ["model.safetensors", "config.json", "vocabulary.tsv"]
COSTS = ["cells_per_second", "memory_gb"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A corpus of two states and three libraries."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    state = rng.integers(0, 2, N_CELLS)
    rate = np.where((np.arange(N_GENES) % 2)[None] == state[:, None], 4.0, 0.3)
    rna, atac = rng.poisson(rate).astype(np.int32), rng.poisson(rate / 2).astype(np.int32)
    write_counts(folder / "shards", [(sp.csr_matrix(rna), sp.csr_matrix(atac))], N_GENES)
    cells = pd.DataFrame({"sample": np.repeat(["s1", "s2", "s3"], N_CELLS // 3), "state": state})
    cells["has_rna"], cells["has_atac"] = True, True
    cells["n_counts_rna"], cells["n_counts_atac"] = rna.sum(1), atac.sum(1)
    cells["n_active"] = ((rna > 0) | (atac > 0)).sum(1)
    cells.index = pd.Index([f"cell{i}" for i in range(N_CELLS)], name="cell")
    write_parquet(cells, folder / "cells.parquet")
    vocabulary = pd.DataFrame({"token": np.arange(N_GENES), "gene_id": "", "symbol": [f"g{i}" for i in range(N_GENES)]})
    write_tsv(vocabulary.assign(is_tf=vocabulary["token"] < 4, chrom="", tss=""), folder / "vocabulary.tsv")
    source = rng.choice(["g0", "g1", "g2", "Unmeasured"], 30)
    target = [f"g{i}" for i in rng.integers(4, N_GENES, 30)]
    regulons = pd.DataFrame({"source": source, "target": target, "cre": "", "score": rng.random(30)})
    write_parquet(regulons, folder / "regulons.parquet")
    return folder


def pretrain(world, folder, threads=1, gpu=0, **changes):
    folder.mkdir(exist_ok=True)
    pretrain_model.main(
        shards=world / "shards",
        cells=world / "cells.parquet",
        vocabulary=world / "vocabulary.tsv",
        regulons=world / "regulons.parquet",
        settings=SETTINGS | changes,
        folder=folder,
        run=folder / "run.json",
        metrics=folder / "metrics.tsv",
        checkpoints=folder / "checkpoints",
        threads=threads,
        gpu=gpu,
    )


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    pretrain(world, folder)
    return folder


def test_outputs(finished):
    metrics = pd.read_csv(finished / "metrics.tsv", sep="\t")
    losses = ["loss_rna", "floor_rna", "loss_atac", "floor_atac"]
    assert metrics.columns.tolist() == ["step", "stage", "hidden", "split", *losses, "learning_rate", *COSTS]
    assert metrics["step"].tolist() == [4, 4, 8, 8, 12, 12]
    assert metrics["split"].tolist() == ["train", "validation"] * 3
    assert np.isfinite(metrics.drop(columns=["stage", "split"])).all(axis=None)
    run = read_json(finished / "run.json")
    assert run["n_parameters"] > 0 and run["n_train_cells"] == 60 and run["n_validation_cells"] == 30
    assert (run["precision"], run["device"], run["processes"], run["compile"]) == ("float32", "cpu", 1, False)
    assert run["cells_per_second"] > 0
    assert read_json(finished / "config.json")["regulons"] == ["g0", "g1", "g2", "Unmeasured"]
    assert not list((finished / "checkpoints").glob("*")), "a run that ended leaves no checkpoint"


def assert_same_run(folder, expected):
    """Same bytes, but for what the run cost."""
    for name in FILES:
        assert (folder / name).read_bytes() == (expected / name).read_bytes(), name
    curves, expected_curves = (
        pd.read_csv(run / "metrics.tsv", sep="\t").drop(columns=COSTS) for run in (folder, expected)
    )
    pd.testing.assert_frame_equal(curves, expected_curves, check_exact=True)


def kill_at(monkeypatch, step):
    """Let runs die before they take a step."""
    take_step = Trainer._take_step

    def killed(self, *batch):
        if self.step == step:
            raise KeyboardInterrupt
        return take_step(self, *batch)

    monkeypatch.setattr(Trainer, "_take_step", killed)


def test_same_seed_same_bytes(world, finished, tmp_path):
    pretrain(world, tmp_path)
    assert_same_run(tmp_path, finished)


# Validated each step and, by decree, best after the first: it is killed while it waits, and stops at step 9.
STOPPED = {"steps": 40, "validate_steps": 1, "patience": 8, "accumulate": 3}
LORA = {"name": "dynamic", "train": "adapter+lora"}
WITH_LORA = {"recipe_settings": SETTINGS["recipe_settings"] | {"objective": LORA}}


@pytest.mark.parametrize("changes", [{}, STOPPED, WITH_LORA], ids=["plain", "parts and patience", "LoRA"])
def test_killed_run_ends_with_the_same_bytes(world, tmp_path, monkeypatch, changes):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    if "patience" in changes:
        worse = torch.tensor([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
        monkeypatch.setattr(Trainer, "validate", lambda self: torch.ones(3, 2) + worse * self.step)
    pretrain(world, whole, **changes)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        kill_at(patch, 8)
        pretrain(world, resumed, **changes)
    assert len(list((resumed / "checkpoints").glob("tiny_*/state.pt"))) == 1
    assert not (resumed / "model.safetensors").exists()

    [state] = (resumed / "checkpoints").glob("tiny_*/state.pt")
    saved = torch.load(state, weights_only=True)
    assert 0 < saved["wall_seconds"] < 100
    torch.save(saved | {"wall_seconds": 1000.0}, state)

    taken = []
    with pytest.MonkeyPatch.context() as patch:
        take_step = Trainer._take_step
        patch.setattr(Trainer, "_take_step", lambda self, *batch: taken.append(self.step) or take_step(self, *batch))
        pretrain(world, resumed, **changes)
    assert taken[0] == 5, "from the checkpoint on, not from the start"
    assert taken[-1] == read_json(whole / "run.json")["steps_taken"] - 1 == (8 if "patience" in changes else 11)
    assert_same_run(resumed, whole)
    load_model(resumed)  # what training alone had is folded in
    assert 1000 < read_json(resumed / "run.json")["wall_seconds"] < 1100, "the killed process took its time too"


def test_other_settings_or_code_do_not_take_up_a_checkpoint(world, tmp_path, monkeypatch):
    kill_at(monkeypatch, 6)
    module = tmp_path / "module.py"
    monkeypatch.setattr(pretrain_model, "modules_of", lambda script, root: [module])
    for seed, code in [(0, "x = 1"), (1, "x = 1"), (0, "x = 2"), (0, "x = 1")]:
        module.write_text(code)
        with pytest.raises(KeyboardInterrupt):
            pretrain(world, tmp_path, seed=seed)
    assert len(list((tmp_path / "checkpoints").glob("tiny_*"))) == 3


@pytest.fixture
def one_thread():
    """Other tests go on with the threads they had."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_other_arithmetic_does_not_take_up_a_checkpoint(world, tmp_path, monkeypatch, one_thread, caplog):
    caplog.set_level(logging.INFO)
    kill_at(monkeypatch, 6)
    (tmp_path / "checkpoints" / "tiny_other_0123456789abcdef").mkdir(parents=True)  # of another recipe

    def killed(**how):
        caplog.clear()
        with pytest.raises(KeyboardInterrupt):
            pretrain(world, tmp_path, **how)
        return set((tmp_path / "checkpoints").glob("tiny_*/state.pt"))

    first = killed(threads=2)
    assert len(first) == 1 and "not taken up" not in caplog.text
    assert killed(threads=2) == first and "resuming at step 5" in caplog.text
    assert len(killed(threads=1)) == 2 and "resuming" not in caplog.text
    assert f"not taken up: {first.pop().parent}," in caplog.text and "tiny_other" not in caplog.text
    monkeypatch.setattr(torch, "__version__", "0.1")
    assert len(killed(threads=1)) == 3 and "resuming" not in caplog.text
    monkeypatch.setattr(pretrain_model, "granted_device", lambda gpu: "mps")
    monkeypatch.setattr(pretrain_model, "launch", lambda *arguments: kept.append(arguments[8]) or 1 / 0)
    kept = []
    for number in (1, 2):
        with pytest.raises(ZeroDivisionError):
            pretrain(world, tmp_path, gpu=number)
    folders = {checkpoint.folder for checkpoint in kept}
    assert len(folders) == 2 and not any(folder.exists() for folder in folders)


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_missed(world, tmp_path, caplog):
    pretrain(world, tmp_path, gpu=2, steps=1)
    assert "2 GPU granted, but torch" in caplog.text and "training on the CPU" in caplog.text
    run = read_json(tmp_path / "run.json")
    assert (run["device"], run["processes"]) == ("cpu", 1)


def test_run_that_was_killed_after_its_last_step_has_no_speed(world, finished, tmp_path, monkeypatch):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(pretrain_model, "save_model", lambda *arguments: 1 / 0)
        pretrain(world, tmp_path, checkpoint_steps=4)
    pretrain(world, tmp_path, checkpoint_steps=4)
    assert read_json(tmp_path / "run.json")["cells_per_second"] is None
    assert_same_run(tmp_path, finished)


def test_kill_while_writing_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path / "run")
    checkpoint.save({"step": 1})
    monkeypatch.setattr(torch, "save", lambda saved, handle: (handle.write(b"half"), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        checkpoint.save({"step": 2})
    assert checkpoint.load() == {"step": 1}


def test_training_goes_below_the_floor(world, tmp_path):
    pretrain(world, tmp_path, steps=150, validate_steps=150)
    last = pd.read_csv(tmp_path / "metrics.tsv", sep="\t").iloc[-1]
    assert last["split"] == "validation"
    assert last["loss_rna"] < 0.9 * last["floor_rna"]
    assert last["loss_atac"] < last["floor_atac"]


@pytest.mark.parametrize("loss", ["huber", "bins"])
def test_values_are_learned_and_saved_too(world, tmp_path, loss):
    recipe = SETTINGS["recipe_settings"] | {"objective": {"name": "values", "fraction": 0.25, "loss": loss}}
    pretrain(world, tmp_path, recipe_settings=recipe, steps=60, learning_rate=1.0e-2, validate_steps=60)
    last = pd.read_csv(tmp_path / "metrics.tsv", sep="\t").iloc[-1]
    # Half of the cells are in each state, so the mean profile is far off, and its floor is not that of zeros.
    assert last["split"] == "validation" and last["loss_rna"] < 0.9 * last["floor_rna"]
    reloaded = load_model(tmp_path).model
    assert reloaded.config.predicts == {"huber": "values", "bins": "bins"}[loss]
    assert reloaded.heads.start.any(), "the mean profile is saved with the model"


@pytest.mark.parametrize("rate", [3.0, 10.0], ids=["worse at once", "not a number in the end"])
def test_patience_stops_early_and_keeps_the_best(world, tmp_path, rate):
    pretrain(world, tmp_path, steps=60, learning_rate=rate, validate_steps=2, patience=3)
    metrics = pd.read_csv(tmp_path / "metrics.tsv", sep="\t")
    assert metrics["step"].max() < 60
    assert read_json(tmp_path / "run.json")["steps_taken"] == metrics["step"].max()
    assert torch.isfinite(load_model(tmp_path).model.embedding.gene_vectors.weight).all()


def test_weights_that_are_no_numbers_are_not_saved(world, tmp_path):
    with pytest.raises(InputError, match="pretrain.learning_rate.*1000"):
        pretrain(world, tmp_path, steps=20, learning_rate=1000.0)
    assert not (tmp_path / "model.safetensors").exists()


def test_saved_model_is_the_model(finished, world):
    pretrained = regulonformer.load(finished)
    again = load_model(finished)
    batch = encode_cells(Corpus.open(world), np.arange(10))
    with torch.no_grad():
        assert torch.equal(pretrained.model(batch).cell_BD, again.model(batch).cell_BD)
    assert pretrained.hash == again.hash and not pretrained.model.training
    assert pretrained.model.tf_S.tolist() == [0, 1, 2, -1]
    for slot, name in enumerate(pretrained.config["regulons"][:3]):
        assert pretrained.vocabulary["symbol"][pretrained.model.tf_S[slot].item()] == name


def test_vocabulary_of_another_order_is_refused(finished, tmp_path):
    for name in FILES:
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    vocabulary = pd.read_csv(tmp_path / "vocabulary.tsv", sep="\t", keep_default_na=False)
    vocabulary.loc[[0, 1], "symbol"] = ["g1", "g0"]
    write_tsv(vocabulary, tmp_path / "vocabulary.tsv")
    with pytest.raises(InputError, match="regulon g0 points at gene g1"):
        load_model(tmp_path)
    write_tsv(vocabulary.iloc[:-1], tmp_path / "vocabulary.tsv")
    with pytest.raises(InputError, match="39 genes"):
        load_model(tmp_path)


def test_embedding_of_cells(finished, world, tmp_path):
    embed_cells.main(
        folder=finished,
        shards=world / "shards",
        cells=world / "cells.parquet",
        vocabulary=world / "vocabulary.tsv",
        seed=0,
        output=tmp_path / "cells.h5ad",
    )
    data = ad.read_h5ad(tmp_path / "cells.h5ad")
    assert data.shape == (N_CELLS, 16) and data.obs_names[3] == "cell3"
    assert data.obsm["X_umap"].shape == (N_CELLS, 2)
    several = data.obs["sample"].nunique() > 1
    assert several == ("X_harmony" in data.obsm), "libraries are aligned where there are several"
    np.testing.assert_allclose(data.obsm["X_regulons"].sum(1), 1, rtol=1e-5)
    assert list(data.uns["regulons"]) == ["g0", "g1", "g2", "Unmeasured"]
    assert data.uns["gene_vectors"].shape == (N_GENES, 16) and len(data.uns["genes"]) == N_GENES
    # Batches are sorted by length; rows must come back in the order of the corpus.
    model, corpus = load_model(finished).model, Corpus.open(world)
    with torch.no_grad():
        expected = model(encode_cells(corpus, [7])).cell_BD[0]
    np.testing.assert_allclose(data.X[7], expected, atol=1e-5)


def test_schedule_rises_and_falls():
    rates = [warmup_cosine(step, 100, 0.1) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == rates[9] == rates[10] == 1.0
    assert rates[-1] < 0.001 and (np.diff(rates[10:]) < 0).all()
    assert warmup_cosine(0, 1, 0.0) == 1.0


def test_only_linear_weights_decay(finished):
    model = load_model(finished).model
    decayed, kept = decayed_groups(model, 0.1)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert decayed["weight_decay"] == 0.1 and kept["weight_decay"] == 0.0
    assert all(names[id(parameter)].endswith(".weight") for parameter in decayed["params"])
    assert "embedding.gene_vectors.weight" in {names[id(parameter)] for parameter in kept["params"]}
    assert len(decayed["params"]) + len(kept["params"]) == len(names)


@given(
    n_cells=st.integers(1, 300),
    n_libraries=st.integers(1, 4),
    batch_cells=st.integers(1, 64),
    seed=st.integers(0, 2**31),
)
def test_each_cell_is_trained_on_once_an_epoch_or_watched(n_cells, n_libraries, batch_cells, seed):
    rng = np.random.default_rng(seed)
    cells = pd.DataFrame({"sample": np.resize([f"s{i}" for i in range(n_libraries)], n_cells)})
    if n_cells == 1:
        with pytest.raises(InputError, match="every library is held out"):
            hold_out(cells, "auto", seed)
        return
    held = hold_out(cells, "auto", seed)
    last = (cells["sample"] == cells["sample"].max()).sum()
    assert held.sum() == (max(1, round(n_cells * 0.1)) if cells["sample"].nunique() == 1 else last)
    train, validation, lengths = np.flatnonzero(~held), np.flatnonzero(held), rng.integers(1, 99, n_cells)
    sampler = EpochSampler(train, lengths[train], batch_cells, seed)
    epoch = [sampler.batch(step) for step in range(sampler.batches_per_epoch)]
    assert np.array_equal(np.sort(np.concatenate(epoch)), train) and max(map(len, epoch)) <= batch_cells
    watched = [*length_sorted(validation, lengths[validation], batch_cells)] if len(validation) else []
    assert np.array_equal(np.sort(np.concatenate([*watched, []])), validation)
