"""Find the perturbed TFs from how cells changed, and predict the change, beside simple methods."""

import logging

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from regulonformer.evaluate import perturbation as judge
from regulonformer.evaluate.metrics import COLUMNS
from regulonformer.evaluate.perturbation_methods import SIGNS, cosine, simple_profiles
from regulonformer.evaluate.perturbed_cells import PerturbedCells
from regulonformer.explain.response import ResponseModel
from regulonformer.io.scores import FROM_OTHERS
from regulonformer.io.store import read_parquet, write_tsv
from regulonformer.log import rule_log
from regulonformer.prior.links import read_links
from regulonformer.prior.motif_hits import read_hits

WITH_OTHERS = "with other donors"  # methods that predict the change in a donor from that in others


def main(
    *, shards, cells, vocabulary, shifts, embedding, activity, regulons, links, settings: dict, bootstrap: int,
    confidence: float, decay_bp: float, recipe: str, run: str, output, motif_hits=None,
):  # fmt: skip
    """Write scores of every method (tsv).

    Parameters
    ----------
    shards, cells, vocabulary
        The corpus.
    shifts
        In-silico shifts, as `perturb_genes` writes them.
    embedding, activity
        Embedding of all cells, and activity of regulons in them (h5ad).
    regulons, links
        Tables of TF-gene edges and of peak-gene links.
    settings
        Section `perturbation`: column, control, direction, group, seed.
    bootstrap, confidence
        Resamples of cells, and the level of the intervals.
    decay_bp
        Distance over which the weight of a motif falls by the factor e.
    recipe, run
        Names in the table.
    output
        TSV to write.
    motif_hits
        Motif hits, or None where no genome was scanned.
    """
    data = PerturbedCells(shards, cells, vocabulary, shifts, embedding, activity, settings)
    conditions = data.conditions()
    control = data.values[data.label == settings["control"]]
    hits = read_hits(motif_hits) if motif_hits else None
    tables = (read_parquet(regulons), read_links(links), hits)
    ours, rows = f"regulonformer ({recipe})", []
    with threadpool_limits(1):  # sums of several threads differ in their last bits
        simple = simple_profiles(data.tfs, data.genes, control, *tables, decay_bp, settings["direction"])
        for label, gene in conditions.items():
            logging.info("%s: looking for %s among %d TFs", label, gene, len(data.tfs))
            found = [
                (fold, *row)
                for fold, chosen in data.folds()
                for row in _found(data, ours, simple, label, gene, chosen, bootstrap)
            ]
            predicted = _predicted(data, ours, simple, label, gene, bootstrap)
            judged = {f"{run}: {label}": judge.with_gaps(found, ours)}
            judged[f"{run}: {label}{FROM_OTHERS}"] = judge.with_gaps(predicted, f"{ours}, {WITH_OTHERS}")
            for dataset, scores in judged.items():
                for fold, method, metric, values in scores:
                    centred = metric.removeprefix("gap_") not in judge.RANKS
                    bounds = judge.interval(values, confidence, centred=centred)
                    rows.append((method, dataset, fold, metric, values[0], *bounds))
    table = pd.DataFrame(rows, columns=["method", "dataset", "fold", *COLUMNS[4:]]).assign(seed="all")
    write_tsv(table[list(COLUMNS)], output)


def _profiles(data: PerturbedCells, ours: str, simple: dict, pairs: list) -> dict[str, np.ndarray]:
    """Predicted change of all genes by method, T x N each; ours first."""
    change_TN = data.shift(pairs) @ data.shifts.varm["readout"]
    return {ours: change_TN, f"{ours}, direct targets": change_TN * (simple["regulons"] != 0)} | simple


def _found(data: PerturbedCells, ours: str, simple: dict, label, gene, chosen, bootstrap):
    """Scores of every method on one set of cells: method, metric, the value followed by those of resamples."""
    pairs, true = data.arms(label, chosen), data.tfs.get_loc(gene)
    if not pairs:
        logging.warning("%s: no stratum of these donors has both arms; left out", label)
        return
    times_RC = judge.resample(pairs, len(data.label), bootstrap, data.settings["seed"])
    change_RN, error_N = judge.observed_change(data.values, pairs, times_RC)
    unit_RN = change_RN / np.maximum(error_N, 1e-9)
    # A lost TF shows in its own transcripts; what is asked is whether its effect gives it away.
    others = np.arange(len(data.genes)) != data.own_T[true]
    own_T = np.where(data.own_T > data.own_T[true], data.own_T - 1, data.own_T)
    own_T[true] = -1
    sign = SIGNS[data.settings["direction"]]
    scores = {"own expression": sign * unit_RN[:, data.own_T]}
    scores["regulon activity"] = sign * _activity(data, pairs, times_RC)
    scores[f"{ours}, embedding"] = cosine(data.shift(pairs), judge.observed_change(data.embedding, pairs, times_RC)[0])
    for method, profile_TN in _profiles(data, ours, simple, pairs).items():
        scores[method] = judge.match(profile_TN[:, others], own_T, unit_RN[:, others])
        found = judge.change_scores(profile_TN[true, others], change_RN[:, others], error_N[others])
        yield from ((method, metric, values) for metric, values in found.items())
    for method, score_RT in scores.items():
        found = judge.rank_scores(score_RT, true)
        yield from ((method, metric, values) for metric, values in found.items())


