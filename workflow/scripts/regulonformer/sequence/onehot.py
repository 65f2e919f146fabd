"""DNA as one-hot tensors. Shape suffixes of this room: X windows, L positions, F filters, G cell groups, W width."""

import numpy as np
import torch
from torch import Tensor

BASES = "ACGT"
_ROW_OF = np.full(256, len(BASES), np.uint8)
for _row, _base in enumerate(BASES):
    _ROW_OF[[ord(_base), ord(_base.lower())]] = _row


def one_hot(sequences: list[bytes], length: int) -> Tensor:
    """One-hot bases, X x 4 x L (uint8); what is no A, C, G, T, and what is missing at the end, is zero in all rows.

    Parameters
    ----------
    sequences
        ASCII; longer ones are cut on both sides alike, shorter ones are padded on both sides alike.
    length
        Positions L.
    """
    codes_XL = np.full((len(sequences), length), len(BASES), np.uint8)
    for row, sequence in zip(codes_XL, sequences, strict=True):
        found = _ROW_OF[np.frombuffer(sequence, np.uint8)]
        cut = max(0, len(found) - length) // 2
        found = found[cut : cut + length]
        start = (length - len(found)) // 2
        row[start : start + len(found)] = found
    table = np.vstack([np.eye(len(BASES), dtype=np.uint8), np.zeros((1, len(BASES)), np.uint8)])
    return torch.from_numpy(np.ascontiguousarray(table[codes_XL].transpose(0, 2, 1)))


def reverse_complement(onehot_X4L: Tensor) -> Tensor:
    """The other strand: rows A, C, G, T change places with T, G, C, A and positions run backwards."""
    return onehot_X4L.flip(1, 2)
