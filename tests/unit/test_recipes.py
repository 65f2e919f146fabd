"""The recipe files, and the objective of scDynOmics."""

import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from regulonformer.config.schema import check_settings, read_yaml
from regulonformer.corpus.encoding import encode
from regulonformer.corpus.profile import value_profile
from regulonformer.embed import embed_batches
from regulonformer.errors import InputError
from regulonformer.model.batch import MASKED, MISSING, RegulonEdges
from regulonformer.model.config import ModelConfig
from regulonformer.model.encoder import Regulonformer
from regulonformer.model.heads import N_BINS, value_bins
from regulonformer.objectives import OBJECTIVES, make_objective
from regulonformer.pretrained import Pretrained

N_CELLS, N_GENES = 24, 60
LOSSES = ["huber", "bins"]


@pytest.fixture
def counts():
    """RNA and accessibility counts of cells in two states; a third of all genes is silent."""
    rng = np.random.default_rng(0)
    rate = np.where((np.arange(N_GENES) % 2)[None] == (np.arange(N_CELLS) % 2)[:, None], 3.0, 0.2)
    rate[:, ::3] = 0
    return tuple(sp.csr_matrix(rng.poisson(rate / scale).astype(np.int32)) for scale in (1, 2))


def library_of(counts):
    return np.column_stack([np.asarray(matrix.sum(1)).ravel() for matrix in counts]).astype(np.float32)


@pytest.fixture
def batch(counts):
    return encode(*counts, library_of(counts))


def objective(**settings):
    return make_objective({"name": "values"} | settings, N_GENES)


def model(learn, counts=None):
    """A model with the heads that the objective needs; at the mean profile of some cells, if they are given."""
    torch.manual_seed(1)
    config = ModelConfig(width=16, heads=2, slots=6, layers=["explorer"] * 2, dropout=0.0, predicts=learn.predicts)
    edges = RegulonEdges(torch.tensor([0, 0]), torch.tensor([0, 9]), torch.ones(2), torch.tensor([0]))
    network = Regulonformer(config, N_GENES, edges, torch.full((N_GENES, 2), -np.log(N_GENES)))
    if counts is not None:
        missing = np.zeros((N_CELLS, 2), bool)
        profile = value_profile(counts, library_of(counts), missing, binned=learn.predicts == "bins")
        network.heads.start.copy_(torch.tensor(profile))
    return network.eval()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_every_recipe_file_is_valid_and_builds(request):
    root = request.config.rootpath
    schema = read_yaml(root / "workflow" / "schemas" / "recipe.schema.yaml")
    files = sorted((root / "config" / "recipes").glob("*.yaml"))
    assert {"regulon", "scdmc", "scdynomics"} <= {file.stem for file in files}
    for file in files:
        recipe = check_settings(read_yaml(file), schema, str(file))
        assert recipe["objective"]["name"] in OBJECTIVES
        ModelConfig.from_dict(recipe["model"] | {"predicts": make_objective(recipe["objective"], N_GENES).predicts})


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"name": "values", "zero_fraction": 1.0}, ["'zero_fraction'", "'fraction'"]),
        ({"name": "masked", "loss": "huber"}, ["'loss'"]),
        ({"name": "value"}, ["objective/name", "'value'", "masked, values"]),
        ({"fraction": 0.15}, ["'name'", "objective"]),
        ({"name": "values", "loss": "mse"}, ["objective/loss", "'mse'", "huber, bins"]),
    ],
)
def test_setting_of_another_objective_is_refused(request, block, words):
    schema = read_yaml(request.config.rootpath / "workflow" / "schemas" / "recipe.schema.yaml")
    with pytest.raises(InputError) as caught:
        check_settings({"description": "", "model": {}, "objective": block}, schema, "mine.yaml")
    assert [word for word in ["mine.yaml", *words] if word not in str(caught.value)] == []


def test_defaults_are_those_of_the_named_objective(request):
    schema = read_yaml(request.config.rootpath / "workflow" / "schemas" / "recipe.schema.yaml")
    filled = check_settings({"description": "", "model": {}, "objective": {"name": "values"}}, schema, "mine.yaml")
    assert filled["objective"] == {"name": "values", "fraction": 0.15, "loss": "huber"}


def test_a_run_of_the_recipe_is_planned(project):
    planned = project.snakemake("--dry-run", "--config", "pretrain={recipe: scdynomics}").stdout
    assert "Pretraining recipe scdynomics" in planned and "recipe regulon" not in planned


@pytest.mark.parametrize("settings", [{"share": 1}, {"fraction": 0}, {"fraction": 1.5}, {"loss": "mse"}])
def test_bad_settings_are_refused(settings):
    with pytest.raises(InputError):
        objective(**settings)


