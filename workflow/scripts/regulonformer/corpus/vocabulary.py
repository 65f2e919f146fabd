"""The token list of a model (genes, TFs first) and the regulons in its terms."""

import logging

import numpy as np
import pandas as pd

from regulonformer.errors import InputError
from regulonformer.gene_names import ALIAS, CASE, ID, SYMBOL

COLUMNS = ["token", "gene_id", "symbol", "is_tf", "chrom", "tss"]
# An edge of score zero still has a logarithm.
SMALLEST_WEIGHT = 1e-3


def build_vocabulary(genes: pd.DataFrame, tfs: set[str]) -> pd.DataFrame:
    """Order genes as tokens: all TFs first, and within TFs and others as they come.

    Parameters
    ----------
    genes
        Genes of the matrices, as the merging step found them in the annotation. Index: unique symbol. Columns stable_id
        (or else gene_id), chrom, tss where known.
    tfs
        Symbols of transcription factors, spelt as the genes; those that are no gene of the data are left out.

    Returns
    -------
    pandas.DataFrame
        Columns token (0..N-1), gene_id, symbol, is_tf, chrom, tss.
    """
    table = pd.DataFrame({"symbol": genes.index.astype(str)})
    given = genes.assign(gene_id=genes["stable_id"]) if "stable_id" in genes else genes
    for column in ("gene_id", "chrom", "tss"):
        table[column] = given[column].to_numpy() if column in given else ""
    table["is_tf"] = table["symbol"].isin(tfs)
    table = table.sort_values("is_tf", ascending=False, kind="stable", ignore_index=True)
    table["token"] = np.arange(len(table))
    return table[COLUMNS]


def unplaced(genes: pd.DataFrame) -> pd.DataFrame:
    """Genes of the matrices that the annotation lacks; they are tokens without a place: name, file, reason."""
    if "match" not in genes:
        return pd.DataFrame(columns=["name", "file", "reason"])
    lost = genes[~genes["match"].isin([ID, SYMBOL, ALIAS, CASE])]
    return pd.DataFrame({"name": lost.index, "file": "count matrices", "reason": lost["match"].to_numpy()})


def describe(vocabulary: pd.DataFrame, genes: pd.DataFrame, peaks: pd.DataFrame, unmapped: pd.DataFrame) -> dict:
    """What the vocabulary holds, and what names stand for none of its genes.

    Parameters
    ----------
    vocabulary
        From `build_vocabulary`.
    genes
        Genes of the matrices, with `match` where an annotation was given.
    peaks
        promoter_peaks and linked_peaks of every token.
    unmapped
        name, file, reason.
    """
    by_file = unmapped.groupby(["file", "reason"]).size()
    return {
        "genes": len(vocabulary),
        "tfs": int(vocabulary["is_tf"].sum()),
        "found_in_annotation_by": genes["match"].value_counts().sort_index().to_dict() if "match" in genes else {},
        "genes_with_promoter_peak": int((peaks["promoter_peaks"] > 0).sum()),
        "genes_with_linked_peak": int((peaks["linked_peaks"] > 0).sum()),
        "promoter_peaks": int(peaks["promoter_peaks"].sum()),
        "linked_peaks": int(peaks["linked_peaks"].sum()),
        "unmapped": {file: by_file[file].to_dict() for file in by_file.index.unique("file")},
    }


def read_vocabulary(path) -> pd.DataFrame:
    """Read `vocabulary.tsv`; a gene called NA stays a gene.

    Raises
    ------
    InputError
        If tokens are not 0..N-1 in order or the TFs do not come first.
    """
    text = dict.fromkeys(("gene_id", "symbol", "chrom"), str)
    table = pd.read_csv(path, sep="\t", dtype=text, keep_default_na=False, na_values={"tss": [""]})
    if not np.array_equal(table["token"], np.arange(len(table))):
        raise InputError(path, "tokens are not 0..N-1 in order", "Rebuild the corpus")
    if not table["is_tf"].is_monotonic_decreasing:
        raise InputError(path, "TFs do not come first", "Rebuild the corpus")
    return table


def regulon_edges(regulons: pd.DataFrame, vocabulary: pd.DataFrame) -> pd.DataFrame:
    """Turn a regulon table into edges between slots and genes of the vocabulary.

    A slot is a TF with at least one target in the vocabulary: first the TFs that are tokens, in their order, then the
    TFs that were not measured, by name. The weight of a target is the largest |score| over its CREs. A TF that is a
    token belongs to its own regulon, with the weight of its strongest target.

    Parameters
    ----------
    regulons
        Columns source, target, score.
    vocabulary
        Token list.

    Returns
    -------
    pandas.DataFrame
        Columns slot, tf (symbol), tf_token (-1 if not measured), gene (token), weight (> 0); sorted by slot and gene,
        one row per pair.

    Raises
    ------
    InputError
        If no target of the table is a gene of the vocabulary.
    """
    token = pd.Series(vocabulary["token"].to_numpy(), index=vocabulary["symbol"])
    edges = pd.DataFrame(
        {
            "tf": regulons["source"].astype(str),
            "tf_token": regulons["source"].map(token).fillna(-1).astype(int),
            "gene": regulons["target"].map(token).fillna(-1).astype(int),
            "weight": regulons["score"].abs().clip(lower=SMALLEST_WEIGHT),
        }
    )
    known = edges[edges["gene"] >= 0]
    logging.info("regulons: %d of %d edges lie within the %d genes", len(known), len(edges), len(vocabulary))
    if known.empty:
        raise InputError("regulons", "no target of the table is a gene of the vocabulary", "Check the species")
    strongest = known[known["tf_token"] >= 0].groupby(["tf", "tf_token"], as_index=False)["weight"].max()
    known = pd.concat([known, strongest.assign(gene=strongest["tf_token"])])
    known = known.groupby(["tf", "tf_token", "gene"], as_index=False)["weight"].max()
    # Unmeasured TFs sort behind every token.
    rank = known["tf_token"].where(known["tf_token"] >= 0, len(vocabulary))
    known = known.assign(rank=rank).sort_values(["rank", "tf", "gene"], ignore_index=True)
    known.insert(0, "slot", pd.factorize(known["tf"])[0])
    return known.drop(columns="rank")
