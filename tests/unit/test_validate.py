"""Every check of the inputs: a library without a fault says nothing, and each fault is found, named and given a fix."""

import gzip
import os
import re
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pysam
import pytest

from regulonformer.io.matrix import MatrixHeader
from regulonformer.io.store import read_json
from regulonformer.validate import builds, resources
from regulonformer.validate.barcodes import naming_hint
from regulonformer.validate.bgzf import EOF_BLOCK, READ_WHOLE, sample_text
from regulonformer.validate.findings import Findings
from regulonformer.validate.fragments import SAMPLED_BLOCKS
from regulonformer.validate.judge import judge_inputs
from regulonformer.validate.libraries import Library

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"
GENES = [f"GENE{i}" for i in range(30)]
IDS = [f"ENSG{i:011d}" for i in range(30)]
PEAKS = [("chr1", 1000 * i, 1000 * i + 500) for i in range(1, 21)] + [("chr2", 5000, 5500)]
BARCODES = [f"{''.join(np.random.default_rng(i).choice(list('ACGT'), 16))}-1" for i in range(40)]


def write_matrix(path, *, genes=GENES, ids=IDS, peaks=PEAKS, barcodes=BARCODES, value=1, order="genes", **features):
    """Write a 10x v3 h5 in which every count is `value`."""
    rows = [(gene_id, gene, "Gene Expression", "GRCh38") for gene_id, gene in zip(ids, genes, strict=True)]
    places = [f"{chrom}:{start}-{end}" for chrom, start, end in peaks]
    rows_of_peaks = [(name, name, "Peaks", "GRCh38") for name in places]
    rows = rows + rows_of_peaks if order == "genes" else rows_of_peaks + rows
    columns = dict(zip(("id", "name", "feature_type", "genome"), zip(*rows, strict=True), strict=True)) | features
    n_cells, n_features = len(barcodes), len(rows)
    with h5py.File(path, "w") as file:
        matrix = file.create_group("matrix")
        matrix["barcodes"] = np.array(barcodes, dtype="S")
        matrix["data"] = np.full(n_cells * n_features, value)
        matrix["indices"] = np.tile(np.arange(n_features), n_cells)
        matrix["indptr"] = np.arange(n_cells + 1) * n_features
        matrix["shape"] = np.array([n_features, n_cells], dtype=np.int32)
        for name, values in columns.items():
            matrix[f"features/{name}"] = np.array(values, dtype="S")


def fragment_lines(barcodes=BARCODES):
    """Sorted fragments of two chromosomes, all barcodes on both."""
    return [
        f"{chrom}\t{1000 + i}\t{1100 + i}\t{name}\t1" for chrom in ("chr1", "chr2") for i, name in enumerate(barcodes)
    ]


def write_fragment_lines(path, lines, index=True):
    """Compress lines with bgzip as they are, and index them if they can be."""
    with pysam.BGZFile(str(path), "wb") as handle:
        handle.write(("\n".join(lines) + "\n").encode())
    if index:
        pysam.tabix_index(str(path), preset="bed", force=True)


