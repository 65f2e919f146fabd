"""All that the user asked for: settings, libraries and recipes, read and checked together."""

from pathlib import Path

from regulonformer.config.schema import check_settings, read_yaml
from regulonformer.config.sheet import SAMPLE_NAME, expand_path, is_there, read_samples
from regulonformer.errors import InputError

# Folder of `perturb_genes` beside those of the tasks.
PERTURB_FOLDER = "perturb"


def load_settings(config: dict, file: str, root: Path) -> tuple[dict, dict, dict]:
    """Check a config and read what it names.

    Parameters
    ----------
    config
        Content of the config file.
    file
        Its name, for errors.
    root
        Folder of the workflow, which holds schemas and recipes.

    Returns
    -------
    settings
        With defaults, keys sorted, and reference paths expanded.
    samples
        Library name to its row of the sample sheet.
    recipes
        Recipe name to its content.

    Raises
    ------
    InputError
        At the first fault.
    """
    schemas = root / "workflow" / "schemas"
    settings = check_settings(config, read_yaml(schemas / "config.schema.yaml"), str(file))
    simulated = settings["simulate"]["activate"]
    settings["downloads"] = {expand_path(path, file): source for path, source in settings["downloads"].items()}
    downloads = settings["downloads"].keys()
    rows = read_samples(expand_path(settings["samples"], file), simulated, downloads)
    samples = {row["sample"]: row for row in rows}
    recipe_schema = read_yaml(schemas / "recipe.schema.yaml")
    recipes = {
        path.stem: check_settings(read_yaml(path), recipe_schema, str(path))
        for path in sorted((root / "config" / "recipes").glob("*.yaml"))
    }
    recipes |= _controls(settings["comparison"]["controls"], recipes, recipe_schema, file)
    settings["reference"] = _find_reference(settings["reference"], file, simulated, downloads)
    settings["grn"] = _find_standards(settings["grn"], settings["reference"]["network"], file, downloads)
    markers = _find_optional("drivers/markers", settings["drivers"]["markers"], file, downloads)
    settings["drivers"] |= {"markers": markers}
    _check_names("comparison/recipes", settings["comparison"]["recipes"], recipes, file)
    for name, task in settings["gene_tasks"].items():
        # The truth of a simulation is made by the run.
        path = expand_path(task["file"], file)
        if not simulated or not path.startswith(f"results/{settings['run']}/simulate/"):
            _find_optional(f"gene_tasks/{name}/file", path, file, downloads)
        task["file"] = path
    _check_goal(settings, samples, file)
    _check_tasks(settings["tasks"], file)
    _check_perturbation(settings["perturbation"], file)
    _check_libraries(settings, samples, file)
    _check_pretraining(settings["pretrain"], samples, recipes, file)
    _check_compared_task(settings["comparison"]["task"], settings["tasks"], file)
    _find_sequence(settings, downloads, file)
    for name in dict.fromkeys([settings["pretrain"]["recipe"], *settings["comparison"]["recipes"]]):
        _check_recipe(name, settings, samples, recipes, file)
    if settings["variants"]["file"]:
        _check_sequence("variants/file", settings, samples, file)
    overrides = recipes[settings["pretrain"]["recipe"]] | {"model": settings["pretrain"]["model"]}
    check_settings(overrides, recipe_schema, f"{file}, pretrain")
    return settings, samples, recipes


def _controls(controls: dict, recipes: dict, schema: dict, file: str) -> dict:
    """Recipes that differ from others in some keys of the objective."""
    found = {}
    for name, control in controls.items():
        _check_names(f"comparison/controls/{name}/recipe", [control["recipe"]], recipes, file)
        if name in recipes:
            raise InputError(file, f"comparison/controls/{name} is the name of a recipe", "Give it another name")
        if not SAMPLE_NAME.fullmatch(name):
            fix = "Use letters, digits, '_', '-' and '.' only, starting with a letter or digit: it names a folder"
            raise InputError(file, f"comparison/controls names a control {name!r}", fix)
        recipe = recipes[control["recipe"]]
        changed = recipe | {"objective": recipe["objective"] | control["objective"]}
        found[name] = check_settings(changed, schema, f"{file}, comparison/controls/{name}")
    return found


def _check_names(key: str, names: list[str], recipes: dict, file: str) -> None:
    """Refuse names of recipes that there are not."""
    if unknown := [name for name in names if name not in recipes]:
        raise InputError(file, f"{key} names {', '.join(unknown)}", f"Choose from {', '.join(recipes)}")


