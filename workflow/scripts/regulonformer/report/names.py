"""Names for people: how metrics, methods, filters and numbers are written in the report."""

import re

METRICS = {
    "n_counts_rna": "RNA counts per cell",
    "n_genes": "Genes per cell",
    "pct_mito": "Mitochondrial RNA (%)",
    "n_fragments": "ATAC fragments per cell",
    "n_counts_atac": "ATAC counts in peaks per cell",
    "n_peaks": "Open peaks per cell",
    "tss_enrichment": "TSS enrichment",
    "nucleosome_signal": "Nucleosome signal",
    "frip": "Fragments in peaks (fraction)",
    "doublet_score": "Doublet score",
}
SCORES = {
    "accuracy": "Accuracy",
    "macro_f1": "Macro-F1",
    "balanced_accuracy": "Balanced accuracy",
    "weighted_f1": "Weighted F1",
    "ece": "Calibration error (ECE)",
}
METHODS = {
    "majority": "Majority class (floor)",
    "knn": "k nearest neighbours",
    "logistic": "Logistic regression",
    "logistic_regression": "Logistic regression",
    "mlp": "Wide MLP",
    "random_forest": "Random forest",
    "xgboost": "XGBoost",
}
ACRONYMS = {
    "rna": "RNA",
    "atac": "ATAC",
    "tss": "TSS",
    "cre": "CRE",
    "tf": "TF",
    "lsi": "LSI",
    "pca": "PCA",
    "knn": "kNN",
    "qc": "QC",
}
ACRONYMS |= {
    "tfs": "TFs",
    "cres": "CREs",
    "umap": "UMAP",
    "dna": "DNA",
    "cpu": "CPU",
    "gpu": "GPU",
    "lora": "LoRA",
    "ci": "CI",
}


REASONS = {
    "low_counts_rna": "few RNA counts",
    "high_counts_rna": "many RNA counts",
    "low_genes": "few genes",
    "high_genes": "many genes",
    "high_mito": "mitochondrial",
    "low_fragments": "few fragments",
    "high_fragments": "many fragments",
    "low_counts_atac": "few ATAC counts",
    "high_counts_atac": "many ATAC counts",
    "low_tss": "low TSS enrichment",
    "high_nucleosome": "nucleosome signal",
    "low_frip": "few fragments in peaks",
    "low_peaks": "few peaks",
}


def spoken(key: object) -> str:
    """Turn a key such as `low_tss` into words: `low TSS`."""
    words = str(key).replace("_", " ").replace(".", " / ").split(" ")
    return " ".join(ACRONYMS.get(word.lower(), word) for word in words)


def title(key: object) -> str:
    """`spoken`, with a capital at the start."""
    return capital(spoken(key))


def capital(words: str) -> str:
    """Capital at the start, except where the second letter is one (`kNN`)."""
    return words if words[1:2].isupper() else words[:1].upper() + words[1:]


def inside(name: str) -> str:
    """Write a name as it stands inside a sentence: `Wide MLP` becomes `wide MLP`, `XGBoost` stays."""
    return name if name[1:2].isupper() else name[:1].lower() + name[1:]


def reason_name(reason: str) -> str:
    """Say why a barcode was removed."""
    return REASONS.get(reason, spoken(reason))


def column_name(column: str) -> str:
    """Name of a column of the cells; the sheet's `sample` is a library."""
    return "library" if column == "sample" else spoken(column)


def score_name(metric: str) -> str:
    """Name of an evaluation metric."""
    return SCORES.get(metric.lower().replace("-", "_"), title(metric))


def method_name(method: str) -> str:
    """Name of a method in the comparison."""
    if method.lower().startswith("regulonformer"):
        return f"{title(method)}, ours"
    return METHODS.get(method.lower(), title(method))


def natural(name: str) -> list:
    """Sort key that puts `L2` before `L10`."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.findall(r"\d+|\D+", str(name))]


def slug(name: str) -> str:
    """Turn a name into one that can be a file and an anchor."""
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def number(value: object) -> str:
    """Write a number with thousands separators and no needless digits; other values as they are."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if value != value:
            return "–"
        return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"
    return str(value)


def percent(part: float, whole: float) -> str:
    """Share of a whole, as a percentage with a sensible number of digits."""
    share = 100 * part / whole if whole else 0.0
    return f"{share:.1f} %" if 0 < share < 10 or 90 < share < 100 else f"{share:.0f} %"


def plural(count: int, noun: str, many: str | None = None) -> str:
    """A counted noun: `1 library`, `3 libraries`."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def listed(items, limit: int = 6) -> str:
    """Join items as English does, and say how many were left out."""
    items = [str(item) for item in items]
    if len(items) > limit:
        return ", ".join(items[:limit]) + f" and {len(items) - limit} more"
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + f" and {items[-1]}" if items else "none"


def duration(seconds: float) -> str:
    """Write a time as seconds, minutes or hours."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.1f} min" if minutes < 100 else f"{minutes / 60:.1f} h"


def flatten(content: dict, prefix: str = "") -> dict[str, object]:
    """Flatten nested dicts to dotted keys; lists of plain values become one string."""
    flat = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flat |= flatten(value, f"{name}.")
        elif isinstance(value, (list, tuple)):
            flat[name] = (
                ", ".join(number(item) if not isinstance(item, dict) else str(item) for item in value) or "none"
            )
        else:
            flat[name] = value
    return flat
