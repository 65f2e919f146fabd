"""Figures of training and judgement: loss curves, loss floors, forest plot, confusion matrix."""

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
from regulonformer.report.names import method_name, natural, score_name
from regulonformer.report.style import BASELINE, CUT, FULL_WIDTH, MATRIX, OURS, panels

MODALITIES = {"rna": "RNA", "atac": "ATAC"}
MAX_WRITTEN_CLASSES = 14  # beyond this the numbers in a confusion matrix are too small to read


def pretraining_curves(metrics: pd.DataFrame):
    """Masked loss per modality over training, with the loss of predicting the mean profile as floor."""
    shown = [name for name in MODALITIES if metrics.get(f"loss_{name}", pd.Series(dtype=float)).notna().any()]
    figure, axes = panels(len(shown), 2, 2.9, FULL_WIDTH if len(shown) > 1 else FULL_WIDTH * 0.55)
    train = metrics["split"] == "train"
    for axis, name in zip(axes, shown, strict=True):
        for rows, colour, label in (
            (metrics[train], "#9AA5B1", "training cells"),
            (metrics[~train], OURS, "held-out cells"),
        ):
            rows = rows.dropna(subset=[f"loss_{name}"]).sort_values("step")
            marker = "o" if len(rows) <= 25 else None
            axis.plot(rows["step"], rows[f"loss_{name}"], color=colour, label=label, lw=1.8, marker=marker, ms=3.5)
        _floor(axis, metrics if train.all() else metrics[~train], name)
        axis.set(title=f"Masked {MODALITIES[name]}", xlabel="Training step", ylabel="Loss per masked value")
        axis.grid(axis="y")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def pretraining_floors(floors: pd.DataFrame):
    """Loss of simple predictors on hidden values less ours, per modality, with paired intervals."""
    shown = [name for name in MODALITIES if f"gap_{name}" in set(floors["metric"])]
    gaps = floors[floors["metric"] == f"gap_{shown[0]}"] if shown else floors.iloc[:0]
    methods = gaps.sort_values("value")["method"].tolist()
    if not methods:
        return None
    figure, axes = panels(len(shown), 2, 1.3 + 0.34 * len(methods), sharey=True)
    for axis, name in zip(axes, shown, strict=True):
        rows = floors[floors["metric"] == f"gap_{name}"].set_index("method").reindex(methods)
        for position, (_, row) in enumerate(rows.iterrows()):
            axis.plot([row["ci_low"], row["ci_high"]], [position] * 2, color=BASELINE, lw=2.2, solid_capstyle="round")
            axis.scatter(row["value"], position, s=52, color=BASELINE, zorder=3)
        axis.axvline(0, color=OURS, lw=1.8)
        axis.set(title=f"Hidden {MODALITIES[name]}", xlabel="Loss less ours (right: ours is better)")
        axis.grid(axis="x")
        axis.set_ylim(len(methods) - 0.5, -0.5)
    axes[0].set_yticks(range(len(methods)), [method_name(method) for method in methods])
    return figure


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
        axis.set(title=score_name(metric), xlabel=arrow)
        axis.grid(axis="x")
        axis.set_ylim(len(methods) - 0.5, -0.5)
        _zoom(axis, rows["value"], metric)
    axes[0].set_yticks(range(len(methods)), [method_name(method) for method in methods])
    for tick, method in zip(axes[0].get_yticklabels(), methods, strict=True):
        tick.set_fontweight("bold" if is_ours(method) else "normal")
    figure.legend(*_forest_legend(len(folds) > 0), loc="outside lower center", ncols=4)
    return figure


def confusion(predictions: pd.DataFrame):
    """Confusion matrix over all held-out cells, each row in percent of the true class."""
    classes = sorted(set(predictions["truth"]) | set(predictions["predicted"]), key=natural)
    counts = pd.crosstab(predictions["truth"], predictions["predicted"]).reindex(
        index=classes, columns=classes, fill_value=0
    )
    counts = counts[counts.sum(axis=1) > 0]
    percent = 100 * counts.div(counts.sum(axis=1), axis=0)
    cells = predictions.groupby("truth")["cell"].nunique().reindex(counts.index)
    longest = max(map(len, classes))
    side = min(FULL_WIDTH * 0.95, 2.0 + 0.07 * longest + max(0.3, 0.52 - 0.012 * len(classes)) * len(classes))
    figure, (axis,) = panels(1, 1, side * 0.9, side)
    image = axis.imshow(percent, cmap=MATRIX, vmin=0, vmax=100, interpolation="nearest")
    axis.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(counts)), [f"{name} (n={cells[name]:,})" for name in counts.index])
    if len(classes) <= MAX_WRITTEN_CLASSES:
        for (row, column), value in np.ndenumerate(percent.to_numpy()):
            if value >= 0.5:
                axis.text(
                    column,
                    row,
                    f"{value:.0f}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if value > 55 else "black",
                )
    axis.set(xlabel="Predicted", ylabel="True label")
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    figure.colorbar(image, ax=axis, label="% of the true class", shrink=0.7, pad=0.02)
    return figure


def _floor(axis, metrics: pd.DataFrame, name: str) -> None:
    floor = metrics[["step", f"floor_{name}"]].dropna().sort_values("step") if f"floor_{name}" in metrics else None
    if floor is not None and len(floor):
        axis.plot(*floor.to_numpy().T, color=CUT, lw=1.5, ls=(0, (4, 2)), label="mean-profile floor")


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
