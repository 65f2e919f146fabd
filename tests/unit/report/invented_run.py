"""Result files of a run that never was, in the workflow's formats: noise with some structure."""

import json
from pathlib import Path

import anndata
import invented_results
import mudata
import numpy as np
import pandas as pd
from scipy import sparse

from write_report import main

ROOT = Path(__file__).parents[3]
TEMPLATE = ROOT / "workflow" / "report" / "page.html.jinja"
STATES = ["HSC", "MPP", "Ery", "Mono", "B", "T", "NK", "pDC", "Mast", "Platelet", "Eo", "Baso"]
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
    "perturbation": {"direction": "knock_out"},
}


class InventedRun:
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
            "cells": [self.table(f"ingest/{s}.cells.parquet", f) for s, f in zip(self.samples, frames, strict=True)]
        }
        self._quality(frames), self._matrices(), self._prior(), self._training(), self._tasks(), self._drivers()
        self.paths |= invented_results.write_all(self)

    def path(self, name):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def table(self, name, table, index=True):
        path = self.path(name)
        table.to_csv(path, sep="\t", index=False) if path.suffix == ".tsv" else table.to_parquet(path, index=index)
        return str(path)

    def json(self, name, content):
        self.path(name).write_text(json.dumps(content))
        return str(self.path(name))

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
            self.paths["qc"].append(self.json(f"ingest/{sample}.qc.json", record))
        finding = {
            "level": "warning",
            "file": "labels.tsv",
            "message": "3 labels match no barcode",
            "fix": "Check <the> labels",
        }
        self.paths["validation"] = self.json("validate/inputs.json", {"findings": [finding], "samples": []})

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
            data.write_h5mu(self.path("features/multiome.h5mu"))
        model = anndata.AnnData(np.zeros((len(obs), 4), np.float32), obs=obs)
        model.obsm["X_umap"] = places + self.rng.normal(0, 0.6, places.shape)
        liked = self.rng.gamma(2, 1, (len(self.states), len(self.tfs)))
        model.obsm["X_regulons"] = liked[[self.states.index(state) for state in obs["state"]]] + self.rng.gamma(
            1, 0.3, (len(obs), len(self.tfs))
        )
        model.uns["regulons"] = np.array(self.tfs)
        model.write_h5ad(self.path("embed/regulon.h5ad"))
        self.paths |= {
            "multiome": str(self.folder / "features/multiome.h5mu"),
            "embedding": str(self.folder / "embed/regulon.h5ad"),
        }
        self.paths["peaks_summary"] = self.json(
            "features/peaks.json", {"method": "merged", "peaks": 12, "per_library": {"donor1": 14}}
        )
        lost = {"peaks_lost": 3, "counts_lost": 41, "counts_repeated": 2}
        carried = {"library": "donor1", "counted_from": "matrix with other peaks", "counts": 9000, "peaks": 12} | lost
        self.paths["counts"] = [self.json("features/counts/donor1.json", carried)]
        self.paths["merge_summary"] = self.json(
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
        self.paths["links"] = self.table("regulons/links.parquet", links.assign(score=0.5), index=False)
        self.paths["regulons"] = self.table("regulons/regulons.parquet", regulons, index=False)
        self.paths["regulon_summary"] = self.json(
            "regulons/summary.json", invented_results.regulon_summary(len(regulons))
        )
        self.paths["link_summary"] = self.json("regulons/links.json", invented_results.link_summary(rng))
        self._activity()
        self.paths["corpus_summary"] = self.json(
            "corpus/summary.json",
            {"genes": len(self.genes), "linked_peaks": 90, "unmapped": {"net.csv": {"no such gene": 7}}},
        )
        lost = pd.DataFrame({"name": [f"Gone{i}" for i in range(7)], "file": "x/net.csv", "reason": "no such gene"})
        self.paths["corpus_unmapped"] = self.table("corpus/unmapped.tsv", lost)

    def _activity(self):
        """The first regulon stands out in the first state, the second one in the second state and so on."""
        own = np.array([self.states.index(state) for state in self.kept["state"]])
        values = self.rng.normal(0, 1, (len(own), len(self.tfs)))
        values[np.arange(len(own)), own] += 5
        obs = self.kept[["sample", "donor", "state"]].rename_axis(None)
        table = anndata.AnnData(obs=obs, var=pd.DataFrame(index=self.tfs), layers={"mean_z": values})
        table.write_h5ad(self.path("regulons/activity.h5ad"))
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
        self.paths["pretrain_metrics"] = self.table("pretrain/regulon/metrics.tsv", pd.DataFrame(rows, columns=columns))
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
        self.paths["pretrain_run"] = self.json("pretrain/regulon/run.json", record)
        shape = {"width": 64, "heads": 4, "layers": ["regulon", "explorer", "regulon", "explorer"], "slots": 64}
        shape |= {"linear_path": True, "predicts": "counts"}
        config = {"model": shape, "recipe": "regulon", "n_genes": 900, "regulons": ["TF0", "TF1"]}
        self.paths["pretrain_config"] = self.json("pretrain/regulon/config.json", config)
        self.paths["benchmarks"] = [
            self.table(f"benchmarks/{name}.tsv", pd.DataFrame({"s": [seconds], "max_rss": [memory]}))
            for name, seconds, memory in (
                ("ingest_sample/donor1", 4.2, 610.0),
                ("pretrain_model/regulon", 161.0, 1900.0),
                ("merge_samples", 9, 800.0),
            )
        ]

    def _tasks(self):
        """Held-out predictions of each fold: four in five right, the others one state off."""
        self.paths["predictions"], self.paths["task_records"], parts = [], [], []
        for fold, sample in enumerate(self.samples):
            mine = self.kept[self.kept["sample"] == sample]
            truth = mine["state"].to_numpy()
            right = self.rng.random(len(mine)) < 0.84
            near = np.array([self.states[(self.states.index(state) + 1) % len(self.states)] for state in truth])
            table = pd.DataFrame({"cell": mine.index, "sample": sample, "fold": fold, "seed": 0, "truth": truth})
            table["predicted"] = np.where(right, truth, near)
            folder = f"finetune/state/regulon/fold{fold}_seed0"
            self.paths["predictions"].append(self.table(f"{folder}/predictions.parquet", table, index=False))
            record = {"column": "state", "classes": self.states}
            record |= {"trainable_parameters": 9000, "total_parameters": 300000}
            self.paths["task_records"].append(self.json(f"{folder}/task.json", record))
            parts.append(table)
        self.predictions = pd.concat(parts)

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
        self.paths["attribution"] = [self.table("explain/state/attribution.parquet", table, index=False)]
        self.paths["completeness"] = [
            self.json("explain/state/completeness.json", {"cells": 210, "mean_relative_error": 0.013})
        ]

    def write(self, folder, settings=None, config=CONFIG, only=None):
        """Write the report of all inputs, or of those named, and return its HTML."""
        return write_report(
            {name: self.paths[name] for name in (self.paths if only is None else only)}, folder, settings, config
        )


def write_report(inputs, folder, settings=None, config=CONFIG):
    """Write a report into a folder, and return its HTML."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    main(
        inputs=inputs,
        settings={"dpi": 60} | (settings or {}),
        config=config,
        run="toy",
        template=TEMPLATE,
        html=folder / "report.html",
        figures=folder / "figures",
        tables=folder / "tables",
    )
    return (folder / "report.html").read_text()
