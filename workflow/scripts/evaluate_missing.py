"""Train a model of missing modalities on some libraries, and judge it on the others: RNA alone, ATAC alone, both."""

import logging

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from evaluate_translation import DIRECTIONS, SPACES, TITLES, predict_all
from regulonformer.adapt.peak_decoder import decode_peaks
from regulonformer.adapt.translate import Source
from regulonformer.corpus.shards import Corpus
from regulonformer.corpus.vocabulary import regulon_edges
from regulonformer.errors import InputError
from regulonformer.evaluate.annotation import judge
from regulonformer.evaluate.baselines import EvaluateSettings
from regulonformer.evaluate.metrics import COLUMNS
from regulonformer.evaluate.missing import class_means, explained, partition_scores, probe, ridge, view_embeddings
from regulonformer.evaluate.spaces import components
from regulonformer.evaluate.splits import assign_folds, split_validation
from regulonformer.evaluate.translation import judged_features, score_fold, score_table
from regulonformer.io.store import read_mudata, read_parquet, write_tsv
from regulonformer.log import rule_log
from regulonformer.objectives import make_objective
from regulonformer.objectives.masked import MaskedConfig
from regulonformer.task_labels import class_labels
from regulonformer.training.loop import Trainer
from regulonformer.training.settings import TrainSettings
from regulonformer.training.start import build_model

VALIDATION_SHARE, HELD_OUT_FOLD = 0.15, 0
TWIN = "RNA-only model of equal size"


def main(
    *, multiome, shards, cells, vocabulary, regulons, settings: dict, pretrain: dict, translation: dict, evaluate: dict,
    label: str, group: str, run: str, output, threads: int = 1,
) -> None:  # fmt: skip
    """Write scores of all questions (tsv).

    Parameters
    ----------
    multiome
        Merged h5mu.
    shards, cells, vocabulary, regulons
        The corpus and the prior.
    settings
        Section `missing`: seeds, folds, steps, pos_weight.
    pretrain
        Section `pretrain` with the recipe.
    translation, evaluate
        Sections of these names.
    label
        Column of cell types.
    group
        Column whose values are held out as a whole (donor or sample).
    run
        Name of the data set in the table.
    output
        TSV to write.
    threads
        Threads for linear algebra.

    Raises
    ------
    InputError
        If no column of cell types is named, or fewer cells than folds have both modalities and a type.
    """
    if not label:
        raise InputError("tasks", "no column of cell types", "Name one in embedding_metrics/label, or a task")
    torch.set_num_threads(threads)
    threadpool_limits(threads)  # for the rest of this process: sums of several threads differ in their last bits
    cohort = Cohort(Corpus(shards, cells, vocabulary), read_mudata(multiome), label, group, settings["folds"], cells)
    edges, seeds = regulon_edges(read_parquet(regulons), cohort.corpus.vocabulary), settings["seeds"] or [0]
    ours, found = f"regulonformer ({pretrain['recipe']})", {}
    for seed in seeds:
        options = pretrain | {"seed": seed, "steps": settings["steps"] or pretrain["steps"]}
        found[seed] = view_embeddings(
            _train(cohort.corpus, cohort.training, edges, options), cohort.corpus, cohort.rows
        )
        found[seed]["twin"] = view_embeddings(_train_twin(cohort, edges, options), cohort.corpus, cohort.rows)[
            "fused rna"
        ]
        found[seed] |= components(
            cohort.counts["rna"], cohort.counts["atac"], ~cohort.test, EvaluateSettings(**evaluate), seed
        )
        logging.info("seed %s: both models trained", seed)
    options = {name: evaluate[name] for name in ("bootstrap", "confidence", "seed")}
    tables = [judge_students(cohort, found, ours, options), judge_types(cohort, found, ours, options)]
    limits = translation | {"pos_weight": settings["pos_weight"]}
    tables += [judge_peaks(cohort, found, ours, limits, options), judge_clusters(cohort, found, ours, options)]
    joined = pd.concat([table.assign(dataset=f"{run}: " + table["dataset"], fold="pooled") for table in tables])
    write_tsv(joined[list(COLUMNS)], output)


