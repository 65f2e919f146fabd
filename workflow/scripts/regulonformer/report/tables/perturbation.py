"""Table of perturbed TFs."""

import pandas as pd

from regulonformer.report.tables.table import Table
from regulonformer.report.words.names import number, spoken


def perturbed_tf_table(tfs: pd.DataFrame, count: int = 10) -> Table:
    """TFs that move cells most, over all groups, per direction.

    Parameters
    ----------
    tfs
        tf, group, direction, n_cells, embedding_change, null_mean, z, fdr.
    count
        TFs per direction.
    """
    everywhere = tfs[tfs["group"] == "all"] if (tfs["group"] == "all").any() else tfs
    best = everywhere.sort_values("z", ascending=False, kind="stable").groupby("direction", sort=False).head(count)
    most = tfs[tfs["group"] != "all"].sort_values("z", ascending=False, kind="stable")
    most = most.drop_duplicates(["tf", "direction"]).set_index(["tf", "direction"])["group"]
    rows = [
        [
            spoken(row.direction).capitalize(),
            row.tf,
            f"{row.z:.2f}",
            f"{row.fdr:.2g}",
            f"{row.embedding_change:.3g}",
            f"{row.null_mean:.3g}",
            str(most.get((row.tf, row.direction), "–")),
            number(int(row.n_cells)),
        ]
        for row in best.sort_values(["direction", "z"], ascending=[True, False], kind="stable").itertuples()
    ]
    caption = (
        "How far a perturbed TF moves the cell embedding, beside the mean of matched genes; z and false discovery rate "
        "against these, and the group of cells in which z is largest."
    )
    columns = ["Perturbation", "TF", "z", "FDR", "Change", "Change by matched genes", "Most in", "Cells"]
    source = "explain/perturb/tfs.parquet"
    return Table("perturbed_tf_table", "TFs that move cells most", columns, rows, caption, source)
