"""The simulated data that variants are judged on: sequence network and ridge regression, windows, sites and truth."""

import numpy as np
import pandas as pd
from sklearn.linear_model import RidgeCV
from threadpoolctl import threadpool_limits

from regulonformer.gene_names import GeneNames
from regulonformer.io.store import read_mudata, read_parquet, read_tsv
from regulonformer.prior.motifs import map_motifs, read_jaspar
from regulonformer.sequence.encoders import EmbeddedEncoder
from regulonformer.sequence.features import Genome, SequenceFeatures, encode_windows
from regulonformer.sequence.fit import fit_network
from regulonformer.sequence.sites import SITE_P_VALUE, find_sites
from regulonformer.sequence.training import accessibility_scores
from regulonformer.sequence.windows import gene_windows
from regulonformer.simulate.motifs import choose_motifs

# Motifs of the simulation's own list that it did not use, offered to the network beside those of TFs.
UNUSED = 50
ALPHAS = np.logspace(-1, 5, 13)


class World:
    """Data and truth, read once."""

    def __init__(self, multiome, fasta, elements, tss, truth_grn, truth_tfs, truth_sites, jaspar_release) -> None:
        self.data, self.genome = read_mudata(multiome), Genome(fasta)
        self.grn = read_tsv(truth_grn)
        self.planted = read_tsv(truth_sites).astype({"start": int, "end": int})
        self.planted["decoy"] = self.planted["decoy"] == "True"
        self.elements, self.tss = read_parquet(elements), read_parquet(tss)
        every = read_jaspar(jaspar_release)
        used, _ = map_motifs(every, GeneNames.of_matrix(self.data.mod["rna"].var))
        n_tfs, by_id = len(read_tsv(truth_tfs)), {motif.matrix_id: motif for motif in every}
        spare = choose_motifs(n_tfs + UNUSED, jaspar_release)[n_tfs:]
        known = {motif.matrix_id for motif in used}
        unused = [by_id[motif.matrix_id] for motif in spare if motif.matrix_id not in known]
        self.motifs, self.n_used = [*used, *unused], len(used)
        self.names = np.array([motif.genes[0] for motif in used] + [f"unused {motif.name}" for motif in unused])

    def train(self, section: dict, seed: int, bootstrap: int) -> tuple[EmbeddedEncoder, list]:
        """Encoder of a seed, and scores on held-out chromosomes beside ridge regression on motif counts."""
        fit = fit_network(self.data, self.genome, self.motifs, section | {"seed": seed})
        sites = find_sites(self.motifs, fit.sequences, SITE_P_VALUE)
        counts = pd.crosstab(sites["window"].astype(int), sites["motif"].astype(int))
        counts = counts.reindex(index=range(len(fit.windows)), fill_value=0).to_numpy(float)
        gc = np.array([[(s.count(b"G") + s.count(b"C")) / len(s)] for s in fit.sequences])
        predictions = {"sequence network": fit.predicted_XG}
        for name, features in {
            "ridge on motif counts": counts,
            "ridge on motif counts and GC": np.hstack([counts, 10 * gc]),
        }.items():
            with threadpool_limits(1):
                line = RidgeCV(ALPHAS).fit(features[fit.train], fit.targets_XG[fit.train])
                predictions[name] = line.predict(features[fit.judged])
        return fit.encoder(), list(_accessibility(predictions, fit.targets_XG[fit.judged], bootstrap, seed))

    def features(self, encoder) -> SequenceFeatures:
        """Windows of all genes with their vectors."""
        windows, pairs = gene_windows(self.elements, self.tss, encoder.window)
        return encode_windows(encoder, self.genome, windows, pairs)

    def sites(self, features: SequenceFeatures) -> pd.DataFrame:
        """Sites of all motifs in the windows of genes, with their names."""
        sequences = self.genome.windows(features.windows)
        sites = find_sites(self.motifs, sequences, SITE_P_VALUE)
        return sites.assign(name=self.names[sites["motif"].to_numpy(int)])


def _accessibility(predictions: dict, observed_XG, bootstrap: int, seed: int):
    """Scores of each method and of the network less each ridge, with resamples of the elements."""
    rng = np.random.default_rng(seed)
    rows = [slice(None), *(rng.integers(len(observed_XG), size=len(observed_XG)) for _ in range(bootstrap))]
    found = {
        name: pd.DataFrame([accessibility_scores(table[at], observed_XG[at]) for at in rows])
        for name, table in predictions.items()
    }
    for name, table in found.items():
        for metric in table:
            yield name, "accessibility of held-out chromosomes", metric, table[metric].to_numpy()
            if name != "sequence network":
                gain = found["sequence network"][metric] - table[metric]
                yield f"sequence network less {name}", "accessibility of held-out chromosomes", metric, gain.to_numpy()
