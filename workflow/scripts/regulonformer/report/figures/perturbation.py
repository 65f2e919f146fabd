"""Figures of in-silico perturbations: TFs ranked against their null, and genes that answer."""

import numpy as np
import pandas as pd

from regulonformer.report.style import (
    ACTIVATES,
    BASELINE,
    DIVERGING,
    FULL_WIDTH,
    OURS,
    REPRESSES,
    panels,
)
from regulonformer.report.words.names import natural, spoken

EVERY_GROUP = "all"
ALPHA = 0.05
MOST_Z = 6  # answers beyond this have the colours of the ends


def ranked_tfs(tfs: pd.DataFrame, named: int):
    """Change of the cell embedding by each TF against that by genes which are expressed alike, per direction.

    Parameters
    ----------
    tfs
        tf, group, direction, embedding_change, null_mean, z, fdr.
    named
        TFs written into each panel.
    """
    tfs = tfs[tfs["group"] == EVERY_GROUP] if (tfs["group"] == EVERY_GROUP).any() else tfs
    directions = list(dict.fromkeys(tfs["direction"]))
    figure, axes = panels(len(directions), 2, 3.9, FULL_WIDTH if len(directions) > 1 else FULL_WIDTH * 0.55)
    for axis, direction in zip(axes, directions, strict=True):
        rows = tfs[tfs["direction"] == direction].sort_values("z", ascending=False, ignore_index=True)
        beyond = rows["fdr"] <= ALPHA
        axis.axhline(0, color="#9AA5B1", lw=0.8)
        axis.scatter(rows.index + 1, rows["z"], s=14, color=np.where(beyond, OURS, BASELINE), lw=0)
        # Names stand in a column of their own, as the first points lie close together.
        step = 0.055 * (rows["z"].max() - rows["z"].min())
        line = {"arrowstyle": "-", "color": "#9AA5B1", "lw": 0.6, "shrinkA": 1, "shrinkB": 3}
        for position, row in rows.head(named).iterrows():
            place = (0.36 * len(rows) + 1, rows["z"].max() - position * step)
            axis.annotate(row["tf"], (position + 1, row["z"]), place, va="center", fontsize=8, arrowprops=line)
        axis.set(title=spoken(direction).capitalize(), xlabel="Rank of the TF", ylabel="z against matched genes")
        axis.set_xlim(0, len(rows) * 1.12 + 1)
        axis.grid(axis="y")
    return figure


def tfs_by_group(tfs: pd.DataFrame, per_group: int):
    """Heat map: z of the TFs that change the cells of each group most, one panel per direction."""
    tfs = tfs[tfs["group"] != EVERY_GROUP]
    groups = sorted(tfs["group"].unique(), key=natural)
    if len(groups) < 2:
        return None
    directions = list(dict.fromkeys(tfs["direction"]))
    figure, axes = panels(len(directions), 1, 1.3 + 0.24 * len(groups))
    for axis, direction in zip(axes, directions, strict=True):
        rows = tfs[tfs["direction"] == direction]
        best = [rows[rows["group"] == group].nlargest(per_group, "z")["tf"] for group in groups]
        shown = list(dict.fromkeys(pd.concat(best)))
        z = rows.pivot(index="group", columns="tf", values="z").reindex(index=groups, columns=shown)
        image = axis.imshow(z, aspect="auto", cmap=DIVERGING, vmin=-MOST_Z, vmax=MOST_Z, interpolation="nearest")
        tilt = 60 if len(shown) > 30 else 45
        axis.set_xticks(range(len(shown)), shown, rotation=tilt, ha="right", rotation_mode="anchor")
        axis.set_yticks(range(len(groups)), groups)
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
        axis.set_title(spoken(direction).capitalize())
    figure.colorbar(image, ax=axes, label="z against matched genes", shrink=0.8, pad=0.01, extend="both")
    return figure


def answering_genes(targets: pd.DataFrame, tfs: list[str], direction: str, count: int):
    """Genes whose predicted expression answers most, one panel per TF; direct targets are dark.

    Parameters
    ----------
    targets
        tf, gene, direction, change, z, rank, is_direct_target.
    tfs
        TFs to draw.
    direction
        Which perturbation.
    count
        Genes per TF.
    """
    targets = targets[targets["direction"] == direction]
    tfs = [tf for tf in tfs if (targets["tf"] == tf).any()]
    if not tfs:
        return None
    figure, axes = panels(len(tfs), 4, 0.95 + 0.17 * count)
    for axis, tf in zip(axes, tfs, strict=True):
        rows = targets[targets["tf"] == tf].nsmallest(count, "rank")[::-1]
        colours = np.where(rows["change"] > 0, ACTIVATES, REPRESSES)
        bars = axis.barh(rows["gene"], rows["change"], color=colours, height=0.72)
        for bar, direct in zip(bars, rows["is_direct_target"], strict=True):
            bar.set_alpha(1 if direct else 0.35)
        for label, direct in zip(axis.get_yticklabels(), rows["is_direct_target"], strict=True):
            label.set_fontweight("bold" if direct else "normal")
        axis.axvline(0, color="#9AA5B1", lw=0.8)
        axis.set_title(tf)
        axis.locator_params(axis="x", nbins=3)
        axis.tick_params(axis="y", length=0, labelsize=7.5)
    figure.supxlabel("Change of predicted expression (natural log)", fontsize=9)
    return figure
