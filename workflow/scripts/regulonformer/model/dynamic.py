"""Gene vectors as a function of what a sequence encoder reads around a gene (Bio-DTA: dynamic token adaptation)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Where the table stands in a model, and so in the names of its saved weights.
PREFIX = "embedding.gene_vectors."


class Adapter(nn.Module):
    """Features of a sequence to an output space: centred, LayerNorm, then a line and an MLP beside it.

    The MLP starts at zero, so that the line, which a thousand genes can support, comes first.

    Parameters
    ----------
    centre_H, spread
        Mean of each feature over the genes, and the typical deviation of all of them: a feature that hardly varies
        stays small.
    hidden
        Width of the MLP.
    n_outputs
        Outputs D.
    """

    def __init__(self, centre_H: Tensor, spread: Tensor, hidden: int, n_outputs: int) -> None:
        super().__init__()
        n_features = len(centre_H)
        self.register_buffer("centre", centre_H.float().clone())
        self.register_buffer("spread", spread.float().clone())
        # Unit of the outputs, so that a step of the optimiser is as long for vectors of any scale.
        self.register_buffer("unit", torch.tensor(1.0))
        self.norm = nn.LayerNorm(n_features)
        self.line = nn.Linear(n_features, n_outputs)
        self.fc1 = nn.Linear(n_features, hidden)
        self.fc2 = nn.Linear(hidden, n_outputs)
        for layer in (self.line, self.fc2):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, features_NH: Tensor) -> Tensor:
        """Outputs of any number of genes, N x D."""
        states_NH = self.norm((features_NH - self.centre) / self.spread)
        return self.unit * (self.line(states_NH) + self.fc2(F.gelu(self.fc1(states_NH))))


class DynamicVectors(nn.Module):
    """A table of gene vectors that is computed from sequence features; takes the place of the table of an embedding.

    The vector of a gene is `adapter(features) + own`. `own` is what the gene's sequence does not explain of the vector
    that was learned for it: a constant, so that an edit of the sequence moves the vector by the adapter alone. A gene
    without sequence keeps its learned vector, and an unseen gene has no `own`.

    Parameters
    ----------
    features_NH
        Features of each gene's sequences; zeros where there is none.
    has_sequence_N
        Which genes have sequence.
    vectors_ND
        Vectors that were learned for the genes.
    levels_N2
        log of each gene's share of all counts, per modality: read from sequence too, so that an edit can also change
        what all cells have in common.
    hidden
        Width of the adapter's MLP.
    """

    def __init__(
        self, features_NH: Tensor, has_sequence_N: Tensor, vectors_ND: Tensor, levels_N2: Tensor, hidden: int = 64
    ) -> None:
        super().__init__()
        self.register_buffer("features", features_NH.float().clone())
        self.register_buffer("has_sequence", has_sequence_N.bool().clone())
        known_XH = self.features[self.has_sequence]
        centre_H = known_XH.mean(0) if len(known_XH) else torch.zeros(features_NH.shape[1])
        spread = (known_XH - centre_H).square().mean().sqrt() if len(known_XH) else torch.tensor(1.0)
        scale = centre_H, spread.clamp_min(1e-6)
        self.adapter = Adapter(*scale, hidden, vectors_ND.shape[1])
        self.level_adapter = Adapter(*scale, hidden, levels_N2.shape[1])
        self.register_buffer("own", vectors_ND.float().clone())

    @property
    def weight(self) -> Tensor:
        """Vectors of all genes, N x D, under the name that the table of an embedding has."""
        return self.of_features(self.features) + self.own

    def of_features(self, features_NH: Tensor) -> Tensor:
        """What the sequence makes of a vector, N x D; zero for genes without sequence."""
        return self.adapter(features_NH) * self.has_sequence[:, None]

    @torch.no_grad()
    def keep_learned(self, vectors_ND: Tensor) -> None:
        """Set `own` so that the table is what was learned."""
        self.own.copy_(vectors_ND - self.of_features(self.features))

    @torch.no_grad()
    def change(self, genes_G: Tensor, features_GH: Tensor) -> tuple[Tensor, Tensor]:
        """Change of vectors (G x D) and of log levels (G x M) if genes had other features; zero without sequence."""
        known_G1 = self.has_sequence[genes_G][:, None]
        before_GH = self.features[genes_G]
        parts = (self.adapter, self.level_adapter)
        return tuple((part(features_GH) - part(before_GH)) * known_G1 for part in parts)

    @classmethod
    def of_state(cls, state: dict[str, Tensor]) -> "DynamicVectors":
        """An empty table of the sizes that saved weights have; names without the prefix."""
        n_genes, levels = len(state["features"]), len(state["level_adapter.line.weight"])
        sizes = state["features"], state["has_sequence"], state["own"]
        return cls(*sizes, torch.zeros(n_genes, levels), len(state["adapter.fc1.weight"]))


def take_dynamic_table(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Give a model the kind of gene table that saved weights have; static ones are left alone."""
    own = {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}
    if "features" in own:
        model.embedding.gene_vectors = DynamicVectors.of_state(own)
