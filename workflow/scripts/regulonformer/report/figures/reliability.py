"""Reliability diagram: how often predictions of each confidence are right, beside the calibration error."""

import pandas as pd

from regulonformer.report.comparison import FLOORS, is_ours
from regulonformer.report.style import BASELINE, CUT, FULL_WIDTH, INK, OURS, RIVAL, panels
from regulonformer.report.words.names import method_name

GOOD_ERROR = 0.05  # calibration error that is marked as good


def reliability_of_methods(table: pd.DataFrame, ours: str | None, rival: str | None, errors: pd.Series):
    """Reliability of ours and of the best baseline over all others, and the calibration error of all.

    Parameters
    ----------
    table
        method, confidence, accuracy, n_cells (one row per bin) of one dataset.
    ours, rival
        Methods that stand out.
    errors
        Calibration error by method.
    """
    table = table[~table["method"].isin(FLOORS)]
    errors = errors.dropna().sort_values(ascending=False)
    figure, (diagram, bars) = panels(2, 2, max(3.6, 0.8 + 0.24 * len(errors)), FULL_WIDTH)
    diagram.plot([0, 1], [0, 1], color=INK, lw=0.8, ls=":")
    for method, rows in table.groupby("method"):
        rows = rows.sort_values("confidence")
        if method not in (ours, rival):
            diagram.plot(rows["confidence"], rows["accuracy"], color=BASELINE, lw=0.8, alpha=0.4)
    for method, colour, marker in ((rival, RIVAL, "o"), (ours, OURS, "D")):
        rows = table[table["method"] == method].sort_values("confidence")
        if len(rows):
            label = "ours" if method == ours else method_name(method)
            diagram.plot(rows["confidence"], rows["accuracy"], color=colour, marker=marker, ms=4, lw=1.8, label=label)
    diagram.set(xlabel="Confidence of the prediction", ylabel="Share that is right", xlim=(0, 1.02), ylim=(0, 1.02))
    if diagram.get_legend_handles_labels()[0]:
        diagram.legend(loc="lower right")
    diagram.grid()
    colours = [OURS if method == ours else RIVAL if method == rival else BASELINE for method in errors.index]
    bars.barh(range(len(errors)), errors, color=colours, height=0.6)
    bars.set_yticks(range(len(errors)), [method_name(method) for method in errors.index])
    for tick, method in zip(bars.get_yticklabels(), errors.index, strict=True):
        tick.set_fontweight("bold" if is_ours(method) else "normal")
    bars.axvline(GOOD_ERROR, color=CUT, lw=1, ls=(0, (3, 2)))
    bars.set(xlabel="Calibration error (ECE); lower is better")
    bars.grid(axis="x")
    return figure
