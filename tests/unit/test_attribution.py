import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from regulonformer.adapt.linear import LinearPath
from regulonformer.adapt.tasks import Classifier
from regulonformer.explain.attribution import (
    AttributionSums,
    attribute_cells,
    choose_cells,
    completeness,
    integrated_gradients,
)
from regulonformer.model.batch import MISSING, OBSERVED, CellBatch, RegulonEdges
from regulonformer.model.config import ModelConfig
from regulonformer.model.encoder import Regulonformer

N_GENES = 12


def make_batch(n, seed=0, missing_atac=()):
    rng = np.random.default_rng(seed)
    genes = torch.as_tensor(np.stack([rng.permutation(N_GENES)[:8] for _ in range(n)]))
    pad = torch.zeros_like(genes, dtype=torch.bool)
    pad[:, 7] = torch.as_tensor(rng.random(n) < 0.5)
    rna, atac = (torch.as_tensor(rng.gamma(2, 1, genes.shape), dtype=torch.float32) * ~pad for _ in range(2))
    state = torch.full_like(genes, OBSERVED)
    atac_state = state.clone()
    atac_state[list(missing_atac)] = MISSING
    return CellBatch(genes * ~pad, rna, atac, state, atac_state, pad, rna, atac, torch.full((n, 2), 100.0))


def take(batch, rows):
    return CellBatch(*(tensor[torch.as_tensor(rows)] for tensor in batch))


