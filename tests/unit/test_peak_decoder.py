"""Peaks come back from cell embeddings, on simulated cells whose accessibility is of low rank."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.metrics import roc_auc_score

from regulonformer.adapt.peak_decoder import PeakSettings, fit_peak_decoder, relative_log_depth, start_decoder
from regulonformer.errors import InputError

N_TRAIN, N_TEST, N_PEAKS, WIDTH, RANK = 400, 200, 300, 12, 4
SETTINGS = PeakSettings(rank=RANK, epochs=15)


@pytest.fixture(scope="module")
def world():
    """Embeddings, counts and true log rates; the embedding holds the factors of the rates, turned and scaled."""
    rng = np.random.default_rng(0)
    n_cells = N_TRAIN + N_TEST
    factors, vectors = rng.normal(size=(n_cells, RANK)), rng.normal(scale=0.6, size=(N_PEAKS, RANK))
    log_rate = np.log(rng.gamma(0.5, 0.5, N_PEAKS) + 0.02) + factors @ vectors.T
    depth = rng.lognormal(0, 0.5, n_cells)
    counts = sp.csr_matrix(rng.poisson(np.exp(log_rate) * depth[:, None]))
    embedding = 5 + 3 * factors @ rng.normal(size=(RANK, WIDTH)) + rng.normal(scale=0.1, size=(n_cells, WIDTH))
    return embedding.astype(np.float32), counts


def scores(decoder, world, cells):
    embedding, counts = world
    depth = relative_log_depth(counts[cells], counts[:N_TRAIN].sum() / N_TRAIN)
    with torch.no_grad():
        return decoder(torch.as_tensor(embedding[cells]), torch.as_tensor(depth))


def mean_nll(decoder, world, cells):
    target = torch.as_tensor(world[1][cells].toarray(), dtype=torch.float32)
    return decoder.nll(scores(decoder, world, cells), target).item() / target.numel()


def peak_auroc(decoder, world, cells):
    opened, ranked = world[1][cells].toarray() > 0, scores(decoder, world, cells).numpy()
    judged = [p for p in range(N_PEAKS) if 10 <= opened[:, p].sum() <= len(opened) - 10]
    return np.mean([roc_auc_score(opened[:, p], ranked[:, p]) for p in judged])


@pytest.mark.parametrize("likelihood", ["poisson", "bernoulli"])
def test_held_out_cells_are_predicted_better_than_by_the_mean_profile(world, likelihood):
    embedding, counts = world
    settings = PeakSettings(likelihood, rank=RANK, epochs=15)
    train, test = slice(N_TRAIN), slice(N_TRAIN, None)
    floor = start_decoder(embedding[train], counts[train], settings)
    fitted = fit_peak_decoder(embedding[train], counts[train], settings)
    assert mean_nll(fitted, world, test) < 0.9 * mean_nll(floor, world, test)
    assert peak_auroc(fitted, world, test) > peak_auroc(floor, world, test) + 0.1


def test_untrained_decoder_is_the_mean_profile_at_the_depth_of_the_cell(world):
    embedding, counts = world
    decoder = start_decoder(embedding, counts, SETTINGS)
    rate = decoder(torch.as_tensor(embedding[:3]), torch.zeros(3)).exp().detach()
    mean = torch.as_tensor(np.asarray(counts.mean(0)).ravel(), dtype=torch.float32)
    torch.testing.assert_close(rate, mean.expand(3, -1), atol=2e-3, rtol=0.01)
    double = decoder(torch.as_tensor(embedding[:3]), torch.full((3,), np.log(2.0), dtype=torch.float32)).exp()
    torch.testing.assert_close(double, 2 * rate)


def test_cells_without_information_teach_nothing(world):
    # Embeddings of other cells: whatever is learned from them must not look better on held-out cells.
    embedding, counts = world
    shuffled = np.random.default_rng(1).permutation(embedding)
    train, test = slice(N_TRAIN), slice(N_TRAIN, None)
    fitted = fit_peak_decoder(shuffled[train], counts[train], SETTINGS)
    floor = start_decoder(shuffled[train], counts[train], SETTINGS)
    assert mean_nll(fitted, (shuffled, counts), test) > mean_nll(floor, (shuffled, counts), test) - 0.005
    assert peak_auroc(fitted, (shuffled, counts), test) < peak_auroc(floor, (shuffled, counts), test) + 0.02


def test_chunks_give_what_one_piece_gives(world):
    embedding, counts = world
    whole, chunked = (
        fit_peak_decoder(embedding[:64], counts[:64], PeakSettings(rank=RANK, epochs=2, chunk_peaks=size))
        for size in (N_PEAKS, 70)
    )
    for one, other in zip(whole.parameters(), chunked.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    cell, depth = torch.as_tensor(embedding[:5]), torch.zeros(5)
    parts = torch.cat([whole(cell, depth, peaks) for peaks in whole.chunks(70)], dim=1)
    torch.testing.assert_close(parts, whole(cell, depth))


def test_weight_of_open_entries_leaves_the_start_at_the_data(world):
    # The weight moves the emphasis and not the probabilities: at the mean profile the gradient of the bias is zero.
    embedding, counts = world
    opened = torch.as_tensor(counts.toarray(), dtype=torch.float32)
    for weight in (1.0, 8.0):
        decoder = start_decoder(embedding, counts, PeakSettings("bernoulli", rank=RANK, pos_weight=weight))
        decoder.nll(decoder(torch.as_tensor(embedding), torch.zeros(len(opened))), opened).backward()
        # What is left is the pseudo count: half an open cell of a peak, times its weight.
        assert decoder.peak_bias.grad.abs().max() < weight


def test_same_seed_same_bytes_and_a_peak_never_seen_is_finite(world):
    embedding, counts = world
    silent = counts[:50].tolil()
    silent[:, 7] = 0
    one, other = (fit_peak_decoder(embedding[:50], silent.tocsr(), PeakSettings(rank=RANK, epochs=1)) for _ in range(2))
    for name, value in one.state_dict().items():
        assert torch.isfinite(value).all() and torch.equal(value, other.state_dict()[name])


def test_unknown_likelihood_is_refused(world):
    with pytest.raises(InputError, match="gaussian"):
        start_decoder(*world, PeakSettings("gaussian"))
