"""Figures of pretraining: loss curves, and loss beside simple predictors."""

import pandas as pd

from regulonformer.report.style import BASELINE, CUT, FULL_WIDTH, MODALITY_NAMES, OURS, panels
from regulonformer.report.words.names import method_name


def pretraining_curves(metrics: pd.DataFrame):
    """Masked loss per modality over training, with the loss of predicting the mean profile as floor."""
    shown = [name for name in MODALITY_NAMES if metrics.get(f"loss_{name}", pd.Series(dtype=float)).notna().any()]
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
        axis.set(title=f"Masked {MODALITY_NAMES[name]}", xlabel="Training step", ylabel="Loss per masked value")
        axis.grid(axis="y")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def pretraining_floors(floors: pd.DataFrame):
    """Loss of simple predictors on hidden values less ours, per modality, with paired intervals."""
    shown = [name for name in MODALITY_NAMES if f"gap_{name}" in set(floors["metric"])]
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
        axis.set(title=f"Hidden {MODALITY_NAMES[name]}", xlabel="Loss less ours (right: ours is better)")
        axis.grid(axis="x")
        axis.set_ylim(len(methods) - 0.5, -0.5)
    axes[0].set_yticks(range(len(methods)), [method_name(method) for method in methods])
    return figure


def _floor(axis, metrics: pd.DataFrame, name: str) -> None:
    floor = metrics[["step", f"floor_{name}"]].dropna().sort_values("step") if f"floor_{name}" in metrics else None
    if floor is not None and len(floor):
        axis.plot(*floor.to_numpy().T, color=CUT, lw=1.5, ls=(0, (4, 2)), label="mean-profile floor")
