"""What an edit of the genome does: to the vectors of genes, to their contextual vectors in cells, and to predictions.

An edit changes the sequence of the windows that it overlaps; the encoder reads them again; the genes of these windows
get other features, and the adapter other vectors. The model then reads the same cells once more. As in Bio-DTA, where
the TSS of a TF is mutated and genes are ranked by the change of their contextual vectors, with two additions: elements
count beside TSSs, and a TF that is lost no longer binds, so that its sites fall silent in all windows.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from regulonformer.explain.edits import Edit, edited
from regulonformer.explain.perturbation import with_gene
from regulonformer.model.batch import MODALITIES, CellBatch
from regulonformer.model.dynamic import DynamicVectors
from regulonformer.model.encoder import Regulonformer
from regulonformer.sequence.features import Genome, SequenceFeatures
from regulonformer.sequence.windows import overlapping

CELLS = 128


class FixedVectors(nn.Module):
    """A table of gene vectors that is given, in the place of one that is learned or computed."""

    def __init__(self, vectors_ND: Tensor) -> None:
        super().__init__()
        self.weight = vectors_ND


@contextmanager
def with_vectors(model: Regulonformer, vectors_ND: Tensor) -> Iterator[None]:
    """Let a model read other gene vectors for a while."""
    table = model.embedding.gene_vectors
    model.embedding.gene_vectors = FixedVectors(vectors_ND)
    try:
        yield
    finally:
        model.embedding.gene_vectors = table


class Change(NamedTuple):
    """How genes answer, means over the cells of each of G groups in which the gene is active; NaN where there is none.

    Attributes
    ----------
    context_NG
        Length (Euclidean norm) of the change of the contextual vector.
    expression_NG, accessibility_NG
        Change of the predicted rate, natural log.
    """

    context_NG: np.ndarray
    expression_NG: np.ndarray
    accessibility_NG: np.ndarray


class NewTokens(NamedTuple):
    """Genes whose sequence an edit changes, and their features after it.

    Attributes
    ----------
    genes_K
        Tokens.
    features_KH
        Features after the edit.
    windows_W, vectors_WH
        Windows that the edit changes, and their vectors after it.
    """

    genes_K: np.ndarray
    features_KH: np.ndarray
    windows_W: np.ndarray
    vectors_WH: np.ndarray


class SequenceEditor:
    """Turns edits into features of genes.

    Parameters
    ----------
    encoder
        The encoder that made `features`.
    genome
        Reference sequence.
    features
        Windows, their genes and their vectors.
    symbols
        Vocabulary of the model.
    """

    def __init__(self, encoder, genome: Genome, features: SequenceFeatures, symbols: np.ndarray) -> None:
        self.encoder, self.genome, self.features, self.symbols = encoder, genome, features, np.asarray(symbols)
        token_P = pd.Index(symbols).get_indexer(features.pairs["symbol"])
        self._window_P, self._token_P = features.pairs["window"].to_numpy()[token_P >= 0], token_P[token_P >= 0]
        self.reference_NH, self.has_sequence_N = features.of_genes(symbols)
        self._known_X = features.windows["has_bases"].to_numpy()
        self.n_windows_N = np.bincount(self._token_P[self._known_X[self._window_P]], minlength=len(self.symbols))

    def windows_of(self, edit: Edit) -> np.ndarray:
        """Windows with sequence that an edit changes; an insertion touches the window it lies in.

        The ablation of a gene's TSS changes the windows of all its TSSs.
        """
        if edit.gene:
            pairs = self.features.pairs
            rows = pairs["window"][(pairs["symbol"] == edit.gene) & (pairs["kind"] == "tss")].to_numpy()
            return rows[self._known_X[rows]]
        rows = overlapping(self.features.windows, edit.chrom, edit.start, edit.reach)
        return rows[self._known_X[rows]]

    def windows_of_gene(self, token: int) -> np.ndarray:
        """Windows with sequence of a gene."""
        rows = self._window_P[self._token_P == token]
        return rows[self._known_X[rows]]

    def parts_of(self, edit: Edit) -> dict[int, Edit]:
        """What an edit does to each window that it changes; the ablation of a gene's TSS takes whole windows."""
        parts = {}
        for row in self.windows_of(edit):
            chrom, start, end = self.features.windows.loc[row, ["chrom", "start", "end"]]
            if edit.gene:
                parts[row] = edit._replace(chrom=chrom, start=start, end=end, alt=b"N" * (end - start), gene="")
            else:
                parts[row] = edit
        return parts

    def tokens_after(self, sets: list[dict[int, Edit]], rng: np.random.Generator) -> list[NewTokens]:
        """Features after each set of edits, given as window -> edit; all changed windows are encoded together."""
        pairs = [pair for edits in sets for pair in edits.items()]
        windows = self.features.windows
        vectors_WH = self.encoder.encode([edited(self.genome, windows.loc[row], edit, rng) for row, edit in pairs])
        rows = [np.array(list(edits), dtype=int) for edits in sets]
        ends = np.cumsum([len(part) for part in rows])
        return [self._collect(*pair) for pair in zip(rows, np.split(vectors_WH, ends[:-1]), strict=True)]

    def without(self, sites_by_window: dict[int, list[tuple[int, int]]]) -> NewTokens:
        """Features if stretches (start, end within the window) were masked: the sites of a TF that is lost."""
        rows, sequences = np.array(sorted(sites_by_window), dtype=int), []
        for row in rows:
            window = self.features.windows.iloc[row]
            bases = bytearray(self.genome.fetch(window.chrom, window.start, window.end))
            for start, end in sites_by_window[row]:
                bases[start:end] = b"N" * (min(end, len(bases)) - start)
            sequences.append(bytes(bases))
        return self._collect(rows, self.encoder.encode(sequences))

    def loss_of_tf(self, gene: str, sites: pd.DataFrame) -> NewTokens:
        """Features if the TSSs of a TF are ablated: its own, and those of genes whose windows it binds.

        Parameters
        ----------
        gene
            Symbol.
        sites
            window, start, end of the sites of its motifs; they are masked, since nothing binds them any more.
        """
        own = self.windows_of(Edit(gene, "tss_ablation", "", 0, 0, None, gene))
        window = self.features.windows
        masks = {row: [(0, int(window["end"][row] - window["start"][row]))] for row in own}
        for row, start, end in sites[["window", "start", "end"]].itertuples(index=False):
            if row not in own and self._known_X[row]:
                masks.setdefault(row, []).append((max(start, 0), end))
        return self.without(masks)

    def _collect(self, windows_W: np.ndarray, vectors_WH: np.ndarray) -> NewTokens:
        """Add up what windows change for their genes."""
        change_WH = vectors_WH - self.features.vectors_XW[windows_W]
        place = {row: number for number, row in enumerate(windows_W)}
        pairs = np.flatnonzero(np.isin(self._window_P, windows_W))
        genes_K, at = np.unique(self._token_P[pairs], return_inverse=True)
        features_KH = self.reference_NH[genes_K].copy()
        np.add.at(features_KH, at, change_WH[[place[row] for row in self._window_P[pairs]]])
        return NewTokens(genes_K, features_KH, windows_W, vectors_WH)


