"""Methods text of the model and of what was done with it."""

from regulonformer.model.config import LAYER_KINDS
from regulonformer.report.evidence import Evidence
from regulonformer.report.words.method import Method, settings_of
from regulonformer.report.words.names import flatten, listed, number, plural

# What pretraining hid and predicted, and what its floor is, by what the heads predict.
EXPRESSED = "A share of the genes that a cell shows in any modality was hidden, in RNA and accessibility at once, and "
HIDDEN = {
    "counts": (
        "Part of the RNA and accessibility counts of each cell was hidden, one of a gene or both, of silent genes too, "
        "and the model was trained to predict them with a negative binomial likelihood. "
    ),
    "values": f"{EXPRESSED}the model was trained to predict their log-normalised values with a Huber loss. ",
    "bins": f"{EXPRESSED}the model was trained to predict the bins of their log-normalised values (cross-entropy). ",
}
FLOORS = {
    "counts": "each gene's mean over the training cells",
    "values": "each gene's mean value over the training cells that show it",
    "bins": "the share of each of a gene's bins over the training cells that show it",
}


def model_method(evidence: Evidence, config: dict) -> Method | None:
    """What the network is."""
    if evidence.pretrain_config is None:
        return None
    shape = evidence.pretrain_config["model"]
    layers = shape["layers"]
    counted = [plural(layers.count(kind), f"{kind} layer") for kind in dict.fromkeys(layers)]
    sentences = (
        "The model reads each gene of a cell as one token with its expression and its accessibility, transcription "
        "factors first. "
        f"It has {listed(counted)} of width {shape['width']} with {shape['heads']} heads; "
        "instead of every other gene, each gene attends to a small set of slots, as in Linformer: "
        + "; ".join(f"{kind} layers have {LAYER_KINDS[kind]}" for kind in dict.fromkeys(layers))
        + "."
    )
    if shape["linear_path"]:
        sentences += (
            " Principal components of the visible values of both modalities, fixed before training, pass through a "
            "learned linear layer and are added to the cell embedding."
        )
    return Method("Model", sentences, ["linformer"])


def held_out_libraries(evidence: Evidence) -> str:
    """Names of the libraries kept out of pretraining, as far as the run recorded them."""
    return listed((evidence.pretrain_run or {}).get("held_out", []))


def pretraining_method(evidence: Evidence, config: dict) -> Method | None:
    """What was hidden, predicted and compared with."""
    if evidence.pretrain_metrics is None or evidence.pretrain_config is None:
        return None
    record = evidence.pretrain_run or {}
    size, predicts = record.get("n_parameters"), evidence.pretrain_config["model"]["predicts"]
    sentences = HIDDEN[predicts]
    sentences += f"It has {number(size)} parameters. " if size else ""
    sentences += _seen_in_pretraining(evidence)
    sentences += f"The floor is the loss of predicting {FLOORS[predicts]}."
    return Method("Pretraining", sentences, [], settings_of(config, "pretrain"))


def _seen_in_pretraining(evidence: Evidence) -> str:
    """What unlabelled cells the pretrained model knows: a reader must be able to judge what "held out" means."""
    if len(evidence.qc) == 1:
        return (
            "Pretraining saw the cells of the library except a part held out for validation, without any label. "
            "Cells whose labels are held out later were seen as measurements. "
        )
    names = held_out_libraries(evidence)
    kept_out = f"those held out for validation ({names})" if names else "those held out for validation"
    return (
        f"Pretraining saw the cells of all libraries except {kept_out}, without any label. That includes libraries "
        "whose labels are held out later: their measurements were seen, their labels were not. "
    )


def finetuning_method(evidence: Evidence, config: dict) -> Method | None:
    """How the encoder was adapted."""
    records = [record for task in evidence.task_records.values() for record in task]
    if not records:
        return None
    sentences = (
        "The pretrained encoder was adapted to each task with low-rank adapters (LoRA, by peft) and a head for the "
        "task. "
    )
    trainable, total = _parameters(records)
    if trainable and total:
        sentences += (
            f"{number(trainable)} of {number(total)} parameters ({100 * trainable / total:.1f} %) were trained. "
        )
    linear = (config.get("finetune") or {}).get("linear_components")
    if linear:
        sentences += (
            "A linear path from PCA of RNA and LSI of accessibility, fitted on the training cells of each fold, "
            "runs beside the encoder; its logistic regression is where training starts. "
        )
    epochs = [record["best_epoch"] for record in records if "best_epoch" in record]
    if epochs:
        kept = sum(epoch == 0 for epoch in epochs)
        sentences += (
            f"Validation cells chose the epoch: {kept} of {len(epochs)} models kept that linear start, "
            "in the others training improved on it. "
        )
    return Method("Fine-tuning", sentences.strip(), ["lora", "peft"], settings_of(config, "finetune"))


def _parameters(records: list[dict]) -> tuple[int | None, int | None]:
    """Trainable and total parameters of the first record that names both."""
    for record in records:
        numbers = {key: value for key, value in flatten(record).items() if isinstance(value, int) and "param" in key}
        trainable = next((value for key, value in numbers.items() if "train" in key), None)
        total = next((value for key, value in numbers.items() if "total" in key), None)
        if trainable and total:
            return trainable, total
    return None, None
