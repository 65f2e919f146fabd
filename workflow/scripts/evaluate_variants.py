"""Judge sequence network, dynamic tokens and variants by the truth of the simulation, with three seeds."""

import logging
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from regulonformer.adapt.reader import Reader
from regulonformer.corpus.sampler import hold_out
from regulonformer.corpus.shards import Corpus
from regulonformer.evaluate import variant_truth as truth
from regulonformer.evaluate.metrics import COLUMNS
from regulonformer.evaluate.variant_world import World
from regulonformer.explain.edits import scrambled
from regulonformer.explain.variant_tables import VariantSettings, with_all
from regulonformer.explain.variants import CellReadout, NewTokens, SequenceEditor
from regulonformer.io.store import write_tsv
from regulonformer.log import rule_log
from regulonformer.model.allocator import keep_freed_memory
from regulonformer.objectives import make_objective
from regulonformer.objectives.dynamic import make_dynamic
from regulonformer.pretrained import load_model
from regulonformer.training.loop import Trainer
from regulonformer.training.settings import TrainSettings
from score_variants import read_cells

SEEDS = 3
PAIRS, FEWEST_TARGETS, TOP = 200, 10, 50
# The base model is trained already, and the warm start met its table: a few more steps for both.
STEPS_SHARE = 0.05
SIMPLE = ("ridge", "motif sites")


def main(
    *, multiome, fasta, elements, tss, base, shards, cells, vocabulary, truth_grn, truth_tfs, truth_sites, sequence,
    variants, pretrain, jaspar_release, evaluate, run, scores, tfs, threads=1,
):  # fmt: skip
    """Write scores (tsv) and the hits of every TF (tsv).

    Parameters
    ----------
    multiome, fasta, elements, tss, shards, cells, vocabulary
        Data, genome, annotation and corpus.
    base
        Folder of the model that dynamic tokens take up.
    truth_grn, truth_tfs, truth_sites
        Truth of the simulation.
    sequence, variants, pretrain
        Sections of the configuration; `pretrain` with the recipe.
    jaspar_release
        Release of the motifs.
    evaluate
        bootstrap, confidence.
    run
        Name in the table.
    scores, tfs
        Files to write.
    threads
        CPU threads.
    """
    torch.set_num_threads(threads)
    keep_freed_memory()
    world = World(multiome, fasta, elements, tss, truth_grn, truth_tfs, truth_sites, jaspar_release)
    draws, hits = [], []
    for seed in range(SEEDS):
        logging.info("seed %d of %d", seed + 1, SEEDS)
        encoder, found = world.train(sequence, seed, evaluate["bootstrap"])
        draws += [(seed, *row) for row in found]
        models = _models(world, encoder, base, (shards, cells, vocabulary), pretrain, seed)
        reader = Reader(shards, cells, vocabulary, load_model(base).vocabulary)
        options = replace(VariantSettings(**variants), seed=seed)
        draws += [(seed, *row) for row in _scrambles(world, models, reader, options, evaluate["bootstrap"])]
        hits.append(_ablations(world, models, reader, options).assign(seed=seed))
    hits = pd.concat(hits, ignore_index=True)
    draws += _ratios(hits, evaluate["bootstrap"])
    write_tsv(hits, tfs)
    write_tsv(_table(draws, run, pretrain["recipe"], evaluate["confidence"]), scores)


