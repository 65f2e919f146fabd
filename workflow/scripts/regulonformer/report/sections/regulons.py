"""The section on regulons: the prior, how it was calibrated and judged, and what the model makes of it."""

import pandas as pd

from regulonformer.report.activity import most_specific, top_of_groups
from regulonformer.report.blocks import Figure, Note, Section, Studio, score_blocks
from regulonformer.report.evidence import Evidence
from regulonformer.report.figures.cells import UNLABELLED, as_groups, group_order
from regulonformer.report.figures.links import edge_model, link_calibration, reliability
from regulonformer.report.figures.regulons import (
    activity_maps,
    regulon_attention,
    regulon_network,
    regulon_overview,
    strongest_tfs,
)
from regulonformer.report.questions import judged_on, scored
from regulonformer.report.tables.regulons import (
    calibration_table,
    edge_evidence_table,
    gene_space_table,
    regulon_table,
    state_regulon_table,
    unmapped_table,
)
from regulonformer.report.tables.table import filter_table
from regulonformer.report.words.names import MEANINGS, column_name, listed, method_name, score_name

REGULONS_PER_STATE, ACTIVITY_MAPS = 3, 8
REGULONS_PER_STATE, ACTIVITY_MAPS = 3, 8


def regulon_section(evidence: Evidence, studio: Studio, columns: dict[str, str]) -> Section:
    """The prior and the model's use of it."""
    section = Section(
        "regulons",
        "Regulons",
        "Which transcription factors reach which genes, and through which elements: the prior that the model "
        "starts from.",
    )
    regulons = evidence.regulons
    if regulons is None or regulons.empty:
        return section
    tfs = strongest_tfs(regulons, studio.settings["top_regulons"])
    section.blocks = [
        regulon_table(regulons, tfs),
        studio.draw(
            regulon_network(regulons, tfs, targets_per_tf=8 if len(tfs) <= 12 else 5),
            "regulon_network",
            "Network of the strongest regulons",
            caption=(
                "The strongest regulons. Large discs are TFs, small ones their best-scored target genes; arrows "
                "activate, dashed lines with a bar repress. Genes between two TFs are shared targets."
            ),
            alt=f"Network of the regulons of {listed(tfs, 12)} with their strongest target genes.",
            source="regulons/regulons.parquet",
        ),
        *_states(evidence, studio, columns, tfs),
        _attention(evidence, studio, columns),
        studio.draw(
            regulon_overview(regulons, evidence.links),
            "regulon_overview",
            "Sizes of links and regulons",
            caption=(
                "How far linked elements lie from the gene's TSS, how many elements a gene has, and how many targets "
                "a regulon has. Every candidate link counts with its probability."
            ),
            alt="Histograms of link distance, elements per gene and targets per regulon.",
            source="regulons/links.parquet, regulons.parquet",
        ),
        *_calibration(evidence, studio),
        *_judgement(evidence, studio),
        *_counted(evidence),
    ]
    return section


def grouping(obs: pd.DataFrame, asked: str | None, columns: dict[str, str]) -> str | None:
    """Column that groups cells: the one asked for, else the first label, else the library; never measured numbers."""
    for column in [asked, *columns.values(), "sample"]:
        if column in obs and not pd.api.types.is_float_dtype(obs[column]):
            return column
    return None


def _states(evidence: Evidence, studio: Studio, columns: dict[str, str], strongest: list[str]) -> list:
    """Regulons of each group of cells: table, evidence, and activity on the map."""
    activity, settings = evidence.regulon_activity, studio.settings
    column = grouping(activity.obs, settings["colour_by"], columns) if activity else None
    if column is None:
        return [edge_evidence_table(evidence.regulons, strongest)]
    groups = as_groups(activity.obs[column])
    difference = activity.differences(groups.where(groups != UNLABELLED))
    top = top_of_groups(difference.reindex(group_order(pd.Series(difference.index))), REGULONS_PER_STATE)
    specific = most_specific(top, ACTIVITY_MAPS)
    tfs = list(dict.fromkeys(top["tf"])) or strongest
    return [
        state_regulon_table(evidence.regulons, top, column_name(column)),
        _activity_maps(evidence, studio, groups, specific or dict.fromkeys(strongest[:ACTIVITY_MAPS]), column),
        edge_evidence_table(evidence.regulons, tfs),
    ]


def _activity_maps(evidence: Evidence, studio: Studio, groups: pd.Series, stands_out: dict, column: str):
    """Activity of some regulons on the map of RNA, or on the model's where there is none."""
    views = [view for view in (evidence.multiome, evidence.embedding) if view is not None and view.maps]
    if not views:
        return None
    name, coordinates = next(iter(views[0].maps.items()))
    named = [group for group in stands_out.values() if group]
    chosen = (
        f"the regulons that stand out most in one {column_name(column)}, which is named where its cells lie"
        if named
        else "the strongest regulons"
    )
    return studio.draw(
        activity_maps(
            coordinates,
            evidence.regulon_activity.of_regulons(list(stands_out)),
            groups,
            stands_out,
            studio.settings["max_cells_plot"],
        ),
        "regulon_activity",
        "Activity on the map",
        caption=(
            f"Activity of {chosen}, on the UMAP of {name}. Each point is a cell, yellow where the regulon's "
            "targets are expressed more than in the average cell, dark blue where less."
        ),
        alt=f"UMAPs of {name}, coloured by the activity of {listed(stands_out, ACTIVITY_MAPS)}.",
        source="regulons/activity.h5ad",
    )


