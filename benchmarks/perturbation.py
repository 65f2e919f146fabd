"""Responses to perturbations that were held out, predicted from the others, beside mean, additive and linear models.

    .venv/bin/python benchmarks/perturbation.py [SCREEN.h5ad] [--quick] [--json FILE]

SCREEN.h5ad holds log-normalised expression and, in obs, `condition` (A, A+B, control), `cell_type` and `dataset`; by
default matrices/perturb_norman/devel.h5ad below REGULONFORMER_DATA (Norman et al. 2019, CRISPRa of single genes and
pairs in K562; McFaline-Figueroa et al. 2024, CRISPRi of kinases in three glioblastoma lines). Conditions are divided
into ten folds, in several ways, and each fold is predicted from the others. Scores are of single conditions (mean over
ways), with intervals from resampling conditions; a gene that was perturbed itself is left out of its score.
"""

import argparse
import json
import os
import re
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

from regulonformer.evaluate.perturbation import change_scores, pearson, perturbed_genes
from regulonformer.explain.response import ResponseModel, condition_kernels

CONTROL, FEWEST_CELLS, FOLDS = "control", 20, 10
PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0)
OURS, RESAMPLES = "regulonformer (mixed model)", 2000
METRICS = ("pearson_change", "pearson_change_top20", "spearman_change", "discrimination", "mse")


class Screen:
    """Mean change of every condition of a screen.

    Attributes
    ----------
    conditions
        Table: condition, cells (kind of cells), n.
    genes
        Perturbed genes of each.
    change_UN, error_UN
        Difference from the controls of the same kind of cells, and its standard error.
    spread_N
        Deviation of single control cells.
    """

    def __init__(self, data) -> None:
        values, rows, changes, errors = data.X.toarray().astype(float), [], [], []
        kinds = data.obs["cell_type"].astype(str).to_numpy()
        labels = data.obs["condition"].astype(str).to_numpy()
        for kind in np.unique(kinds):
            control = values[(kinds == kind) & (labels == CONTROL)]
            for label in np.unique(labels[(kinds == kind) & (labels != CONTROL)]):
                cells = values[(kinds == kind) & (labels == label)]
                if len(cells) >= FEWEST_CELLS:
                    rows.append((label, kind, len(cells)))
                    changes.append(cells.mean(axis=0) - control.mean(axis=0))
                    errors.append(np.sqrt(sum(part.var(axis=0, ddof=1) / len(part) for part in (cells, control))))
        self.conditions = pd.DataFrame(rows, columns=["condition", "cells", "n"])
        self.genes = [frozenset(perturbed_genes(label, CONTROL)) for label in self.conditions["condition"]]
        self.change_UN, self.error_UN = np.stack(changes), np.stack(errors)
        controls = [values[(kinds == kind) & (labels == CONTROL)] for kind in np.unique(kinds)]
        self.spread_N = np.sqrt(np.mean([part.var(axis=0) for part in controls], axis=0))
        self.own_UN = np.array([[name in genes for name in data.var_names] for genes in self.genes])

    def alike(self, u: int, train: np.ndarray) -> np.ndarray:
        """Training conditions in the same kind of cells."""
        kind = self.conditions["cells"].to_numpy()
        return train[kind[train] == kind[u]]

    def singles(self, u: int, train: np.ndarray) -> list[int | None]:
        """For each gene of a condition, the training condition of that gene alone, if there is one."""
        alike = self.alike(u, train)
        return [next((v for v in alike if self.genes[v] == {gene}), None) for gene in sorted(self.genes[u])]


def mean_change(screen: Screen, train, test) -> np.ndarray:
    """Mean change of the training conditions in the same kind of cells."""
    return np.stack([screen.change_UN[screen.alike(u, train)].mean(axis=0) for u in test])


def additive(screen: Screen, train, test) -> np.ndarray:
    """Sum of the single perturbations; the mean change stands in for each that was not seen."""
    means, found = mean_change(screen, train, test), []
    for mean_N, u in zip(means, test, strict=True):
        singles = screen.singles(u, train)
        parts = [mean_N if v is None else screen.change_UN[v] for v in singles]
        found.append(mean_N if singles == [None] else sum(parts))
    return np.stack(found)


def ridge(screen: Screen, train, test) -> np.ndarray:
    """Linear model on which genes were perturbed, per kind of cells; its penalty is chosen by leaving one out."""
    found = []
    for u in test:
        alike = screen.alike(u, train)
        names = sorted(set().union(*(screen.genes[v] for v in [*alike, u])))
        design = np.array([[name in screen.genes[v] for name in names] for v in [*alike, u]], float)
        known, change_VN = design[:-1], screen.change_UN[alike]
        centre, mean_N = known.mean(axis=0), change_VN.mean(axis=0)
        kernel = (known - centre) @ (known - centre).T

        def left_out(penalty, kernel=kernel, change_VN=change_VN, mean_N=mean_N):
            hat = kernel @ np.linalg.inv(kernel + penalty * np.eye(len(kernel))) + 1 / len(kernel)
            rest = change_VN - (mean_N + (hat - 1 / len(kernel)) @ (change_VN - mean_N))
            return ((rest / (1 - np.diag(hat))[:, None]) ** 2).sum()

        penalty = min(PENALTIES, key=left_out)
        weights = np.linalg.solve(kernel + penalty * np.eye(len(kernel)), change_VN - mean_N)
        found.append(mean_N + (design[-1] - centre) @ (known - centre).T @ weights)
    return np.stack(found)


