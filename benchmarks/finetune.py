"""Trainable parameters, memory and time of a fine-tuning step in each mode, at real size.

    python benchmarks/finetune.py [--json FILE] [--repetitions N]

The batch and the model of `benchmarks/model.py`: 8 cells of 20,000 genes, width 64, 4 layers; a classifier of 25
classes with 150 linear features and 5,000 remembered cells, LoRA of rank 8. Each mode runs in a fresh process on two
CPUs. `state_mb` is what training keeps beside the weights (gradients and AdamW's moments), `peak_gb` the highest memory
of the process, activations included, and `step_gb` how far steps raise it above the loaded model.
"""

import argparse
import json
import multiprocessing
import re
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from model import SIZES, THREADS, cell_batch, draw_values, make_model

MODES = ("frozen", "lora", "full")
CLASSES, REMEMBERED = 25, 5000
COMPONENTS = {"rna": 50, "atac": 50, "recalled": 50}


def peak_gb() -> float:
    """Highest memory of this process so far."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1e6


def measure(mode: str, repetitions: int) -> dict[str, float]:
    """Train a classifier in this process."""
    import torch
    import torch.nn.functional as F

    from regulonformer.adapt.fit import FinetuneSettings
    from regulonformer.adapt.linear import LinearPath
    from regulonformer.adapt.lora import add_lora, count_parameters
    from regulonformer.adapt.tasks import Classifier

    torch.set_num_threads(THREADS)
    encoder, _ = make_model(**SIZES, recipe="regulon")
    path, settings = LinearPath(SIZES["genes"], COMPONENTS, REMEMBERED), FinetuneSettings()
    model = add_lora(
        Classifier(encoder, path, CLASSES), settings.rank, settings.alpha, 0.0, settings.targets, mode=mode
    )
    batch, target_B = cell_batch(draw_values(**SIZES)), torch.arange(SIZES["cells"]) % CLASSES
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser, seconds, loaded = torch.optim.AdamW(trained), [], peak_gb()
    for _ in range(1 + repetitions):
        started = time.perf_counter()
        F.cross_entropy(model.train()(batch), target_B).backward()
        optimiser.step()
        state = sum(p.grad.nbytes for p in trained if p.grad is not None)
        optimiser.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - started)
    state += sum(t.nbytes for kept in optimiser.state.values() for t in kept.values() if t.ndim)
    shares = {name: count_parameters(model)[name] for name in ("total", "adapter", "head", "trainable_share")}
    memory = {"state_mb": state / 1e6, "peak_gb": peak_gb(), "step_gb": peak_gb() - loaded}
    return {"seconds": float(np.mean(seconds[1:]))} | memory | shares  # the first repetition warms up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    result = {}
    for mode in MODES:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            figures = pool.submit(measure, mode, options.repetitions).result()
        result |= {f"{name}_{mode}": value for name, value in figures.items()}
    for name in ("state_mb", "peak_gb", "step_gb", "seconds"):
        result[f"{name}_lora_to_full"] = result[f"{name}_lora"] / result[f"{name}_full"]
    for key, value in result.items():
        print(f"{key}: {value:,.4g}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
