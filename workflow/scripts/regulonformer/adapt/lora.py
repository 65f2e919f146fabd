"""Low-rank adapters on the encoder by peft (LoRA: Hu et al. 2021, 2106.09685)."""

import warnings
from copy import deepcopy
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from regulonformer.adapt.linear import LinearPath
from regulonformer.adapt.tasks import Classifier
from regulonformer.errors import InputError
from regulonformer.io.store import read_json, write_json

TRAINED_WHOLE = ("linear_path", "task_head")  # stored in the adapter folder beside the low-rank matrices
TASK_FILE, ENCODER_FILE = "task.json", "encoder.safetensors"


def add_lora(
    model: nn.Module, rank: int, alpha: float, dropout: float, targets: list[str], seed: int = 0, mode: str = "lora"
) -> PeftModel:
    """Freeze a classifier's encoder and add trainable W + (alpha / rank) B A to its linear layers.

    B starts at zero, so the adapted model starts as the base model. In the modes `frozen` and `full` it stays zero:
    the folder of every mode is a peft folder and loads in the same way.

    Parameters
    ----------
    model
        A `Classifier`; its `linear_path` (fixed) and `task_head` (trained) travel with the adapter.
    rank
        Rank of the update.
    alpha
        Scale of the update; alpha / rank multiplies it.
    dropout
        Dropout on the adapter's input.
    targets
        Names of the linear layers in the encoder's layers.
    seed
        Seed of A's first values.
    mode
        What trains beside the head: `lora`, the low-rank matrices; `frozen`, nothing; `full`, all weights of the
        encoder.

    Returns
    -------
    peft.PeftModel
    """
    pattern = rf"encoder\.layers\..*\.?({'|'.join(targets)})"
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        bias="none",
        target_modules=pattern,
        modules_to_save=list(TRAINED_WHOLE),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapted = get_peft_model(model, config)
    # Its penalty is what keeps the linear part from learning cells by heart: it stays as it was fitted.
    adapted.get_base_model().task_head.linear.requires_grad_(False)
    if mode != "lora":
        for name, parameter in adapted.get_base_model().encoder.named_parameters():
            parameter.requires_grad_(mode == "full" and "lora_" not in name)
    return adapted


def count_parameters(model: nn.Module) -> dict[str, int | float]:
    """Count parameters: all, trainable, those of the adapter alone, and their shares.

    Returns
    -------
    dict
        total, trainable, adapter, head (numbers of parameters); trainable_share, adapter_share (of total).
    """
    # peft keeps an untouched copy of the modules it saves whole; it is not part of the model.
    named = [(name, p) for name, p in model.named_parameters() if ".original_module." not in name]
    total = sum(p.numel() for _, p in named)
    trainable = sum(p.numel() for _, p in named if p.requires_grad)
    adapter = sum(p.numel() for name, p in named if p.requires_grad and "lora_" in name)
    return {
        "total": total,
        "trainable": trainable,
        "adapter": adapter,
        "head": trainable - adapter,
        "trainable_share": trainable / total,
        "adapter_share": adapter / total,
    }


def save_adapter(model: PeftModel, folder, task: dict) -> None:
    """Write a peft folder and `task.json`; after full fine-tuning also the encoder's weights (`encoder.safetensors`).

    Parameters
    ----------
    model
        Adapted classifier.
    folder
        Folder to write.
    task
        What the adapter is for; must hold `base_hash`, the hash of the base model, and `mode` if it is not `lora`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # peft looks for a Hugging Face model config, which ours has no need of.
        warnings.simplefilter("ignore")
        model.save_pretrained(str(folder), safe_serialization=True)
    (folder / "README.md").unlink(missing_ok=True)  # an empty model card template
    if task.get("mode") == "full":
        save_file(_encoder_state(model), folder / ENCODER_FILE)
    write_json(folder / TASK_FILE, task)


def read_task(folder, base_hash: str) -> dict:
    """Read an adapter's `task.json` and refuse an adapter of another base model.

    Parameters
    ----------
    folder
        Adapter folder.
    base_hash
        Hash of the base model at hand.

    Raises
    ------
    InputError
        If the adapter was trained on another base model.
    """
    task = read_json(Path(folder) / TASK_FILE)
    if task["base_hash"] != base_hash:
        raise InputError(
            folder,
            f"adapter of base model {task['base_hash'][:12]}, but the model given is {base_hash[:12]}",
            "Use the model that it was trained on, or fine-tune again",
        )
    return task


def load_classifier(encoder: nn.Module, folder, base_hash: str) -> tuple[PeftModel, dict]:
    """Put a saved adapter on its base model; ready to predict.

    Parameters
    ----------
    encoder
        The base model's encoder; left as it is.
    folder
        Adapter folder.
    base_hash
        Hash of the base model.

    Returns
    -------
    (peft.PeftModel, dict)
        The adapted classifier in evaluation mode, and its `task.json`.

    Raises
    ------
    InputError
        If the adapter was trained on another base model.
    """
    task = read_task(folder, base_hash)
    model = Classifier(*base_of(encoder, folder, task), len(task["classes"]), task["dropout"])
    return attach(model, folder), task


def base_of(encoder: nn.Module, folder, task: dict) -> tuple[nn.Module, LinearPath]:
    """Copy of the encoder that an adapter goes on, and a linear path of the adapter's shape."""
    about, encoder = task["linear_path"], deepcopy(encoder)
    if task.get("mode") == "full":
        encoder.load_state_dict(load_file(Path(folder) / ENCODER_FILE))
    return encoder, LinearPath(encoder.n_genes, about["components"], about.get("remembered", 0))


def attach(model: nn.Module, folder) -> PeftModel:
    """Put the adapter and head of a folder on a model of the same shape, in evaluation mode."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PeftModel.from_pretrained(model, str(folder)).eval()


def _encoder_state(model: PeftModel) -> dict[str, Tensor]:
    """Weights of an adapted encoder under the names that they have without peft."""
    state = model.get_base_model().encoder.state_dict()
    return {name.replace(".base_layer.", "."): value for name, value in state.items() if "lora_" not in name}
