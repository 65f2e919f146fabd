"""Tables of what came in: barcodes, limits, counts, notes on the inputs."""

import pandas as pd

from regulonformer.report.tables.table import Table
from regulonformer.report.words.names import METRICS, capital, number, percent, reason_name, title


def library_table(qc: list[dict]) -> Table:
    """Barcodes in, kept and removed, per library and in total."""
    counts = [(record["sample"], record["cells_in"], record["cells_kept"]) for record in qc]
    if len(qc) > 1:
        counts.append(("all libraries", *(sum(column) for column in list(zip(*counts, strict=True))[1:])))
    rows = [
        [name, number(total), number(kept), percent(kept, total), number(total - kept)] for name, total, kept in counts
    ]
    caption = "Barcodes of each library before and after quality control."
    columns = ["Library", "Barcodes", "Kept", "Share kept", "Removed"]
    strong = {len(rows) - 1} if len(qc) > 1 else set()
    return Table("libraries", "Barcodes per library", columns, rows, caption, "ingest/*.qc.json", strong)


def reason_table(qc: list[dict]) -> Table | None:
    """Barcodes removed for each reason, per library and in total."""
    removed = pd.DataFrame({record["sample"]: record.get("removed", {}) for record in qc}, dtype=float)
    removed = removed.fillna(0).astype(int)
    if removed.empty:
        return None
    order = removed.sum(axis=1).sort_values(ascending=False, kind="stable").index
    if len(qc) > 1:
        removed["all libraries"] = removed.sum(axis=1)
    rows = [[capital(reason_name(reason)), *(number(int(count)) for count in removed.loc[reason])] for reason in order]
    caption = (
        "Why barcodes were removed. One with two reasons is counted under both, so the columns add up to more than the "
        "barcodes removed."
    )
    columns = ["Reason", *map(str, removed.columns)]
    return Table("reasons", "Barcodes removed, by reason", columns, rows, caption, "ingest/*.qc.json")


def threshold_table(qc: list[dict]) -> Table | None:
    """The cuts that were applied, per library."""
    used = {metric for record in qc for metric in record.get("thresholds", {})}
    if not used:
        return None
    metrics = [metric for metric in METRICS if metric in used] + sorted(used - METRICS.keys())
    rows = [
        [METRICS.get(metric, title(metric)), *(_range(record.get("thresholds", {}).get(metric)) for record in qc)]
        for metric in metrics
    ]
    caption = (
        "Barcodes outside these limits were removed. Limits differ between libraries where they follow the "
        "library's own median."
    )
    columns = ["Metric", *(record["sample"] for record in qc)]
    return Table("thresholds", "Limits applied", columns, rows, caption, "ingest/*.qc.json")


def _range(limits: dict | None) -> str:
    low, high = (limits or {}).get("low"), (limits or {}).get("high")
    if low is None and high is None:
        return "–"
    if low is None or high is None:
        return f"≤ {number(high)}" if low is None else f"≥ {number(low)}"
    return f"{number(low)} to {number(high)}"


def count_table(counts: list[dict]) -> Table:
    """What each library's ATAC counts come from, and what was lost on the way to the consensus peaks."""
    rows = [
        [
            record["library"],
            record["counted_from"],
            *(
                number(record[key]) if key in record else "–"
                for key in ("counts", "peaks_lost", "counts_lost", "counts_repeated")
            ),
        ]
        for record in counts
    ]
    caption = (
        "ATAC counts of the kept cells in the consensus peaks. Where a library has no fragments and other peaks, the "
        "counts of its own peaks go to every consensus peak that they overlap: some are lost, some count repeatedly."
    )
    columns = ["Library", "Counted from", "Counts", "Own peaks lost", "Counts lost", "Counts repeated"]
    return Table("atac_counts", "Counts in consensus peaks", columns, rows, caption, "features/counts/*.json")


def findings_table(findings: list[dict]) -> Table:
    """Warnings and notes of input validation, warnings first."""
    findings = sorted(findings, key=lambda item: item["level"] != "warning")
    rows = [[capital(item["level"]), item["file"], item["message"], item["fix"]] for item in findings]
    caption = "What was noticed about the inputs before any compute. None of these stopped the run."
    return Table(
        "findings",
        "Notes on the inputs",
        ["Level", "Where", "What", "What to do"],
        rows,
        caption,
        "validate/inputs.json",
    )
