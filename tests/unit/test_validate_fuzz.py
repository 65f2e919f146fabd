"""Damaged and random files end as findings: never as a traceback, and never unnoticed."""

import gzip
import random
import string

import h5py
import numpy as np
import pysam
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regulonformer.io.peaks import read_bed
from regulonformer.validate import annotation, builds, genes, labels, peaks
from regulonformer.validate.barcodes import affixes, naming_hint
from regulonformer.validate.bgzf import sample_text
from regulonformer.validate.findings import ERROR, Findings
from regulonformer.validate.fragments import FragmentSample, read_fragments, scan_lines
from regulonformer.validate.matrix import judge_matrix

BARCODES = ["".join(random.Random(i).choices("ACGT", k=16)) + "-1" for i in range(30)]
LINES = [
    f"{chrom}\t{100 * i}\t{100 * i + 50}\t{name}\t1" for chrom in ("chr1", "chr2") for i, name in enumerate(BARCODES)
]
QUICK = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def errors(findings):
    return [finding.code for finding in findings if finding.level == ERROR]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def sound(folder):
    """A sound fragment file, as bytes, with its index beside it."""
    path = folder / "f.tsv.gz"
    with pysam.BGZFile(str(path), "wb") as handle:
        handle.write(("\n".join(LINES) + "\n").encode())
    pysam.tabix_index(str(path), preset="bed", force=True)
    findings = Findings()
    read_fragments(path, findings)
    assert list(findings) == []
    return path, path.read_bytes()


def judge_bytes(sound, content):
    path, _ = sound
    path.write_bytes(content)
    findings = Findings()
    read_fragments(path, findings)
    return findings


# ---- fragments -------------------------------------------------------------------------------------------------------


def test_fragments_cut_at_any_byte_are_never_taken(sound):
    whole = sound[1]
    for length in range(len(whole)):
        assert errors(judge_bytes(sound, whole[:length])), length


@QUICK
@given(data=st.data())
def test_flipped_bits_are_noticed_or_change_nothing(sound, data):
    """Some bits of a gzip header mean nothing (time, operating system): then the text must be the same as before."""
    whole = sound[1]
    at, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
    spoilt = bytearray(whole)
    spoilt[at] ^= 1 << bit
    if not errors(judge_bytes(sound, bytes(spoilt))):
        assert gzip.decompress(bytes(spoilt)) == gzip.decompress(whole)


@QUICK
@given(content=st.binary(max_size=400))
def test_random_bytes_are_no_fragments(sound, content):
    assert errors(judge_bytes(sound, content))


@QUICK
@given(text=st.text(string.printable, min_size=1, max_size=300))
def test_random_text_in_bgzip_is_no_fragment_file(sound, text):
    path, _ = sound
    with pysam.BGZFile(str(path), "wb") as handle:
        handle.write(text.encode())
    findings = Findings()
    sample = read_fragments(path, findings)
    assert errors(findings) or sample.n_fragments


@QUICK
@given(content=st.binary(max_size=300))
def test_random_index_is_no_index(sound, content):
    path, whole = sound
    index = path.with_name("f.tsv.gz.tbi")
    kept = index.read_bytes()
    try:
        index.write_bytes(content)
        assert errors(judge_bytes(sound, whole))
    finally:
        index.write_bytes(kept)


FRAGMENT = st.tuples(
    st.sampled_from(["chr1", "chr2", "chr3"]), st.integers(0, 10**6), st.integers(1, 500), st.sampled_from(BARCODES)
)


@QUICK
@given(rows=st.lists(FRAGMENT, min_size=1, max_size=60), cut=st.integers(0, 60))
def test_sorted_fragments_pass_in_any_pieces_and_only_sorted_ones(rows, cut):
    def scan(rows):
        lines = [f"{chrom}\t{start}\t{start + length}\t{name}\n".encode() for chrom, start, length, name in rows]
        sample = FragmentSample()
        scan_lines([b"".join(lines[:cut]), b"".join(lines[cut:])], sample)
        return sample

    in_order = sorted(rows, key=lambda row: row[:2])
    sample = scan(in_order)
    assert sample.faults == {} and sample.n_fragments == len(rows)
    assert sample.ends == {c: max(s + w for name, s, w, _ in rows if name == c) for c in {row[0] for row in rows}}
    starts = {chrom: [s for c, s, _, _ in rows if c == chrom] for chrom in {row[0] for row in rows}}
    runs = [chrom for i, (chrom, *_) in enumerate(rows) if i == 0 or rows[i - 1][0] != chrom]
    is_sorted = len(runs) == len(set(runs)) and all(values == sorted(values) for values in starts.values())
    assert ("unsorted" in scan(rows).faults) != is_sorted


