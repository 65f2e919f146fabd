"""Invented results of scoring, explaining and perturbing: tables with the workflow's columns."""

import numpy as np
import pandas as pd

OURS = "regulonformer (regulon)"
BOTH = "logistic regression PCA(RNA)+LSI(ATAC)"
METHODS = {
    OURS: 0.84,
    f"{OURS}, RNA only": 0.80,
    BOTH: 0.85,
    "logistic regression PCA(RNA)": 0.83,
    "logistic regression LSI(ATAC)": 0.78,
    "kNN PCA(RNA)": 0.74,
    "majority": 0.18,
}
SCORES = ["method", "dataset", "fold", "seed", "metric", "value", "ci_low", "ci_high"]


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


def regulon_summary(edges):
    """What building regulons from motifs alone reports; a hundred motifs stand for no gene."""
    motifs = {"motifs_without_gene": [f"Motif{i}" for i in range(100)]}
    motifs["site_strata"] = {"minus_log10_p": [4, 5, 6], "share": [0.1, 0.4, 0.9], "sites": [90, 50, 9]}
    model = {"support_edges": [0.01, 0.1, 1], "share_by_motif_support": [0.02, 0.6]}
    model |= {"null_tail": [0.5, 0.05, 0.0], "density_ratio": [[0.3, 2, 40], [1, 1, 1], [1, 1, 1]]}
    counts = {"edges": edges, "edges_with_motif": edges, "edges_in_network": 0, "dropped": {"few_targets": 3}}
    return counts | {"motifs": motifs, "score_model": model}


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


def tidy(dataset, values, metrics, half=0.02):
    """Pooled rows of every method and metric; metrics after the first are a little higher."""
    rows = [
        (
            method,
            dataset,
            "pooled",
            "all",
            metric,
            value + 0.01 * at,
            value + 0.01 * at - half,
            value + 0.01 * at + half,
        )
        for method, value in values.items()
        for at, metric in enumerate(metrics)
    ]
    return pd.DataFrame(rows, columns=SCORES)


def annotation(rng):
    """Scores of labels, with folds beside the pooled rows."""
    pooled = tidy("toy:state", METHODS, ["macro_f1", "balanced_accuracy", "accuracy"])
    error = tidy("toy:state", dict.fromkeys(METHODS, 0.04), ["ece"], half=0.01)
    folds = [
        pooled.assign(fold=str(fold), seed="0", value=pooled["value"] + rng.normal(0, 0.015, len(pooled)))
        for fold in range(3)
    ]
    return pd.concat([pooled, error, *(part.assign(ci_low=np.nan, ci_high=np.nan) for part in folds)])


def differences():
    """Ours less each method: a tie with the best, wins over the others."""
    rows = []
    for method, value in METHODS.items():
        gap = METHODS[OURS] - value
        if method != OURS:
            verdict = "wins" if gap > 0.02 else "ties"
            rows += [(method, "toy:state", metric, gap, gap - 0.02, gap + 0.02, verdict) for metric in
                     ("macro_f1", "balanced_accuracy", "accuracy")]  # fmt: skip
            rows.append((method, "toy:state", "ece", 0.0, -0.01, 0.01, "ties"))
    return pd.DataFrame(rows, columns=["method", "dataset", "metric", "value", "ci_low", "ci_high", "verdict"])


def confusion(predictions):
    """Counts of our predictions, true classes in rows."""
    counts = pd.crosstab(predictions["truth"], predictions["predicted"])
    classes = sorted(set(counts.index) | set(counts.columns))
    counts = counts.reindex(index=classes, columns=classes, fill_value=0)
    return {"toy:state": {OURS: {"classes": classes, "counts": counts.to_numpy().tolist()}}}


