"""The cell map: raw RNA, raw ATAC and the model side by side."""

import matplotlib.patheffects as effects
import numpy as np
import pandas as pd

from regulonformer.report.style import (
    FULL_WIDTH,
    INK,
    MISSING,
    SEQUENTIAL,
    legend_columns,
    palette,
    panels,
    separate_labels,
)
from regulonformer.report.words.names import natural

MAX_NAMED_ON_MAP = 9  # more groups than this are numbered on the map and named in the legend
UNLABELLED = "unlabelled"


def cell_maps(maps: dict[str, pd.DataFrame], values: pd.Series, max_cells: int, on_map: bool, seed: int = 0):
    """Draw the same cells on every map, coloured by one variable.

    Parameters
    ----------
    maps
        Name -> DataFrame x, y indexed by cell.
    values
        Variable to colour by, indexed by cell. Numbers with many values get a colour bar, the rest a legend.
    max_cells
        Most cells drawn.
    on_map
        Write the groups' names (or numbers) on the map.
    seed
        Seed of the subsample and of the drawing order.
    """
    cells = np.random.default_rng(seed).permutation(values.index.to_numpy())[:max_cells]
    values = values.loc[cells]
    figure, axes = panels(len(maps), 3, 3.1, width=FULL_WIDTH * (1 if len(maps) > 1 else 0.55))
    for axis, name in zip(axes, maps, strict=True):
        axis.set(title=name, xticks=[], yticks=[], xlabel="UMAP 1", ylabel="UMAP 2")
        axis.spines[["left", "bottom"]].set_color(MISSING)
    if pd.api.types.is_numeric_dtype(values) and values.nunique() > 20:
        _continuous(figure, axes, maps, values)
    else:
        _groups(figure, axes, maps, as_groups(values), on_map)
    return figure


def group_order(values: pd.Series) -> list[str]:
    """Groups by name, with cells that have none last."""
    names = sorted(set(values) - {UNLABELLED}, key=natural)
    return names + [UNLABELLED] * (UNLABELLED in set(values))


def as_groups(values: pd.Series) -> pd.Series:
    """Labels as text, the same for all cells without one."""
    text = values.astype(object).where(values.notna(), UNLABELLED).astype(str)
    return text.replace({"": UNLABELLED, "nan": UNLABELLED, "None": UNLABELLED})


def point_size(count: int) -> float:
    """Size of a cell's point, smaller the more there are."""
    return float(np.clip(9000 / max(count, 1), 1.2, 9))


def _groups(figure, axes, maps, values, on_map) -> None:
    names = group_order(values)
    numbered = on_map and len(names) > MAX_NAMED_ON_MAP
    colours = palette([name for name in names if name != UNLABELLED]) | {UNLABELLED: MISSING}
    for axis, coordinates in zip(axes, maps.values(), strict=True):
        found = coordinates.reindex(values.index).dropna()
        groups = values.loc[found.index]
        axis.scatter(
            found["x"], found["y"], s=point_size(len(found)), c=groups.map(colours), lw=0, alpha=0.8, rasterized=True
        )
    shown = [f"{position} {name}" if numbered else name for position, name in enumerate(names, start=1)]
    handles = [axes[0].scatter([], [], s=36, color=colours[name], lw=0) for name in names]
    columns = legend_columns(shown)
    # Many groups need room below; it must not come out of the maps.
    figure.set_figheight(figure.get_figheight() + 0.17 * (-(-len(names) // columns) - 1))
    figure.legend(handles, shown, loc="outside lower center", ncols=columns, handletextpad=0.2, columnspacing=1.2)
    # Only now is the size of the panels known, and with it what overlaps.
    for axis, coordinates in zip(axes, maps.values(), strict=True) if on_map else ():
        found = coordinates.reindex(values.index).dropna()
        _write_groups(axis, found, values.loc[found.index], names, numbered)


def _write_groups(axis, coordinates, groups, names, numbered) -> None:
    labels = []
    for position, name in enumerate(names, start=1):
        points = coordinates[groups == name]
        if name == UNLABELLED or points.empty:
            continue
        text = str(position) if numbered else name
        labels.append(
            axis.text(*points.median(), text, ha="center", va="center", fontsize=8, fontweight="bold", color=INK)
        )
        labels[-1].set_path_effects([effects.withStroke(linewidth=2.4, foreground="white")])
    separate_labels(axis, labels)


def _continuous(figure, axes, maps, values) -> None:
    low, high = np.nanpercentile(values.astype(float), [1, 99])
    for axis, coordinates in zip(axes, maps.values(), strict=True):
        found = coordinates.reindex(values.index).dropna()
        points = axis.scatter(
            found["x"],
            found["y"],
            c=values.loc[found.index].astype(float),
            s=point_size(len(found)),
            lw=0,
            cmap=SEQUENTIAL,
            vmin=low,
            vmax=high,
            rasterized=True,
        )
    figure.colorbar(points, ax=axes, shrink=0.7, label=str(values.name))
