"""scANVI, an optional baseline: a semi-supervised variational autoencoder of counts.

Xu et al. 2021, "Probabilistic harmonization and annotation of single-cell transcriptomics data with deep generative
models", Mol Syst Biol 17:e9620.
"""

import anndata as ad
import numpy as np

from regulonformer.decompose import highly_variable, log_normalise

UNKNOWN = "not labelled"


def scanvi_probabilities(rna, labels, test, classes, samples, n_top_genes: int, seed: int) -> np.ndarray:
    """Class probabilities of held-out cells, (cells, C); needs scvi-tools.

    As its authors use it, held-out cells take part without their labels: their libraries are batches like the others.

    Parameters
    ----------
    rna
        Cells x genes counts (csr).
    labels, test, samples
        (N,) label ("" where it is not to be learned from), whether held out, library.
    classes
        (C,) names in the order wanted.
    n_top_genes
        Highly variable genes, chosen on the training cells.
    seed
        Seed of training.
    """
    import scvi

    scvi.settings.seed = seed
    genes = highly_variable(log_normalise(rna[~test]), n_top_genes)
    known = np.where(test | (labels == ""), UNKNOWN, labels)
    cells = ad.AnnData(rna[:, genes].astype(np.float32))
    cells.obs["sample"], cells.obs["label"] = np.asarray(samples, str), known
    scvi.model.SCVI.setup_anndata(cells, batch_key="sample", labels_key="label")
    model = scvi.model.SCVI(cells)
    model.train(accelerator="cpu", enable_progress_bar=False)
    model = scvi.model.SCANVI.from_scvi_model(model, unlabeled_category=UNKNOWN)
    model.train(accelerator="cpu", enable_progress_bar=False)
    return model.predict(soft=True).loc[cells.obs_names[test], list(classes)].to_numpy()
