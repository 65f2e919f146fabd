"""Score edits of the genome: what they do to the vectors of genes, in cells of each state, beside random edits."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from regulonformer.adapt.reader import Reader
from regulonformer.errors import InputError
from regulonformer.explain.perturbation_tables import EVERY_GROUP, choose_cells
from regulonformer.explain.variant_files import read_edits
from regulonformer.explain.variant_tables import (
    BESIDE,
    SILENT,
    TESTED,
    UNTESTED,
    VariantScorer,
    VariantSettings,
    finish,
    matched,
    responders,
    with_all,
)
from regulonformer.explain.variants import CellReadout, SequenceEditor
from regulonformer.gene_names import GeneNames
from regulonformer.io.gene_lists import read_aliases
from regulonformer.io.store import read_parquet, write_json, write_parquet, write_tsv
from regulonformer.log import progress, rule_log
from regulonformer.model.allocator import keep_freed_memory
from regulonformer.model.dynamic import DynamicVectors
from regulonformer.pretrained import load_model
from regulonformer.prior.motifs import map_motifs, read_jaspar, read_motifs
from regulonformer.sequence.encoders import EmbeddedEncoder, load_encoder
from regulonformer.sequence.features import Genome, SequenceFeatures
from regulonformer.sequence.sites import SITE_P_VALUE, find_sites

# TFs that make a null of ablations.
FEWEST_TFS = 10


def main(
    *, variants, model, encoder, sequence, fasta, tss, shards, cells, vocabulary, settings: dict, jaspar_release, table,
    tsv, responding, summary, sequence_cells=None, elements=None, motifs=None, aliases=None, threads=1,
):  # fmt: skip
    """Score the edits of a file.

    Parameters
    ----------
    variants
        VCF, BED or TSV.
    model
        Folder of a model with dynamic tokens.
    encoder, sequence
        Folders of the encoder, and of the windows and vectors that it made.
    fasta, tss
        Genome with a .fai beside it, and TSSs of the annotation.
    shards, cells, vocabulary
        The corpus.
    settings
        Section `variants` but for its file.
    jaspar_release
        Motifs where `motifs` is None.
    table, tsv
        Parquet and TSV to write, as `VariantScorer` gives them.
    responding
        Parquet to write: genes that answer to the ablation of a TSS.
    summary
        Counts to write.
    sequence_cells
        Group of each cell in the training of the network, or None.
    elements
        Elements as the corpus lists them, or None.
    motifs, aliases
        Files of motifs and of other names of genes, or None.
    threads
        CPU threads.
    """
    torch.set_num_threads(threads)
    keep_freed_memory()
    options, base = VariantSettings(**settings), load_model(model)
    if not isinstance(base.model.embedding.gene_vectors, DynamicVectors):
        raise InputError(model, "its gene vectors are not made of sequence", "Pretrain with the recipe biodta")
    symbols, genome = base.vocabulary["symbol"].to_numpy(), Genome(fasta)
    starts = read_parquet(tss)
    edits, unread = read_edits(variants, genome, starts)
    editor = read_editor(encoder, sequence, genome, symbols)
    reads = editor.encoder
    reader = Reader(shards, cells, vocabulary, base.vocabulary)
    readout, names, expression_N, rows = read_cells(base.model, reader, options)
    opened = None
    if isinstance(reads, EmbeddedEncoder) and sequence_cells:
        share_GC = group_shares(reader.cells, read_parquet(sequence_cells), options.group, names, len(reads.groups))
        opened = lambda before, after: (reads.accessibility(after) - reads.accessibility(before)) @ share_GC.T  # noqa: E731
    peaks = read_parquet(elements) if elements else None
    scorer = VariantScorer(editor, readout, symbols, names, expression_N, options, opened, peaks)
    parts = [scorer.rows(edit) for edit in progress(edits, len(edits), "variants", "variant")]
    parts += [pd.DataFrame([{"variant": name, "status": reason}]) for name, reason in unread]
    found = finish(parts)
    write_parquet(found, table)
    write_tsv(found, tsv)

    matrices = read_motifs(motifs) if motifs else read_jaspar(jaspar_release)
    naming = GeneNames(
        base.vocabulary["symbol"], base.vocabulary["gene_id"], read_aliases(aliases) if aliases else None
    )
    usable = map_motifs(matrices, naming)[0]
    ablated = dict.fromkeys(edit.gene for edit in edits if edit.gene in set(symbols))
    answers = [_responders(gene, scorer, usable) for gene in ablated]
    write_parquet(pd.concat(answers, ignore_index=True) if answers else pd.DataFrame({"ablated": []}), responding)
    counts = {**count_status(found), "cells": len(rows), "groups": names}
    logging.info("%s", counts)
    write_json(summary, counts)


def read_editor(encoder, sequence, genome: Genome, symbols) -> SequenceEditor:
    """The encoder with the windows and vectors that it made; it reads as many bases as these windows have."""
    features = SequenceFeatures.load(Path(sequence))
    first = features.windows.iloc[0]
    return SequenceEditor(load_encoder(encoder, int(first["end"] - first["start"])), genome, features, symbols)


def count_status(found: pd.DataFrame) -> dict[str, int]:
    """How many variants were tested, and how many were not for each reason; the parts add up to all."""
    status = found.drop_duplicates("variant")["status"]
    named = {"tested": TESTED, "silent": SILENT, "beside_the_window": BESIDE, "off_every_window": UNTESTED}
    counts = {key: int((status == value).sum()) for key, value in named.items()}
    return {"variants": len(status), **counts, "no_edit": int((~status.isin(named.values())).sum())}


def read_cells(model, reader: Reader, options: VariantSettings):
    """Cells of each group, read by the model: readout, names of groups, mean expression of genes, row numbers."""
    if options.group and options.group not in reader.cells:
        problem = f"no column {options.group!r} in the data"
        raise InputError("variants.group", problem, "Name one of the labels")
    label = reader.cells[options.group].astype(str) if options.group else pd.Series(EVERY_GROUP, reader.cells.index)
    eligible = reader.cells["has_rna"].to_numpy(bool)
    rows = choose_cells(label.to_numpy(), eligible, options.cells_per_group, options.seed)
    if not len(rows):
        raise InputError(
            "variants.group", f"no cell has a value in the column {options.group!r}", "Name another column"
        )
    names, group_C = np.unique(label.to_numpy()[rows], return_inverse=True)
    batch = reader.read(rows)
    sums_N = torch.zeros(model.n_genes).index_add(0, batch.genes_BT.flatten(), batch.rna_BT.flatten())
    return CellReadout(model, batch, group_C), [str(name) for name in names], (sums_N / len(rows)).numpy(), rows


def group_shares(cells: pd.DataFrame, clusters: pd.DataFrame, column, names, n_clusters: int) -> np.ndarray:
    """Share of the network's cell groups in each cell state, states x groups."""
    cluster = clusters.set_index("cell")["group"].reindex(cells.index)
    label = cells[column].astype(str) if column else pd.Series(EVERY_GROUP, cells.index)
    counts = pd.crosstab(label[cluster.notna()], cluster.dropna().astype(int))
    counts = counts.reindex(index=names, columns=range(n_clusters), fill_value=0).to_numpy(float)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def _responders(gene: str, scorer: VariantScorer, motifs) -> pd.DataFrame:
    """Genes that answer to the loss of a gene and of its sites, beside the loss of genes of its sort."""
    editor, symbols = scorer.editor, scorer.symbols
    token = int(np.flatnonzero(symbols == gene)[0])
    tokens_R, kind = null_of_loss(gene, scorer, motifs)
    lost = {gene, *symbols[tokens_R]}
    bound = [motif for motif in motifs if lost & set(motif.genes)]
    sequences = [editor.genome.fetch(w.chrom, w.start, w.end) for w in editor.features.windows.itertuples()]
    sites = find_sites(bound, sequences, SITE_P_VALUE)

    def lose(one: int):
        own = [number for number, motif in enumerate(bound) if symbols[one] in motif.genes]
        return with_all(scorer.readout.of_tokens(editor.loss_of_tf(symbols[one], sites[sites["motif"].isin(own)]), one))

    change = lose(token)
    null_RN = np.stack([lose(int(one)).context_NG[:, -1] for one in tokens_R])
    # What its own loss does to a gene says nothing of how genes answer.
    null_RN[np.arange(len(tokens_R)), tokens_R] = np.nan
    answers = change.context_NG[:, -1], change.expression_NG[:, -1]
    return responders(gene, *answers, null_RN, symbols, scorer.options.top_genes).assign(null=kind)


