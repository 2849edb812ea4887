"""A model that was exported gives the outputs of the model, and says what it needs."""

import dataclasses
import io
import json
import zipfile

import pytest
import torch
from torch import nn

from ray_classy.errors import CheckpointError, ComponentError, UnavailableError
from ray_classy.inference.export import export_model
from ray_classy.inference.trained import read_trained
from ray_classy.models import ClassyModel


@pytest.fixture(scope="module")
def trained(result):
    return read_trained(result.path)


@pytest.fixture(scope="module")
def program(trained):
    return export_model(trained)


def test_a_program_gives_the_outputs_of_the_model_for_any_number_of_rows(program, model):
    loaded = torch.export.load(io.BytesIO(program.content)).module()
    for rows in (1, 2, 7):
        inputs = torch.rand(rows, *program.input_shape)
        assert torch.allclose(loaded(inputs), model.model.cpu()(inputs), atol=1e-5)


def test_it_is_compared_with_the_model_on_rows_of_the_test_data(program):
    assert program.lacking == "" and program.rows == 4 and program.difference < 1e-5


def test_classes_and_preprocessing_are_in_the_file(program):
    facts = {"ray_classy.json": ""}
    torch.export.load(io.BytesIO(program.content), extra_files=facts)
    found = json.loads(facts["ray_classy.json"])
    assert found["classes"] == [str(number) for number in range(10)]
    assert found["activation"] == "softmax" and found["input_shape"] == ["rows", *program.input_shape]


def test_a_program_holds_no_pickles(program):
    archive = zipfile.ZipFile(io.BytesIO(program.content))
    for name in archive.namelist():
        data = archive.read(name)
        assert not data.startswith((b"PK", b"\x80\x02", b"\x80\x04")), name


def test_weights_are_those_of_the_model(trained, model):
    from safetensors.torch import load

    made = export_model(trained, "safetensors")
    state = model.model.cpu().state_dict()
    assert made.difference == 0
    assert all(torch.equal(value, state[name]) for name, value in load(made.content).items())


def test_another_format_is_refused(trained):
    with pytest.raises(ComponentError, match="pt2, onnx, safetensors or timm, not 'tflite'"):
        export_model(trained, "tflite")


class Two(nn.Module):
    def forward(self, x):
        return {"one": x.flatten(1)[:, :10], "two": x.flatten(1)[:, 10:20]}


@pytest.mark.parametrize("form", ["pt2", "safetensors"])
def test_a_model_of_several_outputs_is_refused(trained, monkeypatch, form):
    monkeypatch.setattr(type(trained), "model", lambda self: ClassyModel.from_model(Two()).eval())
    with pytest.raises(CheckpointError, match="a model with one output is exported, and this one returns a dict"):
        export_model(trained, form)


def test_a_network_that_is_not_of_timm_is_named(trained):
    with pytest.raises(CheckpointError, match=r"for networks of timm .* the model is 'resnet'"):
        export_model(trained, "timm")


def test_a_missing_package_is_named_before_anything_is_read(trained, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(type(trained), "model", None)
    with pytest.raises(UnavailableError, match=r"onnx is not installed: pip install 'ray_classy\[export\]'"):
        export_model(trained, "onnx")


def test_why_the_test_data_was_not_used_is_said(trained):
    lost = {**trained.config, "dataset": {"train": trained.config["dataset"]["train"]}}
    made = export_model(dataclasses.replace(trained, config=lost))
    assert "has no test dataset" in made.lacking and made.difference < 1e-5


class Undecided(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :10] if x.sum() > 0 else x.flatten(1)[:, 10:20]


def test_a_model_that_cannot_be_traced_is_named(trained, monkeypatch):
    monkeypatch.setattr(type(trained), "model", lambda self: ClassyModel.from_model(Undecided()).eval())
    with pytest.raises(CheckpointError, match=r"torch\.export cannot take the model: .*data-dependent"):
        export_model(trained)


def test_any_module_is_exported(trained, monkeypatch):
    module = nn.Sequential(nn.Flatten(), nn.LazyLinear(10))
    module(torch.rand(2, 3, 8, 8))
    monkeypatch.setattr(type(trained), "model", lambda self: ClassyModel.from_model(module).eval())
    assert export_model(trained).difference < 1e-5
