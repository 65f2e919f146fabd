"""Readers and writers of matrices, fragments, peaks, annotations and labels."""

import gzip

import pandas as pd
import pytest

from regulonformer.errors import InputError
from regulonformer.io import annotation, metadata, peaks


def test_cell_ids_are_prefixed_once():
    assert metadata.cell_ids("s1", ["AAA-1", "s1_CCC-1"]).tolist() == ["s1_AAA-1", "s1_CCC-1"]


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


@pytest.mark.parametrize("name", ["p.bed", "p.bed.gz", "p.bed.bgz"])
def test_bed_lines_are_taken_as_they_stand(tmp_path, name):
    """Neither a lone quote, nor a chromosome called NA, nor another name for gzip changes what is read."""
    text = '# head\nchr1\t1\t20\t"odd\nNA\t30\t40\t"b"\nchr2\t1e5\t200000\tnan\n'
    (tmp_path / name).write_bytes(text.encode() if name == "p.bed" else gzip.compress(text.encode()))
    bed = peaks.read_bed(tmp_path / name)
    assert bed["chrom"].tolist() == ["chr1", "NA", "chr2"] and bed["name"].tolist() == ['"odd', '"b"', "nan"]
    assert bed["start"].tolist() == [1, 30, 100_000]


@pytest.mark.parametrize("line", ["chr1 1.7 20", "chr1 1 inf", "chr1 1 99999999999999999999", "chr1 . 5", "chr1 -1 5"])
def test_positions_are_whole_numbers(tmp_path, line):
    (tmp_path / "p.bed").write_text("chr1\t1\t20\n" + line.replace(" ", "\t") + "\n")
    with pytest.raises(InputError, match="p.bed: 1 lines are no interval, first 'chr1 "):
        peaks.read_bed(tmp_path / "p.bed")


@pytest.mark.parametrize("read", [peaks.read_bed, metadata.read_labels])
@pytest.mark.parametrize("damage", ["cut", "changed", "no text"])
def test_damaged_files_are_named(tmp_path, read, damage):
    content = gzip.compress(b"barcode\t1\t20\n" * 5 + bytes(range(32, 127)) * 99)
    contents = {"cut": content[:90], "changed": content[:60] + b"\xff" * 40, "no text": gzip.compress(b"\xff\t1\n")}
    (tmp_path / "a.gz").write_bytes(contents[damage])
    with pytest.raises(InputError, match="a.gz: not a "):
        read(tmp_path / "a.gz")


def test_summits_are_taken_from_narrow_peaks_only(tmp_path):
    """The tenth column of another BED (here: number of exons, a free field) is no summit."""
    for last, is_summit in (("7", True), ("-1", True), ("19", False), (".", False), ("1.5", False), ("7\t1\t0", False)):
        lines = [f"chr1\t1\t20\ta\t5\t.\t1\t2\t3\t{value}\n" for value in ("0\t1\t0" if "\t" in last else "0", last)]
        (tmp_path / "p.bed").write_text("".join(lines))
        bed = peaks.read_bed(tmp_path / "p.bed")
        assert ("summit" in bed) == is_summit, last
        assert not is_summit or bed["summit"].tolist() == [0, int(last)]


def test_too_long_numbers_are_no_interval():
    with pytest.raises(InputError, match="'chr1-1-99999999999999999999' is not an interval"):
        peaks.parse_names(["chr1-1-99999999999999999999"])
    assert peaks.parse_names(["chr1-1-99999999999999999999"], strict=False)["chrom"].tolist() == [""]


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
    cells, notes = metadata.sample_table(SAMPLE, ["AAA-1", "CCC-1"])
    assert notes == []
    assert cells.iloc[0].to_dict() == {
        "sample": "s1", "barcode": "AAA-1", "donor": "s1", "batch": "b", "condition": "", "age": "3",
    }  # fmt: skip
    assert cells.index.tolist() == ["s1_AAA-1", "s1_CCC-1"]


