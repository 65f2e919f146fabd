# Settings and sheet, checked before anything runs, and questions about them that all stages ask.

import sys
from contextlib import suppress
from itertools import product
from pathlib import Path

from snakemake.exceptions import WorkflowError

SCRIPTS = Path(workflow.basedir) / "workflow" / "scripts"
# Every cluster job parses this file anew, wherever it runs.
sys.path.insert(0, str(SCRIPTS))

from regulonformer.config.settings import load_settings
from regulonformer.config.sheet import may_have_label
from regulonformer.config.sources import modules_of
from regulonformer.errors import InputError

file = (list(workflow.overwrite_configfiles) or ["config/config.yaml"])[-1]
try:
    CONFIG, SAMPLES, RECIPES = load_settings(dict(config), file, Path(workflow.basedir))
except InputError as error:
    raise WorkflowError(f"Bad input: {error}") from None

RECIPE = CONFIG["pretrain"]["recipe"]
ENVIRONMENT = "../../envs/regulonformer.yaml"


pathvars:
    results=f"results/{CONFIG['run']}",
    logs=f"results/{CONFIG['run']}/logs",
    benchmarks=f"results/{CONFIG['run']}/benchmarks",


wildcard_constraints:
    sample="|".join(map(re.escape, SAMPLES)),
    task="|".join(map(re.escape, CONFIG["tasks"])) or "none",
    recipe="|".join(map(re.escape, RECIPES)),
    fold=r"\d+",
    seed=r"\d+",
    labels=r"\d+",
    variant=r"\w+",


def section(name):
    """One section of the settings: plain builtins with sorted keys, so that Snakemake notices every change of value."""
    return CONFIG[name]


def lib(rule_name):
    """Modules that a rule's script imports. They are inputs, because Snakemake itself looks at the script alone."""
    here = Path.cwd()
    files = map(Path, modules_of(SCRIPTS / f"{rule_name}.py", SCRIPTS))
    return [str(file.relative_to(here)) if file.is_relative_to(here) else str(file) for file in files]


def given(path, suffix=""):
    """A file that may be absent, or the index beside it, as an input."""
    return f"{path}{suffix}" if path else []


def annotation_table(name):
    """A table that `read_annotation` writes, as an input; none where the run has no annotation."""
    return f"<results>/annotation/{name}.parquet" if CONFIG["reference"]["annotation"] else []


def of_sample(column):
    """Input function: a file of the wildcard's library, if it has one."""
    return lambda wildcards: given(SAMPLES[wildcards.sample][column])


def having(column):
    """Libraries that have a file."""
    return [name for name, sample in SAMPLES.items() if sample[column]]


def of_samples(column):
    """The files of all libraries that have one."""
    return [SAMPLES[name][column] for name in having(column)]


def with_atac():
    """Whether any library may have ATAC. By the sheet; where it says nothing, the files are asked when they are read."""
    velocity = CONFIG["ingest"]["second_modality"] == "unspliced"
    return not velocity and any(sample["modality"] != "rna" for sample in SAMPLES.values())


def with_rna():
    """Whether any library has RNA; a sheet must say so where none has."""
    return any(sample["modality"] != "atac" for sample in SAMPLES.values())


def paired():
    """Whether any library may have both modalities, so that one can be predicted from the other."""
    return with_atac() and any(sample["modality"] == "" for sample in SAMPLES.values())


def links():
    """Links of peaks to genes, as an input; none where the run has no ATAC."""
    return given(with_atac() and "<results>/regulons/links.parquet")


def motif_hits():
    """Motif sites in peaks, as an input; none without a genome or without ATAC."""
    return given(CONFIG["reference"]["fasta"] and with_atac() and "<results>/regulons/motif_hits.npz")


def index_of(fragments):
    """Tabix indexes of fragment files."""
    return [f"{file}.tbi" for file in fragments]


def fragments_index(wildcards):
    """Input function: the tabix index of the wildcard's fragment file, if it has one."""
    return given(SAMPLES[wildcards.sample]["fragments"], ".tbi")


