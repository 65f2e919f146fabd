"""The simulated genome: genes, cis-regulatory elements (CREs) and sequence, written as FASTA and GTF.

Coordinates are 0-based and half-open inside; the GTF is 1-based as the format asks.
"""

import numpy as np
import pandas as pd
import pysam

from regulonformer.errors import InputError
from regulonformer.simulate.motifs import BASES, COMPLEMENT, Motif

GENOME_NAME = "sim"
MITO_NAMES = ("ND1", "ND2", "CO1", "CO2", "ATP8", "ATP6", "CO3", "ND3", "ND4L", "ND4", "ND5", "ND6", "CYB")
MITO_GENES = [f"MT-{name}" for name in MITO_NAMES]
MITO_LENGTH = 16_569
# One CRE per kilobase bin at most, so that neighbouring peaks never touch, whatever a library adds to their borders.
BIN = 1_000
EDGE_BINS = 6
TELOMERE = 2_000
ISOCHORE = 100_000
MAX_DISTANCE_BINS = 99
SITE_SLOT = 20
FASTA_LINE = 60


def place_genes(rng: np.random.Generator, tfs: list[str], settings: dict) -> pd.DataFrame:
    """Place genes along the chromosomes, TFs at random among them, and the mitochondrial genes on chrM.

    Parameters
    ----------
    rng
        Random generator.
    tfs
        Symbols of the TFs; they are the first rows of the table.
    settings
        Keys ``genes``, ``chromosomes``, ``chromosome_mb``.

    Returns
    -------
    DataFrame with one row per gene: gene_id, symbol, chrom, start, end, strand, tss, alt_tss (-1: none).

    Raises
    ------
    InputError
        If the genes do not fit.
    """
    n_genes, n_chroms = settings["genes"], settings["chromosomes"]
    length = int(settings["chromosome_mb"] * 1e6)
    slot_bins = (length // BIN - 2 * EDGE_BINS) // -(-n_genes // n_chroms)
    if slot_bins < 8 or n_genes <= len(tfs):
        raise InputError(
            "config section simulate",
            f"{n_genes} genes with {len(tfs)} TFs do not fit on {n_chroms} chromosomes of {length:,} bp",
            f"Give each gene {8 * BIN:,} bp or more, and have more genes than TFs",
        )
    rank = rng.permutation(n_genes)
    chrom, slot = rank % n_chroms, rank // n_chroms
    body = np.clip(rng.lognormal(np.log(6_000), 0.6, n_genes).astype(int), 2_000, (slot_bins - 3) * BIN)
    forward = rng.random(n_genes) < 0.5
    free = slot_bins - body // BIN - 2
    first_bin = EDGE_BINS + slot * slot_bins + 1 + (rng.random(n_genes) * free).astype(int)
    tss_bin = np.where(forward, first_bin, first_bin + body // BIN)
    tss = tss_bin * BIN + BIN // 2 + rng.integers(-50, 51, n_genes)
    # A second TSS, a third into the gene, in about one long gene of six.
    alternative = (rng.random(n_genes) < 0.17) & (body >= 5_000)
    into = np.where(forward, 1, -1) * (body // 3 // BIN) * BIN
    genes = pd.DataFrame(
        {
            "gene_id": [f"SIMG{number:011d}" for number in range(1, n_genes + 1)],
            "symbol": [*tfs, *_symbols(rng, n_genes - len(tfs))],
            "chrom": [f"chr{number + 1}" for number in chrom],
            "start": np.where(forward, tss, tss + 1 - body),
            "end": np.where(forward, tss + body, tss + 1),
            "strand": np.where(forward, "+", "-"),
            "tss": tss,
            "alt_tss": np.where(alternative, tss + into, -1),
        }
    )
    return pd.concat([genes, _mito_genes(n_genes)], ignore_index=True)


def place_cres(rng: np.random.Generator, genes: pd.DataFrame, settings: dict) -> pd.DataFrame:
    """Place a promoter at each TSS, none to four distal CREs within 100 kb of it, and decoys anywhere.

    Returns
    -------
    DataFrame sorted by position: chrom, start, end, kind (promoter, distal, decoy), gene (row of the gene, -1: none).
    """
    nuclear = genes[genes["chrom"] != "chrM"]
    last_bin = int(settings["chromosome_mb"] * 1e6) // BIN - EDGE_BINS
    rows, taken = [], set()
    for gene, row in nuclear.iterrows():
        upstream = -50 if row["strand"] == "+" else 50
        for tss in (row["tss"], row["alt_tss"]):
            if tss >= 0 and (row["chrom"], tss // BIN) not in taken:
                taken.add((row["chrom"], tss // BIN))
                rows.append((row["chrom"], tss + upstream, "promoter", gene))

    def add_in_free_bin(chrom, wanted, kind, gene) -> None:
        if EDGE_BINS <= wanted < last_bin and (chrom, wanted) not in taken:
            taken.add((chrom, wanted))
            rows.append((chrom, wanted * BIN + BIN // 2 + int(rng.integers(-100, 101)), kind, gene))

    for gene, row in nuclear.iterrows():
        for _ in range(rng.choice(5, p=[0.1, 0.25, 0.3, 0.2, 0.15])):
            # Enhancers thin out with distance; the median is near 18 kb.
            distance = 3 + min(int(rng.exponential(22)), MAX_DISTANCE_BINS - 4)
            add_in_free_bin(row["chrom"], row["tss"] // BIN + int(rng.choice((-1, 1))) * distance, "distal", gene)
    chroms = nuclear["chrom"].unique()
    for _ in range(len(rows) // 10):
        add_in_free_bin(str(rng.choice(chroms)), int(rng.integers(EDGE_BINS, last_bin)), "decoy", -1)
    cres = pd.DataFrame(rows, columns=["chrom", "center", "kind", "gene"])
    half = rng.integers(220, 291, len(cres))
    cres["start"], cres["end"] = cres["center"] - half, cres["center"] + half
    number = cres["chrom"].str.removeprefix("chr").astype(int)
    order = np.lexsort((cres["start"], number))
    return cres.iloc[order].reset_index(drop=True)[["chrom", "start", "end", "kind", "gene"]]


def cre_names(cres: pd.DataFrame) -> np.ndarray:
    """Names ``chr-start-end``."""
    return (cres["chrom"] + "-" + cres["start"].astype(str) + "-" + cres["end"].astype(str)).to_numpy()


def draw_sequences(rng: np.random.Generator, cres: pd.DataFrame, settings: dict) -> dict[str, np.ndarray]:
    """Draw random sequence with isochores (GC varies over 100 kb), CpG-rich promoters and N at the ends.

    Returns
    -------
    dict of chromosome name to ASCII codes (uint8), chrM last.
    """
    length = int(settings["chromosome_mb"] * 1e6)
    sequences = {}
    for number in range(1, settings["chromosomes"] + 1):
        chrom = f"chr{number}"
        blocks = np.clip(rng.normal(0.41, 0.045, -(-length // ISOCHORE)), 0.33, 0.58)
        gc = np.repeat(blocks, ISOCHORE)[:length].astype(np.float32)
        for cre in cres[(cres["chrom"] == chrom) & (cres["kind"] == "promoter")].itertuples():
            gc[cre.start - 100 : cre.end + 100] = 0.6
        sequences[chrom] = _draw_bases(rng, gc)
        sequences[chrom][:TELOMERE] = sequences[chrom][-TELOMERE:] = ord("N")
    sequences["chrM"] = _draw_bases(rng, np.full(MITO_LENGTH, 0.44, dtype=np.float32))
    return sequences


def plant_sites(
    rng: np.random.Generator,
    sequences: dict[str, np.ndarray],
    cres: pd.DataFrame,
    bindings: pd.DataFrame,
    motifs: list[Motif],
) -> pd.DataFrame:
    """Write one or two sites of a TF's motif into each CRE that it binds; the sequences change in place.

    Parameters
    ----------
    bindings
        Columns source (number of the TF) and cre (row of `cres`), one row per TF and CRE.

    Returns
    -------
    DataFrame: source, cre (numbers), chrom, start, end, strand.
    """
    sites = []
    for cre, sources in bindings.groupby("cre")["source"]:
        row = cres.iloc[cre]
        first = (row["start"] + row["end"]) // 2 - 160
        slots = iter(first + SITE_SLOT * rng.permutation(320 // SITE_SLOT))
        wanted = np.repeat(sources.to_numpy(), rng.integers(1, 3, len(sources)))
        # Each TF gets its first site before any TF gets a second one, should the CRE be crowded.
        wanted = wanted[np.argsort(pd.Series(wanted).groupby(wanted).cumcount(), kind="stable")]
        for source, start in zip(wanted, slots, strict=False):
            codes = motifs[source].draw_site(rng)
            forward = rng.random() < 0.5
            codes = codes if forward else COMPLEMENT[codes][::-1]
            sequences[row["chrom"]][start : start + len(codes)] = BASES[codes]
            sites.append((source, cre, row["chrom"], start, start + len(codes), "+" if forward else "-"))
    return pd.DataFrame(sites, columns=["source", "cre", "chrom", "start", "end", "strand"])


def write_fasta(sequences: dict[str, np.ndarray], path) -> None:
    """Write sequences as FASTA with its index beside (``.fai``)."""
    with open(path, "wb") as handle:
        for name, codes in sequences.items():
            handle.write(b">" + name.encode() + b"\n")
            full = len(codes) // FASTA_LINE * FASTA_LINE
            lines = np.full((full // FASTA_LINE, FASTA_LINE + 1), ord("\n"), dtype=np.uint8)
            lines[:, :FASTA_LINE] = codes[:full].reshape(-1, FASTA_LINE)
            handle.write(lines.tobytes())
            if full < len(codes):
                handle.write(codes[full:].tobytes() + b"\n")
    pysam.faidx(str(path))


def write_gtf(genes: pd.DataFrame, path) -> None:
    """Write genes, their transcripts (one per TSS) and exons as GTF, in genome order (chrM last)."""
    with open(path, "w") as handle:
        handle.write(
            "##description: simulated genome, genes placed at random\n##provider: regulonformer\n##format: gtf\n"
        )
        number = genes["chrom"].map(lambda chrom: 10**6 if chrom == "chrM" else int(chrom[3:]))
        for row in genes.iloc[np.lexsort((genes["start"], number))].itertuples():
            handle.writelines(_gtf_lines(row))


def _gtf_lines(gene) -> list[str]:
    name = f'gene_id "{gene.gene_id}"; gene_type "protein_coding"; gene_name "{gene.symbol}";'

    def line(feature: str, start: int, end: int, extra: str = "") -> str:
        fields = (gene.chrom, "simulated", feature, start + 1, end, ".", gene.strand, ".", name + extra)
        return "\t".join(map(str, fields)) + "\n"

    lines = [line("gene", gene.start, gene.end)]
    for number, tss in enumerate([gene.tss] + [gene.alt_tss] * (gene.alt_tss >= 0), start=1):
        start, end = (tss, gene.end) if gene.strand == "+" else (gene.start, tss + 1)
        transcript = f' transcript_id "{gene.gene_id.replace("SIMG", "SIMT")}.{number}";'
        lines.append(line("transcript", start, end, transcript))
        exon = min(200, end - start)
        n_exons = int(np.clip((end - start) // 1_500, 1, 6))
        starts = np.linspace(start, end - exon, n_exons).astype(int) if n_exons > 1 else [start]
        ends = [at + exon for at in starts] if n_exons > 1 else [end]
        exons = list(zip(starts, ends, strict=True))
        for rank, (left, right) in enumerate(exons if gene.strand == "+" else exons[::-1], start=1):
            lines.append(line("exon", left, right, f'{transcript} exon_number "{rank}";'))
    return lines


def _draw_bases(rng: np.random.Generator, gc: np.ndarray) -> np.ndarray:
    uniform = rng.random(len(gc), dtype=np.float32)
    # The unit interval is cut into A | C | G | T with the local GC share in the middle.
    edge = (1 - gc) / 2
    codes = (uniform >= edge).astype(np.uint8)
    codes += uniform >= 0.5
    codes += uniform >= 1 - edge
    return BASES[codes]


def _symbols(rng: np.random.Generator, n: int) -> list[str]:
    """Unique made-up symbols that read like genes and are none."""
    consonants, vowels, first = list("BDFGKLMNPRSTVZ"), list("AEIOU"), list("JQVWXZ")
    symbols: dict[str, None] = {}
    while len(symbols) < n:
        letters = [rng.choice(pool) for pool in (first, vowels, consonants, vowels)]
        symbols["".join(letters) + str(rng.integers(1, 10))] = None
    return list(symbols)


def _mito_genes(n_before: int) -> pd.DataFrame:
    """Mitochondrial genes side by side on chrM."""
    width = MITO_LENGTH // (len(MITO_GENES) + 1)
    start = width * np.arange(len(MITO_GENES)) + width // 2
    ids = [f"SIMG{n_before + number:011d}" for number in range(1, len(MITO_GENES) + 1)]
    columns = {"gene_id": ids, "symbol": MITO_GENES, "chrom": "chrM", "start": start, "end": start + width - 100}
    return pd.DataFrame(columns | {"strand": "+", "tss": start, "alt_tss": -1})