class Inputs:
    """The inputs of one library, which a test may spoil, and the verdict on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.matrix, self.fragments = folder / "matrix.h5", folder / "fragments.tsv.gz"
        self.peaks, self.labels, self.metrics = folder / "peaks.bed", folder / "labels.tsv", folder / "metrics.csv"
        self.annotation, self.fasta = folder / "genes.gtf", folder / "genome.fa"
        self.network, self.tfs, self.blacklist = folder / "network.csv", folder / "tfs.txt", folder / "blacklist.bed"
        write_matrix(self.matrix)
        write_fragment_lines(self.fragments, fragment_lines())
        self.write_peaks(PEAKS)
        self.labels.write_text("barcode\tstate\n" + "".join(f"{b}\t{'AB'[i % 2]}\n" for i, b in enumerate(BARCODES)))
        self.metrics.write_text("barcode,atac_raw_reads\n" + "".join(f"{b},1\n" for b in BARCODES))
        self.annotation.write_text("#!genome-build test\n" + self.records())
        self.fasta.write_text(">chr1\n" + "acgtN" * 8000 + "\n>chr2\n" + "ACGTn" * 8000 + "\n")
        pysam.faidx(str(self.fasta))
        self.network.write_text("source,target,weight\nGENE1,GENE2,1\nGENE3,GENE4,1\n")
        self.tfs.write_text("GENE1\nGENE3\n")
        self.blacklist.write_text("chr1\t35000\t36000\n")
        self.samples = [self.sample("a")]
        self.tasks = {"state": {"column": "state"}}

    @staticmethod
    def records(ids=IDS, genes=GENES, chrom="chr1"):
        """Gene records of a GTF."""
        return "".join(
            f'{chrom}\tX\tgene\t{1000 * i}\t{1000 * i + 800}\t.\t+\t.\tgene_id "{gene_id}"; gene_name "{gene}";\n'
            for i, (gene_id, gene) in enumerate(zip(ids, genes, strict=True), start=1)
        )

    def write_peaks(self, peaks, end="\n"):
        self.peaks.write_text("".join(f"{chrom}\t{start}\t{stop}{end}" for chrom, start, stop in peaks), newline="")

    def write_fragments(self, lines, **how):
        write_fragment_lines(self.fragments, lines, **how)

    def sample(self, name, **files):
        """A row of the sample sheet."""
        row = {"sample": name, "genome": "", "donor": name, "batch": "", "condition": "x"}
        row |= {"matrix": str(self.matrix), "fragments": str(self.fragments), "peaks": str(self.peaks)}
        return row | {"labels": str(self.labels), "barcode_metrics": str(self.metrics)} | files

    def verdict(self, **reference):
        names = ("annotation", "fasta", "network", "tfs", "blacklist")
        reference = {name: str(getattr(self, name)) for name in names} | reference
        return judge_inputs(self.samples, reference, self.tasks, ["A"], results=self.folder)

    def found(self, **reference):
        """Code -> finding."""
        return {finding["code"]: finding for finding in self.verdict(**reference)["findings"]}


@pytest.fixture
def inputs(tmp_path):
    return Inputs(tmp_path)


def wrong(found):
    """Codes of errors and warnings."""
    return sorted(code for code, finding in found.items() if finding["level"] != "note")


def test_sound_inputs_have_no_error_and_no_warning(inputs):
    verdict = inputs.verdict()
    assert [finding for finding in verdict["findings"] if finding["level"] != "note"] == []
    assert verdict["samples"] == [
        {"sample": "a", "layout": "10x h5 v3", "barcodes": 40, "genes": 30, "peaks": 21, "counts": 40 * 51}
    ]


def test_all_findings_are_collected_and_each_has_a_fix(inputs):
    inputs.labels.write_text("barcode\tstate\nX\tA\n")
    inputs.annotation.write_text(inputs.records(chrom="1"))
    inputs.write_fragments(["chr1\t5\t5\tA"], index=False)
    found = inputs.found()
    assert {"labels.no_match", "chromosomes.prefix", "fragments.intervals"} <= found.keys()
    assert all(finding["fix"] and finding["file"] for finding in found.values())


# ---- chromosomes and builds ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["annotation", "blacklist", "peaks", "fasta", "fragments"])
def test_a_missing_chr_prefix_is_found_wherever_it_is(inputs, file):
    path = getattr(inputs, file)
    if file == "fragments":
        inputs.write_fragments([line.removeprefix("chr") for line in fragment_lines()])
    else:
        path.write_text(path.read_text().replace("chr", ""))
    if file == "fasta":
        pysam.faidx(str(path))
    found = inputs.found()["chromosomes.prefix"]
    assert found["level"] == "error" and "prefix 'chr'" in found["fix"]
    assert str(path) in found["file"] + found["message"] and "'1'" in found["message"] and "'chr1'" in found["message"]


def test_the_odd_one_out_is_blamed_once(inputs):
    inputs.write_peaks([(chrom.removeprefix("chr"), start, end) for chrom, start, end in PEAKS])
    prefix = [finding for finding in inputs.verdict()["findings"] if finding["code"] == "chromosomes.prefix"]
    assert [finding["file"] for finding in prefix] == [str(inputs.peaks)]


def test_chromosomes_of_another_genome(inputs):
    inputs.annotation.write_text(inputs.records(chrom="chrIV"))
    assert "chromosomes.disjoint" in inputs.found()


def write_barnyard(inputs):
    """A matrix of two genomes with Cell Ranger's prefixes, of which the sheet chooses one."""
    of = ["GRCh38"] * 15 + ["mm10"] * 15 + ["GRCh38"] * 20 + ["mm10"]
    names = [*GENES, *(f"{chrom}:{start}-{end}" for chrom, start, end in PEAKS)]
    ids = [*IDS, *names[30:]]
    named = {
        "genome": of,
        "name": [f"{genome}_{'__' if genome == 'mm10' else ''}{n}" for genome, n in zip(of, names, strict=True)],
        "id": [f"{genome}_{n}" for genome, n in zip(of, ids, strict=True)],
    }
    write_matrix(inputs.matrix, **named)
    inputs.samples = [inputs.sample("a", genome="GRCh38", peaks=None)]


def test_the_chosen_genome_of_several_is_judged_by_its_own_names(inputs):
    write_barnyard(inputs)
    verdict = inputs.verdict()
    assert [finding for finding in verdict["findings"] if finding["level"] == "error"] == []
    assert (verdict["samples"][0]["genes"], verdict["samples"][0]["peaks"]) == (15, 20)
    inputs.samples = [inputs.sample("a", peaks=None)]
    assert "matrix.several_genomes" in inputs.found()


@pytest.mark.parametrize("reference", [{}, {"annotation": None, "fasta": None, "blacklist": None}])
def test_fragments_with_the_prefix_of_a_genome_do_not_meet_peaks_without(inputs, reference):
    write_barnyard(inputs)
    inputs.write_fragments([f"{genome}_{line}" for genome in ("GRCh38", "mm10") for line in fragment_lines()])
    found = inputs.found(**reference)["chromosomes.genome_prefix"]
    assert found["level"] == "error" and found["file"] == str(inputs.fragments)
    assert "'GRCh38_chr1' here" in found["message"] and "s/^GRCh38_+//" in found["fix"]


def test_all_files_with_the_prefix_but_the_matrix_that_is_read_without(inputs):
    """Most files agree with one another; the fix still names them, since the matrix is stripped in any case."""
    write_barnyard(inputs)
    inputs.write_fragments([f"GRCh38_{line}" for line in fragment_lines()])
    inputs.annotation.write_text(inputs.records(chrom="GRCh38_chr1"))
    inputs.blacklist.write_text("GRCh38_chr1\t35000\t36000\n")
    found = inputs.found(fasta=None)
    assert "chromosomes.prefix" not in found
    assert found["chromosomes.genome_prefix"]["file"] == str(inputs.matrix)
    assert str(inputs.fragments) in found["chromosomes.genome_prefix"]["fix"]


