"""Whether the labels say what was perturbed, judged before any compute."""

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
        column, control and group; None for what is not named.
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
