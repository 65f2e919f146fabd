from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch

from regulonformer.adapt.fit import FinetuneSettings, calibrate, fit_classifier, predict
from regulonformer.adapt.linear import LinearPath
from regulonformer.adapt.lora import add_lora, count_parameters, load_classifier, save_adapter
from regulonformer.adapt.recall import Recall
from regulonformer.adapt.tasks import CELL_SCALE, Classifier, TaskHead, drop_genes
from regulonformer.balance import class_weights
from regulonformer.config.schema import read_yaml
from regulonformer.errors import InputError
from regulonformer.model.batch import MISSING, OBSERVED, CellBatch, RegulonEdges
from regulonformer.model.config import ModelConfig
from regulonformer.model.encoder import LINEAR_LAYERS, Regulonformer

N_GENES, N_CLASSES = 40, 3
TARGETS = list(LINEAR_LAYERS)


def make_encoder(seed=0):
    torch.manual_seed(seed)
    edges = RegulonEdges(
        torch.tensor([0, 0, 1, 1, 1]), torch.tensor([0, 5, 1, 6, 7]), torch.ones(5), torch.tensor([0, 1])
    )
    config = ModelConfig(width=16, heads=2, layers=["regulon", "explorer"], slots=4, dropout=0.0)
    return Regulonformer(config, N_GENES, edges, torch.zeros(N_GENES, 2)).eval()


