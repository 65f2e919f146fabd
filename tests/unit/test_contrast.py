"""Two views of one cell: both are masked, neither gives the other away, and the momentum copy really moves."""

import numpy as np
import pytest
import torch

from regulonformer.errors import InputError
from regulonformer.model.batch import MASKED, MISSING, CellBatch, RegulonEdges
from regulonformer.model.config import ModelConfig
from regulonformer.model.encoder import Regulonformer
from regulonformer.objectives import make_objective
from regulonformer.objectives.contrast import ABOUT, lowest
from regulonformer.objectives.views import TOP_VALUE, rank_view, split_counts

N_GENES, N_ACTIVE = 60, 20


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def model():
    torch.manual_seed(1)
    config = ModelConfig(width=16, heads=2, slots=6, layers=["regulon", "explorer"], dropout=0.0)
    edges = RegulonEdges(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 9, 1, 30]), torch.ones(4), torch.tensor([0, 1]))
    return Regulonformer(config, N_GENES, edges, torch.full((N_GENES, 2), -np.log(N_GENES))).eval()


def cells(n_cells):
    generator = seeded()
    genes = torch.stack([torch.randperm(N_GENES, generator=generator)[:N_ACTIVE] for _ in range(n_cells)])
    rna, atac = (torch.poisson(torch.full(genes.shape, 2.0), generator=generator) + 1 for _ in range(2))
    observed, library = torch.zeros_like(genes), torch.stack([rna.sum(1), atac.sum(1)], dim=1)
    states = (observed, observed.clone())
    return CellBatch(genes, rna.log1p(), atac.log1p(), *states, observed.bool(), rna, atac, library)


def contrast(network=None, **settings):
    objective = make_objective({"name": "contrast", "queue": 8} | settings, N_GENES)
    objective.attach(network or model())
    return objective


def no_gather(rows):
    return rows


def test_both_views_hide_what_they_score():
    views = contrast(modality_share=0.0).prepare(cells(16), seeded())
    for view in views[:2]:
        for m, state_BT in enumerate((view.batch.rna_state_BT, view.batch.atac_state_BT)):
            hidden_BT = state_BT == MASKED
            assert hidden_BT.any() and torch.equal(hidden_BT, view.scored_BTM[..., m])
            values_BT = (view.batch.rna_BT, view.batch.atac_BT)[m]
            assert (values_BT[hidden_BT] == 0).all(), "what is hidden cannot be copied from the input"
    assert not torch.equal(views.first.scored_BTM[:, :20], views.second.scored_BTM[:, :20]), "masks of their own"


def test_views_share_no_count_and_lose_none():
    batch = cells(200)
    one, two = split_counts(batch, seeded())
    for name in ("rna", "atac"):
        parts = [getattr(view, f"{name}_counts_BT") for view in (one, two)]
        assert torch.equal(sum(parts), getattr(batch, f"{name}_counts_BT")) and min(part.min() for part in parts) == 0
        share_B = parts[0].sum(1) / sum(parts).sum(1)
        assert share_B.min() < 0.4 < 0.6 < share_B.max(), "how much of a cell a view shows says little of its depth"
    assert torch.equal(one.pad_BT, (one.rna_counts_BT == 0) & (one.atac_counts_BT == 0)), "or tokens would tell"
    expected = (one.rna_counts_BT * 1e4 / one.library_B2[:, :1]).log1p()
    torch.testing.assert_close(one.rna_BT, expected)
    torch.testing.assert_close(one.library_B2 + two.library_B2, batch.library_B2)


def test_ranks_order_genes_by_what_is_unusual_for_them():
    batch = cells(2)
    usual_N2 = torch.zeros(N_GENES, 2)
    gene = batch.genes_BT[0, 0]
    usual_N2[gene, 0] = -10.0  # hardly ever seen: the highest of the cell
    ranked = rank_view(batch, usual_N2)
    assert ranked.rna_BT[0, 0] == TOP_VALUE == ranked.rna_BT[0].max()
    counts, ranks = batch.rna_counts_BT[0, 1:], ranked.rna_BT[0, 1:]
    assert all(len(ranks[counts == n].unique()) == 1 for n in counts.unique()), "equal counts, equal ranks"
    assert torch.equal(ranked.rna_counts_BT, batch.rna_counts_BT), "targets stay counts"


