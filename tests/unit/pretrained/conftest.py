"""Cells of mouse genes, their corpus, and a model for them."""

import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import build_corpus
import embed_cells
import regulonformer
from regulonformer.corpus.vocabulary import read_vocabulary, regulon_edges
from regulonformer.io.store import read_parquet, write_mudata, write_parquet
from regulonformer.pretrained import save_model

sys.path.append(str(Path(__file__).parent))

from mouse_cells import GENES, N_CELLS, N_GENES, PEAKS, TFS, make_model, multiome


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Joint matrices, their corpus, a model of random weights, and what the rule makes of the cells."""
    folder = tmp_path_factory.mktemp("world")
    write_mudata(multiome(), folder / "multiome.h5mu")
    rng = np.random.default_rng(1)
    table = {"source": rng.choice([*TFS, "Elsewhere"], 30), "target": rng.choice(GENES, 30), "score": rng.random(30)}
    write_parquet(pd.DataFrame(table), folder / "regulons.parquet")
    # The first peak is also linked to Gene3.
    links = pd.DataFrame({"peak": PEAKS[:1], "gene": ["Gene3"], "correlation": [0.5], "score": [0.9]})
    write_parquet(links, folder / "links.parquet")
    outputs = {"cells": "parquet", "elements": "parquet", "summary": "json"}
    outputs |= dict.fromkeys(("vocabulary", "genes", "unmapped"), "tsv")
    build_corpus.main(
        **{name: folder / f"{name}.parquet" for name in ("regulons", "links")},
        multiome=folder / "multiome.h5mu",
        settings={"accessibility": "linked", "min_link_score": 0.5},
        shards=folder / "shards",
        **{name: folder / f"{name}.{suffix}" for name, suffix in outputs.items()},
    )
    vocabulary = read_vocabulary(folder / "vocabulary.tsv")
    edges = regulon_edges(read_parquet(folder / "regulons.parquet"), vocabulary)
    model, names = make_model(edges, N_GENES, 3, width=16, slots=4, layers=["regulon", "explorer"])
    save_model(folder / "model", model, vocabulary, {"regulons": names}, read_parquet(folder / "elements.parquet"))
    embed_cells.main(
        folder=folder / "model",
        shards=folder / "shards",
        cells=folder / "cells.parquet",
        vocabulary=folder / "vocabulary.tsv",
        seed=0,
        output=folder / "cells.h5ad",
    )
    return folder


@pytest.fixture
def model(world):
    return regulonformer.load(world / "model")


@pytest.fixture
def expected(world):
    """What the rule makes of the cells, in the order of the joint matrices."""
    return ad.read_h5ad(world / "cells.h5ad")[[f"cell{number}" for number in range(N_CELLS)]].copy()
