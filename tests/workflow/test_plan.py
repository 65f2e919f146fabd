"""What each configuration plans to run, without running it."""

import time

import pytest
import yaml

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
    "evaluate_embedding": 1,
    "evaluate_translation": 1,
    "run_baselines": 1,
    "evaluate_annotation": 1,
    "attribute_task": 1,
    "rank_drivers": 1,
    "evaluate_drivers": 1,
    "perturb_genes": 1,
    "evaluate_perturbation": 1,
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


def test_variants_of_finetuning_and_few_labels_are_trained_where_they_are_asked_for(project, tmp_path):
    settings = yaml.safe_load((project.root / SMALL[1]).read_text())
    settings["annotation_ablation"] = {"variants": ["frozen", "rna"]}
    settings["learning_curve"] = {"labels_per_class": [5, 10]}
    config = tmp_path / "more.yaml"
    config.write_text(yaml.safe_dump(settings))
    plan = project.planned("--configfile", config)
    assert (plan["ablate_task"], plan["learn_from_few"], plan["learning_curve"]) == (2, 2, 1)
    assert plan["finetune_task"] == 3


def test_genes_and_recipes_are_judged_where_they_are_asked_for(project, tmp_path):
    genes = "gene_tasks={truth: {file: results/small/simulate/truth/grn.tsv}}"
    asked = ("results/small/evaluate/genes.tsv", "results/small/explain/modules/modules.tsv")
    plan = project.planned("--keep-going", *asked, *SMALL, "--config", genes)
    assert (plan["embed_genes"], plan["evaluate_genes"], plan["find_modules"], plan["pretrain_model"]) == (1, 1, 1, 1)
    settings = yaml.safe_load((project.root / SMALL[1]).read_text())
    settings["comparison"] = {"recipes": ["regulon", "scdmc", "scdmc_no_contrast"], "seeds": [0, 1]}
    config = tmp_path / "compared.yaml"
    config.write_text(yaml.safe_dump(settings))
    plan = project.planned("--configfile", config)
    assert (plan["pretrain_recipe"], plan["finetune_recipe"], plan["compare_recipes"]) == (6, 18, 1)
    assert plan["pretrain_model"] == 1, "the run itself is not touched"
    settings["comparison"] = {"recipes": ["biodta"], "seeds": [0, 1]}
    config.write_text(yaml.safe_dump(settings))
    plan = project.planned("--keep-going", "results/small/evaluate/recipes.tsv", "--configfile", config)
    assert plan["pretrain_recipe"] == 4, "it starts from a model of the same seed, steps and held-out cells"
    assert "pretrain_model" not in plan


def test_perturbed_cells_are_judged_where_a_column_tells_of_them(project):
    unlabelled = project.planned(*SMALL, "--config", "perturbation={column: ''}")
    assert unlabelled["perturb_genes"] == 1 and "evaluate_perturbation" not in unlabelled
    # The heads of this recipe predict no counts, so that no change of expression can be read from them.
    other = project.planned(*SMALL, "--config", "pretrain={recipe: scdynomics}")
    assert not {"perturb_genes", "evaluate_perturbation"} & other.keys()
    assert project.planned(*SMALL, "--config", "pretrain={recipe: scdmc}")["perturb_genes"] == 1


def test_gene_vectors_come_from_sequence_where_the_recipe_says_so(project):
    plan = project.planned(*SMALL, "--config", "pretrain={recipe: biodta}")
    assert (plan["train_sequence_encoder"], plan["encode_sequences"], plan["pretrain_model"]) == (1, 1, 2)
    edits = project.root / "edits.tsv"
    edits.write_text("kind\tgene\ntss_ablation\tIRF4\n")
    assert project.planned(*SMALL, "--config", f"variants={{file: {edits}}}")["score_variants"] == 1


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


def test_a_cohort_of_rna_alone_plans_no_links_no_motifs_and_no_translation(project, real_data):
    plan = project.planned("--configfile", "config/examples/pbmc_facs.yaml")
    without = {"scan_motifs", "link_peaks", "evaluate_translation"}
    assert not without & plan.keys()
    # Labels lie in obs of its h5ad; one library is divided in three folds.
    assert (plan["build_regulons"], plan["finetune_task"], plan["perturb_genes"]) == (1, 9, 1)
    paired = project.planned("--configfile", "config/examples/a549_dex.yaml")
    assert paired["link_peaks"] == paired["evaluate_translation"] == 1


