"""Two views of one cell (scDMC): each is masked and reconstructed, and their cell embeddings must find each other.

The views are the values of a cell and the ranks of its genes, or its RNA and its accessibility alone. Keys come from a
momentum copy of the model (MoCo: He et al. 2020, arXiv 1911.05722, section 3), negatives from a queue of earlier keys.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regulonformer.errors import InputError, refuse_unknown_keys
from regulonformer.model.batch import MISSING, CellBatch
from regulonformer.objectives.base import Objective
from regulonformer.objectives.masked import MaskedCells, MaskedConfig, MaskedModelling
from regulonformer.objectives.terms import LossTerms

# Value of the highest rank: log1p of counts per 10 000 of a strongly expressed gene.
TOP_VALUE = 5.0


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
    near_share
        Share of the negatives, those most like the cell's own key, that are left out: they are cells of its state.
    modality_share
        Probability that a step contrasts RNA with accessibility, not values with ranks.
    """

    weight: float = 1.0
    temperature: float = 0.1
    momentum: float = 0.99
    queue: int = 1024
    near_share: float = 0.1
    modality_share: float = 0.5

    @classmethod
    def split(cls, values: dict) -> tuple["ContrastConfig", MaskedConfig]:
        """Divide a block of settings between this class and `MaskedConfig`.

        Raises
        ------
        InputError
            If a key is unknown or a value out of range.
        """
        own, masked = ([item.name for item in fields(kind)] for kind in (cls, MaskedConfig))
        refuse_unknown_keys(values, own + masked, "objective")
        config = cls(**{name: values[name] for name in own if name in values})
        if not 0 <= config.momentum < 1:
            raise InputError("objective.momentum", f"{config.momentum} is out of range", "Use a value in [0, 1)")
        for name, value, is_share in (
            ("near_share", config.near_share, 0 <= config.near_share < 1),
            ("modality_share", config.modality_share, 0 <= config.modality_share <= 1),
        ):
            if not is_share:
                raise InputError(f"objective.{name}", f"{value} is out of range", "Use a share; near_share is below 1")
        if config.temperature <= 0 or config.queue < 1:
            raise InputError("objective.temperature, objective.queue", "not above 0", "Use positive values")
        return config, MaskedConfig.from_dict({name: values[name] for name in masked if name in values})


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
    """

    first: MaskedCells
    second: MaskedCells
    kind: Tensor
    contrasted_B: Tensor
    n_contrasted: Tensor

    def part(self, rows: slice) -> "TwoViews":
        """Some of the cells; totals stay those of the whole batch."""
        first, second = self.first.part(rows), self.second.part(rows)
        return self._replace(first=first, second=second, contrasted_B=self.contrasted_B[rows])

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
        self.queue_KVQD = model.cell_token.new_zeros(2, 2, self.config.queue, model.config.width).detach()

    def prepare(self, batch: CellBatch, generator: torch.Generator) -> TwoViews:
        """Draw the kind of views of this step and mask both; see `MaskedModelling.prepare`."""
        kind = torch.rand((), generator=generator) < self.config.modality_share
        if kind:
            first, second, whole_B = only(batch, 0), only(batch, 1), ~batch.missing_BM().any(1)
        else:
            first, second = batch, rank_view(batch, self.gene_log_mean_N2)
            whole_B = torch.ones(len(batch.genes_BT), dtype=torch.bool)
        whole_B = whole_B & ~first.pad_BT.all(1) & ~second.pad_BT.all(1)
        views = [self.masked.prepare(view, generator) for view in (first, second)]
        return TwoViews(*views, kind.long(), whole_B.float(), whole_B.sum())

    def loss(self, model: nn.Module, views: TwoViews) -> LossTerms:
        """Mean of the losses of both views, plus the weighted contrast."""
        (one, query_BD), (two, other_BD) = (self.masked.encode_and_score(model, view) for view in views[:2])
        queries, queue_VQD = [query_BD, other_BD], self.queue_KVQD[views.kind]
        with torch.no_grad():
            cells = (self.teacher.cell_embedding(view.batch) for view in (views.first, views.second))
            keys = [F.normalize(cell_BD.float(), dim=1) for cell_BD in cells]
        if model.training:
            keys_KVBD = query_BD.new_zeros(2, 2, *query_BD.shape, dtype=torch.float32)
            keys_KVBD[views.kind] = torch.stack(keys) * views.contrasted_B[None, :, None]
            self.new_keys.append(keys_KVBD)
        # The query of one view looks for the key of the other.
        losses_B = sum(self._info_nce(queries[v], keys[1 - v], queue_VQD[1 - v]) for v in (0, 1)) / 2
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
        keys_KVBD = torch.cat([*self.new_keys, self.queue_KVQD[:, :, :0]], dim=2)
        self.new_keys.clear()
        new_BKVD = gather(keys_KVBD.permute(2, 0, 1, 3).contiguous())
        queues = []
        for new_BVD, queue_VQD in zip(new_BKVD.unbind(1), self.queue_KVQD, strict=True):
            new_VBD = new_BVD[new_BVD.abs().sum((1, 2)) > 0].transpose(0, 1)
            queues.append(torch.cat([new_VBD, queue_VQD], dim=1)[:, : self.config.queue])
        self.queue_KVQD = torch.stack(queues)

    def state(self) -> dict[str, Tensor]:
        """Momentum copy and queues."""
        return {"queue": self.queue_KVQD} | {f"teacher.{name}": t for name, t in self.teacher.state_dict().items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up momentum copy and queues."""
        self.queue_KVQD = state["queue"].to(self.queue_KVQD.device)
        teacher = {name.removeprefix("teacher."): t for name, t in state.items() if name.startswith("teacher.")}
        self.teacher.load_state_dict(teacher)

    def _info_nce(self, query_BD: Tensor, key_BD: Tensor, queue_QD: Tensor) -> Tensor:
        """-log of the share that a cell's own key has among its own and the negatives', B."""
        with torch.autocast(query_BD.device.type, enabled=False):
            query_BD = F.normalize(query_BD.float(), dim=1)
            own_B1 = (query_BD * key_BD).sum(1, keepdim=True)
            filled_Q = queue_QD.abs().sum(1) > 0
            near_BQ = (key_BD @ queue_QD.T).masked_fill(~filled_Q, -torch.inf)
            n_near = int(filled_Q.sum() * self.config.near_share)
            negative_BQ = filled_Q.expand_as(near_BQ)
            if n_near:
                negative_BQ = negative_BQ & (near_BQ < near_BQ.topk(n_near, dim=1).values[:, -1:])
            other_BQ = (query_BD @ queue_QD.T).masked_fill(~negative_BQ, -torch.inf)
            logits = torch.cat([own_B1, other_BQ], dim=1) / self.config.temperature
            return logits.logsumexp(1) - logits[:, 0]


