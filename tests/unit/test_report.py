"""The report: honest wording, sections that follow the inputs, the same bytes twice, no network."""

import importlib.util
import json
import re
from pathlib import Path

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from regulonformer.errors import InputError
from regulonformer.report import figures_qc
from regulonformer.report.activity import most_specific, top_of_groups
from regulonformer.report.comparison import compare, pooled_scores
from regulonformer.report.evidence import read_evidence
from regulonformer.report.figures_links import edge_model, link_calibration, reliability
from regulonformer.report.methods import methods
from regulonformer.report.names import METRICS, duration, listed, percent
from regulonformer.report.style import palette, theme
from regulonformer.report.tables import (
    calibration_table,
    edge_evidence_table,
    library_table,
    reason_table,
    score_table,
    threshold_table,
)
from regulonformer.report.text import comparison_sentence, findings
from write_report import main

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "workflow" / "report" / "page.html.jinja"
STATES = ["HSC", "MPP", "Ery", "Mono", "B", "T", "NK", "pDC", "Mast", "Platelet", "Eo", "Baso"]
METHODS = {
    "regulonformer (regulon)": 0.84,
    "logistic regression PCA(RNA)+LSI(ATAC)": 0.85,
    "logistic regression PCA(RNA)": 0.83,
    "logistic regression LSI(ATAC)": 0.78,
    "kNN PCA(RNA)": 0.74,
    "majority": 0.18,
}
CONFIG = {
    "run": "toy",
    "goal": "full",
    "simulate": {"activate": True},
    "reference": {"fasta": "genome.fa", "network": None},
    "ingest": {"min_genes": 100, "doublets": True},
    "regulons": {"jaspar_release": "JASPAR2024"},
    "tasks": {"state": {"column": "state", "type": "classification"}},
    "splits": {"group": "donor", "folds": 3, "seeds": [0, 1]},
    "evaluate": {"confidence": 0.95},
}


def link_summary(rng, pairs=4000):
    """What linking reports: null controls with uniform p, candidates of which every fifth is associated."""
    p_edges, z_edges = np.linspace(0, 1, 21), np.arange(-8, 8.25, 0.25)

    def distribution(p, z):
        ratios = {level: float((p <= float(level)).mean() / float(level)) for level in ("0.05", "0.01", "0.001")}
        counts = {"p_counts": np.histogram(p, p_edges)[0].tolist(), "p_edges": p_edges.tolist()}
        counts |= {"z_counts": np.histogram(z, z_edges)[0].tolist(), "z_edges": z_edges.tolist()}
        return {"pairs": len(p), "observed_over_expected": ratios} | counts

    uniform, z = rng.random(pairs), rng.normal(size=pairs)
    linked = np.arange(pairs) % 5 == 0
    odds = [{"class": "distal", "from_bp": x, "to_bp": 2 * x, "pairs": 50, "odds": 1e4 / x} for x in (2e3, 4e3, 8e3)]
    summary = {"cells": 100, "null": {"bins": 8}, "model": {"odds": odds}}
    summary |= {kind: distribution(uniform, z) for kind in ("control", "beyond")}
    return summary | {"observed": distribution(np.where(linked, uniform / 50, uniform), z + 2 * linked)}


def judged_regulons():
    """Scores of the regulons: ahead in AUPRC, the only ones with a sign, and without an interval for R2."""
    truth, donors = "toy: TF-gene, simulated truth", "toy: expression of held-out donors"
    rows = [
        ("regulonformer (regulons)", truth, "auprc", 0.5, 0.45, 0.55),
        ("regulonformer (regulons)", truth, "sign_accuracy", 0.9, np.nan, np.nan),
        ("Pearson", truth, "auprc", 0.3, 0.25, 0.35),
        ("regulons, shuffled", truth, "auprc", 0.04, 0.03, 0.05),
        ("regulonformer (regulons)", donors, "r2", 0.05, np.nan, np.nan),
        ("Pearson", donors, "r2", 0.07, np.nan, np.nan),
    ]
    table = pd.DataFrame(rows, columns=["method", "dataset", "metric", "value", "ci_low", "ci_high"])
    return table.assign(fold="pooled", seed="all")


def reliability_table():
    """Three levels of the score, of which the last claims too much and has no interval."""
    columns = ["score_low", "score_high", "pairs", "mean_score", "share_true", "ci_low", "ci_high"]
    rows = [(0.1, 0.2, 900, 0.15, 0.2, 0.17, 0.23), (0.5, 0.6, 90, 0.55, 0.5, 0.4, 0.6)]
    rows.append((0.9, 1.0, 9, 0.95, 0.6, np.nan, np.nan))
    return pd.DataFrame(rows, columns=columns).assign(dataset="toy: TF-gene, simulated truth")