@QUICK
@given(block=st.binary(max_size=3000))
def test_bgzip_text_comes_back_whole(folder, block):
    path = folder / "text.gz"
    with pysam.BGZFile(str(path), "wb") as handle:
        handle.write(block)
    assert b"".join(sample_text(path, 4)) == block


# ---- tables ----------------------------------------------------------------------------------------------------------

ANYTHING = st.one_of(
    st.binary(max_size=300),
    st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.text("chr1\t\n 0123456789-.eE\"'#", max_size=300).map(str.encode),
    st.text('barcode\t\n,"ACGT-1', max_size=300).map(str.encode),
)


@QUICK
@given(content=ANYTHING, packed=st.booleans())
def test_any_bytes_as_bed(folder, content, packed):
    path = folder / ("p.bed.gz" if packed else "p.bed")
    path.write_bytes(gzip.compress(content)[: 10_000 if len(content) % 2 else -4] if packed else content)
    findings = Findings()
    table = peaks.read_given_peaks(path, findings)
    assert bool(errors(findings)) == (table is None or table.empty)
    if table is not None:
        peaks.judge_order(table, path, findings)
        assert len(read_bed(path)) == len(table)


@QUICK
@given(content=ANYTHING)
def test_any_bytes_as_labels_and_metrics(folder, content):
    path = folder / "labels.tsv"
    path.write_bytes(content)
    findings = Findings()
    table = labels.judge_labels(path, "a", frozenset(BARCODES), findings)
    assert (table is not None and table.index.isin(BARCODES).any()) or errors(findings)
    findings = Findings()
    labels.judge_barcode_metrics(path, frozenset(BARCODES), findings)
    assert findings


@QUICK
@given(content=ANYTHING, name=st.sampled_from(["g.gtf", "g.gff3", "g.bed", "g.gtf.gz", "g.txt"]))
def test_any_bytes_as_annotation(folder, content, name):
    path = folder / name
    path.write_bytes(content)
    findings = Findings()
    head = annotation.read_annotation_head(path, findings)
    assert head.ends or errors(findings)


@QUICK
@given(length=st.integers(0, 2000))
def test_annotation_cut_at_any_byte(folder, length):
    records = "".join(f'chr1\tX\tgene\t{i + 1}\t{i + 9}\t.\t+\t.\tgene_id "G{i}";\n' for i in range(500))
    whole = gzip.compress(records.encode())
    path = folder / "cut.gtf.gz"
    path.write_bytes(whole[: min(length, len(whole) - 1)])
    findings = Findings()
    annotation.read_annotation_head(path, findings)
    assert errors(findings)


@QUICK
@given(content=ANYTHING)
def test_any_bytes_as_genome_network_and_tfs(folder, content):
    names = genes.GeneNames(["GENE1", "GENE2"])
    path = folder / "genome.fa"
    for file in (path, folder / "genome.fa.fai"):
        file.write_bytes(content)
    findings = Findings()
    assert builds.judge_genome(path, findings) is None or errors(findings)
    for judge in (
        lambda found: genes.judge_network(path, names, ["A"], found),
        lambda found: genes.judge_tfs(path, names, found),
    ):
        findings = Findings()
        judge(findings)
        assert errors(findings)


@QUICK
@given(content=st.binary(max_size=200), layout=st.sampled_from(["m.h5", "m.mtx", "m.h5ad"]))
def test_any_bytes_as_matrix(folder, content, layout):
    path = folder / layout
    path.write_bytes(content)
    findings = Findings()
    assert judge_matrix({"matrix": str(path), "fragments": None}, findings) == (None, 0)
    assert errors(findings) == ["matrix.unreadable"]


@pytest.fixture(scope="module")
def h5(folder):
    """A sound 10x h5, as bytes."""
    with h5py.File(folder / "sound.h5", "w") as file:
        names = {"id": [b"I"], "name": [b"G"], "feature_type": [b"Gene Expression"], "genome": [b"g"]}
        matrix = {"barcodes": [name.encode() for name in BARCODES], "data": [1] * 30, "indices": [0] * 30}
        matrix |= {"indptr": range(31), "shape": [1, 30]} | {f"features/{key}": name for key, name in names.items()}
        for key, values in matrix.items():
            file[f"matrix/{key}"] = np.array(values)
    findings = Findings()
    assert judge_matrix({"matrix": str(folder / "sound.h5"), "fragments": "f"}, findings)[1] == 30
    assert not errors(findings)
    return (folder / "sound.h5").read_bytes()


