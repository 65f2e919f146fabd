"""Tables of the comparison of recipes and of gene tasks."""

import pandas as pd

from regulonformer.report.comparison import is_ours
from regulonformer.report.tables.table import Table
from regulonformer.report.words.names import method_name

# Metric -> head of its column, whether more is better, and digits.
COLUMNS = {
    "mean_rank": ("Mean rank", False, 2),
    "loss_rna": ("RNA loss", False, 4),
    "loss_atac": ("Accessibility loss", False, 4),
    "clustering": ("Clusters (mean of NMI and ARI)", True, 3),
    "knn_macro_f1": ("Nearest cells, macro-F1", True, 3),
    "ilisi": ("Mixing of libraries (iLISI)", True, 3),
    "adapted_macro_f1": ("Adapted, macro-F1", True, 3),
    "auprc_attention": ("AUPRC of attention", True, 3),
    "auprc_pooling": ("AUPRC of pooling", True, 3),
    "seconds": ("Seconds", False, 0),
    "memory_gb": ("Memory (GB)", False, 2),
    "n_parameters": ("Parameters", False, 0),
}


def recipe_table(recipes: pd.DataFrame) -> Table:
    """Means over seeds of every recipe and of simple embeddings, the best mean rank first.

    Parameters
    ----------
    recipes
        Tidy scores of `compare_recipes`.
    """
    scores = recipes[(recipes["seed"] == "all") & ~recipes["metric"].str.startswith("gap_")]
    n_seeds = recipes.loc[recipes["seed"] != "all", "seed"].nunique()
    caption = (
        f"Mean over {n_seeds} seeds, with intervals by Student's t; ★ marks the best value of a column. Losses are of "
        "counts hidden in the same way for all, on cells that were held out; clusters and nearest cells are of "
        "embeddings that saw no label; macro-F1 of the adapted model is on donors or libraries held out; AUPRC asks "
        "how well known TF–gene edges are ranked. The mean rank counts loss, labels-free scores, adapted score, "
        "network and cost alike; a dash does not count, and neither does mixing."
    )
    return _table("recipes", "Recipes side by side", scores, COLUMNS, caption, "evaluate/recipes.tsv")


def gene_table(genes: pd.DataFrame, dataset: str) -> Table:
    """Area under the ROC curve of every method on one gene task, and how much higher than ours it is.

    Parameters
    ----------
    genes
        Tidy scores of `evaluate_genes`.
    dataset
        Which task.
    """
    scores = genes[(genes["dataset"] == dataset) & (genes["seed"] == "all")]
    heads = {"auroc": ("AUROC", True, 3), "gap_auroc": ("Method less ours", None, 3)}
    name = dataset.split(": ", 1)[-1]
    caption = (
        f"Logistic regression on vectors; {scores['n_tested'].max():.0f} genes or pairs held out per division; "
        "of a pair both genes are held out, and every gene is in as many false pairs as true ones. Intervals are over "
        "genes and seeds."
    )
    anchor = "genes_" + "".join(letter if letter.isalnum() else "_" for letter in name)
    return _table(anchor, f"Vectors of genes: {name}", scores, heads, caption, "evaluate/genes.tsv")


def _table(name: str, heading: str, scores: pd.DataFrame, columns: dict, caption: str, source: str) -> Table:
    """Method x metric, the first column deciding the order."""
    cells = {(row.method, row.metric): row for row in scores.itertuples()}
    shown = {metric: words for metric, words in columns.items() if metric in set(scores["metric"])}
    first, (_, more, _) = next(iter(shown.items()))
    values = scores[scores["metric"] == first].set_index("method")["value"].sort_values(ascending=not more)
    methods = [*values.index, *(m for m in scores["method"].unique() if m not in values.index)]
    best = {}
    for metric, (_, better, _) in shown.items():
        column = scores[scores["metric"] == metric]["value"]
        best[metric] = None if better is None else column.max() if better else column.min()
    rows = [[method_name(m), *(_cell(cells.get((m, k)), shown[k], best[k]) for k in shown)] for m in methods]
    strong = {position for position, method in enumerate(methods) if is_ours(method)}
    return Table(name, heading, ["Method", *(head for head, _, _ in shown.values())], rows, caption, source, strong)


def _cell(row, words: tuple, best: float | None) -> str:
    """A value with star and interval; a difference has its sign."""
    if row is None or pd.isna(row.value):
        return "–"
    _, more, digits = words
    form = f"{'+' if more is None else ''}{',' if digits == 0 else ''}.{digits}f"
    star = " ★" if row.value == best else ""
    interval = "" if pd.isna(row.ci_low) or digits == 0 else f" [{row.ci_low:{form}}, {row.ci_high:{form}}]"
    return f"{row.value:{form}}{star}{interval}"
