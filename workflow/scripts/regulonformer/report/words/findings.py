"""The opening of the report: what was asked, and what was found, one sentence per stage."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from regulonformer.io.curves import of_hidden_entries
from regulonformer.report.comparison import OUTCOMES as PAIRED
from regulonformer.report.comparison import metrics_in_order
from regulonformer.report.evidence import Evidence
from regulonformer.report.figures.drivers import classes_by_size, mean_attribution, top_drivers
from regulonformer.report.figures.perturbation import ALPHA, EVERY_GROUP
from regulonformer.report.figures.regulons import edge_table, strongest_tfs
from regulonformer.report.modalities import modality_differences
from regulonformer.report.questions import Answer, task_of
from regulonformer.report.tables.pretraining import floor_sentence, weights_chosen_there
from regulonformer.report.tables.transfer import UNKNOWN
from regulonformer.report.words.comparison import comparison_sentence, others_sentence, signed
from regulonformer.report.words.names import inside, listed, number, percent, plural, reason_name, score_name, spoken

BALANCE = {"ahead": "is ahead", "tied": "ties", "behind": "is behind"}
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
    for matrices in list((evidence.confusion or {}).values())[:1]:
        found.append((number(len(next(iter(matrices.values()))["classes"])), "classes"))
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
    if evidence.annotation is not None or evidence.regression is not None:
        asked = listed(sorted({f"“{column}”" for column in columns.values()})) if columns else "the labels"
        parts.append(f"how well {asked} of unseen cells can be predicted, and by which genes")
    if evidence.translation is not None:
        parts.append("how well one modality tells the other")
    if evidence.perturbed_tfs is not None or evidence.perturbation is not None:
        parts.append("what cells would do without single factors, or with more of them")
    return "; ".join(parts) + "?"


def findings(evidence: Evidence, compared: list[Answer]) -> list[Finding]:
    """What was found, one sentence per stage that ran.

    Parameters
    ----------
    evidence
        Results of the run.
    compared
        `questions.answers` of the evidence.
    """
    judged = {}
    for answer in compared:
        judged.setdefault(answer.question.section, []).append(_judged(answer))
    found = [_cells(evidence), _pretraining(evidence), *judged.pop("annotation", []), *_fusion(evidence)]
    found += [*_transferred(evidence), *judged.pop("regression", []), *judged.pop("translation", [])]
    found += [*judged.pop("embedding", []), _regulons(evidence), *judged.pop("regulons", [])]
    found += [*_drivers(evidence), *judged.pop("drivers", []), _perturbed(evidence), *judged.pop("perturbation", [])]
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


def pretraining_gain(metrics: pd.DataFrame) -> dict[str, float]:
    """How far the held-out loss ends below the mean-profile floor, in percent, per modality (negative: above).

    The last validation counts; where `pretrain/patience` kept an earlier model, that one is better than this says.
    """
    metrics = of_hidden_entries(metrics)
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
    return Finding("model", "Pretraining", sentence)


def _judged(answer: Answer) -> Finding:
    """How ours does beside simple methods on one dataset."""
    question, dataset = answer.question, answer.dataset
    sentence = comparison_sentence(answer.comparison, question.reaches, question.judged(dataset))
    sentence += others_sentence(answer.others)
    return Finding(question.section, question.topic(dataset), sentence, OUTCOMES[answer.comparison.outcome])


def balance(found: list[Answer]) -> str:
    """Where ours wins, ties and loses against the best simple method, in one paragraph.

    Parameters
    ----------
    found
        Comparisons by their leading metrics.

    Returns
    -------
    str
        Empty where nothing was compared.
    """
    if not found:
        return ""
    count = Counter(OUTCOMES[answer.comparison.outcome] for answer in found)
    said = listed([f"{words} in {count[verdict]}" for verdict, words in BALANCE.items()])
    rest = f"; {count['open']} cannot be decided, for want of intervals or baselines" if count["open"] else ""
    many = plural(len(found), "comparison")
    return f"In {many} with the best simple method on the same cells or pairs, ours {said}{rest}."


def _drivers(evidence: Evidence) -> list[Finding]:
    """Genes and TFs that speak for the largest classes."""
    found = []
    for task, attribution in evidence.attribution.items():
        mean, tfs = mean_attribution(attribution), evidence.driver_tfs.get(task)
        classes = classes_by_size(mean)[:3]
        genes = {name: list(top_drivers(mean, name, 3).index) for name in classes}
        sentence = _by_class("The genes that speak most for a class are", genes)
        if tfs is not None:
            passed = tfs[tfs["fdr"] <= ALPHA].sort_values("rank")
            firsts = {name: passed.loc[passed["class"] == name, "tf"].head(3).tolist() for name in classes}
            sentence += _by_class(" The TFs that set it apart are", firsts)
        if sentence:
            found.append(Finding("drivers", f"Drivers of {spoken(task)}", sentence.strip()))
    return found


def _by_class(start: str, names: dict[str, list[str]]) -> str:
    """Names class by class; empty where no class has any."""
    said = "; ".join(f"for {name}: {listed(mine)}" for name, mine in names.items() if mine)
    return f"{start}, {said}." if said else ""


def _fusion(evidence: Evidence) -> list[Finding]:
    """What both modalities add to one, in our model, by the leading metric."""
    found = []
    for dataset, rows in modality_differences(evidence):
        first = rows[rows["metric"] == metrics_in_order(rows)[0]]
        said = [f"{signed(row)} over {inside(row['sees'])} alone" for _, row in first.iterrows()]
        verdicts = [OUTCOMES[PAIRED[verdict]] for verdict in first["verdict"]]
        # Both must beat each single one.
        verdict = max(verdicts, key=["ahead", "tied", "behind"].index)
        sentence = (
            f"With both modalities our model's {inside(score_name(first['metric'].iloc[0]))} changes by {listed(said)}."
        )
        found.append(Finding("fusion", f"Both modalities: {spoken(task_of(dataset))}", sentence, verdict))
    return found


def _transferred(evidence: Evidence) -> list[Finding]:
    found = []
    for task, labels in evidence.transferred.items():
        known = int((labels["predicted"] != UNKNOWN).sum())
        sentence = (
            f"Of {plural(len(labels), 'cell')} without a label {number(known)} ({percent(known, len(labels))}) "
            "got one; the others stay unknown."
        )
        found.append(Finding("transfer", f"Labelling {spoken(task)}", sentence))
    return found


def _perturbed(evidence: Evidence) -> Finding | None:
    tfs = evidence.perturbed_tfs
    if tfs is None or tfs.empty:
        return None
    rows = tfs[(tfs["group"] == EVERY_GROUP) & (tfs["direction"] == tfs["direction"].iloc[0])]
    first = rows.nlargest(3, "z")["tf"]
    beyond = int((rows["fdr"] <= ALPHA).sum())
    sentence = (
        f"By {spoken(rows['direction'].iloc[0])} in the model, {listed(first)} move cells most; {number(beyond)} of "
        f"{plural(len(rows), 'TF')} move them more than genes that are expressed alike (false discovery rate 5 %)."
    )
    return Finding("perturbation", "Perturbations", sentence)
