import numpy as np
import pytest
import torch

from regulonformer.errors import InputError
from regulonformer.model.batch import MASKED, MISSING, CellBatch, RegulonEdges
from regulonformer.model.config import ModelConfig
from regulonformer.model.embedding import TokenEmbedding
from regulonformer.model.encoder import Regulonformer
from regulonformer.model.heads import negative_binomial_nll
from regulonformer.model.pooling import FreePooling, Genome, Places, RegulonPooling

N_GENES, N_TFS = 60, 5


def edges(n_genes=N_GENES, n_tfs=N_TFS):
    generator = torch.Generator().manual_seed(0)
    genes = [
        torch.cat([torch.tensor([tf]), n_tfs + torch.randperm(n_genes - n_tfs, generator=generator)[:8]])
        for tf in range(n_tfs)
    ]
    slots = torch.arange(n_tfs).repeat_interleave(9)
    return RegulonEdges(slots, torch.cat(genes), torch.rand(len(slots), generator=generator) + 0.1, torch.arange(n_tfs))


def model(n_genes=N_GENES, n_tfs=N_TFS, **sizes):
    torch.manual_seed(1)
    config = ModelConfig.from_dict({"width": 16, "heads": 2, "slots": 6, "dropout": 0.0} | sizes)
    log_mean = torch.full((n_genes, 2), -np.log(n_genes))
    return Regulonformer(config, n_genes, edges(n_genes, n_tfs), log_mean, n_tfs=n_tfs).eval()


def cells(n_cells=3, n_tokens=20, n_genes=N_GENES, seed=0):
    generator = torch.Generator().manual_seed(seed)
    genes = torch.stack([torch.randperm(n_genes, generator=generator)[:n_tokens] for _ in range(n_cells)])
    rna, atac = (torch.poisson(torch.full(genes.shape, 2.0), generator=generator) + 1 for _ in range(2))
    state = torch.zeros_like(genes)
    library = torch.stack([rna.sum(1), atac.sum(1)], dim=1)
    return CellBatch(genes, rna.log1p(), atac.log1p(), state, state, state.bool(), rna, atac, library)


def columns(batch, order):
    """The same cells with their tokens in another order."""
    return CellBatch(*(part[:, order] for part in batch[:-1]), batch.library_B2)


KINDS = ["regulon", "tf", "explorer"]


