"""Checkpoints that a killed run goes on from."""

import os
import shutil
from pathlib import Path

import torch


class Checkpoint:
    """The state of a run that is under way, in a folder of its own.

    Parameters
    ----------
    folder
        Folder of this run; it should name what is trained on what (see `pretrain_model`), for a state found in it is
        taken up.
    """

    def __init__(self, folder) -> None:
        self.folder = Path(folder)
        self.file = self.folder / "state.pt"

    def save(self, state: dict) -> None:
        """Write a state so that a kill at any time leaves the old one or the new one, never half of it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.file.with_suffix(".partial")
        with open(partial, "wb") as handle:
            torch.save(state, handle)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(partial, self.file)

    def load(self) -> dict | None:
        """Return the last state, or None if there is none."""
        return torch.load(self.file, map_location="cpu", weights_only=True) if self.file.exists() else None

    def remove(self) -> None:
        """Delete the folder, at the end of the run."""
        shutil.rmtree(self.folder, ignore_errors=True)
