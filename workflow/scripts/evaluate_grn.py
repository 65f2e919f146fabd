"""Judge regulons and links beside simple methods: by a truth, a gold standard, tested elements, and expression."""

import logging

import numpy as np
import pandas as pd

from regulonformer.evaluate import grn
from regulonformer.evaluate.grn_methods import (
    Edges,
    correlations,
    link_based,
    log_normalise,
    shuffled_edges,
    tree_importances,
)
from regulonformer.evaluate.metrics import COLUMNS
from regulonformer.gene_names import GeneNames
from regulonformer.io.gene_lists import read_aliases
from regulonformer.io.peaks import parse_names, read_bed
from regulonformer.io.store import read_mudata, read_parquet, write_tsv
from regulonformer.log import rule_log
from regulonformer.prior.motifs import read_hits
from regulonformer.prior.network import fit_to_genes, read_network

OURS = "regulonformer (regulons)"


def main(
    *, multiome, regulons, links, stability, settings, prior, run, output, motif_hits=None, network=None,
    truth_grn=None, truth_links=None, gold=None, elements=None, aliases=None, threads=1,
):  # fmt: skip
    """Write every score of every method (tsv).

    Parameters
    ----------
    multiome, regulons, links, stability
        Results of the run.
    settings, prior
        Sections `grn` and `regulons` of the configuration.
    run
        Name of the data set in the table.
    output
        TSV to write.
    motif_hits, network
        What the regulons were made from, each or None.
    truth_grn, truth_links
        The simulator's truth (TSV), or None.
    gold
        TF-target network that shares no evidence with the prior, or None.
    elements
        Table of tested element-gene pairs (chrom, start, end, gene, truth), or None.
    aliases
        Table of other names of genes, or None.
    threads
        Threads of the tree model.
    """
    data, table, pairs = read_mudata(multiome), read_parquet(regulons), read_parquet(links)
    measured = pd.Index(data["rna"].var_names.astype(str))
    names = GeneNames.of_matrix(data["rna"].var, read_aliases(aliases) if aliases else None)
    known_network = _read_edges(network, names, prior["network_confidence"]) if network else None
    sources = set(table["source"]) | set([] if known_network is None else known_network["source"])
    hits = read_hits(motif_hits) if motif_hits else None
    standards = _standards(truth_grn, gold, names)
    tfs = sorted(sources | {tf for edges in standards.values() for tf in edges["source"]} & set(measured))
    rng = np.random.default_rng(settings["seed"])
    edges = Edges(pd.Index(tfs), _judged_genes(measured, tfs, [table, *standards.values()], settings["genes"], rng))
    cells = np.sort(rng.permutation(data.n_obs)[: settings["cells"]])
    expression = log_normalise(data["rna"].X[cells], measured.get_indexer(edges.genes))
    groups = data.obs["donor"].astype(str).to_numpy()[cells]
    methods = _methods(edges, table, pairs, hits, known_network, expression, settings, prior, threads)
    rows = []
    for name, known in standards.items():
        rows += _judge_edges(f"{run}: TF-gene, {name}", edges, known, methods, settings)
        if "sign" in known:
            found = grn.right_signs(table, known)
            judged = grn.mean_with_interval(found["right"], pd.factorize(found["source"])[0], **resampling(settings))
            rows.append((OURS, f"{run}: TF-gene, {name}", "all", "sign_accuracy", *judged))
            logging.info("%s: sign of %.1f %% of %d true edges found is right", name, 100 * judged[0], len(found))
    for name, tested in _tested_links(truth_links, elements, pairs, data["atac"].var_names).items():
        rows += _judge_links(f"{run}: CRE-gene, {name}", tested, prior["distance_decay_bp"], settings)
    rows += _judge_prediction(f"{run}: expression of held-out donors", edges, methods, expression, groups, settings)
    rows += _judge_stability(f"{run}: stability", pd.read_csv(stability, sep="\t"))
    columns = ["method", "dataset", "seed", "metric", "value", "ci_low", "ci_high"]
    write_tsv(pd.DataFrame(rows, columns=columns).assign(fold="pooled")[list(COLUMNS)], output)


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


def _judged_genes(measured, tfs, tables, limit: int, rng) -> pd.Index:
    """All genes, or, where they are more than the limit, so many of those that are anybody's target; and all TFs."""
    if len(measured) <= limit:
        return measured
    targets = measured[measured.isin(set().union(*(table["target"] for table in tables)))]
    chosen = rng.permutation(len(targets))[:limit]
    logging.info("judging %d of %d genes that are targets", len(chosen), len(targets))
    return measured[measured.isin(set(targets[chosen]) | set(tfs))]


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


