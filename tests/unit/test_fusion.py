"""A model of missing modalities: what each stage sees and moves, and what cells that lack a modality get."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from sklearn.linear_model import Ridge

import finetune_task
from regulonformer.corpus.encoding import encode, encode_cells
from regulonformer.corpus.shards import Corpus, write_counts
from regulonformer.embed import embed_batches
from regulonformer.errors import InputError
from regulonformer.io.store import write_parquet, write_tsv
from regulonformer.model.batch import MASKED, MISSING, CellBatch, RegulonEdges
from regulonformer.model.config import ModelConfig
from regulonformer.model.encoder import Regulonformer
from regulonformer.objectives import make_objective
from regulonformer.objectives.distill import PENALTY
from regulonformer.pretrained import load_model, save_model
from regulonformer.training.checkpoint import Checkpoint
from regulonformer.training.launch import launch
from regulonformer.training.loop import Trainer
from regulonformer.training.settings import TrainSettings
from regulonformer.training.train import train

N_CELLS, N_GENES, WIDTH = 61, 40, 16
TRAINING, VALIDATION = np.arange(50), np.arange(50, N_CELLS)
VOCABULARY = pd.DataFrame({"token": np.arange(N_GENES), "gene_id": "", "symbol": [f"g{i}" for i in range(N_GENES)]})
VOCABULARY = VOCABULARY.assign(is_tf=VOCABULARY["token"] < 4, chrom="", tss="")
# Four steps of each stage.
BUDGET = {"steps": 12, "batch_cells": 8, "validate_steps": 4, "checkpoint_steps": 1}
STAGES = [1 / 3, 1 / 3, 1 / 3]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def counts():
    """Counts of cells of two states, which differ in strength, too: both modalities of a cell share it."""
    rng = np.random.default_rng(0)
    state = rng.integers(0, 2, N_CELLS)
    strength = rng.uniform(0.2, 1.0, N_CELLS)[:, None]
    even = np.arange(N_GENES) % 2 == 0
    rate = np.where(even == state[:, None], 6.0 * strength, 0.3)
    return tuple(rng.poisson(rate / part).astype(np.int32) for part in (1, 2)), state


def paired_batch(rows=slice(None)):
    matrices = [sp.csr_matrix(part[rows]) for part in counts()[0]]
    return encode(*matrices, np.column_stack([np.asarray(part.sum(1)).ravel() for part in matrices]))


def network(**sizes):
    torch.manual_seed(1)
    config = {"width": WIDTH, "heads": 2, "slots": 4, "layers": ["regulon", "explorer"], "fusion": True} | sizes
    edges = RegulonEdges(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 9, 1, 30]), torch.ones(4), torch.tensor([0, 1]))
    start = torch.full((N_GENES, 2), -np.log(N_GENES))
    model = Regulonformer(ModelConfig.from_dict(config), N_GENES, edges, start, n_tfs=4)
    if model.shortcut is not None:
        signs = torch.where(torch.arange(N_GENES) % 2 == 0, 1.0, -1.0)[:, None] / N_GENES
        noise = torch.randn(N_GENES, WIDTH) / N_GENES / 20
        model.shortcut.start_from(noise + signs * torch.eye(WIDTH)[[0, WIDTH // 2]].sum(0), torch.ones(N_GENES, 2))
    return model


def stages(**settings):
    objective = make_objective({"name": "fusion", "stages": STAGES} | settings, N_GENES)
    return objective, [part for part, _ in objective.stages]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files of a corpus that mixes cells of both modalities with cells of either one."""
    return write_corpus(tmp_path_factory.mktemp("corpus"), np.arange(N_CELLS) % 7 == 0, np.arange(N_CELLS) % 7 == 1)


