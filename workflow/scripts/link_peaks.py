"""Link peaks to genes: distance to the TSS, and association of accessibility and expression over metacells."""

import logging

import numpy as np
import pandas as pd

from regulonformer.io.peaks import parse_names
from regulonformer.io.store import read_mudata, write_parquet
from regulonformer.log import rule_log
from regulonformer.prior import links
from regulonformer.prior.metacells import metacell_profiles, metacells_of, standardise


def main(*, multiome, settings, output):
    """Write every peak-gene pair within the window, with its evidence and score.

    Parameters
    ----------
    multiome
        h5mu file with RNA and ATAC of all cells.
    settings
        Section `regulons` of the configuration.
    output
        Parquet file to write: peak, gene, distance, is_promoter, correlation, score, p_value.
    """
    data = read_mudata(multiome)
    gene_table, peak_names = data["rna"].var, data["atac"].var_names
    peak_table = parse_names(peak_names)
    pairs = links.candidate_pairs(gene_table, peak_table, settings["window_bp"])
    unplaced = int((gene_table["chrom"].astype(str) == "").sum())
    logging.info(
        "%d pairs of %d peaks and %d genes; %d genes have no TSS",
        len(pairs),
        len(peak_names),
        len(gene_table),
        unplaced,
    )

    metacell_of_cell, sample_of_metacell = metacells_of(data, settings["metacell_size"])
    n_metacells, n_samples = len(sample_of_metacell), len(np.unique(sample_of_metacell))
    accessibility = metacell_profiles(data["atac"].X, metacell_of_cell)
    expression = metacell_profiles(data["rna"].X, metacell_of_cell)
    mean_accessibility = accessibility.mean(axis=0)
    peaks, genes = (standardise(profiles, sample_of_metacell) for profiles in (accessibility, expression))
    logging.info("correlating over %d metacells of %d samples", n_metacells, n_samples)
    pairs["correlation"] = links.pair_correlations(peaks, genes, pairs)
    p_values, n_parametric = links.empirical_p_values(
        pairs,
        peak_table,
        gene_table,
        peaks,
        genes,
        mean_accessibility,
        window_bp=settings["window_bp"],
        null_peaks=settings["null_peaks"],
        n_free=n_metacells - n_samples - 1,
        rng=np.random.default_rng(settings["seed"]),
    )
    if n_parametric:
        logging.info("%d pairs have no unrelated peaks to compare with: p-values by the t distribution", n_parametric)
    score = links.link_scores(pairs["distance"], pairs["is_promoter"], p_values, settings["distance_decay_bp"])
    table = pd.DataFrame(
        {
            "peak": np.asarray(peak_names, dtype=object)[pairs["peak"]],
            "gene": np.asarray(gene_table.index, dtype=object)[pairs["gene"]],
        }
    )
    table = table.assign(distance=pairs["distance"], is_promoter=pairs["is_promoter"])
    table = table.assign(correlation=pairs["correlation"].round(5), score=score.round(6), p_value=p_values.round(8))
    write_parquet(table, output)


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(multiome=job.input.multiome, settings=job.params.regulons, output=job.output.links)
