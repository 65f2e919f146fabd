"""Groups of cells whose accessibility is added up: clusters, so that no label is needed."""

import numpy as np

COMPONENTS = 20
# A group needs so many cells for its counts to say anything.
FEWEST_CELLS = 20


def cell_groups(data, n_groups: int, seed: int) -> np.ndarray:
    """Group of each cell of `atac`: k-means on principal components of RNA and of accessibility.

    Parameters
    ----------
    data
        MuData with `X_lsi` in `atac` and, where there is RNA, `X_pca` in `rna`.
    n_groups
        Groups wanted; fewer where there are not so many cells.
    seed
        Seed of k-means.

    Returns
    -------
    numpy.ndarray
        Group of each cell of `atac`, 0 .. G - 1; none is empty.
    """
    from sklearn.cluster import KMeans

    atac = data.mod["atac"]
    parts = [_scaled(atac.obsm["X_lsi"])]
    rna = data.mod.get("rna")
    # Cells without RNA would be a group of their own.
    if rna is not None and "X_pca" in rna.obsm and atac.obs_names.isin(rna.obs_names).all():
        parts.append(_scaled(rna.obsm["X_pca"])[rna.obs_names.get_indexer(atac.obs_names)])
    k = int(np.clip(atac.n_obs // FEWEST_CELLS, 1, n_groups))
    found = KMeans(k, n_init=3, random_state=seed).fit_predict(np.hstack(parts))
    return np.unique(found, return_inverse=True)[1]


def _scaled(components: np.ndarray) -> np.ndarray:
    """First components in units of the first one's standard deviation."""
    kept = np.asarray(components, dtype=float)[:, :COMPONENTS]
    return kept / max(kept[:, 0].std(), 1e-12)
