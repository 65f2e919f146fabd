"""Link peaks to genes: how likely each peak near a gene acts on it, from distance and association."""

import logging

import numpy as np
import pandas as pd
from scipy import stats
from threadpoolctl import threadpool_limits

from regulonformer.io.multiome import paired_cells
from regulonformer.io.peaks import parse_names
from regulonformer.io.store import open_mudata, read_parquet, write_json, write_parquet
from regulonformer.log import rule_log
from regulonformer.prior import null
from regulonformer.prior.assignment import fit_links
from regulonformer.prior.association import correlate, denoise
from regulonformer.prior.evidence import basis_of_cells, matrix_of
from regulonformer.prior.links import candidate_pairs, empty_links, gene_starts
from regulonformer.prior.two_groups import upper_tail

# Correlations over fewer cells mean nothing: then distance alone decides.
MIN_CELLS = 50
CONTROL_PAIRS = 200_000
# Pairs between one and two windows apart show what is associated without being linked; fewer than this do not.
BEYOND_WINDOWS, MIN_BEYOND = 2, 1000
LEVELS = (0.05, 0.01, 0.001)
P_EDGES, Z_EDGES = np.linspace(0, 1, 21), np.arange(-8, 8.25, 0.25)


def main(*, multiome, settings, output, summary, fasta=None, tss=None):
    """Write every peak-gene pair within the window, with its evidence and score.

    Parameters
    ----------
    multiome
        h5mu file with RNA (and its X_pca) and ATAC of all cells.
    settings
        Section `regulons` of the configuration.
    output
        Parquet file to write: peak, gene, distance, is_promoter, correlation, z, p_value, fdr, proximity, score.
    summary
        JSON file to write: what was counted, the null, and the fitted model.
    fasta
        Genome with a .fai beside it, for the GC content of peaks; or None.
    tss
        Parquet file of all transcription start sites; None takes one per gene.
    """
    data = open_mudata(multiome)
    if not data["atac"].n_vars:
        reason = "no library has ATAC"
        logging.warning("%s: there are no links", reason)
        write_parquet(empty_links(), output)
        write_json(summary, {"cells": data.n_obs, "peaks": 0, "pairs": 0, "reason": reason, "null": {}})
        return
    gene_table, peak_names = data["rna"].var, np.asarray(data["atac"].var_names, dtype=object)
    peak_table = parse_names(peak_names, where=multiome)
    starts = gene_starts(gene_table, read_parquet(tss) if tss else None)
    near = candidate_pairs(starts, peak_table, BEYOND_WINDOWS * settings["window_bp"])
    reached = near["distance"].abs() <= settings["window_bp"]
    pairs, beyond = near[reached].reset_index(drop=True), near[~reached].reset_index(drop=True)
    counts = {"cells": data.n_obs, "peaks": len(peak_names), "genes": len(gene_table), "pairs": len(pairs)}
    counts |= {"genes_without_tss": len(gene_table) - starts["gene"].nunique(), "tss": len(starts)}
    counts |= {"peaks_without_candidate_gene": len(peak_names) - pairs["peak"].nunique()}
    if pairs.empty:
        logging.warning("no peak lies within %d bp of a TSS: there are no links", settings["window_bp"])
    gc = null.gc_content(fasta, peak_table) if fasta else None
    with threadpool_limits(1):  # sums of several threads differ in their last bits
        tail, described = associate(pairs, beyond, data, peak_table, gc, settings)
        fit = {"window_bp": settings["window_bp"], "decay_bp": settings["distance_decay_bp"]}
        model = fit_links(pairs, tail, **fit)
    data.file.close()
    logging.info("%s", counts | described["null"])
    pairs = pairs.assign(proximity=model.prior, score=model.posterior)
    pairs = pairs.round({"correlation": 5, "z": 5, "proximity": 6, "score": 6})
    pairs["peak"], pairs["gene"] = peak_names[pairs["peak"]], gene_table.index.to_numpy(object)[pairs["gene"]]
    write_parquet(pairs, output)
    described["model"] = {
        "log_likelihood_gain": model.log_likelihood_gain,
        "odds": model.odds.to_dict("records"),
        "ratio": model.ratio.to_dict("records"),
        "expected_links": float(model.posterior.sum()),
    }
    write_json(summary, counts | described)


