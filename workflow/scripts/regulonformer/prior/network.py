"""Published TF-target networks: their file layouts, read into one table and matched to the genes of the data."""

import gzip

import numpy as np
import pandas as pd

from regulonformer.errors import UNREADABLE, InputError
from regulonformer.gene_names import ALIAS, CASE, GeneNames

# Confidence classes of DoRothEA, from curated and repeatedly seen (A) to predicted alone (E).
CLASS_WEIGHT = {"A": 1.0, "B": 0.8, "C": 0.6, "D": 0.4, "E": 0.2}
TRRUST_SIGN = {"Activation": 1, "Repression": -1, "Unknown": 0}
TRRUST_COLUMNS = ["TF", "gene_symbol", "interaction", "position"]
LAYOUT_COLUMNS = (
    *("source", "target", "weight", "tf", "confidence", "mor", "gene_symbol", "interaction"),
    *("peak_id", "gene_short_name"),
)
LAYOUTS = (
    "Give columns source, target[, weight] (CollecTRI) or tf, confidence, target, mor (DoRothEA) "
    "or TF, gene_symbol, interaction[, position] (TRRUST) "
    "or peak_id, gene_short_name and one 0/1 column per TF (CellOracle)"
)


def read_network(path, confidence) -> tuple[pd.DataFrame, dict]:
    """Read a TF-target network; the layout is told from the header.

    Known are CollecTRI (source, target[, weight]; Müller-Dott et al. 2023, doi:10.1093/nar/gkad841), DoRothEA (tf,
    confidence, target, mor; Garcia-Alonso et al. 2019, doi:10.1101/gr.240663.118), TRRUST (TF, gene_symbol,
    interaction, position, with or without header; Han et al. 2018, doi:10.1093/nar/gkx1013) and the base GRN of
    CellOracle (peak_id, gene_short_name, one column of 0 and 1 per TF; Kamimoto et al. 2023,
    doi:10.1038/s41586-022-05688-9), which is predicted from motifs and weighs as little as class E of DoRothEA.

    Parameters
    ----------
    path
        Comma- or tab-separated file, plain or gzip; or Parquet.
    confidence
        DoRothEA classes to keep.

    Returns
    -------
    edges
        source, target, weight (0..1], sign (+1, -1, or 0 if unknown).
    counts
        Edges in the file and edges left out by confidence.

    Raises
    ------
    InputError
        If the layout is none of these, or nothing is left.
    """
    table = _read_table(path)
    columns = _columns(table, path)
    counts = {"network_edges": len(table), "network_edges_below_confidence": 0}
    if {"tf", "confidence", "target", "mor"} <= columns.keys():
        kept = table[table[columns["confidence"]].isin(list(confidence))]
        counts["network_edges_below_confidence"] = len(table) - len(kept)
        weight = kept[columns["confidence"]].map(CLASS_WEIGHT).fillna(min(CLASS_WEIGHT.values()))
        edges = _edges(path, kept[columns["tf"]], kept[columns["target"]], weight, kept[columns["mor"]])
    elif {"tf", "gene_symbol", "interaction"} <= columns.keys():
        sign = table[columns["interaction"]].map(TRRUST_SIGN).fillna(0)
        edges = _edges(path, table[columns["tf"]], table[columns["gene_symbol"]], 1.0, sign)
    elif {"peak_id", "gene_short_name"} <= columns.keys():
        edges = _base_grn(table, columns["gene_short_name"], columns["peak_id"], path)
        counts["network_edges"] = len(edges)
    elif {"source", "target"} <= columns.keys():
        weight = (
            pd.to_numeric(table[columns["weight"]], errors="coerce").fillna(0)
            if "weight" in columns
            else pd.Series(1.0, table.index)
        )
        largest = weight.abs().max()
        sign = weight if "weight" in columns else 0
        edges = _edges(path, table[columns["source"]], table[columns["target"]], weight.abs() / (largest or 1), sign)
    else:
        raise InputError(path, f"columns {', '.join(map(str, table.columns[:6]))} are no known network layout", LAYOUTS)
    edges = edges[(edges["weight"] > 0) & (edges["source"] != "") & (edges["target"] != "")]
    counts["network_edges_without_weight"] = (
        counts["network_edges"] - counts["network_edges_below_confidence"] - len(edges)
    )
    if edges.empty:
        raise InputError(path, "no edge is left to use", "Check network_confidence and the weights")
    return edges.reset_index(drop=True), counts


def _read_table(path) -> pd.DataFrame:
    """Read a table: Parquet, or text whose separator, and whose lack of a header (TRRUST), show in its first line."""
    opened = gzip.open if str(path).endswith(".gz") else open
    try:
        if str(path).endswith(".parquet"):
            return pd.read_parquet(path)
        with opened(path, "rt") as handle:
            first = handle.readline().rstrip("\n")
        # A gene may be called NA or NaN. The header is read as a row: longer rows are then an error, not an index.
        separator = "\t" if "\t" in first else ","
        table = pd.read_csv(path, sep=separator, header=None, keep_default_na=False, dtype=str)
    except FileNotFoundError:
        raise InputError(path, "no such file", "Check reference/network") from None
    except UNREADABLE as error:
        raise InputError(path, f"not a readable table ({error})", LAYOUTS) from None
    if table.shape[1] >= 3 and table.iloc[0, 2] in TRRUST_SIGN:
        return table.set_axis(TRRUST_COLUMNS[: table.shape[1]], axis=1)
    return table.iloc[1:].set_axis(table.iloc[0].tolist(), axis=1).reset_index(drop=True)


