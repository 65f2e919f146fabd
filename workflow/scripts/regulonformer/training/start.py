"""The model before its first step: sizes from the recipe, starting values from the training cells."""

from pathlib import Path

import numpy as np
import torch

from regulonformer.corpus.profile import LOADING_CELLS, mean_profile, principal_components, value_profile
from regulonformer.errors import InputError
from regulonformer.model.batch import RegulonEdges
from regulonformer.model.config import ModelConfig
from regulonformer.model.encoder import Regulonformer
from regulonformer.objectives import make_objective
from regulonformer.objectives.dynamic import make_dynamic
from regulonformer.pretrained import load_model
from regulonformer.sequence.features import PAIRS, VECTORS, WINDOWS, SequenceFeatures


def build_model(corpus, train_cells, edges, settings):
    """Model at its start, and the TF of each regulon slot.

    The heads start from the mean profile of the training cells, the gene vectors from the loadings of their principal
    components: one half of the width from RNA, the other from accessibility. The linear path starts from the same
    components.

    Parameters
    ----------
    corpus
        Cells.
    train_cells
        Row numbers of the cells that starting values are taken from.
    edges
        Table slot, gene, weight, tf_token, tf (see `regulon_edges`).
    settings
        Section `pretrain`, with the content of the recipe file under `recipe_settings`.

    Returns
    -------
    tuple of Regulonformer and list of str
    """
    recipe = settings["recipe_settings"]
    predicts = make_objective(recipe["objective"], len(corpus.vocabulary)).predicts
    config = ModelConfig.from_dict(recipe["model"] | settings["model"] | {"predicts": predicts})
    sizes = [config.width - config.width // 2, config.width // 2]
    chosen = train_cells[:: -(-len(train_cells) // LOADING_CELLS)]
    counts_of_chosen = corpus.rows(chosen)
    means, dispersions, components = [], [], []
    for m, counts in enumerate(counts_of_chosen):
        log_mean, log_size = mean_profile(corpus.blocks(train_cells, m))
        means.append(log_mean)
        dispersions.append(log_size)
        # A cell that lacks the modality would count as one of zeros.
        measured = ~corpus.missing[chosen, m]
        components.append(principal_components(counts[measured], corpus.library[chosen, m][measured], sizes[m]))
    loadings, projections, values = zip(*components, strict=True)
    starts = [torch.tensor(np.column_stack(part)) for part in (means, dispersions, loadings)]
    slots = edges.drop_duplicates("slot")
    columns = [edges["slot"], edges["gene"], edges["weight"].astype("float32"), slots["tf_token"]]
    regulons = RegulonEdges(*(torch.tensor(column.to_numpy()) for column in columns))
    torch.manual_seed(settings["seed"])
    n_tfs = int(corpus.vocabulary["is_tf"].sum())
    model = Regulonformer(config, len(corpus.vocabulary), regulons, *starts, n_tfs=n_tfs)
    if model.shortcut is not None:
        model.shortcut.start_from(*(torch.tensor(np.column_stack(part)) for part in (projections, values)))
    if predicts != "counts":
        profile = value_profile(counts_of_chosen, corpus.library[chosen], corpus.missing[chosen], predicts == "bins")
        model.heads.start.copy_(torch.tensor(profile))
    return model, slots["tf"].tolist()


def take_up(base, sequence, vocabulary, settings):
    """A trained model whose gene vectors are made of sequence from here on (recipes with dynamic tokens).

    Parameters
    ----------
    base
        Model folder.
    sequence
        Folder of windows, and of the vectors that a sequence encoder made of them.
    vocabulary
        Token list of the corpus; must be that of the model.
    settings
        Section `pretrain`, with the content of the recipe file under `recipe_settings`.

    Returns
    -------
    tuple of Regulonformer, list of str and dict
        The model, the TF of each regulon slot, and how well the warm start met the learned vectors.

    Raises
    ------
    InputError
        If the model has other tokens than the corpus or other sizes than the settings, or predicts no counts.
    """
    taken = load_model(base)
    if taken.vocabulary["symbol"].tolist() != vocabulary["symbol"].tolist():
        problem = f"{len(taken.vocabulary)} tokens that are not the {len(vocabulary)} of the corpus"
        raise InputError(base, problem, "Pretrain the base recipe on the same corpus")
    objective = make_objective(settings["recipe_settings"]["objective"], taken.model.n_genes)
    if taken.model.config.predicts != objective.predicts:
        problem = f"its heads predict {taken.model.config.predicts}, not {objective.predicts}"
        raise InputError(base, problem, "Name a recipe that predicts counts in objective.base")
    wanted = settings["recipe_settings"]["model"] | settings["model"]
    if others := {key: value for key, value in wanted.items() if getattr(taken.model.config, key) != value}:
        problem = f"the recipe asks for {others}, and the model has other sizes"
        raise InputError(base, problem, "Give the block model of the recipe the values of the base recipe")
    features_NH, has_sequence_N = SequenceFeatures.load(Path(sequence)).of_genes(vocabulary["symbol"])
    tensors = torch.from_numpy(features_NH), torch.from_numpy(has_sequence_N)
    found = make_dynamic(taken.model, *tensors, objective.dynamic.hidden, settings["seed"])
    return taken.model.train(), taken.config["regulons"], found


def files_of(base, sequence) -> list[Path]:
    """Files that `take_up` reads, for the record of a run."""
    if not base:
        return []
    return [Path(base) / "model.safetensors", *(Path(sequence) / name for name in (WINDOWS, PAIRS, VECTORS))]