def make_batch(n=30, seed=0, shift=2.0, missing_atac=()):
    """Cells of three classes, each with five marker genes; the class of a cell is its row modulo three."""
    rng = np.random.default_rng(seed)
    genes = np.stack([rng.permutation(N_GENES)[:25] for _ in range(n)])
    pad = np.zeros_like(genes, dtype=bool)
    pad[:, 22:] = rng.random((n, 3)) < 0.5
    marker = (genes // 5) == (np.arange(n) % 3)[:, None]
    rna, atac = rng.gamma(2.0, 0.7, genes.shape) + shift * marker, rng.gamma(2.0, 0.7, genes.shape)
    state = np.full(genes.shape, OBSERVED)
    atac_state = state.copy()
    atac_state[list(missing_atac)] = MISSING
    genes, rna, atac = np.where(pad, 0, genes), np.where(pad, 0, rna), np.where(pad, 0, atac)
    f = lambda x: torch.as_tensor(x, dtype=torch.float32)  # noqa: E731
    i = lambda x: torch.as_tensor(x, dtype=torch.int64)  # noqa: E731
    library = torch.full((n, 2), 1000.0)
    pads = torch.as_tensor(pad)
    return CellBatch(i(genes), f(rna), f(atac), i(state), i(atac_state), pads, f(rna), f(atac), library)


def take(batch, rows):
    return CellBatch(*(tensor[torch.as_tensor(rows)] for tensor in batch))


def make_classifier(seed=0):
    path = LinearPath.fit([make_batch()], N_GENES, 6, 100, seed=0)
    return Classifier(make_encoder(seed), path, N_CLASSES).eval()


def make_adapted(seed=0, rank=4):
    return add_lora(make_classifier(seed), rank, 8, 0.0, TARGETS).eval()


def stir(model, seed=1):
    """Move every trainable parameter away from its start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)


def test_a_model_of_real_size_trains_at_most_four_percent():
    torch.manual_seed(0)
    genes, tfs = 20_000, 64
    edges = RegulonEdges(torch.arange(tfs).repeat(60), torch.arange(60 * tfs), torch.ones(60 * tfs), torch.arange(tfs))
    encoder = Regulonformer(ModelConfig(), genes, edges, torch.zeros(genes, 2))
    assert encoder.config.width == 64 and len(encoder.config.layers) == 4
    path = LinearPath(genes, {"rna": 50, "atac": 50, "recalled": 50}, 1000)
    counts = count_parameters(add_lora(Classifier(encoder, path, 25), 8, 16, 0.0, TARGETS))
    assert counts["trainable_share"] <= 0.04
    assert counts["adapter"] == 4 * 8 * (4 * (64 + 64) + 2 * (64 + 2 * 64))


def test_untrained_adapter_equals_the_base():
    base, batch = make_classifier(), make_batch()
    with torch.no_grad():
        base.task_head.linear.weight.normal_(std=0.1)
        base.task_head.correction.weight.normal_(std=0.1)
    expected = base(batch)
    adapted = add_lora(deepcopy(base), 4, 8, 0.1, TARGETS).eval()
    torch.testing.assert_close(adapted(batch), expected, atol=1e-6, rtol=0)


def test_merged_equals_unmerged():
    model, batch = make_adapted(), make_batch()
    start = model(batch)
    stir(model)
    moved = model(batch)
    assert (moved - start).abs().max() > 1e-3
    torch.testing.assert_close(model.merge_and_unload()(batch), moved, atol=1e-5, rtol=0)


@pytest.mark.parametrize("mode", ["frozen", "full"])
def test_other_modes_train_the_head_or_everything_and_reload(tmp_path, mode):
    model, batch = add_lora(make_classifier(), 4, 8, 0.0, TARGETS, mode=mode).eval(), make_batch()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not any("lora_" in name for name in trained)
    assert any(".encoder." in name for name in trained) == (mode == "full")
    stir(model)
    about = {"components": model.get_base_model().linear_path.components}
    task = {"base_hash": "a", "classes": list("xyz"), "dropout": 0.1, "mode": mode, "linear_path": about}
    save_adapter(model, tmp_path, task)
    again, _ = load_classifier(make_encoder(), tmp_path, "a")
    torch.testing.assert_close(again(batch), model(batch), atol=1e-6, rtol=0)


def test_calibration_divides_the_logits_by_what_validation_cells_say():
    model, batch = make_adapted(), make_batch(300, shift=1.0)
    head = model.get_base_model().task_head
    target = np.arange(300) % 3
    with torch.no_grad():
        path = model.get_base_model().linear_path
        head.start_from_logistic_regression(path(batch), target, balance=False)
        before = predict(model, lambda r: take(batch, r), [np.arange(300)])
        head.modules_to_save["default"].linear.weight *= 5  # as sure of itself as training too long would make it
        head.modules_to_save["default"].linear.bias *= 5
    found = calibrate(model, lambda r: take(batch, r), [np.arange(300)], target)
    assert 3 < found <= np.exp(1.5)
    after = predict(model, lambda r: take(batch, r), [np.arange(300)])
    assert (after.argmax(1) == before.argmax(1)).all()
    assert calibrate(model, lambda r: take(batch, r), [], target) == 1.0


def test_only_adapter_and_head_train():
    model = make_adapted()
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert names and all("lora_" in name or ".task_head.modules_to_save." in name for name in names)
    layers = {name.split(".lora_")[0].split("encoder.")[1] for name in names if "lora_" in name}
    assert layers == {
        f"layers.{i}.{x}" for i in (0, 1) for x in (*(f"attention.{t}" for t in TARGETS[:4]), "fc1", "fc2")
    }


def test_the_schema_offers_the_layers_that_the_encoder_has():
    schema = read_yaml(Path(__file__).parents[2] / "workflow" / "schemas" / "config.schema.yaml")
    offered = schema["properties"]["finetune"]["properties"]["targets"]
    assert offered["items"]["enum"] == offered["default"] == TARGETS


def test_trainable_share_is_counted_once():
    model, base = make_adapted(), make_classifier()
    counts = count_parameters(model)
    adapter = sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)
    assert counts["adapter"] == adapter
    assert counts["total"] == sum(p.numel() for p in base.parameters()) + adapter
    fixed = sum(p.numel() for p in base.task_head.linear.parameters())
    assert counts["head"] == sum(p.numel() for p in base.task_head.parameters()) - fixed
    assert counts["trainable_share"] == pytest.approx(counts["trainable"] / counts["total"])


def test_saved_adapter_is_a_peft_folder_and_reloads_with_its_linear_path(tmp_path):
    model, batch = make_adapted(), make_batch()
    stir(model)
    task = {
        "base_hash": "a" * 64,
        "classes": list("xyz"),
        "dropout": 0.1,
        "linear_path": {"components": model.base_model.model.linear_path.components},
    }
    save_adapter(model, tmp_path, task)
    assert {p.name for p in tmp_path.iterdir()} == {"adapter_config.json", "adapter_model.safetensors", "task.json"}
    again, read = load_classifier(make_encoder(), tmp_path, "a" * 64)
    assert read["classes"] == ["x", "y", "z"]
    torch.testing.assert_close(again(batch), model(batch), atol=1e-6, rtol=0)
    with pytest.raises(InputError, match="adapter of base model aaaaaaaaaaaa.*fine-tune again"):
        load_classifier(make_encoder(), tmp_path, "b" * 64)


def test_rna_features_are_the_pca_of_pearson_residuals():
    batch = make_batch(60, shift=4.0)
    path = LinearPath.fit([take(batch, np.arange(30)), take(batch, np.arange(30, 60))], N_GENES, 6, 100, seed=0)
    counts = np.zeros((60, N_GENES))
    seen = ~batch.pad_BT.numpy()
    counts[np.nonzero(seen)[0], batch.genes_BT.numpy()[seen]] = np.expm1(batch.rna_BT.numpy()[seen]) * 0.1
    mean = batch.library_B2[:, :1].numpy() * counts.sum(0) / batch.library_B2[:, 0].sum().item()
    residuals = np.clip((counts - mean) / np.sqrt(mean + mean**2 / 100), -10, 10)
    left, values, _ = np.linalg.svd(residuals - residuals.mean(0), full_matrices=False)
    expected = (left * values)[:, :2]  # the components that tell the three classes apart
    expected /= expected[:, 0].std(ddof=1)
    np.testing.assert_allclose(np.abs(path(batch)[:, :2].numpy()), np.abs(expected), atol=2e-2)


def test_accessibility_features_are_linear_in_the_values_and_padding_is_ignored():
    batch = make_batch()
    path = LinearPath.fit([batch], N_GENES, 6, 100, seed=0)
    zero = path(batch._replace(atac_BT=0 * batch.atac_BT))
    double = path(batch._replace(atac_BT=2 * batch.atac_BT))
    torch.testing.assert_close(double - zero, 2 * (path(batch) - zero), atol=1e-4, rtol=1e-4)
    garbage = batch._replace(rna_BT=batch.rna_BT + 9.0 * batch.pad_BT, atac_BT=batch.atac_BT + 9.0 * batch.pad_BT)
    torch.testing.assert_close(path(garbage), path(batch))


def test_a_cell_recalls_its_class_and_never_itself():
    features = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    target = np.arange(200) % 2
    features[:, 0] += torch.as_tensor(np.where(target, 2.0, -2.0))
    recall = Recall(200, 6)
    recall.cells_MK.copy_(features)
    recalled = recall(features)
    assert recalled[:, 0].std() > 3 * recalled[:, 1].std()  # what neighbours share stays, noise of a cell goes
    assert ((recalled[:, 0] > 0).numpy() == target).mean() > 0.95
    alone = Recall(199, 6)
    alone.cells_MK.copy_(features[1:])
    torch.testing.assert_close(alone(features[:1]), recalled[:1])  # as if it had not been among them
    assert (recall(torch.zeros(1, 6)) == 0).all()


def test_few_cells_are_not_remembered_and_a_part_can_be_switched_off():
    few, batch = [make_batch(150)], make_batch(300)
    path = LinearPath.fit(few, N_GENES, 6, 100, seed=0)
    path.remember(few, 1000, seed=0)
    assert path.n_remembered == 0 and path.scales() == {"rna": 1.0, "atac": 1.0}
    path = LinearPath.fit([batch], N_GENES, 6, 100, seed=0)
    path.remember([batch], 250, seed=0)
    assert path.n_remembered == 250 and path(batch).shape == (300, 18)
    path.set_scales(recalled=0.0)
    assert (path(batch)[:, 12:] == 0).all() and (path(batch)[:, :6] != 0).any()


def test_missing_modality_gives_the_mean_cell():
    batch = make_batch(missing_atac=[3, 4])
    path = LinearPath.fit([batch], N_GENES, 6, 100, seed=0)
    features = path(batch)
    assert (features[[3, 4], 6:] == 0).all() and (features[[3, 4], :6] != 0).any()
    assert LinearPath.fit([make_batch(missing_atac=range(30))], N_GENES, 6, 100, 0).components == {"rna": 6, "atac": 0}


@pytest.mark.parametrize("n_classes", [2, 3])
def test_head_starts_as_the_logistic_regression(n_classes):
    from sklearn.linear_model import LogisticRegression

    batch = make_batch(90)
    features = LinearPath.fit([batch], N_GENES, 6, 100, seed=0)(batch)
    target = np.arange(90) % n_classes
    head = TaskHead(features.shape[1], 16, n_classes + 1, dropout=0.0).eval()  # one class has no training cell
    head.start_from_logistic_regression(features, target, balance=False)
    expected = LogisticRegression(max_iter=300, C=0.3).fit(features.numpy(), target).predict_proba(features.numpy())
    logits = head(features, torch.randn(90, 16))[:, :n_classes]
    np.testing.assert_allclose(logits.softmax(1).detach().numpy(), expected, atol=1e-4)


def test_head_starts_as_the_logistic_regression_of_features_and_embedding():
    from sklearn.linear_model import LogisticRegression

    batch, target = make_batch(90), np.arange(90) % 3
    features, cell = LinearPath.fit([batch], N_GENES, 6, 100, seed=0)(batch), make_encoder()(batch).cell_BD.detach()
    head = TaskHead(features.shape[1], 16, 3, dropout=0.0).eval()
    head.standardise(cell)
    head.start_from_logistic_regression(features, target, False, cell)
    joined = np.hstack([features.numpy(), CELL_SCALE * ((cell - cell.mean(0)) / cell.std(0)).numpy()])
    expected = LogisticRegression(max_iter=300, C=0.3).fit(joined, target).predict_proba(joined)
    np.testing.assert_allclose(head(features, cell).softmax(1).detach().numpy(), expected, atol=2e-3)


def test_gene_dropout_touches_observed_values_only():
    batch = make_batch(missing_atac=[0])
    thinned = drop_genes(batch, 0.5, torch.Generator().manual_seed(0))
    assert (thinned.atac_BT[0] == batch.atac_BT[0]).all()
    assert 0.4 < (thinned.rna_BT[~batch.pad_BT] == 0).float().mean() < 0.6
    assert drop_genes(batch, 0.0, torch.Generator()) is batch


def test_class_weights_by_hand():
    weights = class_weights([1, 4, 0])
    assert weights[0] == pytest.approx(2 * weights[1]) and weights[2] == 0
    assert (weights * [1, 4, 0]).sum() == pytest.approx(5)


def run_fit(seed=0, settings=None):
    data, target = make_batch(120, shift=1.0), np.arange(120) % 3
    model = add_lora(Classifier(make_encoder(), LinearPath.fit([data], N_GENES, 6, 100, 0), 3), 4, 8, 0.1, TARGETS)
    settings = settings or FinetuneSettings(epochs=6, patience=6)

    def epoch_batches(epoch):
        return np.array_split(np.random.default_rng([seed, epoch]).permutation(90), 3)

    rows, kept = fit_classifier(
        model, lambda r: take(data, r), epoch_batches, [np.arange(90, 120)], target, settings, seed=seed
    )
    return rows, kept, predict(model, lambda r: take(data, r), [np.arange(60), np.arange(60, 120)])


def test_training_lowers_the_loss_keeps_the_best_epoch_and_repeats_exactly():
    rows, kept, probabilities = run_fit(settings=FinetuneSettings(epochs=6, patience=6, learning_rate=5e-3))
    losses = {row["epoch"]: row["loss"] for row in rows if row["split"] == "validation"}
    assert kept == min(losses, key=losses.get) and kept > 0
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    again = run_fit(settings=FinetuneSettings(epochs=6, patience=6, learning_rate=5e-3))
    assert again[0] == rows and (again[2] == probabilities).all()
    assert (run_fit(seed=1)[2] != probabilities).any()


def test_training_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    data = make_batch(60)
    model = make_adapted()
    fit_classifier(
        model,
        lambda r: take(data, r),
        lambda e: [np.arange(60)],
        [],
        np.arange(60) % 3,
        FinetuneSettings(epochs=1),
        seed=3,
    )
    torch.manual_seed(5)
    assert (torch.random.get_rng_state() == before).all()
