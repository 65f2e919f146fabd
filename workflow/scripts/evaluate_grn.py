"""Judge regulons and links beside simple methods: by a truth, a gold standard, tested elements, and expression."""

import logging

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from regulonformer.evaluate import grn, grn_calibration
from regulonformer.evaluate.grn_elements import best_of_elements, overlapping_links, read_elements
from regulonformer.evaluate.grn_methods import (
    Edges,
    correlations,
    link_based,
    log_normalise,
    motif_and,
    shuffled_edges,
    tree_importances,
)
from regulonformer.evaluate.metrics import COLUMNS
from regulonformer.gene_names import GeneNames
from regulonformer.io.gene_lists import read_aliases
from regulonformer.io.peaks import parse_names
from regulonformer.io.store import read_mudata, read_parquet, write_tsv
from regulonformer.log import rule_log
from regulonformer.prior.evidence import profiles
from regulonformer.prior.links import read_links
from regulonformer.prior.motif_hits import read_hits
from regulonformer.prior.network import fit_to_genes, read_network

OURS = "regulonformer (regulons)"


def main(
    *, multiome, regulons, links, stability, fold_regulons, settings, prior, run, output, output_reliability,
    motif_hits=None, network=None, truth_grn=None, truth_links=None, gold=None, elements=None, aliases=None, threads=1,
):  # fmt: skip
    """Write every score of every method, and how often pairs of each score are true (tsv).

    Parameters
    ----------
    multiome, regulons, links, stability, fold_regulons
        Results of the run.
    settings, prior
        Sections `grn` and `regulons` of the configuration.
    run
        Name of the data set in the table.
    output
        TSV to write: scores, columns as in `metrics.COLUMNS`.
    output_reliability
        TSV to write: dataset, and the columns of `grn_calibration.reliability` for our edges and links.
    motif_hits, network
        What the regulons were made from, each or None.
    truth_grn, truth_links
        The simulator's truth (TSV), or None.
    gold
        TF-target network to judge by, or None.
    elements
        Table of tested element-gene pairs (see `read_elements`), or None.
    aliases
        Table of other names of genes, or None.
    threads
        Threads of the tree model.
    """
    with threadpool_limits(1):  # sums of several threads differ in their last bits
        data, table, pairs = read_mudata(multiome), read_parquet(regulons), read_links(links)
        measured = pd.Index(data["rna"].var_names.astype(str))
        names = GeneNames.of_matrix(data["rna"].var, read_aliases(aliases) if aliases else None)
        known_network = _read_edges(network, names, prior["network_confidence"]) if network else None
        standards = _standards(truth_grn, gold, names)
        edges = _universe(measured, [table, *standards.values()], known_network, settings)
        cells = np.sort(np.random.default_rng(settings["seed"]).permutation(data["rna"].n_obs)[: settings["cells"]])
        expression = log_normalise(data["rna"].X[cells], measured.get_indexer(edges.genes))
        hits = read_hits(motif_hits) if motif_hits else None
        methods = _methods(edges, table, pairs, hits, known_network, expression, settings, prior, threads)
        methods |= _ingredients(edges, pairs, hits, profiles(data, "rna")[measured.get_indexer(edges.genes)])
        rows, reliable = [], {}
        for name, known in standards.items():
            dataset = f"{run}: TF-gene, {name}"
            rows += _judge_edges(dataset, edges, known, methods, settings, reliable)
            rows += _judge_signs(dataset, edges, table, known, expression, settings)
            if known_network is not None:
                # What the prior was given proves nothing about what it learnt from the data.
                rows += _judge_edges(
                    f"{dataset} without pairs of the network file", edges, known, methods, settings, reliable,
                    without=known_network,
                )  # fmt: skip
        for name, tested in _tested_links(truth_links, elements, pairs, data["atac"].var_names, names).items():
            rows += _judge_links(f"{run}: CRE-gene, {name}", tested, prior["distance_decay_bp"], settings, reliable)
        fold = grn.folds_of(data.obs["donor"].astype(str).to_numpy())
        fold = fold[data.obs_names.get_indexer(data["rna"].obs_names)][cells]
        without = read_parquet(fold_regulons)
        unseen = "donors" if data.obs["donor"].nunique() > 1 else "cells"
        rows += _judge_prediction(
            f"{run}: expression in {unseen} not fitted", edges, without, methods, expression, fold, settings
        )
        rows += _judge_stability(f"{run}: stability", pd.read_csv(stability, sep="\t"))
    columns = ["method", "dataset", "seed", "metric", "value", "ci_low", "ci_high"]
    write_tsv(pd.DataFrame(rows, columns=columns).assign(fold="pooled")[list(COLUMNS)], output)
    named = [table.assign(dataset=dataset) for dataset, table in reliable.items()]
    empty = pd.DataFrame(columns=["dataset", *grn_calibration.COLUMNS])
    write_tsv(pd.concat(named)[list(empty)] if named else empty, output_reliability)


