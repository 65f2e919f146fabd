"""Whether the labels say what was perturbed, judged before any compute."""

import pandas as pd

from regulonformer.explain.perturbation_tables import EVERY_GROUP
from regulonformer.validate.findings import Findings, some
from regulonformer.validate.libraries import Library
from regulonformer.validate.tasks import label_table


def judge_perturbation(libraries: list[Library], settings: dict, findings: Findings) -> None:
    """Judge the columns that the section `perturbation` names.

    Parameters
    ----------
    libraries
        Libraries, read.
    settings
        column, control and group; None for what is not named. `states`: the column of the groups that are perturbed,
        named or not; missing or None where nothing is perturbed.
    findings
        Takes what is found.
    """
    cells = label_table(libraries, findings)
    if cells.empty:
        return
    known = f"Choose one of {', '.join(sorted(cells))}"
    for key in ("column", "group"):
        if settings[key] and settings[key] not in cells:
            message = f"perturbation/{key} is '{settings[key]}', which neither labels, obs nor sample sheet have"
            findings.error("perturbation.no_column", "config", message, known)
    judge_states("perturbation", cells, settings.get("states"), findings)
    if not settings["column"] or settings["column"] not in cells:
        return
    labels = cells[settings["column"]].astype(str)
    values = sorted(set(labels) - {""})
    if settings["control"] not in values:
        message = f"perturbation/control is '{settings['control']}', but '{settings['column']}' holds {some(values)}"
        findings.error("perturbation.no_control", "config", message, "Name the label of the unperturbed cells")
    elif len(values) == 1:
        message = f"all cells with a label in '{settings['column']}' are '{settings['control']}'"
        fix = "Set perturbation/column to null, or label the perturbed cells"
        findings.error("perturbation.none", "config", message, fix)


def judge_states(section: str, cells: pd.DataFrame, column: str | None, findings: Findings) -> None:
    """Whether no cell state has the name that tables of a section give to all cells together."""
    if column in cells and (cells[column].astype(str) == EVERY_GROUP).any():
        message = f"the column '{column}' names cells '{EVERY_GROUP}', which is taken for all cells together"
        fix = f"Give these cells another label, or name another column of cell states in {section}/group"
        findings.error(f"{section}.taken_name", "config", message, fix)
