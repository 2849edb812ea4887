import pytest
import torch
from torch import nn

from ray_classy.checkpoint import load_checkpoint
from ray_classy.dataset import build_dataset
from ray_classy.errors import ComponentError, TaskError
from ray_classy.hooks import WhiteningHook, build_hook
from ray_classy.models import build_model
from ray_classy.trainer import LocalTrainer
from tests.helpers import RecordingHook, make_task, run_ranks, train

FLOATS = [{"name": "apply_transform_to_key", "key": "input", "transforms": [{"name": "ToTensor"}]}]


def task(epochs=1, watch=lambda task: None, rows=8, **options):
    made = make_task(epochs=epochs, hooks=[WhiteningHook(6, **options), RecordingHook(watch)])
    images = {"name": "synthetic_image", "num_classes": 4, "crop_size": 8, "num_samples": rows, "class_ratio": 0.5}
    images |= {"seed": 0, "batchsize_per_replica": 4, "use_shuffle": True, "transforms": FLOATS}
    for kind in ("train", "test"):
        made.set_dataset(build_dataset(images), kind)
    head = {"name": "fully_connected", "unique_id": "c", "fork_block": "features", "in_plane": 4, "num_classes": 4}
    torch.manual_seed(0)
    return made.set_model(build_model({"name": "airbench", "widths": [4], "heads": [head]}))


def layer_of(made):
    return made.base_model.whitening


def test_the_filters_are_those_of_the_first_training_images():
    made = train(task())
    layer, images = layer_of(made), torch.stack([made.datasets["train"][row]["input"] for row in range(6)])
    expected = build_model({"name": "airbench", "widths": [4]}).whitening
    expected.whiten(*expected.moments(images))
    assert torch.equal(layer.weight, expected.weight) and int(layer.num_patches) == 6 * 49
    assert layer.bias.abs().sum() > 0


def test_the_bias_is_trained_in_the_first_epochs_only():
    made = train(task(epochs=3, watch=lambda task: layer_of(task).bias.detach().clone(), bias_epochs=2))
    first, tested, second, _, third, _ = made.hooks[1].seen("on_phase_end")
    assert not torch.equal(first, second) and torch.equal(second, third) and torch.equal(first, tested)


def test_a_resumed_run_keeps_its_filters_and_equals_an_uninterrupted_one(tmp_path):
    whole = LocalTrainer(str(tmp_path), "whole").train(task(epochs=2, bias_epochs=1))
    LocalTrainer(str(tmp_path), "part").train(task(epochs=1, bias_epochs=1))
    again = LocalTrainer(resume=str(tmp_path / "part")).train(task(epochs=2, bias_epochs=1))
    one, two = (load_checkpoint(run.checkpoint)["classy_state_dict"]["base_model"]["model"] for run in (whole, again))
    assert all(torch.equal(one["trunk"][name], two["trunk"][name]) for name in one["trunk"])


def on_rank():
    made = train(task())
    return layer_of(made).weight.tolist(), [p.tolist() for p in made.base_model.parameters()]


@pytest.mark.full
def test_all_ranks_have_the_filters_of_one():
    one, other = run_ranks(2, on_rank)
    assert one == other and one[0] == layer_of(train(task())).weight.tolist()


def test_a_model_without_a_whitening_convolution_is_refused():
    with pytest.raises(TaskError, match="needs a model with a whitening convolution"):
        make_task(hooks=[WhiteningHook()]).preflight()
    with pytest.raises(TaskError, match="images of 3 channels"):
        made = task()
        made.set_dataset(make_task().datasets["train"], "train")
        train(made.set_model(made.base_model).set_loss(nn.CrossEntropyLoss()))


@pytest.mark.parametrize("options", [{"num_images": 0}, {"bias_epochs": -1}])
def test_impossible_arguments_are_refused(options):
    with pytest.raises(ComponentError):
        build_hook({"name": "whitening", **options})
