"""Which cells are held out together: folds that keep a donor (or a library) whole."""

import logging

import numpy as np
import pandas as pd

from regulonformer.errors import InputError

SPLIT_SEED = 0  # Folds are the same for every model seed, so that seeds differ in the model alone.


def choose_group(cells: pd.DataFrame) -> str:
    """Name the column whose values must not be split across folds.

    Parameters
    ----------
    cells
        Cells x metadata, with `sample` and optionally `donor`.

    Returns
    -------
    str
        `donor` if every cell has one and there are at least two, else `sample` if there are at least two,
        else "" (nothing to hold out: folds are stratified by label).
    """
    for column in ("donor", "sample"):
        if column in cells:
            names = cells[column].astype(str)
            if (names != "").all() and names.nunique() >= 2:
                return column
    return ""


def assign_folds(
    cells: pd.DataFrame, labels: pd.Series, group: str = "auto", n_folds: int = 3, seed: int = SPLIT_SEED
) -> pd.Series:
    """Assign each cell to the fold in which it is held out.

    Groups are placed whole, the largest first, each into the fold with the fewest cells so far (the greedy rule for
    balanced partitions of Graham 1969). There are never more folds than groups. With a single group the folds
    are drawn cell by cell, stratified by label, and a warning says so. The result does not depend on row order.

    Parameters
    ----------
    cells
        Cells x metadata; only labelled cells (the caller counts the others).
    labels
        Label of each cell, same index.
    group
        `donor`, `sample`, "" (stratified by label) or `auto` (see `choose_group`).
    n_folds
        Folds wanted.
    seed
        Breaks ties between groups of one size, and draws the stratified folds.

    Returns
    -------
    pandas.Series
        Fold of each cell, 0 to the number of folds minus one. `attrs["group"]` is the column used ("" if none)
        and `attrs["n_folds"]` the number of folds made.

    Raises
    ------
    InputError
        If there are fewer than two folds or fewer cells than folds, or the group column is missing.
    """
    if n_folds < 2:
        raise InputError("folds", f"{n_folds} fold", "Ask for at least 2")
    if len(cells) < n_folds:
        raise InputError("folds", f"{len(cells)} labelled cells for {n_folds} folds", "Label more cells")
    group = choose_group(cells) if group == "auto" else group
    if group and group not in cells:
        raise InputError("folds", f"no column {group!r} among the cells", "Use donor or sample")
    rng = np.random.default_rng(seed)
    if not group or cells[group].nunique() < 2:
        logging.warning("One library only: %d folds stratified by label, not by library or donor", n_folds)
        folds, group = _stratified(labels, n_folds, rng), ""
    else:
        folds = _grouped(cells[group].astype(str), n_folds, rng)
    folds.attrs = {"group": group, "n_folds": int(folds.max()) + 1}
    return folds


def split_validation(cells: pd.DataFrame, labels: pd.Series, share: float, seed: int) -> pd.Series:
    """Set a share of the training cells aside, whole groups of them if there are at least three.

    Parameters
    ----------
    cells, labels
        Training cells and their labels, same index.
    share
        Share of cells wanted, 0 to 0.5.
    seed
        Draws the groups or cells.

    Returns
    -------
    pandas.Series
        True for validation cells. `attrs["group"]` is the column kept whole, "" when drawn by label.

    Notes
    -----
    A single group that holds more than twice the wanted share would cost too much training data; then cells are
    drawn by label instead.
    """
    rng = np.random.default_rng(seed)
    group = choose_group(cells)
    if group:
        sizes = cells[group].astype(str).value_counts().sort_index()
        sizes = sizes.iloc[rng.permutation(len(sizes))]
        fitting = sizes[sizes <= 2 * share * len(cells)]
        if len(sizes) >= 3 and len(fitting):
            taken = fitting.index[: max(1, int(np.searchsorted(fitting.cumsum(), share * len(cells))))]
            chosen = cells[group].astype(str).isin(taken)
            chosen.attrs = {"group": group}
            return chosen
    chosen = pd.Series(False, index=labels.index)
    for _, members in _cells_by_label(labels):
        # A class with fewer than two cells to spare stays in training.
        n = min(round(share * len(members)), len(members) - 1)
        chosen.loc[rng.permutation(members)[:n]] = True
    chosen.attrs = {"group": ""}
    return chosen


def _grouped(groups: pd.Series, n_folds: int, rng: np.random.Generator) -> pd.Series:
    """Place whole groups, largest first, into the emptiest fold."""
    sizes = groups.value_counts().sort_index()
    sizes = sizes.iloc[rng.permutation(len(sizes))].sort_values(ascending=False, kind="stable")
    if len(sizes) < n_folds:
        logging.warning("%d groups for %d folds: %d folds are made", len(sizes), n_folds, len(sizes))
    load, fold_of = np.zeros(min(n_folds, len(sizes))), {}
    for name, size in sizes.items():
        fold_of[name] = int(load.argmin())
        load[fold_of[name]] += size
    return groups.map(fold_of).astype(int)


def _stratified(labels: pd.Series, n_folds: int, rng: np.random.Generator) -> pd.Series:
    """Deal the cells of each label out over the folds, going on where the label before stopped."""
    folds, dealt = pd.Series(0, index=labels.index), 0
    for _, members in _cells_by_label(labels):
        folds.loc[rng.permutation(members)] = (dealt + np.arange(len(members))) % n_folds
        dealt += len(members)
    return folds


def _cells_by_label(labels: pd.Series):
    """Yield (label, sorted cell ids), so that row order does not matter."""
    for label, cells in labels.groupby(labels.astype(str)).groups.items():
        yield label, np.array(sorted(cells), dtype=object)