class Inputs:
    """Result files of a run, in the workflow's formats, made of noise with some structure."""

    def __init__(self, folder: Path, libraries=2, cells=60, states=4, tfs=5, genes=40, seed=0):
        self.folder, self.rng = Path(folder), np.random.default_rng(seed)
        self.samples = [f"donor{number}" for number in range(1, libraries + 1)]
        self.states = STATES[:states]
        self.tfs = [f"TF{number}" for number in range(1, tfs + 1)]
        self.genes = [f"GENE{number}" for number in range(1, genes + 1)]
        frames = [self._barcodes(sample, cells) for sample in self.samples]
        self.cells = pd.concat(frames)
        self.kept = self.cells[self.cells["reason"] == ""]
        self.paths = {
            "cells": [self._table(f"ingest/{s}.cells.parquet", f) for s, f in zip(self.samples, frames, strict=True)]
        }
        self._quality(frames), self._matrices(), self._prior(), self._training(), self._judgement(), self._drivers()

    def _path(self, name):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _table(self, name, table, index=True):
        path = self._path(name)
        table.to_csv(path, sep="\t", index=False) if path.suffix == ".tsv" else table.to_parquet(path, index=index)
        return str(path)

    def _json(self, name, content):
        self._path(name).write_text(json.dumps(content))
        return str(self._path(name))

    def _barcodes(self, sample, count):
        rng = self.rng
        cells = pd.DataFrame({"sample": sample, "donor": sample, "barcode": [f"BC{i}-1" for i in range(count)]})
        cells["state"] = rng.choice(self.states, count)
        cells["n_counts_rna"] = rng.lognormal(8, 0.5, count).astype(int)
        cells["n_genes"] = (cells["n_counts_rna"] ** 0.85).astype(int)
        cells["pct_mito"] = rng.gamma(2, 2, count)
        cells["n_fragments"] = rng.lognormal(8.4, 0.6, count).astype(int)
        cells["tss_enrichment"] = rng.normal(7, 1.6, count).clip(0.5)
        cells["nucleosome_signal"] = rng.gamma(6, 0.15, count)
        cells["pct_ribo"] = rng.normal(25, 5, count)
        cells["frip"] = rng.beta(20, 12, count)
        cells["blacklist_share"] = rng.beta(2, 300, count)
        cells["duplication_fragments"] = rng.beta(30, 40, count)
        cells["doublet_score"] = rng.beta(1.5, 12, count)
        cells["n_overlap_fragments"] = cells["n_fragments"]
        cells["n_overlap_sites"] = rng.poisson(2e-7 * cells["n_fragments"] ** 2)
        cells["doublet_qvalue"] = np.where(cells["n_overlap_sites"] > 60, 0.001, 1.0)
        reason = np.where(cells["pct_mito"] > 12, "high_mito", "")
        reason = np.where(cells["tss_enrichment"] < 4, np.where(reason != "", "high_mito,low_tss", "low_tss"), reason)
        cells["reason"] = np.where((cells["doublet_score"] > 0.3) & (reason == ""), "doublet_rna", reason)
        return cells.set_index(pd.Index([f"{sample}_{name}" for name in cells["barcode"]], name="cell"))

    def _quality(self, frames):
        limits = {
            "pct_mito": {"low": None, "high": 12},
            "tss_enrichment": {"low": 4, "high": None},
            "n_fragments": {"low": 400, "high": 30000},
        }
        size = np.arange(0, 1000, 10)
        lengths = (
            9000 * np.exp(-size / 60)
            + 3000 * np.exp(-(((size - 195) / 45) ** 2))
            + 700 * np.exp(-(((size - 390) / 60) ** 2))
        )
        profile = 1 + 6 * np.exp(-np.abs(np.linspace(-2, 2, 401)) / 0.25)
        fragments = {
            "total": 90000,
            "in_cells": 70000,
            "length_bin": 10,
            "lengths": [*lengths.astype(int).tolist(), 20],
            "tss_profile": profile.tolist(),
        }
        self.paths["qc"] = []
        for sample, frame in zip(self.samples, frames, strict=True):
            removed = frame.loc[frame["reason"] != "", "reason"].str.split(",").explode().value_counts().to_dict()
            record = {
                "sample": sample,
                "cells_in": len(frame),
                "cells_kept": int((frame["reason"] == "").sum()),
                "removed": removed,
            }
            record |= {"thresholds": limits, "notes": ["doublets: Scrublet's threshold 0.300"], "fragments": fragments}
            record["overlaps"] = {"rate": 2e-7, "dispersion": 0.1, "p_cut": 1e-4}
            self.paths["qc"].append(self._json(f"ingest/{sample}.qc.json", record))
        finding = {
            "level": "warning",
            "file": "labels.tsv",
            "message": "3 labels match no barcode",
            "fix": "Check <the> labels",
        }
        self.paths["validation"] = self._json("validate/inputs.json", {"findings": [finding], "samples": []})

    def _matrices(self):
        obs = self.kept[["sample", "donor", "state"]].rename_axis(None)
        centres = self.rng.normal(0, 4, (len(self.states), 2))
        places = centres[[self.states.index(state) for state in obs["state"]]]
        modalities = {}
        for name, width, spread in (("rna", len(self.genes), 1.0), ("atac", 12, 1.6)):
            modality = anndata.AnnData(sparse.csr_matrix((len(obs), width), dtype=np.int32), obs=obs[[]].copy())
            modality.obsm["X_umap"] = places + self.rng.normal(0, spread, places.shape)
            modalities[name] = modality
        with mudata.set_options(pull_on_update=False):
            data = mudata.MuData(modalities)
            data.obs = obs
            data.write_h5mu(self._path("features/multiome.h5mu"))
        model = anndata.AnnData(np.zeros((len(obs), 4), np.float32), obs=obs)
        model.obsm["X_umap"] = places + self.rng.normal(0, 0.6, places.shape)
        liked = self.rng.gamma(2, 1, (len(self.states), len(self.tfs)))
        model.obsm["X_regulons"] = liked[[self.states.index(state) for state in obs["state"]]] + self.rng.gamma(
            1, 0.3, (len(obs), len(self.tfs))
        )
        model.uns["regulons"] = np.array(self.tfs)
        model.write_h5ad(self._path("embed/regulon.h5ad"))
        self.paths |= {
            "multiome": str(self.folder / "features/multiome.h5mu"),
            "embedding": str(self.folder / "embed/regulon.h5ad"),
        }
        self.paths["peaks_summary"] = self._json(
            "features/peaks.json", {"method": "merged", "peaks": 12, "per_library": {"donor1": 14}}
        )
        lost = {"peaks_lost": 3, "counts_lost": 41, "counts_repeated": 2}
        carried = {"library": "donor1", "counted_from": "matrix with other peaks", "counts": 9000, "peaks": 12} | lost
        self.paths["counts"] = [self._json("features/counts/donor1.json", carried)]
        self.paths["merge_summary"] = self._json(
            "features/merge.json", {"rna": {"removed_in_few_cells": 7, "kept": len(self.genes)}}
        )

    def _prior(self):
        rng, rows = self.rng, []
        for tf in self.tfs:
            for target in rng.choice(self.genes, min(len(self.genes) - 1, rng.integers(6, 30)), replace=False):
                start = int(rng.integers(1, 5000)) * 1000
                rows.append(
                    (tf, target, f"chr1-{start}-{start + 500}", float(rng.beta(2, 4)), int(rng.choice([1, 1, 1, -1])))
                )
        regulons = pd.DataFrame(rows, columns=["source", "target", "cre", "score", "sign"])
        regulons["motif_score"], regulons["link_score"] = rng.beta(4, 2, (2, len(regulons)))
        regulons["association"], regulons["network"] = 3 * regulons["sign"], 0.0
        links = regulons[["cre", "target"]].set_axis(["peak", "gene"], axis=1)
        links["distance"] = rng.laplace(0, 25000, len(links)).clip(-150000, 150000).astype(int)
        links["is_promoter"] = links["distance"].abs() < 1500
        self.paths["links"] = self._table("regulons/links.parquet", links.assign(score=0.5), index=False)
        self.paths["regulons"] = self._table("regulons/regulons.parquet", regulons, index=False)
        self.paths["regulon_summary"] = self._json("regulons/summary.json", self._regulon_summary(len(regulons)))
        self.paths["link_summary"] = self._json("regulons/links.json", link_summary(rng))
        self._activity(regulons)
        self.paths["corpus_summary"] = self._json(
            "corpus/summary.json",
            {"genes": len(self.genes), "linked_peaks": 90, "unmapped": {"net.csv": {"no such gene": 7}}},
        )
        lost = pd.DataFrame({"name": [f"Gone{i}" for i in range(7)], "file": "x/net.csv", "reason": "no such gene"})
        self.paths["corpus_unmapped"] = self._table("corpus/unmapped.tsv", lost)

    @staticmethod
    def _regulon_summary(edges):
        """What building regulons from motifs alone reports; a hundred motifs stand for no gene."""
        motifs = {"motifs_without_gene": [f"Motif{i}" for i in range(100)]}
        motifs["site_strata"] = {"minus_log10_p": [4, 5, 6], "share": [0.1, 0.4, 0.9], "sites": [90, 50, 9]}
        model = {"support_edges": [0.01, 0.1, 1], "share_by_motif_support": [0.02, 0.6]}
        model |= {"null_tail": [0.5, 0.05, 0.0], "density_ratio": [[0.3, 2, 40], [1, 1, 1], [1, 1, 1]]}
        counts = {"edges": edges, "edges_with_motif": edges, "edges_in_network": 0, "dropped": {"few_targets": 3}}
        return counts | {"motifs": motifs, "score_model": model}

    def _activity(self, regulons):
        """The first regulon stands out in the first state, the second one in the second state and so on."""
        own = np.array([self.states.index(state) for state in self.kept["state"]])
        values = self.rng.normal(0, 1, (len(own), len(self.tfs)))
        values[np.arange(len(own)), own] += 5
        obs = self.kept[["sample", "donor", "state"]].rename_axis(None)
        table = anndata.AnnData(obs=obs, var=pd.DataFrame(index=self.tfs), layers={"mean_z": values})
        table.write_h5ad(self._path("regulons/activity.h5ad"))
        self.paths["regulon_activity"] = str(self.folder / "regulons/activity.h5ad")

    def _training(self):
        rows = []
        for step in range(0, 301, 10):
            for split, gap in (("train", 0), ("validation", 0.03)):
                if split == "train" or step % 50 == 0:
                    rows.append(
                        (
                            step,
                            split,
                            0.9 + 0.5 * np.exp(-step / 80) + gap,
                            1.1,
                            0.5 + 0.1 * np.exp(-step / 80) + gap,
                            0.52,
                            1e-3,
                        )
                    )
        columns = ["step", "split", "loss_rna", "floor_rna", "loss_atac", "floor_atac", "learning_rate"]
        self.paths["pretrain_metrics"] = self._table(
            "pretrain/regulon/metrics.tsv", pd.DataFrame(rows, columns=columns)
        )
        record = {
            "python": "3.11.4",
            "packages": {"torch": "2.13.0", "scanpy": "1.11.5"},
            "wall_seconds": 61.0,
            "n_parameters": 54_321,
            "steps_taken": 300,
            "trained_on": self.samples[:-1],
            "n_train_cells": 800,
            "held_out": [self.samples[-1]],
            "n_validation_cells": 400,
        }
        self.paths["pretrain_run"] = self._json("pretrain/regulon/run.json", record)
        shape = {"width": 64, "heads": 4, "layers": ["regulon", "explorer", "regulon", "explorer"], "slots": 64}
        shape |= {"linear_path": True, "predicts": "counts"}
        config = {"model": shape, "recipe": "regulon", "n_genes": 900, "regulons": ["TF0", "TF1"]}
        self.paths["pretrain_config"] = self._json("pretrain/regulon/config.json", config)
        self.paths["benchmarks"] = [
            self._table(f"benchmarks/{name}.tsv", pd.DataFrame({"s": [seconds], "max_rss": [memory]}))
            for name, seconds, memory in (
                ("ingest_sample/donor1", 4.2, 610.0),
                ("pretrain_model/regulon", 161.0, 1900.0),
                ("merge_samples", 9, 800.0),
            )
        ]

    def _judgement(self):
        predictions, self.paths["predictions"], self.paths["task_records"] = [], [], []
        for fold, sample in enumerate(self.samples):
            mine = self.kept[self.kept["sample"] == sample]
            truth = mine["state"].to_numpy()
            right = self.rng.random(len(mine)) < 0.84
            near = np.array([self.states[(self.states.index(state) + 1) % len(self.states)] for state in truth])
            table = pd.DataFrame(
                {
                    "cell": mine.index,
                    "sample": sample,
                    "fold": fold,
                    "seed": 0,
                    "truth": truth,
                    "predicted": np.where(right, truth, near),
                }
            )
            folder = f"finetune/state/regulon/fold{fold}_seed0"
            self.paths["predictions"].append(self._table(f"{folder}/predictions.parquet", table, index=False))
            record = {
                "column": "state",
                "classes": self.states,
                "trainable_parameters": 9000,
                "total_parameters": 300000,
            }
            self.paths["task_records"].append(self._json(f"{folder}/task.json", record))
            predictions.append(table)
        self.paths["annotation"] = self._table("evaluate/annotation.tsv", self._scores())
        self.paths["grn"] = self._table("evaluate/grn.tsv", judged_regulons())
        self.paths["grn_reliability"] = self._table("evaluate/grn_reliability.tsv", reliability_table())

    def _scores(self):
        rows = []
        for method, base in METHODS.items():
            for metric, shift in (("accuracy", 0.03), ("macro_f1", 0.0), ("balanced_accuracy", 0.01)):
                value = base + shift
                rows.append((method, "toy:state", "pooled", "all", metric, value, value - 0.02, value + 0.02))
                rows += [
                    (method, "toy:state", str(fold), "0", metric, value + self.rng.normal(0, 0.015), np.nan, np.nan)
                    for fold in range(3)
                ]
        return pd.DataFrame(rows, columns=["method", "dataset", "fold", "seed", "metric", "value", "ci_low", "ci_high"])

    def _drivers(self):
        rows = []
        for number, state in enumerate(self.states):
            for modality, scale in (("rna", 1.0), ("atac", 0.5)):
                values = scale * self.rng.exponential(0.05, len(self.genes))
                own = slice(number * 3 % len(self.genes), number * 3 % len(self.genes) + 3)
                values[own] += scale * self.rng.uniform(0.4, 1, len(values[own]))
                rows += [
                    (state, gene, modality, value, 0.1, 30, 0, value)
                    for gene, value in zip(self.genes, values, strict=True)
                ]
        columns = ["class", "gene", "modality", "attribution", "std", "n_cells", "fold", "specificity"]
        table = pd.DataFrame(rows, columns=columns)
        self.paths["attribution"] = [self._table("explain/state/attribution.parquet", table, index=False)]
        self.paths["completeness"] = [
            self._json("explain/state/completeness.json", {"cells": 210, "mean_relative_error": 0.013})
        ]

    def write(self, folder, settings=None, config=CONFIG, only=None):
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        given = self.paths if only is None else {name: self.paths[name] for name in only}
        main(
            inputs=given,
            settings={"dpi": 60} | (settings or {}),
            config=config,
            run="toy",
            template=TEMPLATE,
            html=folder / "report.html",
            figures=folder / "figures",
        )
        return (folder / "report.html").read_text()


