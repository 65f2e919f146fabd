"""Dynamic tokens: gene vectors follow the sequence, the model is otherwise what it was, and files are strict."""

from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy import sparse

from regulonformer.config.settings import _check_recipe, _find_sequence
from regulonformer.corpus.encoding import encode
from regulonformer.errors import InputError
from regulonformer.model.batch import RegulonEdges
from regulonformer.model.config import ModelConfig
from regulonformer.model.dynamic import DynamicVectors
from regulonformer.model.encoder import Regulonformer
from regulonformer.objectives import make_objective
from regulonformer.objectives.dynamic import DynamicTokens, make_dynamic
from regulonformer.pretrained import load_model, save_model

N_GENES, N_FEATURES, WIDTH = 120, 6, 8
STATIC = 3  # the last genes have no sequence


def make_model(vectors_ND=None):
    torch.manual_seed(0)
    edges = RegulonEdges(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 5, 1, 6]), torch.ones(4), torch.tensor([0, 1]))
    config = ModelConfig(width=WIDTH, heads=2, layers=["regulon", "explorer"], slots=4)
    model = Regulonformer(config, N_GENES, edges, torch.full((N_GENES, 2), -4.0), n_tfs=2)
    torch.nn.init.normal_(model.heads.from_cell.weight, std=0.3)
    if vectors_ND is not None:
        model.embedding.gene_vectors.weight.data.copy_(vectors_ND)
    return model.eval()


@pytest.fixture(scope="module")
def features():
    return torch.randn(N_GENES, N_FEATURES, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def has_sequence():
    return torch.arange(N_GENES) < N_GENES - STATIC


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    counts = [sparse.csr_matrix(rng.poisson(0.6, (6, N_GENES))) for _ in range(2)]
    return encode(*counts, np.full((6, 2), 100.0))


def driven_by(features):
    """Gene vectors that sequence explains but for a little noise."""
    generator = torch.Generator().manual_seed(2)
    drive = torch.randn(N_FEATURES, WIDTH, generator=generator)
    return 0.1 * (features @ drive) + 0.02 * torch.randn(N_GENES, WIDTH, generator=generator)


@pytest.fixture(scope="module")
def trained(features, has_sequence):
    model = make_model(driven_by(features))
    make_dynamic(model, features, has_sequence, hidden=16, seed=0)
    return model


def test_warm_start_changes_no_output_and_predicts_genes_it_never_saw(features, has_sequence, batch):
    model = make_model(driven_by(features))
    before = model(batch)
    found = make_dynamic(model, features, has_sequence, hidden=16, seed=0)
    after = model(batch)
    assert found["genes_with_sequence"] == N_GENES - STATIC
    assert found["vector_correlation"] > 0.6
    torch.testing.assert_close(after.tokens_BTD, before.tokens_BTD, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(after.cell_BD, before.cell_BD, atol=1e-4, rtol=1e-4)


def test_vectors_that_sequence_does_not_explain_are_not_predicted(features, has_sequence):
    model = make_model()
    assert abs(make_dynamic(model, features, has_sequence, hidden=16, seed=0)["vector_correlation"]) < 0.4


def test_an_edit_moves_its_gene_alone_and_no_gene_without_sequence(trained):
    model = deepcopy(trained)
    table = model.embedding.gene_vectors
    before = table.weight.detach().clone()
    edit = torch.linspace(-1, 1, N_FEATURES)
    table.features[[4, N_GENES - 1]] += edit
    moved = (table.weight.detach() - before).norm(dim=1)
    assert moved[4] > 0.02 and moved.sum() == moved[4]
    table.features[[4, N_GENES - 1]] -= edit
    genes = torch.tensor([4, N_GENES - 1])
    vectors, levels = table.change(genes, table.features[genes] + edit)
    torch.testing.assert_close(vectors.norm(dim=1)[0], moved[4], atol=1e-5, rtol=1e-4)
    assert not vectors[1].any() and not levels[1].any()


@pytest.mark.parametrize("train", ["adapter", "all"])
def test_what_is_trained(trained, batch, train):
    model = deepcopy(trained)
    objective = make_objective({"name": "dynamic", "train": train}, N_GENES)
    assert isinstance(objective, DynamicTokens)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimiser = torch.optim.AdamW(objective.trains(model), lr=1e-2)
    objective(model, batch, torch.Generator().manual_seed(0)).loss.backward()
    optimiser.step()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    adapter = {name for name in moved if name.startswith("embedding.gene_vectors.adapter.")}
    assert adapter and not any("level_adapter" in name for name in moved)
    assert (moved == adapter) == (train == "adapter")


def test_lora_changes_the_encoder_by_low_rank_matrices_alone_and_leaves_its_layers(trained, batch):
    model = deepcopy(trained)
    objective = make_objective({"name": "dynamic", "train": "adapter+lora", "lora_rank": 2}, N_GENES)
    before, shown = {name: value.clone() for name, value in model.state_dict().items()}, model(batch).cell_BD
    objective.extend(model, seed=0)
    torch.testing.assert_close(model(batch).cell_BD, shown)
    extended = {name: value.clone() for name, value in model.state_dict().items()}
    chosen = {id(parameter) for parameter in objective.trains(model)}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in chosen)
    optimiser = torch.optim.AdamW(objective.trains(model), lr=1e-2)
    for step in range(2):  # A has a gradient only when B is no longer zero
        optimiser.zero_grad()
        objective(model, batch, torch.Generator().manual_seed(step)).loss.backward()
        optimiser.step()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, extended[name])}
    lora = {name for name in moved if "lora_" in name}
    assert lora == {name for name in extended if "lora_" in name} and len(lora) == 2 * 6 * 2
    assert moved - lora and all(name.startswith("embedding.gene_vectors.adapter.") for name in moved - lora)
    learned = model(batch).cell_BD
    objective.fold(model)
    torch.testing.assert_close(model(batch).cell_BD, learned, atol=1e-5, rtol=1e-4)
    assert model.state_dict().keys() == before.keys()
    change = model.state_dict()["layers.0.fc1.weight"] - before["layers.0.fc1.weight"]
    assert torch.linalg.matrix_rank(change, atol=1e-5) == 2


