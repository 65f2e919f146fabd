"""Adapt the pretrained model to the training cells of one fold, and predict the cells held out."""

import logging
from copy import deepcopy
from typing import NamedTuple

import numpy as np
from peft import PeftModel

from regulonformer.adapt.cohort import Cohort
from regulonformer.adapt.fit import FinetuneSettings, calibrate, fit_classifier, predict
from regulonformer.adapt.lora import add_lora, count_parameters
from regulonformer.adapt.reader import Reader
from regulonformer.adapt.start import build_classifier


class FoldResult(NamedTuple):
    """What one fold gives.

    Attributes
    ----------
    classifier
        Adapted and trained.
    rows
        Corpus rows of the held-out cells, in the order of `probabilities`.
    probabilities
        (cells, C).
    losses
        Rows epoch, split, loss.
    about
        What to record: mode, best_epoch, temperature, parameters, linear_path, dropout.
    """

    classifier: PeftModel
    rows: np.ndarray
    probabilities: np.ndarray
    losses: list[dict]
    about: dict


def finetune_fold(
    encoder, reader: Reader, cohort: Cohort, settings: FinetuneSettings, seed: int, device: str = "cpu"
) -> FoldResult:
    """Fine-tune on a fold's training cells, with LoRA or as `settings.mode` says, and predict its held-out cells.

    Parameters
    ----------
    encoder
        Pretrained `Regulonformer`; its weights stay as they are.
    reader
        Reads cells of the corpus.
    cohort
        Cells of the fold.
    settings
        Settings of section `finetune`.
    seed
        Seed of first weights, order, dropout and augmentation.
    device
        Torch device.
    """
    # peft puts its layers into the encoder itself.
    classifier, linear_path = build_classifier(deepcopy(encoder), reader, cohort, settings, seed)
    classifier, losses, about = train_fold(classifier, reader, cohort, settings, seed, device)
    validation, test = reader.in_order(cohort.validation), reader.in_order(cohort.test)
    temperature = calibrate(classifier, reader.read, validation, cohort.target, device)
    probabilities = predict(classifier, reader.read, test, device)
    about |= {"temperature": temperature, "linear_path": linear_path}
    return FoldResult(classifier, np.concatenate(test), probabilities, losses, about)


def train_fold(
    model, reader: Reader, cohort: Cohort, settings: FinetuneSettings, seed: int, device: str, loss=None
) -> tuple[PeftModel, list[dict], dict]:
    """Adapt a started model, of classes or of numbers, to a fold's training cells.

    Parameters
    ----------
    model
        Encoder, linear path and head; changed in place.
    reader, cohort, settings, seed, device
        As in `finetune_fold`.
    loss
        As in `fit_classifier`.

    Returns
    -------
    (PeftModel, list of dict, dict)
        The trained model on its device; rows epoch, split, loss; and what to record: mode, best_epoch, dropout,
        parameters.
    """
    lora = (settings.rank, settings.alpha, settings.adapter_dropout, settings.targets)
    model = add_lora(model, *lora, seed=seed, mode=settings.mode).to(device)
    parameters = count_parameters(model)
    logging.info("training %(trainable)d of %(total)d parameters (adapter %(adapter)d, head %(head)d)", parameters)
    epochs, validation = reader.epochs(cohort.train, settings.batch_cells, seed), reader.in_order(cohort.validation)
    losses, epoch = fit_classifier(
        model, reader.read, epochs, validation, cohort.target, settings, seed=seed, device=device, loss=loss
    )
    about = {"mode": settings.mode, "best_epoch": epoch, "dropout": settings.dropout, "parameters": parameters}
    return model, losses, about
