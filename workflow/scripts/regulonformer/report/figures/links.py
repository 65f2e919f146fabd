"""Figures of how links and edges were scored: the null and its check, what was learnt, and how well scores hold."""

from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, NullFormatter

from regulonformer.report.style import CUT, FAINT, FULL_WIDTH, INK, OURS, panels

# Kind of pair in the summary of links -> name, colour, style of line.
PAIRS = {
    "observed": ("candidate pairs", OURS, "-"),
    "beyond": ("just out of reach", "#009E73", "-"),
    "control": ("null controls", INK, (0, (3, 2))),
}
CLASSES = {"own promoter": ("#E69F00", "D"), "promoter of another gene": ("#CC79A7", "s"), "distal": ("#56B4E9", "o")}
# Sources of support in the order of the summary: name, colour.
SUPPORT = (("motif and link", OURS), ("network", "#009E73"), ("network, TF not measured", "#CC79A7"))
MIN_PAIRS = 20


def link_calibration(summary: dict):
    """P-values and z of candidate pairs beside those of pairs that cannot be linked; odds of a link by distance.

    Parameters
    ----------
    summary
        Of linking: `observed`, `beyond` and `control` with histograms, `model` with `odds`. Without a null (too few
        cells) the odds alone are drawn.
    """
    shown = {name: summary[name] for name in PAIRS if summary.get(name, {}).get("pairs", 0) >= MIN_PAIRS}
    odds = summary.get("model", {}).get("odds") or []
    if not shown and not odds:
        return None
    count = 2 * bool(shown) + bool(odds)
    figure, axes = panels(count, 3, 3.1, FULL_WIDTH * count / 3)
    if shown:
        _p_values(axes[0], shown)
        _z_scores(axes[1], shown)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(shown) + 1)
    if odds:
        _odds(axes[-1], odds)
    return figure


def edge_model(summary: dict):
    """What was learnt about sites, support and association when edges were scored.

    Parameters
    ----------
    summary
        Of regulons: `motifs.site_strata` and `score_model`; panels without their numbers are left out.
    """
    sites, model = summary.get("motifs", {}).get("site_strata"), summary.get("score_model") or {}
    drawn = []
    if sites:
        drawn.append(lambda axis: _sites(axis, sites))
    if summary.get("edges_with_motif") and "support_edges" in model:
        drawn.append(lambda axis: _support(axis, model))
    used = [bool(summary.get(key)) for key in ("edges_with_motif", "edges_in_network", "regulons_of_unmeasured_tfs")]
    if model.get("density_ratio") and any(used):
        drawn.append(lambda axis: _association(axis, model, used))
    if not drawn:
        return None
    figure, axes = panels(len(drawn), 3, 2.9, FULL_WIDTH * len(drawn) / 3)
    for axis, draw in zip(axes, drawn, strict=True):
        draw(axis)
    return figure


def reliability(table: pd.DataFrame):
    """Share of true pairs at each level of our score, with intervals and counts; one panel per standard.

    Parameters
    ----------
    table
        dataset (as it shall be called), score_low, score_high, pairs, mean_score, share_true, ci_low, ci_high.
    """
    if table.empty:
        return None
    groups = table.groupby("dataset", sort=False)
    figure, axes = panels(len(groups), 3, 3.3, FULL_WIDTH * min(len(groups), 3) / 3)
    most = table["pairs"].max()
    for axis, (name, rows) in zip(axes, groups, strict=True):
        counts = axis.twinx()
        counts.bar(
            rows["score_low"], rows["pairs"], rows["score_high"] - rows["score_low"], align="edge", color=FAINT, ec="w"
        )
        counts.set(yscale="log", ylim=(0.8, 3 * most), ylabel="Pairs (bars)")
        _plain_numbers(counts.yaxis)
        counts.spines["right"].set_visible(True)
        # The curve lies over the bars.
        axis.set_zorder(counts.get_zorder() + 1)
        axis.patch.set_visible(False)
        axis.plot([0, 1], [0, 1], color=INK, lw=0.8, ls=":")
        # A resampled interval need not hold the value itself.
        reach = [
            (rows["share_true"] - rows["ci_low"]).clip(lower=0),
            (rows["ci_high"] - rows["share_true"]).clip(lower=0),
        ]
        axis.errorbar(rows["mean_score"], rows["share_true"], reach, color=OURS, marker="o", ms=4, lw=1.6, elinewidth=1)
        axis.set(
            title=fill(name, 34), xlabel="Mean score", ylabel="Share that is true", xlim=(0, 1), ylim=(-0.02, 1.02)
        )
    return figure