def null_of_loss(gene: str, scorer: VariantScorer, motifs) -> tuple[np.ndarray, str]:
    """Genes of the sort of a gene that is lost, expressed alike: tokens, and what they are.

    A TF with motifs loses its sites too, so that other such TFs are its null. Where there are too few, and for all
    other genes, it is genes without motifs.
    """
    has_motif_N = np.isin(scorer.symbols, [name for motif in motifs for name in motif.genes])
    token = int(np.flatnonzero(scorer.symbols == gene)[0])
    usable_N = scorer.editor.has_sequence_N
    n_tfs = int((usable_N & has_motif_N).sum()) - 1
    if has_motif_N[token] and n_tfs >= FEWEST_TFS:
        allowed_N, kind = usable_N & has_motif_N, "TFs with motifs"
    else:
        allowed_N, kind = usable_N & ~has_motif_N, "genes without motifs"
    if has_motif_N[token] and n_tfs < FEWEST_TFS:
        logging.warning("%s: %d other TFs with motifs, too few for a null; genes without motifs serve", gene, n_tfs)
    return matched(token, scorer.expression_N, allowed_N, scorer.options.matched_genes), kind


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            variants=job.input.variants,
            model=Path(job.input.model).parent,
            encoder=Path(job.input.encoder).parent,
            sequence=Path(job.input.vectors).parent,
            sequence_cells=job.input.sequence_cells or None,
            fasta=job.input.fasta,
            tss=job.input.tss,
            elements=job.input.elements,
            motifs=job.input.motifs or None,
            aliases=job.input.aliases or None,
            shards=job.input.shards,
            cells=job.input.cells,
            vocabulary=job.input.vocabulary,
            settings=job.params.variants,
            jaspar_release=job.params.jaspar_release,
            table=job.output.table,
            tsv=job.output.tsv,
            responding=job.output.responders,
            summary=job.output.summary,
            threads=job.threads,
        )
