"""Readers and writers of matrices, fragments, peaks, annotations and labels."""

import gzip

import h5py
import numpy as np
import pandas as pd
import pytest

from regulonformer.errors import InputError
from regulonformer.io import annotation, fragments, metadata, peaks, tenx

FEATURES = [
    ("ENSG1", "GeneA", "Gene Expression"),
    ("ENSG2", "GeneB", "Gene Expression"),
    ("ENSG3", "GeneB", "Gene Expression"),
    ("chr1:100-200", "chr1:100-200", "Peaks"),
    ("chr2:5-50", "chr2:5-50", "Peaks"),
]
COUNTS = np.array([[1, 0, 2, 3, 0], [0, 4, 0, 0, 5]])  # barcodes x features


def write_h5(path, features=FEATURES, counts=COUNTS, barcodes=("AAA-1", "CCC-1")):
    """A 10x v3 matrix, in which features are rows and barcodes columns."""
    from scipy import sparse

    matrix = sparse.csc_matrix(np.asarray(counts).T)
    ids, names, types = zip(*features, strict=True)
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = np.array(barcodes, "S")
        group["data"], group["indices"], group["indptr"] = matrix.data.astype("i4"), matrix.indices, matrix.indptr
        group["shape"] = np.array(matrix.shape, "i4")
        for key, values in {"id": ids, "name": names, "feature_type": types, "genome": ["x"] * len(ids)}.items():
            group[f"features/{key}"] = np.array(values, "S")
    return path


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1), [3, 0, 4, 1, 2]])
def test_modalities_are_split_by_type_in_any_feature_order(tmp_path, order):
    features = [FEATURES[i] for i in np.arange(5)[order]]
    matrix = tenx.read_10x(write_h5(tmp_path / "m.h5", features, COUNTS[:, order]))
    rna, atac = matrix.rna, matrix.atac
    by_id = pd.DataFrame(rna.X.toarray(), columns=rna.var["gene_id"])
    assert by_id[["ENSG1", "ENSG2", "ENSG3"]].to_numpy().tolist() == COUNTS[:, :3].tolist()
    by_name = pd.DataFrame(atac.X.toarray(), columns=atac.var_names)
    assert by_name[["chr1-100-200", "chr2-5-50"]].to_numpy().tolist() == COUNTS[:, 3:].tolist()
    assert rna.X.dtype == atac.X.dtype == np.int32
    assert atac.var.loc["chr2-5-50"].tolist() == ["chr2", 5, 50]
    assert sorted(rna.var_names) == ["GeneA", "GeneB", "GeneB-1"]
    assert matrix.notes == ["1 repeated gene symbols were made unique with a suffix"]


def test_matrix_without_peaks_keeps_every_gene(tmp_path):
    matrix = tenx.read_10x(write_h5(tmp_path / "m.h5", FEATURES[:3], COUNTS[:, :3]))
    assert matrix.atac is None
    assert matrix.rna.n_vars == 3


def test_bad_matrices_are_told_in_one_line(tmp_path):
    (tmp_path / "text.h5").write_text("no matrix")
    with pytest.raises(InputError, match="text.h5: not a readable 10x HDF5 matrix"):
        tenx.read_10x(tmp_path / "text.h5")
    with pytest.raises(InputError, match="none.h5: file not found"):
        tenx.read_10x(tmp_path / "none.h5")
    with pytest.raises(InputError, match="'AAA-1' occurs more than once"):
        tenx.read_10x(write_h5(tmp_path / "twice.h5", barcodes=("AAA-1", "AAA-1")))
    with pytest.raises(InputError, match="no feature of type 'Gene Expression'"):
        tenx.read_10x(write_h5(tmp_path / "peaks.h5", FEATURES[3:], COUNTS[:, 3:]))


def test_cell_ids_are_prefixed_once():
    assert tenx.cell_ids("s1", ["AAA-1", "s1_CCC-1"]).tolist() == ["s1_AAA-1", "s1_CCC-1"]


def fragment_table():
    rows = [("chr2", 5, 30, "B", 1), ("chr1", 10, 60, "A", 2), ("chr1", 10, 20, "B", 1)]
    return pd.DataFrame(rows, columns=["chrom", "start", "end", "barcode", "count"])


