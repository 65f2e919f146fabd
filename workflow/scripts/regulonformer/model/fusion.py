"""Late fusion of RNA and accessibility, and students that stand in for a modality that was not measured (scMomer)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regulonformer.model.batch import MODALITIES

# Hidden units of a student, and of the judge of pairs, per unit of the width.
HIDDEN = 4


class Student(nn.Module):
    """Predicts the embedding of one modality from that of the other: a linear map plus one hidden layer.

    Parameters
    ----------
    width
        Width D of embeddings.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.straight = nn.Linear(width, width)
        self.fc1 = nn.Linear(width, HIDDEN * width)
        self.fc2 = nn.Linear(HIDDEN * width, width)
        # It starts from zero, which is what an embedding without information would add.
        for layer in (self.straight, self.fc2):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, cell_BD: Tensor) -> Tensor:
        """Embedding of the modality that is not there, B x D."""
        return self.straight(cell_BD) + self.fc2(F.gelu(self.fc1(cell_BD)))


class Fusion(nn.Module):
    """z = W [f_RNA; f_ATAC]; what a cell lacks is predicted by a student from what it has.

    W starts as the sum of both, which is what the linear path of a model without fusion gives.

    Parameters
    ----------
    width
        Width D of embeddings.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fuse = nn.Linear(len(MODALITIES) * width, width, bias=False)
        with torch.no_grad():
            self.fuse.weight.copy_(torch.eye(width).repeat(1, len(MODALITIES)))
        self.students = nn.ModuleList(Student(width) for _ in MODALITIES)
        self.judge = nn.Sequential(nn.Linear(width, HIDDEN * width), nn.GELU(), nn.Linear(HIDDEN * width, 1))

    def join(self, rna_BD: Tensor, atac_BD: Tensor) -> Tensor:
        """Fused embedding of RNA and accessibility, B x D."""
        return self.fuse(torch.cat([rna_BD, atac_BD], dim=1))

    def imagine(self, modality: int, other_BD: Tensor) -> Tensor:
        """Embedding of a modality (0 RNA, 1 accessibility) as its student makes it of the other one, B x D."""
        return self.students[modality](other_BD)

    def same_cell(self, fused_BD: Tensor) -> Tensor:
        """Log odds that both halves of fused embeddings are of one cell, B."""
        return self.judge(fused_BD)[:, 0]

    def forward(self, rna_BD: Tensor, atac_BD: Tensor, missing_BM: Tensor) -> Tensor:
        """Embeddings of RNA and of accessibility of cells, some of which may lack a modality, M x B x D.

        Parameters
        ----------
        rna_BD, atac_BD
            Embeddings from one modality alone; those of a missing one are not read.
        missing_BM
            What each cell lacks.
        """
        rna_B1, atac_B1 = (missing_BM & ~missing_BM.all(1, keepdim=True)).split(1, dim=1)
        halves = [rna_BD, atac_BD]
        for m, (lacks_B1, other_BD) in enumerate([(rna_B1, atac_BD), (atac_B1, rna_BD)]):
            if lacks_B1.any():
                halves[m] = torch.where(lacks_B1, self.imagine(m, other_BD), halves[m])
        return torch.stack(halves)