def test_so_many_active_genes_are_hidden_in_both_modalities(batch):
    hidden = objective(fraction=0.3).prepare(batch, seeded())
    for modality, state_BT in enumerate((hidden.batch.rna_state_BT, hidden.batch.atac_state_BT)):
        assert torch.equal(state_BT == MASKED, hidden.scored_BTM[..., modality])
    assert torch.equal(hidden.scored_BTM[..., 0], hidden.scored_BTM[..., 1])
    n_active = (~batch.pad_BT).sum(1)
    assert torch.equal(hidden.scored_BTM[..., 0].sum(1), (0.3 * n_active).floor().long())
    assert not hidden.batch.rna_BT[hidden.scored_BTM[..., 0]].any(), "what is hidden cannot be read"
    assert not (hidden.scored_BTM[..., 0] & batch.pad_BT).any()


def test_genes_that_are_zero_in_both_modalities_are_never_scored(batch):
    # The dense form lists every gene, the silent ones too.
    dense = batch.every_gene(N_GENES)
    hidden = objective(fraction=1.0).prepare(dense, seeded())
    active = (dense.rna_BT > 0) | (dense.atac_BT > 0)
    assert torch.equal(hidden.scored_BTM.any(-1), active) and not active.all()


def test_target_of_gene_and_modality_is_its_input(counts, batch):
    # The defect to avoid: B x M x N turned into B x N x M by reshape, which pairs genes with the values of others.
    matrix_BMN = np.stack([matrix.toarray() for matrix in counts], axis=1)
    input_BMN = np.log1p(matrix_BMN * (1e4 / library_of(counts)[..., None]))
    target_BTM = objective().prepare(batch, seeded()).values_BTM
    for cell, token in (~batch.pad_BT).nonzero().tolist():
        gene = batch.genes_BT[cell, token]
        for modality in range(2):
            assert target_BTM[cell, token, modality].item() == pytest.approx(input_BMN[cell, modality, gene], rel=1e-5)


def test_huber_loss_by_hand(counts, batch):
    learn = objective()
    network, hidden = model(learn, counts), learn.prepare(batch, seeded())
    with torch.no_grad():
        network.heads.from_token.bias.copy_(torch.tensor([0.5, -0.25]))
    terms = learn.loss(network, hidden)
    sums, entries = torch.zeros(2), torch.zeros(2)
    for cell, token, modality in hidden.scored_BTM.nonzero().tolist():
        gene = batch.genes_BT[cell, token]
        predicted = network.heads.start[gene, modality, 0] + (0.5, -0.25)[modality]
        error = (predicted - (batch.rna_BT, batch.atac_BT)[modality][cell, token]).abs().item()
        sums[modality] += error**2 / 2 if error < 1 else error - 0.5
        entries[modality] += 1
    torch.testing.assert_close(terms.nll_M, sums)
    torch.testing.assert_close(terms.weight_M, entries)
    torch.testing.assert_close(terms.loss.item(), (sums / entries).mean().item())


def test_bins_are_whole_units_with_zero_and_the_top_apart():
    values = torch.tensor([0.0, 0.01, 1.0, 1.01, 6.5, 99.0])
    assert value_bins(values).tolist() == [0, 1, 1, 2, 7, N_BINS - 1]


def test_profile_is_that_of_active_genes(counts):
    mean = value_profile(counts, library_of(counts), np.zeros((N_CELLS, 2), bool), binned=False)
    share = np.exp(value_profile(counts, library_of(counts), np.zeros((N_CELLS, 2), bool), binned=True))
    dense = [matrix.toarray() for matrix in counts]
    active, gene = (dense[0] > 0) | (dense[1] > 0), 4
    values = np.log1p(dense[1] * (1e4 / library_of(counts)[:, 1:]))[active[:, gene], gene]
    assert mean[gene, 1, 0] == pytest.approx(values.mean(), rel=0.1)
    assert share[gene, 1, 0] == pytest.approx((values == 0).mean(), abs=0.05)
    np.testing.assert_allclose(share.sum(-1), 1, rtol=1e-6)
    assert np.isfinite(mean).all() and np.isfinite(np.log(share)).all(), "also of genes that were never seen"