def test_fragments_are_written_sorted_and_read_back(tmp_path):
    path = tmp_path / "f.tsv.gz"
    fragments.write_fragments(fragment_table(), path, header=["id=x", "pipeline=y"])
    assert fragments.chromosomes(path) == ["chr1", "chr2"]
    [batch] = fragments.stream_fragments(path, chromosomes=["chr1"], barcodes=["A", "C", "B"])
    assert batch.chrom.tolist() == [0, 0, -1]
    assert batch.start.tolist() == [10, 10, 5]
    assert batch.end.tolist() == [20, 60, 30]
    assert batch.barcode.tolist() == [2, 0, 2]
    first = path.read_bytes()
    fragments.write_fragments(fragment_table(), path, header=["id=x", "pipeline=y"])
    assert path.read_bytes() == first


def test_batches_add_up_to_the_file(tmp_path):
    table = pd.DataFrame({"chrom": "chr1", "start": np.arange(5000), "end": np.arange(5000) + 9, "barcode": "A"})
    fragments.write_fragments(table, tmp_path / "f.tsv.gz")
    stream = fragments.stream_fragments(tmp_path / "f.tsv.gz", chromosomes=["chr1"], barcodes=["A"], block_bytes=10_000)
    starts = [batch.start for batch in stream]
    assert len(starts) > 5
    assert np.concatenate(starts).tolist() == list(range(5000))


@pytest.mark.parametrize("extra", ["", "\t1", "\t1\t+"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_four_to_six_columns_and_both_line_ends(tmp_path, extra, end):
    path = tmp_path / "f.tsv.gz"
    with gzip.open(path, "wb") as file:
        file.write(f"# comment{end}chr1\t1\t9\tA{extra}{end}chr1\t2\t8\tB{extra}{end}".encode())
    [batch] = fragments.stream_fragments(path, chromosomes=["chr1"], barcodes=["A", "B"])
    assert batch.end.tolist() == [9, 8]
    assert batch.barcode.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("chr1\t1\t9\n", "has 3 columns"),
        ("chr1\t1\t9\tA\t1\nchr1\tx\t9\tA\t1\n", "not a readable fragment file"),
        ("chr1\t1\t9\tA\t1\nchr1\t2\t9\n", "not a readable fragment file"),
        ("chr1\t9\t9\tA\t1\n", "fragment chr1:9-9 is no interval"),
    ],
)
def test_bad_fragments_are_told_in_one_line(tmp_path, text, problem):
    with gzip.open(tmp_path / "f.tsv.gz", "wt") as file:
        file.write(text)
    with pytest.raises(InputError, match=problem):
        list(fragments.stream_fragments(tmp_path / "f.tsv.gz", chromosomes=["chr1"], barcodes=["A"]))


def test_damaged_and_empty_fragment_files(tmp_path):
    fragments.write_fragments(pd.concat([fragment_table()] * 2000), tmp_path / "f.tsv.gz")
    cut = (tmp_path / "f.tsv.gz").read_bytes()[:100]
    (tmp_path / "cut.tsv.gz").write_bytes(cut)
    with pytest.raises(InputError, match="cut.tsv.gz: not a readable fragment file"):
        list(fragments.stream_fragments(tmp_path / "cut.tsv.gz", chromosomes=["chr1"], barcodes=["A"]))
    with gzip.open(tmp_path / "empty.tsv.gz", "wt") as file:
        file.write("# only a comment\n")
    assert list(fragments.stream_fragments(tmp_path / "empty.tsv.gz", chromosomes=["chr1"], barcodes=["A"])) == []
    with pytest.raises(InputError, match="no readable .tbi index"):
        fragments.chromosomes(tmp_path / "cut.tsv.gz")


def test_peak_names_and_bed(tmp_path):
    names = peaks.normalise_names(["chr1:1-20", "chr1-30-40", "HLA-A_x:5-6"])
    assert names.tolist() == ["chr1-1-20", "chr1-30-40", "HLA-A_x-5-6"]
    table = peaks.parse_names(names)
    assert table["chrom"].tolist() == ["chr1", "chr1", "HLA-A_x"]
    assert peaks.peak_names(table).tolist() == names.tolist()
    with pytest.raises(InputError, match="'GeneA' is not an interval"):
        peaks.parse_names(["GeneA"])
    (tmp_path / "p.bed").write_text("# head\ntrack name=x\nchr1\t1\t20\tp1\t7.5\n1\t30\t40\tp2\t1\n")
    bed = peaks.read_bed(tmp_path / "p.bed")
    assert bed["chrom"].tolist() == ["chr1", "1"]
    assert bed["score"].tolist() == [7.5, 1]
    peaks.write_peaks(bed, tmp_path / "q.bed")
    assert (tmp_path / "q.bed").read_text() == "chr1\t1\t20\tchr1-1-20\t7.5\n1\t30\t40\t1-30-40\t1\n"
    (tmp_path / "bad.bed").write_text("chr1\t1\t20\nchr1\t40\t30\n")
    with pytest.raises(InputError, match="1 lines are no interval, first 'chr1 40 30'"):
        peaks.read_bed(tmp_path / "bad.bed")


