"""The decoder of peaks: more than the mean profile where the embedding tells, weights that count, odds as they are."""

import numpy as np
import pytest
import torch

from regulonformer.adapt.peak_decoder import PeakDecoder, decode_peaks
from regulonformer.evaluate.translation import score_fold


@pytest.fixture(scope="module")
def world():
    """Peaks, half of which follow two directions of an embedding of six; some are rare."""
    rng = np.random.default_rng(0)
    cells = rng.normal(size=(900, 6)).astype(np.float32)
    slopes = rng.normal(size=(2, 60)) * (np.arange(60) < 30)
    odds = cells[:, :2] @ slopes + rng.uniform(-3, 0, 60)
    chances = 1 / (1 + np.exp(-odds))
    return cells, chances, (rng.random(odds.shape) < chances).astype(np.float32), np.arange(900) < 600


def decode(world, cells=None, cap=20.0, seed=0):
    known, _, opened, train = world
    cells = known if cells is None else cells
    return decode_peaks(cells[train], opened[train], np.arange(600) % 5 == 0, cells[~train], cap, seed)


def test_it_learns_what_the_embedding_tells_and_no_more(world):
    _, chances, opened, train = world
    predicted = decode(world)
    mean = np.broadcast_to(opened[train].mean(0), predicted.shape)
    ours, floor = (score_fold(part, opened[~train], "peak") for part in (predicted, mean))
    assert ours["pearson_per_peak"][:30].mean() > 0.25 and abs(ours["pearson_per_peak"][30:].mean()) < 0.1
    assert ours["pearson_per_cell"].mean() > floor["pearson_per_cell"].mean() + 0.05
    assert ours["rmse"].mean() < floor["rmse"].mean()
    blind = decode(world, np.random.default_rng(1).normal(size=(900, 6)).astype(np.float32))
    assert np.abs(blind - mean).mean() < 0.05, "without information it stays the mean profile"


@pytest.mark.parametrize("cap", [1.0, 20.0])
def test_probabilities_are_those_of_the_data_whatever_the_weights(world, cap):
    _, chances, _, train = world
    assert np.abs(decode(world, cap=cap) - chances[~train]).mean() < 0.06


def test_open_entries_of_rare_peaks_pull_as_much_as_their_weight():
    opened = torch.zeros(100, 3)
    opened[:50, 0], opened[:10, 1], opened[:2, 2] = 1, 1, 1
    decoder = PeakDecoder(torch.randn(100, 4), opened, cap=20.0)
    torch.testing.assert_close(decoder.weight_P, torch.tensor([1.0, 90.5 / 10.5, 20.0]))
    cells = torch.randn(1, 4)
    logits = (decoder(cells) + decoder.weight_P.log()).detach().sigmoid()[0]
    pulls = []
    for state in (torch.ones(1, 3), torch.zeros(1, 3)):
        decoder.zero_grad()
        decoder.loss(cells, state).backward()
        pulls.append(decoder.peaks.bias.grad * 3)
    torch.testing.assert_close(pulls[0], -decoder.weight_P * (1 - logits))
    torch.testing.assert_close(pulls[1], logits)


def test_it_starts_as_the_mean_profile_and_comes_back_with_its_seed(world):
    cells, _, opened, _ = world
    start = PeakDecoder(torch.tensor(cells), torch.tensor(opened), cap=20.0)
    np.testing.assert_allclose(start(torch.zeros(1, 6)).sigmoid().detach()[0], opened.mean(0), atol=1e-3)
    assert np.array_equal(decode(world, seed=3), decode(world, seed=3))


def test_without_validation_cells_nothing_tells_when_to_stop_and_it_stays_the_mean_profile(world):
    cells, _, opened, _ = world
    predicted = decode_peaks(cells[:50], opened[:50], np.zeros(50, bool), cells[50:60], 20.0, 0)
    np.testing.assert_allclose(predicted, np.tile((opened[:50].sum(0) + 0.5) / 51, (10, 1)), rtol=1e-4)