def test_two_names_of_the_mitochondrial_genome(inputs):
    inputs.annotation.write_text(inputs.records() + inputs.records(chrom="MT"))
    inputs.write_fragments([*fragment_lines(), f"chrM\t1\t9\t{BARCODES[0]}\t1"])
    found = inputs.found(fasta=None)
    assert wrong(found) == ["chromosomes.mitochondrion"]
    assert "'MT'" in found["chromosomes.mitochondrion"]["message"]


def test_peaks_off_the_end_of_a_chromosome(inputs):
    inputs.write_peaks([*PEAKS, ("chr2", 900_000, 900_500)])
    found = inputs.found()["genome.beyond_end"]
    assert found["level"] == "error" and "chr2:900,500" in found["message"] and "40,000 bp" in found["message"]


def test_a_peak_that_sticks_out_a_little_is_only_warned_of(inputs):
    inputs.write_peaks([*PEAKS, ("chr2", 39_800, 40_301)])
    assert wrong(inputs.found()) == ["genome.overhang"]


def test_one_fragment_off_the_end_is_found_with_the_index(inputs, monkeypatch):
    """The sample need not hold it: the index leads to what lies beyond a chromosome's end."""
    monkeypatch.setattr("regulonformer.validate.fragments.sample_text", lambda path, n: ["\n".join(lines[:9]).encode()])
    lines = [*fragment_lines(), f"chr2\t50000\t50100\t{BARCODES[0]}\t1"]
    inputs.write_fragments(lines)
    assert "chr2:50,100" in inputs.found()["genome.beyond_end"]["message"]


def test_builds_are_told_apart_and_named(inputs):
    human38, human19 = ({f"chr{name}": end for name, end in builds.BUILDS[b].items()} for b in ("hg38", "hg19"))
    for path, lengths in ((inputs.peaks, human38), (inputs.blacklist, human19)):
        path.write_text("".join(f"{name}\t{end - 100}\t{end}\n" for name, end in lengths.items()))
    inputs.samples = [inputs.sample("a", fragments=None)]
    found = inputs.found(fasta=None)["genome.builds_differ"]
    assert found["level"] == "warning" and found["file"] == str(inputs.blacklist)
    assert "looks like hg19" in found["message"] and "like hg38" in found["message"]


@pytest.mark.parametrize("build", builds.BUILDS)
def test_each_build_is_recognised_with_and_without_chr(build):
    for prefix in ("chr", ""):
        assert builds.possible_builds({prefix + n: end for n, end in builds.BUILDS[build].items()}) == {build}
    assert builds.possible_builds({"chr1": 1000}) == set(builds.BUILDS)
    assert builds.possible_builds({"KI270728.1": 10**10}) == set(builds.BUILDS)


def test_the_table_of_builds_is_true(real_data):
    for build in ("hg38", "hg19", "mm10"):
        table = pd.read_csv(real_data / "references" / "genome" / f"{build}.seqinfo.tsv", sep="\t", index_col="name")
        assert {name: table["length"][f"chr{name}"] for name in builds.BUILDS[build]} == builds.BUILDS[build]


def test_real_references_look_like_their_build(real_data):
    from regulonformer.io.peaks import read_bed
    from regulonformer.validate.peaks import largest_ends

    for build in ("hg38", "hg19", "mm10"):
        blacklist = read_bed(real_data / "references" / "blacklist" / f"{build}-blacklist.v2.bed.gz")
        assert builds.possible_builds(largest_ends(blacklist)) == {build}


def test_genome_without_index_or_with_that_of_another(inputs):
    index = Path(f"{inputs.fasta}.fai")
    sound = index.read_text()
    index.write_text("not an index\n")
    assert "genome.index_unreadable" in inputs.found()
    index.write_text(sound + "chr3\t900000\t80020\t60\t61\n")
    assert "genome.index_contigs" in inputs.found()
    index.unlink()
    assert "samtools faidx" in inputs.found()["genome.unindexed"]["fix"]


def test_genome_that_is_no_fasta(inputs):
    inputs.fasta.write_text("chr1\t5\n" * 20_000)
    assert "genome.not_fasta" in inputs.found()


# ---- genes -----------------------------------------------------------------------------------------------------------


def test_versions_of_ids_do_not_matter(inputs):
    write_matrix(inputs.matrix, ids=[f"{name}.4" for name in IDS], genes=[f"OTHER{i}" for i in range(30)])
    found = inputs.found(network=None, tfs=None)
    assert wrong(found) == []
    assert (
        "30 of 30" in found["genes.versioned_ids"]["message"] and "30 of 30" in found["genes.in_annotation"]["message"]
    )


def test_annotation_of_another_species(inputs):
    inputs.annotation.write_text(
        inputs.records([f"ENSMUSG{i:011d}" for i in range(30)], [f"Mouse{i}" for i in range(30)])
    )
    assert inputs.found()["genes.not_in_annotation"]["level"] == "error"


def test_annotation_that_knows_few_genes(inputs):
    ids = IDS[:5] + [f"ENSG9{i:010d}" for i in range(25)]
    inputs.annotation.write_text(inputs.records(ids, GENES[:5] + [f"ELSE{i}" for i in range(25)]))
    assert "5 of 30" in inputs.found()["genes.few_in_annotation"]["message"]


def test_ids_where_the_matrix_has_symbols(inputs):
    write_matrix(inputs.matrix, ids=GENES)
    inputs.tfs.write_text("\n".join(IDS[:5]))
    inputs.network.write_text("source,target\n" + "".join(f"{i},{j}\n" for i, j in zip(IDS, IDS[1:], strict=False)))
    found = inputs.found()
    assert "are Ensembl ids where the matrix has symbols" in found["tfs.other_names"]["message"]
    assert found["network.other_names"]["level"] == "error"


