"""Figures of the prior and of what the model makes of it: links, the network, regulons per group of cells."""

import matplotlib.patheffects as effects
import networkx as nx
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from regulonformer.report.figures.cells import UNLABELLED, as_groups, group_order, point_size
from regulonformer.report.figures.network_layout import place_regulons
from regulonformer.report.style import (
    ACTIVATES,
    DIVERGING,
    FULL_WIDTH,
    INK,
    MISSING,
    REPRESSES,
    SEQUENTIAL,
    UNSIGNED,
    panels,
    separate_labels,
)

SIGNS = {
    1: ("activates", ACTIVATES, "-"),
    -1: ("represses", REPRESSES, (0, (4, 2))),
    0: ("sign unknown", UNSIGNED, "-"),
}
MOST_Z = 2.5  # activities beyond this have the colours of the ends


def edge_table(regulons: pd.DataFrame) -> pd.DataFrame:
    """One row per TF and target: the best score over CREs and the sign of that row."""
    edges = regulons.sort_values("score", ascending=False, kind="stable").drop_duplicates(["source", "target"])
    return edges.assign(sign=np.sign(edges["sign"].fillna(0)).astype(int) if "sign" in edges else 0)


def strongest_tfs(regulons: pd.DataFrame, count: int) -> list[str]:
    """TFs with the largest summed score over their targets."""
    total = edge_table(regulons).groupby("source")["score"].sum().reset_index()
    return total.sort_values(["score", "source"], ascending=[False, True])["source"].head(count).tolist()


def regulon_overview(regulons: pd.DataFrame, links: pd.DataFrame | None):
    """Link distances, links per gene and targets per TF; every candidate link counts with its probability."""
    edges = edge_table(regulons)
    have_links = links is not None and len(links) > 0
    figure, axes = panels(3 if have_links else 2, 3, 2.7, FULL_WIDTH if have_links else FULL_WIDTH * 0.7)
    if have_links:
        _link_distances(axes[0], links)
        _counts(axes[1], links.groupby("gene")["score"].sum(), "CREs per gene", "Expected CREs", "Genes")
    else:
        _counts(axes[0], edges.groupby("target").size(), "TFs per gene", "TFs", "Genes")
    _counts(axes[-1], edges.groupby("source").size(), "Targets per regulon", "Target genes", "Regulons")
    return figure


def regulon_network(regulons: pd.DataFrame, tfs: list[str], targets_per_tf: int = 8, seed: int = 0):
    """Picture of the strongest regulons: TFs as discs, their best targets around them.

    Parameters
    ----------
    regulons
        Regulon table.
    tfs
        TFs to draw.
    targets_per_tf
        Best-scored targets drawn per TF.
    seed
        Seed of the layout.
    """
    edges = edge_table(regulons)
    edges = (
        edges[edges["source"].isin(tfs) & (edges["source"] != edges["target"])]
        .groupby("source", sort=False)
        .head(targets_per_tf)
    )
    graph = nx.DiGraph()
    graph.add_nodes_from(tf for tf in tfs if tf in set(edges["source"]))
    graph.add_edges_from((row.source, row.target, {"sign": row.sign}) for row in edges.itertuples())
    hubs = [tf for tf in tfs if tf in graph]
    layout = place_regulons(graph, hubs, seed)
    figure, (axis,) = panels(1, 1, 0.7 + 2.2 * layout.rows)
    axis.set_axis_off()
    axis.set(xlim=layout.x_range, ylim=layout.y_range)
    _network_legend(figure, sorted(set(edges["sign"]), reverse=True))
    _draw_edges(axis, graph, layout.positions)
    genes = np.array([layout.positions[node] for node in graph if node not in hubs]).reshape(-1, 2)
    axis.scatter(*genes.T, s=24, color="#CBD2D9", ec="white", lw=0.6, zorder=3)
    axis.scatter(
        *np.array([layout.positions[tf] for tf in hubs]).T, s=620, color="#FFD27A", ec="#B7791F", lw=1.1, zorder=4
    )
    _label_nodes(axis, graph, layout, hubs)
    return figure


