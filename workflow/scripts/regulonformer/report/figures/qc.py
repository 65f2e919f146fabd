"""Figures of quality control: what was removed and why, metrics with their cuts, RNA against ATAC."""

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter

from regulonformer.quality.doublets import fewest_sites
from regulonformer.report.style import CUT, FULL_WIDTH, INK, OKABE_ITO, SEQUENTIAL, palette, panels
from regulonformer.report.words.names import METRICS, reason_name

KEPT, REMOVED = OKABE_ITO[0], CUT
LOG_METRICS = ("n_counts_rna", "n_genes", "n_fragments", "n_counts_atac", "n_peaks", "n_overlap_sites")
HALF_WIDTH = 0.42
THINNEST = 0.005  # half of a shape, over the width of the panel: a single barcode can be seen
DASHES = (0, (3, 1.5))


def cut_metrics(cells: pd.DataFrame) -> list[str]:
    """Metrics of the table that have values, in the order of the report."""
    # The q-value is a verdict, not a measurement: `doublet_overlaps` shows what is behind it.
    known = [metric for metric in METRICS if metric in cells and metric != "doublet_qvalue"]
    return [metric for metric in known if cells[metric].notna().any()]


def metric_distributions(cells: pd.DataFrame, thresholds: dict[str, dict]):
    """Distribution of each QC metric per library, kept and removed barcodes apart, with the cuts drawn.

    Each shape is a histogram on both sides of its axis: kept barcodes inside, removed ones around them.

    Parameters
    ----------
    cells
        Every barcode: `sample`, `reason` and the metrics.
    thresholds
        Sample -> metric -> {low, high}.
    """
    samples, metrics = list(dict.fromkeys(cells["sample"])), cut_metrics(cells)
    figure, axes = panels(len(metrics), 3, 2.3)
    kept = (cells["reason"].fillna("") == "").to_numpy()
    n_bins = int(np.clip(2 * cells["sample"].value_counts().max() ** 0.5, 20, 50))
    for number, (axis, metric) in enumerate(zip(axes, metrics, strict=True)):
        values = _scaled(cells[metric].to_numpy(float), metric)
        limits = [thresholds.get(sample, {}).get(metric) or {} for sample in samples]
        cuts = [_scaled(value, metric) for cut in limits for value in cut.values() if value is not None]
        bins = _bins(n_bins, values, cuts)
        for position, (sample, cut) in enumerate(zip(samples, limits, strict=True)):
            mine = (cells["sample"] == sample).to_numpy() & np.isfinite(values)
            _shape(axis, position, values[mine], kept[mine], bins, THINNEST * len(samples))
            _cuts(axis, position, cut, metric)
        axis.set_title(METRICS[metric])
        axis.set_xticks(range(len(samples)), samples, **_tilt(samples))
        # Many names stand once per column of panels.
        axis.tick_params(labelbottom=len(samples) <= 4 or number + 3 >= len(metrics))
        axis.set_xlim(-0.6, len(samples) - 0.4)
        axis.grid(axis="y")
        if metric in LOG_METRICS:
            _log_ticks(axis)
    handles = [Patch(color=KEPT), Patch(color=REMOVED), Line2D([], [], color=INK, lw=1.4, ls=DASHES)]
    figure.legend(handles, ["kept", "removed", "cut"], loc="outside lower center", ncols=3)
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
    """RNA counts against ATAC fragments (counts in peaks without a fragment file) of each barcode.

    Kept barcodes are coloured by their density; libraries that lack a modality are not shown. None where all do.
    """
    atac = next(
        (name for name in ("n_fragments", "n_counts_atac") if name in cells and cells[name].notna().any()), None
    )
    if atac is None or "n_counts_rna" not in cells:
        return None
    cells = cells.dropna(subset=["n_counts_rna", atac])
    if cells.empty:
        return None
    samples = list(dict.fromkeys(cells["sample"]))
    figure, axes = _library_panels(len(samples))
    for axis, sample in zip(axes, samples, strict=True):
        rows = cells[cells["sample"] == sample]
        if len(rows) > (limit := max(1, max_cells // len(samples))):
            rows = rows.sample(limit, random_state=seed)
        kept = (rows["reason"].fillna("") == "").to_numpy()
        x, y = rows[["n_counts_rna", atac]].clip(lower=1).to_numpy(float).T
        axis.scatter(x[~kept], y[~kept], s=7, c=REMOVED, alpha=0.7, lw=0, rasterized=True)
        density = _density(np.log10(x[kept]), np.log10(y[kept]))
        dense_last = np.argsort(density, kind="stable")
        points = (values[kept][dense_last] for values in (x, y))
        shown = axis.scatter(
            *points, s=5, c=density[dense_last], cmap=SEQUENTIAL, vmin=0, vmax=1, lw=0, rasterized=True
        )
        axis.set(xscale="log", yscale="log", title=sample, xlabel="RNA counts")
        _short_log_labels(axis.xaxis, axis.yaxis)
        axis.label_outer()
        axis.grid()
    figure.supylabel("ATAC fragments" if atac == "n_fragments" else "ATAC counts in peaks", fontsize=9)
    figure.colorbar(shown, ax=axes, label="Kept: density", ticks=[], shrink=0.6, aspect=20, fraction=0.02, pad=0.01)
    figure.legend([_dot(REMOVED)], ["removed"], loc="outside lower center")
    return figure


def _library_panels(count: int):
    """One panel per library, with the same axes; a single one is not stretched over the page."""
    few = count <= 6
    columns = 3 if few else 4
    width = FULL_WIDTH * (0.5 if count == 1 else min(count, columns) / columns)
    return panels(count, columns, 2.9 if few else 2.3, width, sharex=True, sharey=True)


def _dot(colour: str) -> Line2D:
    return Line2D([], [], marker="o", ls="", ms=5, color=colour)


def _density(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Number of points in the same cell of a grid over (x, y), relative to the fullest one."""
    if len(x) == 0:
        return np.zeros(0)
    n_bins = int(np.clip(len(x) ** 0.5 / 1.5, 8, 40))
    places = [np.digitize(v, np.linspace(v.min(), v.max(), n_bins)) for v in (x, y)]
    _, place, count = np.unique(np.stack(places), axis=1, return_inverse=True, return_counts=True)
    return count[place.ravel()] / count.max()


def _scaled(values, metric: str):
    """Values as drawn; counts on a log scale that has a place for 0."""
    return np.log10(1 + np.maximum(values, 0)) if metric in LOG_METRICS else values


def _bins(count: int, values: np.ndarray, cuts: list[float]) -> np.ndarray:
    """Edges of bins that hold all but the most extreme values, and all cuts."""
    low, high = np.nanpercentile(values[np.isfinite(values)], [0.1, 99.9])
    low, high = min([low, *cuts]), max([high, *cuts])
    margin = 0.03 * (high - low) or 1.0
    return np.linspace(max(low - margin, 0), high + margin, count + 1)


def _shape(axis, position: int, values, kept, bins: np.ndarray, thinnest: float) -> None:
    # What lies beyond the bins is counted in the outermost ones: nobody leaves the picture.
    values = np.clip(values, bins[0], bins[-1])
    everyone, inside = (np.histogram(chosen, bins)[0] for chosen in (values, values[kept]))
    if everyone.max(initial=0) == 0:
        return
    edges = np.repeat(bins, 2)[1:-1]
    for count, colour in ((everyone, REMOVED), (inside, KEPT)):
        width = np.where(count > 0, np.maximum(count * HALF_WIDTH / everyone.max(), thinnest), 0)
        width = np.repeat(width, 2)
        axis.fill_betweenx(edges, position - width, position + width, color=colour, lw=0)


def _cuts(axis, position: int, cut: dict, metric: str) -> None:
    for value in cut.values():
        if value is not None:
            level = _scaled(value, metric)
            axis.plot([position - 0.47, position + 0.47], [level, level], color=INK, lw=1.4, ls=DASHES)


def _log_ticks(axis) -> None:
    low, high = axis.get_ylim()
    powers = [0, *(10**power for power in range(8))]
    ticks = [tick for tick in powers if low <= _scaled(tick, LOG_METRICS[0]) <= high]
    if len(ticks) < 3:
        steps = (step * 10**power for power in range(7) for step in (1, 2, 5))
        ticks = [tick for tick in steps if low <= _scaled(tick, LOG_METRICS[0]) <= high]
    axis.set_yticks([_scaled(tick, LOG_METRICS[0]) for tick in ticks], [_short(tick) for tick in ticks])


def _short_log_labels(*axes) -> None:
    """Label 1, 2 and 5 times the powers of ten, in few letters."""
    for axis in axes:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(_shortly)
        axis.set_minor_formatter(NullFormatter())


def _shortly(value: float, position: int) -> str:
    return _short(value)


def _short(value: float) -> str:
    return f"{value / 1e6:g}M" if value >= 999_999 else f"{value / 1e3:g}k" if value >= 999.9 else f"{value:.0f}"


def _tilt(names) -> dict:
    """Tilt tick labels that would run into each other."""
    return {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if sum(map(len, names)) > 24 else {}


def doublet_overlaps(cells: pd.DataFrame, overlaps: dict[str, dict | None]):
    """Sites under more than two fragments against depth, with the cut above which a barcode is a doublet.

    Parameters
    ----------
    cells
        Barcodes; those that were tested have a doublet_qvalue.
    overlaps
        Sample -> expectation of singlets and p_cut, as in the library's qc.json.

    Returns None where no library was tested.
    """
    if "doublet_qvalue" not in cells or cells["doublet_qvalue"].isna().all():
        return None
    cells = cells[cells["doublet_qvalue"].notna()]
    samples = list(dict.fromkeys(cells["sample"]))
    figure, axes = _library_panels(len(samples))
    for axis, sample in zip(axes, samples, strict=True):
        rows = cells[cells["sample"] == sample]
        called = rows["reason"].fillna("").str.contains("doublet_atac")
        for mask, colour, size in ((~called, KEPT, 6), (called, REMOVED, 9)):
            points = rows.loc[mask, ["n_overlap_fragments", "n_overlap_sites"]].to_numpy(float)
            axis.scatter(*points.T, s=size, c=colour, alpha=0.6, lw=0, rasterized=True)
        axis.set(xscale="log", title=sample, xlabel="ATAC fragments on autosomes")
        axis.set_yscale("symlog", linthresh=1)
        _short_log_labels(axis.xaxis)
        axis.yaxis.set_major_formatter(_shortly)
        if (overlaps.get(sample) or {}).get("p_cut") is not None:
            depth = np.geomspace(*np.maximum(rows["n_overlap_fragments"].agg(["min", "max"]), 1), 100)
            axis.plot(depth, fewest_sites(depth, overlaps[sample]), color=INK, lw=1.4, ls=DASHES)
        axis.label_outer()
        axis.set_ylim(bottom=-0.3)
        axis.grid()
    figure.supylabel("Sites under > 2 fragments", fontsize=9)
    handles = [_dot(KEPT), _dot(REMOVED), Line2D([], [], color=INK, lw=1.4, ls=DASHES)]
    labels = ["one cell", "doublet by ATAC", "fewest sites of a doublet"]
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure
