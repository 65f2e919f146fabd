"""What a run of training is given: budget, optimiser and way of computing."""

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class TrainSettings:
    """Budget, optimiser and way of computing of a run; see the schema for each key.

    `patience` counts validations without improvement; with it the best model is kept, without it the last.
    """

    steps: int = 400
    batch_cells: int = 64
    learning_rate: float = 2.0e-3
    warmup_share: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    validate_steps: int = 50
    patience: int | None = None
    checkpoint_steps: int = 100
    precision: str = "float32"
    accumulate: int = 1
    compile: bool = False
    seed: int = 0

    @classmethod
    def from_dict(cls, values: dict) -> "TrainSettings":
        """Take the keys of this class from a config section; the section has others too."""
        return cls(**{item.name: values[item.name] for item in fields(cls) if item.name in values})
