"""Variants against two nulls: random edits of the same element, and such edits of genes that are expressed alike."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from regulonformer.explain.edits import Edit, random_edit, within
from regulonformer.explain.perturbation_tables import EVERY_GROUP
from regulonformer.explain.variants import CellReadout, Change, NewTokens, SequenceEditor
from regulonformer.sequence.windows import overlapping

TESTED = "tested"
UNTESTED = "off every window"
BESIDE = "in an element, beside its window"
SILENT = "gene silent in the cells read"
# Of an edit that covers a larger share of a window, random places there are nearly all the same place.
LARGEST_SHARE = 0.5
COLUMNS = [
    "variant", "kind", "chrom", "start", "end", "status", "gene", "group", "context_change", "expression_change",
    "accessibility_change", "element_change", "p_element", "p_matched", "p", "fdr",
]  # fmt: skip


@dataclass(frozen=True)
class VariantSettings:
    """Section `variants` of the configuration but for its file; its meaning is told in the schema."""

    group: str | None = None
    cells_per_group: int = 6
    random_edits: int = 19
    matched_genes: int = 19
    top_genes: int = 50
    seed: int = 0


class VariantScorer:
    """Scores edits one by one.

    Parameters
    ----------
    editor
        Turns edits into features of genes.
    readout
        Reads the cells.
    symbols
        Vocabulary of the model.
    groups
        Names of the cell groups, in the order of the readout.
    expression_N
        Mean expression of each gene, by which genes are matched.
    options
        Section `variants`.
    element_change
        Function from vectors of windows (before, after) to the change of predicted log accessibility in each group;
        None where the encoder predicts none.
    elements
        chrom, start, end of the elements, wider than their windows some of them; None where they are not known.
    """

    def __init__(
        self,
        editor: SequenceEditor,
        readout: CellReadout,
        symbols,
        groups,
        expression_N,
        options,
        element_change=None,
        elements=None,
    ) -> None:
        self.editor, self.readout, self.symbols, self.groups = editor, readout, np.asarray(symbols), list(groups)
        self.expression_N, self.options, self.element_change = expression_N, options, element_change
        self.elements = elements
        self.rng = np.random.default_rng(options.seed)

    def rows(self, edit: Edit) -> pd.DataFrame:
        """Rows of one edit, without fdr: one per gene and group, or one that says that it could not be tested."""
        about = {"variant": edit.name, "kind": edit.kind, "chrom": edit.chrom, "start": edit.start, "end": edit.end}
        edits = self.editor.parts_of(edit)
        (new,) = self.editor.tokens_after([edits], self.rng)
        if not len(new.genes_K):
            return pd.DataFrame([about | {"status": self._why_untested(edit)}])
        change = with_all(self.readout.of_tokens(new))
        element_G = self._element_change(new)
        inside = {row: within(part, *self._bounds(row)) for row, part in edits.items()}
        random_KRG = self._random_changes(inside, new)
        is_silent_K = np.isnan(change.context_NG[new.genes_K, -1])
        parts = []
        # Genes that are tested come first: a variant has the status of its first row.
        for number in np.argsort(is_silent_K, kind="stable"):
            gene = new.genes_K[number]
            context_G = change.context_NG[gene]
            part = pd.DataFrame({"group": [*self.groups, EVERY_GROUP], "context_change": context_G})
            part["expression_change"] = change.expression_NG[gene]
            part["accessibility_change"] = change.accessibility_NG[gene]
            part["element_change"] = element_G
            part["p_element"] = empirical_p(context_G, random_KRG[number])
            part["p_matched"] = empirical_p(context_G, self._matched_changes(inside, gene))
            # An edit is special if it is so for its element, where that can be asked, and for its gene.
            part["p"] = part[["p_element", "p_matched"]].max(axis=1)
            # Without groups all cells are one already.
            part = part.drop_duplicates("group")
            status = SILENT if is_silent_K[number] else TESTED
            parts.append(part.assign(**about, status=status, gene=self.symbols[gene]))
        return pd.concat(parts, ignore_index=True)

    def _why_untested(self, edit: Edit) -> str:
        if edit.gene or self.elements is None:
            return UNTESTED
        return BESIDE if len(overlapping(self.elements, edit.chrom, edit.start, edit.reach)) else UNTESTED

    def _element_change(self, new: NewTokens) -> np.ndarray:
        """Change of the predicted log accessibility of the changed windows, their sum, per group and over all."""
        if self.element_change is None:
            return np.full(len(self.groups) + 1, np.nan)
        before_WH = self.editor.features.vectors_XW[new.windows_W]
        change_G = self.element_change(before_WH, new.vectors_WH).sum(axis=0)
        return np.append(change_G, change_G.mean())

    def _random_changes(self, edits: dict[int, Edit], new: NewTokens) -> np.ndarray:
        """Contextual change of the same genes under random edits of the same windows, K x R x (G + 1).

        R is 0 if an edit covers most of a window: no other place in it could be drawn.
        """
        n_random, n_groups = self.options.random_edits, len(self.groups) + 1
        shares = [(edit.end - edit.start) / np.subtract(*self._bounds(row)[::-1]) for row, edit in edits.items()]
        if max(shares) > LARGEST_SHARE:
            return np.zeros((len(new.genes_K), 0, n_groups))
        sets = [{row: self._random(edit, row) for row, edit in edits.items()} for _ in range(n_random)]
        answers = [self.readout.of_tokens(other) for other in self.editor.tokens_after(sets, self.rng)]
        return np.stack([with_all(answer).context_NG[new.genes_K] for answer in answers], axis=1)

    def _matched_changes(self, edits: dict[int, Edit], gene: int) -> np.ndarray:
        """Contextual change of genes that are expressed alike, under such edits of as many of their windows.

        All of them are edited in one pass: what a gene's own edit does to it outweighs what the others' do by far.

        Returns
        -------
        numpy.ndarray
            M x (G + 1); M is 0 if no other gene has as many windows.
        """
        own = [edits[row] for row in self.editor.windows_of_gene(gene) if row in edits]
        allowed_N = self.editor.n_windows_N >= len(own)
        genes = matched(gene, self.expression_N, allowed_N, self.options.matched_genes)
        if not len(genes):
            return np.zeros((0, len(self.groups) + 1))
        sets = []
        for other in genes:
            rows = self.rng.choice(self.editor.windows_of_gene(other), len(own), replace=False)
            sets.append({row: self._random(edit, row) for row, edit in zip(rows, own, strict=True)})
        after = self.editor.tokens_after(sets, self.rng)
        parts = [part.features_KH[part.genes_K == other] for part, other in zip(after, genes, strict=True)]
        joined = NewTokens(genes, np.concatenate(parts), np.zeros(0, int), np.zeros((0, 0)))
        return with_all(self.readout.of_tokens(joined)).context_NG[genes]

    def _random(self, edit: Edit, row: int) -> Edit:
        """An edit like this one at a random place of a window."""
        chrom, bounds = self.editor.features.windows["chrom"][row], self._bounds(row)
        reference = self.editor.genome.fetch(chrom, *bounds)
        return random_edit(edit._replace(chrom=chrom), reference, *bounds, self.rng)

    def _bounds(self, row: int) -> tuple[int, int]:
        window = self.editor.features.windows
        return int(window["start"][row]), int(window["end"][row])


def with_all(change: Change) -> Change:
    """Append the mean over the groups, of those in which a gene is active."""

    def append(values_NG):
        active_NG = ~np.isnan(values_NG)
        count_N = active_NG.sum(axis=1)
        total_N = np.where(active_NG, values_NG, 0.0).sum(axis=1)
        mean_N = np.divide(total_N, count_N, out=np.full(len(values_NG), np.nan), where=count_N > 0)
        return np.column_stack([values_NG, mean_N])

    return Change(*(append(part) for part in change))


def matched(gene: int, expression_N: np.ndarray, allowed_N: np.ndarray, n: int) -> np.ndarray:
    """Genes nearest in expression to a gene, itself left out, in order of their tokens."""
    left = np.flatnonzero(allowed_N & (np.arange(len(allowed_N)) != gene))
    distance = np.abs(expression_N[left] - expression_N[gene])
    return np.sort(left[np.argsort(distance, kind="stable")[:n]])


def empirical_p(value_G: np.ndarray, null_RG: np.ndarray) -> np.ndarray:
    """Share of the null that is as large, the value itself counted in; NaN where there is no value or no null.

    Parameters
    ----------
    value_G
        Observed values.
    null_RG
        Values under the null; NaN is left out.
    """
    known_G = (~np.isnan(null_RG)).sum(axis=0)
    larger_G = (null_RG >= value_G).sum(axis=0)
    return np.where(np.isnan(value_G) | (known_G == 0), np.nan, (1 + larger_G) / (1 + known_G))


def finish(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """One table of all variants, with the Benjamini-Hochberg FDR over the tested pairs of each group."""
    table = pd.concat([part.dropna(axis=1, how="all") for part in parts], ignore_index=True).reindex(columns=COLUMNS)
    for _, rows in table.dropna(subset=["p"]).groupby("group").groups.items():
        table.loc[rows, "fdr"] = stats.false_discovery_control(table.loc[rows, "p"].astype(float))
    return table


def responders(gene: str, change_N: np.ndarray, expression_N: np.ndarray, null_RN: np.ndarray, symbols, top: int):
    """Genes that answer most to the ablation of a gene's TSSs.

    Parameters
    ----------
    gene
        Symbol of the ablated gene; it is left out.
    change_N, expression_N
        Change of contextual vectors and of predicted expression.
    null_RN
        Change of contextual vectors when R genes expressed alike are ablated.
    symbols
        Vocabulary.
    top
        Genes listed.

    Returns
    -------
    pandas.DataFrame
        ablated, gene, rank, context_change, expression_change, null_mean, p.
    """
    order = np.argsort(-np.nan_to_num(change_N, nan=-1.0), kind="stable")
    order = order[(np.asarray(symbols)[order] != gene) & ~np.isnan(change_N[order])][:top]
    null_RX = null_RN[:, order]
    columns = {"gene": np.asarray(symbols)[order], "rank": np.arange(1, len(order) + 1)}
    columns |= {"context_change": change_N[order], "expression_change": expression_N[order]}
    columns |= {"null_mean": np.nanmean(null_RX, axis=0), "p": empirical_p(change_N[order], null_RX)}
    table = pd.DataFrame(columns)
    table.insert(0, "ablated", gene)
    return table
