"""Masked modelling with gene vectors that come from sequence, after a warm start on the vectors that were learned."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regulonformer.errors import InputError
from regulonformer.model.dynamic import Adapter, DynamicVectors
from regulonformer.model.encoder import LINEAR_LAYERS, Regulonformer
from regulonformer.objectives.masked import MaskedConfig, MaskedModelling, split_settings

TRAIN = ("adapter", "adapter+lora", "all")
# Linear layers of the encoder that get low-rank matrices, and their scale, alpha / rank.
LORA_LAYERS, LORA_SCALE = rf"layers\..*\.({'|'.join(LINEAR_LAYERS)})", 2.0
# Warm start: steps at most, and genes held out to stop at the best one.
STEPS, CHECK_STEPS, VALIDATION_SHARE, PATIENCE = 600, 20, 0.1, 5
LEARNING_RATE, WEIGHT_DECAY, COSINE_WEIGHT = 1.0e-3, 0.1, 0.1
FEWEST_GENES = 20


@dataclass(frozen=True)
class DynamicConfig:
    """Settings of dynamic tokens, beside those of masked modelling.

    Attributes
    ----------
    base
        Recipe whose model is taken up: its gene table is what the adapter starts on.
    train
        `adapter`: the adapter alone, all else as pretrained; `adapter+lora`: also low-rank changes of the encoder's
        linear layers (LoRA: Hu et al. 2021, 2106.09685); `all`: the rest of the model along with it.
    lora_rank
        Rank of these changes.
    hidden
        Width of the adapter's MLP.
    """

    base: str = "regulon"
    train: str = "adapter"
    lora_rank: int = 8
    hidden: int = 64

    @classmethod
    def split(cls, values: dict) -> tuple["DynamicConfig", MaskedConfig]:
        """Settings of dynamic tokens, and of the masked modelling that trains them.

        Raises
        ------
        InputError
            If a key or what to train is unknown.
        """
        config, masked = split_settings(cls, values)
        if config.train not in TRAIN:
            raise InputError("objective.train", f"unknown {config.train!r}", f"Known are {', '.join(TRAIN)}")
        return config, masked


class DynamicTokens(MaskedModelling):
    """Masked modelling that trains the adapter from sequence to gene vectors, with or without the rest of the model.

    On a model with a static table, the twin that dynamic tokens are compared with, the table takes the adapter's place.

    Parameters
    ----------
    config
        Settings of dynamic tokens.
    masked
        Settings of masked modelling.
    n_genes
        Genes N of the vocabulary.
    """

    def __init__(self, config: DynamicConfig, masked: MaskedConfig, n_genes: int) -> None:
        super().__init__(masked, n_genes)
        self.dynamic = config

    def trains(self, model: nn.Module) -> Iterator[nn.Parameter]:
        """Parameters of the adapter, with those of LoRA, or of all the model; never the levels of the warm start."""
        table = model.embedding.gene_vectors
        levels = table.level_adapter.parameters() if isinstance(table, DynamicVectors) else ()
        left = {id(parameter) for parameter in levels}
        chosen = list(model.parameters() if self.dynamic.train == "all" else table.parameters())
        chosen += [parameter for name, parameter in model.named_parameters() if "lora_" in name]
        return (parameter for parameter in chosen if id(parameter) not in left)

    def extend(self, model: nn.Module, seed: int) -> None:
        """Put low-rank matrices on the encoder where they are asked for; they start as no change."""
        if self.dynamic.train != "adapter+lora":
            return
        from peft import LoraConfig, inject_adapter_in_model

        rank, learnable = self.dynamic.lora_rank, [part for part in model.parameters() if part.requires_grad]
        config = LoraConfig(r=rank, lora_alpha=LORA_SCALE * rank, bias="none", target_modules=LORA_LAYERS)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            inject_adapter_in_model(config, model)
        # peft freezes all else; here, what keeps still is said by `trains`.
        for parameter in learnable:
            parameter.requires_grad_(True)

    def fold(self, model: nn.Module) -> None:
        """Add what the low-rank matrices learned to the weights they stand on: the model has its old layers again."""
        if self.dynamic.train != "adapter+lora":
            return
        from peft.tuners.lora import LoraLayer

        for name, layer in [item for item in model.named_modules() if isinstance(item[1], LoraLayer)]:
            layer.merge()
            model.set_submodule(name, layer.get_base_layer())


def make_dynamic(model: Regulonformer, features_NH: Tensor, has_sequence_N: Tensor, hidden: int, seed: int) -> dict:
    """Give a trained model gene vectors that come from sequence; its outputs stay what they were.

    The adapter is fitted on the learned vectors, and the levels on the mean profile; what they leave unexplained of a
    vector stays with the gene.

    Parameters
    ----------
    model
        Trained model with a static table; changed in place.
    features_NH
        Features of the sequences of each gene.
    has_sequence_N
        Which genes have sequence.
    hidden
        Width of the adapter's MLP.
    seed
        Seed of the first weights and of the genes held out.

    Returns
    -------
    dict
        genes_with_sequence; vector_correlation and level_correlation: between predicted and learned values of the genes
        that were held out of the fit.

    Raises
    ------
    InputError
        If hardly any gene has sequence.
    """
    n_known = int(has_sequence_N.sum())
    if n_known < FEWEST_GENES:
        problem = f"only {n_known} genes have sequence"
        raise InputError("sequence features", problem, "Check that genome, annotation and peaks are of one build")
    vectors_ND = model.embedding.gene_vectors.weight.detach().clone()
    levels_N2 = model.heads.gene_log_mean
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        table = DynamicVectors(features_NH, has_sequence_N, vectors_ND, levels_N2, hidden)
        rows = has_sequence_N.nonzero().squeeze(1)
        features_XH = table.features[rows]
        found = {"genes_with_sequence": n_known}
        found["vector_correlation"] = warm_start(table.adapter, features_XH, vectors_ND[rows])
        found["level_correlation"] = warm_start(table.level_adapter, features_XH, levels_N2[rows])
    table.keep_learned(vectors_ND)
    model.embedding.gene_vectors = table
    logging.info("warm start: %s", found)
    return found


def warm_start(adapter: Adapter, features_XH: Tensor, targets_XD: Tensor) -> float:
    """Fit an adapter to targets by squared error and cosine, up to the step at which held-out genes are met best.

    Returns
    -------
    float
        Correlation of predictions and targets of the genes held out, about the mean of the others.
    """
    order = torch.randperm(len(features_XH))
    n_held = max(2, round(VALIDATION_SHARE * len(order)))
    held, kept = order[:n_held], order[n_held:]
    centre_D, scale = targets_XD[kept].mean(0), targets_XD[kept].std().clamp_min(1e-8)
    with torch.no_grad():
        adapter.unit.copy_(scale)
        adapter.line.bias.copy_(centre_D / scale)
    optimiser = torch.optim.AdamW(adapter.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def loss(rows):
        error_XD = (adapter(features_XH[rows]) - targets_XD[rows]) / scale
        shifted = adapter(features_XH[rows]) - centre_D, targets_XD[rows] - centre_D
        return error_XD.square().mean() + COSINE_WEIGHT * (1 - F.cosine_similarity(*shifted, dim=-1)).mean()

    best, best_state, waited = float("inf"), None, 0
    for step in range(STEPS):
        if step % CHECK_STEPS == 0:
            with torch.no_grad():
                met = float((adapter(features_XH[held]) - targets_XD[held]).square().mean())
            waited = 0 if met < best else waited + 1
            if met < best:
                best, best_state = met, {name: value.clone() for name, value in adapter.state_dict().items()}
            if waited >= PATIENCE:
                break
        optimiser.zero_grad(set_to_none=True)
        loss(kept).backward()
        optimiser.step()
    adapter.load_state_dict(best_state)
    with torch.no_grad():
        pair = torch.stack(
            [part.flatten() for part in (adapter(features_XH[held]) - centre_D, targets_XD[held] - centre_D)]
        )
    return float(torch.corrcoef(pair)[0, 1].nan_to_num())