def test_ranks_do_not_depend_on_the_order_of_genes():
    batch, order = cells(2), torch.randperm(20, generator=seeded(3))
    usual_N2 = torch.randn(N_GENES, 2, generator=seeded())
    shuffled = batch._replace(**{name: getattr(batch, name)[:, order] for name in batch._fields if name.endswith("BT")})
    torch.testing.assert_close(rank_view(shuffled, usual_N2).rna_BT, rank_view(batch, usual_N2).rna_BT[:, order])


def test_a_view_of_one_modality_shows_no_trace_of_the_other():
    batch = cells(3)
    silent = torch.zeros_like(batch.pad_BT)
    silent[:, :7] = True  # seven genes that only accessibility shows
    batch = batch._replace(rna_BT=batch.rna_BT.masked_fill(silent, 0), rna_counts_BT=batch.rna_counts_BT * ~silent)
    rna = batch.only(0)
    assert (rna.atac_state_BT == MISSING).all() and (rna.atac_BT == 0).all() and (rna.atac_counts_BT == 0).all()
    assert torch.equal(rna.pad_BT, silent), "or the presence of a token would tell"
    assert torch.equal(rna.only(1).pad_BT, rna.pad_BT), "a cell that lacks the modality stays as it is"


def test_cells_that_lack_a_modality_are_not_contrasted_with_it():
    batch = cells(4)
    batch.atac_state_BT[1] = MISSING
    batch.rna_BT[2] = batch.rna_counts_BT[2] = 0  # measured, but without a transcript: there is no view of it
    with pytest.warns(RuntimeWarning, match="no gene to mask"):
        views = contrast(modality_share=1.0).prepare(batch, seeded())
    assert views.contrasted_B.tolist() == [1, 0, 0, 1] and views.n_contrasted == 2


def test_the_momentum_copy_follows_the_model():
    network = model()
    objective = contrast(network, momentum=0.9)
    start = objective.teacher.cell_token.clone()
    with torch.no_grad():
        network.cell_token += 1.0
    objective.after_step(network, no_gather)
    torch.testing.assert_close(objective.teacher.cell_token, start + 0.1)


def test_the_queue_keeps_the_newest_keys_of_training_alone():
    network = model()
    objective, batch = contrast(network, modality_share=0.0), cells(3)
    objective(network.eval(), batch, seeded())
    objective.after_step(network, no_gather)
    assert not objective.queue_KVQE.any(), "validation leaves no trace"
    for seed in range(4):
        objective(network.train(), batch, seeded(seed))
        objective.after_step(network, no_gather)
    assert (objective.queue_KVQE[0, ..., :-ABOUT].norm(dim=-1) - 1).abs().max() < 1e-5, "12 keys fill 8 places"
    assert not objective.queue_KVQE[1].any(), "RNA and accessibility alone have queues of their own"


def test_keys_of_other_views_are_no_negatives():
    network, batch = model().train(), cells(3)
    objective = contrast(network, modality_share=1.0, near_share=0.0, depth_share=1.0, profile_weight=0.0)
    views = objective.prepare(batch, seeded())
    alone = objective.loss(network, views).loss
    keys = torch.nn.functional.normalize(torch.randn(2, 8, 16, generator=seeded()), dim=-1)
    objective.queue_KVQE[0] = torch.cat([keys, torch.zeros(2, 8, ABOUT)], dim=-1)
    torch.testing.assert_close(objective.loss(network, views).loss, alone)
    objective.queue_KVQE[1] = objective.queue_KVQE[0]
    assert objective.loss(network, views).loss > alone