def write_corpus(folder, lacks_rna, lacks_atac):
    rna, atac = counts()[0]
    rna[lacks_rna], atac[lacks_atac] = 0, 0
    write_counts(folder / "shards", [(sp.csr_matrix(rna), sp.csr_matrix(atac))], N_GENES)
    cells = pd.DataFrame({"sample": np.where(np.arange(N_CELLS) % 2, "s1", "s2"), "donor": ""})
    cells["has_rna"], cells["has_atac"], cells["state"] = ~lacks_rna, ~lacks_atac, np.array(["A", "B"])[counts()[1]]
    cells["n_counts_rna"], cells["n_counts_atac"] = rna.sum(1), atac.sum(1)
    cells["n_active"] = ((rna > 0) | (atac > 0)).sum(1)
    cells.index = pd.Index([f"cell{i}" for i in range(N_CELLS)], name="cell")
    write_parquet(cells, folder / "cells.parquet")
    write_tsv(VOCABULARY, folder / "vocabulary.tsv")
    return folder / "shards", folder / "cells.parquet", folder / "vocabulary.tsv"


def trained(files, processes=1, checkpoint=None, **changes):
    """What `train` returns."""
    budget = TrainSettings(**BUDGET | changes)
    return launch(train, processes, network(), stages()[0], files, TRAINING, VALIDATION, budget, checkpoint)


def test_a_view_is_masked_and_shows_nothing_of_the_other_modality():
    alone = stages()[1][0].prepare(paired_batch(), seeded())
    for m, view in enumerate(alone):
        batch, other = view.batch, 1 - m
        states, values = (batch.rna_state_BT, batch.atac_state_BT), (batch.rna_BT, batch.atac_BT)
        assert torch.equal(states[m] == MASKED, view.scored_BTM[..., m]) and (states[m] == MASKED).any()
        assert not values[m][states[m] == MASKED].any(), "what is hidden cannot be read"
        assert (states[other] == MISSING).all() and not values[other].any() and not view.scored_BTM[..., other].any()


def test_hidden_counts_do_not_decide_which_tokens_a_view_has():
    """Fused pairs are masked first and taken apart then: whether a hidden gene is a token must not tell its count."""
    pairs = stages()[1][1]
    pairs.attach(network())
    masked = pairs.prepare(paired_batch(), seeded()).masked
    hidden_BT = masked.scored_BTM[..., 0]
    told = masked.batch._replace(rna_counts_BT=masked.batch.rna_counts_BT.masked_fill(hidden_BT, 0.0))
    assert not masked.batch.only(0).pad_BT[hidden_BT].any()
    assert torch.equal(masked.batch.only(0).pad_BT, told.only(0).pad_BT)


def test_false_pairs_are_of_the_same_state():
    state = torch.tensor(counts()[1])
    for share, same in ((0.0, 0.95), (1.0, None)):
        pairs = stages(random_share=share)[1][1]
        pairs.attach(network())
        partner = pairs.partners(paired_batch(), seeded())
        assert (partner != torch.arange(N_CELLS)).all(), "another cell"
        found = (state[partner] == state).float().mean()
        assert found >= same if same else 0.3 < found < 0.7
    assert torch.equal(partner, pairs.partners(paired_batch(), seeded())), "same seed, same pairs"


def test_distillation_moves_the_students_alone(files):
    kept = {}

    class Watched(Trainer):
        def _enter(self, number):
            super()._enter(number)
            kept[number] = {name: value.clone() for name, value in self.model.state_dict().items()}

    model = network()
    trainer = Watched(model, stages()[0], Corpus(*files), TRAINING, VALIDATION, TrainSettings(**BUDGET))
    trainer.run()
    after = [*(kept[number] for number in range(3)), model.state_dict()]
    moved = [{name for name in one if not torch.equal(one[name], two[name])} for one, two in pairwise(after)]
    assert not any(name.startswith("fusion.") for name in moved[0]), "each modality alone needs no fusion"
    assert not any("students" in name for name in moved[1]) and "fusion.fuse.weight" in moved[1]
    students = {name for name in model.state_dict() if "fusion.students" in name}
    assert moved[2] == students, "encoder, fusion and heads keep still"
    assert all(parameter.requires_grad for parameter in model.parameters()), "of a model that is handed on"


