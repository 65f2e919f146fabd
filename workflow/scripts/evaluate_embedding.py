"""Score embeddings of cells: ours, and those of simple methods, none of which has seen a label."""

import logging

import anndata as ad
import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from regulonformer.errors import InputError
from regulonformer.evaluate.ablation import over_seeds
from regulonformer.evaluate.baselines import EvaluateSettings
from regulonformer.evaluate.embedding import LISI_NEIGHBOURS, score_graph, score_space
from regulonformer.evaluate.embedding_methods import multivi, require_scvi, weighted_neighbours
from regulonformer.evaluate.metrics import COLUMNS
from regulonformer.evaluate.spaces import components
from regulonformer.io.multiome import paired_cells
from regulonformer.io.store import read_mudata, write_tsv
from regulonformer.log import progress, rule_log
from regulonformer.matrices.views import harmony

DRAWN_SHARE = 0.8  # of each library at most, so that draws differ
MIN_CELLS = 10  # of a label; a rarer one cannot be judged


def main(
    *, multiome, embedding, label: str, settings: dict, evaluate: dict, recipe: str, run: str, output, threads=1
) -> None:
    """Write scores of all methods (tsv).

    Parameters
    ----------
    multiome
        Merged h5mu.
    embedding
        h5ad of `embed_cells`.
    label
        Column of the cells that holds their types.
    settings
        Section `embedding_metrics`: cells, seeds, wnn, multivi.
    evaluate
        Section `evaluate`.
    recipe, run
        Names of the model and of the data set in the table.
    output
        TSV to write. Each seed draws cells of its own; `all` is the mean over seeds, with Student's t interval, and
        `gap_*` the score of a method less ours, draw by draw.
    threads
        Threads for linear algebra.

    Raises
    ------
    InputError
        If there is no such column, or not two labels of enough cells, or MultiVI is wanted but not installed.
    """
    torch.set_num_threads(threads)
    threadpool_limits(threads)  # for the rest of this process: sums of several threads differ in their last bits
    if settings["multivi"]:
        require_scvi()
    data, ours = read_mudata(multiome), ad.read_h5ad(embedding)
    if label not in data.obs:
        raise InputError(multiome, f"no label column {label!r}", f"Use one of {sorted(data.obs.columns)}")
    cells = _judged_cells(data, label, multiome)
    rows, model = [], f"regulonformer ({recipe})"
    for seed in progress(settings["seeds"], len(settings["seeds"]), "embeddings", "draw"):
        drawn = _draw(cells, settings["cells"], seed)
        spaces = {model: ours[drawn.index].X}
        if "X_harmony" in ours.obsm:
            spaces[f"{model}, Harmony"] = ours[drawn.index].obsm["X_harmony"]
        scores = _score_methods(data, drawn, label, spaces, evaluate, settings, seed)
        logging.info("seed %d: %d cells", seed, len(drawn))
        rows += [(m, str(seed), metric, v, len(drawn)) for m, found in scores.items() for metric, v in found.items()]
    table = pd.DataFrame(rows, columns=["method", "seed", "metric", "value", "n_cells"]).dropna(subset="value")
    means = over_seeds(table, evaluate["confidence"], reference=model)
    table = pd.concat([table, means.assign(n_cells=int(table["n_cells"].max()))])
    write_tsv(table.assign(dataset=f"{run}: {label}", fold="pooled")[[*COLUMNS, "n_cells"]], output)


def _judged_cells(data, label: str, where) -> pd.DataFrame:
    """Cells with a label and all judged modalities of the data; rare labels are left out, and counted."""
    names = data.obs[label].astype(object).fillna("").astype(str)
    kept = names != ""
    for name in _measured(data):
        kept &= data.obs_names.isin(data[name].obs_names[np.diff(data[name].X.tocsr().indptr) > 0])
    sizes = names[kept].value_counts()
    rare = sizes[sizes < MIN_CELLS].sort_index()
    if len(rare):
        logging.warning("labels of fewer than %d cells are not judged: %s", MIN_CELLS, rare.to_dict())
    if len(sizes) - len(rare) < 2:
        raise InputError(where, f"fewer than two labels in {label!r} have {MIN_CELLS} cells", "Use another column")
    return data.obs[kept & ~names.isin(rare.index)]


def _measured(data) -> list[str]:
    """Modalities that have counts; the one of more cells where no cell has both."""
    found = [name for name in ("rna", "atac") if name in data.mod and data[name].X.nnz]
    if len(found) == 2 and not len(paired_cells(data)):
        logging.warning("no cell has both modalities: embeddings are judged on the one of more cells")
        return [max(found, key=lambda name: data[name].n_obs)]
    return found


def _draw(cells: pd.DataFrame, most: int, seed: int) -> pd.DataFrame:
    """The same share of every library, at random."""
    share, rng = min(DRAWN_SHARE, most / len(cells)), np.random.default_rng(seed)
    chosen = np.zeros(len(cells), bool)
    for rows in cells.groupby("sample", sort=True, observed=True).indices.values():
        chosen[rng.permutation(rows)[: max(1, round(share * len(rows)))]] = True
    return cells[chosen]


def _score_methods(data, cells, label, ours, evaluate, settings, seed) -> dict[str, dict[str, float]]:
    """Scores of every method on the same cells."""
    labels, batches = (cells[column].astype(str).to_numpy() for column in (label, "sample"))
    counts = {part: data[part][cells.index].X.tocsr() for part in _measured(data)}
    options, everyone = EvaluateSettings(**evaluate), np.ones(len(cells), bool)
    simple = components(counts.get("rna"), counts.get("atac"), everyone, options, seed)
    single, uncorrected = list(simple.values())[: len(counts)], list(simple.values())[-1]
    spaces = ours | simple
    if len(np.unique(batches)) > 1:
        first = next(iter(simple))
        spaces[f"Harmony on {first}"] = harmony(simple[first], batches, seed)
    if settings["multivi"] and len(counts) == 2:
        spaces["MultiVI"] = multivi(counts["rna"], counts["atac"], batches, seed)
    scores = {method: score_space(space, uncorrected, labels, batches, seed) for method, space in spaces.items()}
    if settings["wnn"] and len(counts) == 2:
        graph = weighted_neighbours(dict(zip(counts, single, strict=True)), LISI_NEIGHBOURS, seed)
        scores["WNN"] = score_graph(*graph, labels, batches)
    return scores


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            multiome=job.input.multiome,
            embedding=job.input.embedding,
            label=job.params.label,
            settings=job.params.embedding_metrics,
            evaluate=job.params.evaluate,
            recipe=job.params.recipe,
            run=job.params.run,
            output=job.output.embedding,
            threads=job.threads,
        )
