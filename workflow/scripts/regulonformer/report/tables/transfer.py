"""Table of labels given to cells without one."""

import pandas as pd

from regulonformer.report.tables.table import Table
from regulonformer.report.words.names import number, percent, slug, spoken

UNKNOWN = "unknown"


def transfer_table(labels: pd.DataFrame, task: str) -> Table:
    """How many cells got each label, with which confidence, and how many stayed unknown and why.

    Parameters
    ----------
    labels
        cell, predicted, confidence, nearest, reason.
    task
        Name of the task.
    """
    named = labels[labels["predicted"] != UNKNOWN]
    groups = [(str(name), mine) for name, mine in named.groupby("predicted")]
    groups.sort(key=lambda item: (-len(item[1]), item[0]))
    open_ones = labels[labels["predicted"] == UNKNOWN]
    groups += [(f"{UNKNOWN} ({reason})", mine) for reason, mine in open_ones.groupby("reason")]
    rows = [
        [name, number(len(mine)), percent(len(mine), len(labels)), f"{mine['confidence'].median():.2f}", _nearest(mine)]
        for name, mine in groups
    ]
    strong = {at for at, (name, _) in enumerate(groups) if name.startswith(UNKNOWN)}
    caption = (
        "Labels of cells that had none. Unknown cells are uncertain (no class is likely enough) or new (too far from "
        "all labelled cells); their nearest class is named."
    )
    columns = ["Label", "Cells", "Share", "Median confidence", "Nearest class"]
    heading = f"Labels given: {spoken(task)}"
    return Table(f"transfer_{slug(task)}", heading, columns, rows, caption, f"finetune/{task}/*/labels.parquet", strong)


def _nearest(cells: pd.DataFrame) -> str:
    first = cells["nearest"].value_counts()
    return "–" if (cells["predicted"] != UNKNOWN).any() else f"{first.index[0]} ({percent(first.iloc[0], len(cells))})"
