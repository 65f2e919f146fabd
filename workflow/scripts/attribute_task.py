"""Attribute the predictions of a task to genes and modalities, on held-out cells that were predicted correctly."""

import logging
from collections import defaultdict
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import torch

from regulonformer.adapt.lora import load_classifier, read_task
from regulonformer.adapt.reader import Reader
from regulonformer.errors import InputError
from regulonformer.explain.attention import regulon_attention
from regulonformer.explain.attribution import ExplainSettings, choose_cells, explain_cells
from regulonformer.explain.baseline import class_means, mean_of_others
from regulonformer.explain.tables import attribution_table, completeness, stability_table
from regulonformer.io.store import read_parquet, write_json, write_parquet, write_tsv
from regulonformer.log import progress, rule_log
from regulonformer.model.batch import MODALITIES
from regulonformer.pretrained import load_model

WORTH_A_WARNING = 0.05


def main(
    *, model, shards, cells, vocabulary, adapters, settings, attribution, completeness_json, explained, stability,
    threads=1,
) -> None:  # fmt: skip
    """Explain a task with the adapters of each fold, each on cells that it never saw.

    Parameters
    ----------
    model
        Folder of the pretrained model.
    shards, cells, vocabulary
        The corpus.
    adapters
        Folders of `finetune_task`: every fold with the seeds to be explained, each with its predictions.parquet.
    settings
        Section `explain`, what concerns attribution.
    attribution
        Parquet to write: class, gene, modality, attribution (mean over seeds and cells), std, n_cells, fold,
        specificity.
    completeness_json
        JSON to write: how far the attributions are from adding up.
    explained
        h5ad to write: explained cells x genes, mean over seeds. Layers `rna` and `atac` (attributions), `rna_direction`
        and `atac_direction`; obs class, fold; obsm `cell_attention` and `gene_attention` over uns `regulons`.
    stability
        TSV to write: agreement of attributions between seeds and between folds.
    threads
        Threads.
    """
    options = ExplainSettings(**settings)
    torch.set_num_threads(threads)
    base = load_model(model)
    reader = Reader(shards, cells, vocabulary, base.vocabulary)
    folds = defaultdict(list)
    for folder in adapters:
        folds[read_task(folder, base.hash)["split"]["fold"]].append(Path(folder))
    models, parts, steps, checks, unexplained = [], [], [], {}, {}
    for fold, folders in progress(sorted(folds.items()), len(folds), "attribution", "fold"):
        predictions = [read_parquet(folder / "predictions.parquet") for folder in folders]
        chosen = choose_cells(predictions, options.cells_per_class, options.seed)
        missed = sorted(set(predictions[0]["truth"]) - set(chosen["class"]))
        if missed:
            logging.warning("fold %s: no held-out cell of %s was predicted correctly by all seeds", fold, missed)
            unexplained[fold] = missed
        if chosen.empty:
            continue
        part, tables, checks[fold], used = _explain_fold(base, reader, folders, predictions[0]["cell"], chosen, options)
        parts.append(part)
        models += tables
        steps.append(used)
    if not parts:
        raise InputError(adapters[0], "no held-out cell was predicted correctly", "Check the labels, or train longer")
    ad.concat(parts, uns_merge="same").write_h5ad(explained, compression="gzip", compression_opts=1)
    write_parquet(pd.concat([_fold_table(part) for part in parts], ignore_index=True), attribution)
    write_tsv(stability_table(pd.concat(models)), stability)
    record = completeness(checks)
    if (error := record["overall"]["relative_error"]) > WORTH_A_WARNING:
        logging.warning("attributions miss %.1f %% of the change that they explain: raise explain/steps", 100 * error)
    about = {"baseline": options.baseline, "steps": float(np.concatenate(steps).mean())}
    write_json(completeness_json, record | about | {"classes_without_correct_cells": unexplained})


def _explain_fold(base, reader, folders, held_out, chosen, options):
    """Explain the chosen cells of a fold with each of its models.

    Returns means over models (AnnData), the attribution table of each model, and checks and steps of all of them.
    """
    rows = reader.cells.index.get_indexer(chosen["cell"])
    if (rows < 0).any():
        raise ValueError(f"{folders[0]}: predictions of cells that are not in the corpus")
    # Cells of similar length together, as short ones are padded to the longest.
    order = np.argsort(reader.lengths[rows], kind="stable")
    chosen, rows = chosen.iloc[order], rows[order]
    symbols = base.vocabulary["symbol"].to_numpy()
    found, attention, tables, baseline = [], [], [], None
    for folder in folders:
        classifier, task = load_classifier(base.model, folder, base.hash)
        classifier.requires_grad_(False)
        classes = pd.Index(task["classes"]).get_indexer(chosen["class"])
        if options.baseline == "others" and baseline is None:
            baseline = _baseline(reader, task, held_out)
        found.append(explain_cells(classifier, reader.read, rows, classes, len(symbols), options, baseline))
        attention.append(regulon_attention(classifier.get_base_model().encoder, reader.read, rows))
        split = {"fold": task["split"]["fold"], "seed": task["seed"]}
        tables.append(attribution_table(found[-1].values_XMN, chosen["class"].to_numpy(), symbols).assign(**split))
    values_XMN, attention_2XS = np.mean([each.values_XMN for each in found], axis=0), np.mean(attention, axis=0)
    layers = {name: values_XMN[:, m] for m, name in enumerate(MODALITIES)}
    layers |= {f"{name}_direction": found[0].direction_XMN[:, m] for m, name in enumerate(MODALITIES)}
    obs = pd.DataFrame({"class": chosen["class"].to_numpy(), "fold": split["fold"]}, index=chosen["cell"].to_numpy())
    part = ad.AnnData(obs=obs, var=pd.DataFrame(index=symbols), layers=layers)
    part.obsm["cell_attention"], part.obsm["gene_attention"] = attention_2XS
    part.uns["regulons"] = np.array(base.config["regulons"], dtype=object)
    checks, steps = (np.concatenate([getattr(each, name) for each in found]) for name in ("check_X3", "steps_X"))
    return part, tables, checks, steps


def _fold_table(part: ad.AnnData) -> pd.DataFrame:
    """Mean attributions of a fold."""
    values_XMN = np.stack([part.layers[name] for name in MODALITIES], axis=1)
    table = attribution_table(values_XMN, part.obs["class"].to_numpy(), part.var_names.to_numpy())
    return table.assign(fold=part.obs["fold"].iloc[0])[[*table.columns[:-1], "fold", "specificity"]]


def _baseline(reader, task, held_out) -> torch.Tensor:
    """Mean cell of the other classes among the labelled cells of the corpus that were not held out."""
    label = reader.cells[task["column"]].astype(str)
    target = pd.Index(task["classes"]).get_indexer(label)
    trained = np.flatnonzero((target >= 0) & ~reader.cells.index.isin(held_out))
    labelled = ((reader.read(rows), target[rows]) for rows in reader.in_order(trained))
    return mean_of_others(class_means(labelled, len(task["classes"]), len(reader.corpus.vocabulary)))


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            model=Path(job.input.model).parent,
            shards=job.input.shards,
            cells=job.input.cells,
            vocabulary=job.input.vocabulary,
            adapters=[Path(path).parent for path in job.input.adapters],
            settings=job.params.explain,
            attribution=job.output.attribution,
            completeness_json=job.output.completeness,
            explained=job.output.explained,
            stability=job.output.stability,
            threads=job.threads,
        )
