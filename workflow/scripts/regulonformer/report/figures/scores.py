"""Scores of all methods beside each other: the forest plot."""

from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from regulonformer.report.comparison import (
    FLOORS,
    LOWER_IS_BETTER,
    compare,
    fold_scores,
    is_ours,
    methods_in_order,
    metrics_in_order,
    pooled_scores,
)
from regulonformer.report.style import BASELINE, CUT, OURS, panels
from regulonformer.report.words.names import method_name, score_name


def forest_plot(annotation: pd.DataFrame, dataset: str):
    """Scores with 95 % intervals of every method, best first; our model stands out.

    Parameters
    ----------
    annotation
        The tidy score table.
    dataset
        Which dataset to draw.
    """
    annotation = annotation[annotation["dataset"] == dataset]
    scores, folds = pooled_scores(annotation), fold_scores(annotation)
    methods, metrics = methods_in_order(scores), metrics_in_order(scores)[:3]
    figure, axes = panels(len(metrics), 3, 1.1 + 0.34 * len(methods), sharey=True)
    for axis, metric in zip(axes, metrics, strict=True):
        rows = scores[scores["metric"] == metric].set_index("method").reindex(methods)
        for position, (method, row) in enumerate(rows.iterrows()):
            colour = OURS if is_ours(method) else BASELINE
            single = folds.loc[(folds["method"] == method) & (folds["metric"] == metric), "value"]
            axis.scatter(single, np.full(len(single), position + 0.22), s=7, color=colour, alpha=0.45, lw=0)
            axis.plot(
                [row["ci_low"], row["ci_high"]], [position, position], color=colour, lw=2.2, solid_capstyle="round"
            )
            axis.scatter(row["value"], position, s=52, marker="D" if is_ours(method) else "o", color=colour, zorder=3)
        comparison = compare(scores, dataset, metric)
        if comparison and comparison.best is not None:
            axis.axvline(comparison.best["value"], color=CUT, lw=1, ls=(0, (3, 2)), zorder=0)
        arrow = "lower is better" if metric in LOWER_IS_BETTER else "higher is better"
        axis.set(title=fill(score_name(metric), 60 // len(metrics)), xlabel=arrow)
        axis.locator_params(axis="x", nbins=4)
        axis.grid(axis="x")
        axis.set_ylim(len(methods) - 0.5, -0.5)
        _zoom(axis, rows["value"], metric)
    axes[0].set_yticks(range(len(methods)), [method_name(method) for method in methods])
    for tick, method in zip(axes[0].get_yticklabels(), methods, strict=True):
        tick.set_fontweight("bold" if is_ours(method) else "normal")
    figure.legend(*_forest_legend(len(folds) > 0), loc="outside lower center", ncols=4)
    return figure


def _zoom(axis, values: pd.Series, metric: str) -> None:
    """Leave a floor that lies far off outside the axis, and write its value at the edge instead."""
    floors = [method for method in values.index if method in FLOORS]
    rest = values.drop(floors).dropna()
    if not floors or metric in LOWER_IS_BETTER or len(rest) < 2 or not np.isfinite(values[floors[0]]):
        return
    spread = max(rest.max() - rest.min(), 0.05)
    low, high = axis.get_xlim()
    if values[floors[0]] > rest.min() - 1.5 * spread:
        return
    axis.set_xlim(rest.min() - 0.45 * spread - 0.02, high)
    position = values.index.get_loc(floors[0])
    axis.text(axis.get_xlim()[0], position, f" ◂ {values[floors[0]]:.3f}", va="center", fontsize=8, color=BASELINE)


def _forest_legend(has_folds: bool) -> tuple[list, list[str]]:
    handles = {
        "ours": Line2D([], [], color=OURS, marker="D", lw=2.2, ms=6),
        "baseline": Line2D([], [], color=BASELINE, marker="o", lw=2.2, ms=6),
        "single fold": Line2D([], [], color=BASELINE, marker="o", ls="", ms=3, alpha=0.5),
        "best baseline": Line2D([], [], color=CUT, lw=1, ls=(0, (3, 2))),
    }
    if not has_folds:
        del handles["single fold"]
    return list(handles.values()), list(handles)
