"""Cells of mouse genes, their corpus, and a model for them."""

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from regulonformer.model.batch import RegulonEdges
from regulonformer.model.config import ModelConfig
from regulonformer.model.encoder import Regulonformer

N_CELLS, N_GENES = 50, 24
GENES = [f"Gene{number}" for number in range(N_GENES)]
IDS = [f"ENSMUSG{number:011d}" for number in range(N_GENES)]
TFS = ["Gene5", "Gene9", "Gene2"]
PEAKS = [f"chr1-{1000 * number}-{1000 * number + 500}" for number in range(N_GENES)]

# --- the panel cut

# --- the card


def multiome():
    """Two modalities of the same cells; the last five have no ATAC. Each gene has one peak, in its promoter."""
    rng = np.random.default_rng(0)
    names = [f"cell{number}" for number in range(N_CELLS)]
    rna = sp.csr_matrix(rng.poisson(1.0, (N_CELLS, N_GENES)).astype(np.int32))
    atac = sp.csr_matrix(rng.poisson(0.7, (N_CELLS - 5, N_GENES)).astype(np.int32))
    genes = pd.DataFrame({"gene_id": IDS, "chrom": "chr1", "tss": 0}, index=GENES)
    tables = {
        "rna": ad.AnnData(rna, pd.DataFrame(index=names), genes),
        "atac": ad.AnnData(atac, pd.DataFrame(index=names[:-5]), pd.DataFrame(index=PEAKS)),
    }
    with md.set_options(pull_on_update=False):
        data = md.MuData(tables)
    data["atac"].varm["promoters"] = sp.eye_array(N_GENES, format="csr")
    data.obs = pd.DataFrame({"sample": "s", "state": "a"}, index=names)
    return data


def make_model(edges, n_genes, n_tfs, **sizes):
    """A model of random weights, none of which is zero, and the TF of each slot."""
    torch.manual_seed(0)
    slots = edges.drop_duplicates("slot")
    columns = [edges["slot"], edges["gene"], edges["weight"].astype("float32"), slots["tf_token"]]
    regulons = RegulonEdges(*(torch.tensor(column.to_numpy()) for column in columns))
    log_mean = torch.randn(n_genes, 2).log_softmax(0)
    model = Regulonformer(ModelConfig(heads=2, dropout=0.0, **sizes), n_genes, regulons, log_mean, n_tfs=n_tfs).eval()
    for parameter in model.heads.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model.shortcut.start_from(torch.randn(n_genes, model.config.width) / n_genes, torch.rand(n_genes, 2))
    return model, slots["tf"].tolist()


def same(cells, expected, atol=1e-6):
    np.testing.assert_allclose(cells.X, expected.X, atol=atol)
    np.testing.assert_allclose(cells.obsm["X_regulons"], expected.obsm["X_regulons"], atol=atol)
