"""Figures of drivers: the genes that speak for a class, per modality."""

import numpy as np
import pandas as pd
from matplotlib.patches import Patch

from regulonformer.report.style import FULL_WIDTH, MATRIX, MODALITY_COLOURS, MODALITY_NAMES, panels
from regulonformer.report.words.names import natural

MAX_PANELS = 12


def mean_attribution(attribution: pd.DataFrame) -> pd.DataFrame:
    """Mean over folds and seeds: class, gene, modality, attribution, specificity (NaN if not given), n_cells."""
    table = attribution if "specificity" in attribution else attribution.assign(specificity=np.nan)
    return table.groupby(["class", "gene", "modality"], as_index=False).agg(
        attribution=("attribution", "mean"), specificity=("specificity", "mean"), n_cells=("n_cells", "sum")
    )


def classes_by_size(mean: pd.DataFrame) -> list[str]:
    """Classes, the one with most explained cells first."""
    size = mean.groupby("class")["n_cells"].max().reset_index()
    return size.sort_values(["n_cells", "class"], ascending=[False, True])["class"].tolist()


def top_drivers(mean: pd.DataFrame, name: str, count: int) -> pd.DataFrame:
    """Genes that speak most for a class, both modalities added: genes x modality, best first."""
    rows = mean[mean["class"] == name].pivot(index="gene", columns="modality", values="attribution").fillna(0)
    total = rows.sum(axis=1)
    best = total[total > 0].sort_values(ascending=False, kind="stable").head(count)
    return rows.loc[best.index]


def driver_bars(mean: pd.DataFrame, count: int):
    """Top genes of each class as bars, split into what RNA and what ATAC contribute."""
    tops = {name: top_drivers(mean, name, count) for name in classes_by_size(mean)}
    tops = {name: top for name, top in tops.items() if len(top)}
    shown = list(tops)[:MAX_PANELS]
    figure, axes = panels(len(shown), 4, 0.95 + 0.17 * count)
    for axis, name in zip(axes, shown, strict=True):
        top = tops[name][::-1]
        left, right = np.zeros(len(top)), np.zeros(len(top))
        for modality in [key for key in MODALITY_COLOURS if key in top]:
            width = top[modality].to_numpy()
            base = np.where(width >= 0, right, left)
            axis.barh(top.index, width, left=base, color=MODALITY_COLOURS[modality], height=0.72)
            right, left = right + np.maximum(width, 0), left + np.minimum(width, 0)
        axis.set_title(name if len(name) <= 22 else name[:21] + "…")
        axis.locator_params(axis="x", nbins=3)
        axis.tick_params(axis="y", length=0, labelsize=7.5)
        axis.grid(axis="x")
    present = [key for key in MODALITY_COLOURS if key in set(mean["modality"])]
    handles = [Patch(color=MODALITY_COLOURS[key]) for key in present]
    figure.legend(
        handles,
        [MODALITY_NAMES[key] for key in present],
        loc="outside lower center",
        ncols=2,
        title="Mean contribution to the class score",
    )
    return figure


def driver_heatmap(mean: pd.DataFrame, per_class: int = 3):
    """Heat map per modality: class-specific genes (columns) against classes (rows), scaled to each gene's maximum."""
    present = [key for key in MODALITY_COLOURS if key in set(mean["modality"])]
    classes = sorted(mean["class"].unique(), key=natural)
    picked = {modality: _specific_genes(mean[mean["modality"] == modality], classes, per_class) for modality in present}
    present = [modality for modality in present if picked[modality]]
    if not present or len(classes) < 2:
        return None
    figure, axes = panels(len(present), 1, 1.25 + 0.24 * len(classes), FULL_WIDTH)
    for axis, modality in zip(axes, present, strict=True):
        rows = mean[mean["modality"] == modality].pivot(index="class", columns="gene", values="attribution").fillna(0)
        rows = rows.reindex(classes, fill_value=0)[picked[modality]]
        scaled = (rows / rows.max().where(rows.max() > 0)).clip(lower=0)
        image = axis.imshow(scaled, aspect="auto", cmap=MATRIX, vmin=0, vmax=1, interpolation="nearest")
        genes = picked[modality]
        axis.set_xticks(
            range(len(genes)), genes, rotation=65 if len(genes) > 30 else 45, ha="right", rotation_mode="anchor"
        )
        axis.tick_params(axis="x", labelsize=7 if len(genes) <= 40 else 5.5, length=0)
        axis.set_yticks(range(len(classes)), classes)
        axis.tick_params(axis="y", length=0)
        axis.set_title(MODALITY_NAMES[modality])
        axis.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label="share of the gene's maximum", shrink=0.8, pad=0.01)
    return figure


def _specific_genes(rows: pd.DataFrame, classes: list[str], per_class: int) -> list[str]:
    """Per class, genes with positive attribution, most specific first (largest attribution if none was computed)."""
    key = "specificity" if rows["specificity"].notna().any() else "attribution"
    genes = []
    for name in classes:
        candidates = rows[(rows["class"] == name) & (rows["attribution"] > 0)]
        # Of the strongest genes the most specific: specificity alone would pick genes that hardly matter.
        strongest = candidates.nlargest(max(20, 4 * per_class), "attribution")
        genes += strongest.nlargest(per_class, key)["gene"].tolist()
    return list(dict.fromkeys(genes))