def test_merging_keeps_peaks_apart_that_only_touch():
    table = pd.DataFrame({"chrom": "chr1", "start": [0, 5, 20, 30], "end": [10, 15, 30, 40]})
    merged = peaks.merge_overlapping(table)
    assert merged[["start", "end"]].to_numpy().tolist() == [[0, 15], [20, 30], [30, 40]]


GTF = """#!genome-build x
chr1\ta\tgene\t101\t200\t.\t+\t.\tgene_id "ENSG00000000001.5"; gene_name "A"; gene_type "protein_coding";
chr1\ta\ttranscript\t101\t200\t.\t+\t.\tgene_id "ENSG00000000001.5"; gene_name "A"; transcript_id "T1";
chr1\ta\ttranscript\t121\t200\t.\t+\t.\tgene_id "ENSG00000000001.5"; gene_name "A"; transcript_id "T2";
chr1\ta\ttranscript\t101\t180\t.\t+\t.\tgene_id "ENSG00000000001.5"; gene_name "A"; transcript_id "T3";
chr2\ta\tgene\t11\t50\t.\t-\t.\tgene_id "ENSG00000000002"; gene_type "lncRNA";
chr2\ta\ttranscript\t11\t50\t.\t-\t.\tgene_id "ENSG00000000002"; transcript_id "T4";
"""


@pytest.mark.parametrize("name", ["genes.gtf", "genes.gtf.gz"])
def test_gtf(tmp_path, name):
    opener = gzip.open if name.endswith("gz") else open
    with opener(tmp_path / name, "wt") as file:
        file.write(GTF)
    genes, tss = annotation.read_genes(tmp_path / name), annotation.read_tss(tmp_path / name)
    assert genes.to_numpy().tolist() == [
        ["ENSG00000000001", "A", "chr1", 100, 200, "+", "protein_coding"],
        ["ENSG00000000002", "ENSG00000000002", "chr2", 10, 50, "-", "lncRNA"],
    ]
    assert tss[["chrom", "tss", "strand"]].to_numpy().tolist() == [
        ["chr1", 100, "+"],
        ["chr1", 120, "+"],
        ["chr2", 49, "-"],
    ]


def test_gff3(tmp_path):
    text = "##gff-version 3\n20\te\tgene\t11\t50\t.\t-\t."
    text += "\tID=gene:ENSG00000000009;Name=B;biotype=protein_coding;gene_id=ENSG00000000009\n"
    text += "20\te\tmRNA\t11\t40\t.\t-\t.\tID=transcript:T1;Parent=gene:ENSG00000000009;transcript_id=T1\n"
    text += "20\te\texon\t11\t40\t.\t-\t.\tParent=transcript:T1\n"
    (tmp_path / "a.gff3").write_text(text)
    assert annotation.read_genes(tmp_path / "a.gff3").to_numpy().tolist() == [
        ["ENSG00000000009", "B", "20", 10, 50, "-", "protein_coding"]
    ]
    assert annotation.read_tss(tmp_path / "a.gff3").to_numpy().tolist() == [["ENSG00000000009", "B", "20", 39, "-"]]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("chr1\t100\t200\tA\t-\n", ["A", "A", "chr1", 199, "-"]),
        ("chr1\t100\t200\tA\t0\t+\n", ["A", "A", "chr1", 100, "+"]),
        (
            "#chr\tstart\tend\tname\tscore\tstrand\tEnsembl_ID\tgene_type\nchr1\t100\t200\tA\t0\t-\tENSG00000000001\tx\n",
            ["ENSG00000000001", "A", "chr1", 199, "-"],
        ),
    ],
)
def test_bed_of_genes(tmp_path, text, first):
    (tmp_path / "g.bed").write_text(text)
    assert annotation.read_tss(tmp_path / "g.bed").iloc[0].tolist() == first


