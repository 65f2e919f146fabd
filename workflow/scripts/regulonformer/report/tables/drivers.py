"""Tables of drivers and of how well their contributions add up."""

import pandas as pd

from regulonformer.report.figures.drivers import classes_by_size, top_drivers
from regulonformer.report.style import MODALITY_NAMES
from regulonformer.report.tables.table import Table
from regulonformer.report.words.names import flatten, listed, number, percent, slug, spoken, title

ALPHA = 0.05


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


def significant_driver_table(drivers: pd.DataFrame, task: str, count: int) -> Table:
    """Class-specific drivers of each class that pass the null, by modality.

    Parameters
    ----------
    drivers
        class, gene, modality, is_tf, attribution, z, fdr, rank, is_marker, n_cells.
    task
        Name of the task.
    count
        Genes named per class and modality.
    """
    rows = []
    for (name, modality), mine in drivers.groupby(["class", "modality"], sort=True):
        passed = mine[(mine["fdr"] <= ALPHA) & (mine["attribution"] > 0)].sort_values("rank")
        genes = [f"{row.gene}{_marks(row)}" for row in passed.head(count).itertuples()]
        cells = number(int(mine["n_cells"].max()))
        rows.append([name, MODALITY_NAMES[modality], cells, number(len(passed)), listed(genes, limit=count)])
    caption = (
        "Genes whose contribution is larger in the cells of a class than in other cells, at a false discovery rate of "
        "5 % against permuted labels, strongest first; ᵀ marks TFs, * known markers of the class. Beyond the genes "
        "kept in the table, the count is a lower bound."
    )
    columns = ["Class", "Modality", "Cells explained", "Genes beyond the null", "Strongest"]
    heading = f"Drivers of each class: {spoken(task)}"
    return Table(f"driver_genes_{slug(task)}", heading, columns, rows, caption, f"explain/{task}/drivers.tsv")


def _marks(row) -> str:
    is_tf, is_marker = str(row.is_tf) == "True", str(row.is_marker) == "True"
    return "ᵀ" * is_tf + "*" * is_marker


def driver_tf_table(tfs: pd.DataFrame, task: str, per_class: int = 3) -> Table:
    """The first driver TFs of each class, with the kinds of evidence.

    Parameters
    ----------
    tfs
        class, tf, score, fdr, own, targets, attention, n_targets, rank.
    task
        Name of the task.
    per_class
        TFs per class.
    """
    best = tfs.sort_values(["class", "rank"], kind="stable").groupby("class", sort=False).head(per_class)
    rows = [
        [
            row["class"],
            row["tf"],
            *(f"{row[key]:.2f}" for key in ("score", "own", "targets", "attention")),
            f"{row['fdr']:.2g}",
            number(int(row["n_targets"])),
        ]
        for _, row in best.iterrows()
    ]
    caption = (
        "TFs that set a class apart, as z: joint score, and the evidence it is made of: contributions of the TF's own "
        "gene, of the targets of its regulon, and attention to the regulon. FDR against permuted labels."
    )
    columns = ["Class", "TF", "Score", "Own gene", "Targets", "Attention", "FDR", "Targets in regulon"]
    heading = f"Driver TFs of each class: {spoken(task)}"
    return Table(f"driver_tf_table_{slug(task)}", heading, columns, rows, caption, f"explain/{task}/driver_tfs.tsv")


def enrichment_table(enrichment: pd.DataFrame, task: str, per_class: int = 3) -> Table | None:
    """Regulons and marker sets that the drivers of each class are rich in.

    Parameters
    ----------
    enrichment
        class, set, kind, overlap, expected, set_size, fdr, genes.
    task
        Name of the task.
    per_class
        Sets per class and kind.
    """
    passed = enrichment[enrichment["fdr"] <= ALPHA].sort_values(["class", "kind", "fdr"], kind="stable")
    best = passed.groupby(["class", "kind"], sort=False).head(per_class)
    rows = [
        [
            row["class"],
            f"{row['set']} ({spoken(row['kind'])})",
            f"{int(row['overlap'])} of {int(row['set_size'])}",
            f"{row['expected']:.1f}",
            f"{row['fdr']:.2g}",
            listed(str(row["genes"]).replace(",", " ").split(), limit=8),
        ]
        for _, row in best.iterrows()
    ]
    if not rows:
        return None
    caption = (
        "Sets of genes that hold more of a class's drivers than chance: the targets of a regulon, or known markers. "
        "Hypergeometric test, FDR over the sets of a kind; sets above 5 % are left out."
    )
    columns = ["Class", "Set", "Drivers in it", "By chance", "FDR", "Genes"]
    heading = f"What the drivers are rich in: {spoken(task)}"
    return Table(f"enrichment_{slug(task)}", heading, columns, rows, caption, f"explain/{task}/enrichment.tsv")
