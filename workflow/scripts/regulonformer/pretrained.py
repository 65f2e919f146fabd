"""Models on disk (safetensors and JSON), as they are loaded in a notebook as in a rule."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file, save_file

from regulonformer.corpus.vocabulary import read_vocabulary
from regulonformer.errors import InputError
from regulonformer.io.store import file_hash, read_json, read_parquet, write_json, write_parquet, write_tsv
from regulonformer.model.batch import RegulonEdges
from regulonformer.model.config import ModelConfig
from regulonformer.model.dynamic import take_dynamic_table
from regulonformer.model.encoder import Regulonformer

CONFIG, WEIGHTS, VOCABULARY, ELEMENTS = "config.json", "model.safetensors", "vocabulary.tsv", "elements.parquet"


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
        SHA-256 of the weights; None for a model that is in no file.
    elements
        Stretches of the genome whose counts make up a gene's accessibility: chrom, start, end, symbol. None if the
        model was saved without them.
    """

    model: Regulonformer
    vocabulary: pd.DataFrame
    config: dict
    hash: str | None
    elements: pd.DataFrame | None = None

    def embed(self, data, **options):
        """Embed the cells of a MuData, or of an AnnData of RNA; see `regulonformer.embed.embed`."""
        # Looked up by name, so that a rule which only loads models does not depend on that code.
        return import_module("regulonformer.embed").embed(self, data, **options)

    def cut_panel(self, symbols) -> "Pretrained":
        """Return the model of some genes alone; see `regulonformer.panel.cut_panel`."""
        return import_module("regulonformer.panel").cut_panel(self, symbols)

    def save(self, folder) -> None:
        """Write a model folder that `regulonformer.load` reads."""
        save_model(folder, self.model, self.vocabulary, self.config, self.elements)


def save_model(
    folder, model: Regulonformer, vocabulary: pd.DataFrame, config: dict, elements: pd.DataFrame | None = None
) -> None:
    """Write config.json, model.safetensors, vocabulary.tsv and, if given, elements.parquet.

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
    elements
        Stretches of the genome behind each gene's accessibility: chrom, start, end, symbol.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CONFIG, config | {"model": model.config.to_dict(), "n_genes": model.n_genes})
    write_tsv(vocabulary, folder / VOCABULARY)
    if elements is not None:
        write_parquet(elements, folder / ELEMENTS)
    save_file({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}, folder / WEIGHTS)


def load_model(folder) -> Pretrained:
    """Load a model folder and check that its indices mean the genes they meant in training.

    Raises
    ------
    InputError
        If the vocabulary has another size or number of TFs, or a slot's TF is not the gene it was.
    """
    folder = Path(folder)
    config, vocabulary = read_json(folder / CONFIG), read_vocabulary(folder / VOCABULARY)
    state = load_file(folder / WEIGHTS)
    if len(vocabulary) != config["n_genes"]:
        problem = f"{len(vocabulary)} genes, but the model was trained on {config['n_genes']}"
        raise InputError(folder / VOCABULARY, problem, "Use the vocabulary that came with the model")
    if state["n_tfs"] not in (0, vocabulary["is_tf"].sum()):
        problem = f"{vocabulary['is_tf'].sum()} TFs, but the model was trained with {state['n_tfs']}"
        raise InputError(folder / VOCABULARY, problem, "Use the vocabulary that came with the model")
    check_regulons(config["regulons"], state["tf_S"].tolist(), vocabulary, folder / VOCABULARY)
    elements = read_parquet(folder / ELEMENTS) if (folder / ELEMENTS).exists() else None
    return Pretrained(model_of_state(config["model"], state), vocabulary, config, file_hash(folder / WEIGHTS), elements)


def model_of_state(sizes: dict, state: dict) -> Regulonformer:
    """Build a model, in evaluation mode, of its sizes and its weights; every weight has to be there."""
    log_mean_N2 = state["heads.gene_log_mean"]
    config, n_tfs = ModelConfig.from_dict(sizes), int(state["n_tfs"])
    model = Regulonformer(config, len(log_mean_N2), _stored_edges(state), log_mean_N2, n_tfs=n_tfs)
    take_dynamic_table(model, state)
    model.load_state_dict(state)
    return model.eval()


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