def _predicted(data: PerturbedCells, ours: str, simple: dict, label, gene, bootstrap) -> list[tuple]:
    """Change in the cells of each donor, predicted from the other donors: fold, method, metric, values."""
    pairs = {donor: data.arms(label, data.donor == donor) for donor in np.unique(data.donor)}
    donors = [donor for donor in pairs if pairs[donor]]
    if len(donors) < 3:
        logging.warning("%s: a change is predicted from other donors where three or more have both arms", label)
        return []
    true, own = data.tfs.get_loc(gene), data.own_T[data.tfs.get_loc(gene)]
    others = np.arange(len(data.genes)) != own
    times = [judge.resample(pairs[donor], len(data.label), bootstrap, data.settings["seed"]) for donor in donors]
    observed = [
        judge.observed_change(data.values[:, others], pairs[d], drawn) for d, drawn in zip(donors, times, strict=True)
    ]
    change_UN, error_UN = np.stack([change[0] for change, _ in observed]), np.stack([error for _, error in observed])
    cells_U = np.array([sum(len(a) * len(b) / (len(a) + len(b)) for a, b in pairs[donor]) for donor in donors])
    shared = {"shared": np.ones((len(donors), len(donors)))}
    profiles = [_profiles(data, ours, simple, pairs[donor]) for donor in donors]
    known = {name: np.stack([profile[name][true, others] for profile in profiles]) for name in (ours, "regulons")}
    priors = {
        f"regulons, {WITH_OTHERS}": known["regulons"][None],
        f"{ours}, {WITH_OTHERS}": np.stack(list(known.values())),
    }
    rows = []
    for u, donor in enumerate(donors):
        train = np.delete(np.arange(len(donors)), u)
        weight_V = cells_U[train]
        spread_N = np.sqrt(np.average(error_UN[train] ** 2 * weight_V[:, None], axis=0, weights=weight_V))
        models = {name: ResponseModel(shared, spread_N, cells_U, prior_FUN) for name, prior_FUN in priors.items()}
        predictions = {
            "no change": np.zeros(change_UN.shape[1]),
            "mean of other donors": np.average(change_UN[train], axis=0, weights=weight_V),
        } | {name: model.predict(change_UN, train, np.array([u]))[0] for name, model in models.items()}
        for method, predicted_N in predictions.items():
            change_RN, error_N = observed[u]
            scores = judge.change_scores(predicted_N, change_RN, error_N)
            scores["mse"] = ((predicted_N - change_RN) ** 2).mean(axis=1)
            rows += [(donor, method, metric, values) for metric, values in scores.items()]
    return rows + _over_donors(rows)


def _over_donors(rows: list[tuple]) -> list[tuple]:
    """Mean over donors of every method and metric, resample by resample."""
    parts = {}
    for _, method, metric, values in rows:
        parts.setdefault((method, metric), []).append(values)
    return [(judge.POOLED, *key, np.mean(values, axis=0)) for key, values in parts.items()]


def _activity(data: PerturbedCells, pairs, times_RC) -> np.ndarray:
    """Observed change of each TF's regulon activity in units of its error, R x T."""
    change, error = judge.observed_change(data.activity.layers["mean_z"], pairs, times_RC)
    unit = pd.DataFrame(change / np.maximum(error, 1e-9), columns=data.activity.var_names)
    return unit[data.tfs].to_numpy()


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            shards=job.input.shards,
            cells=job.input.cells,
            vocabulary=job.input.vocabulary,
            shifts=job.input.shifts,
            embedding=job.input.embedding,
            activity=job.input.activity,
            regulons=job.input.regulons,
            links=job.input.links or None,
            motif_hits=job.input.motif_hits or None,
            settings=job.params.perturbation,
            bootstrap=job.params.evaluate["bootstrap"],
            confidence=job.params.evaluate["confidence"],
            decay_bp=job.params.decay_bp,
            recipe=job.params.recipe,
            run=job.params.run,
            output=job.output.perturbation,
        )
