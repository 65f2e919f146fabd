"""From matrices, genome and motifs to a trained sequence network and what it predicts of held-out chromosomes."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from regulonformer.prior.motif_scores import background, log_odds
from regulonformer.sequence.encoders import EmbeddedEncoder
from regulonformer.sequence.features import Genome
from regulonformer.sequence.groups import cell_groups
from regulonformer.sequence.network import SequenceNet
from regulonformer.sequence.onehot import one_hot
from regulonformer.sequence.training import NetSettings, predict, pseudo_bulk, split_chromosomes, train_network
from regulonformer.sequence.windows import centred


class NetworkFit(NamedTuple):
    """A trained network with its data: X windows about the peaks, G cell groups.

    Attributes
    ----------
    net
        Network.
    group
        Group of each cell.
    windows, sequences
        Places and bases of all windows.
    targets_XG
        Log accessibility of all windows.
    train, judged
        Rows of the windows with bases: trained on, and on held-out chromosomes.
    held_out
        Names of these chromosomes.
    predicted_XG
        What the network predicts of `judged`.
    """

    net: SequenceNet
    group: np.ndarray
    windows: pd.DataFrame
    sequences: list[bytes]
    targets_XG: np.ndarray
    train: np.ndarray
    judged: np.ndarray
    held_out: list[str]
    predicted_XG: np.ndarray

    def encoder(self, about: dict | None = None) -> EmbeddedEncoder:
        """The network as an encoder of windows; `about` goes into its config.json."""
        length = int(self.windows["end"].iloc[0] - self.windows["start"].iloc[0])
        names = [f"group{number}" for number in range(self.targets_XG.shape[1])]
        return EmbeddedEncoder(self.net, length, names, about)


def fit_network(data, genome: Genome, motifs, section: dict) -> NetworkFit:
    """Group cells, read the windows about the peaks, and train the network with some chromosomes held out.

    Parameters
    ----------
    data
        MuData with `rna` and `atac`.
    genome
        Genome of the peaks.
    motifs
        Motifs that are the filters.
    section
        Section `sequence`.

    Raises
    ------
    InputError
        If no peak lies in the genome.
    """
    atac, options = data.mod["atac"], NetSettings.of(section)
    with threadpool_limits(1):  # sums of several threads differ in their last bits
        group = cell_groups(data, section["groups"], options.seed)
    windows = centred(atac.var, section["window_bp"])
    sequences = genome.windows(windows)
    known = np.array([bool(sequence.strip(b"N")) for sequence in sequences])
    targets_XG = pseudo_bulk(atac.X, group, group.max() + 1)
    held = split_chromosomes(windows["chrom"], windows["start"], options.holdout, options.seed)
    train, judged = np.flatnonzero(known & ~held), np.flatnonzero(known & held)
    composition = background([sequence for sequence, is_known in zip(sequences, known, strict=True) if is_known])
    odds = [torch.from_numpy(log_odds(motif.counts, composition)) for motif in motifs]
    onehot_X4L = one_hot(sequences, section["window_bp"])
    net = train_network(onehot_X4L, torch.from_numpy(targets_XG), train, odds, options)
    predicted_XG = predict(net, onehot_X4L[judged]) if len(judged) else targets_XG[judged]
    held_out = sorted(windows["chrom"][held].unique())
    return NetworkFit(net, group, windows, sequences, targets_XG, train, judged, held_out, predicted_XG)
