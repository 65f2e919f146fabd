"""Cost of a pretraining step and of embedding, against scDynOmics's released package, on the same batch.

    python benchmarks/model.py [--json FILE] [--curves] [--quick]

One batch is drawn: 8 cells of 20,000 genes, 2,500 of them with RNA and 3,500 accessible, 437 both. On it both
sides pretrain (hide 15 % of the active genes in both modalities, Huber loss, gradient, AdamW) and embed, with width 64,
4 heads, 4 layers that read TFs and all genes in turn, 256 slots and a feed-forward width of 256. Each figure is from a
fresh process on the same two CPUs; `make peer-model` sets up the peer. Ours runs as `pretrain/precision: auto` would
have it (bfloat16 where the CPU multiplies it), and in float32, and with the layers and the objective of the default
recipe; the peer as it is released (float32), and under autocast to bfloat16. To embed, ours updates no gene in the last
layer.

`--curves` measures ours at other numbers of genes, non-zeros, slots and cells.
"""

import argparse
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "workflow/scripts"))

THREADS = 2
# Genes of a cell with RNA, with accessibility, and with both: as many as 20,000 genes give by chance.
NONZEROS, BOTH = (2500, 3500), 437
TFS, GENES_PER_REGULON = 1500, 60
SIZES = {"genes": 20_000, "cells": 8, "slots": 256, "nonzeros": 1.0}
# Half of the non-zeros for the curve over genes, which 5,000 genes have room for.
CURVES = {
    "genes": [5_000, 10_000, 20_000, 40_000],
    "nonzeros": [0.25, 0.5, 1.0, 2.0],
    "slots": [64, 128, 256, 512],
    "cells": [4, 8, 16, 32],
}


def draw_values(genes: int, cells: int, nonzeros: float = 1.0, **_) -> np.ndarray:
    """Values of a batch, cells x 2 x genes; zero where a gene is silent."""
    rng = np.random.default_rng(0)
    values = np.zeros((cells, 2, genes), np.float32)
    n_rna, n_atac, n_both = (round(n * nonzeros) for n in (*NONZEROS, BOTH))
    for rna, atac in values:
        order = rng.permutation(genes)
        for modality, chosen in ((rna, order[:n_rna]), (atac, order[n_rna - n_both :][:n_atac])):
            modality[chosen] = 1 + 5 * rng.random(len(chosen))
    return values


def cell_batch(values: np.ndarray):
    """The same cells as the model reads them."""
    import torch

    from regulonformer.model.batch import CellBatch

    values = torch.tensor(values)
    active = (values > 0).any(1)
    genes = active.byte().argsort(dim=1, descending=True, stable=True)[:, : int(active.sum(1).max())]
    pad = ~active.gather(1, genes)
    rna, atac = (values[:, m].gather(1, genes) for m in (0, 1))
    observed = torch.zeros_like(genes)
    counts = [part.round() for part in (rna, atac)]
    library = torch.stack([part.sum(1) for part in counts], dim=1)
    return CellBatch(genes.masked_fill(pad, 0), rna, atac, observed, observed, pad, *counts, library)


def make_model(genes: int, slots: int, recipe: str, **_):
    """An untrained model of a recipe in the sizes of the benchmark, and its objective."""
    import torch

    from regulonformer.config.schema import read_yaml
    from regulonformer.model.batch import RegulonEdges
    from regulonformer.model.config import ModelConfig
    from regulonformer.model.encoder import Regulonformer
    from regulonformer.objectives import make_objective

    torch.manual_seed(0)
    settings = read_yaml(ROOT / f"config/recipes/{recipe}.yaml")
    objective = make_objective(settings["objective"], genes)
    layers = {"scdynomics": ["tf", "explorer"] * 2, "regulon": ["regulon", "explorer"] * 2}[recipe]
    sizes = {"width": 64, "heads": 4, "layers": layers, "slots": slots, "feed_forward": 4, "dropout": 0.0}
    config = ModelConfig.from_dict(settings["model"] | sizes | {"predicts": objective.predicts})
    members = torch.stack([torch.randperm(genes)[:GENES_PER_REGULON] for _ in range(slots)])
    slot_E = torch.arange(slots).repeat_interleave(GENES_PER_REGULON)
    regulons = RegulonEdges(slot_E, members.flatten(), torch.rand(len(slot_E)) + 0.1, torch.arange(slots))
    log_mean = torch.full((genes, 2), -float(np.log(genes)))
    return Regulonformer(config, genes, regulons, log_mean, n_tfs=TFS), objective


