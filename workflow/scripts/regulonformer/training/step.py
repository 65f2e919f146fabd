"""What a step of the optimiser is made of: the pass that gives the loss, its parts, and the weights that decay."""

import numpy as np
from torch import nn

from regulonformer.objectives.terms import LossTerms


class Losses(nn.Module):
    """Model and objective as one module, so that what several processes synchronise is the pass that gives the loss.

    Parameters
    ----------
    model
        Model.
    objective
        See `regulonformer.objectives`.
    """

    def __init__(self, model: nn.Module, objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, prepared) -> LossTerms:
        """Loss of some prepared cells; zero for None."""
        if prepared is None:
            # A process without cells still takes part in the sum of gradients.
            anchor = next(self.objective.trains(self.model)).flatten()[0] * 0.0
            return LossTerms(anchor, *anchor.detach().expand(3, 2))
        return self.objective.loss(self.model, prepared)


def cut(n_cells: int, accumulate: int, processes: int, rank: int) -> list[slice | None]:
    """Rows of a batch that one process takes, in as many parts as every other process makes of its own.

    Parameters
    ----------
    n_cells
        Cells of the batch.
    accumulate
        Parts per process, at most.
    processes, rank
        Number of processes, and which of them is asked for.

    Returns
    -------
    list of slice or None
        None where there are too few cells for this process.
    """
    share = np.array_split(np.arange(n_cells), processes)[rank]
    n_parts = min(accumulate, -(-n_cells // processes))
    return [slice(part[0], part[-1] + 1) if len(part) else None for part in np.array_split(share, n_parts)]


def decayed_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Parameter groups in which only the weights of linear layers decay."""
    decayed = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [item for item in trained if id(item) in decayed], "weight_decay": weight_decay},
        {"params": [item for item in trained if id(item) not in decayed], "weight_decay": 0.0},
    ]