def test_bad_annotations(tmp_path):
    (tmp_path / "a.txt").write_text(GTF)
    with pytest.raises(InputError, match="unknown format"):
        annotation.read_genes(tmp_path / "a.txt")
    (tmp_path / "b.bed").write_text("chr1\t1\t20\tA\tB\n")
    with pytest.raises(InputError, match="strand 'B'"):
        annotation.read_genes(tmp_path / "b.bed")
    with pytest.raises(InputError, match="file not found"):
        annotation.read_tss(tmp_path / "none.gtf")


SAMPLE = {"sample": "s1", "donor": "", "batch": "b", "condition": None, "outs": "x/outs", "genome": "mm10", "age": 3}


def test_sample_sheet_row_becomes_cell_columns():
    cells = metadata.sample_table(SAMPLE, ["AAA-1", "CCC-1"])
    assert cells.iloc[0].to_dict() == {
        "sample": "s1", "barcode": "AAA-1", "donor": "s1", "batch": "b", "condition": "", "age": "3",
    }  # fmt: skip
    assert cells.index.tolist() == ["s1_AAA-1", "s1_CCC-1"]


def test_labels_match_barcode_or_cell_id(tmp_path):
    cells = metadata.sample_table(SAMPLE, ["AAA-1", "CCC-1", "GGG-1"])
    (tmp_path / "l.tsv").write_text("barcode\tcell_type\tbatch\nCCC-1\tT\tz\ns1_AAA-1\tB\tz\nother\tX\tz\n")
    joined, notes = metadata.join_labels(cells, tmp_path / "l.tsv")
    assert joined["cell_type"].tolist() == ["B", "T", ""]
    assert joined["label_batch"].tolist() == ["z", "z", ""]
    assert joined["batch"].tolist() == ["b"] * 3
    assert notes[0] == "labels: 2 of 3 cells matched, 3 lines in the table"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("barcode\tx\nTTT-1\ty\n", "no barcode matches; the labels have 'TTT-1', the matrix 'AAA-1'"),
        ("cell\tx\nAAA-1\ty\n", "no column 'barcode'"),
        ("barcode\tx\nAAA-1\ty\nAAA-1\tz\n", "'AAA-1' occurs more than once"),
    ],
)
def test_bad_labels(tmp_path, text, problem):
    (tmp_path / "l.tsv").write_text(text)
    with pytest.raises(InputError, match=problem):
        metadata.join_labels(metadata.sample_table(SAMPLE, ["AAA-1"]), tmp_path / "l.tsv")


@pytest.mark.real_data
def test_real_matrices_and_annotations(real_data):
    mop = tenx.read_10x(real_data / "multiome/mop_snareseq/09A/outs/filtered_feature_bc_matrix.h5")
    assert (mop.rna.shape, mop.atac.shape) == ((813, 1677), (813, 25734))
    k562 = tenx.read_10x(real_data / "multiome/k562_chr22p/outs/filtered_feature_bc_matrix.h5")
    assert k562.rna.shape == (500, 62757)
    assert k562.atac is None
    folder = real_data / "references/tss"
    for name in ("simba_mm10_genes.bed", "scE2G_hg38_GENCODEv43_genebounds.bed", "ensembl94_GRCh38_chr20_part.gff3.gz"):
        genes, tss = annotation.read_genes(folder / name), annotation.read_tss(folder / name)
        assert genes["gene_id"].is_unique
        assert set(genes["strand"]) <= {"+", "-"}
        assert (genes["start"] < genes["end"]).all()
        assert set(tss["gene_id"]) <= set(genes["gene_id"])
    assert len(annotation.read_tss(folder / "ensembl94_GRCh38_chr20_part.gff3.gz")) > len(genes)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["bpcells_mini_fragments", "czi_fragments", "snapatac2_fragments_clean"])
def test_real_fragment_files_are_read_to_the_end(real_data, name):
    path = real_data / "fragments" / f"{name}.tsv.gz"
    with gzip.open(path, "rt") as file:
        lines = [line for line in file if not line.startswith("#")]
    n = sum(len(batch.start) for batch in fragments.stream_fragments(path, chromosomes=[], barcodes=[]))
    assert n == len(lines)
