"""Sequences of peaks."""

import pandas as pd

from regulonformer.errors import InputError

_TO_BASES = bytes.maketrans(b"acgtACGT", b"ACGTACGT")
_OTHERS = bytes(code for code in range(256) if chr(code) not in "ACGTacgt")
_CLEAN = bytes(ord("N") if code in _OTHERS else _TO_BASES[code] for code in range(256))


def read_sequences(fasta, peaks: pd.DataFrame) -> tuple[list[bytes], dict]:
    """Sequence of every peak: upper case, everything but A, C, G, T written as N.

    Parameters
    ----------
    fasta
        Genome with a .fai beside it.
    peaks
        chrom, start, end.

    Returns
    -------
    sequences
        One per peak; empty where the chromosome is not in the genome.
    counts
        Peaks without chromosome, beyond its end, and without any base.

    Raises
    ------
    InputError
        If no peak lies on a chromosome of the genome, or none has a base: another build, or other chromosome names.
    """
    import pysam

    counts = {"peaks_without_chromosome": 0, "peaks_beyond_chromosome": 0, "peaks_without_bases": 0}
    sequences = []
    with pysam.FastaFile(str(fasta)) as genome:
        lengths = dict(zip(genome.references, genome.lengths, strict=True))
        for chrom, start, end in zip(peaks["chrom"], peaks["start"], peaks["end"], strict=True):
            inside = chrom in lengths and start < lengths[chrom]
            sequence = (
                genome.fetch(chrom, start, min(end, lengths[chrom])).encode().translate(_CLEAN) if inside else b""
            )
            counts["peaks_without_chromosome"] += chrom not in lengths
            counts["peaks_beyond_chromosome"] += chrom in lengths and end > lengths[chrom]
            counts["peaks_without_bases"] += not sequence.strip(b"N")
            sequences.append(sequence)
    if counts["peaks_without_bases"] == len(peaks):
        names, known = ", ".join(sorted(set(peaks["chrom"]))[:3]), ", ".join(list(lengths)[:3])
        problem = f"no peak has sequence here (peaks on {names}; genome has {known})"
        raise InputError(
            fasta, problem, "Give the genome build and the chromosome names that the peaks were called with"
        )
    return sequences, counts