def memory_of(*rule_names):
    """Memory (MB) that rules ask for at the first attempt; without those that need their wildcards or inputs to tell."""
    asked = {}
    for name in rule_names:
        with suppress(Exception):
            asked[name] = workflow.get_rule(name).resources["mem_mb"].evaluate(None, attempt=1, input=[]).value
    return asked


def pretrain_settings(recipe):
    """The pretraining section together with its recipe."""
    return section("pretrain") | {"recipe": recipe, "recipe_settings": RECIPES[recipe]}


def compared_recipes():
    """Recipes that a comparison trains: those that are named, or else all files and controls that the data allow."""
    dynamic = with_atac() and CONFIG["reference"]["fasta"] and CONFIG["reference"]["annotation"]
    needs = {"fusion": paired(), "dynamic": bool(dynamic)}
    able = [name for name, recipe in RECIPES.items() if needs.get(recipe["objective"]["name"], True)]
    return CONFIG["comparison"]["recipes"] or able


def compared_settings(recipe, seed):
    """Settings of pretraining for a comparison; recipes share the cells that are held out."""
    steps = CONFIG["comparison"]["steps"] or CONFIG["pretrain"]["steps"]
    return pretrain_settings(recipe) | {"steps": steps, "seed": int(seed)}


def compared_task():
    """The classification that compared recipes are adapted to, as a list of one; empty where there is none."""
    return [CONFIG["comparison"]["task"]] if CONFIG["comparison"]["task"] else tasks_of("classification")[:1]


def perturbs():
    """Whether genes are perturbed in silico: heads that predict counts are what tells the change of expression."""
    predicting_counts = ("masked", "contrast", "fusion", "dynamic")
    return with_rna() and RECIPES[RECIPE]["objective"].get("name", "masked") in predicting_counts


def perturbation_settings():
    """The perturbation section; where no cell states are named, those of the first classification of anything else."""
    chosen = section("perturbation")
    columns = [CONFIG["tasks"][name]["column"] for name in tasks_of("classification")]
    states = [column for column in columns if column != chosen["column"]]
    return chosen | {"group": chosen["group"] or next(iter(states), None)}


def is_dynamic(recipe):
    """Whether a recipe makes gene vectors of sequence."""
    return RECIPES[recipe]["objective"]["name"] == "dynamic"


# The recipe that variants are scored with: that of the run if it is dynamic, or the first one that is.
DYNAMIC = RECIPE if is_dynamic(RECIPE) else next(filter(is_dynamic, RECIPES), RECIPE)
BASE = RECIPES[DYNAMIC]["objective"].get("base", RECIPE)


def sequence_encoder():
    """The encoder of sequences, by its config.json: a folder that the config names, or the network of this run."""
    given_one = CONFIG["sequence"]["encoder"]
    return f"{given_one}/config.json" if given_one else "<results>/sequence/encoder/config.json"


def variant_settings():
    """The section of variants; cell groups as in the perturbation section where none are named."""
    chosen = {key: value for key, value in section("variants").items() if key != "file"}
    return chosen | {"group": chosen["group"] or perturbation_settings()["group"]}


def base_model(wildcards):
    """Input function: the model that a recipe with dynamic tokens takes up."""
    objective = RECIPES[wildcards.recipe]["objective"]
    return f"<results>/pretrain/{objective['base']}/model.safetensors" if is_dynamic(wildcards.recipe) else []


def compared_base(wildcards):
    """Input function: the same for a comparison, of the same seed and steps: it saw no cell that is held out."""
    base = RECIPES[wildcards.recipe]["objective"].get("base")
    return f"<results>/recipes/{base}/seed{wildcards.seed}/model.safetensors" if is_dynamic(wildcards.recipe) else []


def base_runs():
    """Records of the models that compared recipes take up: their cost is part of it."""
    bases = sorted({RECIPES[recipe]["objective"]["base"] for recipe in filter(is_dynamic, compared_recipes())})
    return expand("<results>/recipes/{base}/seed{seed}/run.json", base=bases, seed=CONFIG["comparison"]["seeds"])