ALL_OF_THE_PRIOR = [
    "links",
    "link_summary",
    "regulons",
    "regulon_summary",
    "regulon_activity",
    "grn",
    "grn_reliability",
    "multiome",
    "embedding",
]
MATRICES = ["validation", "qc", "cells", "peaks_summary", "merge_summary", "multiome"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Inputs(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def page(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return folder, made.write(folder)


@pytest.fixture
def unrendered(monkeypatch):
    """Figures are made but not written, which takes most of a page's time; `page` writes every one of them."""

    def anchor(figure, name, folder, dpi):
        return f'<svg data-name="{name}"></svg>'

    monkeypatch.setattr("regulonformer.report.blocks.write_figure", anchor)


def sections_of(html):
    return re.findall(r'<section id="(\w+)">', html)


def test_all_sections_and_figures_are_there(page):
    folder, html = page
    expected = ["summary", "data", "cells", "regulons", "model", "pretraining", "annotation", "drivers"]
    expected += ["methods", "settings"]
    assert sections_of(html) == expected
    assert html.count("<figure") == html.count("<svg") == len(list((folder / "figures").glob("*.svg"))) >= 13
    stems = {
        path.suffix: {file.stem for file in (folder / "figures").glob(f"*{path.suffix}")}
        for path in (Path("a.svg"), Path("a.png"))
    }
    assert stems[".svg"] == stems[".png"]
    assert html.count('role="img"') == html.count("<figcaption")


def test_page_fetches_nothing_and_ids_are_unique(page):
    html = page[1]
    fetched = re.findall(r'(?:src|href)="(?!#|data:)([^"]+)"', html)
    assert fetched == []
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'<a href="#([^"]+)"', html)) <= set(ids)
    assert len(html) < 15e6


def test_text_from_files_is_escaped(page):
    assert "Check &lt;the&gt; labels" in page[1]


def test_same_inputs_give_same_bytes(made, page, tmp_path):
    assert made.write(tmp_path) == page[1]
    for figure in sorted((tmp_path / "figures").iterdir()):
        assert figure.read_bytes() == (page[0] / "figures" / figure.name).read_bytes(), figure.name


def test_counts_lost_between_peak_sets_are_shown(page):
    text = " ".join(re.sub(r"<[^>]+>", " ", page[1]).split())
    assert "donor1 matrix with other peaks 9,000 3 41 2" in text


def test_the_model_is_described_and_its_card_is_named(page):
    text = " ".join(re.sub(r"<[^>]+>", " ", page[1]).split())
    assert "Parameters 54,321 Genes 900 Regulons 2 Layers regulon, explorer, regulon, explorer" in text
    assert "Held out 400 cells of donor" in text and "pretrain/*/README.md" in text


def test_names_without_a_gene_are_counted_with_examples(page):
    text = " ".join(re.sub(r"<[^>]+>", " ", page[1]).split())
    assert "net.csv no such gene 7 Gone0, Gone1, Gone2, Gone3, Gone4 and 2 more" in text


@pytest.mark.usefixtures("unrendered")
def test_smaller_goal_leaves_sections_out(made, tmp_path):
    html = made.write(tmp_path, only=MATRICES)
    assert sections_of(html) == ["summary", "data", "cells", "methods", "settings"]
    assert "LoRA" not in html and "Linformer" not in html


def test_no_results_at_all_still_make_a_page(tmp_path, made):
    assert sections_of(made.write(tmp_path, only=[])) == ["summary", "methods", "settings"]


@pytest.mark.usefixtures("unrendered")
@pytest.mark.parametrize(
    ("missing", "gone"),
    [
        (["link_summary", "grn"], {"link_calibration", "forest_TF_gene__simulated_truth", "reliability"}),
        (["grn_reliability"], {"reliability"}),
        (["regulon_summary", "multiome"], {"edge_model"}),
        (["regulon_activity", "embedding"], {"regulon_activity"}),
        (["multiome", "embedding", "links"], {"regulon_activity"}),
    ],
)
def test_inputs_of_the_regulons_may_be_missing(made, tmp_path, missing, gone):
    html = made.write(tmp_path, only=[name for name in ALL_OF_THE_PRIOR if name not in missing])
    everything = {"link_calibration", "edge_model", "regulon_activity", "forest_TF_gene__simulated_truth"}
    everything.add("reliability")
    assert {stem for stem in everything if f'id="{stem}"' in html} == everything - gone
    assert {'id="top_regulons"', 'id="edge_evidence"', 'id="regulon_overview"'} <= set(re.findall(r'id="\w+"', html))


def test_network_alone_has_no_elements_and_no_motifs(made, tmp_path):
    regulons = pd.read_parquet(made.paths["regulons"])[["source", "target", "score", "sign"]].assign(network=1.0)
    regulons.to_parquet(tmp_path / "regulons.parquet")
    evidence = read_evidence({"regulons": tmp_path / "regulons.parquet"})
    table = edge_evidence_table(evidence.regulons, ["TF1"])
    assert table.columns == ["TF", "Target", "Direction", "CRE", "Score", "Network"]
    assert {row[3] for row in table.rows} == {"–"}
    summary = {
        "edges_in_network": 9,
        "score_model": {"null_tail": [0.5, 0.0], "density_ratio": [[1, 1], [1, 3], [1, 1]]},
    }
    with theme():
        assert [axis.get_title(loc="left") for axis in edge_model(summary).axes] == ["What association says"]
        assert edge_model({"edges": 9}) is None


def test_regulons_of_each_state_are_those_that_stand_out(made, page):
    text = " ".join(re.sub(r"<[^>]+>", " ", page[1]).split())
    activity = read_evidence({"regulon_activity": made.paths["regulon_activity"]}).regulon_activity
    top = top_of_groups(activity.differences(activity.obs["state"]), 1)
    assert dict(zip(top["group"], top["tf"], strict=True)) == dict(zip(made.states, made.tfs, strict=False))
    for row in top.itertuples():
        assert f"{row.group} {row.tf} +{row.difference:.2f}" in text
    # Four maps: one regulon of each state.
    specific = most_specific(top_of_groups(activity.differences(activity.obs["state"]), 3), 4)
    assert specific == dict(zip(made.tfs, made.states, strict=False))


def test_differences_of_activity_are_read_in_blocks(made, monkeypatch):
    activity = read_evidence({"regulon_activity": made.paths["regulon_activity"]}).regulon_activity
    monkeypatch.setattr("regulonformer.report.activity.BLOCK_CELLS", 7)
    groups = activity.obs["state"].astype(str).where(np.arange(len(activity.obs)) > 10)
    values = activity.of_regulons(list(activity.tfs))[groups.notna().to_numpy()]
    known = groups.dropna()
    for state, row in activity.differences(groups).iterrows():
        mine = (known == state).to_numpy()
        expected = (values[mine].mean() - values[~mine].mean()) / values.std(ddof=0)
        np.testing.assert_allclose(row, expected, rtol=1e-4)


@pytest.mark.usefixtures("unrendered")
def test_one_library_without_labels_has_no_groups(tmp_path):
    one = Inputs(tmp_path / "one", libraries=1)
    html = one.write(tmp_path / "report", config={"run": "one"}, only=ALL_OF_THE_PRIOR)
    assert 'id="state_regulons"' not in html and 'id="edge_evidence"' in html
    assert "Activity of the strongest regulons" in html


def test_calibration_shows_uniform_controls_and_the_excess_of_candidates():
    summary = link_summary(np.random.default_rng(1))
    with theme():
        p_values, z_scores, odds = link_calibration(summary).axes
        steps = {patch.get_label(): patch.get_data().values for patch in p_values.patches}
        assert np.abs(steps["null controls"] - 1).max() < 0.25
        assert steps["candidate pairs"][0] > 3 and steps["candidate pairs"][5:].max() < 1.1
        assert odds.get_lines()[0].get_ydata().tolist() == [5, 2.5, 1.25]
        without_null = {key: summary[key] for key in ("cells", "model")}
        assert [axis.get_title(loc="left") for axis in link_calibration(without_null).axes] == ["Learnt odds of a link"]
        assert link_calibration({"cells": 3}) is None
    table = calibration_table(summary)
    assert [row[0] for row in table.rows] == ["Null controls", "Just out of reach", "Candidate pairs"]
    assert 0.7 < float(table.rows[0][2]) < 1.3 and float(table.rows[2][2]) > 3
    assert calibration_table({"cells": 3}) is None


def test_reliability_is_drawn_as_it_was_measured():
    table = reliability_table()
    other = table.assign(dataset="toy: CRE-gene, simulated truth", share_true=0.0, ci_low=0.0, ci_high=0.0)
    with theme():
        figure = reliability(pd.concat([table, other]))
        first, second, *counts = figure.axes
        assert first.get_title(loc="left") == "toy: TF-gene, simulated truth"
        diagonal, curve = first.get_lines()[:2]
        assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]
        np.testing.assert_allclose(curve.get_xydata(), table[["mean_score", "share_true"]])
        assert not second.get_lines()[1].get_ydata().any()
        assert [bar.get_height() for bar in counts[0].patches] == [900, 90, 9]
        assert reliability(table.head(0)) is None


