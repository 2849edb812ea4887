import pytest
import torch
from PIL import Image
from torch import nn

from ray_classy.errors import ComponentError
from ray_classy.hub import ClassyHubInterface
from ray_classy.models import ClassyModel
from tests.helpers import make_task


@pytest.fixture
def images(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "1.png")
    return tmp_path


def small(sample):
    return {**sample, "input": torch.ones(3)}


def test_a_module_becomes_a_model_whose_predictions_are_its_outputs():
    module = nn.Linear(3, 2)
    hub = ClassyHubInterface.from_model(module)
    assert isinstance(hub.model, ClassyModel) and hub.task is None
    assert torch.equal(hub.predict({"input": torch.ones(2, 3)}), module(torch.ones(2, 3)))


def test_the_model_of_a_task_is_used():
    task = make_task()
    assert ClassyHubInterface.from_task(task).model is task.base_model


def test_features_are_squeezed():
    assert ClassyHubInterface.from_model(nn.Conv2d(3, 2, 1)).extract_features(torch.ones(4, 3, 1, 1)).shape == (4, 2)


def test_evaluation_switches_gradients_off_until_training():
    hub = ClassyHubInterface.from_model(nn.Linear(3, 2))
    try:
        hub.eval()
        assert not torch.is_grad_enabled() and not hub.model.training
    finally:
        hub.train()
    assert torch.is_grad_enabled() and hub.model.training


def test_batches_of_images_come_from_a_folder_or_a_list(images):
    hub = ClassyHubInterface.from_model(nn.Linear(3, 2))
    for given in ({"image_folder": str(images)}, {"image_files": [str(images / "cat" / "1.png")] * 2}):
        dataset = hub.create_image_dataset(2, False, small, **given)
        assert next(hub.get_data_iterator(dataset))["input"].shape == (2, 3)


def test_without_a_transform_images_are_those_of_imagenet(images):
    hub = ClassyHubInterface.from_model(nn.Linear(3, 2))
    assert hub.create_image_dataset(image_folder=str(images), phase_type="test")[0]["input"].shape == (3, 224, 224)


def test_the_transform_of_the_tasks_phase_is_taken(images):
    task = make_task()
    task.datasets["test"].transform = small
    dataset = ClassyHubInterface.from_task(task).create_image_dataset(image_folder=str(images), phase_type="test")
    assert dataset[0]["input"].shape == (3,)


@pytest.mark.parametrize("given", [{}, {"task": make_task(), "model": nn.Linear(1, 1)}])
def test_either_a_task_or_a_model_is_needed(given):
    with pytest.raises(ComponentError, match="either"):
        ClassyHubInterface(**given)
