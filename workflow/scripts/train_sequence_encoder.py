"""Train the network from the sequence of peaks to their accessibility in groups of cells."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from regulonformer.errors import InputError
from regulonformer.gene_names import GeneNames
from regulonformer.io.gene_lists import read_aliases
from regulonformer.io.store import read_mudata, write_parquet
from regulonformer.log import rule_log
from regulonformer.prior.motifs import background, log_odds, map_motifs, read_jaspar, read_motifs
from regulonformer.sequence.encoders import EmbeddedEncoder
from regulonformer.sequence.features import Genome
from regulonformer.sequence.groups import cell_groups
from regulonformer.sequence.onehot import one_hot
from regulonformer.sequence.training import (
    NetSettings,
    accessibility_scores,
    predict,
    pseudo_bulk,
    split_chromosomes,
    train_network,
)
from regulonformer.sequence.windows import centred


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
    rna, atac = data.mod["rna"], data.mod["atac"]
    matrices = read_motifs(motifs) if motifs else read_jaspar(jaspar_release)
    matrices, _ = map_motifs(matrices, GeneNames.of_matrix(rna.var, read_aliases(aliases) if aliases else None))
    if not matrices:
        problem = f"no motif of {motifs or jaspar_release} has a gene here"
        raise InputError(multiome, problem, "Name genes by symbol, not by identifier")
    with threadpool_limits(1):  # sums of several threads differ in their last bits
        group = cell_groups(data, settings["groups"], settings["seed"])
    names = [f"group{number}" for number in range(group.max() + 1)]
    windows = centred(atac.var, settings["window_bp"])
    sequences = Genome(fasta).windows(windows)
    known = np.array([bool(sequence.strip(b"N")) for sequence in sequences])
    targets_XG = pseudo_bulk(atac.X, group, len(names))
    options = NetSettings.of(settings)
    held = split_chromosomes(windows["chrom"], windows["start"], options.holdout, options.seed)
    composition = background([sequence for sequence, is_known in zip(sequences, known, strict=True) if is_known])
    odds = [torch.from_numpy(log_odds(motif.counts, composition)) for motif in matrices]
    onehot_X4L = one_hot(sequences, settings["window_bp"])
    net = train_network(onehot_X4L, torch.from_numpy(targets_XG), np.flatnonzero(known & ~held), odds, options)
    judged = np.flatnonzero(known & held)
    scores = accessibility_scores(predict(net, onehot_X4L[judged]), targets_XG[judged]) if len(judged) else {}
    about = {
        "motifs": [motif.matrix_id for motif in matrices],
        "peaks": len(windows),
        "peaks_without_sequence": int((~known).sum()),
        "held_out": sorted(windows["chrom"][held].unique()),
        "peaks_held_out": len(judged),
        "correlation": scores,
    }
    logging.info("%s", {key: value for key, value in about.items() if key != "motifs"})
    EmbeddedEncoder(net, settings["window_bp"], names, about).save(folder)
    write_parquet(pd.DataFrame({"cell": atac.obs_names.astype(str), "group": group}), cells)


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
