"""Scan the peaks for TF motifs: JASPAR matrices on both strands of every peak's sequence."""

import logging

from regulonformer.errors import InputError
from regulonformer.gene_names import GeneNames
from regulonformer.io.gene_lists import read_aliases
from regulonformer.io.peaks import peak_names, read_bed
from regulonformer.io.store import read_mudata
from regulonformer.log import rule_log
from regulonformer.prior.motif_hits import write_hits
from regulonformer.prior.motif_scan import scan
from regulonformer.prior.motifs import map_motifs, read_jaspar, read_motifs
from regulonformer.prior.peak_sequences import read_sequences


def main(*, peaks, fasta, multiome, settings, output, motifs=None, aliases=None, threads=1):
    """Write the best motif site of every TF in every peak.

    Parameters
    ----------
    peaks
        BED file of consensus peaks.
    fasta
        Genome, with a .fai beside it.
    multiome
        h5mu file whose RNA genes name the TFs.
    settings
        Section `regulons` of the configuration.
    output
        npz file to write.
    motifs
        File of motifs in JASPAR or MEME format; None takes the JASPAR release of the settings.
    aliases
        Table of other names of genes, or None.
    threads
        Threads that scan.

    Raises
    ------
    InputError
        If no motif maps to a gene, or the peaks do not lie in the genome.
    """
    genes = GeneNames.of_matrix(read_mudata(multiome)["rna"].var, read_aliases(aliases) if aliases else None)
    matrices = read_motifs(motifs) if motifs else read_jaspar(settings["jaspar_release"])
    mapped, unmapped = map_motifs(matrices, genes)
    logging.info(
        "%d of %d motifs map to a gene; without one: %s", len(mapped), len(matrices), ", ".join(unmapped) or "none"
    )
    if not mapped:
        examples = f"genes like {', '.join(genes.symbols[:3])}; motifs like {matrices[0].name}"
        problem = f"no motif of {motifs or settings['jaspar_release']} has a gene here ({examples})"
        raise InputError(multiome, problem, "Name genes by symbol, not by identifier")
    table = read_bed(peaks)
    if table.empty:
        raise InputError(peaks, "no peaks", "Check the peak calling step")
    sequences, lost = read_sequences(fasta, table)
    hits = scan(mapped, sequences, peak_names(table), settings["motif_p_value"], threads)
    hits.unmapped = unmapped
    hits.counts |= lost | {
        "motifs": len(matrices),
        "motifs_with_gene": len(mapped),
        "peaks": len(table),
        "tfs": len(hits.tfs),
    }
    logging.info("%s", hits.counts)
    write_hits(hits, output)


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            peaks=job.input.peaks,
            fasta=str(job.input.fasta),
            multiome=job.input.multiome,
            motifs=str(job.input.motifs) or None,
            aliases=str(job.input.aliases) or None,
            settings=job.params.regulons,
            output=job.output.hits,
            threads=job.threads,
        )
