"""How many of the TFs ranked first for a branch are true ones."""

import numpy as np
import pandas as pd

COLUMNS = ["method", "dataset", "fold", "seed", "metric", "value", "ci_low", "ci_high", "branch", "true_tfs"]
TOP = 20
METRICS = ("precision_at_true", f"precision_at_{TOP}")


def branches_of(parents: dict[str, str | None]) -> dict[str, list[str]]:
    """Branches of a tree of states: the states that lead to one leaf alone, named after the leaf.

    Parameters
    ----------
    parents
        State to the state it comes from.
    """
    leaves = [name for name in parents if name not in parents.values()]
    paths = {}
    for leaf in leaves:
        path, name = [], leaf
        while name is not None:
            path.insert(0, name)
            name = parents[name]
        paths[leaf] = path
    shared = [name for name in parents if sum(name in path for path in paths.values()) > 1]
    return {leaf: [name for name in path if name not in shared] for leaf, path in paths.items()}


def score_ranking(
    scores_of_seed: list[dict[str, pd.Series]],
    true: dict[str, set[str]],
    tfs: list[str],
    *,
    n: int,
    confidence: float,
    seed: int,
) -> list[tuple]:
    """Judge a ranking of TFs per branch.

    Parameters
    ----------
    scores_of_seed
        For each seed of the method, branch to the scores of TFs; a TF that has none counts as the lowest.
    true
        Branch to its true TFs.
    tfs
        TFs that are judged.
    n
        Resamples; TFs are drawn with replacement, the same for all branches and seeds.
    confidence
        Level of the percentile interval.
    seed
        Seed of the draw.

    Returns
    -------
    list of tuple
        (seed or "all", metric, value, ci_low, ci_high, branch, true_tfs) for every branch, and for their mean (branch
        `all`). Metrics: precision_at_true, the share of true ones among as many TFs as are true; precision_at_20, which
        cannot exceed true_tfs / 20. Seed "all" is the mean over seeds, its interval takes both sources of chance.
    """
    rng, tails = np.random.default_rng(seed), [(1 - confidence) / 2, (1 + confidence) / 2]
    tfs = sorted(tfs)
    once = np.ones((1, len(tfs)), dtype=int)
    drawn_RT = np.concatenate([once, rng.multinomial(len(tfs), np.full(len(tfs), 1 / len(tfs)), size=n)])
    n_true = {branch: len(known & set(tfs)) for branch, known in true.items()}
    n_true["all"] = sum(n_true.values())
    samples = {}
    for number, scores in enumerate(scores_of_seed):
        found = {branch: _resampled(scores[branch].reindex(tfs), true[branch], drawn_RT) for branch in true}
        found["all"] = np.mean(list(found.values()), axis=0)
        samples[str(number)] = found
    everything = {branch: np.concatenate([found[branch] for found in samples.values()], axis=1) for branch in n_true}
    rows = []
    for name, found in [*(samples.items() if len(samples) > 1 else []), ("all", everything)]:
        for branch, sample_MR in found.items():
            # The first resample of each seed is the TFs as they are.
            value_M = sample_MR[:, :: n + 1].mean(1)
            for metric, value, sample_R in zip(METRICS, value_M, sample_MR, strict=True):
                rows.append((name, metric, value, *np.nanquantile(sample_R, tails), branch, n_true[branch]))
    return rows


def _resampled(score: pd.Series, true: set[str], drawn_RT: np.ndarray) -> np.ndarray:
    """Metrics of each resample, in which a TF occurs as often as `drawn_RT` says; metrics x resamples."""
    order = np.argsort(-score.fillna(-np.inf).to_numpy(), kind="stable")
    times_RT, is_true_T = drawn_RT[:, order], score.index.isin(true)[order]
    before_RT = times_RT.cumsum(1) - times_RT
    n_true_R = times_RT[:, is_true_T].sum(1)

    def precision(n_R: np.ndarray) -> np.ndarray:
        """Share of true ones among the first n."""
        taken_RT = np.clip(n_R[:, None] - before_RT, 0, times_RT)
        return np.where(n_R > 0, taken_RT[:, is_true_T].sum(1) / np.maximum(n_R, 1), np.nan)

    return np.stack([precision(n_true_R), precision(np.full_like(n_true_R, TOP))])
