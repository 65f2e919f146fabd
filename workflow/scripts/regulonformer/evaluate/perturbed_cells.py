"""Cells of which some were perturbed: which are compared with which, and what was expected of them in silico."""

import logging

import anndata as ad
import numpy as np
import pandas as pd

from regulonformer.corpus.encoding import log_normalise
from regulonformer.corpus.shards import Corpus
from regulonformer.errors import InputError
from regulonformer.evaluate import perturbation as judge
from regulonformer.evaluate.splits import choose_group

FEWEST_CELLS = 3


class PerturbedCells:
    """Cells with their labels, values and embedding, and the in-silico shifts of TFs.

    Attributes
    ----------
    values
        log1p of RNA counts per 10,000, cells x genes (csr).
    label
        What was perturbed in each cell; empty for cells without RNA, which are left out.
    group, donor, strata
        State and donor of each cell; cells are compared within strata, of one library and state.
    embedding, activity
        Of the same cells: cells x width, and regulon activity (AnnData).
    shifts
        In-silico shifts of the direction that is judged (AnnData).
    tfs, own_T
        TFs perturbed in silico, and the column of each among the genes.
    """

    def __init__(self, shards, cells, vocabulary, shifts, embedding, activity, settings) -> None:
        corpus = Corpus(shards, cells, vocabulary)
        self.cells, self.settings = corpus.cells, settings
        if settings["column"] not in self.cells:
            problem = f"no column {settings['column']!r} in the data"
            raise InputError("perturbation.column", problem, "Name one of the labels")
        counts = corpus.rows(np.arange(len(corpus)))[0]
        self.values = counts.astype(np.float32)
        self.values.data = log_normalise(counts, corpus.library[:, 0])
        self.genes = pd.Index(corpus.vocabulary["symbol"])
        self.label = self.cells[settings["column"]].astype(str).where(self.cells["has_rna"], "").to_numpy()
        every = pd.Series("", index=self.cells.index)
        self.group = self.cells.get(settings["group"], every).astype(str).to_numpy()
        sample = self.cells["sample"].astype(str)
        self.strata = (sample + "\t" + self.group).to_numpy()
        donor = choose_group(self.cells)
        self.donor = (self.cells[donor].astype(str) if donor else sample).to_numpy()
        self.embedding = ad.read_h5ad(embedding)[self.cells.index].X
        activity = ad.read_h5ad(activity)
        # Cells without RNA have none; they have no label either, so that any cell may stand in their row.
        self.activity = activity[np.maximum(activity.obs_names.get_indexer(self.cells.index), 0)]
        shifts = ad.read_h5ad(shifts)
        self.shifts = shifts[shifts.obs["direction"] == settings["direction"]]
        self.tfs = pd.Index(self.shifts.obs["tf"].unique())
        self.own_T = self.genes.get_indexer(self.tfs)

    def conditions(self) -> dict[str, str]:
        """Label of each perturbation of one TF that was perturbed in silico too, and the TF; others are named."""
        control, found = self.settings["control"], {}
        for label, size in pd.Series(self.label).value_counts().sort_index().items():
            genes = judge.perturbed_genes(label, control)
            if len(genes) == 1 and genes[0] in self.tfs and size >= FEWEST_CELLS:
                found[label] = genes[0]
            elif genes:
                wanted = f"judged are single TFs that were perturbed in silico, in {FEWEST_CELLS} cells or more"
                logging.warning("%s, in %d cells: left out; %s", label, size, wanted)
        if control not in self.label or set(self.label) <= {control, ""}:
            known = ", ".join(sorted(set(self.label) - {""})[:5])
            problem = f"values are {known}; the control is to be {control!r}"
            raise InputError(f"perturbation.column: {self.settings['column']}", problem, "Name it as it stands there")
        return found

    def folds(self) -> list[tuple[str, np.ndarray]]:
        """Each donor alone, then all cells together."""
        donors = np.unique(self.donor)
        alone = [(name, self.donor == name) for name in donors] if len(donors) > 1 else []
        return [*alone, (judge.POOLED, np.ones(len(self.donor), bool))]

    def arms(self, label: str, chosen: np.ndarray) -> list:
        """Rows of perturbed and control cells, per stratum."""
        kept = chosen & np.isin(self.label, [label, self.settings["control"]])
        return judge.arms(kept & (self.label == label), np.where(kept, self.strata, "\n"))

    def shift(self, pairs: list) -> np.ndarray:
        """In-silico shift of each TF, T x D, its groups of cells in the shares that they have in an observed change."""
        groups = self.shifts.obs["group"].astype(str)
        names = [name for name in groups.unique() if name != "all"]
        weights = dict(zip(names, judge.stratum_weights(pairs, self.group, names), strict=True))
        weights = weights if any(weights.values()) else {"all": 1.0}
        part = self.shifts.X * groups.map(weights).fillna(0).to_numpy()[:, None]
        return pd.DataFrame(part).groupby(self.shifts.obs["tf"].to_numpy(), sort=False).sum().loc[self.tfs].to_numpy()
