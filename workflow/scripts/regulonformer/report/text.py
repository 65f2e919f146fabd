"""The report in words: what was asked, what was found, and where our model wins, ties or loses."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from regulonformer.report.comparison import Comparison, compare, metrics_in_order, pooled_scores
from regulonformer.report.evidence import Evidence
from regulonformer.report.figures_drivers import classes_by_size, mean_attribution, top_drivers
from regulonformer.report.figures_regulons import edge_table, strongest_tfs
from regulonformer.report.floors import floor_sentence, weights_chosen_there
from regulonformer.report.names import (
    capital,
    inside,
    listed,
    method_name,
    number,
    percent,
    plural,
    reason_name,
    score_name,
    spoken,
)

OUTCOMES = {"above": "ahead", "tied": "tied", "below": "behind", "unknown": "open", "alone": "open"}


@dataclass
class Finding:
    """One sentence of the headline.

    Attributes
    ----------
    section
        Anchor of the section that shows the evidence.
    verdict
        "" or one of ahead, tied, behind, open.
    """

    section: str
    topic: str
    sentence: str
    verdict: str = ""


def headline_numbers(evidence: Evidence) -> list[tuple[str, str]]:
    """The few counts that say how big the study is: (number, noun)."""
    found = []
    if evidence.qc:
        found.append((number(len(evidence.qc)), "library" if len(evidence.qc) == 1 else "libraries"))
        found.append((number(sum(record["cells_kept"] for record in evidence.qc)), "cells kept"))
    if evidence.multiome:
        sizes = evidence.multiome.sizes
        found += [(number(sizes[key]), noun) for key, noun in (("rna", "genes"), ("atac", "peaks")) if key in sizes]
    if evidence.regulons is not None:
        found.append((number(int(evidence.regulons["source"].nunique())), "regulons"))
    for predictions in list(evidence.predictions.values())[:1]:
        found.append((number(int(predictions["truth"].nunique())), "classes"))
    return found


def question(evidence: Evidence, columns: dict[str, str]) -> str:
    """What was asked of the data, from what the run made.

    Parameters
    ----------
    evidence
        Results of the run.
    columns
        Task -> column that was predicted.
    """
    parts = ["Which barcodes are good cells in both modalities, and what do they express and keep open"]
    if evidence.regulons is not None:
        parts.append("which transcription factors drive which genes through which elements")
    if evidence.predictions:
        asked = listed(sorted({f"“{column}”" for column in columns.values()})) if columns else "the labels"
        parts.append(f"how well {asked} of unseen cells can be predicted, and by which genes")
    return "; ".join(parts) + "?"


def findings(evidence: Evidence) -> list[Finding]:
    """What was found, one sentence per stage that ran."""
    prior = [_cells(evidence), _regulons(evidence), *_judged_regulons(evidence)]
    found = [*prior, _pretraining(evidence), *_annotation(evidence), *_drivers(evidence)]
    return [item for item in found if item]


def _cells(evidence: Evidence) -> Finding | None:
    if not evidence.qc:
        return None
    cells_in, kept = (sum(record[key] for record in evidence.qc) for key in ("cells_in", "cells_kept"))
    removed = pd.Series([record.get("removed", {}) for record in evidence.qc]).apply(pd.Series).sum().astype(int)
    sentence = (
        f"{kept:,} of {cells_in:,} barcodes ({percent(kept, cells_in)}) from "
        f"{plural(len(evidence.qc), 'library', 'libraries')} passed quality control."
    )
    removed = removed[removed > 0].sort_values(ascending=False, kind="stable")
    if len(removed):
        sentence += (
            f" The most frequent reason for removal was “{reason_name(removed.index[0])}” "
            f"({plural(int(removed.iloc[0]), 'barcode')})."
        )
    return Finding("data", "Cells", sentence)


def _regulons(evidence: Evidence) -> Finding | None:
    if evidence.regulons is None or evidence.regulons.empty:
        return None
    edges = edge_table(evidence.regulons)
    cres = evidence.regulons["cre"].fillna("") if "cre" in evidence.regulons else pd.Series([""])
    through = (
        f" through {plural(cres[cres != ''].nunique(), 'regulatory element')}"
        if (cres != "").any()
        else ", from a network without elements"
    )
    sentence = (
        f"{plural(edges['source'].nunique(), 'TF')} reach {plural(edges['target'].nunique(), 'target gene')}{through}."
    )
    signed = edges[edges["sign"] != 0]
    if len(signed):
        sentence += f" {percent((signed['sign'] < 0).sum(), len(signed))} of the signed TF–gene pairs are repressive."
    return Finding(
        "regulons", "Regulons", sentence + f" The strongest regulons are {listed(strongest_tfs(evidence.regulons, 3))}."
    )


def _judged_regulons(evidence: Evidence) -> list[Finding]:
    """How regulons and links do beside simple methods, one sentence per standard that they were held against."""
    if evidence.grn is None or evidence.grn.empty:
        return []
    scores, found = pooled_scores(evidence.grn), []
    for dataset in dict.fromkeys(evidence.grn["dataset"]):
        mine = scores[scores["dataset"] == dataset]
        comparison = compare(mine, dataset, metrics_in_order(mine)[0])
        if comparison:
            judged = judged_on(dataset)
            sentence = comparison_sentence(comparison, "Our prior reaches", judged) + _other_metrics(mine, dataset)
            found.append(Finding("regulons", capital(judged), sentence, OUTCOMES[comparison.outcome]))
    return found


def pretraining_gain(metrics: pd.DataFrame) -> dict[str, float]:
    """How far the held-out loss ends below the mean-profile floor, in percent, per modality (negative: above).

    The last validation counts; where `pretrain/patience` kept an earlier model, that one is better than this says.
    """
    held_out = metrics[metrics["split"] != "train"]
    last = (held_out if len(held_out) else metrics).sort_values("step").iloc[-1]
    gains = {}
    for key, name in (("rna", "RNA"), ("atac", "ATAC")):
        loss, floor = last.get(f"loss_{key}", np.nan), last.get(f"floor_{key}", np.nan)
        if np.isfinite(loss) and np.isfinite(floor) and floor != 0:
            gains[name] = 100 * (1 - loss / floor)
    return gains


def _pretraining(evidence: Evidence) -> Finding | None:
    if evidence.pretrain_metrics is None or not (gains := pretraining_gain(evidence.pretrain_metrics)):
        return None
    said = [
        f"{abs(gain):.1f} % {'below' if gain > 0 else 'above'} the floor for {name}" for name, gain in gains.items()
    ]
    sentence = (
        f"Filling in masked values of held-out cells, the model's loss ends {listed(said)}; the floor is what "
        "predicting the mean profile costs."
    )
    if min(gains.values()) <= 0:
        sentence += " Where it is above the floor, pretraining has not yet learned more than averages."
    if evidence.pretraining is not None:
        judged = floor_sentence(evidence.pretraining, weights_chosen_there(evidence.pretrain_run))
        sentence = f"{sentence} {judged}".strip()
    return Finding("pretraining", "Pretraining", sentence)


def _annotation(evidence: Evidence) -> list[Finding]:
    if evidence.annotation is None or evidence.annotation.empty:
        return []
    scores, found = pooled_scores(evidence.annotation), []
    for dataset in dict.fromkeys(evidence.annotation["dataset"]):
        mine = scores[scores["dataset"] == dataset]
        comparison = compare(mine, dataset, metrics_in_order(mine)[0])
        if comparison:
            sentence = comparison_sentence(comparison) + _other_metrics(mine, dataset)
            found.append(
                Finding("annotation", f"Predicting {spoken(task_of(dataset))}", sentence, OUTCOMES[comparison.outcome])
            )
    return found


def comparison_sentence(
    comparison: Comparison, reaches: str = "Our model reaches", judged: str = "held-out cells"
) -> str:
    """Say who is ahead, with intervals, and claim no more than they allow."""
    metric = inside(score_name(comparison.metric))
    ours = f"{reaches} {_article(metric)} {metric} of {_with_interval(comparison.ours)} on {judged}"
    if comparison.best is None:
        return f"{ours}. No baseline was run, so this number has nothing to stand against."
    best = f"{inside(method_name(comparison.best.name))} at {_with_interval(comparison.best)}"
    gap = comparison.ours["value"] - comparison.best["value"]
    size = "level with it" if abs(gap) < 5e-4 else f"{abs(gap):.3f} {'higher' if gap > 0 else 'lower'}"
    endings = {
        "above": f"It is ahead of the best baseline, {best}: the two intervals are apart.",
        "below": f"It loses to the best baseline, {best}: the two intervals are apart.",
        "tied": f"It ties with the best baseline, {best}: our value is {size}, within overlapping intervals.",
        "unknown": (
            f"The best baseline is {best}: our value is {size}, but without intervals for both this proves nothing."
        ),
    }
    return f"{ours}. {endings[comparison.outcome]}"


def _article(noun: str) -> str:
    """An article that fits how the noun is spoken: an AUPRC, an R², an F0.1."""
    return "an" if noun[:1].lower() in "aeio" or noun in ("R²", "F0.1") else "a"


def _with_interval(row: pd.Series) -> str:
    interval = "" if pd.isna(row["ci_low"]) else f" (interval {row['ci_low']:.3f} to {row['ci_high']:.3f})"
    return f"{row['value']:.3f}{interval}"


def _other_metrics(scores: pd.DataFrame, dataset: str) -> str:
    words = {"above": "ahead", "tied": "tied", "below": "behind"}
    others = [compare(scores, dataset, metric) for metric in metrics_in_order(scores)[1:]]
    said = []
    for outcome, word in words.items():
        names = [inside(score_name(item.metric)) for item in others if item and item.outcome == outcome]
        said += [f"{word} in {listed(names)}"] if names else []
    return f" By the same rule it is {'; '.join(said)}." if said else ""


def task_of(dataset: str) -> str:
    """Task of a `dataset` written as run:task."""
    return dataset.rsplit(":", 1)[-1].strip()


def judged_on(dataset: str) -> str:
    """What the prior was judged on: `run: TF-gene, gold standard` is `TF-gene pairs (gold standard)`."""
    pairs, _, standard = task_of(dataset).partition(", ")
    return f"{pairs} pairs ({standard})" if standard else pairs


def _drivers(evidence: Evidence) -> list[Finding]:
    found = []
    for task, attribution in evidence.attribution.items():
        mean = mean_attribution(attribution)
        tops = [(name, listed(top_drivers(mean, name, 3).index)) for name in classes_by_size(mean)[:3]]
        said = "; ".join(f"for {name}: {genes}" for name, genes in tops if genes != "none")
        if said:
            found.append(
                Finding("drivers", f"Drivers of {spoken(task)}", f"The genes that speak most for a class are, {said}.")
            )
    return found