def _judge_edges(dataset, edges, known, methods, settings) -> list[tuple]:
    """Rankings of all pairs of a TF and a gene of the standard."""
    known = known[known["source"].isin(edges.tfs) & known["target"].isin(edges.genes)]
    rows, columns = edges.tfs.isin(known["source"]), edges.genes.isin(known["target"])
    judged = edges.judged() & rows[:, None] & columns[None]
    if not judged.any():
        return []
    truth = edges.matrix(known.assign(known=1.0), "known")[judged] > 0
    unit = np.unique(np.nonzero(judged)[0], return_inverse=True)[1]
    n_called = int((methods[OURS][0][judged] > 0).sum())
    logging.info("%s: %d of %d pairs are edges, %d are called", dataset, truth.sum(), len(truth), n_called)
    found = []
    for name, scores in methods.items():
        ranked = grn.judge_ranking(truth, [s[judged] for s in scores], unit, n_called=n_called, **resampling(settings))
        found += [(name, dataset, *row) for row in ranked]
    return found


def _tested_links(truth_links, elements, pairs, peak_names) -> dict[str, pd.DataFrame]:
    """Links that are known to be true or false, by the name of where that comes from."""
    tables = {}
    if truth_links:
        true = pd.read_csv(truth_links, sep="\t")
        place = parse_names(true["cre"])
        peaks = parse_names(peak_names).set_axis(peak_names)
        # Every linked pair is judged; a pair is true if the element lies in the peak.
        hit = grn.match_elements(place.assign(gene=true["gene"], truth=True), pairs.assign(row=pairs.index), peaks)
        tables["simulated truth"] = pairs.assign(truth=pairs.index.isin(hit["row"]))
    if elements:
        tested = read_bed(elements) if str(elements).endswith(".bed") else pd.read_csv(elements, sep="\t")
        peaks = parse_names(peak_names).set_axis(peak_names)
        tables["tested elements"] = grn.match_elements(tested, pairs, peaks)
    return {name: table for name, table in tables.items() if len(table) and table["truth"].any()}


def _judge_links(dataset, links, decay_bp, settings) -> list[tuple]:
    """Rankings of peak-gene pairs, resampled by gene."""
    proximity = np.where(links["is_promoter"], 1.0, np.exp(-links["distance"].abs() / decay_bp))
    distance = 1 / (1 + links["distance"].abs().to_numpy(float))
    rng = np.random.default_rng(settings["seed"])
    methods = {OURS: links["score"], "distance only": distance, "promoter or distance decay": proximity}
    methods |= {"|correlation|": links["correlation"].abs(), "random": rng.random(len(links))}
    unit = pd.factorize(links["gene"])[0] if "gene" in links else np.arange(len(links))
    truth, found = links["truth"].to_numpy(bool), []
    for name, scores in methods.items():
        ranked = grn.judge_ranking(truth, [np.asarray(scores, float)], unit, **resampling(settings))
        found += [(name, dataset, *row) for row in ranked if row[1] == "auprc"]
    return found


def _judge_prediction(dataset, edges, methods, expression, groups, settings) -> list[tuple]:
    """R2 of every gene's expression in held-out donors from as many TFs as our regulons give it."""
    row = edges.genes.get_indexer(edges.tfs)
    measured = row >= 0
    pair = (expression[:, row[measured]].astype(float), expression.astype(float))
    n_regulators = (methods[OURS][0][measured] > 0).sum(axis=0)
    varies = (n_regulators > 0) & (expression.std(axis=0) > 0)
    if not varies.any():
        return []
    rows = []
    for name, scores in methods.items():
        allowed = ((s * edges.judged())[measured] for s in scores)
        found = [grn.held_out_r2(pair, s, groups, n_regulators=n_regulators)[varies] for s in allowed]
        judged = grn.mean_with_interval(np.mean(found, axis=0), np.arange(varies.sum()), **resampling(settings))
        rows.append((name, dataset, "all", "r2", *judged))
    return rows


def _judge_stability(dataset, draws: pd.DataFrame) -> list[tuple]:
    """How alike two draws are: mean, smallest and largest over all pairs of draws."""
    rows = []
    for (method, kind), pairs in draws.groupby(["method", "kind"]):
        for metric in ("jaccard", "rank_correlation"):
            value = pairs[metric]
            rows.append((method, dataset, "all", f"{metric}_{kind}", value.mean(), value.min(), value.max()))
    return rows


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        optional = ("motif_hits", "network", "truth_grn", "truth_links", "gold", "elements", "aliases")
        main(
            multiome=job.input.multiome,
            regulons=job.input.regulons,
            links=job.input.links,
            stability=job.input.stability,
            **{name: job.input.get(name) or None for name in optional},
            settings=job.params.grn,
            prior=job.params.regulons,
            run=job.params.run,
            output=job.output.grn,
            threads=job.threads,
        )
