"""The whole verdict: sound inputs, all findings at once, memory, and the script."""

import gzip
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sound_inputs import (
    SCRIPTS,
    write_fragment_lines,
    write_matrix,
)

from regulonformer.io.matrix import MatrixHeader
from regulonformer.io.store import read_json
from regulonformer.validate import resources
from regulonformer.validate.findings import Findings
from regulonformer.validate.judge import judge_inputs
from regulonformer.validate.libraries import Library


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


def test_budget_grows_with_the_counts_and_warns_of_what_is_short(inputs, monkeypatch):
    small = {row["step"]: row["needed_mb"] for row in inputs.verdict()["budget"]}
    write_matrix(inputs.matrix)
    monkeypatch.setattr("regulonformer.validate.matrix.sample_counts", lambda *_: (10**9, np.ones(1)))
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