def activity_maps(
    coordinates: pd.DataFrame,
    activity: pd.DataFrame,
    groups: pd.Series,
    stands_out: dict[str, str],
    max_cells: int,
    seed: int = 0,
):
    """Map of the cells, one panel per regulon, coloured by its activity, standardised over cells.

    Parameters
    ----------
    coordinates
        x, y indexed by cell.
    activity
        Cells x regulons.
    groups
        Group of each cell.
    stands_out
        Regulon -> group in which it stands out; its name is written into the panel.
    max_cells
        Most cells drawn.
    seed
        Seed of the subsample and of the drawing order.
    """
    z = (activity - activity.mean()) / activity.std().replace(0, 1)
    cells = np.random.default_rng(seed).permutation(coordinates.index.intersection(activity.index))[:max_cells]
    points = coordinates.loc[cells]
    figure, axes = panels(activity.shape[1], 4, 2.6)
    for axis, tf in zip(axes, activity, strict=True):
        drawn = axis.scatter(
            points["x"], points["y"], c=z.loc[cells, tf], s=point_size(len(cells)), lw=0, cmap=SEQUENTIAL,
            vmin=-MOST_Z, vmax=MOST_Z, rasterized=True,
        )  # fmt: skip
        axis.set(title=tf, xticks=[], yticks=[])
        axis.spines[["left", "bottom"]].set_color(MISSING)
        mine = points[(groups.reindex(cells) == stands_out.get(tf)).to_numpy()]
        if len(mine):
            label = axis.text(*mine.median(), stands_out[tf], ha="center", va="center", fontsize=8, fontweight="bold")
            label.set_path_effects([effects.withStroke(linewidth=2.4, foreground="white")])
    figure.colorbar(drawn, ax=axes, label="Activity (z-score over cells)", shrink=0.7, pad=0.01, extend="both")
    return figure


def regulon_attention(attention: pd.DataFrame, groups: pd.Series, per_group: int = 3):
    """Heat map: attention of the cell token to each regulon, per group of cells, standardised over groups.

    Parameters
    ----------
    attention
        Cells x regulons.
    groups
        Group of each cell; cells without a label are no group.
    per_group
        Regulons picked per group, by how far they stand out there.
    """
    mean = attention.groupby(as_groups(groups.reindex(attention.index))).mean()
    mean = mean.loc[[name for name in group_order(pd.Series(mean.index)) if name != UNLABELLED]]
    spread = mean.std(ddof=0)
    z = ((mean - mean.mean()) / spread.where(spread > 0)).dropna(axis=1)
    if len(z) < 2 or z.empty:
        return None
    # Regulons that hardly vary would be noise blown up by the standardisation.
    varied = (spread / mean.mean().abs().clip(lower=1e-12)).reindex(z.columns)
    stands_out = z * varied.clip(upper=varied.quantile(0.9))
    columns = list(dict.fromkeys(name for group in z.index for name in stands_out.loc[group].nlargest(per_group).index))
    figure, (axis,) = panels(1, 1, 1.5 + 0.27 * len(z))
    image = axis.imshow(z[columns], aspect="auto", cmap=DIVERGING, vmin=-2.5, vmax=2.5, interpolation="nearest")
    axis.set_xticks(
        range(len(columns)), columns, rotation=60 if len(columns) > 30 else 45, ha="right", rotation_mode="anchor"
    )
    axis.set_yticks(range(len(z)), z.index)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    figure.colorbar(image, ax=axis, label="z-score over groups", shrink=0.9, pad=0.01)
    return figure


