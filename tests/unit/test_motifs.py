"""Motifs: what maps to which gene, and which sites are found."""

import numpy as np
import pandas as pd
import pysam
import pytest
from anndata import AnnData
from mudata import MuData

import scan_motifs
from regulonformer.errors import InputError
from regulonformer.io.store import write_mudata
from regulonformer.prior import motifs

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
    hits = motifs.scan([sharp_motif()], [s.encode() for s in sequences], ["a", "b", "c"], 1e-5)
    found = hits.scores.toarray()[0]
    assert found[0] > 5 and found[0] == found[1] and found[2] == 0
    assert hits.counts["tf_peak_pairs"] == 2


def test_a_site_never_crosses_peaks_or_holds_an_n():
    halves = [b"C" * 30 + SITE[:5].encode(), SITE[5:].encode() + b"C" * 30]
    broken = b"C" * 30 + SITE.replace("T", "N", 1).encode() + b"C" * 30
    hits = motifs.scan([sharp_motif()], [*halves, broken, b"", b"NNNN"], list("abcde"), 1e-5)
    assert hits.scores.nnz == 0


def test_number_of_chance_hits_is_what_the_p_value_says():
    rng = np.random.default_rng(0)
    chances = [0.35, 0.15, 0.15, 0.35]
    sequences = [rng.choice(np.frombuffer(b"ACGT", np.uint8), 500, p=chances).tobytes() for _ in range(2000)]
    counts = rng.integers(1, 60, (4, 12)).astype(float)
    scorer = motifs.Scorer(motifs.Motif("R1", "R", counts, ("R",)), motifs.background(sequences), 1e-3)
    text = b"N".join(sequences).decode()
    positions, _ = scorer.sites(motifs.lightmotif.stripe(text))
    expected = 2 * 2000 * (500 - 11) * scorer.tail[scorer.tail <= 1e-3][0]
    assert abs(len(positions) - expected) < 6 * np.sqrt(expected)


def test_p_values_equal_enumeration_under_uneven_composition():
    composition = {"A": 0.4, "C": 0.1, "G": 0.1, "T": 0.4, "N": 0.0}
    weights = motifs.log_odds(np.array([[5, 0, 2], [1, 9, 2], [1, 1, 2], [3, 0, 4.0]]), composition)
    lowest, tail = motifs.score_tail(weights, composition)
    chance = np.array([0.4, 0.1, 0.1, 0.4])
    words = np.array(np.meshgrid(*[range(4)] * 3)).reshape(3, -1)
    scores, p = weights[words, np.arange(3)[:, None]].sum(axis=0), chance[words].prod(axis=0)
    for score in np.unique(scores):
        index = round((score - lowest) / motifs.STEP)
        assert tail[index] == pytest.approx(p[scores >= score - 1e-9].sum())


def test_threads_and_blocks_do_not_change_hits(monkeypatch):
    rng = np.random.default_rng(1)
    sequences = [rng.choice(np.frombuffer(b"ACGT", np.uint8), 300).tobytes() for _ in range(60)]
    some = [sharp_motif(), motifs.Motif("R1", "R", rng.integers(0, 60, (4, 9)).astype(float), ("R", "TF1"))]
    whole = motifs.scan(some, sequences, range(60), 1e-3)
    monkeypatch.setattr(motifs, "BLOCK_BASES", 2000)
    parts = motifs.scan(some, sequences, range(60), 1e-3, threads=2)
    assert (whole.scores != parts.scores).nnz == 0 and whole.scores.nnz > 0


def test_a_motif_too_short_for_the_threshold_is_counted():
    hits = motifs.scan([sharp_motif("GATT")], [b"GATTGATT" * 10], ["a"], 1e-4)
    assert (
        hits.scores.nnz == 0
        and hits.counts["motifs_too_short_for_p_value"] == 1
        and hits.counts["tfs_without_hits"] == 1
    )


def test_dimers_variants_and_mouse_symbols_map_to_genes():
    named = [sharp_motif(name=name, genes=()) for name in ("FOS::JUN", "RORA(var.2)", "GATA1", "ZNF999")]
    mapped, unmapped = motifs.map_motifs(named, ["Jun", "Fos", "Rora", "Gata1", "GATA1"])
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
    sequences, counts = motifs.read_sequences(fasta, pd.DataFrame(rows, columns=["chrom", "start", "end"]))
    assert sequences[:2] == [b"ACGTNN", b"ACGTNN"] and sequences[3:] == [b"", b""]
    assert counts == {"peaks_without_chromosome": 1, "peaks_beyond_chromosome": 2, "peaks_without_bases": 3}
    with pytest.raises(InputError, match="genome.fa: no peak has sequence.*peaks on 1; genome has chr1"):
        motifs.read_sequences(fasta, pd.DataFrame({"chrom": ["1"], "start": [0], "end": [9]}))


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
    hits = motifs.read_hits(tmp_path / "one.npz")
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
