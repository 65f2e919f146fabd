"""Which TFs drive a class: what they, their targets and their regulons say together."""

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.stats import false_discovery_control, spearmanr

from regulonformer.explain.permutation import contrast_classes

COMPONENTS = ("own", "targets", "attention")


def tf_evidence(
    directed_XN: np.ndarray, attention_XS: np.ndarray, slots: list[str], genes: pd.Index, weights_NT, tfs: list[str]
) -> dict[str, np.ndarray]:
    """Evidence in each cell that a TF acts, from three sides.

    Parameters
    ----------
    directed_XN
        Attribution times direction (see `Attribution`), both modalities added: positive where a high value speaks for
        the class of the cell.
    attention_XS
        Attention of each cell over the regulon slots.
    slots
        TF of each slot.
    genes
        Genes N.
    weights_NT
        Weights of targets (scipy sparse), negative where the TF represses.
    tfs
        TFs T.

    Returns
    -------
    dict of str to numpy.ndarray
        Cells x TFs: `own`, of the TF as a gene; `targets`, weighted sum over its targets; `attention`. Zero for a TF
        that is no gene, has no targets or no slot.
    """
    at = genes.get_indexer(tfs)
    own_XT = np.where(at >= 0, directed_XN[:, at], 0.0)
    slot_T = pd.Index(slots).get_indexer(tfs)
    attention_XT = np.where(slot_T >= 0, attention_XS[:, slot_T], 0.0) if len(slots) else np.zeros_like(own_XT)
    targets_XT = (sparse.csr_matrix(weights_NT).T @ directed_XN.T).T
    return {"own": own_XT, "targets": targets_XT, "attention": attention_XT}


def driver_tfs(
    evidence: dict[str, np.ndarray],
    tfs: list[str],
    class_X: np.ndarray,
    fold_X: np.ndarray,
    n_targets: np.ndarray,
    n_permutations: int,
    seed: int,
) -> pd.DataFrame:
    """Rank the TFs of each class.

    Each kind of evidence is brought to unit deviation over cells, within folds, and the three are averaged in every
    cell. The score is the contrast of a class with the others in this mean, in units of its permutation null.

    Parameters
    ----------
    evidence
        From `tf_evidence`.
    tfs
        TFs T.
    class_X, fold_X
        Class name and fold of each cell.
    n_targets
        Targets of each TF.
    n_permutations, seed
        Permutations of the null and their seed.

    Returns
    -------
    pandas.DataFrame
        class, tf, score, p, fdr (Benjamini-Hochberg over TFs), own, targets, attention (z of each kind of evidence
        alone), n_targets, rank.
    """
    classes, index_X = np.unique(class_X, return_inverse=True)
    scaled = {kind: _unit(values_XT, fold_X) for kind, values_XT in evidence.items()}

    def contrast(values_XT: np.ndarray, n: int):
        return contrast_classes(values_XT, index_X, fold_X, len(classes), n, seed)

    together = contrast(np.mean(list(scaled.values()), axis=0), n_permutations)
    alone = {kind: contrast(values_XT, 0).z_CF for kind, values_XT in scaled.items()}
    parts = []
    for c, name in enumerate(classes):
        part = pd.DataFrame({"class": name, "tf": tfs, "score": together.z_CF[c], "p": together.p_CF[c]})
        part["fdr"] = false_discovery_control(part["p"], method="bh")
        part = part.assign(**{kind: z_CT[c] for kind, z_CT in alone.items()}, n_targets=n_targets)
        part = part.sort_values(["score", "tf"], ascending=[False, True])
        parts.append(part.assign(rank=np.arange(1, len(part) + 1)))
    return pd.concat(parts, ignore_index=True)


def regulon_influence(
    attention_2XS: np.ndarray, slots: list[str], class_X: np.ndarray, fold_X: np.ndarray, n_permutations: int, seed: int
) -> pd.DataFrame:
    """Attention to each regulon in each class, against the other classes.

    Parameters
    ----------
    attention_2XS
        Attention of the pooling token, and mean of the genes, over the slots.
    slots
        TF of each slot.
    class_X, fold_X
        Class name and fold of each cell.
    n_permutations, seed
        Permutations of the null and their seed.

    Returns
    -------
    pandas.DataFrame
        class, regulon, influence (mean of both kinds of attention; 1 / slots if all were alike), cell_attention,
        gene_attention, z, p, fdr, rank; empty for a model without regulon layers.
    """
    classes, index_X = np.unique(class_X, return_inverse=True)
    columns = ["class", "regulon", "influence", "cell_attention", "gene_attention", "z", "p", "fdr", "rank"]
    if not len(slots):
        return pd.DataFrame(columns=columns)
    both = contrast_classes(attention_2XS.mean(0), index_X, fold_X, len(classes), n_permutations, seed)
    parts = []
    for c, name in enumerate(classes):
        part = pd.DataFrame({"class": name, "regulon": slots, "influence": both.mean_CF[c]})
        part["cell_attention"], part["gene_attention"] = attention_2XS[:, index_X == c].mean(1)
        part["z"], part["p"] = both.z_CF[c], both.p_CF[c]
        part["fdr"] = false_discovery_control(part["p"], method="bh")
        part = part.sort_values(["z", "regulon"], ascending=[False, True])
        parts.append(part.assign(rank=np.arange(1, len(part) + 1)))
    return pd.concat(parts, ignore_index=True)[columns]


def agreement(tfs: pd.DataFrame, influence: pd.DataFrame) -> dict:
    """Tell whether attributions and attention name the same TFs.

    Parameters
    ----------
    tfs, influence
        From `driver_tfs` and `regulon_influence`.

    Returns
    -------
    dict
        `classes`: class to Spearman's rho, over TFs with a regulon, between the attribution of a TF with its targets
        (mean of the z of both) and the z of the attention to its regulon, where both vary; `mean` of these; `tfs`.
    """
    gradient = tfs.assign(gradient=(tfs["own"] + tfs["targets"]) / 2)[["class", "tf", "gradient"]]
    both = gradient.merge(influence.rename(columns={"regulon": "tf"})[["class", "tf", "z"]], on=["class", "tf"])
    rho = {name: float(spearmanr(part["gradient"], part["z"]).statistic) for name, part in both.groupby("class")}
    known = {name: value for name, value in rho.items() if np.isfinite(value)}
    mean = float(np.mean(list(known.values()))) if known else None
    return {"classes": known, "mean": mean, "tfs": int(both["tf"].nunique())}


def _unit(values_XT: np.ndarray, fold_X: np.ndarray) -> np.ndarray:
    """Bring each column to mean 0 and deviation 1 within each fold; a constant column becomes 0."""
    unit_XT = np.zeros(values_XT.shape)
    for fold in np.unique(fold_X):
        rows = fold_X == fold
        spread = values_XT[rows].std(0)
        centred = values_XT[rows] - values_XT[rows].mean(0)
        unit_XT[rows] = np.divide(centred, spread, out=np.zeros_like(centred, dtype=float), where=spread > 1e-12)
    return unit_XT
