"""A model that was exported gives the outputs of the model, and says what it needs."""

import dataclasses
import io
import json
import zipfile

import pytest
import torch
from torch import nn

from ray_classy import load_model
from ray_classy.dataset.transforms.imagenet import ImagenetConstants
from ray_classy.errors import CheckpointError, ComponentError, UnavailableError
from ray_classy.inference.evaluation import config_for, evaluate
from ray_classy.inference.export import export_model
from ray_classy.inference.load_model import classifier_of
from ray_classy.inference.normalization import Normalization, without_normalization
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


NORMALIZE = {"name": "Normalize", "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}


def with_transforms(trained, *transforms):
    """A run whose test images go through other transforms."""
    wrapped = [{"name": "apply_transform_to_key", "key": "input", "transforms": list(transforms)}]
    dataset = trained.config["dataset"]
    sections = {**dataset, "test": {**dataset["test"], "transforms": wrapped}}
    return dataclasses.replace(trained, config={**trained.config, "dataset": sections})


@pytest.mark.parametrize("form", ["pt2", pytest.param("onnx", marks=pytest.mark.full)])
def test_an_export_that_normalizes_predicts_and_evaluates_as_the_run_does(trained, folder, tmp_path, form):
    normal = with_transforms(trained, {"name": "ToTensor"}, NORMALIZE)
    made = export_model(normal, form, normalize=True)
    (tmp_path / f"r.{form}").write_bytes(made.content)
    files = [str(folder / f"{number:02}.png") for number in range(20)]
    expected = classifier_of(normal, "cpu").predict(files)
    again = load_model(str(tmp_path / f"r.{form}"), "cpu")
    for one, other in zip(again.predict(files), expected, strict=True):
        assert one.label == other.label and one.score == pytest.approx(other.score, abs=1e-5)
    rows = tmp_path / "rows.csv"
    rows.write_text(
        "path,label\n" + "".join(f"{file},{one.label}\n" for file, one in zip(files, expected, strict=True))
    )
    back = read_trained(str(tmp_path / f"r.{form}"))
    assert evaluate(back, config_for(back, str(rows))).only.report.accuracy == 1


def test_what_it_normalizes_is_in_the_record_and_no_transform(trained):
    record = export_model(with_transforms(trained, {"name": "ToTensor"}, NORMALIZE), "pt2", normalize=True).record
    assert record.normalization == Normalization(NORMALIZE["mean"], NORMALIZE["std"])
    assert record.preprocessing.transforms[0]["transforms"] == [{"name": "ToTensor"}]


def test_images_without_normalization_are_named(trained):
    with pytest.raises(CheckpointError, match="do not end with Normalize, so there is nothing to move"):
        export_model(trained, "pt2", normalize=True)
    with pytest.raises(ComponentError, match="normalize goes with pt2 and onnx"):
        export_model(trained, "safetensors", normalize=True)


def test_the_default_transforms_of_images_are_normalized_in_the_model():
    config = {"dataset": {"train": {"name": "image_path"}}}
    left, normalization = without_normalization(config)
    (wrapped,) = left["dataset"]["train"]["transforms"]
    assert wrapped["transforms"] == [{"name": "imagenet_no_augment", "mean": [0.0] * 3, "std": [1.0] * 3}]
    assert normalization.mean == ImagenetConstants.MEAN


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
