"""Data and quality control: every barcode once, every cut and reason with its number."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from invented_run import InventedRun, write_report

from regulonformer.report.evidence import read_evidence
from regulonformer.report.figures import qc as figures_qc
from regulonformer.report.style import theme
from regulonformer.report.tables.quality import library_table, reason_table, threshold_table
from regulonformer.report.words.names import METRICS


def test_counts_lost_between_peak_sets_are_shown(text):
    assert "donor1 matrix with other peaks 9,000 3 41 2" in text


def test_names_without_a_gene_are_counted_with_examples(text):
    assert "net.csv no such gene 7 Gone0, Gone1, Gone2, Gone3, Gone4 and 2 more" in text


def test_library_without_fragments_and_a_single_modality(made, tmp_path):
    cells = pd.read_parquet(made.paths["cells"][0]).drop(
        columns=["n_fragments", "tss_enrichment", "nucleosome_signal", "doublet_score", "doublet_qvalue"]
    )
    cells["pct_mito"] = 0.0
    cells.to_parquet(tmp_path / "one.cells.parquet")
    record = json.loads(Path(made.paths["qc"][0]).read_text()) | {"fragments": None, "thresholds": {}}
    (tmp_path / "one.qc.json").write_text(json.dumps(record))
    inputs = {"cells": [tmp_path / "one.cells.parquet"], "qc": tmp_path / "one.qc.json"}
    write_report(inputs, tmp_path, config={})
    assert {path.name for path in (tmp_path / "figures").glob("*.svg")} == {"barcode_fates.svg", "qc_metrics.svg"}


@pytest.mark.parametrize("libraries", [1, 3, 12])
def test_every_metric_has_a_panel_with_its_cut_for_any_number_of_libraries(tmp_path, libraries):
    evidence = read_evidence(InventedRun(tmp_path, libraries=libraries).paths)
    thresholds = {record["sample"]: record["thresholds"] for record in evidence.qc}
    with theme():
        figure = figures_qc.metric_distributions(evidence.cells, thresholds)
        panels = {axis.get_title(loc="left"): axis for axis in figure.axes if axis.get_visible()}
        measured = [name for metric, name in METRICS.items() if metric in evidence.cells and metric != "doublet_qvalue"]
        assert list(panels) == measured and len(measured) == 12
        # One dashed line per library and cut, at the value of the cut.
        lines = panels[METRICS["pct_mito"]].get_lines()
        assert [line.get_ydata()[0] for line in lines] == [12] * libraries
        assert len(panels[METRICS["n_fragments"]].get_lines()) == 2 * libraries
        assert len(figures_qc.modality_scatter(evidence.cells, 1000).axes) >= libraries
        overlaps = {record["sample"]: record["overlaps"] for record in evidence.qc}
        assert figures_qc.doublet_overlaps(evidence.cells, overlaps) is not None
        assert figures_qc.doublet_overlaps(evidence.cells.drop(columns="doublet_qvalue"), overlaps) is None


def test_shapes_count_every_barcode_once():
    cells = pd.DataFrame(
        {"sample": "a", "n_genes": [0, 10, 10, 10, 1_000_000], "reason": ["low_genes", "", "", "", "x"]}
    )
    with theme():
        figure = figures_qc.metric_distributions(cells, {"a": {"n_genes": {"low": 5, "high": None}}})
        everyone, kept = (shape.get_paths()[0].vertices for shape in figure.axes[0].collections)
    widest = figures_qc.HALF_WIDTH
    assert everyone[:, 0].max() == kept[:, 0].max() == pytest.approx(widest)
    # The removed ones, far below and far above, are seen outside of the kept ones.
    occupied = everyone[np.abs(everyone[:, 0]) > 0, 1]
    inside = kept[np.abs(kept[:, 0]) > 0, 1]
    assert occupied.min() < inside.min() and occupied.max() > inside.max()


def test_reasons_are_counted_per_library_and_in_total():
    qc = [
        {"sample": "a", "cells_in": 10, "cells_kept": 7, "removed": {"high_mito": 2, "doublet_atac": 1, "low_tss": 1}},
        {"sample": "b", "cells_in": 20, "cells_kept": 20, "removed": {}},
    ]
    table = reason_table(qc)
    assert table.columns == ["Reason", "a", "b", "all libraries"]
    assert table.rows[0] == ["Mitochondrial", "2", "0", "2"]
    assert ["Doublet by ATAC", "1", "0", "1"] in table.rows
    assert library_table(qc).rows[-1] == ["all libraries", "30", "27", "90 %", "3"]
    assert reason_table(qc[1:]) is None


def test_limits_stand_per_metric_and_library():
    qc = [
        {"sample": "a", "thresholds": {"pct_mito": {"low": None, "high": 20}}},
        {"sample": "b", "thresholds": {"n_genes": {"low": 100, "high": 3000.0}, "doublet_qvalue": {"low": 0.01}}},
    ]
    table = threshold_table(qc)
    assert table.columns == ["Metric", "a", "b"]
    assert table.rows == [
        ["Genes per cell", "–", "100 to 3,000"],
        ["Mitochondrial RNA (%)", "≤ 20", "–"],
        ["Doublet q-value (ATAC)", "–", "≥ 0.01"],
    ]
