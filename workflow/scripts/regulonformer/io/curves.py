"""Curves of pretraining, as `pretrain/{recipe}/metrics.tsv` holds them."""

import pandas as pd


def of_hidden_entries(metrics: pd.DataFrame) -> pd.DataFrame:
    """Rows of the last stage in which the model predicts what was hidden from it.

    Losses of different stages are of different things, so that no curve may run from one into the next.

    Parameters
    ----------
    metrics
        Has columns stage and hidden (0 or 1); all rows count where it has not.
    """
    if "hidden" not in metrics:
        return metrics
    rows = metrics[metrics["hidden"].astype(int) == 1]
    return rows[rows["stage"] == rows["stage"].iloc[-1]] if len(rows) else rows