@QUICK
@given(data=st.data())
def test_cut_and_spoilt_h5(folder, h5, data):
    path = folder / "spoilt.h5"
    path.write_bytes(h5[: data.draw(st.integers(0, len(h5) - 1))])
    findings = Findings()
    judge_matrix({"matrix": str(path), "fragments": None}, findings)
    assert errors(findings)
    spoilt = bytearray(h5)
    for _ in range(20):
        spoilt[data.draw(st.integers(0, len(h5) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(spoilt)
    judge_matrix({"matrix": str(path), "fragments": None}, Findings())


@QUICK
@given(data=st.data())
def test_flipped_bits_in_gzip_tables_are_noticed_or_change_nothing(folder, data):
    """Every reader meets the errors of zlib, which are no OSError."""
    text = "".join(f"chr1\t{100 * i}\t{100 * i + 50}\n" for i in range(300)).encode()
    whole = gzip.compress(text, mtime=0)
    spoilt = bytearray(whole)
    spoilt[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    mex = folder / "mex"
    mex.mkdir(exist_ok=True)
    (mex / "barcodes.tsv").write_text("A\n")
    (mex / "features.tsv").write_text("I\tG\tGene Expression\n")
    for name in ("p.bed.gz", "n.tsv.gz", "g.gtf.gz", "mex/matrix.mtx.gz", "mex/barcodes.tsv.gz"):
        (folder / name).write_bytes(spoilt)
    findings = Findings()
    table = peaks.read_given_peaks(folder / "p.bed.gz", findings)
    assert errors(findings) or len(table) == 300
    for judge in (
        lambda found: genes.judge_network(folder / "n.tsv.gz", genes.GeneNames(["A"]), ["A"], found),
        lambda found: annotation.read_annotation_head(folder / "g.gtf.gz", found),
        lambda found: judge_matrix({"matrix": str(mex), "fragments": "f"}, found),
    ):
        findings = Findings()
        judge(findings)
        assert errors(findings)


@QUICK
@given(text=st.text("%Matrixket codngrl\n0123 ", max_size=80))
def test_any_text_as_mtx(folder, text):
    mex = folder / "plain"
    mex.mkdir(exist_ok=True)
    (mex / "barcodes.tsv").write_text("A\n")
    (mex / "features.tsv").write_text("I\tG\tGene Expression\n")
    (mex / "matrix.mtx").write_text(text)
    findings = Findings()
    _, stored = judge_matrix({"matrix": str(mex), "fragments": "f"}, findings)
    assert stored > 0 or errors(findings)


# ---- properties ------------------------------------------------------------------------------------------------------

PLACES = st.tuples(st.sampled_from(["chr1", "chr2"]), st.integers(0, 60), st.integers(1, 20))


@QUICK
@given(places=st.lists(PLACES, min_size=1, max_size=25))
def test_peaks_are_judged_as_by_comparing_all_pairs(places):
    import pandas as pd

    table = pd.DataFrame([(c, s, s + w) for c, s, w in places], columns=["chrom", "start", "end"])
    findings = Findings()
    peaks.judge_order(table, "p.bed", findings)
    codes = {finding.code for finding in findings}
    distinct = set(table.itertuples(index=False, name=None))
    overlap = any(a < b and a[0] == b[0] and a[1] < b[2] and b[1] < a[2] for a in distinct for b in distinct)
    assert ("peaks.overlapping" in codes) == overlap


AFFIX = st.text("abcxyz_#-0123", max_size=6)


@QUICK
@given(prefixes=st.tuples(AFFIX, AFFIX), suffixes=st.tuples(AFFIX, AFFIX))
def test_the_hint_names_what_turns_one_barcode_into_the_other(prefixes, suffixes):
    dna = [name.removesuffix("-1") for name in BARCODES]
    ours, theirs = (
        [f"{prefix}{name}{suffix}" for name in dna] for prefix, suffix in zip(prefixes, suffixes, strict=True)
    )
    assert affixes(ours) == (prefixes[0], suffixes[0])
    hint = naming_hint(ours, theirs, "labels")
    assert (hint == "") == (ours == theirs)
    for kind, (mine, wanted) in (("prefix", prefixes), ("suffix", suffixes)):
        assert (f"the {kind}" in hint) == (mine != wanted)
        assert mine == wanted or not wanted or repr(wanted) in hint
