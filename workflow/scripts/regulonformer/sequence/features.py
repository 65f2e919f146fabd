"""Sequences of windows, their vectors, and what they sum up to for each gene."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
import pysam

from regulonformer.errors import InputError
from regulonformer.io.store import read_parquet, write_parquet

WINDOWS, PAIRS, VECTORS = "windows.parquet", "pairs.parquet", "vectors.npz"


class Genome:
    """Sequence of a FASTA with its index, upper case; outside the chromosome it is N.

    Parameters
    ----------
    fasta
        Genome with a .fai beside it.
    """

    def __init__(self, fasta) -> None:
        self.path, self._file = str(fasta), pysam.FastaFile(str(fasta))
        self.lengths = dict(zip(self._file.references, self._file.lengths, strict=True))

    def fetch(self, chrom: str, start: int, end: int) -> bytes:
        """Bases of an interval (0-based, half-open); N where there is no sequence."""
        length = self.lengths.get(chrom, 0)
        inside = max(start, 0), min(end, length)
        if inside[0] >= inside[1]:
            return b"N" * (end - start)
        found = self._file.fetch(chrom, *inside).upper().encode()
        return b"N" * (inside[0] - start) + found + b"N" * (end - inside[1])

    def windows(self, windows: pd.DataFrame) -> list[bytes]:
        """Sequence of every window.

        Raises
        ------
        InputError
            If no window has a base: another build, or other chromosome names.
        """
        places = zip(windows["chrom"], windows["start"], windows["end"], strict=True)
        sequences = [self.fetch(*place) for place in places]
        if not any(sequence.strip(b"N") for sequence in sequences):
            theirs, ours = ", ".join(sorted(set(windows["chrom"]))[:3]), ", ".join(list(self.lengths)[:3])
            problem = f"no window has sequence here (windows on {theirs}; genome has {ours})"
            raise InputError(self.path, problem, "Give the genome build of the peaks and of the annotation")
        return sequences


@dataclass
class SequenceFeatures:
    """Vectors of windows, and which window belongs to which gene.

    Attributes
    ----------
    windows
        chrom, start, end, name, has_bases.
    pairs
        window (row), symbol, kind.
    vectors_XW
        Vector of each window; zeros without bases.
    """

    windows: pd.DataFrame
    pairs: pd.DataFrame
    vectors_XW: np.ndarray

    def of_genes(self, symbols) -> tuple[np.ndarray, np.ndarray]:
        """Features of genes: the sum of the vectors of their windows.

        A sum, since each element of a gene adds to what drives it; encoders give what is per element.

        Returns
        -------
        features
            N x W; zeros for genes without sequence.
        has_sequence
            N, bool.
        """
        token = pd.Index(symbols).get_indexer(self.pairs["symbol"])
        window = self.pairs["window"].to_numpy()
        used = (token >= 0) & self.windows["has_bases"].to_numpy()[window]
        features_NW = np.zeros((len(symbols), self.vectors_XW.shape[1]), np.float32)
        np.add.at(features_NW, token[used], self.vectors_XW[window[used]])
        return features_NW, np.isin(np.arange(len(symbols)), token[used])

    def save(self, folder) -> None:
        """Write windows.parquet, pairs.parquet and vectors.npz into a folder that is there."""
        write_parquet(self.windows, folder / WINDOWS)
        write_parquet(self.pairs, folder / PAIRS)
        np.savez_compressed(folder / VECTORS, vectors=self.vectors_XW)

    @classmethod
    def load(cls, folder) -> Self:
        """Read what `save` wrote."""
        with np.load(folder / VECTORS) as stored:
            vectors_XW = stored["vectors"]
        return cls(read_parquet(folder / WINDOWS), read_parquet(folder / PAIRS), vectors_XW)


def encode_windows(encoder, genome: Genome, windows: pd.DataFrame, pairs: pd.DataFrame) -> SequenceFeatures:
    """Read windows with a sequence encoder; those without a known base get zeros."""
    sequences = genome.windows(windows)
    known = np.array([bool(sequence.strip(b"N")) for sequence in sequences])
    vectors_XW = encoder.encode(sequences) * known[:, None].astype(np.float32)
    return SequenceFeatures(windows.assign(has_bases=known), pairs, vectors_XW)
