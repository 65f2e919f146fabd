"""Predict peaks from RNA and RNA from peaks in held-out cells, and score that beside simple predictors."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from regulonformer.adapt.one_modality import OneModality
from regulonformer.adapt.translate import Source, translate
from regulonformer.decompose import log_normalise
from regulonformer.embed import embed_batches
from regulonformer.evaluate.baselines import EvaluateSettings
from regulonformer.evaluate.metrics import COLUMNS
from regulonformer.evaluate.spaces import components
from regulonformer.evaluate.splits import assign_folds, split_validation
from regulonformer.evaluate.translation import judged_features, predict_floors, score_fold, score_table
from regulonformer.io.store import read_mudata, write_tsv
from regulonformer.log import progress, rule_log
from regulonformer.pretrained import load_model

VALIDATION_SHARE = 0.15
# Source, target, what the target consists of, and what the components of either are called.
DIRECTIONS = (("rna", "atac", "peak"), ("atac", "rna", "gene"))
TITLES, SPACES = {"rna": "RNA", "atac": "ATAC"}, {"rna": "PCA(RNA)", "atac": "LSI(ATAC)"}


def main(
    *, multiome, folder, shards, cells, vocabulary, settings: dict, evaluate: dict, recipe: str, group: str, folds: int,
    seeds: list[int], run: str, output, threads: int = 1,
) -> None:  # fmt: skip
    """Write scores of both directions (tsv).

    Parameters
    ----------
    multiome
        Merged h5mu.
    folder
        Model folder.
    shards, cells, vocabulary
        The corpus.
    settings
        Section `translation`: cells, peaks, genes, min_cells, seed.
    evaluate
        Section `evaluate`: bootstrap, confidence, n_top_genes, pca_components, seed.
    recipe
        Name of the model in the table.
    group, folds
        Column whose values are held out as a whole (donor or sample), and number of folds.
    seeds
        Seeds of decompositions, validation cells and fits.
    run
        Name of the data set in the table.
    output
        TSV to write; `n_features` and `n_cells` say how many were judged.
    threads
        Threads for linear algebra.
    """
    torch.set_num_threads(threads)
    threadpool_limits(threads)  # for the rest of this process: sums of several threads differ in their last bits
    columns = [*COLUMNS, "n_features", "n_cells"]
    data, pretrained = read_mudata(multiome), load_model(folder)
    readers = {name: OneModality(name, shards, cells, vocabulary, pretrained.vocabulary) for name in TITLES}
    table = readers["rna"].cells
    rows = _choose_cells(table, settings["cells"], settings["seed"])
    if len(rows) < folds:
        logging.warning("%d cells have both modalities: nothing is translated", len(rows))
        write_tsv(pd.DataFrame(columns=columns), output)
        return
    obs = table.iloc[rows]
    counts = {name: data[name][obs.index].X.tocsr() for name in ("rna", "atac")}
    fold_of = assign_folds(obs, pd.Series("", index=obs.index), group, folds)
    tables = []
    for source, target, feature in DIRECTIONS:
        limits = settings["min_cells"], settings[f"{feature}s"], settings["seed"]
        judged = judged_features(counts[target] > 0, fold_of.to_numpy(), *limits)
        logging.info("%s to %s: %d cells, %d %ss", TITLES[source], TITLES[target], len(obs), len(judged), feature)
        if not len(judged):
            logging.warning("no %s is seen in %d held-out cells of every fold", feature, settings["min_cells"])
            continue
        observed = (counts["atac"] > 0).astype(np.float32) if target == "atac" else log_normalise(counts["rna"])
        embedding = _embed(pretrained, readers[source], rows, obs)
        direction, observed = (source, target, feature), observed[:, judged].toarray()
        table = _judge_direction(direction, counts, observed, embedding, obs, fold_of, seeds, recipe, evaluate)
        dataset = f"{run}: {TITLES[source]} to {TITLES[target]}"
        tables.append(table.assign(dataset=dataset, n_features=len(judged), n_cells=len(obs)))
    write_tsv(pd.concat(tables)[columns] if tables else pd.DataFrame(columns=columns), output)


def _choose_cells(cells: pd.DataFrame, most: int, seed: int) -> np.ndarray:
    """Row numbers of cells that have both modalities; at random if there are more than wanted."""
    rows = np.flatnonzero(cells["has_rna"] & cells["has_atac"])
    return np.sort(np.random.default_rng(seed).permutation(rows)[:most])


def _embed(pretrained, reader, rows, obs) -> np.ndarray:
    """Cell embeddings of cells of which the model sees one modality."""
    parts = reader.in_order(rows)
    # Row numbers of the corpus, in order, become places in the table of cells.
    batches = ((np.searchsorted(rows, part), reader.read(part)) for part in parts)
    return embed_batches(pretrained, obs, batches, len(parts), "cpu").X


def _judge_direction(direction, counts, observed, embedding, obs, fold_of, seeds, recipe, evaluate) -> pd.DataFrame:
    """Scores of all methods in all folds with all seeds."""
    source, target, feature = direction
    ours, scores, strata = f"regulonformer ({recipe})", {}, {}
    log_depth = np.log(np.maximum(np.asarray(counts[source].sum(1)).ravel(), 1))
    runs = [(fold, seed) for fold in range(fold_of.attrs["n_folds"]) for seed in seeds]
    for fold, seed in progress(runs, len(runs), f"{TITLES[source]} to {TITLES[target]}", "fit"):
        test = (fold_of == fold).to_numpy()
        strata[fold] = obs["sample"].to_numpy().astype(str)[test]
        # Validation cells of no label: whole libraries where there are three, else drawn from all training cells.
        labels = pd.Series("", index=obs.index[~test])
        validation = split_validation(obs[~test], labels, VALIDATION_SHARE, seed).to_numpy()
        spaces = components(counts["rna"], counts["atac"], ~test, EvaluateSettings(**evaluate), seed)
        known = Source(spaces[SPACES[source]], log_depth, embedding)
        found = predict_all(known, spaces[SPACES[target]], observed, test, validation, (source, target), ours, seed)
        scores |= {(name, fold, seed): score_fold(part, observed[test], feature) for name, part in found.items()}
    options = {name: evaluate[name] for name in ("bootstrap", "confidence", "seed")}
    return score_table(scores, strata, ours, **options)


def predict_all(known: Source, space, observed, test, validation, direction, ours, seed) -> dict[str, np.ndarray]:
    """Predict held-out cells by every method, fitted to the others.

    Parameters
    ----------
    known
        What is known of all cells in the source.
    space
        Components of the target, cells x K.
    observed
        The target, cells x features.
    test
        Held-out cells (bool).
    validation
        True for the training cells that choose settings.
    direction
        Source and target: rna, atac.
    ours
        Name of our method.
    seed
        Seed of our method.
    """
    source, target = (SPACES[name] for name in direction)
    given, query = ((known.components[cells], known.log_depth[cells]) for cells in (~test, test))
    floors = predict_floors(*given, space[~test], observed[~test], validation, query)
    names = {
        "kNN": f"kNN {source}",
        "ridge": f"ridge {source} to {target}",
        "ridge with depth": f"ridge {source} and depth",
    }
    found = {names.get(name, name): predicted for name, predicted in floors.items()}
    variants = {ours: known, f"{ours}, without cell embedding": Source(known.components, known.log_depth)}
    for name, inputs in variants.items():
        found[name], weights = translate(inputs[~test], observed[~test], validation, inputs[test], seed)
        shown = ", ".join(f"{part} {weight:.2f}" for part, weight in weights.items() if weight > 0)
        logging.info("weights of %s: %s", name, shown)
    return found


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            multiome=job.input.multiome,
            folder=Path(job.input.model).parent,
            shards=job.input.shards,
            cells=job.input.cells,
            vocabulary=job.input.vocabulary,
            settings=job.params.translation,
            evaluate=job.params.evaluate,
            recipe=job.params.recipe,
            group=job.params.group,
            folds=job.params.folds,
            seeds=job.params.seeds,
            run=job.params.run,
            output=job.output.translation,
            threads=job.threads,
        )