class Cohort:
    """Cells with both modalities and a type, some of whose libraries are held out.

    Parameters
    ----------
    corpus, multiome
        Cells, and their counts.
    label, group, folds
        Column of types; column held out as a whole; number of folds, of which one is held out.
    source
        File named in errors.
    """

    def __init__(self, corpus: Corpus, multiome, label: str, group: str, folds: int, source) -> None:
        self.corpus = corpus
        truth = class_labels(corpus.cells, label, source)
        self.rows = np.flatnonzero((truth != "").to_numpy() & ~corpus.missing.any(1))
        self.obs, self.truth = corpus.cells.iloc[self.rows], truth.to_numpy()[self.rows]
        self.counts = {name: multiome[name][self.obs.index].X.tocsr() for name in TITLES}
        fold_of = assign_folds(self.obs, pd.Series(self.truth, self.obs.index), group, folds)
        self.test, by = (fold_of == HELD_OUT_FOLD).to_numpy(), fold_of.attrs["group"]
        # Cells of these libraries that have no type, or no pair, are not trained on either.
        held = np.isin(np.arange(len(corpus)), self.rows[self.test])
        if by:
            held |= corpus.cells[by].astype(str).isin(self.obs[by].astype(str)[self.test].unique()).to_numpy()
        self.training = np.flatnonzero(~held)
        self.log_depth = {name: np.log(np.maximum(np.asarray(x.sum(1)).ravel(), 1)) for name, x in self.counts.items()}
        self.strata = self.obs["sample"].astype(str).to_numpy()[self.test]
        logging.info("%d cells to train on, %d to judge", len(self.training), self.test.sum())

    def validation(self, seed: int) -> np.ndarray:
        """True for the cells, not held out, that choose settings."""
        obs = self.obs[~self.test]
        labels = pd.Series(self.truth[~self.test], obs.index)
        return split_validation(obs, labels, VALIDATION_SHARE, seed).to_numpy()


def _train(corpus: Corpus, rows: np.ndarray, edges: pd.DataFrame, options: dict):
    """Train a recipe on some cells."""
    model, _ = build_model(corpus, rows, edges, options)
    objective = make_objective(options["recipe_settings"]["objective"], model.n_genes)
    Trainer(model, objective, corpus, rows, np.array([], int), TrainSettings.from_dict(options)).run()
    return model.cpu()


def _train_twin(cohort: Cohort, edges: pd.DataFrame, options: dict):
    """Train a model of the same shape for as many steps, from cells whose accessibility was never measured."""
    corpus, known = cohort.corpus, cohort.corpus.missing
    objective = options["recipe_settings"]["objective"]
    masked = {"name": "masked"} | {key: objective[key] for key in MaskedConfig().__dict__ if key in objective}
    recipe = options["recipe_settings"] | {"objective": masked}
    corpus.missing = known | np.array([False, True])
    try:
        # Cells of accessibility alone have nothing to teach it.
        rows = cohort.training[~known[cohort.training, 0]]
        return _train(corpus, rows, edges, options | {"recipe_settings": recipe})
    finally:
        corpus.missing = known


def judge_students(cohort: Cohort, found: dict, ours: str, options: dict) -> pd.DataFrame:
    """R2 of the embedding of each modality from the other one."""
    tables, test = [], cohort.test
    for source, target, _ in DIRECTIONS:
        predicted, truth = {}, {}
        for seed, spaces in found.items():
            own, validation, depth = spaces[target], cohort.validation(seed), cohort.log_depth[source]
            truth[seed] = own[test]
            known = own[~test], cohort.truth[~test], cohort.truth[test]
            inputs = np.column_stack([spaces[SPACES[source]], depth - depth[~test].mean()])
            predicted |= {
                (ours, seed): spaces[f"{target} of {source}"][test],
                ("mean of the cell type", seed): class_means(*known),
                ("mean of the cell type, and depth", seed): class_means(*known, depth[~test], depth[test]),
                (f"ridge {SPACES[source]} and depth", seed): ridge(inputs[~test], own[~test], validation, inputs[test]),
            }
        table = explained(predicted, truth, cohort.strata, ours, "r2", **options)
        tables.append(table.assign(dataset=f"embedding of {TITLES[target]} from {TITLES[source]}"))
    return pd.concat(tables)


