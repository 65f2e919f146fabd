import numpy as np
import pandas as pd
import pytest

from regulonformer.errors import InputError
from regulonformer.evaluate.splits import assign_folds, choose_group, split_validation


def make_cells(sizes, donors=None):
    sample = np.repeat(list(sizes), list(sizes.values()))
    cells = pd.DataFrame({"sample": sample}, index=[f"{s}_{i:04d}" for i, s in enumerate(sample)])
    cells["donor"] = cells["sample"].map(donors) if donors else ""
    labels = pd.Series(np.random.default_rng(0).choice(["a", "b", "c"], len(cells), p=[0.6, 0.3, 0.1]), cells.index)
    return cells, labels


def test_donor_is_never_split_even_over_its_libraries():
    cells, labels = make_cells(dict(s1=40, s2=50, s3=60, s4=30), donors=dict(s1="d1", s2="d1", s3="d2", s4="d3"))
    folds = assign_folds(cells, labels, n_folds=3)
    assert folds.attrs == {"group": "donor", "n_folds": 3}
    assert (folds.groupby(cells["donor"]).nunique() == 1).all()


def test_without_donors_the_library_is_the_group_and_folds_are_balanced():
    cells, labels = make_cells({f"s{i:02d}": n for i, n in enumerate([100, 90, 80, 70, 60, 50, 40, 30, 20, 10])})
    folds = assign_folds(cells, labels, n_folds=3)
    assert folds.attrs["group"] == "sample"
    assert (folds.groupby(cells["sample"]).nunique() == 1).all()
    assert np.ptp(folds.value_counts()) <= 20


def test_partial_donors_fall_back_to_the_library():
    cells, _ = make_cells(dict(s1=5, s2=5, s3=5), donors=dict(s1="d1", s2="d2", s3=""))
    assert choose_group(cells) == "sample"


def test_folds_are_capped_by_groups():
    cells, labels = make_cells(dict(s1=10, s2=10))
    assert assign_folds(cells, labels, n_folds=5).attrs["n_folds"] == 2


def test_one_library_is_stratified_and_says_so(caplog):
    cells, labels = make_cells(dict(s1=200))
    folds = assign_folds(cells, labels, n_folds=3)
    assert folds.attrs["group"] == "" and "stratified" in caplog.text
    table = pd.crosstab(labels, folds)
    assert (table.max(axis=1) - table.min(axis=1) <= 1).all()


@pytest.mark.parametrize("sizes", [dict(s1=90), dict(s1=30, s2=30, s3=30, s4=30)])
def test_row_order_does_not_matter(sizes):
    cells, labels = make_cells(sizes)
    order = np.random.default_rng(1).permutation(len(cells))
    shuffled = assign_folds(cells.iloc[order], labels.iloc[order], n_folds=3)
    pd.testing.assert_series_equal(shuffled.sort_index(), assign_folds(cells, labels, n_folds=3).sort_index())


def test_bad_requests_name_the_fix():
    cells, labels = make_cells(dict(s1=2))
    with pytest.raises(InputError, match="at least 2"):
        assign_folds(cells, labels, n_folds=1)
    with pytest.raises(InputError, match="Label more cells"):
        assign_folds(cells, labels, n_folds=3)


def test_validation_takes_a_whole_library_when_one_is_small_enough():
    cells, labels = make_cells({f"s{i}": 20 for i in range(8)})
    chosen = split_validation(cells, labels, 0.1, seed=3)
    assert chosen.attrs["group"] == "sample" and cells.loc[chosen, "sample"].nunique() == 1
    assert not chosen.equals(split_validation(cells, labels, 0.1, seed=5)) or chosen.sum() == 20


def test_validation_of_two_libraries_is_drawn_by_label_and_keeps_single_cells_in_training():
    cells, labels = make_cells(dict(s1=100, s2=100))
    labels.iloc[0] = "single"
    chosen = split_validation(cells, labels, 0.5, seed=0)
    assert chosen.attrs["group"] == "" and 60 <= chosen.sum() <= 110
    assert not chosen.iloc[0]
