import logging

import numpy as np
import pandas as pd
import pytest

from regulonformer.adapt.cohort import held_out_numbers, make_cohort, make_regression_cohort
from regulonformer.errors import InputError
from regulonformer.task_labels import learn_from, to_predict


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


def with_numbers(**how):
    cells = make_cells(**how)
    return cells.assign(dose=np.random.default_rng(1).normal(50, 10, len(cells)).round(3).astype(str))


def test_numbers_are_learned_in_deviations_and_told_in_their_units():
    cells = with_numbers()
    cells.iloc[:5, 3] = ""
    cohort = make_regression_cohort(cells, "dose", "auto", 0, 2, 0.1, seed=0)
    assert cohort.classes == [] and cohort.summary["unlabelled_cells"] == 5
    trained = cohort.target[cohort.train]
    assert abs(trained.mean()) < 1e-6 and abs(trained.std() - 1) < 1e-6
    assert not set(cells["sample"].iloc[cohort.test]) & set(cells["sample"].iloc[cohort.train])
    rows = cohort.test[::-1]
    table = held_out_numbers(cells, cohort, rows, cohort.truth[rows], seed=3)
    assert table["cell"].tolist() == cells.index[cohort.test].tolist() and set(table["seed"]) == {3}
    assert (table["predicted"] == cells["dose"].iloc[cohort.test].astype(float).to_numpy()).all()


def test_one_library_of_numbers_is_divided_evenly_over_their_range():
    cells = with_numbers(n_samples=1, n=300)
    cohorts = [make_regression_cohort(cells, "dose", "auto", fold, 3, 0.1, seed=0) for fold in range(3)]
    assert "one library only" in cohorts[0].summary["split"]["held_out"]
    medians = [np.median(cohort.truth[cohort.test]) for cohort in cohorts]
    assert np.ptp(medians) < 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dose": "high"}, "'high', not a number .*classification"),
        ({"dose": ""}, "is empty"),
        ({"dose": "3"}, "one dose only"),
        ({"dose": "inf"}, "not a number"),
    ],
)
def test_bad_numbers_name_the_way_out(change, message):
    with pytest.raises(InputError, match=message):
        make_regression_cohort(with_numbers().assign(**change), "dose", "auto", 0, 2, 0.1, seed=0)


def test_a_task_learns_from_some_cells_and_predicts_others():
    cells = make_cells()
    task = {"column": "state", "train_on": {"column": "state", "values": ["a", "b"]}}
    learned = learn_from(cells, task)
    assert set(learned["state"]) == {"a", "b", ""} and set(cells["state"]) == {"a", "b", "c"}
    assert (to_predict(cells, task) == (cells["state"] == "c")).all()
    task["predict_on"] = {"column": "sample", "values": ["s1"]}
    assert (to_predict(cells, task) == ((cells["state"] == "c") & (cells["sample"] == "s1"))).all()
    task["predict_on"]["values"] = ["s9"]
    with pytest.raises(InputError, match=r"predict_on chooses \['s9'\] of 'sample', which no cell has"):
        to_predict(cells, task)
