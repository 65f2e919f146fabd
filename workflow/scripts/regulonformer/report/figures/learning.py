"""Learning curves: scores against the number of labels per class."""

import numpy as np
import pandas as pd

from regulonformer.report.comparison import is_ours, metric_keys, metrics_in_order, our_method
from regulonformer.report.style import FULL_WIDTH, MARKERS, OURS, legend_columns, panels
from regulonformer.report.style import palette as colours_of
from regulonformer.report.words.names import method_name, score_name

MAX_PANELS = 3


def learning_curve(table: pd.DataFrame):
    """One panel per metric, one curve per method.

    Parameters
    ----------
    table
        Tidy scores of one dataset with `labels_per_class`; rows over all folds and seeds are drawn.
    """
    table = table.assign(metric=metric_keys(table))
    table = table[(table["fold"] == "pooled") & (table["seed"] == "all")]
    table = table.assign(labels=pd.to_numeric(table["labels_per_class"], errors="coerce")).dropna(subset=["labels"])
    if table.empty:
        return None
    metrics, ours = metrics_in_order(table)[:MAX_PANELS], our_method(table["method"])
    others = sorted(set(table["method"]) - {ours})
    looks = {name: (colour, MARKERS[at % len(MARKERS)]) for at, (name, colour) in
             enumerate(colours_of(["", *others]).items())}  # fmt: skip
    looks = {name: look for name, look in looks.items() if name} | ({ours: (OURS, "D")} if ours else {})
    figure, axes = panels(len(metrics), 3, 3.4, FULL_WIDTH * (0.6 if len(metrics) == 1 else 1))
    for axis, metric in zip(axes, metrics, strict=True):
        for method, (colour, marker) in looks.items():
            rows = table[(table["metric"] == metric) & (table["method"] == method)].sort_values("labels")
            reach = np.abs(rows[["ci_low", "ci_high"]].sub(rows["value"], axis=0)).T.to_numpy()
            style = "--" if is_ours(method) and method != ours else "-"
            axis.errorbar(
                rows["labels"], rows["value"], reach, color=colour, marker=marker, ms=4.5, elinewidth=1, ls=style,
                lw=2.4 if method == ours else 1.3, label=method_name(method),
            )  # fmt: skip
        axis.set(title=score_name(metric), xlabel="Labels per class", xscale="log")
        ticks = sorted(table["labels"].unique())
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
        axis.grid()
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=legend_columns(names, figure.get_figwidth() * 0.9))
    return figure
