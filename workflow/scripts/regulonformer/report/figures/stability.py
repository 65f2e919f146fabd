"""How well the attributions of models with other seeds or folds agree."""

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from regulonformer.report.style import FULL_WIDTH, MODALITY_COLOURS, MODALITY_NAMES, panels
from regulonformer.report.words.names import natural

BETWEEN = {"seeds": "Same cells, other seeds", "folds": "Other training and held-out cells"}


def stability_dots(stability: pd.DataFrame):
    """Rank correlation of attributions per class, with its interval, and the lowest of all pairs as the end of a line.

    Parameters
    ----------
    stability
        class, modality, between (seeds or folds), spearman, ci_low, ci_high (NaN for none), spearman_lowest.
    """
    classes = sorted(stability["class"].unique(), key=natural)
    shown = [key for key in BETWEEN if (stability["between"] == key).any()]
    if not shown:
        return None
    figure, axes = panels(len(shown), 2, 1.2 + 0.3 * len(classes), FULL_WIDTH, sharey=True, sharex=True)
    for axis, between in zip(axes, shown, strict=True):
        for shift, modality in zip((-0.15, 0.15), MODALITY_COLOURS, strict=True):
            rows = stability[(stability["between"] == between) & (stability["modality"] == modality)]
            rows = rows.set_index("class").reindex(classes)
            at, colour = np.arange(len(classes)) + shift, MODALITY_COLOURS[modality]
            axis.hlines(at, rows["spearman_lowest"], rows["spearman"], color=colour, lw=1.8)
            axis.hlines(at, rows["ci_low"], rows["ci_high"], color=colour, lw=6, alpha=0.3)
            axis.scatter(rows["spearman"], at, s=30, color=colour, zorder=3)
        axis.set(title=BETWEEN[between], xlabel="Rank correlation of genes", ylim=(len(classes) - 0.5, -0.5))
        axis.set_xlim(min(0, axis.get_xlim()[0]), 1.02)
        axis.grid(axis="x")
    axes[0].set_yticks(range(len(classes)), classes)
    present = [key for key in MODALITY_COLOURS if (stability["modality"] == key).any()]
    handles = [Line2D([], [], color=MODALITY_COLOURS[key], marker="o", lw=1.8, ms=5) for key in present]
    figure.legend(handles, [MODALITY_NAMES[key] for key in present], loc="outside lower center", ncols=2)
    return figure
