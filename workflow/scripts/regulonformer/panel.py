"""A model cut to a panel of genes: what it knows of them is kept, nothing is trained or made anew."""

import logging

import numpy as np
import torch
from torch import Tensor

from regulonformer.errors import InputError
from regulonformer.pretrained import Pretrained, check_regulons, model_of_state

# Entries of the weights with one row per gene.
GENE_ROWS = {
    "embedding.gene_vectors.weight",
    "embedding.gene_vectors.features",
    "embedding.gene_vectors.has_sequence",
    "embedding.gene_vectors.own",
    "heads.gene_log_mean",
    "heads.start",
    "heads.floor_log_dispersion",
    "heads.size_shift",
    "shortcut.projection",
    "shortcut.mean",
}


def cut_panel(pretrained: Pretrained, symbols) -> Pretrained:
    """Cut a model to a panel of genes.

    Rows of kept genes are taken over as they are, in their order (TFs stay first). Regulon edges to lost genes go, and
    a slot that loses all of them goes too; the TF index is moved to the new tokens. Pooling weights of what is left are
    the same softmax over fewer genes, so the model is the full one with the weights of lost genes set to zero and the
    rest scaled to sum to 1. Where no slot reads a lost gene, outputs of kept genes do not change. Those of the cell
    do, if the model has a linear path: there a lost gene's own value is replaced by its mean over the training cells.

    The share of all counts that falls on the panel is noted in the config as `panel_share`: dividing a cell's total
    over the panel by it estimates the total that values were divided by in training. `embed` does that.

    Parameters
    ----------
    pretrained
        Model; it is not changed.
    symbols
        Genes to keep; those that are no gene of the model are counted and left out.

    Returns
    -------
    Pretrained
        Config entries beside those of the model: panel_share (RNA, accessibility), lost_edges, lost_regulons.

    Raises
    ------
    InputError
        If no gene of the model is kept, or no regulon or TF although the model has regulon or tf layers.
    """
    wanted, vocabulary = set(map(str, symbols)), pretrained.vocabulary
    kept = np.flatnonzero(vocabulary["symbol"].isin(wanted))
    unknown = len(wanted) - len(kept)
    logging.info("panel: %d of %d genes kept, %d names are no gene of the model", len(kept), len(vocabulary), unknown)
    if not len(kept):
        raise InputError("panel", "no gene of the model is in it", "Name genes by the symbols of the vocabulary")
    state, names = pretrained.model.state_dict(), pretrained.config["regulons"]
    new_token = torch.full((len(vocabulary) + 1,), -1)  # the last entry is for -1, a TF that was not measured
    new_token[torch.as_tensor(kept)] = torch.arange(len(kept))

    cut, lost_edges, slots = {}, 0, torch.arange(len(names))
    for prefix in [name.removesuffix("gene_E") for name in state if name.endswith("pooling.gene_E")]:
        edges = {part: state[prefix + part].cpu() for part in ("slot_E", "gene_E", "edge_logits")}
        in_panel = new_token[edges["gene_E"]] >= 0
        lost_edges = int((~in_panel).sum())
        # Every regulon layer has the same edges, so every one keeps the same slots.
        slots, slot_E = edges["slot_E"][in_panel].unique(return_inverse=True)
        cut[prefix + "slot_E"], cut[prefix + "gene_E"] = slot_E, new_token[edges["gene_E"][in_panel]]
        cut[prefix + "edge_logits"] = edges["edge_logits"][in_panel]
    if len(names) and not len(slots):
        raise InputError("panel", "no regulon has a gene in it", "Keep some TFs or targets of the model's regulons")
    cut["tf_S"] = new_token[state["tf_S"].cpu()[slots]]
    cut["n_tfs"] = torch.tensor((kept < state["n_tfs"].item()).sum())
    cut |= {name: state[name].cpu()[torch.as_tensor(kept)] for name in GENE_ROWS & set(state)}

    left = vocabulary.iloc[kept].assign(token=np.arange(len(kept))).reset_index(drop=True)
    regulons = [names[slot] for slot in slots.tolist()]
    lost = sorted(set(names) - set(regulons))
    logging.info("panel: %d regulon edges lost, and the regulons of %s", lost_edges, ", ".join(lost) or "no TF")
    check_regulons(regulons, cut["tf_S"].tolist(), left, "panel")
    before = np.array(pretrained.config.get("panel_share", [1.0, 1.0]))
    share = before * panel_share(state["heads.gene_log_mean"].cpu(), kept)
    config = pretrained.config | {"n_genes": len(kept), "regulons": regulons, "panel_share": share.tolist()}
    config |= {"lost_edges": lost_edges, "lost_regulons": lost}
    elements = pretrained.elements
    if elements is not None:
        elements = elements[elements["symbol"].isin(wanted)].reset_index(drop=True)
    model = model_of_state(pretrained.model.config.to_dict(), state | cut)
    return Pretrained(model, left, config, None, elements)


def panel_share(gene_log_mean_N2: Tensor, kept: np.ndarray) -> np.ndarray:
    """Share of the counts of the training cells that falls on some genes, per modality."""
    share_N2 = gene_log_mean_N2.double().softmax(0)
    return share_N2[torch.as_tensor(kept)].sum(0).numpy()
