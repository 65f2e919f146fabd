"""Time scDynOmics's released package (PyPI `scdynomics` 0.0.1) in the environment that `make peer-model` sets up.

    .venv-peer-model/bin/python benchmarks/peer_scdynomics.py {train,embed} BATCH.npz OUTPUT.json [--width 64 ...]

It stands alone: nothing of the product is imported. BATCH.npz holds `values` (cells x 2 x genes, zeros where a gene is
silent). `train` is a step of its masked pretraining (loss, gradient, AdamW), `embed` a forward pass of its encoder. The
output holds `seconds` of each repetition, `peak_gb` of the process and `parameters`.
"""

import argparse
import json
import re
import time
import warnings
from pathlib import Path

import numpy as np
import torch

warnings.filterwarnings("ignore")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["train", "embed"])
    parser.add_argument("batch", type=Path)
    parser.add_argument("output", type=Path)
    sizes = {"width": 64, "heads": 4, "layers": 4, "slots": 256, "feed_forward": 256, "tfs": 1500}
    for name, default in (sizes | {"repetitions": 3, "threads": 2}).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    from scdynomics.pt.reconstructor import Masked_Pretrainer

    values = torch.tensor(np.load(options.batch)["values"])
    genes = {f"gene{number}": number for number in range(values.shape[2])}
    tokens = {"common": {"<MASK>": 0, "<PAD>": 1}, "n_tf": {"hg38": options.tfs}, "hg38": genes}
    model = Masked_Pretrainer(
        attention="linformer",
        train_mode="float",
        species="hg38",
        token_dict=tokens,
        input_drop_prob=0.15,
        input_mod=2,
        embed_dim=options.width,
        projection_len=options.slots,
        num_heads=options.heads,
        dim_feedforward=options.feed_forward,
        num_layers=options.layers,
        switch_tf_proj_layer=[True, False],
        one_kv_head=True,
        share_kv=True,
        scheduler="cosine",
    )
    optimiser = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)

    def train() -> None:
        model.train()
        # The loss is a private method; its public caller wants Lightning's trainer around it.
        _, loss = model._Masked_Pretrainer__get_loss(values)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    binned = model.vbinnig(values)

    @torch.no_grad()
    def embed() -> None:
        model.eval()
        model(binned)

    job, seconds = {"train": train, "embed": embed}[options.task], []
    for _ in range(1 + options.repetitions):
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16"):
            job()
        seconds.append(time.perf_counter() - started)
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
    parameters = sum(parameter.numel() for parameter in model.parameters())
    # The first repetition warms up.
    result = {"seconds": seconds[1:], "peak_gb": peak / 1e6, "parameters": parameters}
    options.output.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
