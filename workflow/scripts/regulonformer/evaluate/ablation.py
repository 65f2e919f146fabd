"""What single parts of the model are worth: variants that differ from it in one thing, and what they are judged by."""

import logging

import numpy as np
import pandas as pd
import torch
from scipy import stats
from sklearn.metrics import average_precision_score
from torch import Tensor, nn

from regulonformer.corpus.loader import stream
from regulonformer.corpus.sampler import length_sorted
from regulonformer.corpus.vocabulary import regulon_edges
from regulonformer.evaluate.grn_methods import shuffled_edges
from regulonformer.gene_names import GeneNames
from regulonformer.io.gene_lists import read_aliases
from regulonformer.model.encoder import pick
from regulonformer.model.pooling import FreePooling
from regulonformer.prior.network import fit_to_genes, read_network

REFERENCE = "prior"
VARIANTS = (REFERENCE, "shuffled", "none", "no_layers", "no_path", "dense", "bf16", "full_rank")


def variant_edges(variant: str, regulons: pd.DataFrame, vocabulary: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Edges between slots and genes that a variant starts from.

    Parameters
    ----------
    variant
        `shuffled`: our regulons rewired, so that every TF and gene keeps its number of edges; `none`: each slot holds
        its TF alone, and TFs that were not measured have no slot; any other: our regulons.
    regulons
        Regulon table.
    vocabulary
        Token list.
    seed
        Seed of the rewiring.

    Returns
    -------
    pandas.DataFrame
        See `regulon_edges`.
    """
    if variant == "shuffled":
        known = regulons[regulons["target"].isin(vocabulary["symbol"])]
        pairs = known.assign(score=known["score"].abs()).groupby(["source", "target"], as_index=False)["score"].max()
        return regulon_edges(shuffled_edges(pairs, seed=seed), vocabulary)
    edges = regulon_edges(regulons, vocabulary)
    if variant == "none":
        logging.info(
            "%d slots of TFs that were not measured are left out", edges["tf"][edges["tf_token"] < 0].nunique()
        )
        edges = edges[edges["gene"] == edges["tf_token"]].reset_index(drop=True)
        edges = edges.assign(slot=pd.factorize(edges["tf"])[0])
    return edges


def variant_settings(variant: str, pretrain: dict, ablation: dict, seed: int) -> dict:
    """Settings of pretraining for one run: the recipe with the budget of the ablation, validated at its end."""
    steps = ablation["steps"]
    budget = {"steps": steps, "validate_steps": steps, "patience": None, "seed": seed}
    changed = {"precision": "bf16" if variant == "bf16" else "float32"}
    if variant == "no_path":
        changed["model"] = pretrain["model"] | {"linear_path": False}
    return pretrain | budget | changed


def change_model(variant: str, model: nn.Module) -> None:
    """Turn an untrained model into a variant of itself, in place; most variants do not differ here."""
    if variant == "dense":
        model.register_forward_pre_hook(_compute_every_gene, with_kwargs=True)
    if variant == "no_layers":
        for layer in model.layers:
            for output in (layer.attention.o_proj, layer.fc2):
                nn.init.zeros_(output.weight).requires_grad_(False)
    if variant == "full_rank":
        vectors_ND = model.embedding.gene_vectors.weight.detach()
        for layer in model.layers:
            if isinstance(layer.pooling, FreePooling):
                layer.pooling = FullRankPooling(layer.pooling, vectors_ND)


def _compute_every_gene(model, args: tuple, given: dict) -> tuple[tuple, dict]:
    """Ask for the dense pass, but where the batch has every gene already: that is the dense pass itself."""
    batch = args[0]
    complete = batch.genes_BT.shape[1] == model.n_genes and not batch.pad_BT.any()
    return args, given | {"dense": not complete}


class FullRankPooling(FreePooling):
    """Free slots with a weight of their own for every gene, as in Linformer (Wang et al. 2020, arXiv 2006.04768).

    Parameters
    ----------
    low_rank
        Pooling whose weights it starts from.
    vectors_ND
        Gene vectors.
    """

    def __init__(self, low_rank: FreePooling, vectors_ND: Tensor) -> None:
        nn.Module.__init__(self)
        self.n_tfs = low_rank.n_tfs
        self.logits_NS = nn.Parameter(low_rank.logits(vectors_ND).detach().clone())

    def logits(self, vectors_ND: Tensor) -> Tensor:
        """How well each gene that may be read suits each slot, N x S (TFs x S)."""
        return self.logits_NS.clone()


@torch.no_grad()
def attention_influence(model, corpus, cells, batch_cells: int, dense: bool = False) -> np.ndarray:
    """How much more than others a gene attends to each regulon.

    Parameters
    ----------
    model
        Trained model.
    corpus
        Cells.
    cells
        Row numbers of the cells to average over.
    batch_cells
        Cells per batch.
    dense
        Whether the model computes every gene as a token.

    Returns
    -------
    numpy.ndarray
        Genes x slots: attention of the gene's token, mean over the cells in which it is active, less the mean over
        genes; 0 for a gene that is active in none.
    """
    n_slots = len(model.tf_S)
    total, times = torch.zeros(model.n_genes, n_slots), torch.zeros(model.n_genes)
    for _, batch in stream(corpus, length_sorted(cells, corpus.cells["n_active"].to_numpy()[cells], batch_cells)):
        read = batch.every_gene(model.n_genes) if dense else batch
        attention_BTS = model.gene_attention(read.to(model.cell_token.device)).cpu().float()
        attention_BTS = pick(attention_BTS, batch.genes_BT) if dense else attention_BTS
        genes_X = batch.genes_BT[~batch.pad_BT]
        total.index_add_(0, genes_X, attention_BTS[~batch.pad_BT])
        times.index_add_(0, genes_X, torch.ones(len(genes_X)))
    seen = times > 0
    mean = total[seen] / times[seen, None]
    influence = torch.zeros_like(total)
    influence[seen] = mean - mean.mean(0)
    return influence.numpy()


@torch.no_grad()
def pooling_influence(model) -> np.ndarray:
    """Genes x slots: pooling weights of the regulon layers in units of an even share of the slot, mean over layers."""
    vectors_ND = model.embedding.gene_vectors.weight
    kinds = zip(model.layers, model.config.layers, strict=True)
    weights = [layer.pooling.weights(vectors_ND) for layer, kind in kinds if kind == "regulon"]
    if not weights:
        return np.zeros((model.n_genes, len(model.tf_S)), np.float32)
    weights_NS = torch.stack(weights).mean(0)
    return (weights_NS * (weights_NS > 0).sum(0)).cpu().float().numpy()


def known_edges(truth_grn, gold, vocabulary: pd.DataFrame, aliases) -> pd.DataFrame:
    """Source and target of known edges, in the spelling of the vocabulary.

    Parameters
    ----------
    truth_grn, gold
        The simulator's truth, or else a network file; None where there is neither, and then there are no edges.
    vocabulary
        Token list.
    aliases
        Table of other names of genes, or None.
    """
    if truth_grn:
        return pd.read_csv(truth_grn, sep="\t")[["source", "target"]]
    if gold:
        names = GeneNames(vocabulary["symbol"], vocabulary["gene_id"], read_aliases(aliases) if aliases else None)
        return fit_to_genes(read_network(gold, list("ABCDE"))[0], names, gold, True)[0][["source", "target"]]
    return pd.DataFrame(columns=["source", "target"], dtype=str)


class TrueEdges:
    """Known TF-gene edges among the genes of a vocabulary.

    All pairs of a TF of the standard that is a regulon and a gene that is a target in it are judged, but a TF with
    itself.

    Parameters
    ----------
    known
        source, target.
    tfs
        TFs that any variant could find: those with a regulon.
    vocabulary
        Token list.
    """

    def __init__(self, known: pd.DataFrame, tfs, vocabulary: pd.DataFrame) -> None:
        symbols = pd.Index(vocabulary["symbol"])
        known = known[known["source"].isin(tfs) & known["target"].isin(symbols)].drop_duplicates(["source", "target"])
        self.tfs, self.genes = pd.Index(sorted(set(known["source"]))), np.flatnonzero(symbols.isin(known["target"]))
        names = symbols[self.genes]
        truth = np.zeros((len(self.genes), len(self.tfs)), bool)
        truth[names.get_indexer(known["target"]), self.tfs.get_indexer(known["source"])] = True
        self.judged = names.to_numpy()[:, None] != self.tfs.to_numpy()[None]
        self.truth = truth[self.judged]

    def scores(self, influence: np.ndarray, slot_tfs: list[str]) -> np.ndarray:
        """Score of every judged pair, of genes x slots; a TF without slot comes last."""
        slot = pd.Index(slot_tfs).get_indexer(self.tfs)
        return np.where(slot >= 0, influence[self.genes][:, slot], influence.min() - 1)[self.judged]

    def auprc(self, influence: np.ndarray, slot_tfs: list[str]) -> float:
        """Area under the precision-recall curve (average precision) of genes x slots."""
        return float(average_precision_score(self.truth, self.scores(influence, slot_tfs)))


def over_seeds(table: pd.DataFrame, confidence: float, reference: str = REFERENCE) -> pd.DataFrame:
    """Mean over seeds of every score, and of its difference to the reference with the same seed, with t intervals.

    Parameters
    ----------
    table
        method, seed, metric, value; one row per method, seed and metric.
    confidence
        Level of the intervals.
    reference
        Method that the others are compared with.

    Returns
    -------
    pandas.DataFrame
        method, seed (`all`), metric, value, ci_low, ci_high. Differences (method less reference) are the metrics
        `gap_...`. One seed has no interval.
    """
    wide = table.pivot(index="seed", columns=["method", "metric"], values="value")
    rows = []
    for method, metric in wide:
        values = wide[method, metric]
        rows.append((method, "all", metric, *mean_interval(values, confidence)))
        if method != reference and (reference, metric) in wide:
            gaps = values - wide[reference, metric]
            rows.append((method, "all", f"gap_{metric}", *mean_interval(gaps, confidence)))
    return pd.DataFrame(rows, columns=["method", "seed", "metric", "value", "ci_low", "ci_high"])


def mean_interval(values, confidence: float) -> tuple[float, float, float]:
    """Mean of independent values and its interval by Student's t; NaN is no value, and one alone has no interval."""
    values = np.asarray(values, np.float64)
    values = values[~np.isnan(values)]
    n = len(values)
    mean = float(np.mean(values)) if n else np.nan
    if n < 2:
        return mean, np.nan, np.nan
    half = stats.t.ppf((1 + confidence) / 2, n - 1) * stats.sem(values)
    return mean, float(mean - half), float(mean + half)
