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
        (["model", "resnet5"], "unknown model 'resnet5': did you mean"),
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
