"""A compact convolutional network from the sequence of an element to its accessibility in each cell group.

Its filters are the motifs of TFs and stay as they are; what is learned is from which score on a site counts, how much
its place in the element matters, and what occupied sites do to accessibility in each group: a line, and an MLP beside
it. A few thousand elements teach that much, while free filters need hundreds of thousands. A network of one filter per
unit that may start from position weight matrices is ExplaiNN's (Novakovsky et al. 2023,
doi:10.1186/s13059-023-02985-y).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regulonformer.sequence.onehot import BASES

# Sites nearer to each other than this count as one.
STRETCH = 16
# Support points of the weight of a place in the window, from its border to its middle; mirrored.
PLACES = 8
# A filter is half occupied, at the start, at this share of its best score or at so many bits.
HALF_SHARE, HALF_BITS = 0.6, 8.0
MOST_BITS = 4.0
GC_CENTRE, GC_SCALE = 0.45, 8.0


class SequenceNet(nn.Module):
    """Sequence to occupancy of F filters, and to log accessibility in G cell groups.

    Parameters
    ----------
    n_filters
        Filters F.
    filter_width
        Positions of a filter; odd.
    n_groups
        Cell groups G.
    hidden
        Width of the MLP.
    """

    def __init__(self, n_filters: int, filter_width: int, n_groups: int, hidden: int = 64) -> None:
        super().__init__()
        self.filters = nn.Conv1d(len(BASES), n_filters, filter_width, padding=filter_width // 2, bias=False)
        self.filters.requires_grad_(False)
        self.threshold = nn.Parameter(torch.zeros(n_filters))
        self.log_slope = nn.Parameter(torch.zeros(n_filters))
        self.place = nn.Parameter(torch.zeros(PLACES))
        self.line = nn.Linear(n_filters + 1, n_groups)
        self.fc1 = nn.Linear(n_filters + 1, hidden)
        self.fc2 = nn.Linear(hidden, n_groups)
        for layer in (self.line, self.fc2):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    @torch.no_grad()
    def start_from(self, motifs: list[Tensor]) -> None:
        """Let the filters be motifs.

        Parameters
        ----------
        motifs
            Log-odds in bits, 4 x width, one per filter; of a longer motif the filter takes the stretch that says most.
        """
        width = self.filters.kernel_size[0]
        self.filters.weight.zero_()
        for row, odds_4K in enumerate(motifs):
            odds_4K = odds_4K.float().clamp(-MOST_BITS, MOST_BITS)
            if odds_4K.shape[1] > width:
                says_K = (2**odds_4K * odds_4K).sum(0).unfold(0, width, 1).sum(1)
                first = int(says_K.argmax())
                odds_4K = odds_4K[:, first : first + width]
            offset = (width - odds_4K.shape[1]) // 2
            self.filters.weight[row, :, offset : offset + odds_4K.shape[1]] = odds_4K
            best = float(odds_4K.max(0).values.sum())
            self.threshold[row] = max(HALF_SHARE * best, min(HALF_BITS, 0.9 * best))

    @torch.no_grad()
    def scan(self, onehot_X4L: Tensor) -> Tensor:
        """Best score in bits of each filter in each stretch of a window, on either strand; X x F x P."""
        onehot_X4L = onehot_X4L.to(self.filters.weight.dtype)
        forward = F.max_pool1d(self.filters(onehot_X4L), STRETCH, ceil_mode=True)
        # The other strand is read with turned filters, so that both strands share their stretches.
        turned = self.filters.weight.flip(1, 2)
        backward = F.conv1d(onehot_X4L, turned, padding=self.filters.padding[0])
        return torch.maximum(forward, F.max_pool1d(backward, STRETCH, ceil_mode=True))

    def occupancy(self, scan_XFP: Tensor) -> Tensor:
        """log1p of the sites that each filter finds, weighted by their place, X x F; the same for both strands."""
        bound_XFP = torch.sigmoid((scan_XFP - self.threshold[:, None]) * self.log_slope.exp()[:, None])
        places = torch.cat([self.place, self.place.flip(0)])
        weight_P = F.interpolate(places[None, None], size=scan_XFP.shape[-1], mode="linear")[0, 0].exp()
        return torch.log1p((bound_XFP * weight_P).sum(-1))

    def of_occupancy(self, occupancy_XF: Tensor, gc_X: Tensor) -> Tensor:
        """Log accessibility in each group, X x G."""
        inputs = torch.cat([occupancy_XF, ((gc_X - GC_CENTRE) * GC_SCALE)[:, None]], dim=1)
        return self.line(inputs) + self.fc2(F.gelu(self.fc1(inputs)))

    def forward(self, scan_XFP: Tensor, gc_X: Tensor) -> Tensor:
        """Log accessibility in each group, X x G, of what `scan` and `gc_content` say of windows."""
        return self.of_occupancy(self.occupancy(scan_XFP), gc_X)

    def reach(self) -> Tensor:
        """How much each filter may say, F: length of its weights in the line and in the MLP."""
        weights = torch.cat([self.line.weight[:, :-1], self.fc1.weight[:, :-1]])
        return (weights.square().sum(0) + 1e-8).sqrt()


def gc_content(onehot_X4L: Tensor) -> Tensor:
    """Share of G and C among the known bases of windows, X; that of the middle where no base is known."""
    known_X = onehot_X4L.sum((1, 2))
    share_X = onehot_X4L[:, 1:3].sum((1, 2)) / known_X.clamp_min(1)
    return torch.where(known_X > 0, share_X, GC_CENTRE)
