"""Which cells a task trains on, chooses its best epoch on, and is judged on."""

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd

from regulonformer.errors import InputError
from regulonformer.evaluate.splits import assign_folds, split_validation


@dataclass(frozen=True)
class Cohort:
    """Cells of one fold, as row numbers of the corpus.

    Attributes
    ----------
    train, validation, test
        Row numbers.
    classes
        Class names, those with training cells.
    target
        Class index of every corpus row; -1 without a label or of a class that has no training cell.
    truth
        Label of every corpus row, "" where there is none.
    summary
        Counts for `task.json`: cells, classes, what could not be used and why.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    classes: list[str]
    target: np.ndarray
    truth: np.ndarray
    summary: dict


def make_cohort(
    cells: pd.DataFrame,
    column: str,
    group: str,
    fold: int,
    n_folds: int,
    validation_share: float,
    seed: int,
    source="cells",
) -> Cohort:
    """Hold a fold out and set validation cells aside.

    Cells without a label are left out. A class that would have no training cell because validation took them all gets
    them back; so a class with a single cell is always trained on. A class that occurs in the held-out fold alone
    cannot be predicted: its cells are judged (as errors) and counted.

    Parameters
    ----------
    cells
        Table of the corpus: sample, donor and the label column, one row per cell.
    column
        Label column.
    group
        Column whose values are held out as a whole.
    fold, n_folds
        Fold held out, of how many.
    validation_share
        Share of the training cells for validation; 0 for none.
    seed
        Draws the validation cells.
    source
        File named in errors.

    Raises
    ------
    InputError
        If the column is missing or empty, the fold does not exist or fewer than two classes can be trained on.
    """
    if column not in cells:
        raise InputError(source, f"no label column {column!r}", f"Use one of {', '.join(sorted(map(str, cells)))}")
    truth = cells[column].astype(object).fillna("").astype(str)
    labelled = truth != ""
    if not labelled.any():
        raise InputError(source, f"label column {column!r} is empty", "Give labels in the sample sheet's labels file")
    folds = assign_folds(cells[labelled], truth[labelled], group, n_folds)
    if fold >= folds.attrs["n_folds"]:
        problem = f"fold {fold} of {n_folds}, but there are {folds.attrs['n_folds']} groups of {folds.attrs['group']}"
        raise InputError("splits/folds", problem, f"Set it to {folds.attrs['n_folds']}")
    held_out = folds.reindex(cells.index) == fold
    training = labelled & ~held_out
    classes = sorted(truth[training].unique())
    if len(classes) < 2:
        raise InputError(
            source, f"training cells of fold {fold} have one {column} only ({classes})", "Use another task"
        )
    validation = _validation(cells[training], truth[training], validation_share, seed)
    chosen = validation.reindex(cells.index, fill_value=False).to_numpy(bool)
    index = pd.Series(np.arange(len(classes)), index=classes)
    only_held_out = truth[held_out & ~truth.isin(classes)].value_counts().sort_index()
    sizes = truth[training & ~chosen].value_counts().sort_index()
    if len(only_held_out):
        logging.warning("classes without training cells, counted as errors: %s", only_held_out.to_dict())
    summary = {
        "cells": {"train": int(sizes.sum()), "validation": int(chosen.sum()), "test": int(held_out.sum())},
        "unlabelled_cells": int((~labelled).sum()),
        "class_sizes": sizes.to_dict(),
        "classes_with_one_training_cell": sizes.index[sizes == 1].tolist(),
        "classes_only_in_test": only_held_out.to_dict(),
        "split": {
            "held_out": folds.attrs["group"] or "cells stratified by label (one library only)",
            "fold": fold,
            "n_folds": folds.attrs["n_folds"],
            "validation": validation.attrs["group"] or "cells stratified by label",
        },
    }
    target = truth.map(index).fillna(-1).astype(np.int64).to_numpy()
    rows = [np.flatnonzero(mask) for mask in (training.to_numpy() & ~chosen, chosen, held_out.to_numpy())]
    return Cohort(*rows, classes, target, truth.to_numpy(), summary)


def held_out_table(
    cells: pd.DataFrame, cohort: Cohort, rows: np.ndarray, probabilities: np.ndarray, seed: int
) -> pd.DataFrame:
    """Predictions of the held-out cells, one row per cell in the order of the corpus.

    Parameters
    ----------
    cells
        Table of the corpus.
    cohort
        Cells of the fold.
    rows
        Row number of each line of `probabilities`.
    probabilities
        (cells, C).
    seed
        Seed of the model.

    Returns
    -------
    pandas.DataFrame
        cell, sample, donor, fold, seed, truth, predicted, and `p:<class>` for each class.
    """
    order = np.argsort(rows, kind="stable")
    rows, probabilities = rows[order], probabilities[order]
    held_out = cells.iloc[rows]
    table = pd.DataFrame({"cell": held_out.index.astype(str), "sample": held_out["sample"].to_numpy()})
    table["donor"] = held_out["donor"].to_numpy() if "donor" in held_out else ""
    table["fold"], table["seed"], table["truth"] = cohort.summary["split"]["fold"], seed, cohort.truth[rows]
    table["predicted"] = np.array(cohort.classes)[probabilities.argmax(1)]
    names = [f"p:{name}" for name in cohort.classes]
    return pd.concat([table, pd.DataFrame(probabilities, columns=names)], axis=1)


def _validation(cells: pd.DataFrame, truth: pd.Series, share: float, seed: int) -> pd.Series:
    """Validation cells, less those of classes that would be left without a training cell."""
    if share <= 0:
        chosen = pd.Series(False, index=truth.index)
        chosen.attrs = {"group": ""}
        return chosen
    chosen = split_validation(cells, truth, share, seed)
    kept = chosen & truth.isin(truth[~chosen].unique())
    kept.attrs = chosen.attrs
    return kept
