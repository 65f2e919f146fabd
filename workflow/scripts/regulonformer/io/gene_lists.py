"""Read lists of TFs, and tables of other names of genes."""

import pandas as pd

from regulonformer.errors import InputError

LAYOUTS = (
    "Give a TSV with columns alias and symbol, the HGNC complete set (symbol, alias_symbol, prev_symbol) "
    "or NCBI gene_info (Symbol, Synonyms)"
)


def read_tf_list(path) -> list[str]:
    """Names of a file with one TF per line; empty lines and those that start with "#" are left out."""
    with open(path) as handle:
        return [line.split()[0] for line in handle if line.strip() and not line.startswith("#")]


def read_aliases(path) -> pd.DataFrame:
    """Read which other names stand for which symbol; the layout is told from the header.

    Known are: columns `alias` and `symbol` (a file of two columns needs no header); the HGNC complete set (Seal et al.
    2023, doi:10.1093/nar/gkac888), whose Ensembl ids count as names as well; NCBI `gene_info` (one species).

    Parameters
    ----------
    path
        Tab-separated file, plain or gzip.

    Returns
    -------
    pandas.DataFrame
        alias, symbol: distinct pairs, without those where both are the same.

    Raises
    ------
    InputError
        If the layout is none of these, or the file holds no alias.
    """
    try:
        # A gene may be called NA or NaN.
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, low_memory=False)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(path, f"not a readable table ({error})", LAYOUTS) from None
    columns = set(table.columns)
    if {"alias", "symbol"} <= columns:
        pairs = table[["alias", "symbol"]]
    elif {"symbol", "alias_symbol", "prev_symbol"} <= columns:
        names = ("alias_symbol", "prev_symbol", "ensembl_gene_id")
        pairs = pd.concat([_split(table["symbol"], table[name]) for name in names if name in columns])
    elif {"Symbol", "Synonyms"} <= columns:
        pairs = _split(table["Symbol"], table["Synonyms"])
    elif table.shape[1] == 2:
        # No header: the first line is a pair like all others.
        pairs = pd.DataFrame([table.columns.tolist(), *table.to_numpy().tolist()], columns=["alias", "symbol"])
    else:
        raise InputError(path, f"columns {', '.join(map(str, table.columns[:6]))} are no known layout", LAYOUTS)
    pairs = pairs.apply(lambda column: column.str.strip())
    pairs = pairs[~pairs["alias"].isin(["", "-"]) & (pairs["symbol"] != "") & (pairs["alias"] != pairs["symbol"])]
    if pairs.empty:
        raise InputError(path, "holds no alias", LAYOUTS)
    return pairs.drop_duplicates(ignore_index=True)


def _split(symbols: pd.Series, names: pd.Series) -> pd.DataFrame:
    """One row per name of cells such as `A|B`."""
    pairs = pd.DataFrame({"alias": names.str.strip('"').str.split("|"), "symbol": symbols})
    return pairs.explode("alias", ignore_index=True)