def resampling(settings) -> dict:
    """Settings of the intervals."""
    return {"n": settings["bootstrap"], "confidence": settings["confidence"], "seed": settings["seed"]}


def _read_edges(path, names, confidence) -> pd.DataFrame:
    """Edges of a network file in the spelling of the data; TFs that are not measured stay."""
    return fit_to_genes(read_network(path, confidence)[0], names, path, True)[0]


def _standards(truth_grn, gold, names) -> dict[str, pd.DataFrame]:
    """Known edges by the name of where they come from."""
    found = {}
    if truth_grn:
        found["simulated truth"] = pd.read_csv(truth_grn, sep="\t").drop_duplicates(["source", "target"])
    if gold:
        found["gold standard"] = _read_edges(gold, names, list("ABCDE"))
    return found


def _universe(measured, tables, network, settings) -> Edges:
    """TFs of any table that are measured, and all genes, or so many targets at random as the settings allow.

    TFs that are no gene of the data are left out: correlations could say nothing of them.
    """
    sources = set().union(*(table["source"] for table in [*tables, *([] if network is None else [network])]))
    tfs = measured[measured.isin(sources)]
    logging.info("%d of %d TFs are measured and judged", len(tfs), len(sources))
    genes = measured
    if len(measured) > settings["genes"]:
        targets = measured[measured.isin(set().union(*(table["target"] for table in tables)))]
        chosen = np.random.default_rng(settings["seed"]).permutation(len(targets))[: settings["genes"]]
        logging.info("judging %d of %d genes that are targets", len(chosen), len(targets))
        genes = measured[measured.isin(set(targets[chosen]) | set(tfs))]
    return Edges(tfs, genes)


