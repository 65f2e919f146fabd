"""Autoencoders of scvi-tools beside the model; they need `make scvi`."""

from importlib.util import find_spec

import numpy as np
import pytest
from scipy import sparse

from regulonformer.errors import InputError
from regulonformer.evaluate.embedding import score_space
from regulonformer.evaluate.embedding_methods import multivi, require_scvi
from regulonformer.evaluate.scanvi import scanvi_probabilities

LABELS, LIBRARIES = np.repeat(["a", "b"], 60), np.tile(["s1", "s2"], 60)


def counts(n_features, seed):
    """Counts of cells of two types, each with half of the features for its own."""
    rng = np.random.default_rng(seed)
    own = (np.arange(n_features) % 2 == 0) == (LABELS == "a")[:, None]
    return sparse.csr_matrix(rng.poisson(np.where(own, 4.0, 0.3)).astype(np.float32))


@pytest.mark.skipif(find_spec("scvi") is None, reason="scvi-tools is not installed: make scvi")
def test_multivi_and_scanvi_tell_two_types_apart():
    rna, atac = counts(30, 0), counts(40, 1)
    space = multivi(rna, atac, LIBRARIES, 0)
    assert len(space) == len(LABELS)
    assert score_space(space, rna.toarray(), LABELS, LIBRARIES, 0)["ari"] > 0.9
    test = LIBRARIES == "s2"
    chances = scanvi_probabilities(rna, LABELS, test, np.array(["a", "b"]), LIBRARIES, 30, 0)
    np.testing.assert_allclose(chances.sum(1), 1, atol=1e-4)
    assert (np.array(["a", "b"])[chances.argmax(1)] == LABELS[test]).mean() > 0.9


@pytest.mark.skipif(find_spec("scvi") is not None, reason="scvi-tools is installed")
def test_multivi_without_scvi_tools_says_what_to_do():
    with pytest.raises(InputError, match="make scvi"):
        require_scvi()