def test_the_teacher_gets_no_gradient():
    model, distillation = network(), stages()[1][2]
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for parameter in distillation.trains(model):
        parameter.requires_grad_(True)
    distillation.loss(model, distillation.prepare(paired_batch(), seeded())).loss.backward()
    with_gradient = {name for name, value in model.named_parameters() if value.grad is not None and value.grad.any()}
    assert with_gradient and all(name.startswith("fusion.students") for name in with_gradient)


def distilled(batch):
    """A model whose students learned from some cells."""
    model, distillation = network().train(), stages(profile_weight=0.0)[1][2]
    distillation.attach(model)
    optimiser = torch.optim.Adam(distillation.trains(model), lr=2e-3)
    for step in range(8):
        optimiser.zero_grad()
        distillation.loss(model, distillation.prepare(batch, seeded(step))).loss.backward()
        optimiser.step()
        distillation.after_step(model, lambda rows: rows)
    return model.eval()


@torch.no_grad()
def explained(model, batch):
    """R2 of the embedding of accessibility by the student."""
    rna, atac = (model.encode(batch.only(m)).cell_BD for m in (0, 1))
    error = (model.fusion.imagine(1, rna) - atac).square().sum()
    return 1 - error / (atac - atac.mean(0)).square().sum()


def test_students_of_shuffled_cells_learn_nothing():
    """Teacher and student of different cells (the defect to avoid) give the mean embedding: this would show."""
    batch = paired_batch().every_gene(N_GENES)
    order = torch.randperm(N_CELLS, generator=seeded())
    other = [name for name in CellBatch._fields if name.startswith("atac")]
    library_B2 = torch.stack([batch.library_B2[:, 0], batch.library_B2[order, 1]], dim=1)
    shuffled = batch._replace(**{name: getattr(batch, name)[order] for name in other}, library_B2=library_B2)
    aligned, misled = (explained(distilled(cells), batch).item() for cells in (batch, shuffled))
    assert aligned > 0.3 and misled < 0.05


def test_the_linear_part_of_a_student_is_the_regression_of_all_cells_seen():
    model, distillation, batch = network().train(), stages()[1][2], paired_batch()
    distillation.attach(model)
    for rows in (slice(0, 30), slice(30, 61)):
        part = CellBatch(*(tensor[rows] for tensor in batch))
        distillation.loss(model, distillation.prepare(part, seeded()))
        # What another process pads with zeros is no cell.
        distillation.after_step(model, lambda rows: torch.cat([rows, torch.zeros_like(rows)]))
    with torch.no_grad():
        rna, atac = (model.encode(batch.only(m)).cell_BD.numpy() for m in (0, 1))
    fitted = Ridge(PENALTY).fit(rna - rna.mean(0), atac)
    straight = model.fusion.students[1].straight
    found = straight(torch.tensor(rna)).detach().numpy()
    assert ((found - fitted.predict(rna - rna.mean(0))) ** 2).mean() < 1e-3 * atac.var(0).mean()


