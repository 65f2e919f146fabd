"""Tables of the report, as plain rows of text."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from regulonformer.report.comparison import (
    LOWER_IS_BETTER,
    is_ours,
    methods_in_order,
    metrics_in_order,
    pooled_scores,
)
from regulonformer.report.figures_drivers import classes_by_size, top_drivers
from regulonformer.report.figures_regulons import edge_table
from regulonformer.report.names import (
    METRICS,
    capital,
    duration,
    flatten,
    listed,
    method_name,
    number,
    percent,
    reason_name,
    score_name,
    slug,
    spoken,
    title,
)

# A number with its unit, star or interval; a dash stands for none.
NUMBER = re.compile(r"–|[-+]?[\d.,]+( (%|s|min|h|GB))?( ★)?( \[.*\])?")


# Columns of the regulon table that say why an edge is there -> head, and what the number is.
EVIDENCE = {
    "motif_score": ("Motif site", "the probability that the TF uses its site in the element"),
    "link_score": ("Link", "the probability that the element acts on the gene"),
    "support": ("Support", "the probability that the TF reaches the gene through any element"),
    "network": ("Network", "the weight of the edge in the published network, below 0 for repression"),
    "association": ("Association (z)", "how strongly TF and gene go together over cells"),
}
DIRECTIONS = {1: "activates", -1: "represses", 0: "unknown"}


@dataclass
class Table:
    """Rows of text under a heading, ready to draw.

    Attributes
    ----------
    name
        Anchor on the page and stem of the TSV.
    rows
        Cells as text; `strong` holds the positions of rows that stand out.
    source
        Result file behind the numbers.
    """

    name: str
    heading: str
    columns: list[str]
    rows: list[list[str]]
    caption: str
    source: str
    strong: set[int] = field(default_factory=set)
    kind: str = "table"

    @property
    def tsv(self) -> str:
        """The table as tab-separated text."""
        return "\n".join("\t".join(row) for row in [self.columns, *self.rows]) + "\n"

    @property
    def numeric(self) -> list[bool]:
        """Columns that hold nothing but numbers, which are set flush right."""
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(self.columns)
        return [bool(cells) and all(map(NUMBER.fullmatch, cells)) for cells in columns]


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


def filter_table(name: str, heading: str, summary: dict, source: str) -> Table:
    """A summary of counts as two columns."""
    rows = [[title(key), number(value)] for key, value in flatten(summary).items() if value is not None]
    return Table(
        name, heading, ["What", "Value"], rows, "Counted by the step that did it; nothing is dropped silently.", source
    )


def count_table(counts: list[dict]) -> Table:
    """What each library's ATAC counts come from, and what was lost on the way to the consensus peaks."""
    rows = [
        [
            record["library"],
            record["counted_from"],
            number(record["counts"]),
            *(
                number(record[key]) if key in record else "–"
                for key in ("peaks_lost", "counts_lost", "counts_repeated")
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


def gene_space_table(summary: dict) -> Table:
    """Genes of the model, how they were found in the annotation, and the peaks behind their accessibility."""
    counted = {key: value for key, value in summary.items() if key != "unmapped"}
    table = filter_table("gene_space", "Genes of the model", counted, "corpus/summary.json")
    table.caption = (
        "The genes that the model reads, by how the annotation knows them, and the peaks whose counts make their "
        "accessibility: in promoters, and distal ones linked to the gene."
    )
    return table


def unmapped_table(unmapped: pd.DataFrame) -> Table | None:
    """How many names of each file stand for no gene, with the reason and examples."""
    if unmapped.empty:
        return None
    rows = [
        [Path(file).name, reason, number(len(names)), listed(names, limit=5)]
        for (file, reason), names in unmapped.groupby(["file", "reason"], sort=True)["name"]
    ]
    caption = (
        "Names of the inputs that are no gene of the data, or that the annotation does not know. All of them are "
        "listed in corpus/unmapped.tsv."
    )
    columns = ["Where", "Why", "Names", "Examples"]
    return Table("unmapped", "Names without a gene", columns, rows, caption, "corpus/unmapped.tsv")


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


def regulon_table(regulons: pd.DataFrame, tfs: list[str]) -> Table:
    """The strongest regulons: targets, CREs, sign and best targets."""
    edges = edge_table(regulons)
    rows = []
    for tf in tfs:
        mine = edges[edges["source"] == tf]
        targets, cres, direction, best = _regulon(mine, regulons)
        rows.append([tf, targets, cres, direction, number(float(mine["score"].sum())), best])
    caption = (
        "Regulons with the largest summed edge score. CREs are the distinct elements through which the TF reaches "
        "its targets."
    )
    columns = ["TF", "Targets", "CREs", "Direction", "Summed score", "Strongest targets"]
    return Table("top_regulons", "Strongest regulons", columns, rows, caption, "regulons/regulons.parquet")


def _regulon(mine: pd.DataFrame, regulons: pd.DataFrame) -> list[str]:
    """Targets, CREs, direction and strongest targets of one regulon, in words."""
    cres = regulons.loc[regulons["source"].isin(mine["source"]), "cre"] if "cre" in regulons else pd.Series([""])
    signed = [
        f"{int((mine['sign'] == sign).sum())} {word}"
        for sign, word in ((1, "activated"), (-1, "repressed"), (0, "unsigned"))
        if (mine["sign"] == sign).any()
    ]
    names = cres.fillna("")
    best = listed(mine["target"].head(8), limit=8)
    return [number(len(mine)), number(int(names[names != ""].nunique())), ", ".join(signed), best]


def state_regulon_table(regulons: pd.DataFrame, top: pd.DataFrame, grouped_by: str) -> Table | None:
    """Regulons that are most active in each group of cells.

    Parameters
    ----------
    regulons
        Regulon table.
    top
        group, tf, difference (`activity.top_of_groups`).
    grouped_by
        What the groups are, in words.
    """
    if top.empty:
        return None
    edges = edge_table(regulons)
    rows = [
        [str(row.group), row.tf, f"+{row.difference:.2f}", *_regulon(edges[edges["source"] == row.tf], regulons)]
        for row in top.itertuples()
    ]
    caption = (
        f"For each {grouped_by} the regulons whose activity stands out most. Activity of a cell is the weighted mean "
        "z-score of the targets' expression, repressed targets counted the other way round; the difference is the mean "
        "in the group less the mean in all other cells, in standard deviations over cells."
    )
    columns = [capital(grouped_by), "TF", "Difference", "Targets", "CREs", "Direction", "Strongest targets"]
    heading = f"Regulons of each {grouped_by}"
    return Table("state_regulons", heading, columns, rows, caption, "regulons/activity.h5ad")


def edge_evidence_table(regulons: pd.DataFrame, tfs: list[str], per_tf: int = 3) -> Table:
    """The strongest edges of some TFs, with their elements and the evidence for each."""
    edges = edge_table(regulons)
    edges = pd.concat([edges[edges["source"] == tf].head(per_tf) for tf in tfs])
    shown = {key: words for key, words in EVIDENCE.items() if key in edges and edges[key].fillna(0).ne(0).any()}
    cres = edges["cre"].fillna("") if "cre" in edges else pd.Series("", index=edges.index)
    rows = [
        [edge.source, edge.target, DIRECTIONS[edge.sign], cre or "–", f"{edge.score:.2f}"]
        + [f"{getattr(edge, key):.2f}" if abs(getattr(edge, key)) > 0 else "–" for key in shown]
        for edge, cre in zip(edges.itertuples(), cres, strict=True)
    ]
    caption = (
        f"The {per_tf} strongest edges of each TF. CRE is the element that supports the edge best; for edges from a "
        "network alone, the gene's best-linked one. The score is the probability that the edge is real, from the "
        "columns after it: "
        + "; ".join(f"{head} is {meaning}" for head, meaning in shown.values())
        + ". A dash is no evidence."
    )
    columns = ["TF", "Target", "Direction", "CRE", "Score", *(head for head, _ in shown.values())]
    return Table(
        "edge_evidence", "Evidence for the strongest edges", columns, rows, caption, "regulons/regulons.parquet"
    )


def calibration_table(summary: dict) -> Table | None:
    """How often p-values of null controls, of pairs out of reach and of candidate pairs fall below some levels."""
    kinds = {"control": "Null controls", "beyond": "Just out of reach", "observed": "Candidate pairs"}
    found = {name: summary[kind] for kind, name in kinds.items() if (summary.get(kind) or {}).get("pairs")}
    if not found:
        return None
    levels = sorted(next(iter(found.values()))["observed_over_expected"], key=float, reverse=True)
    rows = [
        [name, number(record["pairs"]), *(f"{record['observed_over_expected'][level]:.2f}" for level in levels)]
        for name, record in found.items()
    ]
    caption = (
        "How many p-values fall below a level, over how many would by chance: 1 for null controls means that p-values "
        "can be taken at their word. More than 1 for candidate pairs is what association adds."
    )
    columns = ["Pairs", "Number", *(f"p ≤ {level}" for level in levels)]
    return Table("link_calibration_table", "Calibration of links", columns, rows, caption, "regulons/links.json")


def score_table(table: pd.DataFrame, dataset: str, judged: str, source: str) -> Table:
    """Method x metric, pooled over folds, with intervals; the best of each column is starred.

    Parameters
    ----------
    table
        Tidy scores.
    dataset
        Which dataset to show.
    judged
        What the scores are on, in words.
    source
        File of the scores.
    """
    scores = pooled_scores(table[table["dataset"] == dataset])
    metrics, methods = metrics_in_order(scores), methods_in_order(scores)
    cells = {(row.method, row.metric): row for row in scores.itertuples()}
    best = {}
    for metric, values in scores.groupby("metric")["value"]:
        best[metric] = values.min() if metric in LOWER_IS_BETTER else values.max()
        # One method alone is not the best of anything.
        best[metric] = best[metric] if values.count() > 1 else None
    rows = [
        [method_name(method), *(_score(cells.get((method, metric)), best[metric]) for metric in metrics)]
        for method in methods
    ]
    strong = {position for position, method in enumerate(methods) if is_ours(method)}
    intervals = ", with confidence intervals in brackets" if scores["ci_low"].notna().any() else ""
    caption = f"Scores on {judged}{intervals}; ★ marks the best value of a column. Ours is in bold."
    return Table(
        f"scores_{slug(dataset)}",
        capital(f"scores on {judged}"),
        ["Method", *map(score_name, metrics)],
        rows,
        caption,
        source,
        strong,
    )


def _score(row, best: float | None) -> str:
    if row is None or pd.isna(row.value):
        return "–"
    star = " ★" if row.value == best else ""
    return f"{row.value:.3f}{star}" + ("" if pd.isna(row.ci_low) else f" [{row.ci_low:.3f}, {row.ci_high:.3f}]")


def class_table(predictions: pd.DataFrame, task: str) -> Table:
    """Recall and precision of each class, rare classes last."""
    rows = []
    for name, mine in predictions.groupby("truth"):
        called = predictions[predictions["predicted"] == name]
        hits = int((mine["predicted"] == name).sum())
        wrong = mine.loc[mine["predicted"] != name, "predicted"].value_counts()
        mistaken = f"{wrong.index[0]} ({percent(wrong.iloc[0], len(mine))})" if len(wrong) else "–"
        precision = percent(hits, len(called)) if len(called) else "–"
        rows.append(
            (
                mine["cell"].nunique(),
                [str(name), number(int(mine["cell"].nunique())), percent(hits, len(mine)), precision, mistaken],
            )
        )
    rows = [row for _, row in sorted(rows, key=lambda item: (-item[0], item[1][0]))]
    caption = (
        "Share of each class that was found (recall), share of its predictions that were right (precision), and "
        "the most frequent mistake, over folds and seeds."
    )
    columns = ["Class", "Cells", "Recall", "Precision", "Most often mistaken for"]
    return Table(f"classes_{slug(task)}", "Class by class", columns, rows, caption, "finetune/*/predictions.parquet")


def driver_table(mean: pd.DataFrame, task: str, count: int) -> Table:
    """Top genes per class and modality in words."""
    rows = []
    for name in classes_by_size(mean):
        top = top_drivers(mean, name, count)
        if len(top):
            shares = top.clip(lower=0).sum()
            share = percent(shares.get("rna", 0.0), shares.sum())
            rows.append(
                [
                    name,
                    number(int(mean.loc[mean["class"] == name, "n_cells"].max())),
                    share,
                    listed(top.index, limit=count),
                ]
            )
    caption = (
        "Genes whose RNA and accessibility speak most for a class, strongest first, and the share of that which "
        "comes from RNA."
    )
    columns = ["Class", "Cells explained", "From RNA", "Genes"]
    return Table(
        f"driver_genes_{slug(task)}",
        "Drivers of each class",
        columns,
        rows,
        caption,
        f"explain/{task}/attribution.parquet",
    )


def cost_table(benchmarks: pd.DataFrame) -> Table:
    """Time and memory per step of the workflow, in the order of cost."""
    steps = benchmarks.groupby("step").agg(
        jobs=("job", "size"), seconds=("seconds", "sum"), longest=("seconds", "max"), memory=("memory_mb", "max")
    )
    steps = steps.sort_values("seconds", ascending=False)
    rows = [
        [spoken(step), number(int(row.jobs)), duration(row.seconds), duration(row.longest), _memory(row.memory)]
        for step, row in steps.iterrows()
    ]
    total = [
        [
            "all steps",
            number(int(steps["jobs"].sum())),
            duration(steps["seconds"].sum()),
            duration(steps["longest"].max()),
            _memory(steps["memory"].max()),
        ]
    ]
    caption = (
        "Wall time and peak memory as measured when each step last ran. Steps that run side by side overlap in "
        "time, so the whole run takes less than the sum."
    )
    columns = ["Step", "Jobs", "Time, all jobs", "Longest job", "Peak memory"]
    return Table("costs", "Time and memory", columns, rows + total, caption, "benchmarks/*.tsv", {len(rows)})


def _memory(megabytes: float) -> str:
    return "–" if pd.isna(megabytes) else f"{megabytes / 1024:.2f} GB"


def version_table(records: list[dict]) -> Table | None:
    """Versions of what computed the models."""
    versions = {}
    for record in records:
        versions |= {"Python": record["python"]} if "python" in record else {}
        versions |= record.get("packages", {})
    if not versions:
        return None
    rows = [[name, str(version)] for name, version in versions.items()]
    return Table("versions", "Versions", ["Software", "Version"], rows, "As recorded beside the models.", "run.json")


def completeness_table(record: dict, task: str) -> Table:
    """How well the contributions add up."""
    rows = [[title(key), number(value)] for key, value in flatten(record).items() if value is not None]
    caption = (
        "Contributions should add up to the change of the class score between the reference and the cell; the "
        "error is what is missing, so small is good."
    )
    return Table(
        f"completeness_{slug(task)}",
        f"Completeness: {spoken(task)}",
        ["What", "Value"],
        rows,
        caption,
        f"explain/{task}/completeness.json",
    )
