"""`--images DIR` trains on one folder without a config."""

import numpy as np
import pytest
from PIL import Image

from ray_classy.config.yaml_text import parse_yaml


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(8):
            pixels = generator.integers(0, 255, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    return "photos"


def config_of(outcome):
    return parse_yaml(outcome.out, "config")[0]


def test_it_is_the_recipe_for_an_own_folder(ray_classy, photos):
    outcome = ray_classy("check", "--images", photos, "--model", "squeezenet1_1", "--split", "0.5", "--local")
    config = config_of(outcome)
    assert config["dataset"]["train"]["image_folder"] == photos
    assert config["dataset"]["split"]["test"] == 0.5 and config["model"]["model"] == "squeezenet1_1"


def test_without_weights_it_trains_longer_and_says_so(ray_classy, photos):
    outcome = ray_classy("check", "--images", photos, "--model", "squeezenet1_1", "--local")
    assert config_of(outcome)["num_epochs"] == 100
    assert "no --weights: the network is trained from scratch" in outcome.err


def test_overrides_of_the_user_count(ray_classy, photos):
    words = ("--images", photos, "--model", "squeezenet1_1", "num_epochs=3", "--local")
    assert config_of(ray_classy("check", *words))["num_epochs"] == 3


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("my.yaml", "--images", "photos"), "leave out 'my.yaml'"),
        (("my.yaml", "--model", "resnet18"), "--model goes with --images DIR"),
        (("--images", "photos", "--resume", "runs/a"), "leave out --images"),
        (("--images", "photo", "--local"), "photo"),
    ],
)
def test_a_mistake_is_one_line(ray_classy, photos, words, text):
    outcome = ray_classy("train", *words)
    assert outcome.code != 0 and text in outcome.err
