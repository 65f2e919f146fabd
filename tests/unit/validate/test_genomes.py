"""Chromosome names, builds, genome and annotation: do the files speak of one genome?"""

from pathlib import Path

import pandas as pd
import pysam
import pytest
from sound_inputs import BARCODES, GENES, IDS, PEAKS, fragment_lines, write_matrix, wrong

from regulonformer.validate import builds


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
