"""Rank the drivers of each class: genes, TFs and regulons, against a permutation null."""

import logging

import anndata as ad
import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from regulonformer.errors import InputError
from regulonformer.explain.enrichment import enrichment_table
from regulonformer.explain.tables import ALPHA, driver_table
from regulonformer.explain.tfs import agreement, driver_tfs, regulon_influence, tf_evidence
from regulonformer.io.store import read_parquet, read_tsv, write_json, write_tsv
from regulonformer.log import rule_log
from regulonformer.model.batch import MODALITIES
from regulonformer.prior.activity import target_matrix


def main(
    *, explained, vocabulary, regulons, settings, drivers, tfs, influence, agree, enrichment, markers=None
) -> None:
    """Write the driver tables of a task.

    Parameters
    ----------
    explained
        Explained cells, from `attribute_task`.
    vocabulary
        Token list of the corpus.
    regulons
        Regulon table: source, target, score, sign.
    settings
        Section `drivers`: permutations, seed, rows, top.
    drivers, tfs, influence, agree, enrichment
        TSVs to write, and a JSON (`agree`).
    markers
        TSV of known markers (class, gene), or None.
    """
    cells, genes, edges = ad.read_h5ad(explained), read_tsv(vocabulary), read_parquet(regulons)
    genes["is_tf"] = genes["is_tf"] == "True"
    class_X, fold_X = cells.obs["class"].astype(str).to_numpy(), cells.obs["fold"].to_numpy()
    known = None if markers is None else _read_markers(markers, set(genes["symbol"]), set(class_X))
    values_XMN = np.stack([cells.layers[name] for name in MODALITIES], axis=1)
    null = {"n_permutations": settings["permutations"], "seed": settings["seed"]}
    with threadpool_limits(1):  # sums of several threads differ in their last bits
        table = driver_table(values_XMN, class_X, fold_X, genes, known, n_rows=settings["rows"], **null)
        write_tsv(table, drivers)
        attention_2XS = np.stack([cells.obsm["cell_attention"], cells.obsm["gene_attention"]])
        slots = list(cells.uns["regulons"]) if attention_2XS.shape[-1] else []
        influences = regulon_influence(attention_2XS, slots, class_X, fold_X, **null)
        write_tsv(influences, influence)
        ranked = _rank_tfs(cells, genes, edges, attention_2XS.mean(0), slots, class_X, fold_X, null)
        write_tsv(ranked, tfs)
    write_json(agree, agreement(ranked, influences))
    top = _top_genes(table, settings["top"])
    background = set(genes["symbol"][np.abs(values_XMN).max((0, 1)) > 0])
    sets = [(name, "regulon", set(part)) for name, part in edges.groupby("source")["target"]]
    if known is not None:
        sets += [(name, "markers", set(part)) for name, part in known.groupby("class")["gene"]]
    write_tsv(enrichment_table(top, sets, background), enrichment)


def _rank_tfs(cells, genes, edges, attention_XS, slots, class_X, fold_X, null) -> pd.DataFrame:
    """Driver TFs: all TFs of the vocabulary and of the regulons."""
    symbols = pd.Index(genes["symbol"])
    names = sorted(set(symbols[genes["is_tf"]]) | set(edges["source"]))
    weights_NT = target_matrix(edges, symbols, names, edges["score"] * np.sign(edges["sign"]))
    directed_XN = sum(cells.layers[name] * cells.layers[f"{name}_direction"] for name in MODALITIES)
    evidence = tf_evidence(directed_XN, attention_XS, slots, symbols, weights_NT, names)
    return driver_tfs(evidence, names, class_X, fold_X, weights_NT.getnnz(0), **null)


def _top_genes(drivers: pd.DataFrame, n: int) -> dict[str, list[str]]:
    """The n strongest drivers of each class that pass the null, both modalities together."""
    passed = drivers[(drivers["fdr"] <= ALPHA) & (drivers["attribution"] > 0)]
    total = passed.groupby(["class", "gene"])["attribution"].sum().reset_index()
    total = total.sort_values(["class", "attribution", "gene"], ascending=[True, False, True])
    return {name: part["gene"].head(n).tolist() for name, part in total.groupby("class")}


def _read_markers(path, symbols: set[str], classes: set[str]) -> pd.DataFrame:
    """Known markers (class, gene); says how many are no genes of the model, and which classes were not explained."""
    table = read_tsv(path)
    if not {"class", "gene"} <= set(table):
        raise InputError(path, f"columns {', '.join(table)}", "Give a TSV with the columns class and gene")
    lost = ~table["gene"].isin(symbols)
    if lost.any():
        logging.warning("%s: %d of %d markers are no genes of the model", path, lost.sum(), len(table))
    if unknown := sorted(set(table["class"]) - classes):
        logging.warning("%s: no cell of %s was explained", path, ", ".join(unknown))
    return table[~lost]


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            explained=job.input.explained,
            vocabulary=job.input.vocabulary,
            regulons=job.input.regulons,
            markers=job.input.get("markers") or None,
            settings=job.params.drivers,
            drivers=job.output.drivers,
            tfs=job.output.tfs,
            influence=job.output.influence,
            agree=job.output.agreement,
            enrichment=job.output.enrichment,
        )