def test_static_twin_trains_its_table_in_the_adapters_place(batch):
    model = make_model()
    objective = make_objective({"name": "dynamic"}, N_GENES)
    assert [id(p) for p in objective.trains(model)] == [id(model.embedding.gene_vectors.weight)]


def vocabulary():
    symbols = [f"G{number}" for number in range(N_GENES)]
    return pd.DataFrame(
        {"token": range(N_GENES), "gene_id": symbols, "symbol": symbols, "is_tf": np.arange(N_GENES) < 2}
    ).assign(chrom="chr1", tss=0)


@pytest.fixture
def folder(trained, tmp_path):
    save_model(tmp_path, trained, vocabulary(), {"regulons": ["G0", "G1"], "recipe": "biodta"})
    return tmp_path


def test_saved_model_is_dynamic_again_and_can_be_cut(folder, batch):
    again = load_model(folder)
    table = again.model.embedding.gene_vectors
    assert isinstance(table, DynamicVectors) and table.own.shape == (N_GENES, WIDTH)
    genes = [f"G{number}" for number in (0, 1, 5, 6, 40)]
    cut = again.cut_panel(genes).model.embedding.gene_vectors
    torch.testing.assert_close(cut.weight, table.weight[[0, 1, 5, 6, 40]])


def test_a_missing_weight_is_an_error(folder):
    state = load_file(folder / "model.safetensors")
    del state["embedding.gene_vectors.adapter.fc2.bias"]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(RuntimeError, match="adapter.fc2.bias"):
        load_model(folder)


def test_hardly_any_sequence_and_unknown_settings_are_errors(features):
    with pytest.raises(InputError, match="only 5 genes have sequence"):
        make_dynamic(make_model(), features, torch.arange(N_GENES) < 5, hidden=4, seed=0)
    with pytest.raises(InputError, match=r"objective\.train"):
        make_objective({"name": "dynamic", "train": "nothing"}, N_GENES)


def settings_of(**changes):
    """The parts of a config that decide whether sequence can be read."""
    reference = {"fasta": "genome.fa", "annotation": "genes.gtf"} | changes.pop("reference", {})
    return {
        "variants": {"file": None},
        "sequence": {"encoder": None},
        "pretrain": {"recipe": "biodta"},
        "ingest": {"second_modality": "atac"},
        "reference": reference,
    } | changes


RECIPES = {
    "regulon": {"objective": {"name": "masked"}},
    "biodta": {"objective": {"name": "dynamic", "base": "regulon"}},
}


def check(settings, recipes):
    """What is asked of the recipe of a run before any compute."""
    _find_sequence(settings, set(), "config.yaml")
    _check_recipe(settings["pretrain"]["recipe"], settings, {"a": {"modality": ""}}, recipes, "config.yaml")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"reference": {"fasta": None}}, "reference/fasta is not given"),
        ({"reference": {"annotation": None}}, "reference/annotation is not given"),
        ({"ingest": {"second_modality": "unspliced"}}, "the libraries have none"),
        ({"sequence": {"encoder": "/no/such/folder"}}, "is no model folder"),
        ({"variants": {"file": "/no/such/file.vcf"}}, "does not exist"),
    ],
)
def test_what_sequence_lacks_is_said_before_any_compute(changes, problem):
    with pytest.raises(InputError, match=problem):
        check(settings_of(**changes), RECIPES)


def test_recipes_without_sequence_need_no_genome():
    settings = settings_of(reference={"fasta": None}, pretrain={"recipe": "regulon"})
    check(settings, RECIPES)
    check(settings_of(), RECIPES)
    circular = RECIPES | {"biodta": {"objective": {"name": "dynamic", "base": "biodta"}}}
    with pytest.raises(InputError, match="none with static gene vectors"):
        check(settings_of(), circular)
