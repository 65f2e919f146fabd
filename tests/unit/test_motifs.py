"""Motifs: what maps to which gene, and which sites are found."""

import lightmotif
import numpy as np
import pandas as pd
import pysam
import pytest
from anndata import AnnData
from mudata import MuData

import scan_motifs
from regulonformer.errors import InputError
from regulonformer.gene_names import GeneNames
from regulonformer.io.store import write_mudata
from regulonformer.prior import motif_hits, motif_scan, motif_scores, motifs, peak_sequences

SITE = "GATTACAGGC"
REVERSE = "GCCTGTAATC"


def sharp_motif(site=SITE, genes=("TF1",), name="TF1"):
    return motifs.Motif("T1", name, np.array([[100.0 * (base == b) for b in site] for base in "ACGT"]), genes)


def write_genes(folder, genes):
    rna = AnnData(np.ones((3, len(genes)), dtype=np.float32), var=pd.DataFrame(index=genes))
    write_mudata(MuData({"rna": rna}), folder / "multiome.h5mu")
    return folder / "multiome.h5mu"


def write_genome(folder, chromosomes):
    path = folder / "genome.fa"
    path.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in chromosomes.items()))
    pysam.faidx(str(path))
    return path


def test_planted_site_is_found_on_both_strands_and_nowhere_else():
    filler = "T" * 20 + "C" * 20
    sequences = [(filler + SITE + filler), (filler + REVERSE + filler), filler * 2]
    hits = motif_scan.scan([sharp_motif()], [s.encode() for s in sequences], ["a", "b", "c"], 1e-5)
    found = hits.scores.toarray()[0]
    assert found[0] > 5 and found[0] == found[1] and found[2] == 0
    assert hits.counts["tf_peak_pairs"] == 2


def test_a_site_never_crosses_peaks_or_holds_an_n():
    halves = [b"C" * 30 + SITE[:5].encode(), SITE[5:].encode() + b"C" * 30]
    broken = b"C" * 30 + SITE.replace("T", "N", 1).encode() + b"C" * 30
    hits = motif_scan.scan([sharp_motif()], [*halves, broken, b"", b"NNNN"], list("abcde"), 1e-5)
    assert hits.scores.nnz == 0


def test_number_of_chance_hits_is_what_the_p_value_says():
    rng = np.random.default_rng(0)
    chances = [0.35, 0.15, 0.15, 0.35]
    sequences = [rng.choice(np.frombuffer(b"ACGT", np.uint8), 500, p=chances).tobytes() for _ in range(2000)]
    counts = rng.integers(1, 60, (4, 12)).astype(float)
    scorer = motif_scores.Scorer(motifs.Motif("R1", "R", counts, ("R",)), motif_scores.background(sequences), 1e-3)
    text = b"N".join(sequences).decode()
    positions, _ = scorer.sites(lightmotif.stripe(text))
    expected = 2 * 2000 * (500 - 11) * scorer.tail[scorer.tail <= 1e-3][0]
    assert abs(len(positions) - expected) < 6 * np.sqrt(expected)


def test_p_values_equal_enumeration_under_uneven_composition():
    composition = {"A": 0.4, "C": 0.1, "G": 0.1, "T": 0.4, "N": 0.0}
    weights = motif_scores.log_odds(np.array([[5, 0, 2], [1, 9, 2], [1, 1, 2], [3, 0, 4.0]]), composition)
    lowest, tail = motif_scores.score_tail(weights, composition)
    chance = np.array([0.4, 0.1, 0.1, 0.4])
    words = np.array(np.meshgrid(*[range(4)] * 3)).reshape(3, -1)
    scores, p = weights[words, np.arange(3)[:, None]].sum(axis=0), chance[words].prod(axis=0)
    for score in np.unique(scores):
        index = round((score - lowest) / motif_scores.STEP)
        assert tail[index] == pytest.approx(p[scores >= score - 1e-9].sum())


