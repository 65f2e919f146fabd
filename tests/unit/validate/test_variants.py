"""A file of variants that does not fit genome, annotation or labels stops a run before any compute."""

import tracemalloc

import pytest
from sound_inputs import wrong

from regulonformer.validate.findings import Findings
from regulonformer.validate.variants import judge_variants

HEADER = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\n"


def found(inputs, name, text, group=None):
    """Codes and findings of the verdict with a file of variants; the genome reads ACGTN again and again."""
    path = inputs.folder / name
    path.write_text(text)
    inputs.variants = {"file": str(path), "group": group, "states": inputs.states or group}
    return path, inputs.found()


def test_sound_variants_have_no_finding(inputs):
    vcf = HEADER + "chr1\t1001\trs1\tA\tG\nchr2\t2\t.\tC\tCTT\n"
    assert wrong(found(inputs, "v.vcf", vcf)[1]) == []
    assert wrong(found(inputs, "v.tsv", "kind\tgene\ntss_ablation\tGENE7\n", "state")[1]) == []


def test_reference_allele_names_file_line_value_and_fix(inputs):
    path, verdict = found(inputs, "v.vcf", HEADER + "chr1\t1001\trs1\tA\tG\nchr1\t1002\trs2\tG\tT\n")
    assert wrong(verdict) == ["variants.entry"]
    finding = verdict["variants.entry"]
    assert finding["level"] == "error" and finding["file"] == f"{path} line 4"
    assert finding["message"] == f"reference allele G at chr1:1002, but {inputs.fasta} has C"
    assert "genome build" in finding["fix"]


@pytest.mark.parametrize(
    ("name", "text", "code", "message"),
    [
        ("v.bed", "chr9\t10\t20\n", "variants.entry", "chromosome chr9 is not in"),
        ("v.bed", "chr1\tten\t20\n", "variants.entry", "'ten' is no position"),
        ("v.vcf", HEADER + "chr1\t10\n", "variants.unreadable", "fewer than five columns"),
        ("v.bed", "", "variants.unreadable", "holds no edit"),
        ("v.vcf.gz", "no gzip", "variants.unreadable", "not readable"),
        ("v.tsv", "kind\tgene\ntss_ablation\tNOBODY\n", "variants.entry", "NOBODY has no TSS"),
    ],
)
def test_unreadable_lines_unknown_chromosomes_and_genes_are_errors(inputs, name, text, code, message):
    path, verdict = found(inputs, name, text)
    assert wrong(verdict) == [code] and message in verdict[code]["message"]
    assert verdict[code]["file"].startswith(str(path))


def test_all_faulty_entries_are_told_of_up_to_a_few_and_then_counted(inputs):
    path = inputs.folder / "v.bed"
    path.write_text("".join(f"chr{number}\t1\t2\n" for number in range(1, 40)))
    inputs.variants = {"file": str(path), "group": None}
    entries = [finding for finding in inputs.verdict()["findings"] if finding["code"] == "variants.entry"]
    assert [finding["file"] for finding in entries] == [*(f"{path} line {n}" for n in range(3, 8)), str(path)]
    assert entries[-1]["message"] == "37 of 39 entries are faulty, the first of which are told of"


def test_entries_that_are_no_edit_are_a_note_and_off_window_ones_are_left_to_the_scores(inputs):
    path, verdict = found(inputs, "v.vcf", HEADER + "chr1\t1\tsv\tA\t<DEL>\nchr2\t39001\tfar\tA\tG\n")
    assert wrong(verdict) == [] and verdict["variants.no_edit"]["file"] == str(path)
    assert "1 of 2 entries" in verdict["variants.no_edit"]["message"]


def test_group_that_no_cell_has_is_an_error(inputs):
    _, verdict = found(inputs, "v.bed", "chr1\t10\t20\n", "tissue")
    assert wrong(verdict) == ["variants.no_column"]
    assert "variants/group is 'tissue'" in verdict["variants.no_column"]["message"]


def test_group_of_which_a_state_is_called_as_all_cells_together_is_an_error(inputs):
    labels = inputs.labels.read_text().replace("\tA\n", "\tall\n")
    inputs.labels.write_text(labels)
    inputs.states = "state"  # by the perturbation section: the variants name no group of their own
    _, verdict = found(inputs, "v.bed", "chr1\t10\t20\n")
    assert wrong(verdict) == ["variants.taken_name"]
    assert "names cells 'all'" in verdict["variants.taken_name"]["message"]
    assert "variants/group" in verdict["variants.taken_name"]["fix"]


def test_genome_that_is_cut_under_its_index_is_named_and_not_the_variants(inputs):
    inputs.fasta.write_text(inputs.fasta.read_text()[:-14])  # as much as there are headers: sizes give nothing away
    path, verdict = found(inputs, "v.bed", "chr1\t10\t20\nchr2\t39990\t40000\n")
    assert wrong(verdict) == ["genome.unreadable"]
    finding = verdict["genome.unreadable"]
    assert finding["file"] == str(inputs.fasta) and "samtools faidx" in finding["fix"]


def test_annotation_with_a_damaged_line_is_named_and_not_the_variants(inputs):
    with inputs.annotation.open("a") as handle:
        handle.write('chr1\tX\tgene\tten\t20\t.\t+\t.\tgene_id "E"; gene_name "E";\n')
    _, verdict = found(inputs, "v.tsv", "kind\tgene\ntss_ablation\tGENE0\n")
    assert wrong(verdict) == ["annotation.unreadable"]
    assert verdict["annotation.unreadable"]["file"].startswith(str(inputs.annotation))


def test_variants_of_a_whole_genome_take_no_more_memory_than_a_few(inputs):
    path, findings = inputs.folder / "v.vcf", Findings()
    path.write_text(
        HEADER + "".join(f"chr1\t{5 * n + 1}\trs{n}\tA\tG\nchr1\t1\tsv{n}\tA\t<DEL>\n" for n in range(8000))
    )
    tracemalloc.start()
    judge_variants(
        [], {"file": path, "group": None}, {"fasta": inputs.fasta, "annotation": inputs.annotation}, findings
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e6, "each line would take several hundred bytes if it were kept"
    [finding] = findings
    assert finding.code == "variants.no_edit" and "8,000 of 16,000 entries" in finding.message


def test_without_a_readable_genome_variants_wait_for_it(inputs):
    path = inputs.folder / "v.bed"
    path.write_text("chr1\t10\t20\n")
    inputs.variants = {"file": str(path), "group": None}
    (inputs.folder / "genome.fa.fai").unlink()
    assert wrong(inputs.found()) == ["genome.unindexed"]
