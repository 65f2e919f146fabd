"""The card of a model: a README.md in its folder that says what it is, what it saw, and what it is good for."""

from pathlib import Path

import pandas as pd

from regulonformer.corpus.vocabulary import read_vocabulary
from regulonformer.io.curves import of_hidden_entries
from regulonformer.io.store import read_json
from regulonformer.model.config import LAYER_KINDS, LOSSES
from regulonformer.pretrained import CONFIG, VOCABULARY

CARD = "README.md"
MODALITIES = {"rna": "RNA", "atac": "accessibility"}
TEMPLATE = """\
---
library_name: regulonformer
license: other
license_name: that-of-the-training-data
tags: [biology, single-cell, multiome, gene-regulation, masked-modelling]
---

# Regulonformer, recipe `{recipe}`

A transformer over the genes of a cell, with RNA and accessibility of each. Genes do not attend to each other but to a
small set of slots:

{slot_kinds}

It was pretrained by filling in hidden values; no labels were used.

## Use

```python
import regulonformer

model = regulonformer.load("path/to/this/folder")
cells = model.embed(mudata)  # raw counts, modalities `rna` and `atac`; gives an AnnData, cells x {width}
```

`model.cut_panel(symbols)` is the model of a panel of genes, and `model.save(folder)` writes it.

## What it is

| | |
|---|---|
| parameters | {n_parameters:,} |
| genes | {n_genes:,}, of which {n_tfs:,} transcription factors |
| regulons | {n_regulons:,} |
| layers | {layers}; width {width}, {heads} heads, {slots} slots per free layer |
| linear path from the input to the cell embedding | {linear_path} |

Genes are listed in `vocabulary.tsv`, the stretches of the genome behind their accessibility in `elements.parquet`.
Weights are in `model.safetensors`; `run.json` has every setting, checksums of the inputs and versions of packages.

## Data

{data}

## Numbers

{scored} Loss: {measure}.
The floor predicts the mean profile of the training cells, gene by gene; the gain is 1 - loss / floor.

{losses}

Training took {steps_taken:,} steps of {batch_cells} cells, {wall_minutes:.1f} minutes and at most {peak_memory_gb} GB
of memory{speed}; the seed was {seed}.

## Intended use

Embedding cells of the same species and tissues, and as a start for fine-tuning (`finetune_task`). Where there
are regulon layers, attention over regulons says where the model looks.

## Limits

- It knows the cells named above. Other tissues, species, protocols or depths were not tested.
- Attention and gene vectors do not prove regulation. Nothing here is fit for decisions about patients.
- Accessibility is per gene: peaks of other data are assigned by place, so the genome assembly has to be the same.
- The embedding was trained on these libraries, without any correction for differences between them.

## Licence

The code is BSD-3-Clause. Weights are made from data: who shares them has to respect what binds those data.
"""


def write_card(folder) -> None:
    """Write the card of a model folder, from what else is in it.

    Parameters
    ----------
    folder
        Folder with config.json, vocabulary.tsv, run.json (with n_parameters, trained_on, held_out, n_train_cells,
        n_validation_cells) and metrics.tsv.
    """
    folder = Path(folder)
    config, run = read_json(folder / CONFIG), read_json(folder / "run.json")
    vocabulary, metrics = read_vocabulary(folder / VOCABULARY), pd.read_csv(folder / "metrics.tsv", sep="\t")
    split, row = kept_row(metrics, run["config"]["patience"])
    shape = config["model"]
    layers, linear_path = ", ".join(shape["layers"]), "yes" if shape["linear_path"] else "no"
    facts = shape | run["config"] | run | {"layers": layers, "linear_path": linear_path}
    text = TEMPLATE.format(
        **facts,
        wall_minutes=run["wall_seconds"] / 60,
        speed=f" ({speed} cells/s)" if (speed := run["cells_per_second"]) else "",
        slot_kinds="\n".join(f"- {kind} layers have {LAYER_KINDS[kind]}" for kind in dict.fromkeys(shape["layers"])),
        n_genes=len(vocabulary),
        n_tfs=int(vocabulary["is_tf"].sum()),
        n_regulons=len(config["regulons"]),
        data=_data(run),
        scored="On the cells held out." if split == "validation" else "On the training cells: none were held out.",
        measure=LOSSES[shape["predicts"]],
        losses=_losses(row),
    )
    (folder / CARD).write_text(text)


def kept_row(metrics: pd.DataFrame, patience: int | None) -> tuple[str, pd.Series]:
    """Split and row of the curves that belong to the weights kept: the last row, or with patience the best.

    Of a recipe in stages, those of the last one that predicts hidden entries.
    """
    metrics = of_hidden_entries(metrics)
    split = "validation" if (metrics["split"] == "validation").any() else "train"
    rows = metrics[metrics["split"] == split]
    if patience is None or split == "train":
        return split, rows.iloc[-1]
    # As in training: a loss that is not a number is no best one, and if none is better than nothing the last is kept.
    losses = rows[[f"loss_{key}" for key in _scored(rows.iloc[-1])]].sum(axis=1, skipna=False)
    return split, rows.loc[losses.idxmin()] if losses.notna().any() else rows.iloc[-1]


def _data(run: dict) -> str:
    """Where the cells are from."""
    held = set(run["held_out"])
    lines = [f"- Trained on {run['n_train_cells']:,} cells of the libraries {', '.join(run['trained_on'])}."]
    if held & set(run["trained_on"]):
        lines.append(f"- Held out: {run['n_validation_cells']:,} cells of the same libraries.")
    elif held:
        lines.append(f"- Held out: {run['n_validation_cells']:,} cells of {', '.join(run['held_out'])}.")
    return "\n".join(lines)


def _scored(row: pd.Series) -> list[str]:
    """Modalities with entries to score; one that no cell has is without a floor."""
    return [key for key in MODALITIES if pd.notna(row[f"floor_{key}"])]


def _losses(row: pd.Series) -> str:
    """Table of losses and floors."""
    lines = ["| modality | loss | floor | gain |", "|---|---|---|---|"]
    for key in _scored(row):
        loss, floor = row[f"loss_{key}"], row[f"floor_{key}"]
        lines.append(f"| {MODALITIES[key]} | {loss:.4f} | {floor:.4f} | {1 - loss / floor:.2%} |")
    return "\n".join(lines)