def test_judgement_is_explained_and_claims_no_more_than_intervals_allow(made, page):
    text = " ".join(re.sub(r"<[^>]+>", " ", page[1]).split())
    assert "Regulons, shuffled: our own regulons with their targets swapped at random" in text
    table = score_table(judged_regulons(), "toy: TF-gene, simulated truth", "TF-gene pairs", "evaluate/grn.tsv")
    assert table.rows[0] == ["Regulonformer (regulons), ours", "0.500 ★ [0.450, 0.550]", "0.900"]
    assert table.rows[-1] == ["Regulons, shuffled", "0.040 [0.030, 0.050]", "–"]
    assert table.numeric == [False, True, True]
    said = {finding.topic: finding for finding in findings(read_evidence(made.paths))}
    assert said["TF-gene pairs (simulated truth)"].verdict == "ahead"
    assert "an AUPRC of 0.500" in said["TF-gene pairs (simulated truth)"].sentence
    assert said["Expression of held-out donors"].verdict == "open"


def test_long_lists_are_shortened_and_models_are_no_counts(page):
    text = " ".join(re.sub(r"<[^>]+>", " ", page[1]).split())
    assert "Motif10, Motif11 and 88 more" in text
    assert "Score model" not in text and "site strata" not in text


def test_library_without_fragments_and_a_single_modality(made, tmp_path):
    cells = pd.read_parquet(made.paths["cells"][0]).drop(
        columns=["n_fragments", "tss_enrichment", "nucleosome_signal", "doublet_score", "doublet_qvalue"]
    )
    cells["pct_mito"] = 0.0
    cells.to_parquet(tmp_path / "one.cells.parquet")
    record = json.loads(Path(made.paths["qc"][0]).read_text()) | {"fragments": None, "thresholds": {}}
    (tmp_path / "one.qc.json").write_text(json.dumps(record))
    inputs = {"cells": [tmp_path / "one.cells.parquet"], "qc": tmp_path / "one.qc.json"}
    main(
        inputs=inputs,
        settings={},
        config={},
        run="one",
        template=TEMPLATE,
        html=tmp_path / "r.html",
        figures=tmp_path / "f",
    )
    assert {path.name for path in (tmp_path / "f").glob("*.svg")} == {"barcode_fates.svg", "qc_metrics.svg"}


