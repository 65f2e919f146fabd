"""Rows of the curves of a run."""

import torch

from regulonformer.objectives.terms import LossTerms


def curve_sums(terms: LossTerms) -> torch.Tensor:
    """Stack what a curve needs, in double precision."""
    return torch.stack([terms.nll_M, terms.floor_M, terms.weight_M]).cpu().double()


def curve_row(step: int, objective, split: str, sums: torch.Tensor, rate: float, speed: float, memory: float) -> dict:
    """One row of the metrics; NaN where a modality has no scored entry."""
    (loss_rna, loss_atac), (floor_rna, floor_atac) = (sums[:2] / sums[2]).tolist()
    return {
        "step": step,
        "stage": objective.title,
        "hidden": int(objective.hides),
        "split": split,
        "loss_rna": loss_rna,
        "floor_rna": floor_rna,
        "loss_atac": loss_atac,
        "floor_atac": floor_atac,
        "learning_rate": rate,
        "cells_per_second": round(speed, 2),
        "memory_gb": round(memory, 3),
    }