def measure(task: str, precision: str, repetitions: int, sizes: dict) -> dict:
    """Time a task of ours in this process; `seconds` of each repetition, `peak_gb` and `parameters`."""
    import torch

    from regulonformer.model.allocator import keep_freed_memory
    from regulonformer.model.precision import uses_bf16
    from regulonformer.training.step import decayed_groups

    torch.set_num_threads(THREADS)
    keep_freed_memory()  # as training and embedding do
    model, objective = make_model(**sizes)
    batch, generator = cell_batch(draw_values(**sizes)), torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(decayed_groups(model, 0.01), lr=1e-4, fused=True)
    bf16 = uses_bf16(precision, gpu=False)
    seconds = []
    for _ in range(1 + repetitions):
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16), torch.set_grad_enabled(task == "train"):
            if task == "train":
                loss = objective(model.train(), batch, generator).loss
            else:
                model.eval()(batch, read_BT=batch.genes_BT[:, :0])
        if task == "train":
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
        seconds.append(time.perf_counter() - started)
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
    # The first repetition warms up.
    return {
        "seconds": seconds[1:],
        "peak_gb": peak / 1e6,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def measured(task: str, precision: str, repetitions: int, sizes: dict) -> dict:
    """Time a task of ours in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, task, precision, repetitions, sizes).result()


def measured_peer(task: str, precision: str, python: Path, repetitions: int, sizes: dict) -> dict:
    """Time a task of the peer."""
    with tempfile.TemporaryDirectory() as folder:
        batch, output = Path(folder) / "batch.npz", Path(folder) / "result.json"
        np.savez(batch, values=draw_values(**sizes))
        script = Path(__file__).parent / "peer_scdynomics.py"
        command = [python, script, task, batch, output, "--slots", sizes["slots"], "--repetitions", repetitions]
        subprocess.run([str(part) for part in [*command, "--threads", THREADS, "--precision", precision]], check=True)
        return json.loads(output.read_text())


def compare(python: Path, repetitions: int, sizes: dict) -> pd.DataFrame:
    """Who -> cells per second of both tasks, peak memory of both, and parameters."""
    peers = {"scdynomics": "float32", "scdynomics bf16": "bf16"}
    ours = {
        "regulonformer": ("scdynomics", "auto"),
        "regulonformer float32": ("scdynomics", "float32"),
        "regulonformer default recipe": ("regulon", "auto"),
    }
    rows = {}
    for name in [*peers, *ours]:
        row = {}
        for task in ("train", "embed"):
            if name in ours:
                recipe, precision = ours[name]
                result = measured(task, precision, 4 * repetitions, sizes | {"recipe": recipe})
            else:
                result = measured_peer(task, peers[name], python, repetitions, sizes)
            row[f"{task}_cells_per_second"] = sizes["cells"] / np.mean(result["seconds"])
            row[f"{task}_peak_gb"] = result["peak_gb"]
            row["parameters"] = result["parameters"]
        rows[name] = row
    return pd.DataFrame(rows).T


def curves(repetitions: int) -> pd.DataFrame:
    """Seconds per step and peak memory of the default recipe at other sizes, one changed at a time."""
    rows = []
    for name, values in CURVES.items():
        for value in values:
            sizes = SIZES | {"nonzeros": 0.5 if name == "genes" else 1.0, name: value, "recipe": "regulon"}
            result = measured("train", "auto", repetitions, sizes)
            rows.append({"size": name, "value": value, "seconds": np.mean(result["seconds"])})
            rows[-1]["peak_gb"] = result["peak_gb"]
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", action="store_true", help="also the cost at other sizes")
    parser.add_argument("--repetitions", type=int, default=3)
    python = ROOT / ".venv-peer-model/bin/python"
    parser.add_argument("--peer", type=Path, default=python, help="Python that has scdynomics")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--quick", action="store_true", help="4,000 genes, 64 slots, one repetition")
    options = parser.parse_args()
    if not options.peer.exists():
        parser.error(f"no {options.peer}: run `make peer-model`, or give --peer")
    sizes = SIZES
    if options.quick:
        options.repetitions, sizes = 1, SIZES | {"genes": 4000, "slots": 64, "nonzeros": 0.2}
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    table = compare(options.peer, options.repetitions, sizes)
    print(table.to_string(float_format="{:,.2f}".format))
    result = {}
    for suffix, ours, peer in (
        ("", "regulonformer", "scdynomics"),
        ("_float32", "regulonformer float32", "scdynomics"),
        ("_peer_bf16", "regulonformer", "scdynomics bf16"),
    ):
        ratio = table.loc[ours] / table.loc[peer]
        result[f"train_ratio{suffix}"] = ratio["train_cells_per_second"]
        result[f"embed_ratio{suffix}"] = ratio["embed_cells_per_second"]
        result[f"memory_ratio{suffix}"] = ratio["train_peak_gb"]
    for name in table.index:
        for column in table.columns:
            result[f"{column}_{name}".replace(" ", "_")] = table.at[name, column]
    if options.curves:
        cost = curves(options.repetitions)
        print(cost.to_string(index=False, float_format="{:,.3f}".format))
        seconds = cost[cost["size"] == "genes"]["seconds"]
        result["genes_slowest_to_fastest"] = seconds.max() / seconds.min()
        result |= {f"step_seconds_{row.size}_{row.value:g}": row.seconds for row in cost.itertuples(name="Row")}
    for key, value in result.items():
        print(f"{key}: {value:,.3f}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
