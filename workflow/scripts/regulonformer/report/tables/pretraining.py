"""How pretraining stands beside simple predictors, and what single parts of the model are worth: tables and words."""

import pandas as pd

from regulonformer.model.config import LOSSES
from regulonformer.report.comparison import is_ours
from regulonformer.report.tables.table import Table
from regulonformer.report.words.names import capital, inside, listed, method_name

# Metric of the floors -> what is predicted.
PREDICTED = {"rna": "RNA", "atac": "accessibility"}
VARIANTS = {
    "prior": "the model as it is",
    "shuffled": "regulons rewired at random, every TF and gene with as many edges as before",
    "none": "no regulons: every slot starts with its TF alone",
    "dense": "every gene computed as a token, silent ones too",
    "bf16": "matrix products in bfloat16",
    "no_layers": "attention and feed-forward add nothing",
    "no_path": "no linear path",
    "full_rank": "explorer slots with a free weight for every gene",
}
# Metric of the ablation -> head of its column, and whether more is better.
MEASURES = {
    "loss_rna": ("RNA loss", False),
    "loss_atac": ("Accessibility loss", False),
    "auprc_attention": ("AUPRC of attention", True),
    "auprc_pooling": ("AUPRC of pooling", True),
    "auprc_start": ("AUPRC of pooling, untrained", True),
    "cells_per_second": ("Cells per second", True),
}
NOUNS = {"mean profile": "the mean profile", "ridge on PCA": "ridge regression on principal components"}
OUTCOMES = {"ahead": "is ahead of", "level": "cannot be told apart from", "behind": "loses to"}
WORTH = {
    "ahead": "better",
    "behind": "worse",
    "level": "no difference seen",
    "unknown": "not judged (one seed)",
}
# With `pretrain.patience` the cells that are scored have chosen the weights.
CHOSEN_THERE = "Our weights are the best of several by their loss on these very cells, which flatters our model."


def floor_table(floors: pd.DataFrame, predicts: str, chosen_there: bool = False) -> Table:
    """Loss of every method per modality, and its distance to ours.

    Parameters
    ----------
    floors
        Tidy scores with the metrics `loss_...` and `gap_...`.
    predicts
        What the model predicts (`ModelConfig.predicts`), and the loss therefore is.
    chosen_there
        Whether training stopped by the loss on the scored cells (`weights_chosen_there`).
    """
    cells = {(row.method, row.metric): row for row in floors.itertuples()}
    kinds = [kind for kind in PREDICTED if f"loss_{kind}" in set(floors["metric"])]
    columns = [(f"{start}_{kind}", f"{capital(PREDICTED[kind])}, {words}") for kind in kinds
               for start, words in (("loss", "loss"), ("gap", "less ours"))]  # fmt: skip
    methods = floors[floors["metric"] == f"loss_{kinds[0]}"].sort_values("value", kind="stable")["method"].tolist()
    rows = [
        [
            method_name(method),
            *(_written(cells.get((method, metric)), metric.startswith("gap")) for metric, _ in columns),
        ]
        for method in methods
    ]
    caption = (
        f"Loss on held-out cells ({LOSSES[predicts]}; lower is better), and how much more than ours it is, both with "
        "confidence intervals from drawing cells; above 0 ours is better. Every method sees the same visible values "
        "and is scored on the same hidden ones. Nearest cells and ridge regression learn from at most 10,000 training "
        "cells, our model and the mean profile from all." + (f" {CHOSEN_THERE}" if chosen_there else "")
    )
    heading = "Loss beside simple predictors"
    strong = {position for position, method in enumerate(methods) if is_ours(method)}
    heads = ["Method", *(head for _, head in columns)]
    return Table("pretraining_floors", heading, heads, rows, caption, "evaluate/pretraining.tsv", strong)


def weights_chosen_there(run: dict | None) -> bool:
    """Whether, by its record, pretraining kept the weights that were best on the cells held out."""
    return (run or {}).get("config", {}).get("patience") is not None


