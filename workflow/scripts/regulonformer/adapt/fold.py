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
    lora = (settings.rank, settings.alpha, settings.adapter_dropout, settings.targets)
    classifier = add_lora(classifier, *lora, seed=seed, mode=settings.mode).to(device)
    parameters = count_parameters(classifier)
    logging.info("training %(trainable)d of %(total)d parameters (adapter %(adapter)d, head %(head)d)", parameters)
    epochs = reader.epochs(cohort.train, settings.batch_cells, seed)
    validation, test = reader.in_order(cohort.validation), reader.in_order(cohort.test)
    losses, epoch = fit_classifier(
        classifier, reader.read, epochs, validation, cohort.target, settings, seed=seed, device=device
    )
    temperature = calibrate(classifier, reader.read, validation, cohort.target, device)
    probabilities = predict(classifier, reader.read, test, device)
    about = {"mode": settings.mode, "best_epoch": epoch, "temperature": temperature, "dropout": settings.dropout}
    about |= {"parameters": parameters, "linear_path": linear_path}
    return FoldResult(classifier, np.concatenate(test), probabilities, losses, about)
