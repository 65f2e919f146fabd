"""Every recipe of config/recipes trains for a few steps on the small run, and embeds its cells."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

import encode_sequences
import pretrain_model
import regulonformer
import score_variants
import train_sequence_encoder
from regulonformer.config.settings import load_settings
from regulonformer.io.store import read_mudata, read_parquet

ROOT = Path(__file__).parents[2]
RECIPES = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((ROOT / "config" / "recipes").glob("*.yaml"))}
# Recipes that take up a trained model and vectors of sequences.
DYNAMIC = [name for name, content in RECIPES.items() if content["objective"]["name"] == "dynamic"]
STEPS = 6


@pytest.fixture(scope="module")
def settings(small_run):
    """The configuration of the small run, and its recipes."""
    config = yaml.safe_load((ROOT / "tests/config/small.yaml").read_text())
    with pytest.MonkeyPatch.context() as here:
        here.chdir(small_run.root)
        found, _, recipes = load_settings(config, "small.yaml", ROOT)
    return found, recipes


def corpus(small_run) -> dict:
    folder = small_run.root / "results" / "small" / "corpus"
    return {"shards": folder / "shards", "cells": folder / "cells.parquet", "vocabulary": folder / "vocabulary.tsv"}


def pretrain(recipe, small_run, settings, folder, **taken_up):
    """Train for a few steps, and embed."""
    results, (found, recipes) = small_run.root / "results" / "small", settings
    chosen = {"recipe": recipe, "recipe_settings": recipes[recipe], "steps": STEPS, "validate_steps": STEPS}
    pretrain_model.main(
        **corpus(small_run),
        regulons=results / "regulons/regulons.parquet",
        elements=results / "corpus/elements.parquet",
        settings=found["pretrain"] | chosen,
        folder=folder,
        run=folder / "run.json",
        metrics=folder / "metrics.tsv",
        checkpoints=folder.parent / "checkpoints",
        **taken_up,
    )
    assert json.loads((folder / "run.json").read_text())["steps_taken"] == STEPS
    data = read_mudata(results / "features/multiome.h5mu")[:40]
    cells = regulonformer.load(folder).embed(data, device="cpu", progress=False)
    assert cells.n_obs == 40 and np.isfinite(cells.X).all() and cells.X.std() > 0


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name not in DYNAMIC])
def test_recipe_trains_and_embeds(recipe, small_run, settings, tmp_path):
    pretrain(recipe, small_run, settings, tmp_path / "model")


@pytest.mark.parametrize("recipe", DYNAMIC)
def test_recipe_of_sequences_trains_embeds_and_scores_edits(recipe, small_run, settings, tmp_path):
    results, (found, _) = small_run.root / "results" / "small", settings
    fasta, tss = results / "simulate/reference/genome.fa", results / "annotation/tss.parquet"
    elements, jaspar = results / "corpus/elements.parquet", found["regulons"]["jaspar_release"]
    sequence = tmp_path / "sequence"
    train_sequence_encoder.main(
        multiome=results / "features/multiome.h5mu",
        fasta=fasta,
        settings=found["sequence"] | {"epochs": 2},
        jaspar_release=jaspar,
        folder=sequence / "encoder",
        cells=sequence / "cells.parquet",
    )
    encode_sequences.main(
        encoder=sequence / "encoder",
        fasta=fasta,
        elements=elements,
        tss=tss,
        vocabulary=corpus(small_run)["vocabulary"],
        settings=found["sequence"],
        folder=sequence,
        genes=sequence / "genes.tsv",
        summary=sequence / "summary.json",
    )
    model = tmp_path / "model"
    pretrain(recipe, small_run, settings, model, base=results / "pretrain/regulon", sequence=sequence)
    with_lora = settings[1][recipe] | {"objective": settings[1][recipe]["objective"] | {"train": "adapter+lora"}}
    changed = found, settings[1] | {recipe: with_lora}
    pretrain(recipe, small_run, changed, tmp_path / "lora", base=results / "pretrain/regulon", sequence=sequence)

    regulators = read_parquet(results / "regulons/regulons.parquet")["source"].value_counts()
    peak = read_parquet(elements).iloc[0]
    edits, scored = tmp_path / "edits.tsv", tmp_path / "variants"
    scored.mkdir()
    middle = (peak["start"] + peak["end"]) // 2
    edits.write_text(
        "kind\tgene\tchrom\tstart\tend\tname\n"
        f"tss_ablation\t{regulators.index[0]}\t\t\t\ttf\n"
        f"motif_scramble\t\t{peak['chrom']}\t{middle}\t{middle + 20}\tpeak\n"
    )
    score_variants.main(
        variants=edits,
        model=model,
        encoder=sequence / "encoder",
        sequence=sequence,
        sequence_cells=sequence / "cells.parquet",
        fasta=fasta,
        tss=tss,
        elements=elements,
        **corpus(small_run),
        settings={"group": "state", "cells_per_group": 4, "random_edits": 9, "matched_genes": 9},
        jaspar_release=jaspar,
        table=scored / "variants.parquet",
        tsv=scored / "variants.tsv",
        responding=scored / "responders.parquet",
        summary=scored / "summary.json",
    )
    counts, table = json.loads((scored / "summary.json").read_text()), read_parquet(scored / "variants.parquet")
    assert counts["variants"] == counts["tested"] == 2
    tested = table[table["status"] == "tested"].set_index("variant")
    assert tested["p"].between(0.1, 1).all() and (tested["context_change"] > 0).any()
    assert tested.loc[["tf"], "p_element"].isna().all() and tested.loc[["peak"], "p_element"].notna().all()
    responding = read_parquet(scored / "responders.parquet")
    assert set(responding["null"]) == {"TFs with motifs"} and responding["null_mean"].gt(0).all()
