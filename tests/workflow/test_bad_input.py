"""Bad input ends a run before any compute, with one line that names file, value and fix."""

import h5py
import numpy as np
import pandas as pd
import pysam
import pytest
import yaml

from regulonformer.io.fragments import write_fragments

GENES = [f"GENE{i}" for i in range(30)]
PEAKS = [f"chr1:{1000 * i}-{1000 * i + 500}" for i in range(1, 21)]
BARCODES = [f"{''.join(np.random.default_rng(i).choice(list('ACGT'), 16))}-1" for i in range(40)]
ANNOTATION = "".join(f"chr1\t{1000 * i}\t{1000 * i + 800}\t{gene}\t+\n" for i, gene in enumerate(GENES, start=1))


def write_matrix(path, peaks=PEAKS):
    """Write a 10x matrix of ones."""
    names = [*GENES, *peaks]
    n_cells, n_features = len(BARCODES), len(names)
    with h5py.File(path, "w") as file:
        matrix = file.create_group("matrix")
        matrix["barcodes"] = np.array(BARCODES, dtype="S")
        matrix["data"] = np.ones(n_cells * n_features, dtype=np.int32)
        matrix["indices"] = np.tile(np.arange(n_features), n_cells)
        matrix["indptr"] = np.arange(n_cells + 1) * n_features
        matrix["shape"] = np.array([n_features, n_cells], dtype=np.int32)
        features = matrix.create_group("features")
        features["id"] = features["name"] = np.array(names, dtype="S")
        features["feature_type"] = np.array(["Gene Expression"] * len(GENES) + ["Peaks"] * len(peaks), dtype="S")
        features["genome"] = np.array(["g"] * n_features, dtype="S")


@pytest.fixture
def library(tmp_path):
    """Inputs without a fault: settings, and the folder in which a test may spoil them."""
    outs = tmp_path / "outs"
    outs.mkdir()
    write_matrix(outs / "filtered_feature_bc_matrix.h5")
    fragments = [("chr1", 1000 + i, 1100 + i, barcode, 1) for i, barcode in enumerate(BARCODES)]
    table = pd.DataFrame(fragments, columns=["chrom", "start", "end", "barcode", "count"])
    write_fragments(table, outs / "atac_fragments.tsv.gz")
    (outs / "atac_peaks.bed").write_text("".join(peak.replace(":", "\t").replace("-", "\t") + "\n" for peak in PEAKS))
    (tmp_path / "genes.bed").write_text(ANNOTATION)
    (tmp_path / "network.csv").write_text("source,target,weight\nGENE1,GENE2,1\n")
    labels = "barcode\tstate\n" + "".join(f"{barcode}\t{'AB'[i % 2]}\n" for i, barcode in enumerate(BARCODES))
    (tmp_path / "labels.tsv").write_text(labels)
    (tmp_path / "samples.tsv").write_text(f"sample\touts\tlabels\na\t{outs}\t{tmp_path}/labels.tsv\n")
    settings = {
        "run": "bad",
        "samples": f"{tmp_path}/samples.tsv",
        "reference": {"annotation": f"{tmp_path}/genes.bed", "network": f"{tmp_path}/network.csv"},
        "tasks": {"state": {"column": "state"}},
    }
    return tmp_path, settings


def judge(project, library):
    """Ask for the verdict on the inputs; return exit status and output."""
    folder, settings = library
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    done = project.snakemake(
        "--configfile", config, "--directory", folder, "results/bad/validate/inputs.json", check=False, timeout=120
    )
    return done.returncode, done.stdout


def spoil_unknown_key(folder, settings):
    settings["finetune"] = {"rnak": 4}


def spoil_type(folder, settings):
    settings["finetune"] = {"rank": "four"}


def spoil_missing_file(folder, settings):
    (folder / "genes.bed").unlink()


def spoil_sample_twice(folder, settings):
    sheet = folder / "samples.tsv"
    header, row = sheet.read_text().splitlines()
    sheet.write_text("\n".join([header, row, row]) + "\n")


def spoil_wanted_atac(folder, settings):
    write_matrix(folder / "outs" / "filtered_feature_bc_matrix.h5", peaks=[])
    for file in (folder / "outs").glob("atac_*"):
        file.unlink()
    (folder / "samples.tsv").write_text(f"sample\touts\tmodality\na\t{folder}/outs\tatac\n")