def test_all_genes_active_equals_the_dense_reference():
    network, batch = model(layers=KINDS), cells(n_tokens=N_GENES)
    sparse, dense = network(batch), network(batch, dense=True)
    torch.testing.assert_close(sparse.tokens_BTD, dense.tokens_BTD, atol=1e-5, rtol=0)
    torch.testing.assert_close(sparse.cell_BD, dense.cell_BD, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_one_layer_equals_the_dense_reference_with_silent_genes(kind):
    # Silent genes differ from the reference only in what earlier layers would have made of them.
    network, batch = model(layers=[kind]), cells()
    sparse, dense = network(batch), network(batch, dense=True)
    torch.testing.assert_close(sparse.tokens_BTD, dense.tokens_BTD, atol=1e-5, rtol=0)
    torch.testing.assert_close(sparse.cell_BD, dense.cell_BD, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "pooling", [RegulonPooling(edges()), FreePooling(16, 4), FreePooling(16, 4, N_TFS)], ids=KINDS[:1] + ["free", "tf"]
)
def test_background_and_change_are_the_pool_over_every_gene(pooling):
    torch.manual_seed(0)
    vectors, silent = torch.randn(N_GENES, 16), torch.randn(2, N_GENES, 16)
    batch, pattern = cells(), torch.tensor([1, 0, 1])
    places, genome = Places.of(batch, pattern, N_GENES), Genome(vectors, silent)
    states = torch.randn(3, 21, 16)
    background, change = pooling(states - places.gather_silent(genome), places, genome)
    weights = pooling.weights(vectors)
    for cell in range(3):
        every = silent[pattern[cell]].clone()
        every[batch.genes_BT[cell]] = states[cell, 1:]
        whole = background[pattern[cell]] + change[cell]
        torch.testing.assert_close(whole, weights.T @ every[: len(weights)], atol=1e-5, rtol=1e-5)


def test_tf_layers_read_tfs_alone():
    network, batch = model(layers=["tf"]), cells()
    is_tf = batch.genes_BT < N_TFS
    targets = batch._replace(rna_BT=torch.where(is_tf, batch.rna_BT, batch.rna_BT + 2))
    tfs = batch._replace(rna_BT=torch.where(is_tf, batch.rna_BT + 2, batch.rna_BT))
    torch.testing.assert_close(network(targets).cell_BD, network(batch).cell_BD, atol=0, rtol=0)
    assert not torch.allclose(network(tfs).cell_BD, network(batch).cell_BD, atol=1e-3)
    with pytest.raises(InputError, match="no gene is one"):
        Regulonformer(ModelConfig(layers=["tf"]), N_GENES, edges(), torch.zeros(N_GENES, 2))


@pytest.mark.parametrize("dense", [False, True])
def test_only_the_tokens_asked_for_are_computed_and_they_are_the_same(dense):
    network, batch = model(), cells()
    batch.pad_BT[2, 15:] = True
    read = torch.tensor([[3, 1, 19], [0, 0, 2], [14, 15, 5]])
    whole, part = network(batch, dense=dense), network(batch, dense=dense, read_BT=read)
    torch.testing.assert_close(part.cell_BD, whole.cell_BD, atol=1e-6, rtol=0)
    torch.testing.assert_close(part.tokens_BTD, whole.tokens_BTD[torch.arange(3)[:, None], read], atol=1e-6, rtol=0)
    assert (part.tokens_BTD[2, 1] == 0).all(), "padding"
    assert network(batch, dense=dense, read_BT=read[:, :0]).tokens_BTD.shape == (3, 0, 16)


def test_bfloat16_is_near_float32_and_gives_float32():
    network, batch = model(layers=KINDS), cells()
    with torch.autocast("cpu", torch.bfloat16):
        half = network(batch)
    assert half.cell_BD.dtype == half.tokens_BTD.dtype == torch.float32
    error = (half.cell_BD - network(batch).cell_BD).square().mean().sqrt()
    assert 0 < error < 0.03, "the last norm brings states to a spread of 1"


def test_silent_gene_adds_nothing_but_its_input_state():
    embedding = model().embedding
    batch = cells(n_tokens=N_GENES)
    zeros = torch.zeros_like(batch.rna_BT)
    silent = batch._replace(rna_BT=zeros, atac_BT=zeros)
    static = embedding.silent(torch.zeros(1, 2, dtype=torch.bool))[0]
    torch.testing.assert_close(embedding(silent)[0], static[batch.genes_BT[0]])


def test_order_of_tokens_changes_nothing():
    network, batch = model(), cells()
    order = torch.randperm(20, generator=torch.Generator().manual_seed(3))
    one, other = network(batch), network(columns(batch, order))
    torch.testing.assert_close(one.cell_BD, other.cell_BD, atol=1e-5, rtol=0)
    torch.testing.assert_close(one.tokens_BTD[:, order], other.tokens_BTD, atol=1e-5, rtol=0)


def test_padding_changes_nothing():
    network, batch = model(), cells()
    padded = CellBatch(
        *(torch.cat([part, torch.zeros(3, 7, dtype=part.dtype)], dim=1) for part in batch[:-1]), batch.library_B2
    )
    padded.pad_BT[:, 20:] = True
    one, other = network(batch), network(padded)
    torch.testing.assert_close(one.cell_BD, other.cell_BD, atol=1e-5, rtol=0)
    torch.testing.assert_close(one.tokens_BTD, other.tokens_BTD[:, :20], atol=1e-5, rtol=0)
    assert (other.tokens_BTD[:, 20:] == 0).all()


def test_cell_lacking_a_modality_is_independent_of_the_others_in_its_batch():
    network, batch = model(), cells()
    state = batch.atac_state_BT.clone()
    state[1] = MISSING
    mixed = batch._replace(atac_state_BT=state)
    alone = CellBatch(*(part[1:2] for part in mixed))
    torch.testing.assert_close(network(mixed).cell_BD[1:2], network(alone).cell_BD, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        network(mixed, dense=True).cell_BD[1:2], network(alone, dense=True).cell_BD, atol=1e-5, rtol=0
    )
    assert not torch.allclose(network(mixed).cell_BD[1], network(batch).cell_BD[1], atol=1e-3)


def test_value_of_a_missing_or_masked_entry_is_not_read():
    network, batch = model(), cells()
    for state in (MASKED, MISSING):
        hidden = batch._replace(rna_state_BT=torch.full_like(batch.rna_state_BT, state))
        other = hidden._replace(rna_BT=hidden.rna_BT + 3)
        torch.testing.assert_close(network(hidden).cell_BD, network(other).cell_BD, atol=0, rtol=0)


def test_special_values_share_nothing_with_genes():
    embedding = TokenEmbedding(ModelConfig(width=16, heads=2), N_GENES)
    assert embedding.gene_vectors.num_embeddings == N_GENES and embedding.gene_vectors.padding_idx is None
    assert embedding.value_vectors.shape == (2, 16 + 2, 16)
    batch = cells(n_tokens=N_GENES)
    embedding(batch).square().sum().backward()
    assert (embedding.gene_vectors.weight.grad.norm(dim=1) > 0).all(), "every gene, the first included, learns"


def test_values_blend_and_pass_gradients():
    embedding, batch = TokenEmbedding(ModelConfig(width=16, heads=2), N_GENES), cells()
    step = embedding.value_max / (embedding.n_bins - 1)

    def at(value):
        return embedding(batch._replace(rna_BT=torch.full_like(batch.rna_BT, value)))

    torch.testing.assert_close(at(2.25 * step), 0.75 * at(2 * step) + 0.25 * at(3 * step), atol=1e-5, rtol=0)
    values = batch.rna_BT.clone().requires_grad_()
    embedding(batch._replace(rna_BT=values)).square().sum().backward()
    assert (values.grad != 0).all() and embedding.value_vectors.grad.abs().sum() > 0


def test_regulon_slots_are_the_tfs_and_their_targets():
    network, regulons = model(), edges()
    pooling = network.layers[0].pooling
    weights = pooling.weights(network.embedding.gene_vectors.weight)
    assert weights.shape == (N_GENES, N_TFS)
    torch.testing.assert_close(weights.sum(0), torch.ones(N_TFS))
    for slot in range(N_TFS):
        of_slot = regulons.slot_E == slot
        members, prior = regulons.gene_E[of_slot], regulons.weight_E[of_slot]
        assert set(weights[:, slot].nonzero().flatten().tolist()) == set(members.tolist())
        assert network.tf_S[slot] in members
        torch.testing.assert_close(weights[members, slot], prior / prior.sum())


def test_keys_and_values_share_no_storage():
    for layer in model().layers:
        weights = [getattr(layer.attention, f"{name}_proj").weight for name in "qkvo"]
        assert len({weight.untyped_storage().data_ptr() for weight in weights}) == 4
        assert not torch.equal(weights[1], weights[2])


@pytest.mark.parametrize("kind", KINDS)
def test_scale_of_keys_survives_a_panel_cut(kind):
    spread = {}
    for n_genes in (4000, 400):
        network = model(n_genes, n_tfs=64, layers=[kind], width=64, slots=64)
        # The same projection for both: what is measured is the scale of what it projects.
        torch.nn.init.normal_(network.layers[0].attention.k_proj.weight, generator=torch.Generator().manual_seed(2))
        batch = cells(4, 100, n_genes)
        keys = []
        network.layers[0].attention.k_proj.register_forward_hook(lambda _, __, out, keys=keys: keys.append(out))
        network(batch)
        spread[n_genes] = keys[0].std().item()
    assert spread[400] == pytest.approx(spread[4000], rel=0.1)


def test_attention_of_the_pooling_token_is_readable():
    network, batch = model(), cells()
    attention = network(batch, attention="cell").attention
    assert [part.shape for part in attention] == [(3, N_TFS), (3, 6), (3, N_TFS), (3, 6)]
    for part in attention:
        torch.testing.assert_close(part.sum(1), torch.ones(3))
    assert network(batch).attention is None


def test_attention_of_genes_over_regulons_is_readable():
    network, batch = model(), cells()
    attention = network.gene_attention(batch)
    assert attention.shape == (3, 20, N_TFS)
    torch.testing.assert_close(attention.sum(-1), torch.ones(3, 20))
    with pytest.raises(InputError, match="no regulon layer"):
        model(layers=["explorer"]).gene_attention(batch)


def test_linear_path_centres_cells_and_reads_no_hidden_value():
    torch.manual_seed(0)
    network, batch = model(), cells(200)
    path = network.shortcut
    assert not path(batch).any(), "zero before it is fitted"
    values = torch.stack([torch.zeros(200, N_GENES).scatter(1, batch.genes_BT, part) for part in batch[1:3]], dim=-1)
    path.start_from(torch.randn(N_GENES, 16), values.mean(0))
    with torch.no_grad():
        path.to_cell.weight.copy_(torch.eye(16))
    expected = torch.cat([(values[..., m] - path.mean[:, m]) @ path.projection[:, 8 * m :][:, :8] for m in (0, 1)], 1)
    torch.testing.assert_close(path(batch), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(path(batch.every_gene(N_GENES)), path(batch), atol=1e-4, rtol=1e-4)
    hidden = batch._replace(rna_state_BT=torch.full_like(batch.rna_state_BT, MASKED))
    other = hidden._replace(rna_BT=hidden.rna_BT + 3)
    torch.testing.assert_close(path(hidden), path(other), atol=0, rtol=0)
    missing = batch._replace(atac_state_BT=torch.full_like(batch.atac_state_BT, MISSING))
    assert not path(missing)[:, 8:].any() and path(missing)[:, :8].any()


def test_untrained_heads_predict_the_mean_profile():
    network, batch = model(), cells()
    encoded, genes = network(batch), torch.arange(N_GENES)
    vectors = network.embedding.gene_vectors.weight
    rate = network.heads.cell_log_rate(encoded.cell_BD, genes, vectors)
    torch.testing.assert_close(rate, network.heads.gene_log_mean.expand_as(rate))
    which = torch.zeros(20, dtype=torch.long)
    rate = network.heads.token_log_rate(encoded.tokens_BTD[0], encoded.cell_BD, which, batch.genes_BT[0], vectors)
    torch.testing.assert_close(rate, network.heads.gene_log_mean[batch.genes_BT[0]])


def test_negative_binomial_matches_torch():
    counts, mean, size = torch.tensor([0.0, 1.0, 7.0]), torch.tensor([0.3, 2.0, 4.0]), torch.tensor([0.5, 2.0, 9.0])
    reference = torch.distributions.NegativeBinomial(size, logits=mean.log() - size.log()).log_prob(counts)
    torch.testing.assert_close(negative_binomial_nll(counts, mean.log(), size.log()), -reference)


@pytest.mark.parametrize("log_size", [-3.0, 0.0, 4.0, 7.0])
def test_negative_binomial_keeps_its_digits_in_float32(log_size):
    counts, log_mean = torch.tensor([0.0, 1.0, 3.0, 40.0]), torch.tensor([-2.0, 0.0, 1.0, 3.0])
    exact = negative_binomial_nll(counts.double(), log_mean.double(), torch.full((4,), log_size).double())
    close = negative_binomial_nll(counts, log_mean, torch.full((4,), log_size))
    torch.testing.assert_close(close.double(), exact, atol=2e-3, rtol=1e-3)


def test_sizes_are_bounded():
    network = model()
    with torch.no_grad():
        network.heads.size_shift.fill_(100.0)
    assert network.heads.log_dispersion.max() == 7.0


@pytest.mark.parametrize("values", [{"widht": 8}, {"layers": ["regulons"]}, {"layers": []}, {"width": 10, "heads": 4}])
def test_bad_config_is_refused(values):
    with pytest.raises(InputError):
        ModelConfig.from_dict(values)


def test_config_survives_json():
    config = ModelConfig(width=32, layers=["explorer"])
    assert ModelConfig.from_dict(config.to_dict()) == config
