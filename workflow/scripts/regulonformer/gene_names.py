"""Which gene a name stands for: the one place where identifiers, symbols and aliases are matched."""

from collections import defaultdict

import numpy as np
import pandas as pd

from regulonformer.io.annotation import without_version

ID, SYMBOL, ALIAS, CASE = "id", "symbol", "alias", "case"
UNKNOWN = "no such gene"
SEVERAL_ALIASES = "other name of several genes"
SEVERAL_CASES = "differs in case alone from several genes"


class GeneNames:
    """The genes of a table, found by whatever name a file gives them.

    A name is looked up as a stable id (Ensembl, without version), as a symbol, as an alias, and last without regard to
    case (GATA1 is Gata1 in mouse). An alias works both ways: an old name finds the gene that goes by the new one, and a
    new name the gene that goes by an old one. A name that is a gene's own symbol is never taken as an alias of another.
    A name that could stand for several genes stands for none.

    Parameters
    ----------
    symbols
        Symbol of every gene. Where genes share a symbol, it finds the first.
    gene_ids
        Stable id of every gene, or None.
    aliases
        Table with alias and symbol (`regulonformer.io.gene_lists.read_aliases`), or None.
    """

    def __init__(self, symbols, gene_ids=None, aliases: pd.DataFrame | None = None) -> None:
        self.symbols = np.asarray(symbols, dtype=object)
        self._by_symbol = _first_rows(self.symbols)
        ids = np.array([] if gene_ids is None else without_version(gene_ids), dtype=object)
        # Tables without ids repeat the symbol there.
        self._by_id = _first_rows(np.where(ids == self.symbols[: len(ids)], "", ids))
        self._cases = defaultdict(set)
        for symbol, row in self._by_symbol.items():
            self._cases[symbol.upper()].add(row)
        self._approved, self._symbols_of, self._aliases_of = set(), defaultdict(set), defaultdict(set)
        if aliases is not None:
            self._approved = set(aliases["symbol"])
            for alias, symbol in zip(aliases["alias"], aliases["symbol"], strict=True):
                if alias not in self._approved:
                    self._symbols_of[alias].add(symbol)
                    self._aliases_of[symbol].add(alias)

    @classmethod
    def of_matrix(cls, var: pd.DataFrame, aliases: pd.DataFrame | None = None) -> "GeneNames":
        """The genes of a matrix: symbols in the index, ids in the column `stable_id` or else `gene_id`."""
        return cls(var.index.astype(str), var.get("stable_id", var.get("gene_id")), aliases)

    def find(self, names) -> pd.DataFrame:
        """Look names up.

        Returns
        -------
        pandas.DataFrame
            Indexed by the distinct names. row: the gene, -1 for none. how: `id`, `symbol`, `alias` or `case`, or why
            there is no gene.
        """
        names = pd.unique(pd.Series(names, dtype=object))
        found = [self._find(str(name), stable) for name, stable in zip(names, without_version(names), strict=True)]
        return pd.DataFrame(found, index=names, columns=["row", "how"])

    def spell(self, names) -> pd.Series:
        """Symbols of the genes that names stand for, "" for none; indexed by the distinct names."""
        row = self.find(names)["row"]
        return pd.Series(np.append(self.symbols, "")[row], index=row.index, dtype=object)

    def unmapped(self, names, file) -> pd.DataFrame:
        """Names of a file that stand for no gene, with the reason: name, file, reason."""
        found = self.find(names)
        lost = found[found["row"] < 0]
        return pd.DataFrame({"name": lost.index, "file": str(file), "reason": lost["how"].to_numpy()})

    def _find(self, name: str, stable: str) -> tuple[int, str]:
        if (row := self._by_id.get(stable)) is not None:
            return row, ID
        if (row := self._by_symbol.get(name)) is not None:
            return row, SYMBOL
        rows = self._other_names(name)
        if rows:
            return (rows.pop(), ALIAS) if len(rows) == 1 else (-1, SEVERAL_ALIASES)
        rows = self._cases.get(name.upper(), ())
        if rows:
            return (min(rows), CASE) if len(rows) == 1 else (-1, SEVERAL_CASES)
        return -1, UNKNOWN

    def _other_names(self, name: str) -> set[int]:
        """Genes that go by another name of this gene: by its present symbol if there are any, else by an older name."""
        present = {name} if name in self._approved else self._symbols_of.get(name, set())
        older = {alias for symbol in present for alias in self._aliases_of.get(symbol, ())}
        for others in (present, older):
            if rows := {self._by_symbol[other] for other in others if other in self._by_symbol}:
                return rows
        return set()


def _first_rows(names) -> dict[str, int]:
    """Row of each name, the first one where it is repeated; an empty name is none."""
    rows = {}
    for row, name in enumerate(names):
        rows.setdefault(str(name), row)
    rows.pop("", None)
    return rows
