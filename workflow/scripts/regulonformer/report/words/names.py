"""Names for people: how metrics, methods, filters and numbers are written in the report."""

import re

METRICS = {
    "n_counts_rna": "RNA counts per cell",
    "n_genes": "Genes per cell",
    "pct_mito": "Mitochondrial RNA (%)",
    "pct_ribo": "RNA of ribosomal proteins (%)",
    "n_fragments": "ATAC fragments per cell",
    "tss_enrichment": "TSS enrichment",
    "nucleosome_signal": "Nucleosome signal",
    "frip": "Fragments in peaks (fraction)",
    "blacklist_share": "Fragments in blacklist (fraction)",
    "duplication_fragments": "Repeated ATAC reads (fraction)",
    "duplication_atac": "Repeated reads by Cell Ranger",
    "n_counts_atac": "ATAC counts in peaks per cell",
    "n_peaks": "Open peaks per cell",
    "doublet_score": "Doublet score (RNA)",
    "n_overlap_sites": "Sites under > 2 fragments",
    "doublet_qvalue": "Doublet q-value (ATAC)",
}
SCORES = {
    "accuracy": "Accuracy",
    "macro_f1": "Macro-F1",
    "balanced_accuracy": "Balanced accuracy",
    "weighted_f1": "Weighted F1",
    "ece": "Calibration error (ECE)",
    "auprc": "AUPRC",
    "f0.1": "F0.1",
    "jaccard_cells": "Share of edges in common (cells resampled)",
    "jaccard_seeds": "Share of edges in common (other seeds)",
    "rank_correlation_cells": "Rank correlation (cells resampled)",
    "rank_correlation_seeds": "Rank correlation (other seeds)",
    "r2": "R²",
    "early_precision": "Early precision",
    "sign_accuracy": "Sign accuracy",
    "overall": "Overall score",
    "bio_conservation": "Biology kept",
    "batch_correction": "Libraries mixed",
    "ari": "ARI",
    "nmi": "NMI",
    "asw_label": "ASW of labels",
    "asw_batch": "ASW of libraries",
    "clisi": "cLISI",
    "ilisi": "iLISI",
    "kbet": "kBET",
    "pcr_comparison": "PCR",
    "rmse": "Root mean squared error",
    "mse": "Mean squared error",
    "pearson_per_peak": "Pearson per peak, across cells",
    "pearson_per_gene": "Pearson per gene, across cells",
    "auroc_per_peak": "AUROC per peak, across cells",
    "pearson_per_cell": "Pearson per cell",
    "pearson_pseudobulk": "Pearson of the pooled profile",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "precision_at_true": "Precision among as many as are true",
    "precision_at_20": "Precision among the first 20",
    "rank_of_true_tf": "Rank of the true TF",
    "reciprocal_rank": "Reciprocal rank",
    "discrimination": "Discrimination",
    "pearson_change": "Pearson of the change",
    "spearman_change": "Spearman of the change",
    "pearson_change_top20": "Pearson, 20 most changed genes",
    "overlap_top50": "Overlap, 50 most changed genes",
}
# How scores of regulons and links are to be read, and what they are compared with.
MEANINGS = {
    "auprc": "mean precision over the whole ranking; a ranking by chance gets the share of true pairs",
    "early_precision": "share of true pairs at the top of the ranking, among as many pairs as are true in all",
    "precision": "share of true pairs among as many of the first as our regulons hold",
    "recall": "share of the true pairs that are among these",
    "f0.1": "precision and recall in one number, in which precision counts most",
    "sign_accuracy": "share of the true pairs found for which activation or repression is right",
    "r2": "share of a gene's variance that its best TFs explain in donors (or cells) not fitted; equally many TFs",
    "jaccard_cells": "share of the edges of two resamplings of the cells that both have",
    "jaccard_seeds": "the same for the same cells and other seeds",
    "rank_correlation_cells": "rank correlation of the scores of the edges that either has",
    "pearson": "correlation of TF and gene over cells",
    "spearman": "correlation of their ranks over cells",
    "genie3 (extra trees)": "how much the TF helps decision trees to predict the gene",
    "ece": "mean gap between score and share of true pairs, over bins of the score; lower is better",
    "denoised correlation": "correlation of the profiles that our regulons use, in deviations of each TF",
    "motif and link": "best motif times the probability of its link",
    "motif, link and correlation, multiplied": "the three ingredients of our score, without a model of them",
    "always activating": "no repression at all",
    "motif only": "best motif of the TF in any peak near the gene",
    "motif and distance": "the same, less the farther the peak is",
    "link only": "best link of the gene, the same for every TF",
    "network only": "the published network as it came",
    "distance only": "how near the closest peak is to the gene's TSS, the same for every TF",
    "promoter or distance decay": "promoters first, then falling with distance",
    "|correlation|": "correlation of peak and gene over cells, of either sign",
    "regulons, shuffled": (
        "our own regulons with their targets swapped at random; every TF and gene keeps its number of edges, so this "
        "is what those numbers alone explain"
    ),
    "random": "chance",
}
METHODS = {
    "genie3 (extra trees)": "GENIE3 (extra trees)",
    "majority": "Majority class (floor)",
    "ridge on pca": "Ridge regression on PCA",
    "knn": "k nearest neighbours",
    "logistic": "Logistic regression",
    "logistic_regression": "Logistic regression",
    "mlp": "Wide MLP",
    "random_forest": "Random forest",
    "xgboost": "XGBoost",
}
# How keys are spoken that are not their own words.
SPOKEN = {"knock_out": "knock-out", "over_expression": "over-expression"}
PROPER = ("Pearson", "Spearman", "Harmony")
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
    "high_ribo": "ribosomal",
    "low_fragments": "few fragments",
    "high_fragments": "many fragments",
    "low_counts_atac": "few ATAC counts",
    "high_counts_atac": "many ATAC counts",
    "low_tss": "low TSS enrichment",
    "high_nucleosome": "nucleosome signal",
    "low_frip": "few fragments in peaks",
    "high_blacklist": "blacklisted fragments",
    "high_duplication": "repeated reads",
    "low_peaks": "few peaks",
    "doublet_rna": "doublet by RNA",
    "doublet_atac": "doublet by ATAC",
}


def spoken(key: object) -> str:
    """Turn a key such as `low_tss` into words: `low TSS`."""
    words = SPOKEN.get(str(key), str(key)).replace("_", " ").replace(".", " / ").split(" ")
    return " ".join(ACRONYMS.get(word.lower(), word) for word in words)


def title(key: object) -> str:
    """`spoken`, with a capital at the start."""
    return capital(spoken(key))


def capital(words: str) -> str:
    """Capital at the start, except where the second letter is one (`kNN`)."""
    return words if words[1:2].isupper() else words[:1].upper() + words[1:]


def inside(name: str) -> str:
    """Write a name as it stands inside a sentence: `Wide MLP` becomes `wide MLP`; `XGBoost`, `R²`, `Pearson` stay."""
    keep = name.startswith(PROPER) or not (name[1:2].islower() or name[1:2] in " -")
    return name if keep else name[:1].lower() + name[1:]


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


def rounded(value: float, digits: int = 3) -> float:
    """A number as it is written, without the sign of a zero."""
    return round(value, digits) + 0.0


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
    """Flatten nested dicts to dotted keys; lists of plain values become one string that names the first dozen."""
    flat = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flat |= flatten(value, f"{name}.")
        elif isinstance(value, (list, tuple)):
            flat[name] = listed((number(item) for item in value), limit=12)
        else:
            flat[name] = value
    return flat