def associate(pairs, beyond, data, peak_table, gc, settings) -> tuple[np.ndarray, dict]:
    """Add correlation, z, p_value and fdr to pairs, in place, and correlation, z and p_value to those beyond reach.

    Returns
    -------
    upper_tail
        Share of the pairs beyond reach with a z at least as large, per pair; NaN where peak or gene do not vary.
    described
        What was counted, and distributions for figures.
    """
    cells = paired_cells(data)
    counts = {"paired_cells": len(cells)}
    if len(cells) >= MIN_CELLS:
        basis = basis_of_cells(data, cells)
        (peaks, accessibility), (genes, _) = (denoise(matrix_of(data, name, cells), basis) for name in ("atac", "rna"))
        varies = peaks.any(axis=1)
        counts |= {"silent_peaks": int((~varies).sum()), "silent_genes": int((~genes.any(axis=1)).sum())}
    if len(cells) < MIN_CELLS or pairs.empty or not varies.any() or not genes.any():
        told = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in counts.items())
        logging.warning("%s: links rest on distance alone, every p-value is 1", told)
        pairs[["correlation", "z", "p_value", "fdr"]] = 0.0, 0.0, 1.0, 1.0
        return np.full(len(pairs), np.nan), {"null": counts | {"values": 0}}

    bins = np.full(len(peaks), -1)
    bins[varies] = null.matching_bins(accessibility[varies], None if gc is None else gc[varies])
    unrelated = null.unrelated_test(peak_table, data["rna"].var, settings["window_bp"])
    rng = np.random.default_rng(settings["seed"])
    matched = null.matched_null(peaks, genes, bins, unrelated, null_peaks=settings["null_peaks"], rng=rng)

    def judge(table):
        table["correlation"] = correlate(peaks, genes, table)
        table["z"], n_without = null.standardise_pairs(table, bins, matched, basis.shape[1])
        table["p_value"] = np.where(table["z"] == 0, 1.0, matched.p_values(table["z"].to_numpy()))
        return n_without

    counts |= {"pairs_without_unrelated_peaks": judge(pairs), "values": matched.n, "drawn_peaks": len(matched.peaks)}
    pairs["fdr"] = stats.false_discovery_control(pairs["p_value"])
    control = null.control_pairs(bins, genes, matched, unrelated, CONTROL_PAIRS, rng)
    judge(control)
    judge(beyond)
    counts |= {"components": basis.shape[1], "bins": int(bins.max()) + 1}
    counts["matched_on"] = ["accessibility"] if gc is None else ["accessibility", "GC"]
    counts["drawn_from"] = "other chromosomes" if peak_table["chrom"].nunique() > 1 else "the same chromosome, far away"
    described = {"null": counts}
    described |= {"control": distribution(control), "beyond": distribution(beyond), "observed": distribution(pairs)}
    tail = tail_beyond(pairs["z"].to_numpy(), beyond.loc[beyond["z"] != 0, "z"].to_numpy(), matched)
    return np.where(pairs["z"] == 0, np.nan, tail), described


def tail_beyond(z: np.ndarray, beyond: np.ndarray, matched: null.MatchedNull) -> np.ndarray:
    """Probability, for a pair that is no link, of a z at least as large.

    From pairs just out of reach: genes and peaks of one domain go together without acting on each other, which peaks of
    other chromosomes cannot show. Where those are few, from the matched null.
    """
    if len(beyond) < MIN_BEYOND:
        return matched.tails(z)[0]
    return upper_tail(z, beyond)


def distribution(table: pd.DataFrame) -> dict:
    """Distribution of p and z of pairs that vary, and how often p falls below some levels, relative to expectation."""
    table = table[table["z"] != 0]
    p, z = table["p_value"].to_numpy(), np.clip(table["z"].to_numpy(), Z_EDGES[0], Z_EDGES[-1])
    ratios = {str(level): float((p <= level).mean() / level) if len(p) else None for level in LEVELS}
    described = {"pairs": len(table), "observed_over_expected": ratios}
    for name, values, edges in (("p", p, P_EDGES), ("z", z, Z_EDGES)):
        described |= {f"{name}_edges": edges, f"{name}_counts": np.histogram(values, edges)[0]}
    return described


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            multiome=job.input.multiome,
            settings=job.params.regulons,
            output=job.output.links,
            summary=job.output.summary,
            fasta=str(job.input.fasta) or None,
            tss=str(job.input.tss) or None,
        )
