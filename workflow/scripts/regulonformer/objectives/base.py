"""What every objective can be asked; most have no state, and need nothing of this but the defaults."""

from collections.abc import Callable, Iterator

from torch import Tensor, nn


class Objective:
    """An objective of pretraining; see `regulonformer.objectives` for the methods that each has of its own.

    Attributes
    ----------
    predicts
        What the heads of the model give: `counts`, `values` or `bins`.
    title
        What it is called in messages, where it is a stage of a recipe.
    hides
        Whether the entries it scores were hidden from the model.
    paired
        Whether it needs cells with both modalities, and reads no others.
    reads_libraries
        Whether `prepare` also takes the code of each cell's library, `library_B`.
    """

    predicts = "counts"
    title = "pretraining"
    hides = True
    paired = False
    reads_libraries = False

    @property
    def stages(self) -> list[tuple["Objective", float]]:
        """Objectives that follow each other, and the share of all steps that each has."""
        return [(self, 1.0)]

    @property
    def reconstruction(self) -> "Objective":
        """The part that hides entries and predicts them, by which recipes are compared."""
        return self

    def trains(self, model: nn.Module) -> Iterator[nn.Parameter]:
        """Parameters that learn; the others keep still."""
        return model.parameters()

    def extend(self, model: nn.Module, seed: int) -> None:
        """Add what the model has during training alone, before anything else is done with it."""

    def fold(self, model: nn.Module) -> None:
        """Take what `extend` added into the weights that the model had, at the end of training."""

    def attach(self, model: nn.Module) -> None:
        """Take what is needed of the model before its first step; it is on its device by then."""

    def after_step(self, model: nn.Module, gather: Callable[[Tensor], Tensor]) -> None:
        """Follow a step of the optimiser; `gather` joins rows of all processes."""

    def state(self) -> dict[str, Tensor]:
        """What a run that is taken up again needs."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up a state."""
