"""What a task says of cells: their class or number, which of them it learns from, and which it predicts."""

import numpy as np
import pandas as pd

from regulonformer.errors import InputError

FIFTHS = 5


def learn_from(cells: pd.DataFrame, task: dict, source="cells") -> pd.DataFrame:
    """Cells whose label column is emptied where the task does not learn from them (`train_on`).

    Parameters
    ----------
    cells
        One row per cell, with the label column.
    task
        Block of the task.
    source
        File named in errors.

    Raises
    ------
    InputError
        If the column of `train_on` is missing or no cell has its values.
    """
    if not task.get("train_on"):
        return cells
    return cells.assign(
        **{task["column"]: cells[task["column"]].astype(object).where(_chosen(cells, task, "train_on", source), "")}
    )


def to_predict(cells: pd.DataFrame, task: dict, source="cells") -> np.ndarray:
    """(N,) bool: cells that the task learns nothing from, and that it is to predict (`predict_on`).

    Raises
    ------
    InputError
        If the column of `predict_on` or `train_on` is missing or no cell has its values.
    """
    unlabelled = (class_labels(learn_from(cells, task, source), task["column"], source) == "").to_numpy()
    return unlabelled & _chosen(cells, task, "predict_on", source) if task.get("predict_on") else unlabelled


def class_labels(cells: pd.DataFrame, column: str, source="cells") -> pd.Series:
    """Label of every cell as text, "" where there is none.

    Raises
    ------
    InputError
        If there is no such column.
    """
    if column not in cells:
        raise InputError(source, f"no label column {column!r}", f"Use one of {', '.join(sorted(map(str, cells)))}")
    return cells[column].astype(object).fillna("").astype(str)


def numbers(cells: pd.DataFrame, column: str, source="cells") -> pd.Series:
    """Number of every cell, NaN where there is none.

    Raises
    ------
    InputError
        If there is no such column, it is empty, or it holds text.
    """
    text = class_labels(cells, column, source)
    found = pd.to_numeric(text.where(text != ""), errors="coerce")
    odd = text[(text != "") & ~np.isfinite(found)]
    if len(odd):
        problem = f"{column!r} of cell {odd.index[0]!r} is {odd.iloc[0]!r}, not a number ({len(odd)} such cells)"
        raise InputError(source, problem, "Empty these cells, or set the task's type: classification")
    if found.notna().sum() == 0:
        raise InputError(source, f"label column {column!r} is empty", "Give numbers in the sample sheet's labels file")
    return found


def within_fifths(values: pd.Series) -> pd.Series:
    """Fifth of the values that each belongs to, by rank, as text; NaN stays NaN."""
    rank = values.rank(method="first", pct=True)
    return np.ceil(rank * FIFTHS).map("{:.0f}".format, na_action="ignore")


def _chosen(cells: pd.DataFrame, task: dict, key: str, source) -> np.ndarray:
    """Cells that a filter of the task chooses."""
    column, values = task[key]["column"], task[key]["values"]
    chosen = class_labels(cells, column, source).isin(values).to_numpy()
    if not chosen.any():
        known = sorted(set(class_labels(cells, column)) - {""})
        raise InputError(source, f"{key} chooses {values} of {column!r}, which no cell has", f"Choose among {known}")
    return chosen
