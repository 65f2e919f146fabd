"""How every figure of the report looks, and how it is written: colours, type, SVG and PNG."""

import re
from contextlib import contextmanager
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_hex, to_rgb

# Okabe & Ito 2008, told apart by the common forms of colour blindness (black is kept for text).
OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442")
# Tol's muted scheme takes over when a variable has more groups than Okabe and Ito have colours.
TOL_MUTED = ("#332288", "#882255", "#117733", "#44AA99", "#999933", "#AA4499", "#DDCC77", "#88CCEE", "#CC6677")
OURS, BASELINE, CUT, MISSING, INK, FAINT = "#0072B2", "#7A8694", "#D55E00", "#D9DEE3", "#1F2933", "#E4E9EE"
RIVAL = "#E69F00"  # the best of the other methods
MARKERS = ("o", "s", "^", "v", "P", "X", "d", "*")
ACTIVATES, REPRESSES, UNSIGNED = "#0072B2", "#D55E00", "#9AA5B1"
MODALITY_COLOURS = {"rna": "#0072B2", "atac": "#E69F00"}
MODALITY_NAMES = {"rna": "RNA", "atac": "ATAC"}
SEQUENTIAL, DIVERGING = "cividis", "PuOr_r"
MATRIX = "Blues"  # one hue on white: read in any colour vision and cheap to print
FULL_WIDTH = 10.0  # inches; the text column of the page at 96 px per inch

THEME = {
    "svg.hashsalt": "regulonformer",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9AA5B1",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": "#52606D",
    "ytick.color": "#52606D",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.facecolor": "white",
}


@contextmanager
def theme():
    """Draw inside with the report's look, whatever the machine's matplotlib settings are."""
    with plt.rc_context():
        plt.rcdefaults()
        plt.rcParams.update(THEME)
        yield
    plt.close("all")


def palette(names) -> dict[str, str]:
    """One colour per group, in the order given; lighter tints once all hues are used.

    Parameters
    ----------
    names
        Names of the groups.
    """
    names = list(names)
    hues = OKABE_ITO if len(names) <= len(OKABE_ITO) else OKABE_ITO + TOL_MUTED
    colours = {}
    for position, name in enumerate(names):
        lap, hue = divmod(position, len(hues))
        tint = 1 - 0.5 ** min(lap, 3)
        colours[name] = to_hex(np.array(to_rgb(hues[hue])) * (1 - tint) + tint)
    return colours


def legend_columns(names, width: float = FULL_WIDTH) -> int:
    """Columns of a legend whose longest name still fits the figure's width (inches), its rows about equally full."""
    most = max(1, min(len(names), int(11.8 * width / (max(map(len, names)) + 5))))
    rows = -(-len(names) // most)
    return -(-len(names) // rows)


def panels(count: int, columns: int, height: float, width: float = FULL_WIDTH, **options):
    """Make a grid of `count` panels without empty ones left visible.

    Returns
    -------
    tuple
        The figure and a flat list of `count` axes.
    """
    columns = min(columns, count)
    rows = -(-count // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(width, rows * height), squeeze=False, **options)
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    return figure, list(axes.flat[:count])


def write_figure(figure, name: str, folder, dpi: int) -> str:
    """Write `name`.svg and `name`.png, and return the SVG ready to stand inside a page.

    Parameters
    ----------
    figure
        A matplotlib figure; it is closed afterwards.
    name
        File stem, also the prefix of the SVG's ids.
    folder
        Folder to write to.
    dpi
        Resolution of the PNG and of points drawn as pixels inside the SVG.
    """
    folder = Path(folder)
    # No date in the metadata: the same figure has the same bytes.
    figure.savefig(folder / f"{name}.svg", dpi=dpi, metadata={"Date": None})
    figure.savefig(folder / f"{name}.png", dpi=dpi)
    plt.close(figure)
    return inline_svg((folder / f"{name}.svg").read_text(), name)


def inline_svg(svg: str, name: str) -> str:
    """Strip what only a stand-alone SVG needs, and make its ids unique on the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(?<=\s)id="', f'id="{name}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    # The page scales figures; only the view box matters.
    return re.sub(r'^<svg([^>]*?)\swidth="[^"]*"', r"<svg\1", re.sub(r'^<svg([^>]*?)\sheight="[^"]*"', r"<svg\1", svg))


def separate_labels(axis, labels, fixed=(), rounds: int = 120) -> None:
    """Push text labels apart until none overlaps, moving each as little as possible.

    Parameters
    ----------
    axis
        Axes that hold the labels.
    labels
        matplotlib texts in data coordinates.
    fixed
        Texts that stay where they are and are avoided.
    rounds
        Most rounds of pushing.
    """
    if not labels:
        return
    axis.figure.canvas.draw()
    boxes = [label.get_window_extent() for label in [*labels, *fixed]]
    order_L = np.arange(len(boxes))
    movable_L = order_L < len(labels)
    size_L2 = np.array([[box.width + 4, box.height + 3] for box in boxes])
    centre_L2 = np.array([[(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2] for box in boxes])
    start_L2 = centre_L2.copy()
    for _ in range(rounds):
        gap_LL2 = centre_L2[:, None] - centre_L2[None]
        overlap_LL2 = (size_L2[:, None] + size_L2[None]) / 2 - np.abs(gap_LL2)
        clash_LL = (overlap_LL2 > 0).all(-1) & ~np.eye(len(boxes), dtype=bool)
        if not clash_LL[movable_L].any():
            break
        # Labels at the same height part in the order in which they came.
        upward_LL = np.where(gap_LL2[..., 1] != 0, np.sign(gap_LL2[..., 1]), np.sign(order_L[:, None] - order_L[None]))
        push_L = (clash_LL * upward_LL * np.minimum(overlap_LL2[..., 1], 6)).sum(1)
        centre_L2[:, 1] += 0.5 * push_L * movable_L
    inverse = axis.transData.inverted()
    for label, old, new in zip(labels, start_L2, centre_L2, strict=False):
        moved = inverse.transform(new) - inverse.transform(old)
        label.set_position(np.asarray(label.get_position()) + moved)