def sequence_vectors(wildcards):
    """Input function: vectors of the sequences of genes, for a recipe with dynamic tokens."""
    return "<results>/sequence/vectors.npz" if is_dynamic(wildcards.recipe) else []


def reaches(goal):
    """Whether the run goes as far as a goal."""
    goals = ["matrices", "embedding", "full"]
    return goals.index(CONFIG["goal"]) >= goals.index(goal)


def cell_types():
    """Column of cell types: that of the embedding's metrics, or of the first classification; None without either."""
    columns = [CONFIG["tasks"][name]["column"] for name in tasks_of("classification")]
    return CONFIG["embedding_metrics"]["label"] or next(iter(columns), None)


def tasks_of(kind):
    """Names of the tasks of one kind: classification or regression."""
    return [name for name, task in CONFIG["tasks"].items() if task["type"] == kind]


def labelled(task):
    """Libraries whose cells may have a label of a task."""
    column = CONFIG["tasks"][task]["column"]
    try:
        return [name for name, sample in SAMPLES.items() if may_have_label(sample, column)]
    except InputError as error:
        raise WorkflowError(f"Bad input: {error}") from None


def folds_of(task):
    """Number of folds of a task: at most its groups of libraries with labels; a single group is divided by cells."""
    groups = {SAMPLES[name][CONFIG["splits"]["group"]] for name in labelled(task)}
    return min(CONFIG["splits"]["folds"], len(groups)) if len(groups) > 1 else CONFIG["splits"]["folds"]


def learned(task):
    """What the models of a task depend on, of its block."""
    return {key: CONFIG["tasks"][task][key] for key in ("column", "type", "train_on")}


def predicted(task):
    """What the labels of cells without one depend on besides, of the block of a task."""
    return {key: CONFIG["tasks"][task][key] for key in ("predict_on", "error_rate")}


def transferred():
    """Classifications that are to predict the cells without a label."""
    blocks = {name: CONFIG["tasks"][name] for name in tasks_of("classification")}
    some = [name for name in blocks if len(labelled(name)) < len(SAMPLES)]
    some += [name for name, block in blocks.items() if block["train_on"] or block["predict_on"]]
    wanted = {"always": blocks, "auto": some, "never": []}
    return [name for name, block in blocks.items() if name in wanted[block["transfer"]]]


def runs_of(pattern, kind="classification"):
    """The pattern filled in once per task of a kind, fold and seed."""
    seeds = CONFIG["splits"]["seeds"]
    runs = [run for task in tasks_of(kind) for run in product([task], range(folds_of(task)), seeds)]
    return [pattern.format(task=task, recipe=RECIPE, fold=fold, seed=seed) for task, fold, seed in runs]


def finetuned(file, n_seeds=1):
    """Input function: a file of every fold of the wildcard's task, with the first seeds."""
    path = f"<results>/finetune/{{task}}/{RECIPE}/fold{{fold}}_seed{{seed}}/{file}"
    seeds = CONFIG["splits"]["seeds"][:n_seeds]
    return lambda wildcards: expand(path, task=wildcards.task, fold=range(folds_of(wildcards.task)), seed=seeds)


