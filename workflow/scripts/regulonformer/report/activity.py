"""Activity of regulons, read from disk as far as it is shown: group means, and a few regulons in all cells."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

# Cells in memory at a time.
BLOCK_CELLS = 4096


@dataclass
class Activity:
    """Weighted mean z of the targets of every regulon in every cell, left on disk.

    Attributes
    ----------
    path
        h5ad file with the layer `mean_z`.
    obs
        Table of cells.
    tfs
        Names of the regulons.
    """

    path: Path
    obs: pd.DataFrame
    tfs: pd.Index

    def blocks(self):
        """Slices of cells with their activities, some cells at a time."""
        import h5py

        with h5py.File(self.path) as store:
            values = store["layers"]["mean_z"]
            for start in range(0, len(values), BLOCK_CELLS):
                yield slice(start, start + BLOCK_CELLS), values[start : start + BLOCK_CELLS]

    def of_regulons(self, tfs: list[str]) -> pd.DataFrame:
        """Activities of a few regulons, cells x TFs."""
        columns = self.tfs.get_indexer(tfs)
        values = np.concatenate([block[:, columns] for _, block in self.blocks()])
        return pd.DataFrame(values, index=self.obs.index, columns=list(tfs))

    def differences(self, groups: pd.Series) -> pd.DataFrame:
        """How far each regulon's mean activity in a group lies above its mean in the cells of all other groups.

        In standard deviations over cells, so that regulons of few targets, whose means vary more, do not come first.

        Parameters
        ----------
        groups
            Group of each cell, in the order of `obs`; missing where a cell has none, which leaves it out.

        Returns
        -------
        pandas.DataFrame
            Groups x regulons; without rows where there are fewer than two groups.
        """
        code, names = pd.factorize(groups, sort=True)
        if len(names) < 2:
            return pd.DataFrame(columns=self.tfs, dtype=float)
        total, squares = np.zeros((len(names), len(self.tfs))), np.zeros(len(self.tfs))
        for rows, block in self.blocks():
            known = code[rows] >= 0
            np.add.at(total, code[rows][known], block[known])
            squares += np.square(block[known], dtype=float).sum(axis=0)
        count = np.bincount(code[code >= 0])[:, None]
        everything, n = total.sum(axis=0), count.sum()
        spread = np.sqrt(np.maximum(squares / n - (everything / n) ** 2, 0))
        difference = total / count - (everything - total) / (n - count)
        standardised = np.divide(difference, spread, out=np.zeros_like(difference), where=spread > 1e-6)
        return pd.DataFrame(standardised, index=names, columns=self.tfs)


def open_activity(path) -> Activity | None:
    """Read names and labels; activities stay on disk. None where no cell has RNA, and so none has activities."""
    import h5py
    from anndata.io import read_elem

    with h5py.File(path) as store:
        activity = Activity(Path(path), read_elem(store["obs"]), read_elem(store["var"]).index)
    return activity if len(activity.obs) else None


def top_of_groups(difference: pd.DataFrame, per_group: int) -> pd.DataFrame:
    """Regulons that are most active in each group, relative to the rest.

    Parameters
    ----------
    difference
        Groups x regulons, from `Activity.differences`.
    per_group
        Regulons taken per group; fewer where fewer are more active than in the rest.

    Returns
    -------
    pandas.DataFrame
        group, tf, difference, rank (0 for the first of a group).
    """
    rows = [
        (group, tf, value, rank)
        for group, row in difference.iterrows()
        for rank, (tf, value) in enumerate(row[row > 0].nlargest(per_group).items())
    ]
    return pd.DataFrame(rows, columns=["group", "tf", "difference", "rank"])


def most_specific(top: pd.DataFrame, count: int) -> dict[str, str]:
    """Regulon -> group in which it stands out: the first of each group, then the second ones, each regulon once."""
    ordered = top.sort_values(["rank", "difference"], ascending=[True, False], kind="stable")
    chosen = ordered.drop_duplicates("tf").head(count)
    return dict(zip(chosen["tf"], chosen["group"], strict=True))
