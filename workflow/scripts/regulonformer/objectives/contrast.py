"""Two views of one cell (scDMC): each is masked and reconstructed, and their cell embeddings must find each other.

The views are the values of a cell and the ranks of its genes, or its RNA and its accessibility alone. They share no
count, or a cell would be found by which of its transcripts were caught. Keys come from a momentum copy of the model
(MoCo: He et al. 2020, arXiv 1911.05722, section 3), negatives from a queue of earlier keys: those of the same library
and of about the same depth, or library and depth would be what is learned.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regulonformer.errors import InputError
from regulonformer.model.batch import CellBatch
from regulonformer.objectives.base import Objective
from regulonformer.objectives.masked import MaskedCells, MaskedConfig, MaskedModelling, split_settings
from regulonformer.objectives.terms import LossTerms
from regulonformer.objectives.views import rank_view, split_counts

# What is kept of a cell beside its key: code of the library, and log depth of both modalities.
ABOUT = 3


@dataclass(frozen=True)
class ContrastConfig:
    """Settings of the contrast; those of `MaskedConfig` stand beside them.

    Attributes
    ----------
    weight
        Weight of the contrast.
    temperature
        Cosine similarities are divided by it.
    momentum
        Share of itself that the momentum copy keeps at each step.
    queue
        Keys of earlier cells, of one kind of view, that serve as negatives.
    depth_share
        Share of the keys of a cell's own library that may be negatives, those nearest to it in log depth.
    near_share
        Share of the negatives, those most like the cell's own key, that are left out: they are cells of its state.
    modality_share
        Probability that a step contrasts RNA with accessibility, not values with ranks.
    """

    weight: float = 0.3
    temperature: float = 0.3
    momentum: float = 0.99
    queue: int = 4096
    depth_share: float = 0.25
    near_share: float = 0.3
    modality_share: float = 0.25

    @classmethod
    def split(cls, values: dict) -> tuple["ContrastConfig", MaskedConfig]:
        """Divide a block of settings between this class and `MaskedConfig`.

        Raises
        ------
        InputError
            If a key is unknown or a value out of range.
        """
        config, masked = split_settings(cls, values)
        if not 0 <= config.momentum < 1:
            raise InputError("objective.momentum", f"{config.momentum} is out of range", "Use a value in [0, 1)")
        for name, value, is_share in (
            ("near_share", config.near_share, 0 <= config.near_share < 1),
            ("depth_share", config.depth_share, 0 < config.depth_share <= 1),
            ("modality_share", config.modality_share, 0 <= config.modality_share <= 1),
        ):
            if not is_share:
                raise InputError(f"objective.{name}", f"{value} is out of range", "Use a share; near_share is below 1")
        if config.temperature <= 0 or config.queue < 1:
            raise InputError("objective.temperature, objective.queue", "not above 0", "Use positive values")
        return config, masked


class TwoViews(NamedTuple):
    """Two masked views of the same cells.

    Attributes
    ----------
    first, second
        Values and ranks, or RNA and accessibility.
    kind
        0: values and ranks, 1: RNA and accessibility.
    contrasted_B
        1 where a cell has a count in both views (and both modalities, for the second kind), else 0.
    n_contrasted
        Their number in the whole batch.
    about_B3
        Code of the library of each cell, and log depth of both modalities.
    """

    first: MaskedCells
    second: MaskedCells
    kind: Tensor
    contrasted_B: Tensor
    n_contrasted: Tensor
    about_B3: Tensor

    def part(self, rows: slice) -> "TwoViews":
        """Some of the cells; totals stay those of the whole batch."""
        first, second = self.first.part(rows), self.second.part(rows)
        of_cells = {"contrasted_B": self.contrasted_B[rows], "about_B3": self.about_B3[rows]}
        return self._replace(first=first, second=second, **of_cells)

    def to(self, device) -> "TwoViews":
        """Move every tensor to a device."""
        return TwoViews(*(item.to(device) for item in self))


class Contrast(Objective):
    """Masked modelling of two views, and InfoNCE between their cell embeddings (van den Oord et al. 2018, 1807.03748).

    Both views are really masked, each with masks of its own, so that no target can be copied from its input. The
    momentum copy follows the model after every step. Negatives come from the queue alone, so that the loss of a cell
    does not depend on which others share its part of the batch.

    Parameters
    ----------
    config
        Settings of the contrast.
    masked
        Settings of masked modelling.
    n_genes
        Genes N of the vocabulary.
    """

    reads_libraries = True

    def __init__(self, config: ContrastConfig, masked: MaskedConfig, n_genes: int) -> None:
        self.config, self.masked = config, MaskedModelling(masked, n_genes)
        self.teacher = None
        self.new_keys: list[Tensor] = []

    @property
    def reconstruction(self) -> MaskedModelling:
        """Masked modelling of the values."""
        return self.masked

    def attach(self, model: nn.Module) -> None:
        """Start the momentum copy and empty queues, and learn what is usual for each gene."""
        self.gene_log_mean_N2 = model.heads.gene_log_mean.cpu()
        self.teacher = deepcopy(model).eval().requires_grad_(False)
        # One queue per kind of views (K) and view (V), newest keys first; rows of zeros are free places. Among keys of
        # another kind, a cell would be found by what was hidden of it.
        self.queue_KVQE = model.cell_token.new_zeros(2, 2, self.config.queue, model.config.width + ABOUT).detach()

    def prepare(self, batch: CellBatch, generator: torch.Generator, library_B: Tensor | None = None) -> TwoViews:
        """Draw the kind of views of this step, divide the counts, and mask both; see `MaskedModelling.prepare`.

        Parameters
        ----------
        batch
            Active genes of each cell, on the CPU.
        generator
            Source of randomness.
        library_B
            Code of the library of each cell; one library if not given.
        """
        kind = torch.rand((), generator=generator) < self.config.modality_share
        first, second = split_counts(batch, generator)
        if kind:
            first, second, whole_B = first.only(0), second.only(1), ~batch.missing_BM().any(1)
        else:
            second = rank_view(second, self.gene_log_mean_N2)
            whole_B = torch.ones(len(batch.genes_BT), dtype=torch.bool)
        whole_B = whole_B & ~first.pad_BT.all(1) & ~second.pad_BT.all(1)
        views = [self.masked.prepare(view, generator) for view in (first, second)]
        library_B = torch.zeros(len(whole_B)) if library_B is None else library_B.float()
        about_B3 = torch.column_stack([library_B, batch.library_B2.clamp_min(1.0).log()])
        return TwoViews(*views, kind.long(), whole_B.float(), whole_B.sum(), about_B3)

    def loss(self, model: nn.Module, views: TwoViews) -> LossTerms:
        """Mean of the losses of both views, plus the weighted contrast."""
        (one, first), (two, second) = (self.masked.encode_and_score(model, view) for view in views[:2])
        queries, queue_VQE = [first.cell_BD, second.cell_BD], self.queue_KVQE[views.kind]
        with torch.no_grad():
            cells = (self.teacher.cell_embedding(view.batch) for view in (views.first, views.second))
            keys = [F.normalize(cell_BD.float(), dim=1) for cell_BD in cells]
        if model.training:
            new_VBE = torch.stack([torch.cat([key_BD, views.about_B3], dim=1) for key_BD in keys])
            keys_KVBE = new_VBE.new_zeros(2, *new_VBE.shape)
            keys_KVBE[views.kind] = new_VBE * views.contrasted_B[None, :, None]
            self.new_keys.append(keys_KVBE)
        # The query of one view looks for the key of the other.
        losses_B = sum(self._info_nce(queries[v], keys[1 - v], queue_VQE[1 - v], views.about_B3) for v in (0, 1)) / 2
        contrast = (losses_B * views.contrasted_B).sum() / views.n_contrasted.clamp_min(1)
        sums = (first + second for first, second in zip(one[1:], two[1:], strict=True))
        return LossTerms((one.loss + two.loss) / 2 + self.config.weight * contrast, *sums)

    def __call__(self, model: nn.Module, batch: CellBatch, generator: torch.Generator) -> LossTerms:
        """Mask a batch, encode it and score it."""
        return self.loss(model, self.prepare(batch, generator).to(model.cell_token.device))

    @torch.no_grad()
    def after_step(self, model: nn.Module, gather: Callable[[Tensor], Tensor]) -> None:
        """Move the momentum copy towards the model, and put the keys of the step into the queue."""
        for kept, now in zip(self.teacher.parameters(), model.parameters(), strict=True):
            kept.lerp_(now, 1 - self.config.momentum)
        # A process without cells takes part with no rows.
        keys_KVBE = torch.cat([*self.new_keys, self.queue_KVQE[:, :, :0]], dim=2)
        self.new_keys.clear()
        new_BKVE = gather(keys_KVBE.permute(2, 0, 1, 3).contiguous())
        queues = []
        for new_BVE, queue_VQE in zip(new_BKVE.unbind(1), self.queue_KVQE, strict=True):
            new_VBE = new_BVE[new_BVE.abs().sum((1, 2)) > 0].transpose(0, 1)
            queues.append(torch.cat([new_VBE, queue_VQE], dim=1)[:, : self.config.queue])
        self.queue_KVQE = torch.stack(queues)

    def state(self) -> dict[str, Tensor]:
        """Momentum copy and queues."""
        return {"queue": self.queue_KVQE} | {f"teacher.{name}": t for name, t in self.teacher.state_dict().items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up momentum copy and queues."""
        self.queue_KVQE = state["queue"].to(self.queue_KVQE.device)
        teacher = {name.removeprefix("teacher."): t for name, t in state.items() if name.startswith("teacher.")}
        self.teacher.load_state_dict(teacher)

    def _info_nce(self, query_BD: Tensor, key_BD: Tensor, queue_QE: Tensor, about_B3: Tensor) -> Tensor:
        """-log of the share that a cell's own key has among its own and the negatives', B."""
        with torch.autocast(query_BD.device.type, enabled=False):
            query_BD, queue_QD = F.normalize(query_BD.float(), dim=1), queue_QE[:, :-ABOUT]
            own_B1 = (query_BD * key_BD).sum(1, keepdim=True)
            alike_BQ = self._comparable(queue_QE, about_B3)
            near_BQ = lowest(-(key_BD @ queue_QD.T), alike_BQ, self.config.near_share)
            other_BQ = (query_BD @ queue_QD.T).masked_fill(~alike_BQ | near_BQ, -torch.inf)
            logits = torch.cat([own_B1, other_BQ], dim=1) / self.config.temperature
            return logits.logsumexp(1) - logits[:, 0]

    def _comparable(self, queue_QE: Tensor, about_B3: Tensor) -> Tensor:
        """Keys of the library of each cell, those nearest to it in depth (B x Q)."""
        about_Q3 = queue_QE[:, -ABOUT:]
        same_BQ = (queue_QE[:, :-ABOUT].abs().sum(1) > 0) & (about_B3[:, None, 0] == about_Q3[:, 0])
        distance_BQ = (about_B3[:, None, 1:] - about_Q3[:, 1:]).square().sum(-1)
        return lowest(distance_BQ, same_BQ, self.config.depth_share)


def lowest(values_BQ: Tensor, candidate_BQ: Tensor, share: float) -> Tensor:
    """Mark the lowest share of each row's candidates, rounded down (bool, B x Q)."""
    order_BQ = values_BQ.masked_fill(~candidate_BQ, torch.inf).argsort(dim=1, stable=True)
    first_BQ = torch.arange(order_BQ.shape[1], device=order_BQ.device) < (candidate_BQ.sum(1) * share).long()[:, None]
    return torch.zeros_like(candidate_BQ).scatter(1, order_BQ, first_BQ)