def test_labels_match_barcode_or_cell_id(tmp_path):
    cells, _ = metadata.sample_table(SAMPLE, ["AAA-1", "CCC-1", "GGG-1"])
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
        metadata.join_labels(metadata.sample_table(SAMPLE, ["AAA-1"])[0], tmp_path / "l.tsv")


def test_columns_named_like_measurements_get_another_name(tmp_path):
    cells, notes = metadata.sample_table(SAMPLE | {"frip": "0.4"}, ["AAA-1"])
    assert cells["label_frip"].tolist() == ["0.4"] and "frip" not in cells
    assert notes == ["sample sheet: column 'frip' is stored as 'label_frip', because the ingest writes 'frip' itself"]
    (tmp_path / "l.tsv").write_text("barcode\treason\tfrip\tdoublet_score\nAAA-1\told\t0.3\t9\n")
    joined, notes = metadata.join_labels(cells, tmp_path / "l.tsv")
    assert not {"reason", "frip", "doublet_score"} & set(joined)
    values = joined.iloc[0][["label_reason", "label_frip", "label_label_frip", "label_doublet_score"]].tolist()
    assert values == ["old", "0.4", "0.3", "9"] and len(notes) == 4


def test_quotes_in_labels_neither_join_lines_nor_stay_around_values(tmp_path):
    lines = ['barcode\t"cell_type"', 'AAA-1\t"T', 'CCC-1\t"B cell"', 'GGG-1\t5\' "x"', 'TTT-1\t"NA"', '"GCC-1"\tNA']
    (tmp_path / "l.tsv").write_text("\n".join(lines) + "\n")
    labels = metadata.read_labels(tmp_path / "l.tsv")["cell_type"]
    assert labels.to_dict() == {"AAA-1": '"T', "CCC-1": "B cell", "GGG-1": '5\' "x"', "TTT-1": "", "GCC-1": ""}


def test_barcode_metrics(tmp_path):
    path, header = tmp_path / "per_barcode_metrics.csv", "barcode,atac_raw_reads,atac_dup_reads\n"
    path.write_text(header + "AAA-1,10,4\nAAA-1,10,5\nCCC-1,0,0\nGGG-1,,\n")
    table, notes = metadata.read_barcode_metrics(path, ["CCC-1", "AAA-1", "GGG-1", "TTT-1"])
    assert table["duplication_atac"].fillna(-1).tolist() == [-1, 0.4, -1, -1]
    assert notes == [
        "barcode metrics: 3 of 4 barcodes found",
        "barcode metrics: 1 lines repeat a barcode; the first line of each was used",
    ]
    for text, problem in (
        (header + "AAA-1,10,NaNx\n", "atac_dup_reads of barcode 'AAA-1' is 'NaNx', not a number"),
        (header + 'AAA-1,"1,234",4\n', "atac_raw_reads of barcode 'AAA-1' is '1,234', not a number"),
        (header + "AAA-1,1,234,4\n", "not a readable CSV"),
        ("", "not a readable CSV"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=f"per_barcode_metrics.csv: {problem}"):
            metadata.read_barcode_metrics(path, ["AAA-1"])


@pytest.mark.real_data
def test_real_annotations(real_data):
    folder = real_data / "references/tss"
    for name in ("simba_mm10_genes.bed", "scE2G_hg38_GENCODEv43_genebounds.bed", "ensembl94_GRCh38_chr20_part.gff3.gz"):
        genes, tss = annotation.read_genes(folder / name), annotation.read_tss(folder / name)
        assert genes["gene_id"].is_unique
        assert set(genes["strand"]) <= {"+", "-"}
        assert (genes["start"] < genes["end"]).all()
        assert set(tss["gene_id"]) <= set(genes["gene_id"])
    assert len(annotation.read_tss(folder / "ensembl94_GRCh38_chr20_part.gff3.gz")) > len(genes)