def test_cells_that_lack_a_modality_do_not_count_for_it(counts):
    library, missing = library_of(counts), np.zeros((N_CELLS, 2), bool)
    missing[12:, 1] = True
    lacking = (counts[0], sp.csr_matrix(sp.diags((~missing[:, 1]).astype(np.int32)) @ counts[1]))
    first = tuple(matrix[:12] for matrix in counts)
    np.testing.assert_allclose(
        value_profile(lacking, library, missing, binned=False)[:, 1],
        value_profile(first, library[:12], missing[:12], binned=False)[:, 1],
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_untrained_model_stands_on_the_floor_of_the_profile(counts, batch, loss):
    learn = objective(loss=loss)
    hidden = learn.prepare(batch, seeded())
    terms = learn.loss(model(learn, counts), hidden)
    torch.testing.assert_close(terms.nll_M, terms.floor_M)
    assert (terms.floor_M < 0.8 * learn.loss(model(learn), hidden).floor_M).all(), "a profile is better than none"


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_of_parts_add_up(counts, batch, loss):
    learn = objective(loss=loss)
    network, hidden = model(learn, counts), learn.prepare(batch, seeded())
    torch.nn.init.normal_(network.heads.from_token.weight, std=0.1)
    whole, parts = (
        learn.loss(network, hidden),
        [learn.loss(network, hidden.part(slice(at, at + 7))) for at in range(0, N_CELLS, 7)],
    )
    for one, split in zip(whole, zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(sum(split), one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_cell_with_nothing_to_hide_is_zero_with_a_warning(counts, batch, loss):
    learn = objective(loss=loss)
    network = model(learn, counts)
    with pytest.warns(RuntimeWarning, match="no gene to mask"):
        hidden = learn.prepare(batch._replace(pad_BT=torch.ones_like(batch.pad_BT)), seeded())
    terms = learn.loss(network, hidden)
    assert terms.loss == 0 and not terms.weight_M.any()
    terms.loss.backward()
    assert all(value.grad is None or torch.isfinite(value.grad).all() for value in network.parameters())


@pytest.mark.parametrize("loss", LOSSES)
def test_missing_modality_is_neither_hidden_nor_scored(counts, batch, loss):
    learn = objective(loss=loss)
    lacking = batch._replace(atac_state_BT=torch.full_like(batch.atac_state_BT, MISSING))
    hidden = learn.prepare(lacking, seeded())
    assert (hidden.batch.atac_state_BT == MISSING).all() and not hidden.scored_BTM[..., 1].any()
    terms = learn.loss(model(learn, counts), hidden)
    assert terms.weight_M[1] == 0 and terms.loss.item() == pytest.approx((terms.nll_M[0] / terms.weight_M[0]).item())


@pytest.mark.parametrize("loss", LOSSES)
def test_one_batch_can_be_overfitted(counts, batch, loss):
    learn = objective(loss=loss)
    network, few = model(learn, counts).train(), type(batch)(*(part[:4] for part in batch))
    hidden = learn.prepare(few, seeded())
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(120):
        terms = learn.loss(network, hidden)
        optimiser.zero_grad()
        terms.loss.backward()
        optimiser.step()
    assert (terms.nll_M < 0.1 * terms.floor_M).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_every_parameter_learns_the_pooling_token_too(counts, batch, loss):
    learn = objective(loss=loss, fraction=0.5)
    network = model(learn, counts).train()
    torch.nn.init.normal_(network.heads.from_token.weight, std=0.1)
    network.shortcut.start_from(torch.randn(N_GENES, 16), torch.zeros(N_GENES, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learn(network, batch, seeded()).loss.backward()
    assert network.cell_token.grad.abs().sum() > 0
    without = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.abs().sum()]
    assert not without


def test_same_seed_same_masks(batch):
    one, other = (objective().prepare(batch, seeded(5)) for _ in range(2))
    assert torch.equal(one.scored_BTM, other.scored_BTM)
    assert not torch.equal(one.scored_BTM, objective().prepare(batch, seeded(6)).scored_BTM)


@pytest.mark.parametrize("loss", LOSSES)
def test_half_precision_gives_about_the_same_loss(counts, batch, loss):
    learn = objective(loss=loss)
    network, hidden = model(learn, counts), learn.prepare(batch, seeded())
    torch.nn.init.normal_(network.heads.from_token.weight, std=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        half = learn.loss(network, hidden).loss
    assert half.dtype == torch.float32 and half.item() == pytest.approx(
        learn.loss(network, hidden).loss.item(), rel=0.02
    )


def test_embedding_of_a_model_without_regulon_layers_names_no_regulons(counts, batch):
    vocabulary = pd.DataFrame({"symbol": [f"g{gene}" for gene in range(N_GENES)]})
    pretrained = Pretrained(model(objective(), counts), vocabulary, {"regulons": ["g0"]}, None, None)
    cells = embed_batches(
        pretrained, pd.DataFrame(index=[f"c{cell}" for cell in range(N_CELLS)]), [(range(N_CELLS), batch)], 1, "cpu"
    )
    assert cells.shape == (N_CELLS, 16) and "X_regulons" not in cells.obsm and "regulons" not in cells.uns