@pytest.mark.parametrize("libraries", [1, 3, 12])
def test_every_metric_has_a_panel_with_its_cut_for_any_number_of_libraries(tmp_path, libraries):
    evidence = read_evidence(Inputs(tmp_path, libraries=libraries).paths)
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


@pytest.mark.usefixtures("unrendered")
def test_unknown_input_name_and_unknown_colour_are_refused(made, tmp_path):
    with pytest.raises(ValueError, match="regulon_tabel"):
        read_evidence({"regulon_tabel": "x"})
    with pytest.raises(InputError, match=r"report.colour_by: the cells have no column 'celltype'"):
        made.write(tmp_path, {"colour_by": "celltype"}, only=MATRICES)


def scores(ours, baseline, half=0.01):
    rows = [("regulonformer", ours), ("knn", baseline), ("majority", 0.1)]
    table = [(method, "d:t", "pooled", "all", "macro_f1", value, value - half, value + half) for method, value in rows]
    return pd.DataFrame(table, columns=["method", "dataset", "fold", "seed", "metric", "value", "ci_low", "ci_high"])


@pytest.mark.parametrize(
    ("ours", "baseline", "outcome", "words"),
    [
        (0.9, 0.8, "above", "It is ahead of the best baseline, k nearest neighbours"),
        (0.8, 0.9, "below", "It loses to the best baseline, k nearest neighbours"),
        (0.805, 0.8, "tied", "our value is 0.005 higher, within overlapping intervals"),
        (0.795, 0.8, "tied", "our value is 0.005 lower, within overlapping intervals"),
    ],
)
def test_wins_ties_and_losses_are_said_as_they_are(ours, baseline, outcome, words):
    found = compare(pooled_scores(scores(ours, baseline)), "d:t", "macro_f1")
    assert found.outcome == outcome
    assert words in comparison_sentence(found)