def _models(world: World, encoder, base, corpus_files, pretrain: dict, seed: int) -> dict:
    """Dynamic model and static twin, both trained on from the base model with as many steps; editor for both."""
    corpus = Corpus(*corpus_files)
    features = world.features(encoder)
    symbols = corpus.vocabulary["symbol"].to_numpy()
    editor = SequenceEditor(encoder, world.genome, features, symbols)
    held = hold_out(corpus.cells, pretrain["holdout"], pretrain["seed"])
    settings = pretrain | {"seed": seed, "steps": max(1, round(STEPS_SHARE * pretrain["steps"]))}
    models = {"editor": editor, "vocabulary": corpus.vocabulary}
    for kind in ("dynamic", "static"):
        model = deepcopy(load_model(base).model).train()
        objective = make_objective(pretrain["recipe_settings"]["objective"], model.n_genes)
        if kind == "dynamic":
            tensors = torch.from_numpy(editor.reference_NH), torch.from_numpy(editor.has_sequence_N)
            make_dynamic(model, *tensors, objective.dynamic.hidden, seed)
        settings_of_run = TrainSettings.from_dict(settings)
        Trainer(model, objective, corpus, np.flatnonzero(~held), np.zeros(0, int), settings_of_run).run()
        models[kind] = model.eval()
    return models


def _scrambles(world: World, models: dict, reader: Reader, options: VariantSettings, bootstrap: int):
    """AUROC of true motifs in a gene's elements against motifs that are not used, and against chance sites."""
    rng, editor = np.random.default_rng(options.seed), models["editor"]
    features = editor.features
    sites = world.sites(features)
    instances = truth.motif_instances(sites, world.names)
    planted = truth.true_instances(world.planted, world.grn, features.windows, features.pairs)
    true = truth.of_known_genes(instances.merge(planted, on=["name", "window"]), editor.symbols)
    gene = features.pairs.drop_duplicates("window").set_index("window")["symbol"]
    rest = instances.assign(gene=instances["window"].map(gene)).dropna(subset=["gene"])
    rest = truth.of_known_genes(rest, editor.symbols)
    is_unused = rest["name"].str.startswith("unused ")
    of_planted = pd.MultiIndex.from_frame(_planted_windows(world, features.windows))
    chance = ~is_unused & ~pd.MultiIndex.from_frame(rest[["name", "window"]]).isin(of_planted)
    logging.info("%d true instances, %d unused, %d by chance", len(true), is_unused.sum(), chance.sum())
    readout, *_ = read_cells(models["dynamic"], reader, options)
    by_instance = dict(list(sites.groupby(["name", "window"])[["start", "end"]]))
    for null, others in (("motifs that are not used", rest[is_unused]), ("chance sites of the TFs", rest[chance])):
        pair = truth.match_strength(true, others.reset_index(drop=True), PAIRS, rng)
        changes = [_scramble(part, by_instance, editor, readout, world.genome, rng) for part in pair]
        for at, measure in enumerate(("context_change", "expression_change", "accessibility_change", "element_change")):
            one, other = (change[:, at] for change in changes)
            rows = [np.arange(len(one)), *(rng.integers(len(one), size=len(one)) for _ in range(bootstrap))]
            values = np.array([truth.auroc(one[rows_], other[rows_]) for rows_ in rows])
            yield (
                f"dynamic tokens, {measure.replace('_', ' ')}",
                f"true motifs scrambled against {null}",
                "auroc",
                values,
            )


def _planted_windows(world: World, windows: pd.DataFrame) -> pd.DataFrame:
    """TF and window of every planted site, decoys too."""
    both = world.planted.merge(windows.reset_index(names="window"), on="chrom", suffixes=("", "_window"))
    inside = (both["start"] < both["end_window"]) & (both["end"] > both["start_window"])
    return both.loc[inside, ["source", "window"]].drop_duplicates()


