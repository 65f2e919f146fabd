"""Two groups: scores that are probabilities, without labels."""

import numpy as np
import pytest
from scipy import stats

from regulonformer.prior.two_groups import (
    Source,
    fit_two_groups,
    levels_of,
    standardise_to_null,
    tail_edges,
    upper_tail,
)

SHARES = np.array([0, 0.02, 0.1, 0.4, 0.8])
START = np.array([0, 0.05, 0.1, 0.2, 0.4])


@pytest.fixture(scope="module")
def pairs():
    """Pairs of four strata; the real ones have a z around 3 or -3, the others are null."""
    rng = np.random.default_rng(0)
    stratum = rng.choice(5, 20_000, p=[0, 0.5, 0.3, 0.15, 0.05])
    real = rng.random(len(stratum)) < SHARES[stratum]
    z = rng.normal(size=len(stratum)) + np.where(real, 3 * rng.choice([-1, 1], len(stratum)), 0)
    null = np.abs(rng.normal(size=50_000))
    return stratum, real, upper_tail(np.abs(z), null), len(null)


def test_shares_are_learned_and_scores_are_probabilities(pairs):
    stratum, real, tail, n_null = pairs
    model = fit_two_groups([Source(stratum, START)], tail, n_null)
    np.testing.assert_allclose(model.share[0], SHARES, atol=0.06)
    score = model.posterior([stratum], tail)
    for low, high in ((0, 0.1), (0.1, 0.3), (0.3, 0.7), (0.7, 0.9), (0.9, 1)):
        inside = (score > low) & (score <= high)
        assert abs(score[inside].mean() - real[inside].mean()) < 0.07
    assert model.log_likelihood_gain > 100


def test_without_signal_the_shares_stay_where_they_start():
    rng = np.random.default_rng(1)
    null = np.abs(rng.normal(size=50_000))
    stratum, z = rng.integers(1, 5, 500), np.full(500, np.nan)
    model = fit_two_groups([Source(stratum, START)], upper_tail(z, null), len(null))
    np.testing.assert_allclose(model.share[0], START, atol=1e-6)
    np.testing.assert_allclose(model.posterior([stratum], np.full(500, np.nan)), START[stratum], atol=1e-6)


def test_two_sources_support_each_other_and_one_may_be_fixed(pairs):
    stratum, _, tail, n_null = pairs
    listed = (np.arange(len(stratum)) % 3 == 0).astype(int)
    sources = [Source(stratum, START), Source(listed, np.array([0, 0.3]), learn=False)]
    model = fit_two_groups(sources, tail, n_null)
    assert model.share[1].tolist() == [0, 0.3]
    alone, both, other = (
        model.posterior([np.array([a]), np.array([b])], np.array([0.01])) for a, b in ((3, 0), (3, 1), (0, 1))
    )
    assert both > alone > 0 and both > other > 0
    assert model.posterior([np.array([0]), np.array([0])], np.array([1e-9])) == 0


def test_the_score_never_falls_with_association_or_support(pairs):
    stratum, _, tail, n_null = pairs
    model = fit_two_groups([Source(stratum, START)], tail, n_null)
    tails = np.geomspace(1, 1e-5, 50)
    table = np.array([model.posterior([np.full(50, s)], tails) for s in range(5)])
    assert (np.diff(table, axis=0) >= -1e-12).all() and (np.diff(table, axis=1) >= -1e-12).all()


def test_tails_are_those_of_the_null():
    null = np.abs(np.random.default_rng(2).normal(size=999))
    tail = upper_tail(null, null)
    assert tail.min() == pytest.approx(2 / 1000) and tail.max() == 1
    few = upper_tail(np.array([1.96, np.nan]), null[:50])
    assert few[0] == pytest.approx(2 * stats.norm.sf(1.96)) and np.isnan(few[1])


def test_every_tail_has_its_level():
    edges = tail_edges(10_000)
    assert edges[0] == 1 and edges[-1] == 0 and (np.diff(edges) < 0).all()
    level = levels_of(np.array([1.0, 0.951, 0.95, 1e-9, np.nan]), edges)
    assert level.tolist() == [0, 0, 1, len(edges) - 2, len(edges) - 1]


def test_z_is_against_the_null_alone():
    values = np.concatenate([np.linspace(-1, 1, 101), [5.0]])
    is_null = np.arange(102) < 101
    assert standardise_to_null(values, is_null, 10)[-1] == pytest.approx(5 / np.linspace(-1, 1, 101).std())
    assert standardise_to_null(np.array([0.5]), np.array([False]), 16)[0] == 2