def test_no_claim_without_intervals_or_baselines():
    table = scores(0.9, 0.5).assign(ci_low=np.nan, ci_high=np.nan)
    assert "proves nothing" in comparison_sentence(compare(pooled_scores(table), "d:t", "macro_f1"))
    alone = table[table["method"] == "regulonformer"]
    assert "nothing to stand against" in comparison_sentence(compare(pooled_scores(alone), "d:t", "macro_f1"))


def test_row_over_all_seeds_counts_once():
    table = scores(0.9, 0.5)
    one_seed = table.assign(seed="0", value=0.0)
    pooled = pooled_scores(pd.concat([table, one_seed]))
    assert pooled.set_index("method").loc["regulonformer", "value"] == 0.9


def test_lower_is_better_for_calibration():
    table = scores(0.02, 0.1, half=0.005).assign(metric="ece")
    table = table[table["method"] != "majority"]
    assert compare(pooled_scores(table), "d:t", "ece").outcome == "above"


def test_headline_says_when_pretraining_is_above_its_floor(made):
    said = {finding.section: finding for finding in findings(read_evidence(made.paths))}
    # The synthetic curves end at .945 against 1.1 (RNA) and at .532 against .52 (ATAC).
    assert "below the floor for RNA" in said["pretraining"].sentence
    assert "above the floor for ATAC" in said["pretraining"].sentence
    assert "not yet learned more than averages" in said["pretraining"].sentence
    assert said["annotation"].verdict == "tied"