def test_threads_and_blocks_do_not_change_hits(monkeypatch):
    rng = np.random.default_rng(1)
    sequences = [rng.choice(np.frombuffer(b"ACGT", np.uint8), 300).tobytes() for _ in range(60)]
    some = [sharp_motif(), motifs.Motif("R1", "R", rng.integers(0, 60, (4, 9)).astype(float), ("R", "TF1"))]
    whole = motif_scan.scan(some, sequences, range(60), 1e-3)
    monkeypatch.setattr(motif_scan, "BLOCK_BASES", 2000)
    parts = motif_scan.scan(some, sequences, range(60), 1e-3, threads=2)
    assert (whole.scores != parts.scores).nnz == 0 and whole.scores.nnz > 0


def test_a_motif_too_short_for_the_threshold_is_counted():
    hits = motif_scan.scan([sharp_motif("GATT")], [b"GATTGATT" * 10], ["a"], 1e-4)
    assert (
        hits.scores.nnz == 0
        and hits.counts["motifs_too_short_for_p_value"] == 1
        and hits.counts["tfs_without_hits"] == 1
    )


def test_dimers_variants_and_mouse_symbols_map_to_genes():
    named = [sharp_motif(name=name, genes=()) for name in ("FOS::JUN", "RORA(var.2)", "GATA1", "ZNF999")]
    mapped, unmapped = motifs.map_motifs(named, GeneNames(["Jun", "Fos", "Rora", "Gata1", "GATA1"]))
    assert [m.genes for m in mapped] == [("Fos", "Jun"), ("Rora",), ("GATA1",)]
    assert unmapped == ["ZNF999"]


def test_jaspar_is_read_offline_and_an_unknown_release_is_named():
    found = motifs.read_jaspar("JASPAR2024")
    assert len(found) > 800 and found[0].counts.shape[0] == 4
    with pytest.raises(InputError, match="JASPAR1999.*JASPAR2024"):
        motifs.read_jaspar("JASPAR1999")


def test_sequences_count_what_lies_outside(tmp_path):
    fasta = write_genome(tmp_path, {"chr1": "acgtRN" * 10, "chr2": "N" * 50})
    rows = [("chr1", 0, 6), ("chr1", 54, 70), ("chr2", 0, 10), ("chr9", 0, 10), ("chr1", 90, 99)]
    sequences, counts = peak_sequences.read_sequences(fasta, pd.DataFrame(rows, columns=["chrom", "start", "end"]))
    assert sequences[:2] == [b"ACGTNN", b"ACGTNN"] and sequences[3:] == [b"", b""]
    assert counts == {"peaks_without_chromosome": 1, "peaks_beyond_chromosome": 2, "peaks_without_bases": 3}
    with pytest.raises(InputError, match="genome.fa: no peak has sequence.*peaks on 1; genome has chr1"):
        peak_sequences.read_sequences(fasta, pd.DataFrame({"chrom": ["1"], "start": [0], "end": [9]}))


def test_script_writes_the_same_bytes_twice(tmp_path):
    matrix = motifs.read_jaspar("JASPAR2024")
    ctcf = next(m for m in matrix if m.name == "CTCF")
    site = "".join("ACGT"[i] for i in ctcf.counts.argmax(axis=0))
    rng = np.random.default_rng(2)
    noise = "".join(rng.choice(list("ACGT"), 1000))
    fasta = write_genome(tmp_path, {"chr1": noise[:300] + site + noise[300:]})
    (tmp_path / "peaks.bed").write_text("chr1\t200\t400\tchr1-200-400\t0\nchr1\t600\t800\tchr1-600-800\t0\n")
    settings = {"jaspar_release": "JASPAR2024", "motif_p_value": 1e-6}
    multiome = write_genes(tmp_path, ["Ctcf", "Actb"])
    for name in ("one.npz", "two.npz"):
        scan_motifs.main(
            peaks=tmp_path / "peaks.bed",
            fasta=fasta,
            multiome=multiome,
            settings=settings,
            output=tmp_path / name,
            threads=2,
        )
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    hits = motif_hits.read_hits(tmp_path / "one.npz")
    assert list(hits.tfs) == ["Ctcf"] and list(hits.peaks) == ["chr1-200-400", "chr1-600-800"]
    assert hits.scores.toarray()[0, 0] > 6 and hits.scores.toarray()[0, 1] == 0
    assert hits.counts["motifs"] == len(matrix) and len(hits.unmapped) > 700
    with pytest.raises(InputError, match="no motif of JASPAR2024 has a gene here"):
        scan_motifs.main(
            peaks=tmp_path / "peaks.bed",
            fasta=fasta,
            multiome=write_genes(tmp_path, ["ENSG01", "ENSG02"]),
            settings=settings,
            output=tmp_path / "no.npz",
        )


