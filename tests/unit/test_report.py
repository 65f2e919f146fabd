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
from regulonformer.report.comparison import compare, pooled_scores
from regulonformer.report.evidence import read_evidence
from regulonformer.report.names import duration, listed, percent
from regulonformer.report.style import palette
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
        cells["doublet_score"] = rng.beta(1.5, 12, count)
        reason = np.where(cells["pct_mito"] > 12, "high_mito", "")
        reason = np.where(cells["tss_enrichment"] < 4, np.where(reason != "", "high_mito,low_tss", "low_tss"), reason)
        cells["reason"] = np.where((cells["doublet_score"] > 0.3) & (reason == ""), "doublet", reason)
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
        links = regulons[["cre", "target"]].set_axis(["peak", "gene"], axis=1)
        links["distance"] = rng.laplace(0, 25000, len(links)).clip(-150000, 150000).astype(int)
        links["is_promoter"] = links["distance"].abs() < 1500
        self.paths["links"] = self._table("regulons/links.parquet", links.assign(score=0.5), index=False)
        self.paths["regulons"] = self._table("regulons/regulons.parquet", regulons, index=False)
        self.paths["regulon_summary"] = self._json(
            "regulons/summary.json", {"edges": len(regulons), "dropped": {"few_targets": 3}}
        )

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
            "held_out": [self.samples[-1]],
        }
        self.paths["pretrain_run"] = self._json("pretrain/regulon/run.json", record)
        shape = {"width": 64, "heads": 4, "layers": ["regulon", "explorer", "regulon", "explorer"], "slots": 64}
        self.paths["pretrain_config"] = self._json("pretrain/regulon/config.json", {"model": shape})
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


MATRICES = ["validation", "qc", "cells", "peaks_summary", "merge_summary", "multiome"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Inputs(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def page(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return folder, made.write(folder)


def sections_of(html):
    return re.findall(r'<section id="(\w+)">', html)


def test_all_sections_and_figures_are_there(page):
    folder, html = page
    expected = ["summary", "data", "cells", "regulons", "pretraining", "annotation", "drivers", "methods", "settings"]
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


def test_smaller_goal_leaves_sections_out(made, tmp_path):
    html = made.write(tmp_path, only=MATRICES)
    assert sections_of(html) == ["summary", "data", "cells", "methods", "settings"]
    assert "LoRA" not in html and "Linformer" not in html


def test_no_results_at_all_still_make_a_page(tmp_path, made):
    assert sections_of(made.write(tmp_path, only=[])) == ["summary", "methods", "settings"]


def test_library_without_fragments_and_a_single_modality(made, tmp_path):
    cells = pd.read_parquet(made.paths["cells"][0]).drop(
        columns=["n_fragments", "tss_enrichment", "nucleosome_signal", "doublet_score"]
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
