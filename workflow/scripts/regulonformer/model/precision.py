"""Precision of matrix products: float32, or bfloat16 where the hardware multiplies it."""

import torch


def has_bf16(gpu: bool) -> bool:
    """Whether the hardware multiplies bfloat16 matrices itself: a GPU, or a CPU with AMX or AVX512-BF16."""
    if gpu:
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    features = torch.cpu.get_capabilities()
    return bool(features.get("amx_bf16") or features.get("avx512_bf16"))


def uses_bf16(precision: str, gpu: bool) -> bool:
    """Whether a precision means bfloat16 here; `auto` takes it where the hardware has it."""
    return precision == "bf16" or (precision == "auto" and has_bf16(gpu))