def floor_sentence(floors: pd.DataFrame, chosen_there: bool = False) -> str:
    """Say, per modality, which predictors our model is ahead of, level with and behind of; see `floor_table`."""
    said = []
    for kind, predicted in PREDICTED.items():
        gaps = floors[floors["metric"] == f"gap_{kind}"]
        verdict = gaps["method"].groupby([outcome(row, True) for row in gaps.itertuples()]).agg(list)
        parts = [
            f"{words} {listed(inside(NOUNS.get(method, method_name(method))) for method in verdict[key])}"
            for key, words in OUTCOMES.items()
            if key in verdict
        ]
        said += [f"On hidden {predicted} our model {'; it '.join(parts)}."] if parts else []
    return " ".join([*said, CHOSEN_THERE] if said and chosen_there else said)


def ablation_table(ablation: pd.DataFrame) -> Table:
    """Scores of the model as it is, and how each variant differs from it.

    Parameters
    ----------
    ablation
        Tidy scores; rows with seed `all` are shown.
    """
    scores = ablation[ablation["seed"] == "all"]
    cells = {(row.method, row.metric): row for row in scores.itertuples()}
    shown = {metric: head for metric, (head, _) in MEASURES.items() if ("prior", metric) in cells}
    rows = [[capital(VARIANTS["prior"]), *(_written(cells["prior", metric], False) for metric in shown)]]
    others = [name for name in VARIANTS if name != "prior" and name in set(scores["method"])]
    rows += [[capital(VARIANTS[v]), *(_written(cells.get((v, f"gap_{m}")), True) for m in shown)] for v in others]
    n_seeds = ablation.loc[ablation["seed"] != "all", "seed"].nunique()
    caption = (
        f"Mean over {n_seeds} seeds with intervals by Student's t. The first row holds values, others differences to "
        "it with the same seed. Losses are on held-out cells, lower is better. AUPRC asks how well known TF–gene "
        "edges are ranked: by how much more than others a gene attends to the regulon, and by the weights with which "
        "the regulon pools its genes, after and before training." + _chance(cells)
    )
    heads = ["Variant", *shown.values()]
    return Table("ablation", "Without single parts", heads, rows, caption, "evaluate/ablation.tsv", {0})


def _chance(cells: dict) -> str:
    """What a ranking by chance reaches, if edges were judged."""
    row = cells.get(("chance", "auprc_attention"))
    return f" Chance reaches {row.value:.4f}." if row else ""


def ablation_items(ablation: pd.DataFrame) -> list[str]:
    """For each variant: in what it is better or worse than the model as it is, or cannot be told apart from it."""
    scores = ablation[ablation["seed"] == "all"]
    items = []
    for variant, words in VARIANTS.items():
        mine = scores[scores["method"] == variant].set_index("metric")
        verdicts = {word: [] for word in WORTH.values()}
        for metric, (head, more_is_better) in MEASURES.items():
            # What pooling starts from is given, not found out.
            if f"gap_{metric}" in mine.index and metric != "auprc_start":
                found = outcome(mine.loc[f"gap_{metric}"], more_is_better)
                verdicts[WORTH[found]].append(inside(head))
        said = [f"{word} in {listed(heads)}" for word, heads in verdicts.items() if heads]
        items += [f"{capital(words)}: {'; '.join(said)}."] if said else []
    return items


def outcome(row, more_is_better: bool) -> str:
    """Whether a difference is `ahead` or `behind`, its interval being clear of 0, `level`, or `unknown` without one."""
    if pd.isna(row.ci_low) or pd.isna(row.ci_high):
        return "unknown"
    low, high = (row.ci_low, row.ci_high) if more_is_better else (-row.ci_high, -row.ci_low)
    return "ahead" if low > 0 else "behind" if high < 0 else "level"


def _written(row, signed: bool) -> str:
    """A number with its interval; a difference has its sign."""
    if row is None or pd.isna(row.value):
        return "–"
    form = f"{'+' if signed else ''}{'.1f' if abs(row.value) >= 20 else '.4f'}"
    interval = "" if pd.isna(row.ci_low) else f" [{row.ci_low:{form}}, {row.ci_high:{form}}]"
    return f"{row.value:{form}}{interval}"
