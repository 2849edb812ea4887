"""Outputs in test phases may be averages over views of the images."""

import pytest
import torch
from torch import nn

from ray_classy.dataset import build_dataset
from ray_classy.errors import ComponentError, RayClassyError
from ray_classy.models import ClassyModel
from ray_classy.tasks.averaged_views import AveragedViews
from tests.helpers import RecordingHook, make_task, train

IMAGES = torch.rand(2, 3, 5, 6, generator=torch.Generator().manual_seed(0))
WEIGHTS = torch.rand(3, 5, 6, generator=torch.Generator().manual_seed(1))


def score(sample):
    return (sample["input"] * WEIGHTS).sum((1, 2, 3))


def averaged(run=score, images=IMAGES, **options):
    return AveragedViews(**options).output(run, {"input": images})


def test_a_flip_averages_with_the_mirror_image():
    assert torch.allclose(averaged(flip=True), (averaged() + score({"input": IMAGES.flip(-1)})) / 2)


def test_a_shift_has_half_of_the_weight():
    padded = nn.functional.pad(IMAGES, (1, 1, 1, 1), mode="reflect")
    others = [score({"input": padded[..., at : at + 5, at : at + 6]}) for at in (0, 2)]
    assert torch.allclose(averaged(shift=1), averaged() / 2 + sum(others) / 4)


def test_both_average_six_views():
    shifts, mirrored = averaged(shift=1), averaged(shift=1, images=IMAGES.flip(-1))
    assert averaged(shift=1, flip=True).shape == (2,) and not torch.equal(shifts, mirrored)


def test_outputs_of_several_heads_are_averaged_each():
    outputs = averaged(lambda sample: {"a": score(sample), "b": [score(sample).bfloat16()]}, flip=True)
    assert torch.equal(outputs["a"], averaged(flip=True)) and outputs["b"][0].dtype == torch.float32


def image_task(**options):
    task = make_task(hooks=[RecordingHook(lambda task: task.last_batch and task.last_batch.output)])
    for kind in ("train", "test"):
        images = {"name": "synthetic_image", "num_classes": 4, "crop_size": 6, "num_samples": 4, "class_ratio": 0.5}
        images |= {"seed": 0, "batchsize_per_replica": 4, "use_shuffle": False}
        task.set_dataset(build_dataset({**images, "transforms": [*FLOATS]}), kind)
    task.set_model(ClassyModel.from_model(nn.Sequential(nn.Flatten(), nn.Linear(108, 4)), input_shape=(3, 6, 6)))
    return task.set_test_time_augmentation(**options)


FLOATS = [{"name": "apply_transform_to_key", "key": "input", "transforms": [{"name": "ToTensor"}]}]


def test_only_test_phases_see_the_average():
    task = image_task(flip=True).set_optimizer_schedulers({})
    task.optimizer.options_view.lr = 0.0
    assert task.preflight()["test"].outputs == 4
    train(task)
    trained, tested = task.hooks[0].seen("on_step")
    mirrored = task.base_model(task.datasets["test"][0]["input"].flip(-1)[None])
    assert trained.shape == tested.shape == (4, 4) and not torch.allclose(trained, tested)
    assert torch.allclose(tested[0], (task.base_model(task.datasets["test"][0]["input"][None]) + mirrored)[0] / 2)


def test_inputs_that_are_not_images_are_refused_before_the_run():
    with pytest.raises(RayClassyError, match="flips and shifts inputs of shape"):
        make_task().set_test_time_augmentation(flip=True).preflight()
    with pytest.raises(RayClassyError, match="6 x 6 pixels cannot be shifted by 6"):
        image_task(shift=6).preflight()


@pytest.mark.parametrize("options", [{"flip": 1}, {"shift": -1}, {"shift": True}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ComponentError, match="test_time_augmentation"):
        AveragedViews(**options)
