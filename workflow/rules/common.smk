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
from regulonformer.config.sources import modules_of
from regulonformer.errors import InputError

file = (list(workflow.overwrite_configfiles) or ["config/config.yaml"])[-1]
try:
    CONFIG, SAMPLES, RECIPES = load_settings(dict(config), file, Path(workflow.basedir))
except InputError as error:
    raise WorkflowError(f"Bad input: {error}") from None

RECIPE = CONFIG["pretrain"]["recipe"]
GROUPS = {sample[CONFIG["splits"]["group"]] for sample in SAMPLES.values()}
# A single group cannot be held out: its cells are divided instead.
N_FOLDS = min(CONFIG["splits"]["folds"], len(GROUPS)) if len(GROUPS) > 1 else CONFIG["splits"]["folds"]
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


def reaches(goal):
    """Whether the run goes as far as a goal."""
    goals = ["matrices", "embedding", "full"]
    return goals.index(CONFIG["goal"]) >= goals.index(goal)


def runs_of(pattern):
    """The pattern filled in once per task, fold and seed."""
    runs = product(CONFIG["tasks"], range(N_FOLDS), CONFIG["splits"]["seeds"])
    return [pattern.format(task=task, recipe=RECIPE, fold=fold, seed=seed) for task, fold, seed in runs]


def finetuned(file):
    """Input function: a file of every fold of the wildcard's task, with the first seed."""
    folder = f"<results>/finetune/{{task}}/{RECIPE}/fold{{fold}}_seed{CONFIG['splits']['seeds'][0]}"
    return lambda wildcards: expand(f"{folder}/{file}", task=wildcards.task, fold=range(N_FOLDS))


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
            "links": "<results>/regulons/links.parquet",
            "link_summary": "<results>/regulons/links.json",
            "regulons": "<results>/regulons/regulons.parquet",
            "regulon_summary": "<results>/regulons/summary.json",
            "regulon_activity": "<results>/regulons/activity.h5ad",
            "corpus_summary": "<results>/corpus/summary.json",
            "corpus_unmapped": "<results>/corpus/unmapped.tsv",
            "pretrain_metrics": f"<results>/pretrain/{RECIPE}/metrics.tsv",
            "pretrain_run": f"<results>/pretrain/{RECIPE}/run.json",
            "pretrain_config": f"<results>/pretrain/{RECIPE}/config.json",
            "embedding": f"<results>/embed/{RECIPE}.h5ad",
            "grn": "<results>/evaluate/grn.tsv",
            "grn_reliability": "<results>/evaluate/grn_reliability.tsv",
            "pretraining": "<results>/evaluate/pretraining.tsv",
        }
    if reaches("full"):
        run = "<results>/finetune/{task}/{recipe}/fold{fold}_seed{seed}"
        inputs |= {
            "annotation": "<results>/evaluate/annotation.tsv",
            "predictions": runs_of(f"{run}/predictions.parquet"),
            "finetune_runs": runs_of(f"{run}/run.json"),
            "task_records": runs_of(f"{run}/task.json"),
            "attribution": expand("<results>/explain/{task}/attribution.parquet", task=CONFIG["tasks"]),
            "completeness": expand("<results>/explain/{task}/completeness.json", task=CONFIG["tasks"]),
            "ablation": given(CONFIG["ablation"]["variants"] and "<results>/evaluate/ablation.tsv"),
        }
    return inputs


def final_outputs():
    """Targets of a whole run."""
    return ["<results>/report/report.html"]
