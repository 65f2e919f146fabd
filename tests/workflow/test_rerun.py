"""A change reruns exactly what depends on it."""

import shutil

import pytest
import yaml

SMALL = "tests/config/small.yaml"
REPORT = {"write_report"}
JUDGED = {"evaluate_annotation"} | REPORT
RANKED = {"rank_drivers", "evaluate_drivers"}
TUNED = {"finetune_task", "attribute_task"} | RANKED | JUDGED
PERTURBED = {"perturb_genes", "evaluate_perturbation"}
EMBEDDED = {"evaluate_embedding", "evaluate_translation"}
TRAINED = {"pretrain_model", "embed_cells", "evaluate_pretraining"} | EMBEDDED | PERTURBED | TUNED


@pytest.fixture
def plan(small_run, tmp_path):
    """Plan after a change of the small config: the rules that would run."""

    def plan(change=lambda settings: None):
        settings = yaml.safe_load((small_run.root / SMALL).read_text())
        change(settings)
        config = tmp_path / "changed.yaml"
        config.write_text(yaml.safe_dump(settings))
        return set(small_run.planned("--configfile", config))

    return plan


@pytest.fixture
def edited(small_run):
    """Edit a file of the checkout for the time of a test."""
    kept = []

    def edit(name, text):
        file = small_run.root / name
        kept.append((file, shutil.copy2(file, file.with_suffix(".kept"))))
        file.write_text(file.read_text() + text)

    yield edit
    for file, copy in kept:
        shutil.move(copy, file)


def test_nothing_changed_nothing_runs(plan):
    assert plan() == set()


def test_order_of_keys_reruns_nothing(plan):
    def reverse(settings):
        settings["finetune"] = dict(reversed(settings["finetune"].items()))

    assert plan(reverse) == set()


def test_lora_rank_reruns_finetuning_and_what_follows(plan):
    assert plan(lambda settings: settings["finetune"].update(rank=3)) == TUNED


def test_pretraining_key_reruns_pretraining_and_what_follows(plan):
    assert plan(lambda settings: settings["pretrain"].update(steps=21)) == TRAINED


def test_figure_option_reruns_the_report_alone(plan):
    assert plan(lambda settings: settings.update(report={"dpi": 90})) == REPORT


def test_one_more_seed_adds_its_jobs_alone(small_run, plan):
    # Attributions are of the first two seeds, whose agreement they show.
    added = {"run_baselines", "evaluate_translation"} | TUNED
    assert plan(lambda settings: settings["splits"].update(seeds=[0, 1])) == added


def test_swapped_values_are_noticed(plan):
    def swap(settings):
        tuning = settings["finetune"]
        tuning["rank"], tuning["linear_components"] = tuning["linear_components"], tuning["rank"]

    assert plan(swap) == TUNED


def test_edited_metric_reruns_evaluation_and_report(plan, edited):
    edited("workflow/scripts/regulonformer/evaluate/metrics.py", "\n# A changed line.\n")
    # The tables of regulons and of pretraining share their columns with the metrics.
    assert plan() == JUDGED | {"evaluate_grn", "evaluate_pretraining", "evaluate_perturbation"} | EMBEDDED


def test_named_variant_adds_the_ablation_alone(plan):
    assert plan(lambda settings: settings.update(ablation={"variants": ["shuffled"]})) == {"ablate_model"} | REPORT


def test_named_variant_of_finetuning_adds_itself_and_the_scores_alone(plan):
    rules = plan(lambda settings: settings.update(annotation_ablation={"variants": ["frozen"]}))
    assert rules == {"ablate_task"} | JUDGED


def test_a_named_comparison_adds_its_own_models_alone(plan):
    rules = plan(lambda settings: settings.update(comparison={"recipes": ["regulon", "scdynomics"], "seeds": [0]}))
    assert rules == {"pretrain_recipe", "finetune_recipe", "compare_recipes"} | REPORT


def test_few_labels_add_their_curve_alone(plan):
    rules = plan(lambda settings: settings.update(learning_curve={"labels_per_class": [5]}))
    assert rules == {"learn_from_few", "learning_curve"} | REPORT


def test_setting_of_the_judgement_of_regulons_leaves_the_model_alone(plan):
    rules = plan(lambda settings: settings["grn"].update(confidence=0.9))
    assert rules == {"resample_regulons", "evaluate_grn"} | REPORT


def test_perturbation_key_reruns_perturbation_alone(plan):
    assert plan(lambda settings: settings["perturbation"].update(null_genes=12)) == PERTURBED | REPORT


def test_translated_peaks_rerun_translation_alone(plan):
    assert plan(lambda settings: settings["translation"].update(peaks=90)) == {"evaluate_translation"} | REPORT


def test_permutations_rerun_the_ranking_of_drivers_and_not_their_attributions(plan):
    assert plan(lambda settings: settings.update(drivers={"permutations": 200})) == RANKED | REPORT


def test_edited_model_reruns_training(plan, edited):
    edited("workflow/scripts/regulonformer/model/attention.py", "\n# A changed line.\n")
    assert plan() == TRAINED


def test_touched_module_reruns_nothing(small_run, plan):
    (small_run.root / "workflow/scripts/regulonformer/model/attention.py").touch()
    assert plan() == set()


def test_changed_task_does_not_rerun_pretraining(plan):
    def rename(settings):
        settings["tasks"] = {"knockout": {"column": "knockout"}}

    rules = plan(rename)
    assert {"finetune_task", "run_baselines"} <= rules
    assert not {"ingest_sample", "pretrain_model", "embed_cells"} & rules
