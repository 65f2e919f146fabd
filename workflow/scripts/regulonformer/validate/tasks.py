"""Whether tasks can be learned from the labels that were given, judged before any compute."""

from contextlib import suppress
from difflib import get_close_matches

import pandas as pd

from regulonformer.config.sheet import may_have_label
from regulonformer.errors import InputError
from regulonformer.evaluate.splits import assign_folds
from regulonformer.io.metadata import join_labels, join_own_labels, sample_table
from regulonformer.task_labels import class_labels, learn_from, numbers, to_predict, within_fifths
from regulonformer.validate.findings import Findings, some
from regulonformer.validate.libraries import Library

# A column of numbers in which more than this share of the labelled cells have one of their own is no column of classes.
MANY_CLASSES = 0.5
FEW_NUMBERS = 20


def judge_tasks(libraries: list[Library], tasks: dict, splits: dict, findings: Findings) -> None:
    """Judge every task by the labels of all libraries.

    Parameters
    ----------
    libraries
        Libraries, read.
    tasks
        Task name to its block of the config.
    splits
        `group`, the column whose values are held out as a whole, and `folds`.
    findings
        Takes what is found.
    """
    cells = label_table(libraries, findings)
    if cells.empty:
        return
    for name, task in tasks.items():
        filters = {key: task[key] for key in ("train_on", "predict_on") if task.get(key)}
        columns = {f"{key}/column": block["column"] for key, block in filters.items()} | {"column": task["column"]}
        missing = {key: column for key, column in columns.items() if column not in cells}
        for key, column in missing.items():
            _missing(f"tasks/{name}/{key}", column, sorted(cells), findings)
        if missing:
            continue
        with findings.reading("tasks.unfit", f"tasks/{name}", "Check the block of the task"):
            learned = learn_from(cells, task, f"tasks/{name}")
            _judge_transfer(name, task, cells, findings)
            judge = _judge_numbers if task.get("type") == "regression" else _judge_classes
            if judge(name, task["column"], learned, splits["group"], findings) and _judge_groups(
                name, task, learned, libraries, splits, findings
            ):
                _judge_folds(name, task, learned, splits, findings)


def label_table(libraries: list[Library], findings: Findings) -> pd.DataFrame:
    """Cells of all readable matrices with the columns that the ingest will give them."""
    parts = []
    for library in libraries:
        if library.header is None or not len(library.header.barcodes):
            continue
        cells, _ = sample_table(library.sample, library.header.barcodes)
        if library.labels is not None:
            # Labels that fit no barcode are a finding of their own.
            with suppress(InputError):
                cells, _ = join_labels(cells, library.sample["labels"])
        with findings.reading("labels.conflict", library.sample["matrix"], "Rename the column of one of them"):
            cells, _ = join_own_labels(cells, library.own_labels)
        parts.append(cells)
    return pd.concat(parts).fillna("") if parts else pd.DataFrame()


def _missing(key: str, column: str, known: list[str], findings: Findings) -> None:
    close = get_close_matches(column, known, n=1)
    fix = f"Did you mean '{close[0]}'? " if close else ""
    message = f"{key} is '{column}', which neither labels, obs nor sample sheet have"
    findings.error("tasks.no_column", "config", message, f"{fix}Choose one of {', '.join(known)}")


def _judge_classes(name: str, column: str, cells: pd.DataFrame, group: str, findings: Findings) -> bool:
    """Whether a column holds classes that can be told apart; says which of them cannot be judged, or only badly."""
    labels = class_labels(cells, column)
    labels = labels[labels != ""]
    sizes = labels.value_counts().sort_index()
    if len(sizes) < 2:
        code = "tasks.one_class" if len(sizes) else "tasks.empty_column"
        what = f"holds {list(sizes.index)} only" if len(sizes) else "holds no label of a cell of the matrices"
        message = f"tasks/{name}/column is '{column}', which {what}"
        findings.error(code, "config", message, "A task needs at least two classes")
        return False
    many = len(sizes) > max(FEW_NUMBERS, MANY_CLASSES * len(labels))
    if many and pd.to_numeric(labels, errors="coerce").notna().all():
        message = f"'{column}' of task '{name}' holds {len(sizes):,} different numbers in {len(labels):,} cells"
        findings.warning("tasks.numbers", "config", message, f"To predict a number, set tasks/{name}/type: regression")
    single = sizes.index[sizes == 1].tolist()
    if single:
        message = f"{len(single)} of {len(sizes)} classes of '{column}' have one cell: {some(single)}"
        fix = "It is trained on in the folds that do not hold it out, and counts as an error where it is held out"
        findings.warning("tasks.one_cell", f"tasks/{name}", message, fix)
    if group in cells and cells.loc[labels.index, group].nunique() > 1:
        spread = cells.loc[labels.index, group].groupby(labels).nunique()
        narrow = [label for label in spread.index[spread == 1] if label not in single]
        if narrow:
            message = f"{len(narrow)} of {len(sizes)} classes of '{column}' are in one {group} only: {some(narrow)}"
            fix = f"Their cells count as errors where that {group} is held out, because nothing was trained on them"
            findings.warning("tasks.one_group_class", f"tasks/{name}", message, fix)
    return True


