"""Train the network from the sequence of peaks to their accessibility in groups of cells."""

import logging
from pathlib import Path

import pandas as pd
import torch

from regulonformer.errors import InputError
from regulonformer.gene_names import GeneNames
from regulonformer.io.gene_lists import read_aliases
from regulonformer.io.store import read_mudata, write_parquet
from regulonformer.log import rule_log
from regulonformer.prior.motifs import map_motifs, read_jaspar, read_motifs
from regulonformer.sequence.features import Genome
from regulonformer.sequence.fit import fit_network
from regulonformer.sequence.training import accessibility_scores


def main(*, multiome, fasta, settings, jaspar_release, folder, cells, motifs=None, aliases=None, threads=1):
    """Train and write the encoder.

    Parameters
    ----------
    multiome
        h5mu with `rna` and `atac`.
    fasta
        Genome with a .fai beside it.
    settings
        Section `sequence`.
    jaspar_release
        Motifs to start from where `motifs` is None.
    folder
        Where config.json and model.safetensors go; config.json tells the scores on what was held out.
    cells
        Parquet file to write: the group of each cell.
    motifs, aliases
        Files of motifs and of other names of genes, or None.
    threads
        CPU threads.

    Raises
    ------
    InputError
        If no motif maps to a gene, or the peaks do not lie in the genome.
    """
    torch.set_num_threads(threads)
    data = read_mudata(multiome)
    matrices = read_motifs(motifs) if motifs else read_jaspar(jaspar_release)
    naming = GeneNames.of_matrix(data.mod["rna"].var, read_aliases(aliases) if aliases else None)
    matrices, _ = map_motifs(matrices, naming)
    if not matrices:
        problem = f"no motif of {motifs or jaspar_release} has a gene here"
        raise InputError(multiome, problem, "Name genes by symbol, not by identifier")
    fit = fit_network(data, Genome(fasta), matrices, settings)
    judged = fit.judged
    about = {
        "motifs": [motif.matrix_id for motif in matrices],
        "peaks": len(fit.windows),
        "peaks_without_sequence": len(fit.windows) - len(fit.train) - len(judged),
        "held_out": fit.held_out,
        "peaks_held_out": len(judged),
        "correlation": accessibility_scores(fit.predicted_XG, fit.targets_XG[judged]) if len(judged) else {},
    }
    logging.info("%s", {key: value for key, value in about.items() if key != "motifs"})
    fit.encoder(about).save(folder)
    write_parquet(pd.DataFrame({"cell": data.mod["atac"].obs_names.astype(str), "group": fit.group}), cells)


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            multiome=job.input.multiome,
            fasta=job.input.fasta,
            motifs=job.input.motifs or None,
            aliases=job.input.aliases or None,
            settings=job.params.sequence,
            jaspar_release=job.params.jaspar_release,
            folder=Path(job.output.config).parent,
            cells=job.output.cells,
            threads=job.threads,
        )
