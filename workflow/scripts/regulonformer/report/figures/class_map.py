"""Heat map of what stands out in each class: TFs, regulons or gene sets against classes."""

import numpy as np
import pandas as pd

from regulonformer.report.style import DIVERGING, MATRIX, panels
from regulonformer.report.words.names import natural

ALPHA = 0.05


def class_map(table: pd.DataFrame, name: str, value: str, per_class: int, label: str):
    """The first names of each class (columns) against all classes (rows).

    Parameters
    ----------
    table
        class, fdr, and the columns named; a dot marks an FDR of at most 5 %.
    name
        Column of what is drawn as columns.
    value
        Column of the colour; with values below 0 the scale is diverging.
    per_class
        Names per class, the largest values first.
    label
        Of the colour bar.
    """
    classes = sorted(table["class"].unique(), key=natural)
    ranked = table[table[value] > 0].sort_values([value, name], ascending=[False, True], kind="stable")
    picked = [ranked.loc[ranked["class"] == each, name].head(per_class) for each in classes]
    names = list(dict.fromkeys(pd.concat(picked))) if picked else []
    if not names or len(classes) < 2:
        return None
    values = table.pivot_table(index="class", columns=name, values=value).reindex(index=classes, columns=names)
    marked = table.pivot_table(index="class", columns=name, values="fdr").reindex(index=classes, columns=names) <= ALPHA
    reach = max(float(np.nanquantile(values.abs(), 0.98)), 1e-9)
    signed = bool((values < 0).any(axis=None))
    figure, (axis,) = panels(1, 1, 1.5 + 0.27 * len(classes))
    limits = {"vmin": -reach if signed else 0, "vmax": reach}
    colours = DIVERGING if signed else MATRIX
    image = axis.imshow(values, aspect="auto", cmap=colours, interpolation="nearest", **limits)
    rows, columns = np.nonzero(marked.to_numpy())
    axis.scatter(columns, rows, s=7, color="white", ec="black", lw=0.5)
    tilt = 60 if len(names) > 30 else 45
    axis.set_xticks(range(len(names)), names, rotation=tilt, ha="right", rotation_mode="anchor")
    axis.tick_params(axis="x", labelsize=8 if len(names) <= 40 else 6)
    axis.set_yticks(range(len(classes)), classes)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    figure.colorbar(image, ax=axis, label=label, shrink=0.9, pad=0.01)
    return figure
