"""Transcription factors of the simulation: real JASPAR motifs, unlike each other, and sites drawn from them."""

from dataclasses import dataclass

import numpy as np

from regulonformer.errors import InputError

BASES = np.frombuffer(b"ACGT", dtype=np.uint8)
COMPLEMENT = np.array([3, 2, 1, 0])
MIN_BITS, MIN_WIDTH, MAX_WIDTH = 9.5, 7, 18
MAX_SIMILARITY, MIN_OVERLAP = 0.8, 6
# Best of a few draws: sites under selection are stronger than the average of the sequences that a motif was built from.
DRAWS_PER_SITE = 4
# Well-known regulators of cell identity come first, so that the regulons of the demo have familiar names.
FAMILIAR = """
    GATA1 SPI1 CEBPA RUNX1 PAX6 EBF1 TCF7 IRF4 STAT1 TP53 REST CTCF POU5F1 SOX2 KLF4 MYC NFKB1 MEF2C HNF4A HNF1A
    FOXA2 PAX5 TBX21 RFX5 NFIA TEAD1 JUN MAFB E2F1 NRF1 YY1 ETS1 SREBF2 ESRRB NR3C1 ATOH1 ASCL1 MYOD1 ZEB1 SNAI2
    GFI1 BCL6 ONECUT1 CDX2 HOXA9 HOXD13 MEIS1 PBX3 OTX2 LHX2 NKX2-1 SRF ELK1 PPARG RXRA VDR ESR1 AR TFAP2A TFAP2C
    GRHL2 ATF4 CREB1 NFE2L2 HSF1 SMAD3 ZIC1 GLI2 SIX1 EGR1 SP1 PROX1 NFYA PRDM1 IKZF1 ZNF143 CLOCK MITF USF1 MAX
    HES1 MYB RORA NR2F2 POU2F2 POU3F2 POU4F1 MECOM WT1 ZBTB7A ZNF263 PLAG1 TFEB FLI1 ERG XBP1 HLF DBP TEF NFIL3 ATF2
    STAT3 STAT6
"""


@dataclass(frozen=True)
class Motif:
    """One TF motif.

    Attributes
    ----------
    symbol
        Gene symbol of the TF.
    matrix_id
        JASPAR identifier with version.
    probabilities
        Base probabilities, width x 4 (A, C, G, T).
    """

    symbol: str
    matrix_id: str
    probabilities: np.ndarray

    @property
    def bits(self) -> float:
        """Information content over a uniform background, in bits."""
        return float((2 + (self.probabilities * np.log2(self.probabilities)).sum(axis=1)).sum())

    def score(self, codes: np.ndarray) -> np.ndarray:
        """Log-odds in bits of sequences of the motif's width, coded 0..3; codes is ... x width."""
        log_odds = np.log2(self.probabilities / 0.25)
        return log_odds[np.arange(len(log_odds)), codes].sum(axis=-1)

    def draw_site(self, rng: np.random.Generator) -> np.ndarray:
        """Draw one site from the motif: codes 0..3, width long."""
        cumulative = self.probabilities.cumsum(axis=1)[:, :-1]
        uniform = rng.random((DRAWS_PER_SITE, len(cumulative), 1))
        sites = (uniform > cumulative).sum(axis=-1)
        return sites[self.score(sites).argmax()]


def choose_motifs(n_tfs: int, release: str) -> list[Motif]:
    """Choose TFs with one informative human motif each, no two motifs alike.

    Familiar TFs are tried first, then all others by symbol, so the choice depends on the release alone.

    Parameters
    ----------
    n_tfs
        Number of TFs.
    release
        JASPAR release as pyjaspar names it, for instance ``JASPAR2024``. No network is needed.

    Raises
    ------
    InputError
        If the release has not enough dissimilar motifs.
    """
    available = _human_motifs(release)
    rest = sorted(set(available) - set(FAMILIAR.split()))
    chosen: list[Motif] = []
    for symbol in [*FAMILIAR.split(), *rest]:
        if len(chosen) == n_tfs:
            break
        motif = available.get(symbol)
        if motif and all(similarity(motif, other) < MAX_SIMILARITY for other in chosen):
            chosen.append(motif)
    if len(chosen) < n_tfs:
        raise InputError(
            "config key simulate.tfs",
            f"{n_tfs} TFs asked for, but {release} has {len(chosen)} mutually dissimilar motifs",
            f"Ask for {len(chosen)} TFs or fewer",
        )
    return chosen


def similarity(one: Motif, other: Motif) -> float:
    """Highest column-wise Pearson correlation over all offsets (six columns or more overlap) and both strands."""
    best = -1.0
    # Each column sums to one, so the mean is 1/4 whatever the overlap.
    left, reverse = one.probabilities - 0.25, other.probabilities[::-1, ::-1] - 0.25
    for right in (reverse[::-1, ::-1], reverse):
        for shift in range(MIN_OVERLAP - len(right), len(left) - MIN_OVERLAP + 1):
            a = left[max(shift, 0) : len(right) + shift].ravel()
            b = right[max(-shift, 0) : len(left) - shift].ravel()
            best = max(best, float(a @ b / np.sqrt((a @ a) * (b @ b))))
    return best


def _human_motifs(release: str) -> dict[str, Motif]:
    """Most informative CORE motif per human TF, within the limits on width and information."""
    from pyjaspar import jaspardb

    records = jaspardb(release=release).fetch_motifs(collection="CORE", tax_group=["vertebrates"], species=["9606"])
    best: dict[str, Motif] = {}
    for record in records:
        # Dimers such as "FOS::JUN" have no single gene behind them.
        if "::" in record.name or not record.name.isupper() or not MIN_WIDTH <= record.length <= MAX_WIDTH:
            continue
        counts = np.array([record.counts[base] for base in "ACGT"]).T + 0.25
        motif = Motif(record.name, record.matrix_id, counts / counts.sum(axis=1, keepdims=True))
        known = best.get(motif.symbol)
        if motif.bits >= MIN_BITS and (known is None or (motif.bits, motif.matrix_id) > (known.bits, known.matrix_id)):
            best[motif.symbol] = motif
    return best
