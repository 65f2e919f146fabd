"""A small corpus of two states, and a model on it."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import evaluate_pretraining
from regulonformer.corpus.sampler import hold_out
from regulonformer.corpus.shards import Corpus, write_counts
from regulonformer.io.store import write_parquet, write_tsv
from regulonformer.objectives import make_objective
from regulonformer.pretrained import save_model
from regulonformer.training.loop import Trainer
from regulonformer.training.settings import TrainSettings

sys.path.append(str(Path(__file__).parent))

from small_corpus import EVALUATE, N_CELLS, N_GENES, N_TFS, PRETRAIN, files, start


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A corpus of two states, which half of the genes tell apart, in three libraries; and a few regulons."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    state = rng.integers(0, 2, N_CELLS)
    rate = np.where((np.arange(N_GENES) % 2)[None] == state[:, None], 3.0, 0.3) * rng.uniform(0.5, 2, (N_CELLS, 1))
    rna, atac = rng.poisson(rate).astype(np.int32), rng.poisson(rate / 2).astype(np.int32)
    write_counts(folder / "shards", [(sp.csr_matrix(rna), sp.csr_matrix(atac))], N_GENES)
    cells = pd.DataFrame({"sample": np.repeat(["s1", "s2", "s3"], N_CELLS // 3), "has_rna": True, "has_atac": True})
    cells["n_counts_rna"], cells["n_counts_atac"] = rna.sum(1), atac.sum(1)
    cells["n_active"] = ((rna > 0) | (atac > 0)).sum(1)
    cells.index = pd.Index([f"cell{i}" for i in range(N_CELLS)], name="cell")
    write_parquet(cells, folder / "cells.parquet")
    names = [f"g{i}" for i in range(N_GENES)]
    vocabulary = pd.DataFrame({"token": range(N_GENES), "gene_id": names, "symbol": names, "is_tf": False})
    vocabulary["is_tf"] = vocabulary["token"] < N_TFS
    write_tsv(vocabulary.assign(chrom="", tss=""), folder / "vocabulary.tsv")
    pairs = {(f"g{rng.integers(N_TFS)}", f"g{rng.integers(N_TFS, N_GENES)}") for _ in range(60)}
    regulons = pd.DataFrame(
        sorted(pairs | {("Unmeasured", "g10"), ("Unmeasured", "g11")}), columns=["source", "target"]
    )
    write_parquet(regulons.assign(cre="", score=rng.uniform(0.1, 1, len(regulons))), folder / "regulons.parquet")
    return folder


@pytest.fixture(scope="session")
def corpus(world):
    return Corpus.open(world)


@pytest.fixture(scope="session")
def regulons(world):
    return pd.read_parquet(world / "regulons.parquet")


@pytest.fixture(scope="session")
def held(corpus):
    return hold_out(corpus.cells, "auto", 0)


@pytest.fixture(scope="session")
def judged(world, corpus, regulons, held, tmp_path_factory):
    """A model after a few steps, its last point of the validation curve, and the table of floors."""
    folder = tmp_path_factory.mktemp("model")
    model, names = start(corpus, regulons, held)
    objective = make_objective(PRETRAIN["recipe_settings"]["objective"], N_GENES)
    trainer = Trainer(
        model, objective, corpus, np.flatnonzero(~held), np.flatnonzero(held), TrainSettings.from_dict(PRETRAIN)
    )
    last = trainer.run()[-1]
    save_model(folder, model, corpus.vocabulary, {"regulons": names})
    evaluate_pretraining.main(
        folder=folder, **files(world), settings=EVALUATE, pretrain=PRETRAIN, run="tiny", output=folder / "floors.tsv"
    )
    return last, pd.read_csv(folder / "floors.tsv", sep="\t").set_index(["method", "metric"])
