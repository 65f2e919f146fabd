"""Where in windows the sites of TF motifs lie."""

import lightmotif
import numpy as np
import pandas as pd

from regulonformer.prior.motif_scores import Scorer, background
from regulonformer.prior.motifs import Motif

# Sites of a TF that is lost, and of motifs that are scrambled.
SITE_P_VALUE = 1.0e-4


def find_sites(motifs: list[Motif], sequences: list[bytes], p_value: float) -> pd.DataFrame:
    """Sites of motifs on both strands.

    Parameters
    ----------
    motifs
        Count matrices.
    sequences
        One per window.
    p_value
        Threshold per position and strand, as in `prior.motif_scan.scan`.

    Returns
    -------
    pandas.DataFrame
        motif (position in the list), window, start, end (within the window), minus_log10_p; sorted, and a place once
        per motif, whichever strand it is better on.
    """
    lengths = np.array([len(sequence) + 1 for sequence in sequences], dtype=np.int64)
    first = np.cumsum(lengths) - lengths
    text = lightmotif.stripe(b"".join(sequence + b"N" for sequence in sequences).decode())
    composition, parts = background(sequences), []
    for number, motif in enumerate(motifs):
        scorer = Scorer(motif, composition, p_value)
        if np.isinf(scorer.cutoff):
            continue
        position, strength = scorer.sites(text)
        window = np.searchsorted(first, position, side="right") - 1
        start = position - first[window]
        width = motif.counts.shape[1]
        columns = {"motif": number, "window": window, "start": start, "end": start + width}
        parts.append(pd.DataFrame(columns | {"minus_log10_p": strength}))
    names = ["motif", "window", "start", "end", "minus_log10_p"]
    table = pd.concat(parts) if parts else pd.DataFrame(columns=names)
    table = table.sort_values([*names[:3], "minus_log10_p"], ascending=[True, True, True, False])
    return table.drop_duplicates(names[:3]).reset_index(drop=True)