def spoil_no_index(folder, settings):
    (folder / "outs" / "atac_fragments.tsv.gz.tbi").unlink()


def spoil_chromosomes(folder, settings):
    (folder / "genes.bed").write_text(ANNOTATION.replace("chr1", "1"))


def spoil_labels(folder, settings):
    labels = folder / "labels.tsv"
    labels.write_text(labels.read_text().replace("-1\t", "-7\t"))


def spoil_task_column(folder, settings):
    settings["tasks"] = {"state": {"column": "stage"}}


def spoil_task_values(folder, settings):
    settings["tasks"] = {"state": {"column": "condition"}}


def spoil_task_text(folder, settings):
    settings["tasks"] = {"dose": {"column": "state", "type": "regression"}}


def spoil_task_kind(folder, settings):
    block = {"column": "state", "type": "regression", "predict_on": {"column": "state", "values": ["A"]}}
    settings["tasks"] = {"dose": block}


def spoil_model_key(folder, settings):
    settings["pretrain"] = {"model": {"widht": 32}}


def spoil_simulation(folder, settings):
    settings["simulate"] = {"activate": True}


def spoil_annotation(folder, settings):
    del settings["reference"]["annotation"]


def spoil_network(folder, settings):
    (folder / "network.csv").write_text("source,target,weight\nFoo1,Bar2,1\n")


def spoil_variants(folder, settings):
    (folder / "genome.fa").write_text(f">chr1\n{'ACGT' * 9000}\n")
    pysam.faidx(str(folder / "genome.fa"))
    settings["reference"]["fasta"] = f"{folder}/genome.fa"
    (folder / "edits.vcf").write_text("#CHROM\tPOS\tID\tREF\tALT\nchr1\t1001\trs1\tG\tT\n")
    settings["variants"] = {"file": f"{folder}/edits.vcf"}


def spoil_variant_states(folder, settings):
    """Variants are scored in the states of the task, of which one is called as all cells together."""
    spoil_variants(folder, settings)
    (folder / "labels.tsv").write_text((folder / "labels.tsv").read_text().replace("\tA\n", "\tall\n"))


CASES = {
    spoil_unknown_key: ["config.yaml", "'rnak'", "'rank'"],
    spoil_type: ["config.yaml", "finetune/rank", "'four'", "integer"],
    spoil_missing_file: ["genes.bed", "does not exist", "reference/annotation"],
    spoil_sample_twice: ["samples.tsv", "'a'", "2 times"],
    spoil_wanted_atac: ["filtered_feature_bc_matrix.h5", "the library has no peaks", "modality"],
    spoil_no_index: ["atac_fragments.tsv.gz", ".tbi", "tabix -p bed"],
    spoil_chromosomes: ["genes.bed", "'chr1'", "'1'", "prefix"],
    spoil_labels: ["labels.tsv", "'a'", "-7", "-1", "prefix and suffix"],
    spoil_task_column: ["tasks/state/column", "'stage'", "state"],
    spoil_task_values: ["tasks/state/column", "'condition'", "two classes"],
    spoil_task_text: ["tasks/dose", "'state'", "'A', not a number", "type: classification"],
    spoil_task_kind: ["config.yaml", "tasks/dose/predict_on", "is a regression", "remove the key"],
    spoil_model_key: ["config.yaml", "'widht'", "'width'"],
    spoil_simulation: ["config.yaml", "simulate/activate", "'a'", "activate: false"],
    spoil_annotation: ["config.yaml", "reference/annotation", "goal: matrices"],
    spoil_network: ["network.csv", "Bar2", "GENE0", "species"],
    spoil_variants: ["edits.vcf line 2", "allele G at chr1:1001", "genome.fa has A", "genome build"],
    spoil_variant_states: ["'state'", "'all'", "variants/group"],
}


@pytest.mark.parametrize("spoil", CASES, ids=lambda spoil: spoil.__name__.removeprefix("spoil_"))
def test_fault_is_told_in_one_line(project, library, spoil):
    spoil(*library)
    status, output = judge(project, library)
    assert status != 0
    wanted = CASES[spoil]
    assert any(all(word in line for word in wanted) for line in output.splitlines()), output[-3000:]
    assert not (library[0] / "results" / "bad" / "ingest").exists()


def test_without_a_fault_the_verdict_is_clean(project, library):
    status, output = judge(project, library)
    assert status == 0, output
    assert '"level": "error"' not in (library[0] / "results/bad/validate/inputs.json").read_text()
