"""Drivers, perturbations and cells in space: figures show the numbers of their tables."""

import invented_results
import mudata
import numpy as np
from invented_run import write_report

from regulonformer.report.evidence import read_evidence
from regulonformer.report.figures.class_map import class_map
from regulonformer.report.figures.perturbation import answering_genes, ranked_tfs, tfs_by_group
from regulonformer.report.figures.spatial import tissue_groups
from regulonformer.report.figures.stability import stability_dots
from regulonformer.report.style import theme
from regulonformer.report.tables.drivers import driver_tf_table, enrichment_table, significant_driver_table
from regulonformer.report.tables.perturbation import perturbed_tf_table

STATES, TFS, GENES = ["a", "b"], ["TF1", "TF2"], [f"G{at}" for at in range(20)]


def test_drivers_that_fail_the_null_are_not_named():
    tables = invented_results.drivers(STATES, TFS, GENES)
    drivers = significant_driver_table(tables["drivers"], "state", 10)
    assert drivers.rows[0] == ["a", "ATAC", "30", "2", "TF1ᵀ* and G0"]
    assert "G19" not in drivers.tsv
    tfs = driver_tf_table(tables["driver_tfs"], "state", per_class=1)
    assert [row[:3] for row in tfs.rows] == [["a", "TF1", "3.00"], ["b", "TF1", "-1.00"]]
    rich = enrichment_table(tables["enrichment"], "state")
    assert rich.rows[0] == ["a", "TF1 (regulon)", "5 of 12", "1.2", "0.01", "G0, G1, G2, G3 and G4"]
    assert enrichment_table(tables["enrichment"].assign(fdr=0.5), "state") is None


def test_map_of_classes_shows_what_stands_out_and_marks_what_passes():
    tfs = invented_results.drivers(STATES, TFS, GENES)["driver_tfs"]
    with theme():
        axis = class_map(tfs, "tf", "score", 3, "score").axes[0]
        assert [label.get_text() for label in axis.get_xticklabels()] == ["TF1", "TF2"]
        assert np.asarray(axis.images[0].get_array()).tolist() == [[3.0, -0.9], [-1.0, 3.0]]
        assert axis.collections[0].get_offsets().tolist() == [[0, 0], [1, 1]]
        assert class_map(tfs[tfs["class"] == "a"], "tf", "score", 3, "score") is None
        assert class_map(tfs.assign(score=-1.0), "tf", "score", 3, "score") is None


def test_stability_has_a_panel_for_seeds_and_one_for_folds():
    stability = invented_results.drivers(STATES, TFS, GENES)["driver_stability"]
    with theme():
        panels = stability_dots(stability).axes
        assert len(panels) == 2
        spans = [
            line.get_segments()[0][:, 0].tolist() for line in panels[0].collections if hasattr(line, "get_segments")
        ]
        assert spans[:2] == [[0.6, 0.8], [0.7, 0.9]], "the worst pair to the mean, and the interval"
        [panel] = stability_dots(stability[stability["between"] == "seeds"]).axes
        assert panel.get_title(loc="left") == "Same cells, other seeds"


def test_perturbed_tfs_are_ranked_and_direct_targets_stand_out():
    tfs, targets = invented_results.perturbed([f"TF{at}" for at in range(6)], GENES, STATES)
    with theme():
        knock_out, over = ranked_tfs(tfs, named=2).axes
        assert [text.get_text() for text in knock_out.texts] == ["TF0", "TF1"]
        assert knock_out.collections[0].get_offsets()[:, 1].tolist() == [6, 4, 2, 0, -2, -4]
        assert over.get_title(loc="left") == "Over-expression"
        answers = answering_genes(targets, ["TF0", "missing"], "knock_out", 5).axes
        assert len(answers) == 1
        opacity = {bar.get_alpha() for bar in answers[0].patches[:-1]}
        assert opacity == {0.35} and answers[0].patches[-1].get_alpha() == 1
        assert tfs_by_group(tfs[tfs["group"] == "all"], 3) is None
    table = perturbed_tf_table(tfs, count=1)
    assert table.rows[0][:4] == ["Knock-out", "TF0", "6.00", "0.01"] and len(table.rows) == 2


def test_cells_with_places_are_drawn_in_the_tissue(made, tmp_path, unrendered):
    data = mudata.read_h5mu(made.paths["multiome"])
    places = np.random.default_rng(0).random((data.n_obs, 2))
    data.obsm["spatial"] = places
    with mudata.set_options(pull_on_update=False):
        data.write_h5mu(tmp_path / "multiome.h5mu")
    view = read_evidence({"multiome": tmp_path / "multiome.h5mu"}).multiome
    np.testing.assert_allclose(view.spatial.to_numpy(), places)
    with theme():
        groups = {"State": view.obs["state"], "Predicted": view.obs["state"]}
        figure = tissue_groups(view.spatial, view.obs["sample"], groups)
        titles = [axis.get_title(loc="left") for axis in figure.axes]
    # Each library is a tissue of its own.
    assert titles == ["State, donor1", "Predicted, donor1", "State, donor2", "Predicted, donor2"]
    assert sum(len(axis.collections[0].get_offsets()) for axis in figure.axes) == 2 * data.n_obs
    paths = made.paths | {"multiome": str(tmp_path / "multiome.h5mu")}
    kept = ("multiome", "predictions", "task_records", "regulon_activity")
    html = write_report({name: paths[name] for name in kept}, tmp_path / "report")
    assert '<section id="spatial">' in html
    assert 'id="tissue_state"' in html and 'id="tissue_regulons_state"' in html
