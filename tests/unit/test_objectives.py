import warnings

import numpy as np
import pytest
import torch

from regulonformer.errors import InputError
from regulonformer.model.batch import MASKED, MISSING, CellBatch, RegulonEdges
from regulonformer.model.config import ModelConfig
from regulonformer.model.encoder import Regulonformer
from regulonformer.objectives import make_objective
from regulonformer.objectives.masked import MaskedConfig, MaskedModelling, counts, score

N_GENES, N_ACTIVE = 60, 20


def model():
    torch.manual_seed(1)
    config = ModelConfig(width=16, heads=2, slots=6, dropout=0.0)
    edges = RegulonEdges(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 9, 1, 30]), torch.ones(4), torch.tensor([0, 1]))
    return Regulonformer(config, N_GENES, edges, torch.full((N_GENES, 2), -np.log(N_GENES))).eval()


def cells(n_cells=3):
    generator = seeded()
    genes = torch.stack([torch.randperm(N_GENES, generator=generator)[:N_ACTIVE] for _ in range(n_cells)])
    rna, atac = (torch.poisson(torch.full(genes.shape, 2.0), generator=generator) + 1 for _ in range(2))
    state, library = torch.zeros_like(genes), torch.stack([rna.sum(1), atac.sum(1)], dim=1)
    return CellBatch(genes, rna.log1p(), atac.log1p(), state, state, state.bool(), rna, atac, library)


def objective(**settings):
    return MaskedModelling(MaskedConfig.from_dict(settings), N_GENES)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_targets_belong_to_their_gene_and_modality():
    batch = cells(4)
    matrix = torch.zeros(4, 2, N_GENES)
    for cell in range(4):
        matrix[cell, 0, batch.genes_BT[cell]] = batch.rna_counts_BT[cell]
        matrix[cell, 1, batch.genes_BT[cell]] = batch.atac_counts_BT[cell]
    masked = objective().prepare(batch, seeded()).batch
    targets = counts(masked)
    for cell, token in (~masked.pad_BT).nonzero().tolist():
        for modality in range(2):
            assert targets[cell, token, modality] == matrix[cell, modality, masked.genes_BT[cell, token]]


def test_masks_hide_what_is_scored_and_nothing_else():
    batch = cells(64)
    masked = objective(fraction=0.25, rna_only=0.3, atac_only=0.5).prepare(batch, seeded())
    hidden = torch.stack([masked.batch.rna_state_BT == MASKED, masked.batch.atac_state_BT == MASKED], dim=-1)
    assert torch.equal(hidden, masked.scored_BTM)
    scored = masked.scored_BTM.any(-1)
    assert (scored[:, :N_ACTIVE].sum(1) == 5).all(), "a quarter of 20 active genes"
    assert (scored[:, N_ACTIVE:].sum(1) == 5).all(), "and as many zeros"
    share = [
        (masked.scored_BTM[scored] == torch.tensor(mode)).all(-1).float().mean()
        for mode in ([True, False], [False, True])
    ]
    assert share[0] == pytest.approx(0.3, abs=0.06) and share[1] == pytest.approx(0.5, abs=0.06)
    assert (masked.batch.rna_BT[hidden[..., 0]] == 0).all()


def test_sampled_zeros_are_silent_genes_and_no_gene_comes_twice():
    masked = objective(zero_fraction=3.0).prepare(cells(16), seeded()).batch
    for cell in range(16):
        genes = masked.genes_BT[cell][~masked.pad_BT[cell]]
        assert len(genes.unique()) == len(genes)
    assert (masked.rna_counts_BT[:, N_ACTIVE:] == 0).all()


def test_weights_make_the_scored_entries_stand_for_the_whole_profile():
    masked = objective().prepare(cells(8), seeded())
    scored = masked.scored_BTM.any(-1)
    # A quarter of 20 active and of 40 silent genes.
    torch.testing.assert_close((masked.weight_BT * scored)[:, :N_ACTIVE].sum(1), torch.full((8,), 5.0))
    torch.testing.assert_close((masked.weight_BT * scored)[:, N_ACTIVE:].sum(1), torch.full((8,), 10.0))


def test_missing_modality_is_neither_masked_nor_scored():
    batch = cells(8)
    batch = batch._replace(atac_state_BT=torch.full_like(batch.atac_state_BT, MISSING))
    masked = objective().prepare(batch, seeded())
    assert (masked.batch.atac_state_BT == MISSING).all() and not masked.scored_BTM[..., 1].any()
    assert (masked.scored_BTM[..., 0].sum(1) == 10).all(), "what would hide accessibility hides RNA"
    result = objective()(model(), batch, seeded())
    assert torch.isfinite(result.loss) and result.weight_M[1] == 0


def test_untrained_model_stands_on_the_floor():
    result = objective()(model(), cells(), seeded())
    torch.testing.assert_close(result.nll_M, result.floor_M)