def report_inputs():
    """What the report shows: everything that the run's goal makes, by name."""
    inputs = {
        "validation": "<results>/validate/inputs.json",
        "qc": expand("<results>/ingest/{sample}.qc.json", sample=SAMPLES),
        "cells": expand("<results>/ingest/{sample}.cells.parquet", sample=SAMPLES),
        "peaks_summary": "<results>/features/peaks.json",
        "counts": expand("<results>/features/counts/{sample}.json", sample=SAMPLES),
        "merge_summary": "<results>/features/merge.json",
        "multiome": "<results>/features/multiome.h5mu",
    }
    if reaches("embedding"):
        inputs |= {
            "links": links(),
            "link_summary": given(with_atac() and "<results>/regulons/links.json"),
            "regulons": "<results>/regulons/regulons.parquet",
            "regulon_summary": "<results>/regulons/summary.json",
            "regulon_activity": "<results>/regulons/activity.h5ad",
            "corpus_summary": "<results>/corpus/summary.json",
            "corpus_unmapped": "<results>/corpus/unmapped.tsv",
            "pretrain_metrics": f"<results>/pretrain/{RECIPE}/metrics.tsv",
            "pretrain_run": f"<results>/pretrain/{RECIPE}/run.json",
            "pretrain_config": f"<results>/pretrain/{RECIPE}/config.json",
            "embedding": f"<results>/embed/{RECIPE}.h5ad",
            "grn": given(with_rna() and "<results>/evaluate/grn.tsv"),
            "grn_reliability": given(with_rna() and "<results>/evaluate/grn_reliability.tsv"),
            "pretraining": "<results>/evaluate/pretraining.tsv",
        }
    if reaches("full"):
        run = "<results>/finetune/{task}/{recipe}/fold{fold}_seed{seed}"
        inputs |= {
            "regression": given(tasks_of("regression") and "<results>/evaluate/regression.tsv"),
            "finetune_runs": runs_of(f"{run}/run.json") + runs_of(f"{run}/run.json", "regression"),
            "predictions": runs_of(f"{run}/predictions.parquet"),
            "task_records": runs_of(f"{run}/task.json"),
            "attribution": expand("<results>/explain/{task}/attribution.parquet", task=tasks_of("classification")),
            "completeness": expand("<results>/explain/{task}/completeness.json", task=tasks_of("classification")),
            "drivers": expand("<results>/explain/{task}/drivers.tsv", task=tasks_of("classification")),
            "driver_stability": expand("<results>/explain/{task}/stability.tsv", task=tasks_of("classification")),
            "driver_tfs": expand("<results>/explain/{task}/driver_tfs.tsv", task=tasks_of("classification")),
            "driver_agreement": expand("<results>/explain/{task}/agreement.json", task=tasks_of("classification")),
            "regulon_influence": expand(
                "<results>/explain/{task}/regulon_influence.tsv", task=tasks_of("classification")
            ),
            "enrichment": expand("<results>/explain/{task}/enrichment.tsv", task=tasks_of("classification")),
            "transferred": expand(f"<results>/finetune/{{task}}/{RECIPE}/labels.parquet", task=transferred()),
            "transfer_summary": expand(f"<results>/finetune/{{task}}/{RECIPE}/labels.json", task=transferred()),
            "embedding_scores": given(cell_types() and "<results>/evaluate/embedding.tsv"),
            "translation": given(paired() and "<results>/evaluate/translation.tsv"),
            "ablation": given(CONFIG["ablation"]["variants"] and "<results>/evaluate/ablation.tsv"),
            "missing": given(CONFIG["missing"]["seeds"] and "<results>/evaluate/missing.tsv"),
            "recipes": given(CONFIG["comparison"]["recipes"] and "<results>/evaluate/recipes.tsv"),
            "genes": given(CONFIG["gene_tasks"] and "<results>/evaluate/genes.tsv"),
            "perturbed_tfs": given(perturbs() and "<results>/explain/perturb/tfs.parquet"),
            "perturbed_targets": given(perturbs() and "<results>/explain/perturb/targets.parquet"),
            "variants": given(CONFIG["variants"]["file"] and "<results>/explain/variants/variants.parquet"),
            "perturbation": given(
                perturbs() and CONFIG["perturbation"]["column"] and "<results>/evaluate/perturbation.tsv"
            ),
        }
    if reaches("full") and tasks_of("classification"):
        inputs |= {
            "annotation": "<results>/evaluate/annotation.tsv",
            "differences": "<results>/evaluate/annotation_differences.tsv",
            "recall": "<results>/evaluate/recall.tsv",
            "reliability": "<results>/evaluate/reliability.tsv",
            "confusion": "<results>/evaluate/confusion.json",
            "learning_curve": given(
                CONFIG["learning_curve"]["labels_per_class"] and "<results>/evaluate/learning_curve.tsv"
            ),
            "driver_scores": given(with_rna() and CONFIG["simulate"]["activate"] and "<results>/evaluate/drivers.tsv"),
        }
    return inputs


def final_outputs():
    """Targets of a whole run."""
    return ["<results>/report/report.html"]
