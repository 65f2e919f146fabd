"""Group genes into modules in every cell state; compare networks of TFs and targets with the prior and the truth."""

import logging

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from regulonformer.corpus.vocabulary import read_vocabulary
from regulonformer.errors import InputError
from regulonformer.evaluate.ablation import TrueEdges, known_edges
from regulonformer.evaluate.metrics import COLUMNS
from regulonformer.explain.modules import gene_modules, network_table, tf_network
from regulonformer.gene_vectors import CONTEXTUAL, STATIC, read_vectors
from regulonformer.io.store import read_parquet, write_parquet, write_tsv
from regulonformer.log import rule_log

MIN_CELLS = 10  # of a state that show a gene
MIN_GENES = 50  # of a state; fewer make no graph
TARGETS = 50  # listed per TF
EVERY_STATE = "mean of states"


def main(
    *, vectors, vocabulary, regulons, seed: int, ours: str, run: str, modules, networks, agreement, truth_grn=None,
    gold=None, aliases=None,
) -> None:  # fmt: skip
    """Write modules (tsv), networks (parquet) and how well they agree with the prior and with known edges (tsv).

    Parameters
    ----------
    vectors
        Parquet of `embed_genes`.
    vocabulary, regulons
        Token list and prior.
    seed
        Seed of the modules.
    ours, run
        Names of the model and of the data set in the table.
    modules, networks, agreement
        Files to write: state, gene, module, n_cells; state, source, target, similarity; and tidy scores with the state.
    truth_grn, gold, aliases
        See `known_edges`.

    Raises
    ------
    InputError
        If every state is too small.
    """
    genes, prior = read_vocabulary(vocabulary), read_parquet(regulons)
    symbols, is_tf = genes["symbol"].to_numpy(object), genes["is_tf"].to_numpy(bool)
    table = read_parquet(vectors)
    states = read_vectors(table, CONTEXTUAL, symbols, MIN_CELLS)
    static_ND = read_vectors(table, STATIC, symbols)[""]
    standards = {"prior": prior[["source", "target"]]}
    known = known_edges(truth_grn, gold, genes, aliases)
    if len(known):
        standards["known edges"] = known
    judges = {name: TrueEdges(edges, set(symbols[is_tf]), genes) for name, edges in standards.items()}
    found, edges, rows, sums = [], [], [], np.zeros((len(symbols), int(is_tf.sum())))
    for state, vectors_ND in states.items():
        shown = ~np.isnan(vectors_ND).any(1)
        if shown.sum() < MIN_GENES:
            logging.warning("%s: left out, only %d genes show in %d cells", state, shown.sum(), MIN_CELLS)
            continue
        module = gene_modules(vectors_ND[shown], seed)
        found.append(pd.DataFrame({"state": state, "gene": symbols[shown], "module": module}))
        scores = tf_network(vectors_ND[shown], symbols[shown], is_tf[shown])
        edges.append(network_table(scores, symbols[shown], is_tf[shown], TARGETS).assign(state=state))
        full = np.zeros_like(sums)
        full[np.ix_(shown, shown[is_tf])] = np.abs(scores.T)
        sums += full
        rows += _agreement(ours, state, full, symbols[is_tf], judges)
    if not found:
        problem = f"no state has {MIN_GENES} genes that {MIN_CELLS} cells show"
        raise InputError("embedding_metrics/label", problem, "Name a coarser column there")
    rows += _agreement(ours, EVERY_STATE, sums, symbols[is_tf], judges)
    static = np.abs(tf_network(static_ND, symbols, is_tf)).T
    rows += _agreement(f"{ours}, static", "", static, symbols[is_tf], judges)
    write_tsv(pd.concat(found, ignore_index=True), modules)
    write_parquet(pd.concat(edges, ignore_index=True), networks)
    table = pd.DataFrame(rows, columns=["method", "state", "standard", "metric", "value"])
    table["dataset"] = f"{run}: " + table.pop("standard")
    blank = {"fold": "pooled", "seed": "all", "ci_low": np.nan, "ci_high": np.nan}
    write_tsv(table.assign(**blank)[[*COLUMNS, "state"]], agreement)


def _agreement(method: str, state: str, influence: np.ndarray, tfs: list[str], judges: dict) -> list[tuple]:
    """AUROC and AUPRC of similarities, genes x TFs, and the AUPRC of chance."""
    rows = []
    for standard, judge in judges.items():
        if not judge.truth.any():
            continue
        scores = judge.scores(influence, list(tfs))
        measured = {
            "auroc": float(roc_auc_score(judge.truth, scores)),
            "auprc": judge.auprc(influence, list(tfs)),
            "auprc_chance": float(judge.truth.mean()),
        }
        rows += [(method, state, standard, metric, value) for metric, value in measured.items()]
    return rows


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            vectors=job.input.vectors,
            vocabulary=job.input.vocabulary,
            regulons=job.input.regulons,
            **{name: job.input.get(name) or None for name in ("truth_grn", "gold", "aliases")},
            seed=job.params.seed,
            ours=job.params.ours,
            run=job.params.run,
            modules=job.output.modules,
            networks=job.output.networks,
            agreement=job.output.agreement,
        )
