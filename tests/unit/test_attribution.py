import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from regulonformer.adapt.linear import LinearPath
from regulonformer.adapt.tasks import Classifier
from regulonformer.explain.attention import regulon_attention
from regulonformer.explain.attribution import (
    ExplainSettings,
    choose_cells,
    explain_cells,
    integrated_gradients,
)
from regulonformer.explain.baseline import class_means, list_baseline, mean_of_others
from regulonformer.explain.tables import attribution_table, completeness
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
    atac[list(missing_atac)] = 0
    state = torch.full_like(genes, OBSERVED)
    atac_state = state.clone()
    atac_state[list(missing_atac)] = MISSING
    return CellBatch(genes * ~pad, rna, atac, state, atac_state, pad, rna, atac, torch.full((n, 2), 100.0))


def take(batch, rows):
    return CellBatch(*(tensor[torch.as_tensor(rows)] for tensor in batch))


class Weights(nn.Module):
    """A linear classifier on gene values, whose integrated gradients are known: weight x (value - baseline)."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        rna, atac = (torch.randn(3, N_GENES, generator=generator) for _ in range(2))
        # Centred over classes, as what is explained is.
        self.rna, self.atac = rna - rna.mean(0), atac - atac.mean(0)

    def forward(self, batch):
        return torch.stack(
            [
                (self.rna[c][batch.genes_BT] * batch.rna_BT + self.atac[c][batch.genes_BT] * batch.atac_BT).sum(1)
                for c in range(3)
            ],
            dim=1,
        )


def real_model(spread=0.5):
    torch.manual_seed(0)
    edges = RegulonEdges(torch.tensor([0, 0, 1]), torch.tensor([0, 5, 1]), torch.ones(3), torch.tensor([0, 1]))
    config = ModelConfig(width=16, heads=2, layers=["regulon", "explorer"], slots=4)
    encoder = Regulonformer(config, N_GENES, edges, torch.zeros(N_GENES, 2))
    model = Classifier(encoder, LinearPath.fit([make_batch(40)], N_GENES, 4, 100, 0), 3).eval()
    for parameter in model.task_head.parameters():
        nn.init.normal_(parameter, std=spread)
    return model.requires_grad_(False)


def dense(batch):
    """RNA and accessibility as cells x modalities x genes."""
    every = batch.every_gene(N_GENES)
    return torch.stack([every.rna_BT, every.atac_BT], dim=1)


def test_linear_model_by_hand():
    batch, model = make_batch(6), Weights()
    classes = torch.tensor([0, 1, 2, 0, 1, 2])
    found = integrated_gradients(model, batch, classes, steps=4)
    rna, atac = found.values_BMT.unbind(1)
    torch.testing.assert_close(rna, model.rna[classes].gather(1, batch.genes_BT) * batch.rna_BT)
    torch.testing.assert_close(atac, model.atac[classes].gather(1, batch.genes_BT) * batch.atac_BT)
    assert found.error_B.abs().max() < 1e-5
    assert (rna + atac).sum(1) == pytest.approx(found.change_B.numpy(), abs=1e-5)


def test_what_all_logits_share_explains_nothing():
    class Shifted(Weights):
        def forward(self, batch):
            return super().forward(batch) + 7 * batch.rna_BT.sum(1, keepdim=True)

    batch, classes = make_batch(6), torch.zeros(6, dtype=torch.long)
    plain, shifted = (integrated_gradients(model, batch, classes, steps=4) for model in (Weights(), Shifted()))
    torch.testing.assert_close(plain.values_BMT, shifted.values_BMT, atol=1e-4, rtol=1e-4)


def test_baseline_is_the_mean_cell_of_the_other_classes_whatever_their_size():
    batch, class_B = make_batch(9, missing_atac=[0]), np.array([0, 0, 0, 1, 1, 1, 1, 1, 2])
    halves = [(take(batch, rows), class_B[rows]) for rows in ([0, 3, 4, 8], [1, 2, 5, 6, 7])]
    means = class_means(halves, 4, N_GENES)
    values = dense(batch)
    torch.testing.assert_close(means[1], values[3:8].mean(0))
    torch.testing.assert_close(means[0, 1], values[1:3, 1].mean(0))  # cell 0 was not measured in accessibility
    assert means[3].isnan().all()
    others = mean_of_others(means)
    torch.testing.assert_close(others[0], (means[1] + means[2]) / 2)
    torch.testing.assert_close(others[3], means[:3].mean(0))


def test_what_a_cell_lacks_speaks_for_its_class():
    """A gene that is silent in the cell, but not in the mean cell, must be compared with."""
    batch, model, classes = make_batch(6, missing_atac=[2]), Weights(), torch.tensor([0, 1, 2, 0, 1, 2])
    baseline = torch.rand(3, 2, N_GENES, generator=torch.Generator().manual_seed(1)) + 0.1
    listed, (rna, atac) = list_baseline(batch, classes, baseline, N_GENES)
    assert (~listed.pad_BT).all() and (listed.genes_BT == torch.arange(N_GENES)).all()
    torch.testing.assert_close(dense(listed), dense(batch))
    torch.testing.assert_close(rna, baseline[classes, 0])
    assert (atac[2] == 0).all() and (listed.atac_state_BT[2] == MISSING).all()
    explained = explain_cells(
        model, lambda rows: take(batch, rows), np.arange(6), classes.numpy(), N_GENES, ExplainSettings(), baseline
    )
    change = dense(batch) - baseline[classes]
    change[2, 1] = 0
    expected = torch.stack([model.rna[classes], model.atac[classes]], dim=1) * change
    np.testing.assert_allclose(explained.values_XMN, expected, atol=1e-5)
    np.testing.assert_array_equal(explained.direction_XMN, change.sign())
    assert completeness({0: explained.check_X3})["overall"]["relative_error"] < 1e-5


def test_only_the_strongest_genes_of_the_baseline_are_added():
    batch, classes = make_batch(4), torch.tensor([0, 1, 0, 1])
    baseline = torch.zeros(2, 2, N_GENES)
    baseline[0, 0, [3, 4, 5]] = torch.tensor([1.0, 3.0, 2.0])
    listed, (rna, _) = list_baseline(batch, classes, baseline, 2)
    for cell, (gene, pad) in enumerate(zip(listed.genes_BT, listed.pad_BT, strict=True)):
        own = set(batch.genes_BT[cell][~batch.pad_BT[cell]].tolist())
        added = {4, 5} if classes[cell] == 0 else set()
        assert sorted(gene[~pad].tolist()) == sorted(own | added)
        at_three = rna[cell][~pad][gene[~pad] == 3].tolist()
        # A weaker gene is compared only where the cell has it.
        assert at_three == ([1.0 if classes[cell] == 0 else 0.0] if 3 in own else [])


@pytest.mark.parametrize("kind", ["others", "zero"])
def test_real_model_is_complete_and_keeps_modalities_apart(kind):
    model, batch = real_model(), make_batch(8, seed=1, missing_atac=[2])
    means = class_means([(make_batch(30, seed=2), np.arange(30) % 3)], 3, N_GENES)
    baseline = mean_of_others(means) if kind == "others" else None
    found = integrated_gradients(model, batch, torch.arange(8) % 3, 256, baseline, N_GENES)
    checks = torch.stack([found.change_B, found.error_B - found.listing_B, found.listing_B], dim=1).numpy()
    # The value embedding has kinks at its support points: the error falls with the points, not at once.
    assert completeness({0: checks})["overall"]["relative_error"] < 0.03
    rna, atac = found.values_BMT.unbind(1)
    assert (rna[found.batch.pad_BT] == 0).all() and (atac[2] == 0).all() and (atac[3] != 0).any()
    assert (found.listing_B == 0).all() == (kind == "zero")


def test_steps_are_added_until_the_integral_adds_up():
    model, batch = real_model(spread=2.0), make_batch(16, seed=1)
    errors = {}
    cells = (np.arange(16), np.arange(16) % 3)
    for steps in (6, 384):
        explained = explain_cells(model, lambda rows: take(batch, rows), *cells, N_GENES, ExplainSettings(steps=steps))
        errors[steps] = completeness({0: explained.check_X3})["overall"]["relative_error"]
        assert (explained.steps_X >= 6).all() and (explained.steps_X <= steps).all()
    assert errors[384] < 0.04 < errors[6]


def test_attribution_of_a_cell_does_not_depend_on_its_companions():
    batch, model = make_batch(6), Weights()
    together = integrated_gradients(model, batch, torch.zeros(6, dtype=torch.long), steps=8)
    alone = integrated_gradients(model, take(batch, [4]), torch.zeros(1, dtype=torch.long), steps=8)
    torch.testing.assert_close(together.values_BMT[[4]], alone.values_BMT)


def test_the_cells_explained_are_the_cells_chosen():
    """Positions in a subset (correct cells of a class, one fold) must not be used on the whole corpus."""
    corpus, cells = make_batch(30), np.array([f"cell{i:02d}" for i in range(30)])
    rng = np.random.default_rng(2)
    held_out = np.sort(rng.permutation(30)[:15])
    truth = np.array(["abc"[i % 3] for i in held_out])
    predictions = pd.DataFrame({"cell": cells[held_out], "truth": truth, "predicted": truth})
    predictions.loc[predictions.index[::4], "predicted"] = "wrong"
    predictions = predictions.sample(frac=1, random_state=0)
    chosen = choose_cells([predictions], per_class=2, seed=0)
    by_cell = predictions.set_index("cell")
    assert (by_cell.loc[chosen["cell"], "predicted"].to_numpy() == chosen["class"].to_numpy()).all()
    assert chosen.groupby("class").size().max() <= 2

    rows = pd.Index(cells).get_indexer(chosen["cell"])
    classes = chosen["class"].map({"a": 0, "b": 1, "c": 2}).to_numpy()
    seen, model = [], Weights()

    def read(wanted):
        seen.extend(wanted)
        return take(corpus, wanted)

    explained = explain_cells(model, read, rows, classes, N_GENES, ExplainSettings())
    assert [f"cell{row:02d}" for row in seen] == chosen["cell"].tolist()
    # By hand, from the whole corpus and the cell's own id.
    symbols = np.array([f"g{i}" for i in range(N_GENES)])
    table = attribution_table(explained.values_XMN, chosen["class"].to_numpy(), symbols)
    of_a = [int(cell[4:]) for cell in chosen.loc[chosen["class"] == "a", "cell"]]
    expected = np.zeros(N_GENES)
    for row in of_a:
        for gene, value in zip(corpus.genes_BT[row].tolist(), corpus.rna_BT[row].tolist(), strict=True):
            expected[gene] += model.rna[0, gene].item() * value / len(of_a)
    got = table.query("`class` == 'a' and modality == 'rna'").set_index("gene")["attribution"]
    np.testing.assert_allclose(got.reindex(symbols).fillna(0), expected, atol=1e-5)


def test_choice_does_not_depend_on_row_order_and_every_seed_must_be_right():
    table = pd.DataFrame({"cell": [f"c{i}" for i in range(40)], "truth": "a", "predicted": "a"})
    first = choose_cells([table], 5, seed=1)
    pd.testing.assert_frame_equal(first, choose_cells([table.sample(frac=1, random_state=3)], 5, seed=1))
    assert choose_cells([table.assign(predicted="b")], 5, 0).empty
    other = table.assign(predicted=["a", "b"] * 20).sample(frac=1, random_state=1)
    assert set(choose_cells([table, other], 40, 0)["cell"]) == {f"c{i}" for i in range(0, 40, 2)}


def test_specificity_and_spread_by_hand():
    values = np.zeros((3, 2, 2), np.float32)
    values[:, 0, 0] = [1, 3, 1]
    table = attribution_table(values, np.array(["a", "a", "b"]), np.array(["g0", "g1"])).set_index("class")
    assert set(table.index) == {"a", "b"} and set(table["modality"]) == {"rna"} and set(table["gene"]) == {"g0"}
    assert table.loc["a", ["attribution", "std", "specificity"]].tolist() == [2, 1, 1]
    assert table.loc["b", ["attribution", "std", "specificity"]].tolist() == [1, 0, -1]
    assert table["n_cells"].to_dict() == {"a": 2, "b": 1}


def test_attention_counts_each_cell_by_its_own_genes():
    encoder, batch = real_model().encoder, make_batch(20, seed=3)
    found = regulon_attention(encoder, lambda rows: take(batch, rows), np.arange(20))
    assert found.shape == (2, 20, 2)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    # A cell alone, with no padding to share.
    cell = take(batch, [7])
    n_active = int((~cell.pad_BT).sum())
    by_hand = encoder.gene_attention(cell)[0, :n_active].mean(0)
    np.testing.assert_allclose(found[1, 7], by_hand, atol=1e-5)
