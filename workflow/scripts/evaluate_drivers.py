"""Judge driver TFs by the simulator's truth, beside simple methods."""

import logging
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc

from regulonformer.evaluate.drivers import COLUMNS, branches_of, score_ranking
from regulonformer.io.store import open_mudata, read_tsv, write_tsv
from regulonformer.log import rule_log
from regulonformer.simulate.lineage import STATES

RANDOM_SEEDS = 3
# TFs of these programs act at a place of the tree; the others act everywhere.
PLACED = ("state", "broad")


def main(*, multiome, activity, truth, ranked, datasets, columns, recipe, settings, output) -> None:
    """Write how many of the first TFs of each branch are true.

    Parameters
    ----------
    multiome, activity
        Matrices of all cells, and the activity of regulons in them.
    truth
        The simulator's TFs: tf, program, state.
    ranked
        Driver TFs (TSV) of each task.
    datasets, columns
        Name in the table and label column of each task.
    recipe
        Recipe of the model, for the name of our ranking.
    settings
        bootstrap, confidence.
    output
        TSV to write: columns as in `drivers.COLUMNS`.
    """
    known, data = read_tsv(truth), open_mudata(multiome)
    branches = branches_of({state.name: state.parent for state in STATES})
    acts = ad.read_h5ad(activity)
    judged = known[known["tf"].isin(data["rna"].var_names)]
    expression = _log_expression(data["rna"], judged["tf"])
    logging.info("%d of %d TFs of the truth are measured and judged", len(judged), len(known))
    placed = judged[judged["program"].isin(PLACED)]
    true = {leaf: set(placed.loc[placed["state"].isin(states), "tf"]) for leaf, states in branches.items()}
    rows = []
    for path, dataset, column in zip(ranked, datasets, columns, strict=True):
        table = pd.read_csv(path, sep="\t")
        here = {leaf: states for leaf, states in branches.items() if set(states) <= set(table["class"])}
        if here and (lost := sorted(set(branches) - set(here))):
            logging.warning("%s: not judged, as some of their states have no drivers: %s", dataset, ", ".join(lost))
        if not here:
            logging.info("%s: its classes are no states of the simulation, nothing to judge", dataset)
            continue
        methods = _ours(table, here, f"regulonformer ({recipe})")
        methods["expression (Wilcoxon)"] = [_wilcoxon(expression, acts.obs[column], here)]
        means = ad.AnnData(acts.layers["mean_z"], acts.obs, acts.var)
        methods["regulon activity (Wilcoxon)"] = [_wilcoxon(means, acts.obs[column], here)]
        methods["random"] = [_random(judged["tf"], here, seed) for seed in range(RANDOM_SEEDS)]
        resampling = {"n": settings["bootstrap"], "confidence": settings["confidence"], "seed": 0}
        for name, scores in methods.items():
            found = score_ranking(scores, {leaf: true[leaf] for leaf in here}, list(judged["tf"]), **resampling)
            rows += [(name, dataset, "pooled", *row) for row in found]
    write_tsv(pd.DataFrame(rows, columns=COLUMNS), output)


def _log_expression(rna, tfs: pd.Series) -> ad.AnnData:
    """log1p of counts per 10,000 of TFs."""
    cells = ad.AnnData(rna.X[:].astype(np.float32), rna.obs, rna.var)
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    return cells[:, list(tfs)].copy()


def _ours(table: pd.DataFrame, branches, method: str) -> dict[str, list]:
    """Our score, and each kind of evidence alone: mean over the states of a branch."""
    kinds = {method: "score"} | {f"{method}, {kind} alone": kind for kind in ("own", "targets", "attention")}
    wide = {name: table.pivot(index="tf", columns="class", values=kind) for name, kind in kinds.items()}
    return {
        name: [{leaf: scores[states].mean(axis=1) for leaf, states in branches.items()}]
        for name, scores in wide.items()
    }


def _wilcoxon(cells: ad.AnnData, labels: pd.Series, branches) -> dict[str, pd.Series]:
    """Wilcoxon score of each gene between the cells of a branch and all other labelled cells."""
    labels = labels.astype(object).reindex(cells.obs_names).fillna("").astype(str)
    cells = cells[(labels != "").to_numpy()].copy()
    scores = {}
    for leaf, states in branches.items():
        cells.obs["side"] = np.where(labels[cells.obs_names].isin(states), "branch", "rest")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # columns added one by one
            sc.tl.rank_genes_groups(cells, "side", groups=["branch"], reference="rest", method="wilcoxon")
        found = sc.get.rank_genes_groups_df(cells, "branch")
        scores[leaf] = found.set_index("names")["scores"]
    return scores


def _random(tfs: pd.Series, branches, seed: int) -> dict[str, pd.Series]:
    """Scores without meaning."""
    rng = np.random.default_rng(seed)
    return {leaf: pd.Series(rng.random(len(tfs)), index=tfs) for leaf in branches}


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            multiome=job.input.multiome,
            activity=job.input.activity,
            truth=job.input.truth,
            ranked=job.input.tfs,
            datasets=job.params.datasets,
            columns=job.params.columns,
            recipe=job.params.recipe,
            settings=job.params.evaluate,
            output=job.output.drivers,
        )
