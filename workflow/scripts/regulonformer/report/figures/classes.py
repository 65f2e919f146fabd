"""How single classes are told apart: the confusion matrix, and recall of each class."""

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from regulonformer.report.comparison import FLOORS
from regulonformer.report.style import BASELINE, FULL_WIDTH, MATRIX, OURS, RIVAL, panels
from regulonformer.report.words.names import method_name, natural

MAX_WRITTEN_CLASSES = 14  # beyond this the numbers in a confusion matrix are too small to read


def confusion_counts(matrix: dict) -> pd.DataFrame:
    """Classes and counts as a table, true classes in rows; classes without cells have no row."""
    classes = [str(name) for name in matrix["classes"]]
    counts = pd.DataFrame(matrix["counts"], index=classes, columns=classes)
    order = sorted(classes, key=natural)
    counts = counts.loc[order, order]
    return counts[counts.sum(axis=1) > 0]


def confusion(counts: pd.DataFrame):
    """Confusion matrix, each row in percent of the true class.

    Parameters
    ----------
    counts
        True classes x predicted classes.
    """
    classes = list(counts.columns)
    percent = 100 * counts.div(counts.sum(axis=1), axis=0)
    longest = max(map(len, classes))
    side = min(FULL_WIDTH * 0.95, 2.0 + 0.07 * longest + max(0.3, 0.52 - 0.012 * len(classes)) * len(classes))
    figure, (axis,) = panels(1, 1, side * 0.9, side)
    image = axis.imshow(percent, cmap=MATRIX, vmin=0, vmax=100, interpolation="nearest")
    axis.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(counts)), counts.index)
    if len(classes) <= MAX_WRITTEN_CLASSES:
        for (row, column), value in np.ndenumerate(percent.to_numpy()):
            if value >= 0.5:
                colour = "white" if value > 55 else "black"
                axis.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8, color=colour)
    axis.set(xlabel="Predicted", ylabel="True label")
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    figure.colorbar(image, ax=axis, label="% of the true class", shrink=0.7, pad=0.02)
    return figure


def recall_plot(recall: pd.DataFrame, ours: str, rival: str | None):
    """Recall of every class with intervals, the most frequent class first.

    Parameters
    ----------
    recall
        method, class, n_cells, recall, ci_low, ci_high of one dataset.
    ours, rival
        Methods that stand out: ours, and the best baseline.
    """
    sizes = recall.groupby("class")["n_cells"].max()
    sizes = sizes[sizes > 0].reset_index().sort_values(["n_cells", "class"], ascending=[False, True])
    classes = sizes["class"].tolist()
    figure, (axis,) = panels(1, 1, 1.2 + 0.3 * len(classes), FULL_WIDTH * 0.75)
    recall = recall[~recall["method"].isin(FLOORS)]
    looks = {rival: (RIVAL, "o", 0.18), ours: (OURS, "D", -0.18)}
    for method, rows in recall.groupby("method"):
        rows = rows.set_index("class").reindex(classes)
        at = np.arange(len(classes), dtype=float)
        if method not in looks:
            axis.scatter(rows["recall"], at, s=8, color=BASELINE, alpha=0.45, lw=0)
            continue
        colour, marker, shift = looks[method]
        axis.hlines(at + shift, rows["ci_low"], rows["ci_high"], color=colour, lw=2)
        axis.scatter(rows["recall"], at + shift, s=34, color=colour, marker=marker, zorder=3)
    axis.set_yticks(range(len(classes)), [f"{row['class']} (n={row.n_cells:,})" for _, row in sizes.iterrows()])
    lowest = np.floor(10 * recall[["recall", "ci_low"]].min().min()) / 10
    axis.set(xlabel="Recall", xlim=(min(lowest, 0.8) - 0.01, 1.01), ylim=(len(classes) - 0.5, -0.5))
    axis.grid(axis="x")
    handles = [Line2D([], [], color=OURS, marker="D", lw=2, ms=5), Line2D([], [], color=RIVAL, marker="o", lw=2, ms=5)]
    names = ["ours", method_name(rival) if rival else "", "other methods"]
    handles.append(Line2D([], [], color=BASELINE, marker="o", ls="", ms=3, alpha=0.5))
    shown = [(handle, name) for handle, name in zip(handles, names, strict=True) if name]
    figure.legend(*zip(*shown, strict=True), loc="outside lower center", ncols=3)
    return figure
