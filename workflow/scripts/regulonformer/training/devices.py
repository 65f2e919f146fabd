"""Where a run computes, with which precision, and what memory it takes."""

import logging
import resource
import sys

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState

from regulonformer.model.precision import uses_bf16


def granted_device(gpu: int) -> str:
    """Kind of device to train on: that of the GPUs granted (`cuda`, `mps`), or `cpu` without any.

    Parameters
    ----------
    gpu
        Number of GPUs granted; a warning if there are some but torch finds none.
    """
    if gpu and torch.accelerator.is_available():
        return torch.accelerator.current_accelerator().type
    if gpu:
        logging.warning("%d GPU granted, but torch %s finds none: training on the CPU", gpu, torch.__version__)
    return "cpu"


def make_accelerator(precision: str, gpu: bool) -> Accelerator:
    """Device, precision and processes of this run.

    Parameters
    ----------
    precision
        `float32`, `bf16` (matrix products in bfloat16, weights in float32), or `auto` (bf16 where the hardware has it).
    gpu
        Use the GPU of this process (CUDA, or MPS); otherwise the CPU.
    """
    # accelerate keeps one state per interpreter, and refuses another precision in a second run.
    AcceleratorState._reset_state(reset_partial_state=True)
    # An objective need not use every head, and a process may have no cell of a small batch.
    processes = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(
        cpu=not gpu, mixed_precision="bf16" if uses_bf16(precision, gpu) else "no", kwargs_handlers=[processes]
    )


def peak_memory_gb(device: torch.device) -> float:
    """Largest memory this process has had on its GPU, or else its largest resident set, in GB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