def _methods(edges, table, pairs, hits, network, expression, settings, prior, threads) -> dict[str, list[np.ndarray]]:
    """TFs x genes scores of each method, one array per seed."""
    seeds = [settings["seed"] + i for i in range(3)]
    methods = {OURS: [edges.matrix(table, "score")]}
    for kind in ("pearson", "spearman"):
        methods[kind.capitalize()] = [correlations(expression, edges, kind)]
    if settings["trees"]:
        few = expression[:: max(1, len(expression) // 1000)]
        methods["GENIE3 (extra trees)"] = [tree_importances(few, edges, seed=settings["seed"], threads=threads)]
    alone = link_based(edges, pairs, hits, prior["distance_decay_bp"])
    methods |= {name: [scores] for name, scores in alone.items()}
    if network is not None:
        methods["network only"] = [edges.matrix(network, "weight")]
    methods["regulons, shuffled"] = [edges.matrix(shuffled_edges(table, seed=seed), "score") for seed in seeds]
    methods["random"] = [np.random.default_rng(seed).random((len(edges.tfs), len(edges.genes))) for seed in seeds]
    return methods


def _ingredients(edges, pairs, hits, vectors) -> dict[str, list[np.ndarray]]:
    """What our regulons are made of: each ingredient alone, and their plain product."""
    row = edges.genes.get_indexer(edges.tfs)
    correlation = vectors[row].astype(float) @ vectors.astype(float).T
    spread = correlation.std(axis=1, keepdims=True)
    z = (correlation - np.median(correlation, axis=1, keepdims=True)) / np.where(spread > 0, spread, np.inf)
    found = {"denoised correlation": np.abs(z)}
    if hits is not None:
        found["motif and link"] = motif_and(edges, pairs, hits, pairs["score"].to_numpy())
        found["motif, link and correlation, multiplied"] = found["motif and link"] * found["denoised correlation"]
    return {name: [np.nan_to_num(scores)] for name, scores in found.items()}


def _judge_edges(dataset, edges, known, methods, settings, reliable, without=None) -> list[tuple]:
    """Rankings of all pairs of a TF and a gene of the standard, but those of a table `without`."""
    judged = edges.judged()
    true = judged & (edges.matrix(known.assign(known=1.0), "known") > 0)
    if without is not None:
        given = edges.matrix(without.assign(known=1.0), "known") > 0
        logging.info("%s: %d of %d true edges are in the network file", dataset, (true & given).sum(), true.sum())
        judged, true = judged & ~given, true & ~given
    judged &= true.any(axis=1, keepdims=True) & true.any(axis=0, keepdims=True)
    if not judged.any():
        return []
    truth = true[judged]
    unit = np.unique(np.nonzero(judged)[0], return_inverse=True)[1]
    ours = methods[OURS][0][judged]
    called = ours > 0
    logging.info("%s: %d of %d pairs are edges, %d are called", dataset, truth.sum(), len(truth), called.sum())
    found = []
    for name, scores in methods.items():
        picked = [s[judged] for s in scores]
        ranked = grn.judge_ranking(truth, picked, unit, n_called=int(called.sum()), **resampling(settings))
        found += [(name, dataset, *row) for row in ranked]
    return found + _judge_calibration(dataset, ours[called], truth[called], unit[called], settings, reliable)


def _judge_calibration(dataset, scores, truth, unit, settings, reliable) -> list[tuple]:
    """Gap between our scores and the share of true pairs; the bins behind it are added to `reliable`."""
    if not len(scores):
        return []
    reliable[dataset] = grn_calibration.reliability(scores, truth, unit, **resampling(settings))
    return [(OURS, dataset, "all", "ece", grn_calibration.calibration_error(reliable[dataset]), np.nan, np.nan)]


def _judge_signs(dataset, edges, table, known, expression, settings) -> list[tuple]:
    """How often activation or repression is right, over the true edges that we found and whose sign is known."""
    if "sign" not in known:
        return []
    found = grn.true_signs(table[table["source"].isin(edges.tfs) & table["target"].isin(edges.genes)], known)
    if found.empty:
        return []
    tf, gene = edges.genes.get_indexer(found["source"]), edges.genes.get_indexer(found["target"])
    centred = expression - expression.mean(axis=0)
    pearson = np.sign((centred[:, tf] * centred[:, gene]).sum(axis=0, dtype=float))
    called = {OURS: found["sign"], "Pearson": pearson, "always activating": np.ones(len(found))}
    unit, rows = pd.factorize(found["source"])[0], []
    for name, sign in called.items():
        right = np.asarray(sign == found["sign_true"], float)
        rows.append(
            (name, dataset, "all", "sign_accuracy", *grn.mean_with_interval(right, unit, **resampling(settings)))
        )
    logging.info("%s: signs of %d true edges are judged", dataset, len(found))
    return rows


def _tested_links(truth_links, elements, pairs, peak_names, names) -> dict[str, pd.DataFrame]:
    """Links that are known to be true or false, by the name of where that comes from."""
    tables, peaks = {}, parse_names(peak_names).set_axis(peak_names)
    if truth_links:
        true = pd.read_csv(truth_links, sep="\t")
        hit = overlapping_links(parse_names(true["cre"]).assign(gene=true["gene"]), pairs, peaks)
        judged = pairs.assign(truth=np.isin(np.arange(len(pairs)), hit["link"]))
        promoters = judged.loc[judged["is_promoter"], "peak"]
        tables["simulated truth"] = judged
        tables["simulated truth, no promoters"] = judged[~judged["peak"].isin(promoters)]
        logging.info("%d of %d true links are no candidate pair", len(true) - hit["element"].nunique(), len(true))
    if elements:
        tested = read_elements(elements)
        tested["gene"] = tested["gene"].map(names.spell(tested["gene"]))
        found = tables["tested elements"] = best_of_elements(tested, pairs, peaks)
        counts = (len(found), len(tested), found["truth"].sum(), tested["truth"].sum(), (tested["gene"] == "").sum())
        logging.info(
            "%s: %d of %d tested pairs (%d of %d true ones) have a linked peak and are judged; %d have no gene here",
            elements,
            *counts,
        )
    return {name: table for name, table in tables.items() if len(table) and table["truth"].any()}


def _judge_links(dataset, links, decay_bp, settings, reliable) -> list[tuple]:
    """Rankings of peak-gene pairs, resampled by gene."""
    proximity = np.where(links["is_promoter"], 1.0, np.exp(-links["distance"].abs() / decay_bp))
    distance = 1 / (1 + links["distance"].abs().to_numpy(float))
    rng = np.random.default_rng(settings["seed"])
    methods = {OURS: links["score"], "distance only": distance, "promoter or distance decay": proximity}
    methods |= {"|correlation|": links["correlation"].abs(), "random": rng.random(len(links))}
    unit = pd.factorize(links["gene"])[0]
    truth, found = links["truth"].to_numpy(bool), []
    for name, scores in methods.items():
        ranked = grn.judge_ranking(truth, [np.asarray(scores, float)], unit, **resampling(settings))
        found += [(name, dataset, *row) for row in ranked if row[1] == "auprc"]
    return found + _judge_calibration(dataset, links["score"].to_numpy(float), truth, unit, settings, reliable)


def _judge_prediction(dataset, edges, without, methods, expression, fold, settings) -> list[tuple]:
    """R2 of every gene's expression from as many TFs as our regulons give it, chosen and fitted without the fold."""
    row, n_folds = edges.genes.get_indexer(edges.tfs), fold.max() + 1
    pair = (expression[:, row].astype(float), expression.astype(float))
    chosen = {OURS: [edges.matrix(without[without["fold"] == held], "score") for held in range(n_folds)]}
    for kind in ("pearson", "spearman"):
        chosen[kind.capitalize()] = [correlations(expression[fold != held], edges, kind) for held in range(n_folds)]
    for name in ("motif and distance", "random"):
        if name in methods:
            chosen[name] = [methods[name][0]] * n_folds
    mixed = [
        shuffled_edges(without[without["fold"] == held].reset_index(drop=True), seed=settings["seed"])
        for held in range(n_folds)
    ]
    chosen["regulons, shuffled"] = [edges.matrix(part, "score") for part in mixed]
    n_regulators = np.max([(scores > 0).sum(axis=0) for scores in chosen[OURS]], axis=0)
    varies = (n_regulators > 0) & (expression.std(axis=0) > 0)
    if not varies.any():
        return []
    rows = []
    for name, scores in chosen.items():
        allowed = [part * edges.judged() for part in scores]
        r2 = grn.held_out_r2(pair, allowed, fold, n_regulators=n_regulators)[varies]
        judged = grn.mean_with_interval(r2, np.arange(len(r2)), **resampling(settings))
        rows.append((name, dataset, "all", "r2", *judged))
    return rows


def _judge_stability(dataset, draws: pd.DataFrame) -> list[tuple]:
    """How alike two draws are, on average over all pairs of draws."""
    means = draws.groupby(["method", "kind"])[["jaccard", "rank_correlation"]].mean()
    return [
        (method, dataset, "all", f"{metric}_{kind}", value, np.nan, np.nan)
        for (method, kind), row in means.iterrows()
        for metric, value in row.items()
    ]


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        optional = ("motif_hits", "network", "truth_grn", "truth_links", "gold", "elements", "aliases")
        main(
            multiome=job.input.multiome,
            regulons=job.input.regulons,
            links=job.input.links or None,
            stability=job.input.stability,
            fold_regulons=job.input.fold_regulons,
            **{name: job.input.get(name) or None for name in optional},
            settings=job.params.grn,
            prior=job.params.regulons,
            run=job.params.run,
            output=job.output.grn,
            output_reliability=job.output.reliability,
            threads=job.threads,
        )
