"""Make a MuData of modalities with the same cells."""

import warnings


def make_mudata(tables: dict, obs):
    """Put modalities of the same cells, in the same order, under one cell table.

    Parameters
    ----------
    tables
        Modality -> AnnData.
    obs
        Cell table of the whole; written as it is, and not copied to the modalities.

    Returns
    -------
    mudata.MuData
    """
    import mudata

    with mudata.set_options(pull_on_update=False), warnings.catch_warnings():
        # `rna` and `accessibility` share their gene names on purpose.
        warnings.simplefilter("ignore")
        data = mudata.MuData(tables)
    data.obs = obs.loc[data.obs_names].rename_axis(None)
    return data


def take_cells(table, keep, ids):
    """Copy the cells of one modality for which `keep` is true, under their cell ids (one for every row of `table`)."""
    kept = table[keep].copy()
    kept.obs_names = ids[keep]
    return kept
