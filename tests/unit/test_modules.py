"""Gene modules and networks of a cell state: planted groups come back, and only TFs have targets."""

import numpy as np
import pandas as pd
import pytest

import find_modules
from regulonformer.errors import InputError
from regulonformer.explain.modules import centred, gene_modules, network_table, tf_network
from regulonformer.gene_vectors import vector_table

SYMBOLS = np.array([f"G{number}" for number in range(90)], dtype=object)
IS_TF = np.arange(90) < 6


@pytest.fixture(scope="module")
def vectors():
    """Three groups of genes around three directions, and one direction that all genes share."""
    rng = np.random.default_rng(0)
    return 2 * np.eye(12)[np.arange(90) % 3] + 0.2 * rng.standard_normal((90, 12)) + 10 * np.eye(12)[11]


def test_planted_groups_are_found_again(vectors):
    module = gene_modules(vectors, seed=0)
    assert len(set(module)) == 3
    assert all(len(set(module[group::3])) == 1 for group in range(3))
    np.testing.assert_array_equal(module, gene_modules(vectors, seed=0))


def test_what_all_genes_share_makes_nothing_similar(vectors):
    plain = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = centred(vectors)
    assert (plain @ plain.T).min() > 0.9, "without centring all genes look alike"
    assert unit[0] @ unit[1] < 0 < 0.9 < unit[0] @ unit[3]


def test_networks_go_from_tfs_to_genes_alone(vectors):
    scores = tf_network(vectors, SYMBOLS, IS_TF)
    assert scores.shape == (6, 90)
    assert not scores[np.arange(6), np.arange(6)].any(), "no TF is its own target"
    table = network_table(scores, SYMBOLS, IS_TF, top=5)
    assert set(table["source"]) == set(SYMBOLS[:6]) and (table.groupby("source").size() == 5).all()
    first = table[table["source"] == "G0"]
    assert (first["source"] != first["target"]).all() and first["similarity"].abs().is_monotonic_decreasing


def test_states_that_are_all_too_small_are_refused(vectors, tmp_path):
    shown = np.full((1, 90), find_modules.MIN_CELLS - 1)
    table = vector_table(SYMBOLS, vectors, (np.zeros(0, int), np.zeros((0, 12))), ["rare"], (vectors[None], shown))
    table.to_parquet(tmp_path / "vectors.parquet")
    genes = pd.DataFrame({"token": range(90), "gene_id": SYMBOLS, "symbol": SYMBOLS, "chrom": "1", "is_tf": IS_TF})
    genes.to_csv(tmp_path / "vocabulary.tsv", sep="\t", index=False)
    prior = pd.DataFrame({"source": ["G0"], "target": ["G10"], "score": [1.0]})
    prior.to_parquet(tmp_path / "regulons.parquet")
    files = {"vectors": "vectors.parquet", "vocabulary": "vocabulary.tsv", "regulons": "regulons.parquet"}
    files |= {name: f"{name}.out" for name in ("modules", "networks", "agreement")}
    with pytest.raises(InputError, match="no state has 50 genes.*coarser"):
        find_modules.main(**{k: tmp_path / v for k, v in files.items()}, seed=0, ours="ours", run="run")
