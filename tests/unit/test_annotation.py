"""The annotation as the rule reads it: real files, odd files, and the tables that later steps take."""

import gzip

import pandas as pd
import pytest

import read_annotation
from regulonformer.io import annotation
from regulonformer.io.store import read_json

GENE = 'chr1\tx\tgene\t{start}\t{end}\t.\t{strand}\t.\tgene_id "{id}"; gene_name "{name}"; gene_type "x";\n'
PARTS = '\tx\texon\t101\t150\t.\t+\t.\tgene_id "ENSG00000000001.5"; transcript_id "T"; exon_number "1";\n'


def write(folder, name, text):
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def run(folder, path):
    files = {name: folder / f"{name}.parquet" for name in ("genes", "tss")}
    read_annotation.main(annotation=path, **files, summary=folder / "summary.json")
    return pd.read_parquet(files["genes"]), pd.read_parquet(files["tss"]), read_json(folder / "summary.json")


def test_the_rule_writes_genes_starts_and_counts(tmp_path):
    genes = [
        {"start": 101, "end": 200, "strand": "+", "id": "ENSG00000000001.5", "name": "A"},
        {"start": 301, "end": 400, "strand": "-", "id": "ENSG00000000002.1", "name": "A"},
        {"start": 501, "end": 600, "strand": "-", "id": "ENSG00000000003", "name": ""},
    ]
    text = "".join(GENE.format(**gene) + "chr1" + PARTS for gene in genes)
    table, tss, summary = run(tmp_path, write(tmp_path, "genes.gtf.gz", "#!build\n" + text))
    assert table["gene_id"].tolist() == ["ENSG00000000001", "ENSG00000000002", "ENSG00000000003"]
    assert table["symbol"].tolist() == ["A", "A", "ENSG00000000003"]
    assert tss["tss"].tolist() == [100, 399, 599]
    assert (summary["genes"], summary["ids_without_symbol"], summary["genes_with_a_shared_symbol"]) == (3, 1, 2)
    assert summary["shared_symbols"] == ["A"]


def test_blocks_do_not_change_what_is_read(tmp_path, monkeypatch):
    transcript = '1\tx\ttranscript\t{0}\t{1}\t.\t+\t.\tgene_id "G{2}"; transcript_id "T{0}";\n'
    lines = []
    for number in range(40):
        lines.append(f'1\tx\tgene\t{number + 1}\t{number + 90}\t.\t+\t.\tgene_id "G{number}"; gene_name "S{number}";\n')
        lines += [transcript.format(number + shift, number + 90, number) for shift in (1, 5)]
    path = write(tmp_path, "a.gtf", "".join(lines))
    whole = annotation.read_annotation(path)
    monkeypatch.setattr(annotation, "BLOCK_LINES", 7)
    parts = annotation.read_annotation(path)
    assert (len(whole.genes), len(whole.tss)) == (40, 80)
    pd.testing.assert_frame_equal(whole.genes, parts.genes)
    pd.testing.assert_frame_equal(whole.tss, parts.tss)


def test_a_clone_name_is_no_version(tmp_path):
    # AC012345.1 and AC012345.2 are two genes of two names; only Ensembl ids have versions.
    path = write(tmp_path, "g.bed", "chr1\t1\t9\tAC012345.1\t+\nchr1\t20\t29\tAC012345.2\t+\n")
    assert annotation.read_annotation(path).genes["gene_id"].tolist() == ["AC012345.1", "AC012345.2"]
    ids = ["ENSG00000000001.12", "ENSMUSG00000000001.3", "ENSG00000182378.15_PAR_Y", "Y47D3A.22", "ENSG00000000001"]
    assert annotation.without_version(ids).tolist() == [
        "ENSG00000000001",
        "ENSMUSG00000000001",
        "ENSG00000182378_PAR_Y",
        "Y47D3A.22",
        "ENSG00000000001",
    ]


def test_a_symbol_at_two_places_keeps_both_starts(tmp_path):
    path = write(tmp_path, "g.bed", "chr1\t100\t200\tA\t+\nchr2\t300\t400\tA\t-\n")
    genes, tss, summary = run(tmp_path, path)
    assert genes["chrom"].tolist() == ["chr1"] and tss["tss"].tolist() == [100, 399]
    assert summary["repeated_ids"] == 1


@pytest.mark.real_data
def test_the_real_gtf_reads_like_the_whole_file(real_data):
    import pyranges

    path = real_data / "references/tss/ensembl_mm10_chr17.gtf.gz"
    found = annotation.read_annotation(path)
    lines = pyranges.read_gtf(str(path), as_df=True)
    genes = lines[lines["Feature"] == "gene"]
    assert found.genes["gene_id"].tolist() == genes["gene_id"].tolist()
    assert found.genes["start"].tolist() == genes["Start"].tolist()
    transcripts = lines[lines["Feature"] == "transcript"]
    site = transcripts["Start"].where(transcripts["Strand"] == "+", transcripts["End"] - 1)
    starts = set(zip(transcripts["gene_id"], site, strict=True))
    assert set(zip(found.tss["gene_id"], found.tss["tss"], strict=True)) == starts
