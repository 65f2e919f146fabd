"""Students learn the embedding of one modality from that of the other one of the same cell; nothing else learns."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regulonformer.model.batch import CellBatch
from regulonformer.objectives.base import Objective
from regulonformer.objectives.masked import MaskedCells, MaskedModelling, profile_sums, taught
from regulonformer.objectives.terms import LossTerms

# Penalty of the linear part of a student, in cells: what so many cells of unit spread would weigh.
PENALTY = 10.0


class WholeCells(NamedTuple):
    """Cells with nothing hidden.

    Attributes
    ----------
    batch
        The cells: both embeddings of a cell are made of one row of it, so that student and teacher cannot be of two.
    profile
        The genes whose counts are reconstructed, and their counts.
    n_cells
        Cells of the whole batch.
    """

    batch: CellBatch
    profile: MaskedCells
    n_cells: Tensor

    def part(self, rows: slice) -> "WholeCells":
        """Some of the cells; totals stay those of the whole batch."""
        batch = CellBatch(*(tensor[rows] for tensor in self.batch))
        return self._replace(batch=batch, profile=self.profile.part(rows))

    def to(self, device) -> "WholeCells":
        """Move every tensor to a device."""
        return WholeCells(*(item.to(device) for item in self))


class Distillation(Objective):
    """Squared distance of a student's embedding to the encoder's, and reconstruction of counts from what it gives.

    There is a student of accessibility from RNA and one of RNA from accessibility. Encoder, fusion and heads keep
    still: paired cells keep their embeddings, and the teacher cannot move towards its student.

    An embedding of few counts is mostly noise, through which steps of an optimiser find their way slowly. The linear
    part of a student is therefore, after each step, the ridge regression of all cells seen so far; its hidden layer
    learns what is left.

    Parameters
    ----------
    weight
        Weight of the distance.
    masked
        Masked modelling; says which counts are reconstructed.
    """

    title, paired, hides = "distillation", True, False

    def __init__(self, weight: float, masked: MaskedModelling) -> None:
        self.weight, self.masked = weight, masked
        self.seen: list[Tensor] = []

    def trains(self, model: nn.Module) -> Iterator[nn.Parameter]:
        """The students' hidden layers."""
        named = model.fusion.students.named_parameters()
        return (parameter for name, parameter in named if "straight" not in name)

    def attach(self, model: nn.Module) -> None:
        """Start the sums of the regressions."""
        width = model.config.width
        # For each student: products of its inputs, a constant one among them, with each other and with its targets.
        self.sums_MXY = torch.zeros(2, width + 1, 2 * width + 1, dtype=torch.float64)

    def prepare(self, batch: CellBatch, generator: torch.Generator) -> WholeCells:
        """Choose the genes whose counts are reconstructed."""
        return WholeCells(batch, self.masked.prepare(batch, generator), torch.tensor(len(batch.genes_BT)))

    def loss(self, model: nn.Module, cells: WholeCells) -> LossTerms:
        """Distance and reconstruction of both students; scored are the profiles of what they stand for."""
        fusion, profile = model.fusion, cells.profile
        with torch.no_grad():
            views = [cells.batch.only(m) for m in (0, 1)]
            taught_MBD = torch.stack([model.encode(view, read_BT=view.genes_BT[:, :0]).cell_BD for view in views])
        if model.training:
            self.seen.append(taught_MBD.transpose(0, 1).float())
        loss, scored = 0.0, []
        for m in (0, 1):
            student_BD = fusion.imagine(m, taught_MBD[1 - m])
            halves = [student_BD if other == m else taught_MBD[other] for other in (0, 1)]
            with torch.autocast(student_BD.device.type, enabled=False):
                nll_M = profile_sums(model, fusion.join(*halves).float(), profile)
                distance = F.mse_loss(student_BD.float(), taught_MBD[m].float(), reduction="sum")
            loss = loss + self.weight * distance / taught_MBD.shape[-1] / cells.n_cells
            loss = loss + self.masked.config.profile_weight * (nll_M / profile.taught_M.clamp_min(1)).sum() / 2
            scored.append(nll_M[m].detach())
        with torch.no_grad():
            floor_M = profile_sums(model, None, profile)
        weight_M = taught(cells.batch).sum(0).float() * len(profile.genes_G)
        return LossTerms(loss, torch.stack(scored), floor_M, weight_M)

    @torch.no_grad()
    def after_step(self, model: nn.Module, gather: Callable[[Tensor], Tensor]) -> None:
        """Take the cells of the step into the regressions, and solve them."""
        width = model.config.width
        # A process without cells takes part with no rows.
        nothing_BMD = torch.zeros(0, 2, width, device=model.cell_token.device)
        rows_BMD = gather(torch.cat([*self.seen, nothing_BMD])).cpu().double()
        self.seen.clear()
        rows_BMD = rows_BMD[rows_BMD.abs().sum((1, 2)) > 0]
        for m, student in enumerate(model.fusion.students):
            inputs_BX = torch.cat([rows_BMD[:, 1 - m], rows_BMD.new_ones(len(rows_BMD), 1)], dim=1)
            self.sums_MXY[m] += inputs_BX.T @ torch.cat([inputs_BX, rows_BMD[:, m]], dim=1)
            squares_XX, products_XD = self.sums_MXY[m].split([width + 1, width], dim=1)
            penalty_X = squares_XX.new_full((width + 1,), PENALTY)
            penalty_X[-1] = 1e-6  # the constant is free
            slopes_XD = torch.linalg.solve(squares_XX + penalty_X.diag(), products_XD)
            student.straight.weight.copy_(slopes_XD[:-1].T)
            student.straight.bias.copy_(slopes_XD[-1])

    def state(self) -> dict[str, Tensor]:
        """Sums of the regressions."""
        return {"sums": self.sums_MXY}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up the sums."""
        self.sums_MXY = state["sums"]