def test_matrix_without_symbols(inputs):
    write_matrix(inputs.matrix, genes=IDS)
    assert inputs.found()["genes.no_symbols"]["level"] == "warning"


def test_network_and_tfs_of_nothing_known(inputs):
    inputs.network.write_text("source,target\nFoo,Bar\n")
    inputs.tfs.write_text("Foo\n")
    found = inputs.found()
    assert "GENE0" in found["network.no_gene"]["message"] and "tfs.no_gene" in found


def test_network_of_another_species_matches_by_case_alone(inputs):
    inputs.network.write_text("source,target\nGene1,Gene2\nGene3,Gene4\n")
    assert "without regard to case" in inputs.found()["network.other_species"]["message"]


def test_network_with_few_genes_and_empty_or_unreadable_lists(inputs):
    inputs.network.write_text("source,target\n" + "".join(f"A,X{i}\n" for i in range(99)) + "A,GENE1\n")
    inputs.tfs.write_text("\n")
    found = inputs.found()
    assert "1 of 100 targets" in found["network.few_genes"]["message"] and "tfs.empty" in found
    inputs.network.write_text("nothing\n")
    inputs.tfs.write_bytes(b"\xff\xfe\x00")
    assert {"network.unreadable", "tfs.unreadable"} <= inputs.found().keys()


def test_repeated_genes(inputs):
    write_matrix(inputs.matrix, genes=[*GENES[:29], "GENE0"])
    assert inputs.found()["genes.duplicated_symbols"]["level"] == "note"
    write_matrix(inputs.matrix, ids=[*IDS[:29], IDS[0]])
    assert IDS[0] in inputs.found()["genes.duplicated_ids"]["message"]


def test_annotation_without_genes_cut_off_or_with_windows_lines(inputs):
    inputs.annotation.write_text("chr1\tX\texon\t1\t9\t.\t+\t.\tgene_id 'A'\n")
    assert "annotation.no_genes" in inputs.found()
    inputs.annotation.write_text(inputs.records().replace("\n", "\r\n"), newline="")
    found = inputs.found()
    assert found["annotation.crlf"]["level"] == "warning" and "30 of 30" in found["genes.in_annotation"]["message"]
    inputs.annotation.write_text(inputs.records().replace("\t1800\t", "\t18\t"))
    assert "annotation.intervals" in inputs.found()
    packed = inputs.folder / "genes.gtf.gz"
    packed.write_bytes(gzip.compress(inputs.records().encode())[:-20])
    assert "annotation.unreadable" in inputs.found(annotation=str(packed))


def test_only_the_start_of_a_long_annotation_is_read(inputs, monkeypatch):
    """Genes of the first chromosome alone: no statement about chromosomes or genes that were not seen."""
    monkeypatch.setattr("regulonformer.validate.annotation.HEAD_BYTES", 200)
    inputs.annotation.write_text(inputs.records(chrom="chr9") + inputs.records())
    assert wrong(inputs.found()) == []


# ---- barcodes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda name: name.removesuffix("-1"), "labels lack the suffix '-1'"),
        (lambda name: name.replace("-1", "-7"), "labels have the suffix '-7' instead of '-1'"),
        (lambda name: f"donor_{name}", "labels have the prefix 'donor_' too much"),
        (lambda name: f"donor#{name}", "labels have the prefix 'donor#' too much"),
        (lambda name: f"{name}_donor", "labels have the suffix '-1_donor' instead of '-1'"),
    ],
)
def test_labels_with_another_prefix_or_suffix(inputs, change, hint):
    inputs.labels.write_text("barcode\tstate\n" + "".join(f"{change(name)}\tA\n" for name in BARCODES))
    found = inputs.found()["labels.no_match"]
    assert found["level"] == "error" and hint in found["message"]


def test_hint_for_a_matrix_with_a_prefix_and_none_for_other_cells():
    assert (
        naming_hint(["ACGTACGTAC"], ["s1_ACGTACGTAC-1"], "labels")
        == "labels lack the prefix 's1_' and lack the suffix '-1'"
    )
    assert naming_hint(["ACGTACGTAC-1"], ["TTTTTTTTTT-1"], "labels") == ""


def test_labels_behind_the_name_of_the_sample_fit(inputs):
    inputs.labels.write_text("barcode\tstate\n" + "".join(f"a_{b}\t{'AB'[i % 2]}\n" for i, b in enumerate(BARCODES)))
    assert wrong(inputs.found()) == []


def test_cells_without_a_label_and_windows_lines(inputs):
    text = inputs.labels.read_text().splitlines()[:31]
    inputs.labels.write_text("\r\n".join(text) + "\r\n", newline="")
    found = inputs.found()
    assert "10 of 40 cells" in found["labels.missing"]["message"] and wrong(found) == ["labels.crlf"]


def test_fragments_and_metrics_of_other_barcodes(inputs):
    bare = [name.removesuffix("-1") for name in BARCODES]
    inputs.write_fragments(fragment_lines(bare))
    inputs.metrics.write_text("barcode,x\n" + "".join(f"a#{name},1\n" for name in BARCODES))
    found = inputs.found()
    assert "fragments lack the suffix '-1'" in found["fragments.no_match"]["message"]
    assert "metrics have the prefix 'a#' too much" in found["metrics.no_match"]["message"]
    inputs.metrics.write_text("cell,x\n")
    assert "metrics.unreadable" in inputs.found()


def test_fragments_mostly_of_other_cells(inputs):
    inputs.write_fragments(
        fragment_lines([BARCODES[0]] + [f"{'ACGT' * 3}{i:04d}".replace("0", "A") for i in range(60)])
    )
    assert "2% of" in inputs.found()["fragments.few_match"]["message"]


