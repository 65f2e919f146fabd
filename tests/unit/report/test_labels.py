"""Predicted labels: classes one by one, calibration, few labels, single modalities, and cells without a label."""

import invented_results
import numpy as np
import pandas as pd
import pytest
from invented_results import BOTH, METHODS, OURS

from regulonformer.report.figures.classes import confusion, confusion_counts, recall_plot
from regulonformer.report.figures.learning import learning_curve
from regulonformer.report.figures.reliability import reliability_of_methods
from regulonformer.report.modalities import what_it_sees
from regulonformer.report.style import OURS as OUR_COLOUR
from regulonformer.report.style import theme
from regulonformer.report.tables.scores import class_table, learning_table
from regulonformer.report.tables.transfer import transfer_table


def test_confusion_is_that_of_the_counts(made):
    counts = confusion_counts(invented_results.confusion(made.predictions)["toy:state"][OURS])
    assert counts.to_numpy().sum() == len(made.predictions)
    with theme():
        axis = confusion(counts).axes[0]
        drawn = np.asarray(axis.images[0].get_array())
        np.testing.assert_allclose(drawn.sum(axis=1), 100)
        right = (made.predictions["truth"] == made.predictions["predicted"]).mean() * 100
        np.testing.assert_allclose(np.average(np.diag(drawn), weights=counts.sum(axis=1)), right)
    natural = confusion_counts({"classes": ["L10", "L2"], "counts": [[3, 1], [0, 0]]})
    assert list(natural.columns) == ["L2", "L10"] and list(natural.index) == ["L10"]


def test_classes_stand_from_frequent_to_rare_with_their_mistakes(made):
    recall = invented_results.recall(made.predictions)
    counts = confusion_counts(invented_results.confusion(made.predictions)["toy:state"][OURS])
    table = class_table(recall, OURS, BOTH, counts, "state")
    sizes = [int(row[1]) for row in table.rows]
    assert sizes == sorted(sizes, reverse=True) and sum(sizes) == len(made.predictions)
    state, _, found, theirs, precision, mistaken = table.rows[0]
    assert found.startswith(f"{counts.loc[state, state] / counts.loc[state].sum():.3f} [") and precision == "0.800"
    assert float(theirs) == pytest.approx(min(1, float(found.split()[0]) + METHODS[BOTH] - METHODS[OURS]), abs=2e-3)
    # The invented model errs by one state.
    following = dict(zip(made.states, [*made.states[1:], made.states[0]], strict=True))
    assert mistaken.startswith(f"{following[state]} (")
    with theme():
        axis = recall_plot(recall, OURS, BOTH).axes[0]
        assert [label.get_text() for label in axis.get_yticklabels()][0] == f"{state} (n={sizes[0]})"
        # The floor would push all others to the edge.
        assert axis.get_xlim()[0] > 0.1


def test_reliability_shows_ours_and_the_best_baseline():
    errors = dict.fromkeys(METHODS, 0.1) | {OURS: 0.01}
    with theme():
        figure = reliability_of_methods(invented_results.reliability(), OURS, BOTH, pd.Series(errors))
        diagram, bars = figure.axes
        ours = next(line for line in diagram.get_lines() if line.get_label() == "ours")
        assert ours.get_color() == OUR_COLOUR and np.allclose(ours.get_xdata(), ours.get_ydata())
        rival = next(line for line in diagram.get_lines() if line.get_label().startswith("Logistic"))
        assert np.allclose(rival.get_ydata(), rival.get_xdata() - 0.1)
        assert [bar.get_width() for bar in bars.patches][-1] == 0.01


def test_learning_curve_has_one_line_per_method_and_panel():
    table = invented_results.learning_curve()
    with theme():
        figure = learning_curve(table)
        assert [axis.get_title(loc="left") for axis in figure.axes] == ["Macro-F1", "Accuracy"]
        assert len(figure.axes[0].containers) == 3
        assert learning_curve(table.assign(labels_per_class="all")) is None
        ours = figure.axes[0].containers[-1].lines[0]
        assert ours.get_xdata().tolist() == [5, 10, 20, 50] and ours.get_color() == OUR_COLOUR
    numbers = learning_table(table, "learning", "state")
    assert numbers.columns == ["Method", "5 labels", "10 labels", "20 labels", "50 labels"]
    assert numbers.rows[0][:3] == ["Regulonformer (regulon), ours", "0.570 ★ [0.550, 0.590]", "0.600 ★ [0.580, 0.620]"]
    assert numbers.rows[1][1] == "0.470 ▲ [0.450, 0.490]" and numbers.strong == {0, 2}


@pytest.mark.parametrize(
    ("method", "family", "sees"),
    [
        ("logistic regression PCA(RNA)", "logistic regression", "RNA"),
        ("logistic regression PCA(RNA)+LSI(ATAC)", "logistic regression", "RNA and ATAC"),
        ("logistic regression raw(RNA+ATAC)", "logistic regression raw", "RNA and ATAC"),
        (f"{OURS}, ATAC only", OURS, "ATAC"),
        (OURS, OURS, "RNA and ATAC"),
    ],
)
def test_names_tell_what_a_method_sees(method, family, sees):
    known = [*METHODS, "logistic regression raw(RNA)", "logistic regression raw(RNA+ATAC)", f"{OURS}, ATAC only"]
    known += [f"{OURS}, frozen", "scANVI RNA"]
    found = what_it_sees(known).set_index("method")
    assert found.loc[method].tolist() == [family, sees]
    # Without a counterpart there is nothing to compare.
    assert not {"kNN PCA(RNA)", "majority", "scANVI RNA", f"{OURS}, frozen"} & set(found.index)


def test_unknown_cells_are_counted_by_reason(made, text):
    table = transfer_table(invented_results.transferred([f"c{at}" for at in range(100)], ["HSC"]), "state")
    assert table.rows == [
        ["HSC", "10", "10 %", "0.70", "–"],
        ["unknown (new)", "50", "50 %", "0.70", "HSC (100 %)"],
        ["unknown (uncertain)", "40", "40 %", "0.70", "HSC (100 %)"],
    ]
    assert table.strong == {1, 2}
    assert f"Of {len(made.kept)} cells without a label" in text and "the others stay unknown" in text
