"""Attention of every token to the slots."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# On CPUs the way back through narrower heads takes half as long again in bfloat16 as in float32.
NARROW_HEAD = 32


class SlotAttention(nn.Module):
    """Multi-head attention from tokens to slots.

    Keys and values are projected after pooling: that costs S projections per cell instead of one per gene.

    Parameters
    ----------
    width
        Width D.
    heads
        Heads H.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(self, queries_BTD: Tensor, slots_BSD: Tensor) -> Tensor:
        """Read the slots; returns B x T x D."""
        q, k, v = (
            self._split(part) for part in (self.q_proj(queries_BTD), self.k_proj(slots_BSD), self.v_proj(slots_BSD))
        )
        narrow = q.device.type == "cpu" and q.requires_grad and q.shape[-1] < NARROW_HEAD
        if narrow and q.dtype == torch.bfloat16:
            with torch.autocast("cpu", enabled=False):
                read_BHTd = F.scaled_dot_product_attention(q.float(), k.float(), v.float()).to(q.dtype)
        else:
            read_BHTd = F.scaled_dot_product_attention(q, k, v)
        return self.o_proj(read_BHTd.transpose(1, 2).flatten(2))

    def weights(self, queries_BTD: Tensor, slots_BSD: Tensor) -> Tensor:
        """Attention of tokens over the slots, mean of the heads; returns B x T x S, rows sum to 1."""
        q, k = self._split(self.q_proj(queries_BTD)), self._split(self.k_proj(slots_BSD))
        return (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1).mean(1)

    def _split(self, states_BTD: Tensor) -> Tensor:
        """Split the width into heads: B x H x T x D/H."""
        return states_BTD.unflatten(-1, (self.heads, -1)).transpose(1, 2)
