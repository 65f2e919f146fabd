"""What each configuration plans to run, without running it."""

import time

import pytest

SMALL = ("--configfile", "tests/config/small.yaml")
UP_TO_MATRICES = {
    "validate_inputs": 1,
    "read_annotation": 1,
    "ingest_sample": 1,
    "call_consensus_peaks": 1,
    "count_sample": 1,
    "merge_samples": 1,
}
WHOLE = {
    "simulate_multiome": 1,
    "validate_inputs": 1,
    "read_annotation": 1,
    "ingest_sample": 3,
    "call_consensus_peaks": 1,
    "count_sample": 3,
    "merge_samples": 1,
    "scan_motifs": 1,
    "link_peaks": 1,
    "build_regulons": 1,
    "score_regulons": 1,
    "resample_regulons": 1,
    "evaluate_grn": 1,
    "build_corpus": 1,
    "pretrain_model": 1,
    "embed_cells": 1,
    "evaluate_pretraining": 1,
    "run_baselines": 1,
    "evaluate_annotation": 1,
    "attribute_task": 1,
    "write_report": 1,
}


def test_demo_plans_every_rule(project):
    assert project.planned() == WHOLE | {"finetune_task": 9}


def test_small_plans_one_seed(project):
    assert project.planned(*SMALL) == WHOLE | {"finetune_task": 3}


def test_ablation_is_trained_where_variants_are_named(project):
    assert project.planned(*SMALL, "--config", "ablation={variants: [shuffled]}")["ablate_model"] == 1
    target = "results/small/evaluate/ablation.tsv"
    alone = project.planned("--keep-going", target, *SMALL)
    assert alone["ablate_model"] == 1
    assert not {"pretrain_model", "write_report"} & alone.keys()


def test_dry_run_is_quick(project):
    started = time.monotonic()
    project.planned()
    assert time.monotonic() - started < 5


def test_k562_ends_with_matrices(project, real_data):
    plan = project.planned("--configfile", "config/examples/k562_chr22p.yaml")
    assert plan == UP_TO_MATRICES | {"write_report": 1}


def test_pbmc_ends_with_embedding_and_scans_no_motif(project, real_data):
    plan = project.planned("--configfile", "config/examples/pbmc_40cells.yaml")
    regulons = {"link_peaks": 1, "build_regulons": 1, "score_regulons": 1, "resample_regulons": 1, "evaluate_grn": 1}
    model = {"build_corpus": 1, "pretrain_model": 1, "embed_cells": 1, "evaluate_pretraining": 1}
    assert plan == UP_TO_MATRICES | regulons | model | {"write_report": 1}


def test_mop_holds_out_libraries(project, real_data):
    plan = project.planned("--configfile", "config/examples/mop_snareseq.yaml")
    assert (plan["ingest_sample"], plan["finetune_task"]) == (12, 9)
    assert "scan_motifs" not in plan


@pytest.fixture(autouse=True)
def data_folder(monkeypatch, request):
    if "real_data" in request.fixturenames:
        monkeypatch.setenv("REGULONFORMER_DATA", str(request.getfixturevalue("real_data")))