class CellReadout:
    """Reads the same cells with other gene vectors, and says what changed.

    Parameters
    ----------
    model
        Model in evaluation mode, with a dynamic table or a static one.
    cells
        C cells.
    group_C
        Group of each cell, 0 .. G - 1; none is empty.
    """

    def __init__(self, model: Regulonformer, cells: CellBatch, group_C: np.ndarray) -> None:
        self.model, self.cells, self.group_C = model, cells, torch.as_tensor(group_C)
        self.n_groups = int(self.group_C.max()) + 1
        with torch.no_grad():
            self.vectors_ND = model.embedding.gene_vectors.weight.detach().clone()
            self._before = self._read(cells, self.vectors_ND)

    def of_tokens(self, new: NewTokens, silent_gene: int | None = None) -> Change:
        """Answer to sequences of other features.

        Raises
        ------
        TypeError
            If the table of the model is static: it does not read sequence.
        """
        table = self.model.embedding.gene_vectors
        if not isinstance(table, DynamicVectors):
            raise TypeError("a static table reads no sequence; use of_vectors")
        genes_K = torch.as_tensor(new.genes_K)
        vector_KD, level_KM = table.change(genes_K, torch.as_tensor(new.features_KH, dtype=torch.float32))
        return self.of_vectors(genes_K, self.vectors_ND[genes_K] + vector_KD, level_KM, silent_gene)

    @torch.no_grad()
    def of_vectors(
        self, genes_K: Tensor, vectors_KD: Tensor, level_KM: Tensor | None = None, silent_gene: int | None = None
    ) -> Change:
        """Answer to other vectors of some genes.

        Parameters
        ----------
        genes_K
            Tokens of the genes.
        vectors_KD
            Their vectors.
        level_KM
            Change of their log mean rates; none if not given.
        silent_gene
            Gene whose RNA and accessibility are taken away as well.
        """
        vectors_ND = self.vectors_ND.clone()
        vectors_ND[genes_K] = vectors_KD
        cells = self.cells
        if silent_gene is not None:
            n_cells = len(cells.genes_BT)
            gone_B = torch.full((n_cells,), silent_gene), torch.zeros(n_cells), torch.ones(n_cells, dtype=torch.bool)
            cells = with_gene(cells, *gone_B)
        after = self._read(cells, vectors_ND)
        level_NM = torch.zeros(self.model.n_genes, len(MODALITIES))
        if level_KM is not None:
            level_NM[genes_K] = level_KM
        return self._compare(after, level_NM)

    def _read(self, cells: CellBatch, vectors_ND: Tensor) -> tuple[Tensor, Tensor]:
        """States (C x T x D) and log rates (C x T x M) of the tokens; the tokens are those of the cells as measured."""
        states, rates = [], []
        with with_vectors(self.model, vectors_ND):
            for rows in torch.arange(len(cells.genes_BT)).split(CELLS):
                part = CellBatch(*(tensor[rows] for tensor in cells))
                encoded = self.model(part)
                n_cells, n_tokens = part.genes_BT.shape
                cells_X = torch.arange(n_cells).repeat_interleave(n_tokens)
                tokens = encoded.tokens_BTD.flatten(0, 1), encoded.cell_BD, cells_X, part.genes_BT.flatten()
                rates.append(self.model.heads.token_log_rate(*tokens, vectors_ND).unflatten(0, (n_cells, n_tokens)))
                states.append(encoded.tokens_BTD)
        return torch.cat(states), torch.cat(rates)

    def _compare(self, after: tuple[Tensor, Tensor], level_NM: Tensor) -> Change:
        """Means over cells and groups of what changed."""
        # `with_gene` appends a token, which stands for none of the cells as measured.
        n_tokens = self.cells.genes_BT.shape[1]
        (state, rate), (new_state, new_rate) = self._before, (part[:, :n_tokens] for part in after)
        genes_BT = self.cells.genes_BT
        values = torch.cat(
            [(new_state - state).norm(dim=-1, keepdim=True), new_rate - rate + level_NM[genes_BT]], dim=-1
        )
        real_BT = ~self.cells.pad_BT
        row_X = (genes_BT * self.n_groups + self.group_C[:, None])[real_BT]
        sums = torch.zeros(self.model.n_genes * self.n_groups, 3, dtype=torch.float64)
        sums.index_add_(0, row_X, values[real_BT].double())
        counts = torch.zeros(len(sums), dtype=torch.float64).index_add_(0, row_X, torch.ones(len(row_X)).double())
        means = (sums / counts[:, None]).unflatten(0, (-1, self.n_groups)).numpy()
        return Change(*np.moveaxis(means, -1, 0))
