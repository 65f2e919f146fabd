"""Checkpoints that a killed run goes on from."""

import os
import shutil
import time
from pathlib import Path

import torch


class Checkpoint:
    """The state of a run that is under way, in a folder of its own.

    Parameters
    ----------
    folder
        Folder of this run; it should name what is trained on what (see `pretrain_model`), for a state found in it is
        taken up.
    started
        `time.time()` at the start of the work; now, if it is not given.

    Attributes
    ----------
    wall_seconds
        Time that killed processes took until the state that is taken up.
    """

    def __init__(self, folder, started: float | None = None) -> None:
        self.folder = Path(folder)
        self.file = self.folder / "state.pt"
        self.started, self.wall_seconds = started or time.time(), 0.0

    def save(self, state: dict) -> None:
        """Write a state so that a kill at any time leaves the old one or the new one, never half of it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.file.with_suffix(".partial")
        with open(partial, "wb") as handle:
            torch.save({"wall_seconds": self.wall_seconds + time.time() - self.started, "state": state}, handle)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(partial, self.file)

    def load(self) -> dict | None:
        """Return the last state, or None if there is none."""
        if not self.file.exists():
            return None
        saved = torch.load(self.file, map_location="cpu", weights_only=True)
        self.wall_seconds = saved["wall_seconds"]
        return saved["state"]

    def remove(self) -> None:
        """Delete the folder, at the end of the run."""
        shutil.rmtree(self.folder, ignore_errors=True)