def mixed_model(screen: Screen, train, test) -> np.ndarray:
    """Our response model."""
    kinds = screen.conditions["cells"].to_numpy()
    kernels = condition_kernels(screen.genes, kinds, np.full(len(kinds), "one"))
    cells = screen.conditions["n"].to_numpy(float)
    return ResponseModel(kernels, screen.spread_N, cells).predict(screen.change_UN, train, test)


def no_change(screen: Screen, train, test) -> np.ndarray:
    return np.zeros((len(test), screen.change_UN.shape[1]))


METHODS = {
    OURS: mixed_model,
    "additive": additive,
    "linear (ridge on the perturbed genes)": ridge,
    "mean of other perturbations": mean_change,
    "no change": no_change,
}


def discrimination(screen: Screen, u: int, predicted_N: np.ndarray) -> float:
    """Share of the other conditions of the same cells whose change is further from the prediction (Pearson)."""
    others = np.delete(np.arange(len(screen.genes)), u)
    kept = ~screen.own_UN[u]
    likeness = pearson(predicted_N[kept], screen.change_UN[:, kept])
    rivals = likeness[screen.alike(u, others)]
    return float(np.mean((rivals < likeness[u]) + 0.5 * (rivals == likeness[u])))


def score(screen: Screen, seeds: range) -> pd.DataFrame:
    """One row per condition, method, seed and metric."""
    rows, n = [], len(screen.genes)
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(n)
        for test in np.array_split(order, FOLDS):
            train = np.setdiff1d(np.arange(n), test)
            for method, predict in METHODS.items():
                for u, predicted_N in zip(test, predict(screen, train, test), strict=True):
                    kept = ~screen.own_UN[u]
                    change_N, error_N = screen.change_UN[u, kept], screen.error_UN[u, kept]
                    found = change_scores(predicted_N[kept], change_N[None], error_N)
                    found = {name: float(value[0]) for name, value in found.items()}
                    found["mse"] = np.mean((predicted_N[kept] - change_N) ** 2)
                    found["discrimination"] = discrimination(screen, u, predicted_N)
                    seen = sum(v is not None for v in screen.singles(u, train))
                    kind = {1: "singles", 2: "pairs"}[len(screen.genes[u])]
                    rows += [(u, kind, seen, method, seed, metric, found[metric]) for metric in METRICS]
    return pd.DataFrame(rows, columns=["u", "kind", "seen", "method", "seed", "metric", "value"])


def summarise(part: pd.DataFrame) -> pd.DataFrame:
    """Mean over conditions, its interval, and the interval of ours less each method, over the same resamples."""
    wide = part.groupby(["metric", "u", "method"])["value"].mean().unstack("method")
    rows = []
    for metric, table in wide.groupby(level="metric"):
        drawn = np.random.default_rng(0).integers(len(table), size=(RESAMPLES, len(table)))
        for method in METHODS:
            value, gap = table[method].to_numpy(), (table[OURS] - table[method]).to_numpy()
            bounds = np.quantile(value[drawn].mean(axis=1), [0.025, 0.975])
            gaps = np.quantile(gap[drawn].mean(axis=1), [0.025, 0.975])
            rows.append((metric, method, len(table), value.mean(), *bounds, gap.mean(), *gaps))
    columns = ["metric", "method", "conditions", "value", "low", "high", "gap", "gap_low", "gap_high"]
    return pd.DataFrame(rows, columns=columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("REGULONFORMER_DATA", "data")) / "matrices" / "perturb_norman" / "devel.h5ad"
    parser.add_argument("screen", nargs="?", type=Path, default=default)
    parser.add_argument("--seeds", type=int, default=5, help="ways to divide conditions into folds")
    parser.add_argument("--quick", action="store_true", help="one seed")
    parser.add_argument("--json", type=Path, help="write the figures under flat keys")
    options = parser.parse_args()
    data, flat = anndata.read_h5ad(options.screen), {}
    for name in data.obs["dataset"].unique():
        scores = score(Screen(data[data.obs["dataset"] == name]), range(1 if options.quick else options.seeds))
        subsets = {kind: scores[scores["kind"] == kind] for kind in ("singles", "pairs")}
        subsets["pairs, both singles seen"] = scores[(scores["kind"] == "pairs") & (scores["seen"] == 2)]
        for subset, part in subsets.items():
            if part.empty:
                continue
            table = summarise(part)
            print(f"\n{name}: {subset} ({table['conditions'].iloc[0]} conditions)")
            for metric, rows in table.groupby("metric", sort=False):
                print(f"  {metric}")
                for row in rows.itertuples():
                    text = f"{row.value:9.4f} [{row.low:.4f}, {row.high:.4f}]   ours less it "
                    print(f"    {row.method:40s}{text}{row.gap:+.4f} [{row.gap_low:+.4f}, {row.gap_high:+.4f}]")
            for row in table.itertuples():
                key = re.sub(r"\W+", "_", f"{name} {subset} {row.method} {row.metric}").strip("_")
                flat |= {key: row.value, f"{key}_low": row.low, f"{key}_high": row.high}
                flat |= {f"{key}_gap": row.gap, f"{key}_gap_low": row.gap_low, f"{key}_gap_high": row.gap_high}
    if options.json:
        options.json.write_text(json.dumps(flat, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