class Weights(nn.Module):
    """A linear classifier on gene values, whose integrated gradients are known: weight x value."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.rna, self.atac = torch.randn(3, N_GENES, generator=generator), torch.randn(3, N_GENES, generator=generator)

    def forward(self, batch):
        return torch.stack(
            [
                (self.rna[c][batch.genes_BT] * batch.rna_BT + self.atac[c][batch.genes_BT] * batch.atac_BT).sum(1)
                for c in range(3)
            ],
            dim=1,
        )


def test_linear_model_by_hand():
    batch, model = make_batch(6), Weights()
    classes = torch.tensor([0, 1, 2, 0, 1, 2])
    rna, atac, change, error = integrated_gradients(model, batch, classes, steps=4)
    torch.testing.assert_close(rna, model.rna[classes].gather(1, batch.genes_BT) * batch.rna_BT)
    torch.testing.assert_close(atac, model.atac[classes].gather(1, batch.genes_BT) * batch.atac_BT)
    assert error.abs().max() < 1e-5 and (rna + atac).sum(1) == pytest.approx(change.numpy(), abs=1e-5)


def test_real_model_is_complete_and_keeps_modalities_apart():
    torch.manual_seed(0)
    edges = RegulonEdges(torch.tensor([0, 0]), torch.tensor([0, 5]), torch.ones(2), torch.tensor([0]))
    config = ModelConfig(width=16, heads=2, layers=["regulon", "explorer"], slots=4)
    encoder = Regulonformer(config, N_GENES, edges, torch.zeros(N_GENES, 2))
    model = Classifier(encoder, LinearPath.fit([make_batch(40)], N_GENES, 4, 100, 0), 3).eval()
    for parameter in model.task_head.parameters():
        nn.init.normal_(parameter, std=0.5)
    batch = make_batch(8, seed=1, missing_atac=[2])
    errors = {}
    for steps in (32, 512):
        rna, atac, change, error = integrated_gradients(model, batch, torch.arange(8) % 3, steps=steps)
        errors[steps] = completeness({0: torch.stack([change, error], dim=1).numpy()})["overall"]["relative_error"]
    # The value embedding has kinks at its support points, so the error falls with the steps, not at once.
    assert errors[32] < 0.1 and errors[512] < 0.01
    assert (rna[batch.pad_BT] == 0).all() and (atac[2] == 0).all() and (atac[3] != 0).any()


def test_attribution_of_a_cell_does_not_depend_on_its_companions():
    batch, model = make_batch(6), Weights()
    together, *_ = integrated_gradients(model, batch, torch.zeros(6, dtype=torch.long), steps=8)
    alone, *_ = integrated_gradients(model, take(batch, [4]), torch.zeros(1, dtype=torch.long), steps=8)
    torch.testing.assert_close(together[[4]], alone)


def test_the_cells_explained_are_the_cells_chosen():
    """Positions in a subset (correct cells of a class, one fold) must not be used on the whole corpus."""
    corpus, cells = make_batch(30), np.array([f"cell{i:02d}" for i in range(30)])
    rng = np.random.default_rng(2)
    held_out = np.sort(rng.permutation(30)[:15])
    truth = np.array(["abc"[i % 3] for i in held_out])
    predictions = pd.DataFrame({"cell": cells[held_out], "truth": truth, "predicted": truth})
    predictions.loc[predictions.index[::4], "predicted"] = "wrong"
    predictions = predictions.sample(frac=1, random_state=0)
    chosen = choose_cells(predictions, per_class=2, seed=0)
    by_cell = predictions.set_index("cell")
    assert (by_cell.loc[chosen["cell"], "predicted"].to_numpy() == chosen["class"].to_numpy()).all()
    assert chosen.groupby("class").size().max() <= 2

    rows = pd.Index(cells).get_indexer(chosen["cell"])
    classes = chosen["class"].map({"a": 0, "b": 1, "c": 2}).to_numpy()
    seen, model, sums = [], Weights(), AttributionSums(list("abc"), N_GENES)

    def read(wanted):
        seen.extend(wanted)
        return take(corpus, wanted)

    checks = attribute_cells(model, read, rows, classes, sums, steps=4, batch_cells=2)
    assert [f"cell{row:02d}" for row in seen] == chosen["cell"].tolist() and len(checks) == len(chosen)
    # By hand, from the whole corpus and the cell's own id.
    table = sums.table(np.array([f"g{i}" for i in range(N_GENES)]), fold=1)
    of_a = [int(cell[4:]) for cell in chosen.loc[chosen["class"] == "a", "cell"]]
    expected = np.zeros(N_GENES)
    for row in of_a:
        for gene, value in zip(corpus.genes_BT[row].tolist(), corpus.rna_BT[row].tolist(), strict=True):
            expected[gene] += model.rna[0, gene].item() * value / len(of_a)
    got = table.query("`class` == 'a' and modality == 'rna'").set_index("gene")["attribution"]
    np.testing.assert_allclose(got.reindex([f"g{i}" for i in range(N_GENES)]).fillna(0), expected, atol=1e-5)


def test_choice_does_not_depend_on_row_order():
    table = pd.DataFrame({"cell": [f"c{i}" for i in range(40)], "truth": "a", "predicted": "a"})
    first = choose_cells(table, 5, seed=1)
    pd.testing.assert_frame_equal(first, choose_cells(table.sample(frac=1, random_state=3), 5, seed=1))
    assert choose_cells(table.assign(predicted="b"), 5, 0).empty


def test_specificity_and_spread_by_hand():
    sums = AttributionSums(["a", "b", "unseen"], 2)
    values = [np.array([[1.0], [3.0], [1.0]]), np.zeros((3, 1))]
    sums.add(np.array([0, 0, 1]), np.array([[0], [0], [0]]), np.zeros((3, 1), bool), values)
    table = sums.table(np.array(["g0", "g1"]), fold=0).set_index("class")
    assert set(table.index) == {"a", "b"} and set(table["modality"]) == {"rna"} and set(table["gene"]) == {"g0"}
    assert table.loc["a", ["attribution", "std", "specificity"]].tolist() == [2, 1, 1]
    assert table.loc["b", ["attribution", "std", "specificity"]].tolist() == [1, 0, -1]
    assert table["n_cells"].to_dict() == {"a": 2, "b": 1}
