"""Figures of data and quality control: what every barcode looks like, and where the cuts lie."""

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from regulonformer.report.names import METRICS, reason_name
from regulonformer.report.style import CUT, FULL_WIDTH, INK, MISSING, OKABE_ITO, palette, panels

LOG_METRICS = ("n_counts_rna", "n_genes", "n_fragments", "n_counts_atac", "n_peaks")
MAX_PER_VIOLIN = 4000  # the outline of a density does not change beyond this


def cut_metrics(cells: pd.DataFrame) -> list[str]:
    """Metrics of the table that have values, in the order of the report."""
    return [metric for metric in METRICS if metric in cells and cells[metric].notna().any()]


def metric_violins(cells: pd.DataFrame, thresholds: dict[str, dict]):
    """Distribution of each QC metric per library, with the cuts drawn.

    Parameters
    ----------
    cells
        Every barcode: `sample` and the metrics.
    thresholds
        Sample -> metric -> {low, high}.
    """
    samples, metrics = list(dict.fromkeys(cells["sample"])), cut_metrics(cells)
    figure, axes = panels(len(metrics), 3 if len(samples) <= 8 else 2, 2.5 if len(samples) <= 8 else 2.8)
    colours = palette(samples)
    for axis, metric in zip(axes, metrics, strict=True):
        for position, sample in enumerate(samples):
            values = _scaled(cells.loc[cells["sample"] == sample, metric], metric)
            _violin(axis, position, values, colours[sample])
            _cuts(axis, position, thresholds.get(sample, {}).get(metric), metric)
        axis.set_title(METRICS[metric])
        axis.set_xticks(range(len(samples)), samples, **_tilt(samples))
        axis.set_xlim(-0.6, len(samples) - 0.4)
        axis.grid(axis="y")
        if metric in LOG_METRICS:
            _log_ticks(axis)
    handles = [Line2D([], [], color=CUT, lw=1.6, ls=(0, (3, 1.5))), Line2D([], [], color=INK, lw=2)]
    figure.legend(handles, ["cut", "median"], loc="outside lower center", ncols=2)
    return figure


def barcode_fates(cells: pd.DataFrame):
    """Share of barcodes kept, and of those removed for each reason, per library."""
    reason = cells["reason"].fillna("")
    fate = reason.where(~reason.str.contains(","), "several reasons").replace("", "kept")
    shares = pd.crosstab(cells["sample"], fate, normalize="index") * 100
    shares = shares.loc[list(dict.fromkeys(cells["sample"]))]
    order = ["kept"] * ("kept" in shares) + [
        name for name in shares.mean().sort_values(ascending=False).index if name != "kept"
    ]
    colours = {"kept": "#B8C4CE"} | palette([name for name in order if name != "kept"])
    figure, (axis,) = panels(1, 1, 0.95 + 0.32 * len(shares))
    left = np.zeros(len(shares))
    for name in order:
        width = shares[name].to_numpy()
        axis.barh(
            shares.index,
            width,
            left=left,
            color=colours[name],
            label=reason_name(name),
            height=0.68,
            ec="white",
            lw=0.6,
        )
        for row, (start, wide) in enumerate(zip(left, width, strict=True)):
            if wide >= 6:
                axis.text(start + wide / 2, row, f"{wide:.0f} %", ha="center", va="center", fontsize=8)
        left += width
    axis.invert_yaxis()
    axis.set(xlim=(0, 100), xlabel="Share of barcodes (%)")
    axis.spines["left"].set_visible(False)
    axis.tick_params(axis="y", length=0)
    figure.legend(loc="outside right center", title="Fate", alignment="left")
    return figure


