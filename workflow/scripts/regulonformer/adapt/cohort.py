"""Which cells a task trains on, chooses its best epoch on, and is judged on."""

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd

from regulonformer.errors import InputError
from regulonformer.evaluate.splits import assign_folds, split_validation
from regulonformer.task_labels import class_labels, numbers, within_fifths


@dataclass(frozen=True)
class Cohort:
    """Cells of one fold, as row numbers of the corpus.

    Attributes
    ----------
    train, validation, test
        Row numbers.
    classes
        Class names, those with training cells; empty for a regression.
    target
        Class index of every corpus row; -1 without a label or of a class that has no training cell. Regression: the
        number in deviations from the mean of the training cells; NaN without one.
    truth
        Label of every corpus row, "" where there is none. Regression: the number; NaN where there is none.
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
    truth = class_labels(cells, column, source)
    labelled = truth != ""
    if not labelled.any():
        raise InputError(source, f"label column {column!r} is empty", "Give labels in the sample sheet's labels file")
    training, held_out, split = _hold_out(cells, truth.where(labelled), group, fold, n_folds)
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
    rows = [np.flatnonzero(mask) for mask in (training.to_numpy() & ~chosen, chosen, held_out.to_numpy())]
    summary = _summary(rows, labelled, split, validation) | {
        "class_sizes": sizes.to_dict(),
        "classes_with_one_training_cell": sizes.index[sizes == 1].tolist(),
        "classes_only_in_test": only_held_out.to_dict(),
    }
    target = truth.map(index).fillna(-1).astype(np.int64).to_numpy()
    return Cohort(*rows, classes, target, truth.to_numpy(), summary)


def make_regression_cohort(
    cells: pd.DataFrame,
    column: str,
    group: str,
    fold: int,
    n_folds: int,
    validation_share: float,
    seed: int,
    source="cells",
) -> Cohort:
    """Hold a fold out for a regression; parameters as of `make_cohort`, the column holding numbers.

    Cells without a number are left out. Where cells are drawn one by one, they are drawn within fifths of the numbers.

    Raises
    ------
    InputError
        If the column is missing, empty, holds text or one number alone, or the fold does not exist.
    """
    truth = numbers(cells, column, source)
    labelled = truth.notna()
    fifths = within_fifths(truth)
    training, held_out, split = _hold_out(cells, fifths, group, fold, n_folds)
    validation = _validation(cells[training], fifths[training], validation_share, seed)
    chosen = validation.reindex(cells.index, fill_value=False).to_numpy(bool)
    rows = [np.flatnonzero(mask) for mask in (training.to_numpy() & ~chosen, chosen, held_out.to_numpy())]
    mean, deviation = truth.iloc[rows[0]].mean(), truth.iloc[rows[0]].std(ddof=0)
    if not deviation > 0:
        raise InputError(source, f"training cells of fold {fold} have one {column} only ({mean:g})", "Use another task")
    summary = _summary(rows, labelled, split, validation) | {"mean": mean, "deviation": deviation}
    return Cohort(*rows, [], ((truth - mean) / deviation).to_numpy(np.float32), truth.to_numpy(), summary)


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
    table = _held_out(cells, cohort, rows, seed)
    table["predicted"] = np.array(cohort.classes)[probabilities.argmax(1)]
    names = [f"p:{name}" for name in cohort.classes]
    return _in_order(pd.concat([table, pd.DataFrame(probabilities, columns=names)], axis=1), rows)


def held_out_numbers(
    cells: pd.DataFrame, cohort: Cohort, rows: np.ndarray, predicted: np.ndarray, seed: int
) -> pd.DataFrame:
    """Numbers predicted of the held-out cells; as `held_out_table`, with truth and predicted in the column's units."""
    return _in_order(_held_out(cells, cohort, rows, seed).assign(predicted=predicted.astype(float)), rows)


def _hold_out(cells, strata: pd.Series, group: str, fold: int, n_folds: int) -> tuple[pd.Series, pd.Series, dict]:
    """Masks of training and held-out cells, those that have a stratum; and what to record of the split."""
    labelled = strata.notna()
    folds = assign_folds(cells[labelled], strata[labelled], group, n_folds)
    by, n = folds.attrs["group"], folds.attrs["n_folds"]
    if fold >= n:
        raise InputError(
            "splits/folds", f"fold {fold} of {n_folds}, but there are {n} groups of {by}", f"Set it to {n}"
        )
    held_out = folds.reindex(cells.index) == fold
    about = {"held_out": by or "cells stratified by label (one library only)", "fold": fold, "n_folds": n}
    return labelled & ~held_out, held_out, about


def _summary(rows: list[np.ndarray], labelled: pd.Series, split: dict, validation: pd.Series) -> dict:
    """Counts and split, for `task.json`."""
    return {
        "cells": {name: len(part) for name, part in zip(("train", "validation", "test"), rows, strict=True)},
        "unlabelled_cells": int((~labelled).sum()),
        "split": split | {"validation": validation.attrs["group"] or "cells stratified by label"},
    }


def _held_out(cells: pd.DataFrame, cohort: Cohort, rows: np.ndarray, seed: int) -> pd.DataFrame:
    """Who the held-out cells are, one row per entry of `rows`."""
    held_out = cells.iloc[rows]
    table = pd.DataFrame({"cell": held_out.index.astype(str), "sample": held_out["sample"].to_numpy()})
    table["donor"] = held_out["donor"].to_numpy() if "donor" in held_out else ""
    return table.assign(fold=cohort.summary["split"]["fold"], seed=seed, truth=cohort.truth[rows])


def _in_order(table: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
    """Rows of a table in the order of the corpus."""
    return table.iloc[np.argsort(rows, kind="stable")].reset_index(drop=True)


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
