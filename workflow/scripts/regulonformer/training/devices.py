"""Where a run computes, with which precision, and what memory it takes."""

import resource
import sys

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState


def make_accelerator(precision: str, gpu: bool) -> Accelerator:
    """Device, precision and processes of this run.

    Parameters
    ----------
    precision
        `float32`, `bf16` (matrix products in bfloat16, weights in float32), or `auto` (bf16 where the hardware has it).
    gpu
        Use the GPU of this process (CUDA, or MPS); otherwise the CPU.
    """
    bf16 = precision == "bf16" or (precision == "auto" and has_bf16(gpu))
    # accelerate keeps one state per interpreter, and refuses another precision in a second run.
    AcceleratorState._reset_state(reset_partial_state=True)
    # An objective need not use every head, and a process may have no cell of a small batch.
    processes = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(cpu=not gpu, mixed_precision="bf16" if bf16 else "no", kwargs_handlers=[processes])


def has_bf16(gpu: bool) -> bool:
    """Whether the hardware multiplies bfloat16 matrices itself: a GPU, or a CPU with AMX or AVX512-BF16."""
    if gpu:
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    features = torch.cpu.get_capabilities()
    return bool(features.get("amx_bf16") or features.get("avx512_bf16"))


def peak_memory_gb(device: torch.device) -> float:
    """Largest memory this process has had on its GPU, or else its largest resident set, in GB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