def test_training_makes_a_cell_find_itself():
    torch.manual_seed(0)
    network, batch = model().train(), cells(12)
    deep = {name: 20 * getattr(batch, name) for name in ("rna_counts_BT", "atac_counts_BT", "library_B2")}
    batch = batch._replace(**deep)
    # The queue holds four earlier keys of each cell: near ones, most of which are no negatives.
    settings = {
        "weight": 10.0,
        "queue": 48,
        "near_share": 0.3,
        "depth_share": 1.0,
        "profile_weight": 0.0,
        "momentum": 0.5,
        "temperature": 0.2,
        "modality_share": 0.0,
    }
    objective = contrast(network, **settings)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)

    def share_found():
        views = objective.prepare(batch, seeded(99))
        with torch.no_grad():
            one, two = (torch.nn.functional.normalize(network(v.batch).cell_BD, dim=1) for v in views[:2])
        return ((one @ two.T).argmax(1) == torch.arange(12)).float().mean()

    before = share_found()
    for seed in range(200):
        optimiser.zero_grad()
        objective(network, batch, seeded(seed)).loss.backward()
        optimiser.step()
        objective.after_step(network, no_gather)
    assert before < 0.4 < 0.5 < share_found(), "one in twelve by chance"


def about(*rows):
    """Library, and log depth of RNA and accessibility."""
    return torch.tensor(rows, dtype=torch.float32)


def test_cells_of_the_same_state_are_no_negatives():
    objective, same = contrast(near_share=0.25, depth_share=1.0, queue=4), about(*[[0, 7, 7]] * 4)
    key = torch.nn.functional.normalize(torch.tensor([[1.0, 0.1], [0.0, 1.0]]), dim=1)
    queue = torch.nn.functional.normalize(torch.tensor([[1.0, 0.11], [0.0, -1.0], [-1.0, 0.0], [-1.0, -1.0]]), dim=1)
    queue = torch.cat([queue, same], dim=1)
    loss = objective._info_nce(key[:1], key[:1], queue, same[:1])
    without = contrast(near_share=0.0, depth_share=1.0)._info_nce(key[:1], key[:1], queue[1:], same[:1])
    torch.testing.assert_close(loss, without)


def test_negatives_are_of_the_same_library_and_of_about_the_same_depth():
    """Or the loss would fall by telling libraries and depths apart."""
    objective = contrast(near_share=0.0, depth_share=0.5)
    key, keys = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8]] * 5)
    of_keys = about([0, 7, 7], [0, 9, 7], [1, 7, 7], [0, 7.1, 7], [0, 5, 5])
    loss = objective._info_nce(key, key, torch.cat([keys, of_keys], dim=1), about([0, 7, 7]))
    # Two of the four cells of library 0 are negatives; that of library 1 and the deeper and shallower ones are not.
    expected = torch.log1p(2 * torch.tensor([(0.6 - 1.0) / objective.config.temperature]).exp())
    torch.testing.assert_close(loss, expected)
    alone = objective._info_nce(key, key, torch.cat([keys, of_keys], dim=1), about([2, 7, 7]))
    assert alone == 0, "a cell whose library has no keys yet learns nothing"


def test_the_lowest_share_is_of_candidates_alone():
    values, candidates = torch.tensor([[3.0, 1.0, 2.0, 0.0]]), torch.tensor([[True, True, True, False]])
    assert lowest(values, candidates, 0.7).tolist() == [[False, True, True, False]]
    assert not lowest(values, ~candidates, 0.5).any()


def test_a_state_taken_up_is_the_state_that_was_kept():
    network = model()
    objective = contrast(network)
    objective(network.train(), cells(3), seeded())
    objective.after_step(network, no_gather)
    other = contrast(model())
    other.restore(objective.state())
    assert torch.equal(other.queue_KVQE, objective.queue_KVQE)
    assert torch.equal(other.teacher.cell_token, objective.teacher.cell_token)


def test_settings_are_checked():
    with pytest.raises(InputError, match="momentum"):
        contrast(momentum=1.0)
    with pytest.raises(InputError, match="fractoin"):
        contrast(fractoin=0.1)
    with pytest.raises(InputError, match="near_share"):
        contrast(near_share=1.0)
    with pytest.raises(InputError, match="depth_share"):
        contrast(depth_share=0.0)