def _link_distances(axis, links: pd.DataFrame) -> None:
    distance_kb = links["distance"].to_numpy(float) / 1000
    reach = max(1.0, np.ceil(np.abs(distance_kb).max()))
    bins = np.linspace(-reach, reach, 61)
    promoter = links["is_promoter"].to_numpy(bool)
    parts, weights = ([values[~promoter], values[promoter]] for values in (distance_kb, links["score"].to_numpy(float)))
    look = {"color": ["#56B4E9", "#E69F00"], "label": ["distal", "promoter"], "lw": 0}
    axis.hist(parts, bins, weights=weights, stacked=True, **look)
    axis.set(title="Distance of CRE to TSS", xlabel="Distance (kb; negative: upstream)", ylabel="Expected links")
    axis.legend(handlelength=1)
    axis.grid(axis="y")


def _counts(axis, counts: pd.Series, title: str, xlabel: str, ylabel: str) -> None:
    top = counts.max()
    whole = pd.api.types.is_integer_dtype(counts)
    bins = np.arange(0.5, top + 1.5) if whole and top <= 40 else np.linspace(0.5 * whole, top + 0.5 * whole, 31)
    axis.hist(counts, bins, color="#8AA4B8", lw=0, rwidth=0.9)
    axis.axvline(counts.median(), color=INK, lw=1.2, ls=":")
    axis.set_ylim(top=1.12 * axis.get_ylim()[1])  # room for the words above the bars
    axis.text(counts.median(), axis.get_ylim()[1] * 0.99, f" median {counts.median():.3g}", va="top", fontsize=8)
    axis.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axis.grid(axis="y")


def _network_legend(figure, signs: list[int]) -> None:
    handles = [Line2D([], [], color=SIGNS[sign][1], ls=SIGNS[sign][2], lw=1.6) for sign in signs]
    handles += [Line2D([], [], marker="o", ls="", ms=11, color="#FFD27A", mec="#B7791F")]
    handles += [Line2D([], [], marker="o", ls="", ms=5, color="#CBD2D9")]
    names = [SIGNS[sign][0] for sign in signs] + ["TF", "target gene"]
    figure.legend(handles, names, loc="outside lower center", ncols=len(names))


def _draw_edges(axis, graph, positions) -> None:
    for source, target, sign in graph.edges(data="sign"):
        _, colour, style = SIGNS[sign]
        head = "-[,widthB=0.3,lengthB=0" if sign < 0 else "-|>" if sign > 0 else "-"
        arrow = {"arrowstyle": head, "color": colour, "lw": 1.1, "ls": style, "alpha": 0.8, "mutation_scale": 8}
        arrow |= {"shrinkA": 12, "shrinkB": 4, "connectionstyle": "arc3,rad=0.04"}
        axis.annotate("", positions[target], positions[source], arrowprops=arrow)


def _label_nodes(axis, graph, layout, hubs) -> None:
    """TF names on their discs; names of own targets point outwards, those of shared targets stand above them."""
    halo = [effects.withStroke(linewidth=2, foreground="white")]
    for tf in hubs:
        size = 8.5 if len(tf) <= 6 else 7
        axis.text(*layout.positions[tf], tf, ha="center", va="center", fontsize=size, fontweight="bold", zorder=6)
    own, shared = [], []
    for node in (node for node in graph if node not in hubs):
        x, y = layout.positions[node]
        if node in layout.angles:
            right = np.cos(layout.angles[node])
            side = "left" if right > 0.3 else "right" if right < -0.3 else "center"
            level = "center" if side != "center" else "bottom" if np.sin(layout.angles[node]) > 0 else "top"
            x, y = x + 0.028 * np.sign(right) * (side != "center"), y + 0.035 * {"bottom": 1, "top": -1}.get(level, 0)
            own.append(
                axis.text(x, y, node, ha=side, va=level, fontsize=7, color="#3E4C59", zorder=5, path_effects=halo)
            )
        else:
            shared.append(
                axis.text(
                    x,
                    y + 0.035,
                    node,
                    ha="center",
                    va="bottom",
                    fontsize=7,
                    color="#3E4C59",
                    zorder=5,
                    path_effects=halo,
                )
            )
    separate_labels(axis, shared, fixed=own)
