"""Models on disk (safetensors and JSON), and the checkpoints a killed run goes on from."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file, save_file

from regulonformer.corpus.vocabulary import read_vocabulary
from regulonformer.errors import InputError
from regulonformer.io.store import file_hash, read_json, write_json, write_tsv
from regulonformer.model.batch import RegulonEdges
from regulonformer.model.config import ModelConfig
from regulonformer.model.encoder import Regulonformer

CONFIG, WEIGHTS, VOCABULARY = "config.json", "model.safetensors", "vocabulary.tsv"


@dataclass
class Pretrained:
    """A model as it was pretrained.

    Attributes
    ----------
    model
        The encoder with its heads, in evaluation mode, on the CPU.
    vocabulary
        Its token list.
    config
        Content of `config.json`: `model` (sizes), `regulons` (TF of each slot), and what trained it.
    hash
        SHA-256 of the weights.
    """

    model: Regulonformer
    vocabulary: pd.DataFrame
    config: dict
    hash: str


def save_model(folder, model: Regulonformer, vocabulary: pd.DataFrame, config: dict) -> None:
    """Write config.json, model.safetensors and vocabulary.tsv.

    Parameters
    ----------
    folder
        Where to write; made if it is not there.
    model
        Model; regulon edges and mean profiles are buffers of it and go along.
    vocabulary
        Token list.
    config
        Entries of `config.json` beside the sizes; `regulons` names the TF of each slot.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CONFIG, config | {"model": model.config.to_dict(), "n_genes": model.n_genes})
    write_tsv(vocabulary, folder / VOCABULARY)
    save_file({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}, folder / WEIGHTS)


def load_model(folder) -> Pretrained:
    """Load a model folder and check that its indices mean the genes they meant in training.

    Raises
    ------
    InputError
        If the vocabulary has another size, or a slot's TF is not the gene it was.
    """
    folder = Path(folder)
    config, vocabulary = read_json(folder / CONFIG), read_vocabulary(folder / VOCABULARY)
    state = load_file(folder / WEIGHTS)
    if len(vocabulary) != config["n_genes"]:
        problem = f"{len(vocabulary)} genes, but the model was trained on {config['n_genes']}"
        raise InputError(folder / VOCABULARY, problem, "Use the vocabulary that came with the model")
    check_regulons(config["regulons"], state["tf_S"].tolist(), vocabulary, folder / VOCABULARY)
    model = Regulonformer(
        ModelConfig.from_dict(config["model"]), config["n_genes"], _stored_edges(state), state["heads.gene_log_mean"]
    )
    model.load_state_dict(state)
    return Pretrained(model.eval(), vocabulary, config, file_hash(folder / WEIGHTS))


def check_regulons(names: list[str], tf_tokens: list[int], vocabulary: pd.DataFrame, where) -> None:
    """Assert that each regulon slot points at the token of its TF, and that this token is a TF.

    Parameters
    ----------
    names
        TF symbol of each slot.
    tf_tokens
        Token of each slot's TF; -1 if it was not measured.
    vocabulary
        Token list.
    where
        File named in the message.

    Raises
    ------
    InputError
        At the first slot that does not.
    """
    symbols, is_tf = vocabulary["symbol"].to_numpy(), vocabulary["is_tf"].to_numpy()
    if len(names) != len(tf_tokens):
        raise InputError(where, f"{len(tf_tokens)} regulon slots have {len(names)} names", "Pretrain again")
    for name, token in zip(names, tf_tokens, strict=True):
        if token >= 0 and (symbols[token] != name or not is_tf[token]):
            problem = f"the slot of regulon {name} points at gene {symbols[token]}"
            raise InputError(where, problem, "Use the vocabulary that came with the model")


def _stored_edges(state: dict) -> RegulonEdges:
    """Regulon edges of saved weights; every regulon layer has the same ones."""
    empty = torch.zeros(0, dtype=torch.long)
    slot_E = next((value for name, value in state.items() if name.endswith("pooling.slot_E")), empty)
    gene_E = next((value for name, value in state.items() if name.endswith("pooling.gene_E")), empty)
    return RegulonEdges(slot_E, gene_E, torch.ones(len(slot_E)), state["tf_S"])


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
