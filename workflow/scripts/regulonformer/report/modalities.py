"""Which modalities a method sees, by its name, and what both add to one."""

import re

import pandas as pd

from regulonformer.report.comparison import is_ours, our_method
from regulonformer.report.evidence import Evidence

# What a name says of the features that a method reads.
SPACE = re.compile(r",? *\+?(PCA|LSI)?\(?\b(RNA\+ATAC|RNA|ATAC)\b( only)?\)?")


def what_it_sees(methods) -> pd.DataFrame:
    """Split names of methods into the method itself and the modalities that it sees.

    Parameters
    ----------
    methods
        Names such as `logistic regression PCA(RNA)`, `regulonformer (regulon), RNA only`; our full model sees both.

    Returns
    -------
    pandas.DataFrame
        method, family, sees; methods that name no modality are left out, families with one entry too.
    """
    rows, full = [], our_method(methods)
    for method in methods:
        if method == full:
            rows.append((method, full, "RNA and ATAC"))
            continue
        family = SPACE.sub("", method).strip()
        named = [name for name in ("RNA", "ATAC") if name in method]
        if named and family and (not is_ours(method) or family == full):
            rows.append((method, family, " and ".join(named)))
    table = pd.DataFrame(rows, columns=["method", "family", "sees"]).drop_duplicates(["family", "sees"])
    return table[table.groupby("family")["sees"].transform("size") > 1]


def modality_differences(evidence: Evidence) -> list[tuple[str, pd.DataFrame]]:
    """Our model less its variants with one modality, on the same resampled cells, dataset by dataset.

    Returns
    -------
    list
        Dataset, and rows of the paired differences with the column `sees`; only datasets that have any.
    """
    table, found = evidence.differences, []
    if table is None or evidence.annotation is None:
        return []
    for dataset in dict.fromkeys(table["dataset"]):
        methods = evidence.annotation.loc[evidence.annotation["dataset"] == dataset, "method"].unique()
        families, ours = what_it_sees(methods), our_method(methods)
        alone = families[(families["family"] == ours) & (families["method"] != ours)].set_index("method")["sees"]
        rows = table[(table["dataset"] == dataset) & table["method"].isin(alone.index)]
        if len(rows):
            found.append((dataset, rows.assign(sees=rows["method"].map(alone))))
    return found
