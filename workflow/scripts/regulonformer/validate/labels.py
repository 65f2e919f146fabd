"""Whether labels, fragments and barcode metrics belong to the cells of their library."""

import csv
import io

import pandas as pd

from regulonformer.io.metadata import read_labels
from regulonformer.validate.barcodes import naming_hint
from regulonformer.validate.bgzf import read_head
from regulonformer.validate.findings import Findings, judge_line_ends

METRICS_HEAD = 8 << 20
# Of fragments, this share at least comes from cells in a usable library.
FEW_FRAGMENTS = 0.05
SAME = "Write the barcodes as the matrix has them, with the same prefix and suffix"


def judge_labels(path, sample: str, barcodes: frozenset, findings: Findings) -> pd.DataFrame | None:
    """Whether a labels file names barcodes of the matrix, alone or behind "{sample}_"; its table if readable."""
    table = None
    with findings.reading("labels.unreadable", path, "Give a table with tabs and a column 'barcode'"):
        table = read_labels(path)
        judge_line_ends("labels.crlf", path, read_head(path, 4096)[0], findings)
    if table is None or not barcodes:
        return table
    names = table.index.astype(str)
    wanted = barcodes | {f"{sample}_{barcode}" for barcode in barcodes}
    matched = int(names.isin(wanted).sum())
    unlabelled = len(barcodes) - matched
    if matched == 0:
        message = f"no label matches a barcode of sample '{sample}' {_difference('labels', names, barcodes)}"
        findings.error("labels.no_match", path, message, SAME)
    elif unlabelled > 0:
        message = f"{unlabelled:,} of {len(barcodes):,} cells of sample '{sample}' have no label"
        findings.note("labels.missing", path, message, "They are embedded but not used for fine-tuning")
    return table


def judge_fragment_barcodes(path, counts, barcodes: frozenset, findings: Findings) -> None:
    """Whether fragments carry the barcodes of the matrix.

    Parameters
    ----------
    counts
        Barcode -> number of sampled fragments.
    """
    total = counts.total()
    if not total or not barcodes:
        return
    share = sum(n for name, n in counts.items() if name in barcodes) / total
    if share >= FEW_FRAGMENTS:
        return
    message = f"{share:.0%} of {total:,} sampled fragments carry a barcode of the matrix"
    message += f" {_difference('fragments', list(counts), barcodes)}"
    if share == 0:
        findings.error("fragments.no_match", path, message, SAME)
    else:
        fix = "Check that fragments and matrix are of the same library"
        findings.warning("fragments.few_match", path, message, fix)


def judge_barcode_metrics(path, barcodes: frozenset, findings: Findings) -> None:
    """Whether per_barcode_metrics.csv, of which the start is read, knows the barcodes of the matrix."""
    names = None
    with findings.reading("metrics.unreadable", path, "Give per_barcode_metrics.csv of Cell Ranger ARC"):
        reader = csv.DictReader(io.StringIO(read_head(path, METRICS_HEAD)[0].decode()))
        if "barcode" not in (reader.fieldnames or []):
            raise ValueError("no column 'barcode'")
        names = [row["barcode"] or "" for row in reader]
    if names is None or not barcodes or not barcodes.isdisjoint(names):
        return
    message = f"no line matches a barcode of the matrix {_difference('metrics', names, barcodes)}"
    findings.warning("metrics.no_match", path, message, SAME)


def _difference(who: str, names, barcodes: frozenset) -> str:
    """Examples of both sides, and what must be changed if that can be told."""
    if not len(names):
        return "(the file has no lines)"
    hint = naming_hint(names, barcodes, who)
    return f"({who} have {names[0]!r}, the matrix {min(barcodes)!r})" + (f": {hint}" if hint else "")
