"""Missing modalities (scMomer): each modality alone, then both of a cell fused, then students that stand in for one."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regulonformer.errors import InputError
from regulonformer.model.batch import CellBatch
from regulonformer.objectives.base import Objective
from regulonformer.objectives.distill import Distillation
from regulonformer.objectives.masked import MaskedCells, MaskedConfig, MaskedModelling, split_settings
from regulonformer.objectives.terms import LossTerms

# Leading components of each modality in which cells are near each other; later ones are mostly noise.
NEAR_COMPONENTS = 8


@dataclass(frozen=True)
class FusionConfig:
    """Settings of the stages; those of `MaskedConfig` stand beside them.

    Attributes
    ----------
    stages
        Share of all steps that each of the three stages has.
    match_weight
        Weight of telling pairs of one cell from pairs of two.
    random_share
        Share of the false pairs that are of any two cells; in the others the second cell is the nearest one.
    distil_weight
        Weight of the distance between student and teacher.
    """

    stages: tuple[float, float, float] = (0.4, 0.35, 0.25)
    match_weight: float = 0.1
    random_share: float = 0.25
    distil_weight: float = 1.0

    @classmethod
    def split(cls, values: dict) -> tuple["FusionConfig", MaskedConfig]:
        """Divide a block of settings between this class and `MaskedConfig`.

        Raises
        ------
        InputError
            If a key is unknown or a value out of range.
        """
        config, masked = split_settings(cls, values)
        if len(config.stages) != 3 or min(config.stages) <= 0 or abs(sum(config.stages) - 1) > 1e-6:
            raise InputError("objective.stages", f"{list(config.stages)} are no shares", "Give three that add up to 1")
        if not 0 <= config.random_share <= 1:
            raise InputError("objective.random_share", f"{config.random_share} is no share", "Use a value in [0, 1]")
        return config, masked


class Staged(Objective):
    """The three stages one after the other; see `EachAlone`, `Pairs` and `Distillation`.

    Parameters
    ----------
    config
        Settings of the stages.
    masked
        Settings of masked modelling.
    n_genes
        Genes N of the vocabulary.
    """

    def __init__(self, config: FusionConfig, masked: MaskedConfig, n_genes: int) -> None:
        self.masked = MaskedModelling(masked, n_genes)
        parts = [EachAlone(self.masked), Pairs(config, self.masked), Distillation(config.distil_weight, self.masked)]
        self._stages = list(zip(parts, config.stages, strict=True))

    @property
    def stages(self) -> list[tuple[Objective, float]]:
        """Objectives that follow each other, and their shares of the steps."""
        return self._stages

    @property
    def reconstruction(self) -> MaskedModelling:
        """Masked modelling through the fused embedding."""
        return self.masked


class TwoMasked(NamedTuple):
    """The same cells masked twice: RNA as if alone, accessibility as if alone."""

    rna: MaskedCells
    atac: MaskedCells

    def part(self, rows: slice) -> "TwoMasked":
        """Some of the cells; totals stay those of the whole batch."""
        return TwoMasked(*(view.part(rows) for view in self))

    def to(self, device) -> "TwoMasked":
        """Move every tensor to a device."""
        return TwoMasked(*(view.to(device) for view in self))


class EachAlone(Objective):
    """Masked modelling of each modality as if it were the only one; a cell that has only one counts twice.

    Parameters
    ----------
    masked
        Masked modelling.
    """

    title = "each modality alone"

    def __init__(self, masked: MaskedModelling) -> None:
        self.masked = masked

    def trains(self, model: nn.Module) -> Iterator[nn.Parameter]:
        """All but the fusion."""
        return without(model, "fusion.")

    def attach(self, model: nn.Module) -> None:
        """Check that the model can fuse."""
        if model.fusion is None:
            raise InputError("model.fusion", "the recipe fuses modalities, but the model cannot", "Set it to true")

    def prepare(self, batch: CellBatch, generator: torch.Generator) -> TwoMasked:
        """Take each modality alone and mask it; see `MaskedModelling.prepare`."""
        return TwoMasked(*(self.masked.prepare(batch.only(m), generator) for m in (0, 1)))

    def loss(self, model: nn.Module, views: TwoMasked) -> LossTerms:
        """Sum of the losses of both."""
        found = [self.masked.encode_and_score(model, view, model.encode)[0] for view in views]
        return LossTerms(*(sum(parts) for parts in zip(*found, strict=True)))


class MaskedPairs(NamedTuple):
    """Masked cells, and for each another cell whose accessibility makes a false pair with its RNA.

    Attributes
    ----------
    masked
        Masked cells.
    others
        The other cells, masked as well.
    n_cells
        Cells of the whole batch.
    """

    masked: MaskedCells
    others: CellBatch
    n_cells: Tensor

    def part(self, rows: slice) -> "MaskedPairs":
        """Some of the cells; totals stay those of the whole batch."""
        others = CellBatch(*(tensor[rows] for tensor in self.others))
        return self._replace(masked=self.masked.part(rows), others=others)

    def to(self, device) -> "MaskedPairs":
        """Move every tensor to a device."""
        return MaskedPairs(*(item.to(device) for item in self))


class Pairs(Objective):
    """Masked modelling of both modalities through the fused embedding, and telling true pairs from false ones.

    A false pair is the RNA of a cell with the accessibility of the one that is nearest in the batch: telling it takes
    what varies within a state, while pairs of different states could be told by the state alone.

    Parameters
    ----------
    config
        Settings of the stages.
    masked
        Masked modelling.
    """

    title, paired = "fused pairs", True

    def __init__(self, config: FusionConfig, masked: MaskedModelling) -> None:
        self.config, self.masked = config, masked

    def trains(self, model: nn.Module) -> Iterator[nn.Parameter]:
        """All but the students."""
        return without(model, "fusion.students.")

    def attach(self, model: nn.Module) -> None:
        """Take the principal components in which cells are near each other; they are fixed."""
        if model.shortcut is None:
            problem = "false pairs are of cells that are near in principal components, and the model has none"
            raise InputError("model.linear_path", problem, "Set it to true")
        self.space = deepcopy(model.shortcut).cpu()

    def prepare(self, batch: CellBatch, generator: torch.Generator) -> MaskedPairs:
        """Mask cells and choose the other of each false pair; see `MaskedModelling.prepare`."""
        partner_B = self.partners(batch, generator)
        masked = self.masked.prepare(batch, generator)
        others = CellBatch(*(tensor[partner_B] for tensor in masked.batch))
        return MaskedPairs(masked, others, torch.tensor(len(partner_B)))

    def partners(self, batch: CellBatch, generator: torch.Generator) -> Tensor:
        """Another cell of the batch for each: the nearest one, or any (of a single cell, itself)."""
        with torch.no_grad():
            parts = [part[:, :NEAR_COMPONENTS] for part in self.space.components(batch).split(self.space.sizes, dim=1)]
        distance_BB = torch.cdist(*[torch.cat(parts, dim=1)] * 2).fill_diagonal_(torch.inf)
        n_cells = len(distance_BB)
        any_B = (torch.arange(n_cells) + torch.randint(1, max(n_cells, 2), (n_cells,), generator=generator)) % n_cells
        is_random_B = torch.rand(n_cells, generator=generator) < self.config.random_share
        return torch.where(is_random_B, any_B, distance_BB.argmin(1))

    def loss(self, model: nn.Module, pairs: MaskedPairs) -> LossTerms:
        """Loss of masked modelling, plus the weighted cross-entropy of true and false pairs."""
        terms, encoded = self.masked.encode_and_score(model, pairs.masked)
        others = pairs.others.only(1)
        atac_BD = model.encode(others, read_BT=others.genes_BT[:, :0]).cell_BD
        false_BD = model.fusion.join(encoded.halves_MBD[0], atac_BD)
        nll_B = F.softplus(-model.fusion.same_cell(encoded.cell_BD)) + F.softplus(model.fusion.same_cell(false_BD))
        return terms._replace(loss=terms.loss + self.config.match_weight * nll_B.float().sum() / pairs.n_cells)


def without(model: nn.Module, prefix: str) -> Iterator[nn.Parameter]:
    """Parameters of a model but those whose names begin in a certain way."""
    return (parameter for name, parameter in model.named_parameters() if not name.startswith(prefix))
