"""Predictions of the model, its variants and the baselines, read into one table."""

import pandas as pd

from regulonformer.errors import InputError
from regulonformer.io.store import read_parquet

COLUMNS = ["method", "dataset", "cell", "sample", "group", "fold", "seed", "truth", "predicted", "confidence"]


def read_predictions(files: list[dict], group: str) -> pd.DataFrame:
    """Read predictions of held-out cells.

    Parameters
    ----------
    files
        One dict per file: `path` (parquet: cell, sample, donor, fold, seed, truth, predicted, and `probability` or
        `p:<class>`), `dataset`, and `method`, unless a column of the file names it.
    group
        Column whose values were held out as a whole; where a cell's is empty, its sample stands for it.

    Returns
    -------
    pandas.DataFrame
        `COLUMNS`; confidence is the probability of the predicted class.
    """
    parts = []
    for file in files:
        table = read_parquet(file["path"])
        groups = table[group].astype(str) if group in table else pd.Series("", index=table.index)
        table = table.assign(
            **{key: value for key, value in file.items() if key != "path"},
            group=groups.where(groups != "", table["sample"].astype(str)),
            confidence=confidence_of(table, file["path"]),
        )
        parts.append(table[COLUMNS])
    return pd.concat(parts, ignore_index=True)


def confidence_of(table: pd.DataFrame, source) -> pd.Series:
    """Probability of the predicted class, (N,).

    Parameters
    ----------
    table
        Predictions with `probability`, or `p:<class>` for each class.
    source
        File named in errors.

    Raises
    ------
    InputError
        If there are neither, or a class is predicted that has no probability.
    """
    if "probability" in table:
        return table["probability"]
    classes = [name for name in table if name.startswith("p:")]
    column = pd.Index(classes).get_indexer("p:" + table["predicted"].astype(str))
    if (column < 0).any():
        problem = f"no probability of the predicted class {table['predicted'][column < 0].iloc[0]!r}"
        raise InputError(source, problem, "Give a column p:<class> for each class, or probability")
    return pd.Series(table[classes].to_numpy()[range(len(table)), column], index=table.index)