def test_tasks_need_a_column_with_two_classes(inputs):
    inputs.tasks = {"state": {"column": "stage"}, "other": {"column": "condition"}}
    found = inputs.found()
    assert "'stage'" in found["tasks.no_column"]["message"] and "two classes" in found["tasks.one_class"]["fix"]


# ---- fragments -------------------------------------------------------------------------------------------------------


def test_comments_and_four_to_six_columns_are_fine(inputs):
    for extra in ("", "\t1", "\t1\t+"):
        lines = [line.rsplit("\t", 1)[0] + extra for line in fragment_lines()]
        inputs.write_fragments(["# id=a", "# primary_contig=chr1", *lines])
        assert wrong(inputs.found()) == []


LAST = f"chr2\t20000\t20100\t{BARCODES[0]}\t1"


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([*fragment_lines(), "chr2\t20000\t20100"], "fragments.columns"),
        ([*fragment_lines(), f"{LAST}\t+\t9"], "fragments.columns"),
        ([*fragment_lines(), LAST.replace("20100", "x")], "fragments.numbers"),
        ([*fragment_lines(), LAST.replace("20100", "20_100")], "fragments.numbers"),
        (["\r".join(fragment_lines())], "fragments.columns"),
        ([*fragment_lines(), LAST.removesuffix("\t1")], "fragments.columns"),
        ([LAST.replace("chr2", "chr0") + "\t+", *fragment_lines()], "fragments.columns"),
        ([*fragment_lines(), LAST.removesuffix("1") + "."], "fragments.numbers"),
        ([*fragment_lines(), LAST.removesuffix("1") + "1.0"], "fragments.numbers"),
        ([*fragment_lines(), LAST.removesuffix("1") + "+"], "fragments.numbers"),
        ([*fragment_lines(), LAST.replace("20100", "2147483648")], "fragments.numbers"),
        ([*fragment_lines(), LAST.replace("20100", "20000")], "fragments.intervals"),
        ([*fragment_lines(), LAST.replace("20100", "1")], "fragments.intervals"),
        ([*fragment_lines(), LAST.replace("20000", "-3")], "fragments.intervals"),
        ([LAST, *fragment_lines()], "fragments.unsorted"),
        (fragment_lines()[::-1], "fragments.unsorted"),
        ([f"{line}\r" for line in fragment_lines()], "fragments.crlf"),
        (["# nothing"], "fragments.empty"),
    ],
)
def test_faults_of_lines(inputs, lines, code):
    inputs.write_fragments(lines, index=False)
    found = inputs.found()
    assert found[code]["level"] == "error" and found[code]["file"] == str(inputs.fragments)


def test_gzip_and_plain_text_in_place_of_bgzip(inputs):
    text = "\n".join(fragment_lines()).encode()
    inputs.fragments.write_bytes(gzip.compress(text))
    assert "bgzip" in inputs.found()["fragments.not_bgzip"]["fix"]
    inputs.fragments.write_bytes(text)
    assert "is not compressed" in inputs.found()["fragments.not_bgzip"]["message"]


def test_missing_and_foreign_index(inputs):
    index = Path(f"{inputs.fragments}.tbi")
    stale = index.read_bytes()
    inputs.write_fragments([*fragment_lines(), f"chr3\t1\t9\t{BARCODES[0]}\t1"])
    index.write_bytes(stale)
    assert "'chr3'" in inputs.found()["fragments.index_contigs"]["message"]
    index.write_bytes(b"nonsense")
    assert "tabix -p bed" in inputs.found()["fragments.index_unreadable"]["fix"]
    index.unlink()
    assert "tabix -f -p bed" in inputs.found()["fragments.unindexed"]["fix"]


def test_index_older_than_its_file(inputs):
    os.utime(f"{inputs.fragments}.tbi", (1, 1))
    assert wrong(inputs.found()) == ["fragments.index_old"]


def many_fragments(path, n):
    """A sorted file that is larger than what is read whole."""
    rng = np.random.default_rng(0)
    starts = np.sort(rng.integers(0, 200_000_000, n))
    names = rng.choice(BARCODES, n)
    lengths = rng.integers(30, 900, n)
    lines = [f"chr1\t{s}\t{s + w}\t{b}\t1" for s, w, b in zip(starts, lengths, names, strict=True)]
    write_fragment_lines(path, lines)
    return lines


def test_a_large_file_is_sampled_over_its_whole_length(tmp_path):
    path = tmp_path / "f.tsv.gz"
    lines = many_fragments(path, 400_000)
    assert path.stat().st_size > READ_WHOLE
    pieces = sample_text(path, 8)
    sampled = [line for piece in pieces for line in piece.decode().splitlines()]
    assert len(pieces) == 9 and len(sampled) < len(lines) / 10
    places = {line: at for at, line in enumerate(lines)}
    at = [places[line] for line in sampled]
    assert at == sorted(at) and at[-1] > 0.9 * len(lines)


def bgzf(text: bytes, level: int, size: int) -> bytes:
    """Start of a text as BGZF blocks of a compression level, `size` bytes or a block more (SAM, section 4.1)."""
    packed, at = b"", 0
    while len(packed) < size:
        part, packer = text[at : at + 65_280], zlib.compressobj(level, wbits=-15)
        body = packer.compress(part) + packer.flush()
        head = EOF_BLOCK[:16] + struct.pack("<H", 18 + len(body) + 8 - 1)
        packed, at = packed + head + body + struct.pack("<II", zlib.crc32(part), len(part)), at + len(part)
    return packed + EOF_BLOCK


