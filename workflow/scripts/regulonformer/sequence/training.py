"""Train the sequence network on the peaks of the data, with whole chromosomes held out."""

import logging
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor, nn

from regulonformer.log import progress
from regulonformer.sequence.network import SequenceNet, gc_content

BATCH = 64
SCORE_BATCH = 256
BLOCKS = 5
FEWEST_CHROMOSOMES = 3


@dataclass(frozen=True)
class NetSettings:
    """Sizes and budget of the sequence network; the meaning of each is told in the schema, section `sequence`."""

    filter_width: int = 19
    hidden: int = 64
    epochs: int = 30
    learning_rate: float = 1.0e-2
    weight_decay: float = 1.0e-2
    lasso: float = 1.0e-3
    max_windows: int = 30_000
    holdout: float = 0.2
    seed: int = 0

    @classmethod
    def of(cls, section: dict) -> "NetSettings":
        """Take the keys of this class from the section; it has others too."""
        return cls(**{item.name: section[item.name] for item in fields(cls) if item.name in section})


def pseudo_bulk(counts, group: np.ndarray, n_groups: int) -> np.ndarray:
    """Log accessibility of each peak in each cell group, peaks x groups.

    Parameters
    ----------
    counts
        Cells x peaks (sparse).
    group
        Group of each cell, 0 .. n_groups - 1; -1 leaves a cell out.
    n_groups
        Groups G.

    Returns
    -------
    numpy.ndarray
        log of (counts + 1) as if every group had the mean depth of all.
    """
    sums_XG = np.stack([np.asarray(counts[group == g].sum(axis=0)).ravel() for g in range(n_groups)], axis=1)
    depth_G = np.maximum(sums_XG.sum(axis=0), 1)
    return np.log((sums_XG + 1) / depth_G * depth_G.mean())


def split_chromosomes(chrom: np.ndarray, start: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Which windows are held out: whole chromosomes, or blocks of neighbours where there are too few chromosomes.

    Units are drawn at random, and those taken that bring the share held out nearer to the one wanted. Chromosomes that
    cannot come near it, as one large one with some scaffolds, are divided into blocks as well.

    Parameters
    ----------
    chrom, start
        Place of each window.
    share
        Share of the windows held out.
    seed
        Seed of the draw.
    """
    names, chromosome = np.unique(np.asarray(chrom, dtype=str), return_inverse=True)
    held = _draw_units(chromosome, share, seed)
    if len(names) < FEWEST_CHROMOSOMES or not 0.5 * share <= held.mean() <= 1.5 * share:
        order = np.lexsort((start, chromosome))
        block = np.empty(len(order), int)
        block[order] = np.arange(len(order)) * 4 * BLOCKS // max(len(order), 1)
        held = _draw_units(block, share, seed)
    return held


def _draw_units(unit: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Windows of units that are drawn until about a share of all windows is held out (bool)."""
    size, held = np.bincount(unit), []
    for number in np.random.default_rng(seed).permutation(len(size)):
        if size[held].sum() + size[number] / 2 <= share * len(unit):
            held.append(number)
    return np.isin(unit, held)


def train_network(
    onehot_X4L: Tensor, targets_XG: Tensor, train: np.ndarray, motifs: list[Tensor], settings: NetSettings
) -> SequenceNet:
    """Train a network on some windows by squared error of log accessibility, with a group lasso over filters.

    The lasso silences motifs that accessibility does not follow, so that an edit of their sites changes little.

    Parameters
    ----------
    onehot_X4L
        All windows, uint8.
    targets_XG
        Log accessibility of each window in each group.
    train
        Row numbers to train on; more than `max_windows` are thinned out at random.
    motifs
        Log-odds of the motifs that are the filters.
    settings
        Sizes and budget.
    """
    torch.manual_seed(settings.seed)
    net = SequenceNet(len(motifs), settings.filter_width, targets_XG.shape[1], settings.hidden)
    net.start_from(motifs)
    if len(train) > settings.max_windows:
        logging.info("training on %d of %d windows", settings.max_windows, len(train))
        train = np.sort(np.random.default_rng(settings.seed).permutation(train)[: settings.max_windows])
    # Filters do not change, so that windows are scanned once.
    scan_XFP, gc_X = scan_windows(net, onehot_X4L[train])
    targets_XG = targets_XG[train].float()
    with torch.no_grad():
        net.line.bias.copy_(targets_XG.mean(0))
    per_epoch = max(1, len(train) // BATCH)
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    n_steps = settings.epochs * per_epoch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.learning_rate, total_steps=n_steps)
    batches = (rows for _ in range(settings.epochs) for rows in torch.randperm(len(train)).tensor_split(per_epoch))
    for rows in progress(batches, n_steps, "sequence network"):
        optimiser.zero_grad(set_to_none=True)
        predicted_XG = net(scan_XFP[rows].float(), gc_X[rows])
        loss = nn.functional.mse_loss(predicted_XG, targets_XG[rows]) + settings.lasso * net.reach().sum()
        loss.backward()
        optimiser.step()
        schedule.step()
    return net.eval()


def scan_windows(net: SequenceNet, onehot_X4L: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of all filters in windows (X x F x P, in half precision to save memory), and GC content (X)."""
    parts = [(net.scan(part).half(), gc_content(part)) for part in onehot_X4L.split(SCORE_BATCH)]
    scans, contents = zip(*parts, strict=True)
    return torch.cat(scans), torch.cat(contents)


@torch.no_grad()
def predict(net: SequenceNet, onehot_X4L: Tensor) -> np.ndarray:
    """Log accessibility of windows, X x G."""
    return torch.cat([net(net.scan(part), gc_content(part)) for part in onehot_X4L.split(SCORE_BATCH)]).numpy()


def accessibility_scores(predicted_XG: np.ndarray, observed_XG: np.ndarray) -> dict[str, float]:
    """How well log accessibility is predicted: `across_elements` and `across_groups`.

    The first is the correlation over the elements, mean of the groups. The second is the correlation of what is left
    when each element's mean and each group's mean are taken off: which groups an element is open in. A model that
    knows promoters from the rest does well at the first and not at the second.
    """
    pairs = zip(predicted_XG.T, observed_XG.T, strict=True)
    across_elements = float(np.mean([_correlation(p, o) for p, o in pairs]))
    residuals = [
        table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
        for table in (predicted_XG, observed_XG)
    ]
    across_groups = _correlation(*(table.ravel() for table in residuals))
    return {"across_elements": across_elements, "across_groups": across_groups}


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson correlation; zero where one of both does not vary."""
    if one.std() < 1e-12 or other.std() < 1e-12:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])