def recall(predictions):
    """Recall of each class for all methods, those of ours as the predictions have it."""
    right = predictions["truth"] == predictions["predicted"]
    mine = right.groupby(predictions["truth"]).agg(["mean", "size"])
    rows = [
        (method, "toy:state", name, size, min(1.0, mean + value - METHODS[OURS]), 0.8, mean - 0.1, min(1, mean + 0.1))
        for method, value in METHODS.items()
        for name, (mean, size) in mine.iterrows()
    ]
    columns = ["method", "dataset", "class", "n_cells", "recall", "precision", "ci_low", "ci_high"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(recall=table["recall"].clip(lower=0), n_cells=table["n_cells"].astype(int))


def reliability():
    """Five bins of confidence; ours holds what it says, the others claim a tenth too much."""
    bins = np.linspace(0.4, 0.95, 5)
    rows = [
        (method, "toy:state", at, value, value - 0.1 * (method != OURS), 40)
        for method in METHODS
        for at, value in enumerate(bins)
    ]
    return pd.DataFrame(rows, columns=["method", "dataset", "bin", "confidence", "accuracy", "n_cells"])


def learning_curve():
    """Macro-F1 and accuracy rise with labels; ours starts higher."""
    parts = []
    for labels in (5, 10, 20, 50):
        lift = {OURS: 0.2, f"{OURS}, no pretraining": 0.05, BOTH: 0.1}
        values = {method: 0.3 + start + 0.1 * np.log10(labels) for method, start in lift.items()}
        parts.append(tidy("toy:state", values, ["macro_f1", "accuracy"]).assign(labels_per_class=labels))
    table = pd.concat(parts)
    return table.assign(verdict=np.where(table["method"] == OURS, "", "wins"))


def drivers(states, tfs, genes):
    """Each state has two genes of its own, of which the first is a TF and a marker, and one TF."""
    names, rows, ranked, influence, rich, stable = [*tfs, *genes], [], [], [], [], []
    for number, state in enumerate(states):
        for modality in ("rna", "atac"):
            for rank, gene in enumerate([names[number], genes[2 * number], genes[-1]], start=1):
                passed = rank < 3
                found = (1 / rank, 1 / rank, 5.0, 0.001, 0.01 if passed else 0.6, rank, rank == 1, 30)
                rows.append((state, gene, modality, gene in tfs, *found))
            stable += [(state, modality, between, 3, 0.8, 0.7, 0.9, 0.6, 0.7, 40) for between in ("seeds", "folds")]
        for at, tf in enumerate(tfs):
            own = at == number
            ranked.append(
                (state, tf, 3.0 if own else 0.1 * at - 1, 0.01, 0.02 if own else 0.8, 1.0, 2.0, 3.0, 12, at + 1)
            )
            influence.append((state, tf, 0.2, 0.2, 0.2, 4.0 if own else -0.5, 0.01, 0.02 if own else 0.9, at + 1))
        rich.append((state, tfs[number], "regulon", 5, 1.2, 12, 50, 900, 0.001, 0.01, " ".join(genes[:5])))
    return {
        "drivers": pd.DataFrame(rows, columns=["class", "gene", "modality", "is_tf", "attribution", "specificity", "z",
                                               "p", "fdr", "rank", "is_marker", "n_cells"]),
        "driver_tfs": pd.DataFrame(ranked, columns=["class", "tf", "score", "p", "fdr", "own", "targets", "attention",
                                                    "n_targets", "rank"]),
        "regulon_influence": pd.DataFrame(influence, columns=["class", "regulon", "influence", "cell_attention",
                                                              "gene_attention", "z", "p", "fdr", "rank"]),
        "enrichment": pd.DataFrame(rich, columns=["class", "set", "kind", "overlap", "expected", "set_size", "drivers",
                                                  "background", "p", "fdr", "genes"]),
        "driver_stability": pd.DataFrame(stable, columns=["class", "modality", "between", "pairs", "spearman", "ci_low",
                                                          "ci_high", "spearman_lowest", "top_overlap", "genes"]),
    }  # fmt: skip


def perturbed(tfs, genes, groups):
    """TFs in their order: the first moves cells most; its first gene is a direct target."""
    rows, answers = [], []
    for direction in ("knock_out", "over_expression"):
        for group in ("all", *groups):
            for at, tf in enumerate(tfs):
                z = 6.0 - 2 * at
                rows.append((tf, group, direction, 40, 0.1 * (z + 7), 0.5, z, 0.01, 0.01 if z > 2 else 0.7, at + 1))
        for tf in tfs:
            for at, gene in enumerate(genes[:15]):
                change = 0.5 - 0.05 * at
                answers.append((tf, gene, direction, change, 10 * change, at + 1, at == 0, 1 if at == 0 else 0, 0.5))
    columns = ["tf", "group", "direction", "n_cells", "embedding_change", "null_mean", "z", "p", "fdr", "rank"]
    targets = ["tf", "gene", "direction", "change", "z", "rank", "is_direct_target", "sign", "score"]
    return pd.DataFrame(rows, columns=columns), pd.DataFrame(answers, columns=targets)


def transferred(cells, states):
    """Every tenth cell of the first state, the others unknown: new ones and uncertain ones."""
    count = len(cells)
    reason = np.where(np.arange(count) % 10 == 0, "", np.where(np.arange(count) % 2, "new", "uncertain"))
    table = pd.DataFrame({"cell": cells, "sample": "x", "donor": "x", "nearest": states[0], "reason": reason})
    table["predicted"] = np.where(reason == "", states[0], "unknown")
    return table.assign(confidence=0.7, novelty=0.4)


def write_all(run) -> dict:
    """Write everything below the run's folder, and return the report's inputs."""
    named = {
        "annotation": ("evaluate/annotation.tsv", annotation(run.rng)),
        "differences": ("evaluate/annotation_differences.tsv", differences()),
        "recall": ("evaluate/recall.tsv", recall(run.predictions)),
        "reliability": ("evaluate/reliability.tsv", reliability()),
        "learning_curve": ("evaluate/learning_curve.tsv", learning_curve()),
        "grn": ("evaluate/grn.tsv", judged_regulons()),
        "grn_reliability": ("evaluate/grn_reliability.tsv", reliability_table()),
        "regression": ("evaluate/regression.tsv", tidy("toy:time", {OURS: 0.9, "ridge PCA(RNA)": 0.7}, ["r2"])),
        "translation": (
            "evaluate/translation.tsv",
            tidy("toy:RNA to ATAC", {OURS: 0.3, "kNN": 0.28}, ["pearson_per_peak"]),
        ),
        "embedding_scores": ("evaluate/embedding.tsv", tidy("toy", {OURS: 0.5, "PCA": 0.6}, ["nmi", "ari", "ilisi"])),
        "perturbation": (
            "evaluate/perturbation.tsv",
            tidy("toy: SRF_ko", {OURS: 0.4, "mean": 0.1}, ["pearson_change"]),
        ),
    }
    paths = {name: run.table(file, table, index=False) for name, (file, table) in named.items()}
    paths["confusion"] = run.json("evaluate/confusion.json", confusion(run.predictions))
    for name, table in drivers(run.states, run.tfs, run.genes).items():
        paths[name] = [run.table(f"explain/state/{name}.tsv", table, index=False)]
    paths["driver_agreement"] = [run.json("explain/state/agreement.json", {"mean": 0.42, "tfs": 5, "classes": {}})]
    true = tidy("toy:state", {OURS: 0.7, "random": 0.1}, ["precision_at_true"])
    true = pd.concat([true.assign(branch="all"), true.assign(branch="a_terminal", value=0.0)])
    paths["driver_scores"] = run.table("evaluate/drivers.tsv", true, index=False)
    tfs, targets = perturbed(run.tfs, run.genes, run.states)
    paths["perturbed_tfs"] = run.table("explain/perturb/tfs.parquet", tfs, index=False)
    paths["perturbed_targets"] = run.table("explain/perturb/targets.parquet", targets, index=False)
    labels = transferred(list(run.kept.index), run.states)
    paths["transferred"] = [run.table("finetune/state/regulon/labels.parquet", labels, index=False)]
    paths["transfer_summary"] = [run.json("finetune/state/regulon/labels.json", {"cells": len(labels), "new": 3})]
    return paths
