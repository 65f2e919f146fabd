"""Training in one process, which may be one of several."""

from regulonformer.corpus.shards import Corpus
from regulonformer.errors import InputError
from regulonformer.training.loop import Trainer


def train(model, objective, corpus: tuple, train_cells, validation_cells, settings, checkpoint, gpu=False) -> dict:
    """Train in this process, alone or as one of several; see `Trainer`.

    Parameters
    ----------
    corpus
        Files of the corpus, as `Corpus` takes them; every process opens them for itself.

    Returns
    -------
    dict
        `weights` (state dict on the CPU), `rows` of the curves, `steps` taken, `cells_per_second` (since it was taken
        up; None if no step was left), `earlier_seconds` (of killed processes that it was taken up from), `precision`.
    """
    trainer = Trainer(model, objective, Corpus(*corpus), train_cells, validation_cells, settings, checkpoint, gpu)
    rows = trainer.run()
    if not all(value.isfinite().all() for value in model.parameters()):
        problem = f"{settings.learning_rate} is too much for these data: weights are not finite after training"
        raise InputError("pretrain.learning_rate", problem, "Lower it, or raise pretrain.warmup_share")
    return {
        "weights": {name: value.cpu() for name, value in model.state_dict().items()},
        "rows": rows,
        "steps": trainer.step,
        "cells_per_second": trainer.cells_per_second,
        "earlier_seconds": checkpoint.wall_seconds if checkpoint else 0.0,
        "precision": "bf16" if trainer.accelerator.mixed_precision == "bf16" else "float32",
    }
