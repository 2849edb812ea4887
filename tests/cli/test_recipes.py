"""`ray-classy recipes`, and configs named `recipe:NAME`."""

from pathlib import Path

import pytest

from ray_classy.config import load_config
from ray_classy.config.recipe_files import recipe_head, recipe_names
from ray_classy.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"


def test_every_config_is_listed_with_its_result(ray_classy):
    out = ray_classy("recipes").out
    assert all(f"\n{name}: " in f"\n{out}" for name in recipe_names())
    assert out.count("expected: ") == len(recipe_names()) == len(list(CONFIGS.rglob("*.yaml")))


def test_the_page_about_recipes_lists_each():
    page = CONFIGS.parent.joinpath("docs", "recipes.md").read_text()
    assert [name for name in recipe_names() if f"`{name}`" not in page] == []


def test_a_recipe_is_printed_letter_by_letter(ray_classy):
    assert ray_classy("recipes", "digits").out == (CONFIGS / "digits.yaml").read_text()


def test_json_has_the_heads(ray_classy):
    assert set(ray_classy("recipes", "--json").json["recipes"]["digits"]) >= {"what", "Source", "Expected", "Cost"}


def test_a_head_has_a_paragraph_and_keys():
    head = recipe_head(
        "# Digits,\n# small.\n#\n#   ray-classy train x\n#\n# Expected: 99 %\n#   or so\n# Cost: 1 min\n\na: 1"
    )
    assert head == {"what": "Digits, small.", "Expected": "99 % or so", "Cost": "1 min"}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("digit", "did you mean 'digits'"),
        ("digits.yaml", "did you mean 'digits'"),
        ("../setup", "no recipe '../setup'"),
    ],
)
def test_an_unknown_recipe_names_the_nearest(ray_classy, name, told):
    assert told in ray_classy("recipes", name).err
    with pytest.raises(ConfigError, match="ray-classy recipes lists them"):
        load_config(f"recipe:{name}")


def test_a_recipe_is_a_config_with_places(ray_classy):
    assert load_config("recipe:digits") == load_config(CONFIGS / "digits.yaml")
    refused = ray_classy("check", "recipe:digits", "--local", "optimizer.momentun=0.5")
    assert refused.code == 2 and "momentum" in refused.err


def test_a_run_of_a_recipe_can_be_resumed(ray_classy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = ("dataset.train.num_samples=64", "dataset.test.num_samples=64", "num_epochs=1", "test_phase_period=1")
    assert ray_classy("train", "recipe:digits", "--local", "--name", "r", *few).code == 0
    assert ray_classy("train", "--resume", "runs/r", "--local", "num_epochs=2").code == 0


def test_two_words_are_refused(ray_classy):
    assert "takes the name of one recipe" in ray_classy("recipes", "digits", "x").err