def test_loss_counts_scored_entries_only():
    network = model()
    masked = objective().prepare(cells(), seeded())
    encoded = network(masked.batch)
    before = score(network, encoded, masked).nll_M
    unscored = ~masked.scored_BTM[..., 0]
    other = masked.batch._replace(rna_counts_BT=masked.batch.rna_counts_BT + 9 * unscored)
    torch.testing.assert_close(score(network, encoded, masked._replace(batch=other)).nll_M, before)


def test_nothing_to_mask_is_zero_with_a_warning():
    batch = cells()
    empty = batch._replace(pad_BT=torch.ones_like(batch.pad_BT))
    network = model()
    with pytest.warns(RuntimeWarning, match="no gene to mask"):
        result = objective()(network, empty, seeded())
    assert result.loss == 0
    result.loss.backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in network.parameters())


def test_gradient_reaches_every_parameter_once_heads_are_off_zero():
    network = model().train()
    for head in (network.heads.from_token, network.heads.from_cell):
        torch.nn.init.normal_(head.weight, std=0.1)
    torch.nn.init.normal_(network.shortcut.projection)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        objective()(network, cells(8), seeded()).loss.backward()
    without = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.abs().sum()]
    assert not without


def test_one_batch_can_be_overfitted():
    network, batch, learn = model().train(), cells(4), objective(zero_fraction=0.0)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2)
    first = None
    for _ in range(150):
        result = learn(network, batch, seeded())
        optimiser.zero_grad()
        result.loss.backward()
        optimiser.step()
        first = first if first is not None else result.nll_M
    # The floor of Poisson noise around 3 with a perfect mean is about 0.6 of the untrained loss here.
    assert (result.nll_M < 0.8 * first).all()


def test_losses_of_parts_add_up_to_that_of_the_batch():
    """Also where cells of one part lack a modality that those of another have."""
    network, batch = model(), cells(5)
    for head in (network.heads.from_token, network.heads.from_cell):
        torch.nn.init.normal_(head.weight, std=0.1)
    lacks = torch.zeros_like(batch.atac_state_BT)
    lacks[3:] = MISSING
    prepared = objective().prepare(batch._replace(atac_state_BT=lacks), seeded())
    whole = objective().loss(network, prepared)
    parts = [objective().loss(network, prepared.part(rows)) for rows in (slice(0, 2), slice(2, 3), slice(3, 5))]
    for name in whole._fields:
        torch.testing.assert_close(sum(getattr(part, name) for part in parts), getattr(whole, name), msg=name)


def test_profile_is_that_of_the_whole_cell_before_masking():
    batch = cells(4)
    prepared = objective(profile_genes=25).prepare(batch, seeded())
    full = counts(batch.every_gene(N_GENES))
    assert len(prepared.genes_G.unique()) == 25
    assert torch.equal(prepared.profile_BGM, full[:, prepared.genes_G])


def test_half_precision_stays_within_its_digits():
    prepared, network = objective().prepare(cells(8), seeded()), model()
    for head in (network.heads.from_token, network.heads.from_cell):
        torch.nn.init.normal_(head.weight, std=0.1)
    exact = objective().loss(network, prepared)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = objective().loss(network, prepared)
    assert rounded.loss.dtype == torch.float32 and rounded.loss != exact.loss
    torch.testing.assert_close(rounded.loss, exact.loss, rtol=0.01, atol=0.0)
    assert torch.equal(rounded.floor_M, exact.floor_M), "the floor needs no model"


def test_objectives_go_by_name():
    assert isinstance(make_objective({}, N_GENES), MaskedModelling)
    assert make_objective({"name": "masked", "fraction": 0.5}, N_GENES).config.fraction == 0.5
    with pytest.raises(InputError, match="unknown objective 'mask'.*Known are masked, values"):
        make_objective({"name": "mask"}, N_GENES)


def test_same_seed_same_masks():
    one, other = (objective().prepare(cells(), seeded(5)) for _ in range(2))
    assert torch.equal(one.batch.genes_BT, other.batch.genes_BT) and torch.equal(one.scored_BTM, other.scored_BTM)
    assert not torch.equal(one.scored_BTM, objective().prepare(cells(), seeded(6)).scored_BTM)


@pytest.mark.parametrize("settings", [{"share": 1}, {"fraction": 0}, {"rna_only": 0.7, "atac_only": 0.7}])
def test_bad_settings_are_refused(settings):
    with pytest.raises(InputError):
        MaskedConfig.from_dict(settings)


def test_floor_is_the_mean_profile_of_the_buffers():
    network = model()
    masked = objective().prepare(cells(), seeded())
    with torch.no_grad():
        network.heads.from_token.bias += 1
    result = score(network, network(masked.batch), masked)
    assert not np.allclose(result.nll_M, result.floor_M)