def rank_view(batch: CellBatch, gene_log_mean_N2: Tensor) -> CellBatch:
    """The same cells with ranks for values: the highest value of a modality becomes `TOP_VALUE`, and so on evenly down.

    Genes are ranked by their counts relative to their mean in all cells, as Geneformer and scDMC do by the median.
    Equal ones share the mean of their ranks, so that the order of genes says nothing.

    Parameters
    ----------
    batch
        Cells.
    gene_log_mean_N2
        log of each gene's mean share of all counts, per modality.
    """
    log_mean_BT2 = gene_log_mean_N2[batch.genes_BT]
    counts = (batch.rna_counts_BT, batch.atac_counts_BT)
    rna_BT, atac_BT = (_ranks(counts_BT.log() - log_mean_BT2[..., m]) for m, counts_BT in enumerate(counts))
    return batch._replace(rna_BT=rna_BT, atac_BT=atac_BT)


def only(batch: CellBatch, modality: int) -> CellBatch:
    """The same cells as if one modality had been measured alone; a cell that has only the other one stays as it is.

    Genes that show in the other modality alone are no tokens any more, or their presence would tell.
    """
    name, other = (("rna", "atac"), ("atac", "rna"))[modality]
    both_B1 = ~batch.missing_BM().any(1)[:, None]
    state_BT = getattr(batch, f"{other}_state_BT")
    pad_BT = batch.pad_BT | (both_B1 & (getattr(batch, f"{name}_counts_BT") == 0))
    changed = {"genes_BT": batch.genes_BT.masked_fill(pad_BT, 0), "pad_BT": pad_BT}
    for field in (f"{other}_BT", f"{other}_counts_BT"):
        changed[field] = getattr(batch, field).masked_fill(both_B1, 0.0)
    return batch._replace(**changed | {f"{other}_state_BT": state_BT.masked_fill(both_B1, MISSING)})


def _ranks(keys_BT: Tensor) -> Tensor:
    """Mean rank of each finite key within its row, scaled to (0, TOP_VALUE]; 0 where the key is -inf."""
    sorted_BT = keys_BT.sort(dim=1).values
    below_BT = torch.searchsorted(sorted_BT, keys_BT.contiguous())
    up_to_BT = torch.searchsorted(sorted_BT, keys_BT.contiguous(), right=True)
    shown_BT = keys_BT > -torch.inf
    n_B1 = shown_BT.sum(1, keepdim=True)
    rank_BT = (below_BT + up_to_BT + 1) / 2 - (keys_BT.shape[1] - n_B1)
    return torch.where(shown_BT, rank_BT / n_B1.clamp_min(1) * TOP_VALUE, 0.0)
