"""Every recipe of config/recipes trains for a few steps on the small run, and embeds its cells."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

import pretrain_model
import regulonformer
from regulonformer.config.settings import load_settings
from regulonformer.io.store import read_mudata

ROOT = Path(__file__).parents[2]
RECIPES = sorted(path.stem for path in (ROOT / "config" / "recipes").glob("*.yaml"))
STEPS = 6


@pytest.fixture(scope="module")
def settings(small_run):
    """Recipes and the section `pretrain` as the small run has them."""
    config = yaml.safe_load((ROOT / "tests/config/small.yaml").read_text())
    with pytest.MonkeyPatch.context() as here:
        here.chdir(small_run.root)
        found, _, recipes = load_settings(config, "small.yaml", ROOT)
    return found["pretrain"], recipes


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_trains_and_embeds(recipe, small_run, settings, tmp_path):
    pretrain, recipes = settings
    content = recipes[recipe]
    if content["objective"]["name"] == "dynamic":
        pytest.skip("takes up a trained model and sequence vectors; tested with them")
    results = small_run.root / "results" / "small"
    pretrain_model.main(
        shards=results / "corpus/shards",
        cells=results / "corpus/cells.parquet",
        vocabulary=results / "corpus/vocabulary.tsv",
        regulons=results / "regulons/regulons.parquet",
        elements=results / "corpus/elements.parquet",
        settings=pretrain | {"recipe": recipe, "recipe_settings": content, "steps": STEPS, "validate_steps": STEPS},
        folder=tmp_path / "model",
        run=tmp_path / "model/run.json",
        metrics=tmp_path / "model/metrics.tsv",
        checkpoints=tmp_path / "checkpoints",
    )
    assert json.loads((tmp_path / "model/run.json").read_text())["steps_taken"] == STEPS
    data = read_mudata(results / "features/multiome.h5mu")[:40]
    cells = regulonformer.load(tmp_path / "model").embed(data, device="cpu", progress=False)
    assert cells.n_obs == 40 and np.isfinite(cells.X).all() and cells.X.std() > 0
