"""Embeddings of cells, of a corpus or of a user's own data, by one and the same code."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch

from regulonformer.log import progress as shown
from regulonformer.model.allocator import keep_freed_memory
from regulonformer.model.batch import CellBatch
from regulonformer.model.precision import uses_bf16
from regulonformer.panel import cut_panel
from regulonformer.pretrained import Pretrained
from regulonformer.query import Query


def embed(
    pretrained: Pretrained,
    data,
    batch_cells: int = 64,
    device: str | None = None,
    progress: bool = True,
    precision: str = "float32",
):
    """Embed the cells of a MuData, or of an AnnData of RNA. Nothing is trained.

    Parameters
    ----------
    pretrained
        Model. Genes of it that the data do not have are cut from it for this call (`cut_panel`).
    data
        MuData with raw counts in the modalities `rna` and `atac` (peaks) or `accessibility` (genes), in memory or
        backed; what a cell lacks is MISSING. An AnnData is taken as RNA. See `regulonformer.query.Query`.
    batch_cells
        Cells per batch.
    device
        Such as `cpu`, `cuda` or `mps`; by default a GPU if there is one. The model stays there.
    progress
        Whether to show a bar (on a terminal) or to log lines (elsewhere).
    precision
        `float32`, `bf16`, or `auto` (bf16 where the hardware multiplies it).

    Returns
    -------
    anndata.AnnData
        Cells x width (float32), in the order of `data`, with its `obs`. obsm X_regulons: attention of the cell over
        the regulon slots, mean of heads and regulon layers. uns: regulons (TF of each slot), genes and gene_vectors.
        A model without regulon layers has neither X_regulons nor regulons.

    Raises
    ------
    InputError
        If counts are not raw, or less than half of the model's genes are found.
    """
    query = Query(data, pretrained)
    if len(query.tokens) < len(pretrained.vocabulary):
        pretrained = cut_panel(pretrained, pretrained.vocabulary["symbol"].iloc[query.tokens])
    share = pretrained.config.get("panel_share", [1.0, 1.0])
    batches = query.batches(batch_cells, share)
    return embed_batches(pretrained, query.obs, batches, query.n_batches(batch_cells), device, progress, precision)


@torch.no_grad()
def embed_batches(
    pretrained: Pretrained,
    obs: pd.DataFrame,
    batches: Iterable[tuple[np.ndarray, CellBatch]],
    n_batches: int,
    device: str | None = None,
    progress: bool = True,
    precision: str = "float32",
):
    """Embed cells that come in batches; the result is that of `embed`.

    Parameters
    ----------
    pretrained
        Model.
    obs
        Table of all cells.
    batches
        Row numbers in `obs`, and the cells.
    n_batches
        How many there are.
    device, progress, precision
        As for `embed`.
    """
    import anndata

    keep_freed_memory()
    model = pretrained.model.to(device or torch.accelerator.current_accelerator(check_available=True) or "cpu")
    place = model.cell_token.device
    regulon_layers = [number for number, kind in enumerate(model.config.layers) if kind == "regulon"]
    embedding = np.zeros((len(obs), model.config.width), np.float32)
    attention = np.zeros((len(obs), len(model.tf_S) if regulon_layers else 0), np.float32)
    for rows, batch in shown(batches, n_batches, "embedding", unit="batch") if progress else batches:
        batch = batch.to(place)
        with torch.autocast(place.type, torch.bfloat16, enabled=uses_bf16(precision, place.type == "cuda")):
            encoded = model(batch, attention="cell", read_BT=batch.genes_BT[:, :0])
        embedding[rows] = encoded.cell_BD.cpu().numpy()
        if regulon_layers:
            attention[rows] = torch.stack([encoded.attention[layer] for layer in regulon_layers]).mean(0).cpu().numpy()

    cells = anndata.AnnData(embedding, obs=obs)
    cells.var_names = pd.Index([f"dimension_{number}" for number in range(embedding.shape[1])])
    if regulon_layers:
        cells.obsm["X_regulons"] = attention
        cells.uns["regulons"] = np.array(pretrained.config["regulons"], dtype=object)
    cells.uns["gene_vectors"] = model.embedding.gene_vectors.weight.detach().cpu().numpy()
    cells.uns["genes"] = pretrained.vocabulary["symbol"].to_numpy(dtype=object)
    return cells
