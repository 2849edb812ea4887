"""`ray-classy list`: components and their keys."""

import os
import subprocess
import sys

import pytest


def test_without_a_kind_the_kinds_are_listed(ray_classy):
    lines = ray_classy("list").out.splitlines()
    kinds = {line.split()[0] for line in lines if line and not line.startswith((" ", "`"))}
    assert {"dataset", "head", "hook", "loss", "meter", "model", "optimizer", "param_scheduler", "task"} <= kinds


def test_a_kind_shows_types_and_defaults(ray_classy):
    out = ray_classy("list", "optimizer").out
    assert "\nsgd: " in out
    assert "lr                a number; default 0.1" in out
    assert "accepted without effect: num_epochs" in out


def test_required_keys_are_marked(ray_classy):
    assert "batchsize_per_replica  an integer; required" in ray_classy("list", "dataset", "image_path").out


@pytest.mark.parametrize(("kind", "name"), [("transform", "RandomResizedCrop"), ("loss", "CrossEntropyLoss")])
def test_names_of_torch_and_torchvision_are_listed_compactly(ray_classy, kind, name):
    head, _, tail = ray_classy("list", kind).out.partition("also, from torch or torchvision")
    assert name not in head
    assert name in tail


def test_one_component(ray_classy):
    lines = ray_classy("list", "transform", "RandomResizedCrop").out.splitlines()
    assert lines[0] == "RandomResizedCrop"
    assert lines[1].split() == ["size", "an", "integer", "or", "a", "list", "of", "integers;", "required"]


@pytest.mark.parametrize(
    "kind", ["dataset", "head", "hook", "loss", "meter", "model", "param_scheduler", "scheduler", "search_alg", "task"]
)
def test_every_kind_can_be_listed(ray_classy, kind):
    assert ray_classy("list", kind).code == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["losses"], "there is no kind 'losses': did you mean 'loss'? The kinds are dataset, head"),
        (["model", "resnut5"], "unknown model: no network has 'resnut5' in its name: did you mean"),
        (["model", "resnut5", "--pretrained"], "no network with pretrained weights has 'resnut5' in its name"),
        (["loss", "--pretrained"], "--pretrained is for networks"),
        (["model", "mlp", "x"], "list takes a kind and a name"),
    ],
)
def test_an_unknown_word_names_the_nearest(ray_classy, words, told):
    outcome = ray_classy("list", *words)
    assert outcome.code == 2
    assert told in outcome.err


def test_a_reader_that_has_seen_enough_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "ray_classy", "list", "transform"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(writing)
    assert done.returncode == 0 and done.stderr == ""


def test_networks_are_found_by_a_part_of_their_name(ray_classy):
    text = ray_classy("list", "model", "resnet1").out
    for part in ("  resnet101, resnet152, resnet18", "{name: torchvision, model: NAME}", "{name: timm, model: NAME}"):
        assert part in text


def test_networks_are_found_by_a_shell_pattern(ray_classy):
    lines = ray_classy("list", "model", "squeezenet1_[01]").out.splitlines()
    assert lines == ["torchvision, {name: torchvision, model: NAME}", "  squeezenet1_0, squeezenet1_1"]


def test_a_network_is_described(ray_classy):
    text = ray_classy("list", "model", "squeezenet1_1").out
    for part in ("options of squeezenet1_1: dropout", "weights: DEFAULT, IMAGENET1K_V1", "images: 224 x 224, bilinear"):
        assert part in text


def test_networks_with_pretrained_weights(ray_classy):
    text = ray_classy("list", "model", "squeezenet1_1", "--pretrained").out
    assert "squeezenet1_1  IMAGENET1K_V1 (DEFAULT): 1.2 M parameters, 58.2 % top-1 on ImageNet" in text


def test_without_timm_the_command_that_installs_it_is_named(ray_classy, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "timm is not installed: pip install 'ray_classy[timm]'" in ray_classy("list", "model", "squeezenet").out