def _p_values(axis, shown: dict) -> None:
    for name, found in shown.items():
        counts = np.asarray(found["p_counts"], float)
        density = counts / counts.sum() * len(counts)
        label, colour, style = PAIRS[name]
        filled = name == "observed"
        axis.stairs(
            density, found["p_edges"], baseline=None, color=colour, ls=style, lw=1.6, label=label, zorder=2 + filled
        )
        if filled:
            axis.stairs(density, found["p_edges"], color=colour, fill=True, alpha=0.25, lw=0)
    axis.axhline(1, color=CUT, lw=1, label="uniform")
    axis.set(title="P-values", xlabel="p-value", ylabel="Density (1: as by chance)", xlim=(0, 1))
    axis.set_ylim(0, axis.get_ylim()[1] * 1.05)
    axis.grid(axis="y")


def _z_scores(axis, shown: dict) -> None:
    reach = 0.0
    for name, found in shown.items():
        edges, counts = np.asarray(found["z_edges"], float), np.asarray(found["z_counts"], float)
        density = counts / counts.sum() / np.diff(edges)
        label, colour, style = PAIRS[name]
        # Unseen values have no logarithm.
        density[counts == 0] = np.nan
        axis.stairs(density, edges, baseline=None, color=colour, ls=style, lw=1.6, zorder=2 + (name == "observed"))
        reach = max(reach, np.abs(edges[:-1][counts > 0]).max(), np.abs(edges[1:][counts > 0]).max())
    axis.set(title="Association of peak and gene", xlabel="z against matched peaks", ylabel="Density (log scale)")
    axis.set(xlim=(-reach, reach), yscale="log")
    axis.grid()


def _odds(axis, odds: list[dict]) -> None:
    for name, (colour, marker) in CLASSES.items():
        rows = [row for row in odds if row["class"] == name and row["pairs"] >= MIN_PAIRS]
        middle = [(row["from_bp"] + row["to_bp"]) / 2000 for row in rows]
        if rows:
            axis.plot(middle, [row["odds"] for row in rows], color=colour, marker=marker, ms=4, lw=1.6, label=name)
    axis.axhline(1, color=INK, lw=0.8, ls=":")
    axis.set(title="Learnt odds of a link", xlabel="Distance to the TSS (kb)", ylabel="Odds against no target")
    axis.set(xscale="log", yscale="log")
    _plain_numbers(axis.xaxis)
    _plain_numbers(axis.yaxis)
    axis.legend(handlelength=1.4, loc="lower left")
    axis.grid()


def _sites(axis, sites: dict) -> None:
    axis.plot(sites["minus_log10_p"], sites["share"], color=OURS, marker="o", ms=3.5, lw=1.6)
    axis.set(title="Sites that TFs use", xlabel="Motif match (−log10 p)", ylabel="Share of sites", ylim=(0, 1.03))
    axis.grid()


def _support(axis, model: dict) -> None:
    axis.stairs(model["share_by_motif_support"], model["support_edges"], color=OURS, lw=1.6, baseline=None)
    axis.set(title="Supported pairs that are edges", xlabel="Support by motif and link", ylabel="Share of pairs")
    axis.set(ylim=(0, 1.03), xscale="log")
    _plain_numbers(axis.xaxis)
    axis.grid()


def _association(axis, model: dict, used: list[bool]) -> None:
    # The last level ends at p = 0, where there is no logarithm: it is drawn as long as the one before.
    start = -np.log10([1, *model["null_tail"][:-1]])
    borders = np.append(start, 2 * start[-1] - start[-2])
    drawn = np.array(model["density_ratio"])[np.array(used)]
    for (name, colour), ratio, has_edges in zip(SUPPORT, model["density_ratio"], used, strict=True):
        if has_edges:
            axis.stairs(ratio, borders, baseline=None, color=colour, lw=1.6, label=name)
    axis.axhline(1, color=INK, lw=0.8, ls=":")
    axis.set(title="What association says", xlabel="Association of TF and gene (−log10 p)", ylabel="Edges : no edges")
    axis.set(yscale="log", ylim=(min(0.1, drawn.min() / 1.5), max(10, drawn.max() * 1.5)))
    _plain_numbers(axis.yaxis)
    axis.legend()
    axis.grid()


def _plain_numbers(axis) -> None:
    """Write the powers of ten of a logarithmic axis as plain numbers."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
