"""Sequence encoders behind one interface: our own network, a DNA model of Hugging Face, or an exported one."""

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from regulonformer.errors import InputError
from regulonformer.io.store import read_json, write_json
from regulonformer.sequence.network import SequenceNet, gc_content
from regulonformer.sequence.onehot import one_hot

CONFIG, WEIGHTS = "config.json", "model.safetensors"
KIND, EXPORTED = "regulonformer-sequence", "one-hot"
PROGRAM = "model.pt2"
BATCH, BATCH_BASES = 128, 2**17
# Bases that a tokeniser writes; what is none of them becomes N.
_OTHERS = bytes(sorted(set(range(256)) - set(b"ACGTNacgtn")))
_TO_TEXT = bytes.maketrans(_OTHERS + b"acgtn", b"N" * len(_OTHERS) + b"ACGTN")
_COMPLEMENT = str.maketrans("ACGTN", "TGCAN")


class SequenceEncoder(Protocol):
    """What every encoder can be asked.

    Attributes
    ----------
    window
        Positions that it reads at once, in bp.
    width
        Length W of a vector.
    """

    window: int
    width: int

    def encode(self, sequences: list[bytes]) -> np.ndarray:
        """Vectors of sequences, X x W (float32), the same for both strands."""


class EmbeddedEncoder:
    """The network that the workflow trains on its own peaks.

    A vector is the occupancy of every filter, in proportion to what the filter says of accessibility, then the
    predicted log accessibility in every cell group, less a constant.

    Parameters
    ----------
    net
        Trained network.
    window
        Positions it was trained on.
    groups
        Names of the cell groups.
    about
        Further entries of `config.json`.
    """

    def __init__(self, net: SequenceNet, window: int, groups: list[str], about: dict | None = None) -> None:
        self.net, self.window, self.groups, self.about = net.eval(), window, list(groups), about or {}
        self.n_filters = net.filters.out_channels
        self.width = self.n_filters + len(self.groups)

    @torch.no_grad()
    def encode(self, sequences: list[bytes]) -> np.ndarray:
        """Vectors of sequences, X x (F + G)."""
        parts = [np.zeros((0, self.width), np.float32)]
        for start in range(0, len(sequences), BATCH):
            onehot_X4L = one_hot(sequences[start : start + BATCH], self.window)
            occupancy_XF = self.net.occupancy(self.net.scan(onehot_X4L))
            opened_XG = self.net.of_occupancy(occupancy_XF, gc_content(onehot_X4L)) - self.net.line.bias
            # Of an unknown motif, or one that accessibility does not follow, nothing should reach the genes.
            parts.append(torch.cat([occupancy_XF * self.net.reach(), opened_XG], dim=1).numpy())
        return np.concatenate(parts)

    def accessibility(self, vectors: np.ndarray) -> np.ndarray:
        """Predicted log accessibility in each cell group, the part of vectors that says so; ... x G."""
        return vectors[..., self.n_filters :]

    def save(self, folder) -> None:
        """Write config.json and model.safetensors."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        sizes = {
            "n_filters": self.n_filters,
            "filter_width": self.net.filters.kernel_size[0],
            "hidden": self.net.fc1.out_features,
        }
        config = self.about | {"kind": KIND, "window": self.window, "groups": self.groups, "sizes": sizes}
        write_json(folder / CONFIG, config)
        save_file({name: value.contiguous() for name, value in self.net.state_dict().items()}, folder / WEIGHTS)

    @classmethod
    def load(cls, folder) -> "EmbeddedEncoder":
        """Load what `save` wrote; every weight has to be there."""
        config = read_json(Path(folder) / CONFIG)
        sizes = config["sizes"]
        net = SequenceNet(sizes["n_filters"], sizes["filter_width"], len(config["groups"]), sizes["hidden"])
        net.load_state_dict(load_file(Path(folder) / WEIGHTS))
        own = ("kind", "window", "groups", "sizes")
        about = {key: value for key, value in config.items() if key not in own}
        return cls(net, config["window"], config["groups"], about)


class HuggingFaceEncoder:
    """A DNA model in the format of `transformers`, from a local folder: nothing is fetched, no foreign code is run.

    A vector is the mean of the last hidden states over the tokens of a sequence, mean of both strands. Any model that
    `AutoModel` knows will do, with its tokeniser beside it (Nucleotide Transformer and DNABERT-2 in their ESM and BERT
    forms). Weights are read as float32.

    Parameters
    ----------
    folder
        Model folder.
    window
        Positions to read.

    Raises
    ------
    InputError
        If `transformers` does not know the kind of model, or would have to run code from the folder.
    """

    def __init__(self, folder, window: int) -> None:
        from transformers import AutoModel, AutoTokenizer

        self.window = window
        offline = {"local_files_only": True, "trust_remote_code": False}
        try:
            self.model = AutoModel.from_pretrained(folder, dtype=torch.float32, **offline).eval()
            self.tokenizer = AutoTokenizer.from_pretrained(folder, **offline)
            self.width = self._hidden(["ACGT" * 4]).shape[1]
        # transformers raises many kinds, some of them from its dependencies.
        except (OSError, ValueError, KeyError, ImportError, RuntimeError, TypeError) as error:
            reason = str(error).strip().splitlines()[0]
            fix = "Give a folder that transformers.AutoModel loads without remote code, or leave sequence/encoder empty"
            raise InputError(folder, f"no DNA model that transformers knows ({reason})", fix) from error

    @torch.no_grad()
    def encode(self, sequences: list[bytes]) -> np.ndarray:
        """Vectors of sequences, X x W; an empty sequence gives zeros."""
        vectors_XW = np.zeros((len(sequences), self.width), np.float32)
        texts = [_text(sequence, self.window) for sequence in sequences]
        known = [row for row, text in enumerate(texts) if text.strip("N")]
        at_once = min(BATCH, max(1, BATCH_BASES // self.window))
        for start in range(0, len(known), at_once):
            rows = known[start : start + at_once]
            forward = [texts[row] for row in rows]
            backward = [text.translate(_COMPLEMENT)[::-1] for text in forward]
            vectors_XW[rows] = ((self._hidden(forward) + self._hidden(backward)) / 2).numpy()
        return vectors_XW

    @torch.no_grad()
    def _hidden(self, texts: list[str]) -> Tensor:
        """Pooled hidden states of one strand, X x W."""
        tokens = self.tokenizer(texts, return_tensors="pt", padding=True)
        tokens.pop("token_type_ids", None)
        states_XTW = self.model(**tokens)[0]
        seen_XT1 = tokens["attention_mask"][..., None].to(states_XTW.dtype)
        return (states_XTW * seen_XT1).sum(1) / seen_XT1.sum(1).clamp_min(1)


class ExportedEncoder:
    """A model of one-hot bases, such as a port of Enformer or Borzoi, exported with `torch.export`.

    Its folder has `model.pt2` and `config.json` with `{"kind": "one-hot", "window": 196608}`. The program takes one
    sequence, 1 x window x 4 (A, C, G, T; float32), and returns 1 x bins x features; a vector is the mean of the two
    bins in the middle and of both strands.

    Parameters
    ----------
    folder
        Model folder.

    Raises
    ------
    InputError
        If the program cannot be read, or takes or returns something else.
    """

    def __init__(self, folder) -> None:
        config = Path(folder) / CONFIG
        self.window = read_json(config).get("window")
        if not isinstance(self.window, int) or self.window < 1:
            raise InputError(config, f"window is {self.window!r}", "Write the length in bp that the model takes")
        try:
            self.model = torch.export.load(Path(folder) / PROGRAM).module()
            self.width = self._read(b"A" * self.window).shape[0]
        # torch raises many kinds for damaged files and for inputs of other shapes.
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            fix = f"Export a model that takes 1 x {self.window} x 4 and returns 1 x bins x features"
            raise InputError(Path(folder) / PROGRAM, f"no exported model of one-hot bases ({reason})", fix) from error

    @torch.no_grad()
    def encode(self, sequences: list[bytes]) -> np.ndarray:
        """Vectors of sequences, X x W; a sequence without bases gives zeros."""
        vectors_XW = np.zeros((len(sequences), self.width), np.float32)
        for row, sequence in enumerate(sequences):
            if _text(sequence, self.window).strip("N"):
                vectors_XW[row] = self._read(sequence).numpy()
        return vectors_XW

    @torch.no_grad()
    def _read(self, sequence: bytes) -> Tensor:
        onehot_1L4 = one_hot([sequence], self.window).transpose(1, 2).float()
        strands = [self.model(strand)[0] for strand in (onehot_1L4, onehot_1L4.flip(1, 2))]
        states_BW = torch.stack([strands[0], strands[1].flip(0)]).mean(0)
        middle = len(states_BW) // 2
        return states_BW[max(0, middle - 1) : middle + 1].mean(0)


def load_encoder(folder, window: int | None = None) -> SequenceEncoder:
    """Load an encoder of either kind from a folder.

    Parameters
    ----------
    folder
        Folder that `train_sequence_encoder` wrote, a model folder of `transformers`, or one of an exported model.
    window
        Positions to read; needed for `transformers` alone.

    Raises
    ------
    InputError
        If there is no such folder, or it is of unknown kind.
    """
    config = Path(folder) / CONFIG
    fix = "Name a model folder of transformers, or leave sequence/encoder empty to train a network on your own peaks"
    if not config.is_file():
        raise InputError(folder, f"no sequence encoder: there is no {CONFIG}", fix)
    try:
        content = read_json(config)
    except ValueError as error:
        raise InputError(config, f"no JSON ({error})", fix) from error
    if content.get("kind") == KIND:
        return EmbeddedEncoder.load(folder)
    if content.get("kind") == EXPORTED:
        return ExportedEncoder(folder)
    if "model_type" not in content:
        raise InputError(config, "a model of unknown kind: neither `kind` nor `model_type` is in it", fix)
    return HuggingFaceEncoder(folder, window)


def _text(sequence: bytes, window: int) -> str:
    """Bases in upper case, the middle of a sequence that is longer than the window."""
    cut = max(0, len(sequence) - window) // 2
    return sequence[cut : cut + window].translate(_TO_TEXT).decode()
