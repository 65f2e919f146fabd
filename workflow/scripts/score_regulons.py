"""Score the activity of every regulon in every cell."""

import logging

import anndata as ad
import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from regulonformer.io.store import open_mudata, read_parquet
from regulonformer.log import rule_log
from regulonformer.prior.activity import aucell, mean_z, target_matrix


def main(*, multiome, regulons, settings, output):
    """Write activities of regulons, cells x TFs.

    Parameters
    ----------
    multiome
        h5mu file. Cells without RNA have no activity and are left out.
    regulons
        Parquet file of edges: source, target, score, sign.
    settings
        Section `regulons` of the configuration.
    output
        h5ad to write. Layers: aucell (of the targets that are not repressed), mean_z (of all targets, by score and
        sign); var: targets, repressed.
    """
    data, edges = open_mudata(multiome), read_parquet(regulons)
    counts, genes = data["rna"].X, pd.Index(data["rna"].var_names.astype(str))
    tfs = sorted(edges["source"].unique())
    repressed = (edges["sign"] < 0).to_numpy()
    members = target_matrix(edges, genes, tfs, ~repressed)
    weights = target_matrix(edges, genes, tfs, edges["score"] * np.where(repressed, -1, 1))
    with threadpool_limits(1):  # sums of several threads differ in their last bits
        areas = aucell(counts, members, settings["activity_top_share"])
        means = mean_z(counts, weights)
    sizes = pd.DataFrame({"targets": edges.groupby("source").size()}).reindex(tfs)
    sizes["repressed"] = edges[repressed].groupby("source").size().reindex(tfs, fill_value=0)
    without = int((sizes["targets"] == sizes["repressed"]).sum())
    logging.info("%d regulons in %d cells; %d have no activated target and an area of 0", len(tfs), len(areas), without)
    cells = data.obs.loc[data["rna"].obs_names]
    table = ad.AnnData(obs=cells, var=sizes.rename_axis("tf"), layers={"aucell": areas, "mean_z": means})
    table.write_h5ad(output, compression="gzip", compression_opts=1)


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            multiome=job.input.multiome,
            regulons=job.input.regulons,
            settings=job.params.regulons,
            output=job.output.activity,
        )