def plain_scan(motif, sequence, composition, p_value):
    """Every site of a motif, position by position: p-values by counting words, scores in full precision."""
    weights = np.log2((motif.counts + 0.1 * base_shares(composition)) / (motif.counts.sum(axis=0) + 0.1))
    weights = weights - np.log2(base_shares(composition))
    width = weights.shape[1]
    words = np.array(np.meshgrid(*[range(4)] * width, indexing="ij")).reshape(width, -1)
    scores = weights[words, np.arange(width)[:, None]].sum(axis=0)
    chance = base_shares(composition)[words, 0].prod(axis=0)
    order = np.argsort(-scores)
    tail = np.cumsum(chance[order])
    code = np.array(["ACGT".index(base) for base in sequence])
    found = {}
    for start in range(len(code) - width + 1):
        window = code[start : start + width]
        for strand, word in (("+", window), ("-", 3 - window[::-1])):
            score = weights[word, np.arange(width)].sum()
            p = tail[np.searchsorted(-scores[order], -score + 1e-9, side="right") - 1]
            if p <= p_value:
                found[strand, start] = p
    return found


def base_shares(composition):
    return np.array([composition[base] for base in "ACGT"])[:, None]


@pytest.mark.parametrize("gc", [0.25, 0.5, 0.7])
def test_sites_equal_those_of_a_plain_scan_in_full_precision(gc):
    rng = np.random.default_rng(3)
    composition = {"A": (1 - gc) / 2, "C": gc / 2, "G": gc / 2, "T": (1 - gc) / 2, "N": 0.0}
    sequence = "".join(rng.choice(list("ACGT"), 4000, p=base_shares(composition)[:, 0]))
    motif = motifs.Motif("R1", "R", rng.integers(0, 40, (4, 7)).astype(float), ("R",))
    scorer = motif_scores.Scorer(motif, composition, 1e-2)
    positions, strength = scorer.sites(lightmotif.stripe(sequence))
    expected = plain_scan(motif, sequence, composition, 1e-2)
    counts = pd.Series([start for _, start in expected]).value_counts()
    assert pd.Series(positions).value_counts().sub(counts, fill_value=0).abs().sum() <= 0.02 * len(expected)
    best = {start: max(-np.log10(p) for (_, s), p in expected.items() if s == start) for start in counts.index}
    ours = pd.Series(strength, positions).groupby(level=0).max()
    shared = ours.index.intersection(list(best))
    np.testing.assert_allclose(ours[shared], pd.Series(best)[shared], atol=0.05)