def _scramble(instances, by_instance, editor: SequenceEditor, readout: CellReadout, genome, rng) -> np.ndarray:
    """Changes of each instance's gene if its sites are scrambled; X x 4: context, |RNA|, |accessibility|, element."""
    windows, tokens = editor.features.windows, pd.Index(editor.symbols)
    sequences = []
    for row in instances.itertuples():
        window = windows.iloc[row.window]
        bases = bytearray(genome.fetch(window.chrom, window.start, window.end))
        for start, end in by_instance[(row.name, row.window)].to_numpy():
            bases[start:end] = scrambled(bytes(bases[start:end]), rng)
        sequences.append(bytes(bases))
    after_XW = editor.encoder.encode(sequences)
    change_XW = after_XW - editor.features.vectors_XW[instances["window"].to_numpy()]
    genes_X = tokens.get_indexer(instances["gene"])
    found = np.zeros((len(instances), 4))
    found[:, 3] = np.linalg.norm(editor.encoder.accessibility(change_XW), axis=1)
    # Distinct genes share a pass: what a gene's own edit does to it outweighs what the others' do by far.
    turn_X = pd.Series(genes_X).groupby(genes_X).cumcount().to_numpy()
    for turn in np.unique(turn_X):
        for part in np.array_split(np.flatnonzero(turn_X == turn), max(1, (turn_X == turn).sum() // 20)):
            genes_K = genes_X[part]
            new = NewTokens(genes_K, editor.reference_NH[genes_K] + change_XW[part], np.zeros(0, int), np.zeros((0, 0)))
            answer = with_all(readout.of_tokens(new))
            found[part, :3] = np.abs(np.column_stack([values_NG[genes_K, -1] for values_NG in answer]))
    return np.nan_to_num(found)


def _ablations(world: World, models: dict, reader: Reader, options: VariantSettings) -> pd.DataFrame:
    """Direct targets in the top 50 when a TF's TSSs are ablated; one row per TF and method."""
    editor, symbols = models["editor"], models["vocabulary"]["symbol"].to_numpy()
    tokens = pd.Index(symbols)
    sites = world.sites(editor.features)
    read = {kind: read_cells(models[kind], reader, options) for kind in ("dynamic", "static")}
    expression_N = read["dynamic"][2]
    targets = {tf: tokens.get_indexer(group["target"].unique()) for tf, group in world.grn.groupby("source")}
    targets = {tf: found[found >= 0] for tf, found in targets.items() if tf in tokens}
    targets = {tf: found for tf, found in targets.items() if len(found) >= FEWEST_TARGETS}
    changes = {}
    for tf in targets:
        own = tokens.get_loc(tf)
        bound = sites[sites["name"] == tf]
        dynamic, static = (read[kind][0] for kind in ("dynamic", "static"))
        answers = {
            "dynamic tokens": dynamic.of_tokens(editor.loss_of_tf(tf, bound), own),
            "dynamic tokens, token alone": dynamic.of_tokens(editor.loss_of_tf(tf, bound.iloc[:0]), own),
            # The mean gene in its place: all that a table without sequence can do.
            "static twin": static.of_vectors(torch.tensor([own]), static.vectors_ND.mean(0, keepdim=True), None, own),
            "dynamic tokens, sites alone": dynamic.of_tokens(editor.loss_of_tf(tf, bound)),
        }
        changes[tf] = {method: with_all(answer).context_NG[:, -1] for method, answer in answers.items()}
        changes[tf]["motif sites"] = _site_strength(bound, editor)
    rows = []
    for tf, found in targets.items():
        own, rng = tokens.get_loc(tf), np.random.default_rng(options.seed)
        # Ablations of the TFs that are expressed most alike, read for the targets of this one.
        near = sorted(
            set(targets) - {tf}, key=lambda other: abs(expression_N[tokens.get_loc(other)] - expression_N[own])
        )
        for method, change_N in changes[tf].items():
            others = [truth.top_hits(changes[other][method], found, tokens.get_loc(other), TOP) for other in near[:10]]
            rows.append(
                {
                    "tf": tf,
                    "method": method,
                    "targets": len(found),
                    "hits": truth.top_hits(change_N, found, own, TOP),
                    "matched_genes": truth.matched_hits(change_N, found, own, expression_N, TOP, rng),
                    "matched_tfs": float(np.mean(others)),
                }
            )
    return pd.DataFrame(rows)


def _site_strength(sites: pd.DataFrame, editor: SequenceEditor) -> np.ndarray:
    """Summed strength of sites in the windows of each gene, N: what motifs alone say, without any model."""
    pairs = editor.features.pairs
    strength_X = (
        sites.groupby("window")["minus_log10_p"].sum().reindex(range(len(editor.features.windows)), fill_value=0)
    )
    token_P = pd.Index(editor.symbols).get_indexer(pairs["symbol"])
    total_N = np.zeros(len(editor.symbols))
    np.add.at(total_N, token_P[token_P >= 0], strength_X.to_numpy()[pairs["window"].to_numpy()[token_P >= 0]])
    return total_N


def _ratios(hits: pd.DataFrame, bootstrap: int):
    """Hits over those of both nulls, and dynamic tokens less the twin; resamples are of TFs, the same for all."""
    names = np.unique(hits["tf"])
    rng = np.random.default_rng(0)
    times_RT = np.vstack(
        [
            np.ones(len(names)),
            *(np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names)) for _ in range(bootstrap)),
        ]
    )
    for (seed, method), rows in hits.groupby(["seed", "method"]):
        rows = rows.set_index("tf").loc[names]
        sums = {column: times_RT @ rows[column].to_numpy(float) for column in ("hits", "matched_genes", "matched_tfs")}
        dataset = "direct targets in the top 50 when a TSS is ablated"
        yield seed, method, dataset, "hits_per_tf", sums["hits"] / times_RT.sum(axis=1)
        for null in ("matched_genes", "matched_tfs"):
            yield seed, method, dataset, f"fold_over_{null}", sums["hits"] / np.maximum(sums[null], 1e-9)
        if method not in ("static twin", "motif sites"):
            twin = hits[(hits["seed"] == seed) & (hits["method"] == "static twin")].set_index("tf").loc[names]
            gain = times_RT @ (rows["hits"] - twin["hits"]).to_numpy(float) / times_RT.sum(axis=1)
            yield seed, f"{method} less static twin", dataset, "hits_per_tf", gain


