"""What each modality is worth: scores of methods that see RNA, ATAC, or both."""

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from regulonformer.report.comparison import is_ours
from regulonformer.report.style import FULL_WIDTH, INK, panels
from regulonformer.report.words.names import method_name, score_name

# What a method sees -> colour, marker.
LOOKS = {"RNA": ("#0072B2", "o"), "ATAC": ("#E69F00", "s"), "RNA and ATAC": (INK, "D")}


def modality_plot(scores: pd.DataFrame, families: pd.DataFrame, metrics: list[str]):
    """Scores of each method by the modalities that it sees, one panel per metric.

    Parameters
    ----------
    scores
        Pooled scores of one dataset.
    families
        `modalities.what_it_sees` of the methods.
    metrics
        Metrics to draw.
    """
    table = families.merge(scores, on="method")
    if table.empty:
        return None
    best = table[table["metric"] == metrics[0]].groupby("family")["value"].max().sort_values(ascending=False)
    names = list(best.index)
    figure, axes = panels(len(metrics), 2, 1.5 + 0.5 * len(names), FULL_WIDTH, sharey=True)
    for axis, metric in zip(axes, metrics, strict=True):
        for shift, (sees, (colour, marker)) in zip((-0.2, 0, 0.2), LOOKS.items(), strict=True):
            rows = table[(table["metric"] == metric) & (table["sees"] == sees)].set_index("family").reindex(names)
            at = np.arange(len(names)) + shift
            axis.hlines(at, rows["ci_low"], rows["ci_high"], color=colour, lw=2)
            axis.scatter(rows["value"], at, s=36, color=colour, marker=marker, zorder=3)
        axis.set(title=score_name(metric), ylim=(len(names) - 0.5, -0.5))
        axis.grid(axis="x")
    axes[0].set_yticks(range(len(names)), [method_name(name) for name in names])
    for tick, name in zip(axes[0].get_yticklabels(), names, strict=True):
        tick.set_fontweight("bold" if is_ours(name) else "normal")
    shown = [sees for sees in LOOKS if (table["sees"] == sees).any()]
    handles = [Line2D([], [], color=LOOKS[sees][0], marker=LOOKS[sees][1], lw=2, ms=5) for sees in shown]
    figure.legend(handles, shown, loc="outside lower center", ncols=3)
    return figure