def test_a_cohort_of_atac_alone_plans_nothing_that_is_judged_by_expression(project, tmp_path):
    sheet, config = tmp_path / "samples.tsv", tmp_path / "config.yaml"
    header, *rows = (project.root / "tests/config/small.tsv").read_text().splitlines()
    sheet.write_text("\n".join([f"{header}\tmodality", *(f"{row}\tatac" for row in rows)]) + "\n")
    settings = yaml.safe_load((project.root / SMALL[1]).read_text())
    config.write_text(yaml.safe_dump(settings | {"samples": str(sheet)}))
    plan = project.planned("--configfile", config)
    without = {"evaluate_grn", "resample_regulons", "evaluate_translation", "perturb_genes", "evaluate_drivers"}
    assert not without & plan.keys()
    assert (plan["scan_motifs"], plan["build_regulons"], plan["pretrain_model"], plan["finetune_task"]) == (1, 1, 1, 3)


def test_rna_alone_needs_a_network(project, real_data, tmp_path):
    settings = yaml.safe_load((project.root / "config/examples/pbmc_facs.yaml").read_text())
    settings["reference"] |= {"network": None, "fasta": "genome.fa"}
    for name in ("genome.fa", "genome.fa.fai"):
        (project.root / name).write_text("")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    done = project.snakemake("--dry-run", "--configfile", tmp_path / "config.yaml", check=False)
    assert done.returncode and "no library has ATAC, and reference/network is not given" in done.stdout


def test_mop_holds_out_libraries(project, real_data):
    plan = project.planned("--configfile", "config/examples/mop_snareseq.yaml")
    assert (plan["ingest_sample"], plan["finetune_task"]) == (12, 18)
    assert "scan_motifs" not in plan


def with_tasks(project, tmp_path, tasks, labels=("donor1", "donor2", "donor3"), *target):
    """Plan of the small run with other tasks, where only some of its libraries have labels."""
    settings = yaml.safe_load((project.root / "tests/config/small.yaml").read_text())
    lines = (project.root / "tests/config/small.tsv").read_text().splitlines()
    header = next(line for line in lines if not line.startswith("#")).split("\t")
    rows = [dict(zip(header, line.split("\t"), strict=True)) for line in lines if line.startswith("donor")]
    for row in rows:
        row["labels"] = row["labels"] if row["sample"] in labels else ""
    sheet, config = tmp_path / "samples.tsv", tmp_path / "config.yaml"
    sheet.write_text("\n".join(["\t".join(header), *("\t".join(row.values()) for row in rows)]) + "\n")
    config.write_text(yaml.safe_dump(settings | {"samples": str(sheet), "tasks": tasks}))
    return project.planned("--configfile", config, *target)


def test_regression_is_judged_on_its_own(project, tmp_path):
    tasks = {"state": {"column": "state"}, "time": {"column": "pseudotime", "type": "regression"}}
    plan = with_tasks(project, tmp_path, tasks)
    assert (plan["finetune_task"], plan["evaluate_regression"], plan["run_baselines"]) == (6, 1, 1)
    assert "predict_labels" not in plan
    alone = with_tasks(project, tmp_path, {"time": tasks["time"]})
    assert alone["evaluate_regression"] == 1
    assert not {"evaluate_annotation", "attribute_task", "rank_drivers", "evaluate_drivers"} & alone.keys()


def test_cells_are_labelled_only_where_some_have_no_label(project, tmp_path):
    state = {"state": {"column": "state"}}
    plan = with_tasks(project, tmp_path, state, ("donor1", "donor2"))
    # Folds hold out donors that have labels.
    assert (plan["predict_labels"], plan["finetune_task"]) == (1, 2)
    assert "predict_labels" not in with_tasks(project, tmp_path, {"state": state["state"] | {"transfer": "never"}}, ())
    fate = {"fate": {"column": "state", "train_on": {"column": "state", "values": ["a_terminal", "b_terminal"]}}}
    assert with_tasks(project, tmp_path, fate)["predict_labels"] == 1
    asked = {"state": state["state"] | {"predict_on": {"column": "donor", "values": ["donor1"]}}}
    assert with_tasks(project, tmp_path, asked)["predict_labels"] == 1


@pytest.fixture(autouse=True)
def data_folder(monkeypatch, request):
    if "real_data" in request.fixturenames:
        monkeypatch.setenv("REGULONFORMER_DATA", str(request.getfixturevalue("real_data")))