def judge_types(cohort: Cohort, found: dict, ours: str, options: dict) -> pd.DataFrame:
    """Cell types of cells of which only RNA is shown, by one kind of head on every embedding."""
    test, classes, parts = cohort.test, np.unique(cohort.truth), []
    names = {
        ours: "fused rna",
        f"{ours}, without student": "rna",
        TWIN: "twin",
        "logistic regression PCA(RNA)": "PCA(RNA)",
    }
    for seed, spaces in found.items():
        for name, space in names.items():
            chances = probe(spaces[space][~test], cohort.truth[~test], spaces[space][test], classes)
            table = pd.DataFrame({"cell": cohort.obs.index[test].astype(str), "sample": cohort.strata})
            table = table.assign(group=cohort.strata, fold=HELD_OUT_FOLD, truth=cohort.truth[test])
            best = {"predicted": classes[chances.argmax(1)], "confidence": chances.max(1)}
            parts.append(table.assign(method=name, seed=seed, **best))
    judged = judge(pd.concat(parts), dataset="", ours=ours, **options)
    scores = judged.scores[judged.scores["fold"] == "pooled"]
    # As in the other tables, a gap is the score of a method less ours.
    gaps = judged.differences.assign(metric="gap_" + judged.differences["metric"], seed="all")
    gaps = gaps.assign(value=-gaps["value"], ci_low=-gaps["ci_high"], ci_high=-gaps["ci_low"])
    return pd.concat([scores, gaps]).assign(dataset="cell types from RNA alone")


def judge_peaks(cohort: Cohort, found: dict, ours: str, settings: dict, options: dict) -> pd.DataFrame:
    """Peaks from RNA alone, by a model that saw no held-out library.

    The methods are those of `evaluate_translation`, and a decoder of the embedding that the student makes.
    """
    source, target, feature = DIRECTIONS[0]
    open_now, scores, test = cohort.counts["atac"] > 0, {}, cohort.test
    judged = judged_features(
        open_now[test], np.zeros(test.sum()), settings["min_cells"], settings["peaks"], settings["seed"]
    )
    observed = open_now[:, judged].toarray().astype(np.float32)
    for seed, spaces in found.items():
        known = Source(spaces[SPACES[source]], cohort.log_depth[source], spaces["fused rna"])
        validation, ends = cohort.validation(seed), (source, target)
        predicted = predict_all(known, spaces[SPACES[target]], observed, test, validation, ends, ours, seed)
        # Depth, which the other methods are given as well.
        inputs = np.column_stack([spaces[f"{target} of {source}"], known.log_depth])
        predicted[f"{ours}, peak decoder"] = decode_peaks(
            inputs[~test], observed[~test], validation, inputs[test], settings["pos_weight"], seed
        )
        scores |= {
            (name, HELD_OUT_FOLD, seed): score_fold(part, observed[test], feature) for name, part in predicted.items()
        }
    table = score_table(scores, {HELD_OUT_FOLD: cohort.strata}, ours, **options)
    return table[table["fold"] == "pooled"].assign(dataset=f"{TITLES[source]} to {TITLES[target]}")


def judge_clusters(cohort: Cohort, found: dict, ours: str, options: dict) -> pd.DataFrame:
    """Clusters of the held-out cells: of both modalities fused, of each alone, and through the students."""
    names = {
        ours: "fused",
        f"{ours}, RNA alone": "rna",
        f"{ours}, ATAC alone": "atac",
        f"{ours}, RNA and student": "fused rna",
        f"{ours}, ATAC and student": "fused atac",
    } | {space: space for space in SPACES.values()}
    spaces = {(name, seed): part[space][cohort.test] for seed, part in found.items() for name, space in names.items()}
    table = partition_scores(spaces, cohort.truth[cohort.test], cohort.strata, ours, **options)
    return table.assign(dataset="clusters")


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            multiome=job.input.multiome,
            shards=job.input.shards,
            cells=job.input.cells,
            vocabulary=job.input.vocabulary,
            regulons=job.input.regulons,
            settings=job.params.missing,
            pretrain=job.params.pretrain,
            translation=job.params.translation,
            evaluate=job.params.evaluate,
            label=job.params.label,
            group=job.params.group,
            run=job.params.run,
            output=job.output.missing,
            threads=job.threads,
        )