def test_methods_say_what_pretraining_saw(page):
    html = page[1]
    assert "without any label" in html and "except those held out for validation (donor2)" in html
    assert "simulated, with a known regulatory network" in html


def test_methods_follow_layers_and_objective(made, page):
    text = " ".join(re.sub(r"<[^>]+>", " ", page[1]).split())
    assert "2 regulon layers and 2 explorer layers of width 64" in text and "negative binomial likelihood" in text
    assert "regulon layers have one slot per regulon" in text and "are added to the cell embedding" in text
    evidence = read_evidence(made.paths)
    evidence.pretrain_config["model"] |= {"layers": ["tf", "explorer"], "linear_path": False, "predicts": "values"}
    text = " ".join(paragraph.sentences for paragraph in methods(evidence, CONFIG))
    assert "1 tf layer and 1 explorer layer" in text and "tf layers have free slots, pooled from the TFs alone" in text
    assert "with a Huber loss" in text and "each gene's mean value over the training cells that show it" in text
    assert not re.search("negative binomial likelihood|regulon layers|are added to the cell embedding", text)


def test_palette_is_distinct_and_numbers_are_written_for_people():
    assert len(set(palette(map(str, range(40))).values())) == 40
    assert [percent(1, 3), percent(0, 5), percent(99, 100)] == ["33 %", "0 %", "99.0 %"]
    assert listed("abc") == "a, b and c" and listed("abcdefgh", 3) == "a, b, c and 5 more"
    assert [duration(3), duration(90), duration(600), duration(9000)] == ["3.0 s", "90 s", "10.0 min", "2.5 h"]


def browser_checks():
    path = ROOT / "tests" / "integration" / "check_report.py"
    spec = importlib.util.spec_from_file_location("check_report", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_is_quiet_in_a_browser(page, tmp_path):
    check = browser_checks()
    if check.browser() is None:
        pytest.skip("no Chromium on this machine")
    assert check.console_errors(page[0] / "report.html") == []
    assert 'class="here"' in check.loaded_page(page[0] / "report.html")
    broken = tmp_path / "broken.html"
    broken.write_text("<script>console.error('one'); missing();</script>")
    assert len(check.console_errors(broken)) == 2
