"""Build regulons: TF to CRE to gene, from motifs and links, from a published network, or from both."""

import logging

from regulonformer.errors import InputError
from regulonformer.io.store import read_mudata, read_parquet, write_json, write_parquet
from regulonformer.log import rule_log
from regulonformer.prior.evidence import add_motifs, add_network, choose_sources, gather
from regulonformer.prior.regulons import build, describe, write_gmt


def main(*, links, multiome, settings, regulons, gmt, summary, motif_hits=None, network=None, tfs=None):
    """Write regulons as an edge table, as gene sets, and what was counted on the way.

    Parameters
    ----------
    links
        Parquet file of peak-gene links.
    multiome
        h5mu file; its RNA gives the correlations of TFs and targets.
    settings
        Section `regulons` of the configuration.
    regulons, gmt, summary
        Files to write: Parquet, GMT, JSON.
    motif_hits
        npz file of motif sites, or None.
    network
        File of a published network, or None.
    tfs
        File with one TF symbol per line that limits the sources, or None.

    Raises
    ------
    InputError
        If there is nothing to build from, or symbols do not match.
    """
    if not motif_hits and not network:
        raise InputError("reference", "neither motif hits nor a network", "Give reference/fasta or reference/network")
    options = {name: settings[name] for name in ("metacell_size", "min_link_score")}
    evidence, counts = gather(read_mudata(multiome), read_parquet(links), **options)
    if motif_hits:
        counts["motifs"] = add_motifs(evidence, motif_hits)
    if network:
        options = {"confidence": settings["network_confidence"], "keep_unmeasured_tfs": settings["keep_unmeasured_tfs"]}
        counts["network"] = add_network(evidence, network, **options)
    sources, counts["tfs_not_in_list"] = choose_sources(evidence, tfs)
    bounds = {name: settings[name] for name in ("min_targets", "max_targets", "max_regulons")}
    table, built = build(evidence, sources, **bounds)
    counts |= built | describe(table)
    logging.info("%s", counts)
    if table.empty:
        problem = f"no TF has {settings['min_targets']} targets among the {len(evidence.genes)} genes"
        raise InputError(network or motif_hits, problem, "Lower regulons/min_targets or give another network")
    write_parquet(table, regulons)
    write_gmt(table, gmt)
    write_json(summary, counts)


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            links=job.input.links,
            multiome=job.input.multiome,
            settings=job.params.regulons,
            regulons=job.output.regulons,
            gmt=job.output.gmt,
            summary=job.output.summary,
            motif_hits=str(job.input.motif_hits) or None,
            network=str(job.input.network) or None,
            tfs=str(job.input.tfs) or None,
        )
