"""When a cell gets a label: the confidence it takes, and whether it looks new."""

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest

import predict_labels
from regulonformer.adapt.transfer import choose_confidence, mean_probabilities, name_cells, noticed_if_new, novelty


def test_labels_above_the_chosen_confidence_are_right_as_often_as_asked():
    wrong, shares = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        confidence = rng.uniform(0.4, 1, 2000)
        correct = rng.random(2000) < confidence  # calibrated
        threshold, coverage = choose_confidence(confidence[:1000], correct[:1000], 0.1)
        later = confidence[1000:] >= threshold
        wrong.append((~correct[1000:][later]).mean() if later.any() else 0)
        shares.append(coverage)
        assert coverage == pytest.approx((confidence[:1000] >= threshold).mean())
    # At most one time in ten may more than the stated share be wrong, up to the noise of the later cells.
    assert np.mean(np.array(wrong) > 0.1 + 0.03) < 0.1 and np.mean(shares) > 0.15


def test_no_confidence_is_enough_where_held_out_cells_do_not_show_it():
    assert choose_confidence(np.linspace(0.5, 1, 12), np.ones(12, bool), 0.05) == (np.inf, 0.0)
    assert choose_confidence(np.full(300, 0.9), np.zeros(300, bool), 0.05) == (np.inf, 0.0)
    assert choose_confidence(np.full(300, 0.9), np.ones(300, bool), 0.05) == (0.9, 1.0)


def test_a_class_that_a_model_does_not_know_has_no_share_of_its_vote():
    classes, mean = mean_probabilities([(["a", "b"], np.array([[0.5, 0.5]])), (["b", "c"], np.array([[0.2, 0.8]]))])
    assert classes == ["a", "b", "c"]
    np.testing.assert_allclose(mean, [[0.25, 0.35, 0.4]])


@pytest.fixture
def places():
    """Four kinds of cells in 300 cells of three donors that are shifted against each other."""
    rng = np.random.default_rng(0)
    kind, donor = rng.integers(4, size=600), rng.integers(3, size=600)
    centre = np.array([[0, 0, 0], [6, 0, 0], [0, 6, 0], [0, 0, 6.0]])
    shift = 0.5 * rng.normal(size=(3, 3))
    return centre[kind] + shift[donor] + rng.normal(size=(600, 3)), kind, donor


def test_cells_of_known_kinds_are_rarely_new_and_those_of_an_unknown_kind_are(places):
    space, kind, donor = places
    # The last donor has no labels, and one kind is not among them.
    fold = np.where((donor < 2) & (kind < 3), donor, -1)
    known, unknown = np.flatnonzero((fold < 0) & (kind < 3)), np.flatnonzero(kind == 3)
    assert (novelty(space, fold, known) <= 0.05).mean() < 0.15
    assert (novelty(space, fold, unknown) <= 0.05).mean() > 0.8
    assert np.all(novelty(space, fold, known) > 0)


def test_cells_without_a_place_are_neither_judged_nor_judges(places):
    space, kind, donor = places
    fold, unplaced = np.where(donor < 2, donor, -1), np.arange(len(kind)) % 5 == 0
    target = np.flatnonzero(fold < 0)
    alone = novelty(space[~unplaced], fold[~unplaced], np.flatnonzero(fold[~unplaced] < 0))
    space = np.where(unplaced[:, None], np.nan, space)
    found = novelty(space, fold, target)
    assert np.isnan(found[unplaced[target]]).all()
    np.testing.assert_array_equal(found[~unplaced[target]], alone)
    truth = kind.astype(str)
    known = noticed_if_new(space[~unplaced], fold[~unplaced], truth[~unplaced], 0.05)
    assert noticed_if_new(space, fold, truth, 0.05) == known
    # Cells of a single fold have nothing to be compared with.
    assert np.isnan(novelty(space, np.where(fold == 0, 0, -1), target)).all()


def test_a_place_is_that_of_the_cell_itself_and_of_atac_where_no_cell_has_rna(tmp_path):
    def places(name, rna, atac):
        tables = {"rna": (rna, "X_pca"), "atac": (atac, "X_lsi")}
        made = {name: ad.AnnData(obs=pd.DataFrame(index=cells)) for name, (cells, _) in tables.items()}
        for modality, (cells, key) in tables.items():
            if cells:
                made[modality].obsm[key] = np.array([[float(cell), len(modality)] for cell in cells])
        mudata.MuData(made).write_h5mu(tmp_path / name)
        return predict_labels._places(tmp_path / name, pd.Index(["1", "2", "3"]))

    np.testing.assert_array_equal(places("mixed.h5mu", ["3", "1"], ["2", "3"]), [[1, 3], [np.nan] * 2, [3, 3]])
    np.testing.assert_array_equal(places("atac.h5mu", [], ["3", "2", "1"]), [[1, 4], [2, 4], [3, 4]])


def test_p_values_of_cells_like_the_labelled_are_uniform():
    rng = np.random.default_rng(1)
    space, fold = rng.normal(size=(1500, 2)), np.repeat([0, 1, -1], 500)
    p = novelty(space, fold, np.arange(1000, 1500))
    for rate in (0.05, 0.2, 0.5):
        assert (p <= rate).mean() == pytest.approx(rate, abs=0.06)


def test_how_well_a_new_kind_would_be_noticed_depends_on_its_place(places):
    space, kind, donor = places
    truth = np.array(["a", "b", "c", "between"])[kind]
    space = np.where((kind == 3)[:, None], space - [0, 0, 6.0] + [0.5, 0.5, 0], space)  # beside kind a
    found = noticed_if_new(space, donor, truth, 0.05)
    assert set(found) == {"a", "b", "c", "between"}
    assert found["b"] > 0.8 and found["c"] > 0.8 and found["between"] < 0.3


def test_why_a_cell_stays_unknown_is_said():
    cells = pd.DataFrame({"sample": "s", "donor": "d"}, index=["c0", "c1", "c2"])
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.95, 0.05]])
    table = name_cells(cells, ["a", "b"], probabilities, np.array([0.5, 0.5, 0.01]), threshold=0.8, rate=0.05)
    assert table["predicted"].tolist() == ["a", "unknown", "unknown"]
    unplaced = name_cells(cells, ["a", "b"], probabilities, np.full(3, np.nan), threshold=0.8, rate=0.05)
    assert unplaced["reason"].tolist() == ["", "uncertain", ""]
    assert table["reason"].tolist() == ["", "uncertain", "new"] and table["nearest"].tolist() == ["a", "a", "a"]