def modality_scatter(cells: pd.DataFrame, max_cells: int, seed: int = 0):
    """RNA counts against ATAC fragments (counts in peaks without a fragment file) of each barcode, kept and removed.

    Returns None where a modality has no counts.
    """
    atac = next(
        (name for name in ("n_fragments", "n_counts_atac") if name in cells and cells[name].notna().any()), None
    )
    if atac is None or "n_counts_rna" not in cells:
        return None
    samples, few = list(dict.fromkeys(cells["sample"])), cells["sample"].nunique() <= 6
    figure, axes = panels(len(samples), 3 if few else 4, 2.9 if few else 2.3, sharex=True, sharey=True)
    for axis, sample in zip(axes, samples, strict=True):
        rows = cells[cells["sample"] == sample]
        if len(rows) > (limit := max(1, max_cells // len(samples))):
            rows = rows.sample(limit, random_state=seed)
        kept = rows["reason"].fillna("") == ""
        for mask, colour, size in ((~kept, CUT, 7), (kept, OKABE_ITO[0], 5)):
            points = rows.loc[mask, ["n_counts_rna", atac]].clip(lower=1)
            axis.scatter(*points.to_numpy().T, s=size, c=colour, alpha=0.55, lw=0, rasterized=True)
        axis.set(xscale="log", yscale="log", title=sample, xlabel="RNA counts")
        axis.label_outer()
        axis.grid()
    figure.supylabel("ATAC fragments" if atac == "n_fragments" else "ATAC counts in peaks", fontsize=9)
    handles = [Line2D([], [], marker="o", ls="", ms=5, color=colour) for colour in (OKABE_ITO[0], CUT)]
    figure.legend(handles, ["kept", "removed"], loc="outside lower center", ncols=2)
    return figure


def fragment_profiles(qc: list[dict]):
    """Fragment lengths and the pile-up of cuts around TSSs per library, or None where no library has them.

    The nucleosomal ladder (< 147 bp, about 200 bp, about 400 bp) and a sharp peak at the TSS are the marks of a good
    ATAC library.
    """
    fragments = {record["sample"]: record.get("fragments") or {} for record in qc}
    lengths = {name: found for name, found in fragments.items() if found.get("lengths") and sum(found["lengths"])}
    profiles = {name: found for name, found in fragments.items() if found.get("tss_profile")}
    if not lengths and not profiles:
        return None
    colours = palette(fragments)
    count = bool(lengths) + bool(profiles)
    figure, axes = panels(count, 2, 2.8, FULL_WIDTH if count == 2 else FULL_WIDTH * 0.6)
    if lengths:
        _length_curves(axes[0], lengths, colours)
    if profiles:
        _tss_curves(axes[-1], profiles, colours)
    handles = [Line2D([], [], color=colours[name], lw=2) for name in fragments]
    figure.legend(handles, list(fragments), loc="outside lower center", ncols=min(len(fragments), 6))
    return figure


def _length_curves(axis, lengths: dict[str, dict], colours: dict[str, str]) -> None:
    for name, found in lengths.items():
        # The last bin holds everything longer.
        counts, step = np.asarray(found["lengths"][:-1], float), found.get("length_bin", 1)
        axis.plot(
            (np.arange(len(counts)) + 0.5) * step, 100 * counts / counts.sum() / step, color=colours[name], lw=1.4
        )
    axis.axvspan(0, 147, color=MISSING, alpha=0.35, lw=0)
    axis.set(title="Fragment length", xlabel="Length (bp)", ylabel="Fragments per bp (%)")
    axis.set_xlim(0, min(1000, axis.get_xlim()[1]))
    axis.set_ylim(0, axis.get_ylim()[1] * 1.12)
    axis.text(5, axis.get_ylim()[1] * 0.97, "nucleosome-free", fontsize=7.5, color="#52606D", va="top")


def _tss_curves(axis, profiles: dict[str, dict], colours: dict[str, str]) -> None:
    for name, found in profiles.items():
        profile = np.asarray(found["tss_profile"], float)
        ends = np.concatenate([profile[: max(1, len(profile) // 40)], profile[-max(1, len(profile) // 40) :]]).mean()
        axis.plot(np.linspace(-2, 2, len(profile)), profile / max(ends, 1e-9), color=colours[name], lw=1.4)
    axis.axhline(1, color=MISSING, lw=1)
    axis.set(title="Cuts around TSSs", xlabel="Distance to TSS (kb)", ylabel="Fold over flanks", xlim=(-2, 2))


def _scaled(values: pd.Series, metric: str) -> np.ndarray:
    values = values.dropna().to_numpy(float)
    values = values[np.isfinite(values)]
    return np.log10(np.maximum(values, 1)) if metric in LOG_METRICS else values


def _violin(axis, position: int, values: np.ndarray, colour: str) -> None:
    if len(values) == 0:
        return
    median = np.median(values)
    if np.ptp(values) > 0 and len(values) > 2:
        shown = np.sort(values)[:: max(1, len(values) // MAX_PER_VIOLIN)]
        body = axis.violinplot([shown], [position], widths=0.8, showextrema=False)["bodies"][0]
        body.set(facecolor=colour, alpha=0.75, edgecolor="none")
    axis.plot([position - 0.16, position + 0.16], [median, median], color=INK, lw=2, solid_capstyle="butt")


def _cuts(axis, position: int, cut: dict | None, metric: str) -> None:
    for side in ("low", "high"):
        value = (cut or {}).get(side)
        if value is None or not np.isfinite(value):
            continue
        level = np.log10(max(value, 1)) if metric in LOG_METRICS else value
        axis.plot([position - 0.45, position + 0.45], [level, level], color=CUT, lw=1.6, ls=(0, (3, 1.5)))


def _log_ticks(axis) -> None:
    low, high = axis.get_ylim()
    axis.set_ylim(max(low, -0.15), high)
    ticks = np.arange(np.ceil(max(low, 0)), np.floor(high) + 1)
    if len(ticks) < 3:
        ticks = np.log10([step * 10**power for power in range(7) for step in (1, 2, 5)])
        ticks = ticks[(ticks >= low) & (ticks <= high)]
    axis.set_yticks(ticks, [_short(10**tick) for tick in ticks])


def _short(value: float) -> str:
    return f"{value / 1e6:g}M" if value >= 999_999 else f"{value / 1e3:g}k" if value >= 999.9 else f"{value:.0f}"


def _tilt(names) -> dict:
    """Tilt tick labels that would run into each other."""
    return {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if sum(map(len, names)) > 24 else {}
