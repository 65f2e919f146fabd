"""Spaces and graphs that the embedding of a model is compared with; none sees a label."""

from importlib.util import find_spec

import numpy as np
import pandas as pd
from scipy import sparse

from regulonformer.errors import InputError


def weighted_neighbours(spaces: dict[str, np.ndarray], k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Nearest cells by the weighted mean of modalities (WNN; Hao et al. 2021, Cell 184:3573; muon).

    Parameters
    ----------
    spaces
        Modality to components, cells x K.
    k
        Neighbours.
    seed
        Seed of the search.

    Returns
    -------
    tuple of numpy.ndarray
        Indices and distances, cells x k, the nearest first.
    """
    import mudata
    import muon
    import scanpy as sc

    parts = {}
    for name, space in spaces.items():
        # Muon wants a matrix of features beside the components; nothing reads it.
        part = sc.AnnData(sparse.csr_matrix((len(space), 1), dtype=np.float32), obsm={"X_space": space})
        part.var_names = [name]
        sc.pp.neighbors(part, use_rep="X_space", random_state=seed)
        parts[name] = part
    with mudata.set_options(pull_on_update=False):
        data = mudata.MuData(parts)
    k = min(k, len(data) - 2)
    muon.pp.neighbors(data, n_neighbors=k + 1, random_state=seed)
    return sorted_neighbours(data.obsp["distances"], k)


def sorted_neighbours(graph: sparse.spmatrix, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices and distances of the k nearest other cells of a sparse matrix of distances, cells x k.

    A cell with fewer repeats its last one.
    """
    graph = graph.tocsr()
    indices, distances = (np.zeros((graph.shape[0], k), kind) for kind in (np.int64, np.float64))
    for cell in range(graph.shape[0]):
        part = slice(graph.indptr[cell], graph.indptr[cell + 1])
        others = graph.indices[part] != cell
        near, far = graph.indices[part][others], graph.data[part][others]
        order = np.argsort(far, kind="stable")[:k]
        order = np.pad(order, (0, k - len(order)), mode="edge")
        indices[cell], distances[cell] = near[order], far[order]
    return indices, distances


def require_scvi() -> None:
    """Check that scvi-tools is installed, which is optional.

    Raises
    ------
    InputError
        If it is not.
    """
    if find_spec("scvi") is None:
        raise InputError("embedding_metrics/multivi", "scvi-tools is not installed", "Run `make scvi`, or set it false")


def multivi(rna, atac, batches: np.ndarray, seed: int) -> np.ndarray:
    """Latent space of MultiVI (Ashuach et al. 2023, Nature Methods 20:1222); needs scvi-tools.

    Parameters
    ----------
    rna, atac
        Counts, cells x genes and cells x peaks.
    batches
        Of each cell.
    seed
        Seed of the training.
    """
    import mudata
    import scvi
    from anndata import AnnData

    scvi.settings.seed = seed
    cells = pd.DataFrame({"batch": batches}, index=[str(i) for i in range(len(batches))])
    with mudata.set_options(pull_on_update=False):
        parts = {name: AnnData(x.astype(np.float32), obs=cells) for name, x in (("rna", rna), ("atac", atac))}
        for name, part in parts.items():
            part.var_names = f"{name}_" + part.var_names
        data = mudata.MuData(parts)
    where = {"rna_layer": "rna", "atac_layer": "atac", "batch_key": "rna"}
    scvi.model.MULTIVI.setup_mudata(data, batch_key="batch", modalities=where)
    model = scvi.model.MULTIVI(data, n_genes=rna.shape[1], n_regions=atac.shape[1])
    model.train(enable_progress_bar=False)
    return model.get_latent_representation()
