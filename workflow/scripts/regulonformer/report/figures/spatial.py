"""Cells where they lie in the tissue, one row of panels per library."""

import numpy as np
import pandas as pd

from regulonformer.report.figures.cells import UNLABELLED, as_groups, group_order, point_size
from regulonformer.report.style import MISSING, SEQUENTIAL, legend_columns, palette, panels

MAX_LIBRARIES = 6
MOST_Z = 2.5


def tissue_groups(places: pd.DataFrame, libraries: pd.Series, columns: dict[str, pd.Series]):
    """Groups of cells in space: one row per library, one column per variable; all share their colours.

    Parameters
    ----------
    places
        x, y indexed by cell.
    libraries
        Library of each cell: each has a tissue of its own.
    columns
        Head of the panels -> group of each cell.
    """
    shown = _libraries(places, libraries)
    groups = {head: as_groups(values.reindex(places.index)) for head, values in columns.items()}
    names = group_order(pd.concat(groups.values()))
    colours = palette([name for name in names if name != UNLABELLED]) | {UNLABELLED: MISSING}
    figure, axes = panels(len(shown) * len(columns), len(columns), 3.6)
    draws = [(library, head) for library in shown for head in columns]
    for axis, (library, head) in zip(axes, draws, strict=True):
        mine = places[(libraries.reindex(places.index) == library).to_numpy()]
        _tissue(axis, mine, groups[head].loc[mine.index].map(colours), f"{head}, {library}")
    handles = [axes[0].scatter([], [], s=36, color=colours[name], lw=0) for name in names]
    columns_of_legend = legend_columns(names)
    figure.set_figheight(figure.get_figheight() + 0.17 * (-(-len(names) // columns_of_legend) - 1))
    figure.legend(handles, names, loc="outside lower center", ncols=columns_of_legend, handletextpad=0.2)
    return figure


def tissue_values(places: pd.DataFrame, libraries: pd.Series, values: pd.DataFrame):
    """Numbers in space, such as activities: one row per library, one column per variable; z-scores over cells.

    Parameters
    ----------
    places
        x, y indexed by cell.
    libraries
        Library of each cell.
    values
        Cells x variables.
    """
    values = values.reindex(places.index)
    z = (values - values.mean()) / values.std().replace(0, 1)
    shown = _libraries(places, libraries)
    figure, axes = panels(len(shown) * z.shape[1], z.shape[1], 2.8)
    draws = [(library, name) for library in shown for name in z]
    for axis, (library, name) in zip(axes, draws, strict=True):
        mine = places[(libraries.reindex(places.index) == library).to_numpy()]
        look = {"cmap": SEQUENTIAL, "vmin": -MOST_Z, "vmax": MOST_Z}
        drawn = _tissue(axis, mine, z.loc[mine.index, name], f"{name}, {library}", **look)
    figure.colorbar(drawn, ax=axes, label="Activity (z-score over cells)", shrink=0.7, pad=0.01, extend="both")
    return figure


def _libraries(places: pd.DataFrame, libraries: pd.Series) -> list[str]:
    return sorted(libraries.reindex(places.index).dropna().unique())[:MAX_LIBRARIES]


def _tissue(axis, places: pd.DataFrame, colours, title: str, **look):
    size = 2 * point_size(len(places))
    drawn = axis.scatter(*places[["x", "y"]].to_numpy().T, s=size, c=np.asarray(colours), lw=0, rasterized=True, **look)
    axis.set(title=title, xticks=[], yticks=[], aspect="equal")
    # Images of tissue count rows from the top.
    axis.invert_yaxis()
    axis.spines[:].set_visible(False)
    return drawn