def _columns(table: pd.DataFrame, path) -> dict:
    """Columns by name in lower case; those that tell layouts apart must be there once."""
    names = pd.Series(table.columns).astype(str).str.strip()
    lower = names.str.lower()
    # Two TFs of a base GRN may differ in case only, and the column of row numbers has no name.
    twice = lower.where(lower.isin(LAYOUT_COLUMNS), names).duplicated() & (names != "")
    if twice.any():
        raise InputError(path, f"has column {names[twice].iloc[0]!r} twice", "Keep one of them")
    return dict(zip(lower, table.columns, strict=True))


def _base_grn(table: pd.DataFrame, gene: str, peak: str, path) -> pd.DataFrame:
    """Edges of a CellOracle base GRN: a TF has a motif in a peak of the gene; one row per TF, peak and gene."""
    tfs = table.drop(columns=[gene, peak])
    # A CSV written with its row numbers has a first column without a name.
    tfs = tfs.loc[:, ~tfs.columns.astype(str).str.fullmatch(r"|Unnamed: \d+|index|__index_level_0__")]
    try:
        values = tfs.to_numpy(dtype=np.float32)
    except ValueError:
        values = np.full(tfs.shape, np.nan)
    if not np.isin(values, (0, 1)).all():
        raise InputError(path, "the columns of TFs hold values other than 0 and 1", LAYOUTS)
    row, column = np.nonzero(values)
    source = pd.Series(tfs.columns.to_numpy(dtype=object)[column], dtype=object)
    target = pd.Series(table[gene].astype(str).to_numpy(dtype=object)[row], dtype=object)
    return _edges(path, source, target, CLASS_WEIGHT["E"], 0)


def _edges(path, source, target, weight, sign) -> pd.DataFrame:
    edges = pd.DataFrame({"source": _symbols(path, source), "target": _symbols(path, target), "weight": weight})
    signs = pd.to_numeric(sign, errors="coerce").fillna(0) if isinstance(sign, pd.Series) else sign
    return edges.assign(weight=edges["weight"].astype(float), sign=np.sign(signs)).astype({"sign": int})


def _symbols(path, genes: pd.Series) -> pd.Series:
    """Names without spaces around them; "" for none. Parquet may hold anything else."""
    genes = genes.astype(object).where(genes.notna(), "")
    odd = ~genes.map(lambda gene: isinstance(gene, str)).astype(bool)
    if odd.any():
        raise InputError(path, f"holds {genes[odd].iloc[0]} where a gene symbol is expected", "Give gene symbols")
    return genes.str.strip()


def fit_to_genes(edges: pd.DataFrame, genes: GeneNames, path, keep_unmeasured_tfs: bool) -> tuple[pd.DataFrame, dict]:
    """Spell a network as the data does, and drop what the data cannot show: counted, never silently.

    Parameters
    ----------
    edges
        source, target, weight, sign.
    genes
        Genes of the data.
    path
        File to name in the error.
    keep_unmeasured_tfs
        Whether TFs that are no gene of the data keep their regulons.

    Returns
    -------
    edges
        With unique source-target pairs, strongest kept; no TF targets itself.
    counts
        Edges dropped, by reason.

    Raises
    ------
    InputError
        If no target is a gene of the data.
    """
    targets, sources = genes.spell(edges["target"]), genes.spell(edges["source"])
    if not (targets != "").any():
        examples = ", ".join(targets.index[:3]), ", ".join(genes.symbols[:3])
        problem = f"no gene in common with the matrix (network: {examples[0]}; matrix: {examples[1]})"
        raise InputError(path, problem, "Give a network of this species with gene symbols")
    how = genes.find(edges["target"])["how"]
    counts = {
        "symbols_matched_without_case": int((how == CASE).sum()),
        "symbols_matched_by_alias": int((how == ALIAS).sum()),
    }
    matched = edges.assign(target=edges["target"].map(targets), measured=edges["source"].map(sources))
    kept = matched[matched["target"] != ""]
    counts["network_targets_not_in_matrix"] = len(matched) - len(kept)
    unmeasured = kept["measured"] == ""
    counts["network_edges_of_unmeasured_tfs"] = int(unmeasured.sum())
    kept = kept if keep_unmeasured_tfs else kept[~unmeasured]
    kept = kept.assign(source=kept["measured"].where(kept["measured"] != "", kept["source"])).drop(columns="measured")
    loops = kept["source"] == kept["target"]
    counts["network_self_edges"] = int(loops.sum())
    # Of duplicates the strongest stays, and among equals one that knows its sign.
    kept = kept[~loops].assign(known=kept["sign"].abs())
    kept = kept.sort_values(
        ["source", "target", "weight", "known"], ascending=[True, True, False, False], kind="stable"
    )
    unique = kept.drop_duplicates(["source", "target"]).drop(columns="known")
    counts["network_duplicate_edges"] = len(kept) - len(unique)
    return unique.reset_index(drop=True), counts
