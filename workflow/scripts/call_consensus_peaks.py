"""Make one set of non-overlapping peaks for all libraries: kept as given, merged, or called with MACS3."""

import logging
from pathlib import Path

from regulonformer.errors import InputError
from regulonformer.io.peaks import chromosome_lengths, read_bed, sort_peaks, write_peaks
from regulonformer.io.store import read_mudata, write_json
from regulonformer.log import rule_log
from regulonformer.peaks.consensus import (
    clip_to_chromosomes,
    consensus_peaks,
    given_peaks,
    is_disjoint,
    remove_blacklisted,
    same_peaks,
)
from regulonformer.peaks.macs import call_library_peaks


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
):
    """Write the consensus peaks (BED) and how they came about (json).

    `peak_samples` and `fragment_samples` name the libraries of `peaks` and `fragments`, in the same order; libraries
    without a peak file are asked for the peaks of their matrix. The stem of an `ingested` file is its library.
    """
    mode = settings.get("peaks", "auto")
    libraries = {Path(path).stem: read_mudata(path) for path in ingested}
    sets = {} if mode == "macs3" else given_peaks(libraries, dict(zip(peak_samples, peaks, strict=True)))
    if not sets and mode == "given":
        raise InputError(
            "features.peaks", "is 'given', but no library has peaks", "Give peaks in the sample sheet, or set 'auto'"
        )
    called = not sets
    if called:
        sets = call_library_peaks(libraries, dict(zip(fragment_samples, fragments, strict=True)), settings)
    summary = {"per_library": {name: len(table) for name, table in sets.items()}}
    summary["libraries_without_peaks"] = sorted(set(libraries) - set(sets))
    first, width = next(iter(sets.values())), int(settings.get("peak_width", 501))
    if not called and same_peaks(list(sets.values())) and is_disjoint(first):
        method, width, dropped = "given", None, {}
        result = sort_peaks(first[["chrom", "start", "end"]]).assign(score=len(sets))
    else:
        method = "macs3" if called else "merged"
        result, dropped = consensus_peaks(sets, width=width, min_libraries=int(settings.get("min_libraries", 1)))
    if fai:
        result, clipped = clip_to_chromosomes(result, chromosome_lengths(fai))
        dropped |= clipped
    removed = 0
    if blacklist:
        result, removed = remove_blacklisted(result, read_bed(blacklist))
    if result.empty:
        raise InputError(
            "features.peaks", "no consensus peak is left", "Check chromosome names, blacklist and macs3_qvalue"
        )
    logging.info("%d consensus peaks (%s); %d blacklisted; dropped %s", len(result), method, removed, dropped)
    write_peaks(result, output_peaks)
    summary |= {
        "method": method,
        "n_consensus": len(result),
        "width": width,
        "removed_blacklist": removed,
        "dropped": dropped,
    }
    write_json(output_summary, summary)


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
            output_peaks=job.output.peaks,
            output_summary=job.output.summary,
        )