def _judge_numbers(name: str, column: str, cells: pd.DataFrame, group: str, findings: Findings) -> bool:
    """Whether a column holds numbers that differ."""
    values = numbers(cells, column, f"tasks/{name}")
    if values.nunique() < 2:
        message = f"tasks/{name}/column is '{column}', which holds {values.dropna().iloc[0]:g} only"
        findings.error("tasks.one_number", "config", message, "A regression needs numbers that differ")
        return False
    return True


def _judge_transfer(name: str, task: dict, cells: pd.DataFrame, findings: Findings) -> None:
    """Whether a task that asks for predictions leaves a cell to predict."""
    if task.get("type") == "regression" or task.get("transfer") == "never":
        return
    asked = [key for key in ("predict_on", "train_on") if task.get(key)]
    asked += ["transfer"] if task.get("transfer") == "always" else []
    if asked and not to_predict(cells, task, f"tasks/{name}").any():
        message = f"tasks/{name}/{asked[0]} asks for predictions, but no cell without a label is left for it"
        fix = "Empty the labels of cells to predict, narrow train_on, or set transfer: never without predict_on"
        findings.error("tasks.nothing_to_predict", "config", message, fix)


def _judge_folds(name: str, task: dict, cells: pd.DataFrame, splits: dict, findings: Findings) -> None:
    """Whether every fold leaves two classes, or numbers that differ, to train on."""
    column, group = task["column"], splits["group"]
    labels = class_labels(cells, column)
    labels = labels[labels != ""]
    regression = task.get("type") == "regression"
    strata = within_fifths(pd.to_numeric(labels)) if regression else labels
    folds = assign_folds(cells.loc[labels.index], strata, group, splits["folds"])
    for fold in range(folds.attrs["n_folds"]):
        left = sorted(set(labels[folds != fold]))
        if len(left) < 2:
            held_out = sorted(set(cells.loc[labels.index[folds == fold], group])) if folds.attrs["group"] else []
            who = f"{group} {some(held_out)}" if held_out else f"fold {fold}"
            message = f"'{column}' of task '{name}' is {some(left)} alone where {who} is held out"
            fix = f"Two classes or numbers must be in more than one {group}: use another task or splits/group"
            findings.error("tasks.one_class_left", f"tasks/{name}", message, fix)


def _judge_groups(
    name: str, task: dict, cells: pd.DataFrame, libraries: list[Library], splits: dict, findings: Findings
) -> bool:
    """Say which libraries have no label and how a single group is divided; whether there are groups for all folds."""
    column, group = task["column"], splits["group"]
    labelled = cells[class_labels(cells, column) != ""]
    without = [library for library in libraries if library.name not in set(labelled["sample"])]
    # Folds and transfer are planned by the sheet and by names of columns, before any label is read.
    expected = [library for library in libraries if may_have_label(library.sample, column)]
    empty = [library.name for library in without if library in expected]
    if without:
        names = some(library.name for library in without)
        message = f"no cell of {len(without)} libraries has a label in '{column}': {names}"
        asked = task.get("train_on") or task.get("predict_on") or task.get("transfer") == "always"
        predicted = asked or len(expected) < len(libraries)
        fix = "Nothing to do: their cells are predicted by the task"
        if task.get("type") == "regression" or task.get("transfer") == "never":
            fix = "Their cells are not predicted"
        elif not predicted:
            fix = f"To predict their cells, set tasks/{name}/transfer: always"
        findings.note("tasks.unlabelled", f"tasks/{name}", message, fix)
    groups = set(labelled[group]) if group in labelled else set()
    planned = min(splits["folds"], len({library.sample.get(group, "") for library in expected}))
    if 1 < len(groups) < planned:
        message = f"{planned} folds are planned, but labels of '{column}' are of {len(groups)} {group}s only"
        fix = f"Of {some(empty)}, empty the column labels of the sheet, or remove '{column}' from the table obs"
        fix += f"; or set splits/folds: {len(groups)}"
        findings.error("tasks.few_groups", f"tasks/{name}", message, fix)
        return False
    if len(groups) == 1:
        message = f"all labels of '{column}' are of one {group} ({groups.pop()})"
        fix = f"Folds are drawn cell by cell; scores say nothing of a new {group} until a second one has labels"
        findings.note("tasks.one_group", f"tasks/{name}", message, fix)
    return True
