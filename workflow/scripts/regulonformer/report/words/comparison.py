"""Say who is ahead, with intervals, and claim no more than they allow."""

import pandas as pd

from regulonformer.report.comparison import Comparison
from regulonformer.report.words.names import inside, listed, method_name, plural, score_name

TALLY = {"wins": "beats", "ties": "ties with", "loses": "loses to"}
WORDS = {"above": "ahead", "tied": "tied", "below": "behind"}


def comparison_sentence(
    comparison: Comparison, reaches: str = "Our model reaches", judged: str = "held-out cells"
) -> str:
    """Say who is ahead, with intervals, and claim no more than they allow."""
    metric = inside(score_name(comparison.metric))
    ours = f"{reaches} {_article(metric)} {metric} of {with_interval(comparison.ours)} on {judged}"
    if comparison.best is None:
        return f"{ours}. No baseline was run, so this number has nothing to stand against."
    best = f"{inside(method_name(comparison.best.name))} at {with_interval(comparison.best)}"
    if comparison.difference is not None:
        return f"{ours}. {_paired(comparison, best)}"
    gap = comparison.ours["value"] - comparison.best["value"]
    size = "level with it" if abs(gap) < 5e-4 else f"{abs(gap):.3f} {'higher' if gap > 0 else 'lower'}"
    endings = {
        "above": f"It is ahead of the best baseline, {best}: the two intervals are apart.",
        "below": f"It loses to the best baseline, {best}: the two intervals are apart.",
        "tied": f"It ties with the best baseline, {best}: our value is {size}, within overlapping intervals.",
        "unknown": (
            f"The best baseline is {best}: our value is {size}, but without intervals for both this proves nothing."
        ),
    }
    return f"{ours}. {endings[comparison.outcome]}"


def _paired(comparison: Comparison, best: str) -> str:
    """The verdict by the difference on the same resampled cells, and how many baselines ours is ahead of."""
    difference = f"the difference is {signed(comparison.difference)}"
    endings = {
        "above": f"It is ahead of the best baseline, {best}: {difference}.",
        "below": f"It loses to the best baseline, {best}: {difference}.",
        "tied": f"It ties with the best baseline, {best}: {difference}, which is not clear of 0.",
    }
    tally = [f"{word} {comparison.tally.get(key, 0)}" for key, word in TALLY.items()]
    against = f" Of {plural(sum(comparison.tally.values()), 'baseline')} it {listed(tally)}."
    return endings[comparison.outcome] + against


def others_sentence(others: list[Comparison]) -> str:
    """Outcomes by the metrics that do not decide."""
    said = []
    for outcome, word in WORDS.items():
        names = [inside(score_name(item.metric)) for item in others if item.outcome == outcome]
        said += [f"{word} in {listed(names)}"] if names else []
    return f" By the same rule it is {'; '.join(said)}." if said else ""


def with_interval(row: pd.Series) -> str:
    """A value with its interval in words, if it has one."""
    interval = "" if pd.isna(row["ci_low"]) else f" (interval {row['ci_low']:.3f} to {row['ci_high']:.3f})"
    return f"{row['value']:.3f}{interval}"


def signed(row: pd.Series) -> str:
    """A difference with its sign and interval."""
    interval = "" if pd.isna(row["ci_low"]) else f" (interval {row['ci_low']:+z.3f} to {row['ci_high']:+z.3f})"
    return f"{row['value']:+z.3f}{interval}"


def _article(noun: str) -> str:
    """An article that fits how the noun is spoken: an AUPRC, an R², an F0.1."""
    return "an" if noun[:1].lower() in "aeio" or noun in ("R²", "F0.1") else "a"
