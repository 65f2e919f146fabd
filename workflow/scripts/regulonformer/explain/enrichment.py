"""Which gene sets are over-represented among the drivers of a class."""

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control, hypergeom

COLUMNS = ["class", "set", "kind", "overlap", "expected", "set_size", "drivers", "background", "p", "fdr", "genes"]


def enrichment_table(
    drivers: dict[str, list[str]], sets: list[tuple[str, str, set[str]]], background: set[str]
) -> pd.DataFrame:
    """Hypergeometric test of every gene set in the drivers of every class.

    Parameters
    ----------
    drivers
        Class to its driver genes, the strongest first.
    sets
        Name, kind (`regulon` or `markers`) and genes of each set.
    background
        Genes that could have been drivers; all else is left out of the sets.

    Returns
    -------
    pandas.DataFrame
        class, set, kind, overlap, expected (by chance), set_size, drivers and background (numbers of genes), p
        (one-sided), fdr (Benjamini-Hochberg over the sets of a kind within a class), genes (of the overlap, as in
        `drivers`); by class, kind and p. Sets without a gene of the background are left out.
    """
    sets = [(name, kind, members & background) for name, kind, members in sets]
    rows = []
    for class_name, ranked in drivers.items():
        chosen = [gene for gene in ranked if gene in background]
        for name, kind, members in sets:
            if not members:
                continue
            hits = [gene for gene in chosen if gene in members]
            p = hypergeom.sf(len(hits) - 1, len(background), len(members), len(chosen))
            expected = len(members) * len(chosen) / len(background)
            sizes = (len(members), len(chosen), len(background))
            rows.append((class_name, name, kind, len(hits), expected, *sizes, p, np.nan, ",".join(hits)))
    table = pd.DataFrame(rows, columns=COLUMNS)
    for _, part in table.groupby(["class", "kind"]):
        table.loc[part.index, "fdr"] = false_discovery_control(part["p"], method="bh")
    return table.sort_values(["class", "kind", "p", "set"], ignore_index=True)