def _find_reference(reference: dict, file: str, simulated: bool, downloads) -> dict:
    """Expand the reference paths; unless they are yet to be simulated or downloaded, their files must be there."""
    found = {key: expand_path(path, file) for key, path in reference.items()}
    for key, path in found.items():
        if path and not is_there(path, simulated, downloads):
            problem = f"reference/{key} file {path} does not exist"
            raise InputError(file, problem, "Check the path; it is relative to the working directory")
    fasta = found["fasta"]
    # A downloaded genome is indexed by the run.
    if fasta and fasta not in downloads and not is_there(f"{fasta}.fai", simulated):
        raise InputError(fasta, "the genome has no index (.fai)", f"Run: samtools faidx {fasta}")
    return found


def _find_standards(grn: dict, network: str | None, file: str, downloads) -> dict:
    """Expand the paths of what regulons are judged by; never by the network that they were built from."""
    found = {key: _find_optional(f"grn/{key}", grn[key], file, downloads) for key in ("gold", "elements")}
    if found["gold"] and network and Path(found["gold"]).resolve() == Path(network).resolve():
        problem = f"grn/gold is the file of reference/network, {network}"
        raise InputError(file, problem, "Judge regulons by a network that they were not built from")
    return grn | found


def _find_optional(key: str, path: str | None, file: str, downloads) -> str | None:
    """Expand a path that may be left out; if it is given, its file must be there, unless it is yet to be downloaded."""
    path = expand_path(path, file)
    if path and not is_there(path, False, downloads):
        fix = "Check the path; it is relative to the working directory"
        raise InputError(file, f"{key} file {path} does not exist", fix)
    return path


def _check_libraries(settings: dict, samples: dict, file: str) -> None:
    """Refuse to simulate where real libraries lie, and to call peaks without fragments."""
    home = f"results/{settings['run']}/simulate/"
    for name, sample in samples.items():
        if settings["simulate"]["activate"] and not sample["matrix"].startswith(home):
            problem = f"simulate/activate is true, but sample '{name}' lies at {sample['matrix']}, outside {home}"
            raise InputError(file, problem, "Set simulate: {activate: false} to read your own libraries")
        if settings["ingest"]["second_modality"] == "unspliced" and (sample["fragments"] or sample["modality"]):
            told = "fragments" if sample["fragments"] else "a modality"
            problem = f"ingest/second_modality is unspliced, but sample '{name}' has {told}"
            raise InputError(file, problem, "Spliced and unspliced counts fill both places: empty that column")
        if settings["features"]["peaks"] == "macs3" and sample["modality"] != "rna" and not sample["fragments"]:
            problem = f"features/peaks is macs3, but sample '{name}' has no fragment file"
            raise InputError(file, problem, "Give its fragments, or set features: {peaks: auto}")


def _check_goal(settings: dict, samples: dict, file: str) -> None:
    """Refuse a goal that lacks what it needs."""
    goal, reference = settings["goal"], settings["reference"]
    by_genes = settings["ingest"]["second_modality"] == "unspliced"
    by_genes |= all(sample["modality"] == "rna" for sample in samples.values())
    if goal != "matrices" and by_genes and not reference["network"]:
        problem = "no library has ATAC, and reference/network is not given"
        raise InputError(file, problem, "Regulons without ATAC come from a network file; or set goal: matrices")
    if goal != "matrices" and not by_genes and not reference["annotation"]:
        problem = "reference/annotation is not given"
        raise InputError(
            file, problem, "Accessibility of genes needs a GTF, GFF3 or BED of genes; or set goal: matrices"
        )
    if goal != "matrices" and not (reference["fasta"] or reference["network"]):
        problem = "neither reference/fasta nor reference/network is given"
        raise InputError(file, problem, "Regulons need one of them; or set goal: matrices")
    if goal == "full" and not settings["tasks"]:
        raise InputError(file, "tasks is empty", "Name a task and its column, or set goal: embedding")


def _check_tasks(tasks: dict, file: str) -> None:
    """Refuse a name that is taken, and to name cells by a number."""
    for name, task in tasks.items():
        if name == PERTURB_FOLDER:
            problem = f"a task is called '{name}', but explain/{name}/ holds what in-silico perturbation writes"
            raise InputError(file, problem, "Give the task another name, such as perturbed")
        keys = [key for key, idle in (("predict_on", None), ("transfer", "auto")) if task[key] not in (idle, "never")]
        if task["type"] == "regression" and keys:
            problem = f"tasks/{name}/{keys[0]} is {task[keys[0]]!r}, but the task is a regression"
            raise InputError(file, problem, "Only classifications name cells without a label: remove the key")


