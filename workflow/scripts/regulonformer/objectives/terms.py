"""What an objective hands to the training loop."""

from typing import NamedTuple

from torch import Tensor


class LossTerms(NamedTuple):
    """The loss to minimise, and sums over scored entries per modality (detached) for the curves.

    Attributes
    ----------
    loss
        Scalar. Losses of the parts of a batch add up to the loss of the batch.
    nll_M
        Loss of the scored entries, summed.
    floor_M
        The same for the mean profile.
    weight_M
        Weight of the scored entries; `nll_M / weight_M` is a point of the curve.
    """

    loss: Tensor
    nll_M: Tensor
    floor_M: Tensor
    weight_M: Tensor
