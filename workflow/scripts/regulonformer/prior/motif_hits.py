"""Motif hits: the best site of every TF in every peak, as a table in memory and on disk."""

from dataclasses import dataclass, field

import numpy as np
from scipy import sparse


@dataclass
class MotifHits:
    """Best motif site per TF and peak.

    Attributes
    ----------
    scores
        TFs x peaks, csr float32: -log10 p of the best site of any of the TF's motifs on either strand.
    tfs, peaks
        Names of rows and columns.
    motif_ids
        Per TF, its matrices, comma-separated.
    counts
        What was read, mapped and left out.
    unmapped
        Names of motifs without a gene.
    """

    scores: sparse.csr_matrix
    tfs: np.ndarray
    peaks: np.ndarray
    motif_ids: np.ndarray
    counts: dict = field(default_factory=dict)
    unmapped: list = field(default_factory=list)


def write_hits(hits: MotifHits, path) -> None:
    """Write motif hits as npz: the parts of a csr matrix, names, counts."""
    matrix = hits.scores
    np.savez_compressed(
        path,
        data=matrix.data,
        indices=matrix.indices,
        indptr=matrix.indptr,
        shape=np.array(matrix.shape),
        tfs=hits.tfs.astype(str),
        peaks=hits.peaks.astype(str),
        motif_ids=hits.motif_ids.astype(str),
        count_names=np.array(sorted(hits.counts), dtype=str),
        count_values=np.array([hits.counts[name] for name in sorted(hits.counts)], dtype=float),
        unmapped=np.array(hits.unmapped, dtype=str),
    )


def read_hits(path) -> MotifHits:
    """Read what `write_hits` wrote."""
    with np.load(path) as stored:
        scores = sparse.csr_matrix((stored["data"], stored["indices"], stored["indptr"]), shape=tuple(stored["shape"]))
        names = [stored[key].astype(object) for key in ("tfs", "peaks", "motif_ids")]
        values = (int(v) if v == int(v) else float(v) for v in stored["count_values"])
        counts = dict(zip(stored["count_names"].tolist(), values, strict=True))
        return MotifHits(scores, *names, counts, stored["unmapped"].tolist())