def test_sites_are_judged_among_peaks_of_similar_gc(monkeypatch):
    """In GC-rich peaks a GC-rich site is less of a surprise than elsewhere."""
    monkeypatch.setattr(motif_scan, "BASES_PER_GROUP", 20_000)
    rng = np.random.default_rng(4)
    gc_rich_site = "GCCGCGGCCG"
    sequences = []
    for gc in (0.3, 0.7):
        shares = [(1 - gc) / 2, gc / 2, gc / 2, (1 - gc) / 2]
        sequences += ["".join(rng.choice(list("ACGT"), 500, p=shares)) + gc_rich_site for _ in range(50)]
    encoded = [sequence.encode() for sequence in sequences]
    groups = motif_scan.gc_groups(encoded)
    assert sorted(np.concatenate(groups).tolist()) == list(range(100)) and set(groups[0]) == set(range(50))
    found = motif_scan.scan([sharp_motif(gc_rich_site)], encoded, range(100), 1e-3).scores.toarray()[0]
    assert found[:50].min() > found[50:].max() + 2
    monkeypatch.setattr(motif_scan, "BASES_PER_GROUP", 1e9)
    alike = motif_scan.scan([sharp_motif(gc_rich_site)], encoded, range(100), 1e-3).scores.toarray()[0]
    assert np.ptp(alike) < 0.5


def test_any_gc_content_gives_frequencies_that_can_be_scanned():
    for n in range(1, 60):
        motif_scores.Scorer(sharp_motif(), motif_scores.background([b"G" * n + b"A" * 37]), 1e-4)


MEME = """MEME version 4

ALPHABET= ACGT

strands: + -

Background letter frequencies
A 0.25 C 0.25 G 0.25 T 0.25

MOTIF MA0139.1 Ctcf
letter-probability matrix: alength= 4 w= 2 nsites= 20 E= 0
 0.5 0.1 0.2 0.2
 0.1 0.7 0.1 0.1

MOTIF GATA1
letter-probability matrix: alength= 4 w= 1 nsites= 10 E= 0
 0.1 0.7 0.1 0.1
"""
JASPAR = ">MA0139.1\tCtcf\nA [10 2]\nC [2 14]\nG [4 2]\nT [4 2]\n>X1 GATA1\nA [1]\nC [7]\nG [1]\nT [1]\n"


@pytest.mark.parametrize("text", [MEME, JASPAR])
def test_motif_files_of_both_formats(tmp_path, text):
    (tmp_path / "motifs.txt").write_text(text)
    found = {motif.name: motif for motif in motifs.read_motifs(tmp_path / "motifs.txt")}
    assert set(found) == {"Ctcf", "GATA1"} and found["Ctcf"].matrix_id == "MA0139.1"
    np.testing.assert_allclose(found["Ctcf"].counts, [[10, 2], [2, 14], [4, 2], [4, 2]])


@pytest.mark.parametrize("text", ["", "hello\nworld\n", ">x\nACGT\n", "a,b\n1,2\n", "MEME version 4\n"])
def test_other_files_are_no_motifs(tmp_path, text):
    (tmp_path / "motifs.txt").write_text(text)
    with pytest.raises(InputError, match="motifs.txt: "):
        motifs.read_motifs(tmp_path / "motifs.txt")


def test_script_scans_motifs_of_a_file(tmp_path):
    site = "".join(np.random.default_rng(5).choice(list("ACGT"), 14))
    rows = "".join(f"{base} [{' '.join('90' if base == b else '1' for b in site)}]\n" for base in "ACGT")
    (tmp_path / "own.jaspar").write_text(f">M1 MYTF\n{rows}>M2 STRANGER\n{rows}")
    fasta = write_genome(tmp_path, {"chr1": "T" * 300 + site + "T" * 300})
    (tmp_path / "peaks.bed").write_text("chr1\t200\t400\tchr1-200-400\t0\n")
    scan_motifs.main(
        peaks=tmp_path / "peaks.bed",
        fasta=fasta,
        multiome=write_genes(tmp_path, ["Mytf", "Actb"]),
        motifs=tmp_path / "own.jaspar",
        settings={"jaspar_release": "JASPAR2024", "motif_p_value": 1e-5},
        output=tmp_path / "hits.npz",
    )
    hits = motif_hits.read_hits(tmp_path / "hits.npz")
    assert list(hits.tfs) == ["Mytf"] and hits.unmapped == ["STRANGER"] and hits.scores.nnz == 1
