import logging

import numpy as np
import pandas as pd
import pytest

from regulonformer.adapt.cohort import make_cohort
from regulonformer.errors import InputError


def make_cells(n_samples=4, n=50):
    sample = np.repeat([f"s{i}" for i in range(n_samples)], n)
    state = np.random.default_rng(0).choice(["a", "b", "c"], len(sample))
    cells = pd.DataFrame(
        {"sample": sample, "donor": "", "state": state}, index=[f"c{i:03d}" for i in range(len(sample))]
    )
    return cells


def test_every_labelled_cell_is_held_out_once_and_never_trained_on_then():
    cells = make_cells()
    cells.iloc[:5, 2] = ""
    held_out = []
    for fold in range(2):
        cohort = make_cohort(cells, "state", "auto", fold, 2, 0.1, seed=0)
        parts = [set(part) for part in (cohort.train, cohort.validation, cohort.test)]
        assert not parts[0] & parts[1] and not (parts[0] | parts[1]) & parts[2]
        assert sum(map(len, parts)) == 195 and cohort.summary["unlabelled_cells"] == 5
        assert not set(cells["sample"].iloc[cohort.test]) & set(cells["sample"].iloc[cohort.train])
        held_out += list(cohort.test)
        assert (np.array(cohort.classes)[cohort.target[cohort.train]] == cells["state"].iloc[cohort.train]).all()
    assert sorted(held_out) == list(range(5, 200))


def test_single_cell_class_is_trained_on_and_counted():
    cells = make_cells(n_samples=12, n=20)
    test = make_cohort(cells, "state", "auto", 0, 3, 0.1, seed=0)
    cells.iloc[test.validation[0], 2] = "rare"
    cohort = make_cohort(cells, "state", "auto", 0, 3, 0.1, seed=0)
    assert "rare" in cohort.classes and cohort.summary["classes_with_one_training_cell"] == ["rare"]
    assert test.validation[0] in cohort.train and test.validation[0] not in cohort.validation


def test_class_of_the_held_out_fold_alone_is_judged_and_counted(caplog):
    cells = make_cells()
    first = make_cohort(cells, "state", "auto", 0, 2, 0.1, seed=0)
    cells.iloc[first.test[:3], 2] = "new"
    with caplog.at_level(logging.WARNING):
        cohort = make_cohort(cells, "state", "auto", 0, 2, 0.1, seed=0)
    assert "new" not in cohort.classes and cohort.summary["classes_only_in_test"] == {"new": 3}
    assert set(first.test[:3]) <= set(cohort.test) and (cohort.target[first.test[:3]] == -1).all()
    assert "new" in caplog.text


def test_one_library_says_that_folds_are_stratified():
    cohort = make_cohort(make_cells(n_samples=1), "state", "auto", 1, 3, 0.2, seed=0)
    assert "stratified" in cohort.summary["split"]["held_out"]


@pytest.mark.parametrize(
    ("change", "column", "fold", "message"),
    [
        ({}, "nope", 0, "no label column 'nope'.*state"),
        ({"state": ""}, "state", 0, "is empty"),
        ({"state": np.nan}, "state", 0, "is empty"),
        ({"state": "a"}, "state", 0, "one state only"),
        ({}, "state", 4, "there are 4 groups of sample. Set it to 4"),
    ],
)
def test_bad_tasks_name_the_way_out(change, column, fold, message):
    with pytest.raises(InputError, match=message):
        make_cohort(make_cells().assign(**change), column, "auto", fold, 5, 0.1, seed=0)