def _calibration(evidence: Evidence, studio: Studio) -> list:
    """Whether p-values hold what they promise, and what was learnt about links and edges."""
    blocks = []
    if evidence.link_summary:
        blocks += [
            studio.draw(
                link_calibration(evidence.link_summary),
                "link_calibration",
                "Links against their null",
                caption=(
                    "Left: p-values of peak–gene pairs. Null controls, which cannot be linked, must follow the flat "
                    "line; the excess of candidate pairs over it at the left is real association. Middle: the same "
                    "pairs by z; candidates reach farther to the right than controls. Pairs just out of reach show "
                    "how much of that is shared by whole neighbourhoods. Right: what the data say about distance; "
                    "the dotted line is where a peak has this target as likely as none. Where the lines stay level "
                    "up to the edge of the window, do not trust far links."
                ),
                alt=(
                    "Histograms of p-values and z of candidate pairs and null controls, and odds of a link by distance."
                ),
                source="regulons/links.json",
            ),
            calibration_table(evidence.link_summary),
        ]
    if evidence.regulon_summary:
        blocks.append(
            studio.draw(
                edge_model(evidence.regulon_summary),
                "edge_model",
                "What edges were scored by",
                caption=(
                    "What was learnt from the data when TF–gene edges were scored. Rising curves mean that the "
                    "evidence tells edges from chance: sites that match better are used more often, pairs with more "
                    "support by motif and link are more often edges, and edges are the more likely the more strongly "
                    "TF and gene go together (on the dotted line association says nothing). A level curve means that "
                    "this evidence adds nothing here."
                ),
                alt="Line plots of what was learnt about motif sites, support and association.",
                source="regulons/summary.json",
            )
        )
    return blocks


def _judgement(evidence: Evidence, studio: Studio) -> list:
    """How regulons and links compare with simple methods."""
    if evidence.grn is None or evidence.grn.empty:
        return []
    blocks = []
    for question, dataset, scores in scored(evidence, "grn"):
        blocks += score_blocks(scores, dataset, question.judged(dataset), question.source, studio)
    names = {metric.lower(): score_name(metric) for metric in evidence.grn["metric"]}
    names |= {method.lower(): method_name(method) for method in evidence.grn["method"]}
    items = [f"{names[key]}: {meaning}." for key, meaning in MEANINGS.items() if key in names]
    blocks.append(_reliability(evidence, studio))
    return [*blocks, Note("How to read these scores", items)]


def _reliability(evidence: Evidence, studio: Studio) -> Figure | None:
    """Whether a score of .7 means seven true pairs in ten, wherever truth is known."""
    table = evidence.grn_reliability
    if table is None or table.empty:
        return None
    return studio.draw(
        reliability(table.assign(dataset=table["dataset"].map(judged_on))),
        "reliability",
        "Do scores of links and edges hold what they say?",
        caption=(
            "Whether our scores are the probabilities that they claim to be: each point is a tenth of the scale of "
            "the score, bars count its pairs, and lines are intervals. On the dotted line a score holds what it "
            "says; points below it claim too much. An incomplete standard lacks true pairs, which also puts points "
            "below the line. Of TF–gene pairs those that our regulons hold are shown."
        ),
        alt="Reliability diagrams: share of true pairs against our score.",
        source="evaluate/grn_reliability.tsv",
    )


def _counted(evidence: Evidence) -> list:
    """What links, regulons and the gene space are made of, and what was left out."""
    blocks = []
    if links := evidence.link_summary:
        counts = {key: value for key, value in links.items() if not isinstance(value, dict)} | {
            "null": links.get("null", {})
        }
        blocks.append(filter_table("link_summary", "Links: what was counted", counts, "regulons/links.json"))
    if summary := evidence.regulon_summary:
        # What the figure of the model draws is no count.
        counts = {key: value for key, value in summary.items() if key != "score_model"}
        if motifs := counts.get("motifs"):
            counts["motifs"] = {key: value for key, value in motifs.items() if key != "site_strata"}
        blocks.append(filter_table("regulon_summary", "Regulons: what was counted", counts, "regulons/summary.json"))
    if evidence.corpus_summary:
        blocks.append(gene_space_table(evidence.corpus_summary))
    if evidence.corpus_unmapped is not None:
        blocks.append(unmapped_table(evidence.corpus_unmapped))
    return blocks


def _attention(evidence: Evidence, studio: Studio, columns: dict[str, str]) -> Figure | None:
    view = evidence.embedding
    column = grouping(view.obs, studio.settings["colour_by"], columns) if view and view.regulons is not None else None
    if column is None:
        return None
    return studio.draw(
        regulon_attention(view.regulons, view.obs[column]),
        "regulon_attention",
        f"Attention to regulons by {column_name(column)}",
        caption=(
            f"Which regulons the model looks at for cells of each {column_name(column)}, relative to the others: "
            "orange more, purple less. Attention shows where the model looks; it does not prove regulation."
        ),
        alt=f"Heat map of attention to regulons per {column_name(column)}.",
        source="embed/*.h5ad",
    )
