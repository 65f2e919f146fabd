"""The card of a model folder says what was measured."""

import numpy as np
import pandas as pd
from mouse_cells import N_GENES

import regulonformer
from regulonformer.io.store import read_tsv, write_json
from regulonformer.model_card import kept_row, write_card


def card_of(folder, world, rows, **changes):
    """The card of a model with these curves."""
    regulonformer.load(world / "model").save(folder)
    run = {"n_parameters": 12345, "trained_on": ["s1", "s2"], "held_out": ["s3"], "n_train_cells": 1200}
    run |= {"n_validation_cells": 300, "steps_taken": 40, "wall_seconds": 90.0, "peak_memory_gb": 1.5}
    run |= {"cells_per_second": 80.0, "seed": 7}
    run["config"] = {"recipe": "regulon", "patience": 2, "batch_cells": 32, "model": {}}
    write_json(folder / "run.json", run | changes)
    columns = ["step", "split", "loss_rna", "floor_rna", "loss_atac", "floor_atac"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "metrics.tsv", sep="\t", index=False)
    write_card(folder)
    return (folder / "README.md").read_text()


def test_the_card_tells_what_the_folder_holds(world, tmp_path):
    rows = [
        (20, "train", 1.0, 1.1, 2.0, 2.1),
        (20, "validation", 1.2, 1.6, 2.2, 2.5),
        (40, "train", 0.8, 1.1, 1.8, 2.1),
    ]
    rows.append((40, "validation", 1.5, 1.6, 2.4, 2.5))
    card = card_of(tmp_path, world, rows)
    assert card.startswith("---\nlibrary_name: regulonformer\n")
    assert "| parameters | 12,345 |" in card and f"| genes | {N_GENES}, of which 3 transcription factors |" in card
    assert "Trained on 1,200 cells of the libraries s1, s2." in card and "Held out: 300 cells of s3." in card
    # With patience the best weights were kept, not the last.
    assert "| RNA | 1.2000 | 1.6000 | 25.00% |" in card and "| accessibility | 2.2000 | 2.5000 | 12.00% |" in card
    assert "- regulon layers have one slot per regulon" in card and "nats per hidden count" in card
    assert "| linear path from the input to the cell embedding | yes |" in card
    assert "cells x 16" in card and max(map(len, card.splitlines())) <= 120
    assert "1.5 GB\nof memory (80.0 cells/s)" in card
    assert read_tsv(tmp_path / "metrics.tsv").shape[0] == 4


def test_the_card_is_silent_about_what_was_not_measured(world, tmp_path):
    nan = np.nan
    rows = [(20, "validation", 1.2, 1.6, nan, nan), (40, "validation", 1.4, 1.6, nan, nan)]
    rows.append((60, "validation", nan, 1.6, nan, nan))  # diverged, which is not the best
    card = card_of(tmp_path, world, rows, cells_per_second=None)
    assert "| RNA | 1.2000 | 1.6000 | 25.00% |" in card
    assert "| accessibility |" not in card and "nan" not in card and "None" not in card and "cells/s" not in card


def test_losses_are_those_of_the_last_stage_that_hides_entries():
    columns = ["step", "stage", "hidden", "split", "loss_rna", "floor_rna", "loss_atac", "floor_atac"]
    rows = [
        (10, "each modality alone", 1, "validation", 1.0, 1.5, 1.0, 1.5),
        (20, "fused pairs", 1, "validation", 1.3, 1.5, 1.2, 1.5),
        (30, "distillation", 0, "validation", 0.1, 0.2, 0.1, 0.2),
    ]
    split, row = kept_row(pd.DataFrame(rows, columns=columns), patience=2)
    assert (split, row["step"]) == ("validation", 20)