def _table(draws: list, run: str, recipe: str, confidence: float) -> pd.DataFrame:
    """Scores per seed, and their mean over seeds with an interval over units and seeds."""
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    table = pd.DataFrame(draws, columns=["seed", "method", "task", "metric", "values"])
    rows = []
    for (method, task, metric), group in table.groupby(["method", "task", "metric"], sort=False):
        named = method if method.startswith(SIMPLE) else f"regulonformer ({recipe}), {method}"
        about = {"method": named, "dataset": f"{run}: {task}", "fold": "pooled", "metric": metric}
        for seed, values in zip(group["seed"], group["values"], strict=True):
            low, high = np.quantile(values[1:], tails)
            rows.append(about | {"seed": str(seed), "value": values[0], "ci_low": low, "ci_high": high})
        values_SR = np.stack(group["values"].to_list())
        chosen = np.random.default_rng(0).integers(len(values_SR), size=(values_SR.shape[1] - 1, len(values_SR)))
        means = np.array([values_SR[seeds, 1 + at].mean() for at, seeds in enumerate(chosen)])
        low, high = np.quantile(means, tails)
        rows.append(about | {"seed": "all", "value": values_SR[:, 0].mean(), "ci_low": low, "ci_high": high})
    return pd.DataFrame(rows)[list(COLUMNS)]


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            multiome=job.input.multiome,
            fasta=job.input.fasta,
            elements=job.input.elements,
            tss=job.input.tss,
            base=Path(job.input.base).parent,
            shards=job.input.shards,
            cells=job.input.cells,
            vocabulary=job.input.vocabulary,
            truth_grn=job.input.truth_grn,
            truth_tfs=job.input.truth_tfs,
            truth_sites=job.input.truth_sites,
            sequence=job.params.sequence,
            variants=job.params.variants,
            pretrain=job.params.pretrain,
            jaspar_release=job.params.jaspar_release,
            evaluate=job.params.evaluate,
            run=job.params.run,
            scores=job.output.scores,
            tfs=job.output.tfs,
            threads=job.threads,
        )
