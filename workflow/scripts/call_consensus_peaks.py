"""Make one set of non-overlapping peaks for all libraries: kept as given, merged, or called with MACS3.

Where no library has peaks or fragments there are none, and the run goes on with RNA alone.
"""

import logging
from pathlib import Path

from regulonformer.errors import InputError
from regulonformer.io.peaks import chromosome_lengths, read_bed, sort_peaks, write_peaks
from regulonformer.io.store import open_mudata, write_json
from regulonformer.log import rule_log
from regulonformer.peaks.consensus import (
    clip_to_chromosomes,
    consensus_peaks,
    given_peaks,
    is_disjoint,
    remove_blacklisted,
    same_peaks,
)
from regulonformer.peaks.macs import call_peaks, group_cells


def main(
    *,
    ingested,
    settings,
    output_peaks,
    output_summary,
    peaks=(),
    peak_samples=(),
    fragments=(),
    fragment_samples=(),
    blacklist=None,
    fai=None,
    threads=1,
):
    """Write the consensus peaks (BED) and how they came about (json).

    `peak_samples` and `fragment_samples` name the libraries of `peaks` and `fragments`, in the same order; libraries
    without a peak file are asked for the peaks of their matrix. The stem of an `ingested` file is its library.
    """
    mode = settings.get("peaks", "auto")
    libraries = {Path(path).stem: open_mudata(path) for path in ingested}
    sets = {} if mode == "macs3" else given_peaks(libraries, dict(zip(peak_samples, peaks, strict=True)))
    if not sets and mode == "given":
        raise InputError(
            "features.peaks", "is 'given', but no library has peaks", "Give peaks in the sample sheet, or set 'auto'"
        )
    if not sets and not fragments:
        _write_none(libraries, output_peaks, output_summary)
        return
    excluded, lengths = read_bed(blacklist) if blacklist else None, chromosome_lengths(fai) if fai else None
    summary, called = {"width": None, "removed_blacklist": 0}, not sets
    if called:
        cells = {name: data.obs for name, data in libraries.items()}
        sets, calling = _call(cells, dict(zip(fragment_samples, fragments, strict=True)), settings, threads)
        summary |= calling
    else:
        summary["libraries_without_peaks"] = sorted(set(libraries) - set(sets))
    summary["peaks_per_set"] = {name: len(table) for name, table in sets.items()}
    first = next(iter(sets.values()))
    if not called and same_peaks(list(sets.values())) and is_disjoint(first):
        result = sort_peaks(first[["chrom", "start", "end"]]).assign(score=len(sets))
        result, dropped = clip_to_chromosomes(result, lengths) if lengths else (result, {})
        result, summary["removed_blacklist"] = remove_blacklisted(result, excluded)
        summary["method"] = "given"
    else:
        summary["width"], min_sets = int(settings.get("peak_width", 501)), int(settings.get("min_libraries", 1))
        result, dropped = consensus_peaks(
            sets, width=summary["width"], min_sets=min_sets, lengths=lengths, blacklist=excluded
        )
        summary["removed_blacklist"] = dropped.pop("blacklisted")
        summary["method"] = "macs3" if called else "merged"
    if result.empty:
        raise InputError(
            "features.peaks", "no consensus peak is left", "Check chromosome names, blacklist and macs3_qvalue"
        )
    write_peaks(result, output_peaks)
    summary |= {"n_consensus": len(result), "dropped": dropped}
    logging.info("%s", summary)
    write_json(output_summary, summary)


def _write_none(libraries, output_peaks, output_summary) -> None:
    """No peaks, and why."""
    Path(output_peaks).write_text("")
    reason = "no library has peaks or fragments"
    logging.warning("%s: nothing of ATAC is made", reason)
    summary = {"method": "none", "reason": reason, "n_consensus": 0, "libraries_without_peaks": sorted(libraries)}
    write_json(output_summary, summary)


def _call(cells, files, settings, threads):
    """Peaks of every group of cells, and what was called from how many cells."""
    column = settings.get("peak_group", "sample")
    groups, n_without = group_cells(cells, files, column)
    options = {"q_value": float(settings.get("macs3_qvalue", 0.05)), "genome_size": settings.get("macs3_genome_size")}
    sets = {name: call_peaks(group.sources, **options, threads=threads) for name, group in groups.items()}
    if not any(map(len, sets.values())):
        problem = f"MACS3 found no peak in any of {len(sets)} sets of cells"
        fix = "Check that the fragments' barcodes are those of the matrix, and macs3_qvalue"
        raise InputError("features.peaks", problem, fix)
    counts = {"peak_group": column, "cells_per_set": {name: group.n_cells for name, group in groups.items()}}
    return sets, counts | {"cells_without_group": n_without}


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            ingested=list(job.input.ingested),
            **{name: list(getattr(job.input, name, [])) for name in ("peaks", "fragments")},
            peak_samples=job.params.peak_samples,
            fragment_samples=job.params.fragment_samples,
            blacklist=getattr(job.input, "blacklist", None) or None,
            fai=getattr(job.input, "fai", None) or None,
            settings=job.params.features,
            threads=job.threads,
            output_peaks=job.output.peaks,
            output_summary=job.output.summary,
        )
