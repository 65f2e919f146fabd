"""Learning rate over the steps of a run."""

import math


def warmup_cosine(step: int, steps: int, warmup_share: float) -> float:
    """Share of the peak learning rate: linear warm-up, then half a cosine down to zero.

    Parameters
    ----------
    step
        Step about to be taken, from 0.
    steps
        Steps of the whole run.
    warmup_share
        Share of the steps spent warming up.
    """
    warmup = max(1, round(steps * warmup_share))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
