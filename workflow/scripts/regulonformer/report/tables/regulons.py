"""Tables of regulons, their evidence and the genes of the model."""

from pathlib import Path

import pandas as pd

from regulonformer.report.figures.regulons import edge_table
from regulonformer.report.tables.table import Table, filter_table
from regulonformer.report.words.names import capital, listed, number

# Columns of the regulon table that say why an edge is there -> head, and what the number is.
EVIDENCE = {
    "motif_score": ("Motif site", "the probability that the TF uses its site in the element"),
    "link_score": ("Link", "the probability that the element acts on the gene"),
    "support": ("Support", "the probability that the TF reaches the gene through any element"),
    "network": ("Network", "the weight of the edge in the published network, below 0 for repression"),
    "association": ("Association (z)", "how strongly TF and gene go together over cells"),
}
DIRECTIONS = {1: "activates", -1: "represses", 0: "unknown"}


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