@pytest.mark.parametrize("level", [0, 1, 6])
@pytest.mark.parametrize("size", [READ_WHOLE + 1, 2_100_000, 2_200_000, 2_300_000])
def test_sorted_files_just_large_enough_to_be_sampled_are_sorted(inputs, level, size):
    """Sampled blocks lie behind the start that is read, and each is read once, whatever the compression."""
    lines = [f"chr1\t{50 * i}\t{50 * i + 40}\t{BARCODES[i % 40]}\t1\n" for i in range(size // 4)]
    packed = bgzf("".join(lines).encode(), level, size)
    inputs.fragments.write_bytes(packed)
    whole = gzip.decompress(packed)
    assert READ_WHOLE < len(packed) < READ_WHOLE + 300_000
    pieces = sample_text(inputs.fragments, SAMPLED_BLOCKS)
    starts = [int(line.split(b"\t")[1]) for piece in pieces for line in piece.splitlines()]
    assert starts == sorted(set(starts)) and starts[-1] > 0.9 * 50 * whole.count(b"\n")
    assert not {"fragments.unsorted", "fragments.columns", "fragments.unreadable"} & inputs.found(fasta=None).keys()


def test_damage_in_the_middle_of_a_large_file_and_a_lost_end(inputs):
    many_fragments(inputs.fragments, 400_000)
    whole = inputs.fragments.read_bytes()
    spoilt = bytearray(whole)
    # One bit in each stretch of 16 kB in the second half, so that every block there is hit.
    for at in range(len(whole) // 2, len(whole) - 100, 16_000):
        spoilt[at] ^= 64
    inputs.fragments.write_bytes(spoilt)
    assert "fragments.unreadable" in inputs.found()
    inputs.fragments.write_bytes(whole[: len(whole) // 2])
    assert "closing block" in inputs.found()["fragments.truncated"]["message"]


# ---- peaks -----------------------------------------------------------------------------------------------------------


def test_unsorted_repeated_and_overlapping_peaks(inputs):
    inputs.write_peaks(PEAKS[::-1])
    found = inputs.found()
    assert found["peaks.unsorted"]["level"] == "note" and wrong(found) == []
    inputs.write_peaks([PEAKS[0], *PEAKS])
    assert wrong(inputs.found()) == ["peaks.duplicated"]
    # A long peak reaches over the two that follow.
    inputs.write_peaks([("chr1", 900, 2600), *PEAKS])
    assert "2 of 22 peaks" in inputs.found()["peaks.overlapping"]["message"]


@pytest.mark.parametrize("row", [("chr1", 7, 7), ("chr1", 9, 7), ("chr1", -9, 7), ("chr1", "x", 7)])
def test_peaks_that_are_no_intervals(inputs, row):
    inputs.write_peaks([*PEAKS, row])
    assert inputs.found()["peaks.unreadable"]["level"] == "error"


def test_faults_of_the_peaks_in_a_matrix(inputs):
    inputs.samples = [inputs.sample("a", peaks=None)]
    write_matrix(inputs.matrix, peaks=[*PEAKS, PEAKS[0]])
    assert inputs.found()["matrix.duplicated_peaks"]["level"] == "error"
    write_matrix(inputs.matrix, peaks=[*PEAKS, ("chr2", 7, 7)])
    assert "chr2:7-7" in inputs.found()["peaks.intervals"]["message"]
    write_matrix(inputs.matrix, peaks=[*PEAKS, ("chr2", "a", "b")])
    assert "chr2:a-b" in inputs.found()["peaks.unreadable"]["message"]


def test_empty_peaks_and_windows_lines(inputs):
    inputs.write_peaks(PEAKS, end="\r\n")
    assert wrong(inputs.found()) == ["peaks.crlf"]
    inputs.write_peaks([])
    assert "peaks.empty" in inputs.found()


# ---- matrices --------------------------------------------------------------------------------------------------------


def test_features_in_either_order_are_fine(inputs):
    write_matrix(inputs.matrix, order="peaks")
    assert wrong(inputs.found()) == []


def test_several_genomes_need_a_choice(inputs):
    write_matrix(inputs.matrix, genome=["GRCh38"] * 20 + ["mm10"] * 31)
    assert "GRCh38, mm10" in inputs.found()["matrix.several_genomes"]["message"]
    inputs.samples[0]["genome"] = "GRCh38"
    assert "matrix.several_genomes" not in inputs.found()


def write_v2(path):
    """A 10x h5 of the older version: one group per genome, genes only."""
    with h5py.File(path, "w") as file:
        group = file.create_group("GRCh38")
        group["barcodes"], group["genes"] = np.array(BARCODES, dtype="S"), np.array(IDS, dtype="S")
        group["gene_names"] = np.array(GENES, dtype="S")
        group["data"], group["indices"] = np.ones(40, np.int32), np.zeros(40, np.int64)
        group["indptr"], group["shape"] = np.arange(41), np.array([30, 40])


def write_mex(folder):
    """A MEX folder with genes."""
    folder.mkdir()
    entries = "".join(f"1 {i + 1} 2\n" for i in range(40))
    text = "%%MatrixMarket matrix coordinate integer general\n%\n30 40 40\n" + entries
    (folder / "matrix.mtx.gz").write_bytes(gzip.compress(text.encode()))
    (folder / "barcodes.tsv.gz").write_bytes(gzip.compress("\n".join(BARCODES).encode()))
    rows = "".join(f"{i}\t{g}\tGene Expression\n" for i, g in zip(IDS, GENES, strict=True))
    (folder / "features.tsv.gz").write_bytes(gzip.compress(rows.encode()))


def write_anndata(path):
    """Genes as h5ad or h5mu: normalised values in X, counts in a layer."""
    import anndata
    import mudata
    from scipy import sparse

    counts = sparse.csr_matrix(np.ones((40, 30), np.float32))
    var = pd.DataFrame({"gene_ids": IDS}, index=GENES)
    data = anndata.AnnData(counts * 0.5, obs=pd.DataFrame(index=BARCODES), var=var, layers={"counts": counts})
    if path.suffix == ".h5ad":
        data.write_h5ad(path)
    else:
        mudata.MuData({"rna": data}).write_h5mu(path)


@pytest.mark.parametrize(
    ("name", "write", "layout"),
    [
        ("v2.h5", write_v2, "10x h5 v2"),
        ("mex", write_mex, "10x mtx"),
        ("x.h5ad", write_anndata, "h5ad"),
        ("x.h5mu", write_anndata, "h5mu"),
    ],
)
def test_every_layout_is_judged(inputs, name, write, layout):
    write(inputs.folder / name)
    inputs.samples = [inputs.sample("a", matrix=str(inputs.folder / name))]
    verdict = inputs.verdict()
    assert [finding for finding in verdict["findings"] if finding["level"] != "note"] == []
    assert verdict["samples"][0]["layout"] == layout and verdict["samples"][0]["counts"] > 0


def test_values_that_are_not_counts(inputs):
    for value in (0.5, -1.0):
        write_matrix(inputs.matrix, value=value)
        assert str(value) in inputs.found()["matrix.not_counts"]["message"]


def test_empty_libraries(inputs):
    write_matrix(inputs.matrix, barcodes=[])
    assert "matrix.empty" in inputs.found()
    write_matrix(inputs.matrix, peaks=[])
    inputs.samples = [inputs.sample("a", peaks=None, fragments=None)]
    assert "matrix.no_atac" in inputs.found()
    write_matrix(inputs.matrix, genes=[], ids=[])
    assert "matrix.no_genes" in inputs.found()
    with h5py.File(inputs.matrix, "a") as file:
        del file["matrix/data"], file["matrix/indices"]
        file["matrix/data"], file["matrix/indices"] = np.empty(0, int), np.empty(0, int)
    assert "matrix.no_counts" in inputs.found()


def test_repeated_barcodes_and_other_features(inputs):
    write_matrix(inputs.matrix, barcodes=[*BARCODES[:39], BARCODES[0]])
    assert "matrix.duplicated_barcodes" in inputs.found()
    kinds = ["Gene Expression"] * 30 + ["Peaks"] * 20 + ["Antibody Capture"]
    write_matrix(inputs.matrix, feature_type=kinds)
    assert "1 features" in inputs.found()["matrix.other_features"]["message"]


def test_a_matrix_that_is_none(inputs):
    inputs.matrix.write_text("nothing")
    assert wrong(inputs.found()) == ["matrix.unreadable"]


# ---- libraries together ----------------------------------------------------------------------------------------------


def second(inputs, **matrix):
    """A second library with a matrix of its own, without peaks file."""
    write_matrix(inputs.folder / "b.h5", **matrix)
    files = {"matrix": str(inputs.folder / "b.h5"), "peaks": None, "fragments": None}
    inputs.samples.append(inputs.sample("b", **files))


def test_libraries_with_other_peaks(inputs):
    second(inputs, peaks=PEAKS[5:])
    found = inputs.found()
    assert found["peaks.libraries_differ"]["level"] == "note" and wrong(found) == []
    assert "16 of 21" in found["peaks.libraries_differ"]["message"]


@pytest.mark.parametrize(("shared", "level"), [(29, "note"), (10, "warning"), (0, "error")])
def test_libraries_with_other_genes(inputs, shared, level):
    other = [f"ELSE{i}" for i in range(30 - shared)]
    second(inputs, genes=GENES[:shared] + other)
    levels = {code: finding["level"] for code, finding in inputs.found().items() if code.startswith("genes.libraries")}
    assert list(levels.values()) == [level]


# ---- memory and disk -------------------------------------------------------------------------------------------------


def test_budget_grows_with_the_counts_and_warns_of_what_is_short(inputs, monkeypatch):
    small = {row["step"]: row["needed_mb"] for row in inputs.verdict()["budget"]}
    write_matrix(inputs.matrix)
    monkeypatch.setattr("regulonformer.validate.matrix.sample_counts", lambda path: (10**9, np.ones(1)))
    monkeypatch.setattr(resources, "machine_memory_mb", lambda: 30_000)
    usage = type("Usage", (), {"free": 10**9})
    monkeypatch.setattr("regulonformer.validate.resources.shutil.disk_usage", lambda path: usage)
    reference = {"annotation": str(inputs.annotation)}
    verdict = judge_inputs(inputs.samples, reference, {}, [], inputs.folder / "none", {"count_sample": 6000})
    large = {row["step"]: row["needed_mb"] for row in verdict["budget"]}
    assert all(large[step] > 5 * small[step] for step in small)
    short = {
        (finding["code"], Path(finding["file"]).name)
        for finding in verdict["findings"]
        if finding["level"] == "warning"
    }
    assert {("resources.memory", "ingest_sample"), ("resources.rule_memory", "count_sample")} <= short
    assert ("resources.disk", "none") in short
    assert [line.split()[0] for line in resources.budget_lines(verdict["budget"], inputs.folder)] == ["step", *small]


# Cells, counts and libraries of a run -> peak memory that was measured (GB).
MEASURED = [
    (5_000, 7_000_000, 1, {"ingest_sample": 0.60, "count_sample": 0.45, "merge_samples": 0.76, "build_corpus": 0.76}),
    (5_000, 7_000_000, 20, {"merge_samples": 1.55, "build_corpus": 0.80}),
    (6_000, 37_000_000, 1, {"ingest_sample": 3.7, "count_sample": 0.8, "merge_samples": 1.1}),
]


@pytest.mark.parametrize(("cells", "counts", "n", "measured"), MEASURED)
def test_estimated_memory_is_within_twice_what_was_measured(tmp_path, cells, counts, n, measured):
    header = MatrixHeader("10x h5 v3", [""] * cells, [], [], (), ["chr1:1-9"], {})
    libraries = [Library({"fragments": None}, header, counts)] * n
    needed = {row["step"]: row["needed_mb"] for row in resources.judge_resources(libraries, tmp_path, {}, Findings())}
    for step, gigabytes in measured.items():
        assert 0.5 < needed[step] / (1000 * gigabytes) < 2, step


def test_memory_of_joint_steps_grows_with_cells_and_no_longer_with_their_counts(tmp_path):
    """Views are fitted on some cells: five times the cells cost what a cell costs, not what its counts do."""
    header = MatrixHeader("10x h5 v3", [""] * 20_000, [], [], (), ["chr1:1-9"], {})
    library = Library({"fragments": None}, header, 28_000_000)
    budgets = [resources.judge_resources([library] * n, tmp_path, {}, Findings()) for n in (1, 5)]
    few, many = ({row["step"]: row["needed_mb"] for row in budget} for budget in budgets)
    assert few["merge_samples"] < many["merge_samples"] < 2 * few["merge_samples"]
    assert many["build_corpus"] < 2 * few["build_corpus"] and many["count_sample"] == few["count_sample"]


# ---- the script, and its cost ----------------------------------------------------------------------------------------


def run_script(tmp_path, inputs):
    """Run the script's `main` in a process of its own; exit status and output."""
    code = (
        "import json, logging, sys; sys.path.insert(0, sys.argv[1]); import validate_inputs as script;"
        "logging.basicConfig(level=logging.INFO, format='%(message)s');"
        "script.main(**json.loads(sys.argv[2]))"
    )
    import json

    given = {
        "samples": inputs.samples,
        "reference": {"annotation": str(inputs.annotation)},
        "tasks": {},
        "confidence": [],
    }
    call = {"inputs": given, "results": str(tmp_path), "rules_mb": {}, "outputs": [str(tmp_path / "verdict.json")]}
    command = [sys.executable, "-c", code, str(SCRIPTS), json.dumps(call)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stderr


def test_script_tells_every_error_in_a_line_and_stops(tmp_path, inputs):
    status, told = run_script(tmp_path, inputs)
    assert status == 0 and "merge_samples" in told
    inputs.labels.write_text("barcode\tstate\nX\tA\n")
    inputs.peaks.write_text("chr1\t5\t5\n")
    status, told = run_script(tmp_path, inputs)
    errors = [line for line in told.splitlines() if line.startswith("Error: ")]
    assert status == 1 and len(errors) == 2 and "Traceback" not in told
    assert {finding["code"] for finding in read_json(tmp_path / "verdict.json")["findings"]} >= {"labels.no_match"}


def test_a_real_library_takes_seconds_and_little_memory(real_data):
    folder = real_data / "multiome" / "k562_chr22p" / "outs"
    sample = {"sample": "k562", "genome": "", "donor": "", "batch": "", "condition": "", "peaks": None, "labels": None}
    sample |= {"matrix": str(folder / "filtered_feature_bc_matrix.h5"), "barcode_metrics": None}
    sample |= {"fragments": str(folder / "atac_fragments.tsv.gz")}
    references = real_data / "references"
    reference = {
        "annotation": str(references / "tss" / "simba_hg38_genes.bed"),
        "blacklist": str(references / "blacklist" / "hg38-blacklist.v2.bed.gz"),
        "tfs": str(references / "tf_lists" / "pyscenic_hs_hgnc_tfs.txt"),
    }
    started = time.process_time()
    verdict = judge_inputs([sample], reference, {}, [])
    assert time.process_time() - started < 5
    assert [finding["level"] for finding in verdict["findings"]].count("note") == len(verdict["findings"])
    assert verdict["samples"][0]["genes"] == 62_757


def test_real_fragments_that_are_gzip_are_refused_and_bgzip_made_of_them_is_taken(real_data, tmp_path):
    for path in sorted((real_data / "fragments").glob("*.gz")):
        from regulonformer.validate.findings import Findings
        from regulonformer.validate.fragments import read_fragments

        findings = Findings()
        read_fragments(path, findings)
        assert "fragments.not_bgzip" in {finding.code for finding in findings}
        lines = [line for line in gzip.decompress(path.read_bytes()).decode().splitlines() if line]
        lines.sort(key=lambda line: (line.split("\t")[0], int(line.split("\t")[1])))
        write_fragment_lines(tmp_path / path.name, lines)
        findings = Findings()
        sample = read_fragments(tmp_path / path.name, findings)
        assert list(findings) == [] and sample.n_fragments == len(lines)


def test_every_code_is_documented():
    room = (SCRIPTS / "regulonformer" / "validate").glob("*.py")
    said = set(re.findall(r'"([a-z]+\.[a-z_]+)"', "\n".join(path.read_text() for path in room)))
    said = {code for code in said if not code.startswith(("regulonformer", "matrix.mtx"))}
    documented = set(re.findall(r"`([a-z]+\.[a-z_]+)`", (SCRIPTS.parents[1] / "docs" / "validate.md").read_text()))
    assert said - documented == set(), said - documented