def test_a_mixed_batch_embeds_each_cell_as_alone():
    batch, model = paired_batch(slice(0, 6)), network().eval()
    for part in model.fusion.students:
        torch.nn.init.normal_(part.straight.weight)
    rna, atac = batch.only(0), batch.only(1)
    kinds = [batch, rna, atac, batch, rna, atac]
    mixed = CellBatch(*(torch.stack([kind[f][row] for row, kind in enumerate(kinds)]) for f in range(len(batch))))
    with torch.no_grad():
        together = model(mixed, attention="cell")
        alone = [model(CellBatch(*(part[row : row + 1] for part in kind))) for row, kind in enumerate(kinds)]
    torch.testing.assert_close(together.cell_BD, torch.cat([one.cell_BD for one in alone]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together.tokens_BTD, torch.cat([one.tokens_BTD for one in alone]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together.attention[0].sum(1), torch.ones(6))
    imagined = model.fusion.imagine(1, model.encode(rna).cell_BD)
    torch.testing.assert_close(together.halves_MBD[1, 1], imagined[1], rtol=1e-4, atol=1e-5)


def test_dense_and_sparse_agree_with_fusion():
    batch, model = paired_batch(slice(0, 4)), network(layers=["explorer"]).eval()
    read = torch.zeros(4, 3, dtype=torch.long) + torch.arange(3)
    with torch.no_grad():
        sparse, dense = (model(batch, dense=dense, read_BT=read) for dense in (False, True))
    torch.testing.assert_close(sparse.cell_BD, dense.cell_BD, rtol=1e-3, atol=1e-4)
    assert sparse.tokens_BTD.shape == (4, 3, WIDTH)


@pytest.mark.parametrize("modality", [0, 1])
def test_a_cohort_of_one_modality_embeds(modality):
    batch, model = paired_batch(slice(0, 3)).only(modality), network().eval()
    embedded = model.cell_embedding(batch)
    own = model.encode(batch).cell_BD
    halves = (own, model.fusion.imagine(1, own)) if modality == 0 else (model.fusion.imagine(0, own), own)
    torch.testing.assert_close(embedded, model.fusion.join(*halves))
    assert model.gene_attention(batch).shape[:2] == batch.genes_BT.shape


def test_a_cell_without_counts_embeds():
    empty = sp.csr_matrix((2, N_GENES), dtype=np.int32)
    batch = encode(empty, empty, np.zeros((2, 2)), np.array([[False, False], [True, True]]))
    assert network().cell_embedding(batch).isfinite().all()


def test_a_saved_model_is_the_model_and_loads_whole_or_not_at_all(tmp_path):
    model, batch = network().eval(), paired_batch(slice(0, 5))
    torch.nn.init.normal_(model.fusion.students[1].fc2.weight)
    config = {"regulons": ["g0", "g1"], "recipe": "scmomer"}
    save_model(tmp_path / "model", model, VOCABULARY, config)
    loaded = load_model(tmp_path / "model").model
    for view in (batch, batch.only(0), batch.only(1)):
        assert torch.equal(loaded.cell_embedding(view), model.cell_embedding(view))
    del model.fusion.students[1]
    save_model(tmp_path / "broken", model, VOCABULARY, config)
    with pytest.raises(RuntimeError, match="fusion.students.1"):
        load_model(tmp_path / "broken")


@pytest.mark.parametrize("step", [2, 4, 6, 8, 10], ids=["first", "first over", "second", "second over", "third"])
def test_a_run_killed_in_any_stage_ends_with_the_same_bytes(files, tmp_path, step, whole):
    take_step, checkpoint = Trainer._take_step, Checkpoint(tmp_path / "run")

    def killed(self, *batch):
        if self.step == step:
            raise KeyboardInterrupt
        return take_step(self, *batch)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "_take_step", killed)
        trained(files, checkpoint=checkpoint)
    assert checkpoint.load()["step"] == step
    resumed = trained(files, checkpoint=checkpoint)
    for name, weights in whole["weights"].items():
        assert torch.equal(resumed["weights"][name], weights), name
    curves = [pd.DataFrame(run["rows"]).filter(regex="step|loss|floor|rate") for run in (resumed, whole)]
    pd.testing.assert_frame_equal(*curves, check_exact=True)


@pytest.fixture(scope="module")
def whole(files):
    """A run that was never stopped."""
    return trained(files)


def test_each_stage_has_a_rate_that_rises_and_falls(whole):
    rates = [row["learning_rate"] for row in whole["rows"] if row["split"] == "train"]
    assert len(rates) == 3 and max(rates) < 0.5 * TrainSettings.learning_rate, "the last step of each stage is slow"
    assert whole["steps"] == 12


@pytest.mark.slow
def test_two_processes_and_parts_give_the_weights_of_one(files, whole):
    # A batch of the last stages may leave a process without cells.
    result = trained(files, processes=2, accumulate=2)
    for name, weights in whole["weights"].items():
        np.testing.assert_allclose(result["weights"][name], weights, rtol=1e-4, atol=1e-5, err_msg=name)


def test_patience_ends_a_stage_and_keeps_its_best(files, monkeypatch):
    worse = torch.tensor([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    monkeypatch.setattr(Trainer, "validate", lambda self: torch.ones(3, 2) + worse * self.step)
    ended = trained(files, validate_steps=1, patience=2)
    assert ended["steps"] == 9, "each stage is best after its first step, and waits two more"


@pytest.mark.parametrize("name", ["RNA", "accessibility"])
def test_a_cohort_without_pairs_is_refused_before_anything_runs(tmp_path, name):
    rna_only = np.full(N_CELLS, name == "RNA")
    files = write_corpus(tmp_path, ~rna_only, rna_only)
    with pytest.raises(InputError, match=r"stage 2 .*fused pairs.* RNA and accessibility.*library of both"):
        trained(files)


def test_only_paired_cells_teach_the_students(files):
    corpus = Corpus(*files)
    trainer = Trainer(network(), stages()[0], corpus, TRAINING, VALIDATION, TrainSettings(**BUDGET))
    first, *others = trainer.stages
    assert len(first.cells) == len(TRAINING), "each modality is learned from all that have it"
    assert all(not corpus.missing[stage.cells].any() and len(stage.cells) < 50 for stage in others)
    assert [stage.steps for stage in trainer.stages] == [4, 4, 4]


def test_a_mixed_cohort_is_embedded_and_fine_tuned_like_any_other(files, whole, tmp_path):
    """Models of this kind need nothing of their own where they are used."""
    model = network()
    model.load_state_dict(whole["weights"])
    save_model(tmp_path / "model", model, VOCABULARY, {"regulons": ["g0", "g1"], "recipe": "scmomer"})
    where = dict(zip(("shards", "cells", "vocabulary"), files, strict=True))
    corpus = Corpus(*files)
    batches = [(np.arange(N_CELLS), encode_cells(corpus, np.arange(N_CELLS)))]
    embedding = embed_batches(load_model(tmp_path / "model"), corpus.cells, batches, 1, "cpu")
    assert embedding.shape == (N_CELLS, WIDTH) and np.isfinite(embedding.X).all()
    np.testing.assert_allclose(embedding.obsm["X_regulons"].sum(1), 1, rtol=1e-4)
    finetune_task.main(
        model=tmp_path / "model", **where, settings={"epochs": 1, "rank": 2, "linear_components": 5, "batch_cells": 16},
        task={"column": "state"}, fold=0, seed=0, adapter=tmp_path, predictions=tmp_path / "predictions.parquet",
        group="sample", folds=2, metrics=tmp_path / "metrics.tsv", run=tmp_path / "run.json",
    )  # fmt: skip
    table = pd.read_parquet(tmp_path / "predictions.parquet")
    has = pd.read_parquet(where["cells"]).loc[table["cell"], ["has_rna", "has_atac"]]
    right = (table["truth"] == table["predicted"]).groupby(has.agg(tuple, axis=1).to_numpy()).mean()
    assert len(right) == 3 and right.min() > 0.7


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"stages": [0.5, 0.5]}, "stages"),
        ({"stages": [0.5, 0.5, 0.5]}, "stages"),
        ({"random_share": 2}, "random_share"),
    ],
)
def test_settings_are_checked(settings, words):
    with pytest.raises(InputError, match=words):
        make_objective({"name": "fusion"} | settings, N_GENES)


@pytest.mark.parametrize(("sizes", "words"), [({"fusion": False}, "model.fusion"), ({"linear_path": False}, "linear")])
def test_a_model_that_cannot_is_refused(files, sizes, words):
    parts = stages()[1]
    with pytest.raises(InputError, match=words):
        for part in parts:
            part.attach(network(**sizes))