def _check_perturbation(perturbation: dict, file: str) -> None:
    """Refuse to compare perturbed cells with controls within groups that hold one of both alone."""
    if perturbation["column"] and perturbation["group"] == perturbation["column"]:
        problem = f"perturbation/group and perturbation/column are both '{perturbation['group']}'"
        raise InputError(file, problem, "Let group name the cell states, within which cells are compared, or drop it")


def _check_pretraining(pretrain: dict, samples: dict, recipes: dict, file: str) -> None:
    """Refuse a recipe or a held-out library that does not exist."""
    recipe, holdout = pretrain["recipe"], pretrain["holdout"]
    if recipe not in recipes:
        fix = f"Choose one of {', '.join(recipes)} or add config/recipes/{recipe}.yaml"
        raise InputError(file, f"pretrain/recipe is '{recipe}'", fix)
    unknown = [name for name in holdout if name not in samples] if isinstance(holdout, list) else []
    if unknown or (isinstance(holdout, str) and holdout != "auto"):
        fix = f"Name samples of the sheet ({', '.join(samples)}) or write auto"
        raise InputError(file, f"pretrain/holdout names {unknown or holdout!r}", fix)


def _check_compared_task(task: str | None, tasks: dict, file: str) -> None:
    """Refuse to adapt compared recipes to anything but a classification."""
    known = [name for name, block in tasks.items() if block["type"] == "classification"]
    if task and task not in known:
        fix = f"Name a classification of tasks ({', '.join(known) or 'there is none'}), or leave it out"
        raise InputError(file, f"comparison/task is '{task}'", fix)


def _find_sequence(settings: dict, downloads, file: str) -> None:
    """Expand the paths of variants and of a given sequence encoder; they must be there."""
    variants, sequence = settings["variants"], settings["sequence"]
    variants["file"] = _find_optional("variants/file", variants["file"], file, downloads)
    sequence["encoder"] = expand_path(sequence["encoder"], file)
    if sequence["encoder"] and not Path(sequence["encoder"], "config.json").is_file():
        problem = f"sequence/encoder {sequence['encoder']} is no model folder: it has no config.json"
        raise InputError(file, problem, "Name a model folder of transformers, or leave it out to train a network")


def _check_recipe(name: str, settings: dict, samples: dict, recipes: dict, file: str) -> None:
    """Refuse a recipe that these libraries cannot train."""
    objective = recipes[name]["objective"]
    if objective["name"] == "fusion" and all(sample["modality"] for sample in samples.values()):
        problem = f"stage 2 of the recipe {name} needs cells with RNA and ATAC, and no library has both"
        raise InputError(file, problem, "Add a library of both, or choose another recipe, such as regulon")
    if objective["name"] == "dynamic":
        _check_sequence(f"recipe {name}", settings, samples, file)
        base = recipes.get(objective.get("base"))
        if base is None or base["objective"]["name"] == "dynamic":
            problem = f"recipe {name} takes up the recipe {objective['base']!r}, which is none with static gene vectors"
            raise InputError(file, problem, "Name another recipe in objective.base")


def _check_sequence(what: str, settings: dict, samples: dict, file: str) -> None:
    """Refuse dynamic tokens and variants without a genome, genes, and peaks to learn from."""
    missing = [key for key in ("fasta", "annotation") if not settings["reference"][key]]
    if missing:
        problem = f"{what} makes gene vectors of DNA sequence, but reference/{missing[0]} is not given"
        raise InputError(file, problem, f"Give reference/{missing[0]}, or choose a recipe with static gene vectors")
    unspliced = settings["ingest"]["second_modality"] == "unspliced"
    rna_alone = all(sample["modality"] == "rna" for sample in samples.values())
    if unspliced or (rna_alone and not settings["sequence"]["encoder"]):
        key = "ingest/second_modality is unspliced" if unspliced else "modality is rna in every row of the sheet"
        problem = f"{what} reads the sequence of peaks, but the libraries have none: {key}"
        raise InputError(file, problem, "Give libraries with ATAC, or choose a recipe with static gene vectors")
