"""Build regulons: TF to CRE to gene, from motifs and links, from a published network, or from both."""

import logging

import pandas as pd
from threadpoolctl import threadpool_limits

from regulonformer.errors import InputError
from regulonformer.gene_names import GeneNames
from regulonformer.io.gene_lists import read_aliases, read_tf_list
from regulonformer.io.store import open_mudata, write_json, write_parquet, write_tsv
from regulonformer.log import rule_log
from regulonformer.prior.evidence import add_motifs, add_network, choose_sources, gather
from regulonformer.prior.links import read_links
from regulonformer.prior.motifs import motif_symbols
from regulonformer.prior.regulons import build, describe, write_gmt


def main(
    *,
    multiome,
    settings,
    regulons,
    gmt,
    summary,
    unmapped,
    links=None,
    motif_hits=None,
    network=None,
    tfs=None,
    aliases=None,
):
    """Write regulons as an edge table, as gene sets, and what was counted on the way.

    Parameters
    ----------
    links
        Parquet file of peak-gene links, or None for a run without ATAC.
    multiome
        h5mu file; its RNA and ATAC tell how TFs go with targets and elements.
    settings
        Section `regulons` of the configuration.
    regulons, gmt, summary
        Files to write: Parquet, GMT, JSON.
    unmapped
        TSV to write: names of motifs, network and TF list that stand for no gene, with the reason.
    motif_hits
        npz file of motif sites, or None.
    network
        File of a published network, or None.
    tfs
        File with one TF symbol per line that limits the sources, or None.
    aliases
        Table of other names of genes, or None.

    Raises
    ------
    InputError
        If there is nothing to build from, or symbols do not match.
    """
    if not motif_hits and not network:
        raise InputError("reference", "neither motif hits nor a network", "Give reference/fasta or reference/network")
    data = open_mudata(multiome)
    names = GeneNames.of_matrix(data["rna"].var, read_aliases(aliases) if aliases else None)
    evidence, counts = gather(data, read_links(links), min_link_score=settings["min_link_score"])
    lost = [names.unmapped(read_tf_list(tfs), tfs)] if tfs else []
    if motif_hits:
        counts["motifs"] = add_motifs(evidence, motif_hits, data)
        partners = [symbol for name in counts["motifs"]["motifs_without_gene"] for symbol in motif_symbols(name)]
        lost.append(names.unmapped(partners, motif_hits))
    data.file.close()
    if network:
        options = {"confidence": settings["network_confidence"], "keep_unmeasured_tfs": settings["keep_unmeasured_tfs"]}
        counts["network"], missing = add_network(evidence, network, names, **options)
        lost.append(missing)
    sources, counts["tfs_not_in_list"] = choose_sources(evidence, names, tfs)
    if not sources:
        fix = "Set regulons/keep_unmeasured_tfs or give another network"
        raise InputError(network or motif_hits, "none of its TFs is a gene of the data", fix)
    bounds = {name: settings[name] for name in ("min_score", "min_targets", "max_targets", "max_regulons")}
    table, built, model = build(evidence, sources, **bounds)
    counts |= built | describe(table, model)
    logging.info("%s", counts)
    if table.empty:
        problem = f"no TF has {settings['min_targets']} targets of score {settings['min_score']} or more"
        fix = "Lower regulons/min_score or regulons/min_targets, or give another network"
        raise InputError(network or motif_hits, f"{problem} among the {len(evidence.genes)} genes", fix)
    write_parquet(table, regulons)
    write_gmt(table, gmt)
    write_json(summary, counts)
    write_tsv(pd.concat(lost), unmapped)


if job := globals().get("snakemake"):
    # Sums of several threads differ in their last bits.
    with rule_log(job.log[0]), threadpool_limits(1):
        main(
            links=str(job.input.links) or None,
            multiome=job.input.multiome,
            settings=job.params.regulons,
            regulons=job.output.regulons,
            gmt=job.output.gmt,
            summary=job.output.summary,
            unmapped=job.output.unmapped,
            motif_hits=str(job.input.motif_hits) or None,
            network=str(job.input.network) or None,
            tfs=str(job.input.tfs) or None,
            aliases=str(job.input.aliases) or None,
        )
