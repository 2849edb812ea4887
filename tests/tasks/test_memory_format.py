import pytest
import torch

from ray_classy.errors import ComponentError
from ray_classy.tasks import ClassificationTask
from ray_classy.tasks.memory_format import reorder, reordered
from ray_classy.trainer import LocalTrainer
from tests.helpers import RecordingHook, make_task, train, weights
from tests.tasks.images import image_task


def test_inputs_and_weights_of_convolutions_have_their_channels_last():
    last = RecordingHook(lambda task: task.last_batch and task.last_batch.sample["input"].is_contiguous())
    task = train(image_task(hooks=[last]).set_memory_format("channels_last"))
    assert task.base_model.model[1].weight.is_contiguous(memory_format=torch.channels_last)
    assert not task.base_model.model[1].weight.is_contiguous() and set(last.seen("on_step")) == {False}
    for name, value in weights(train(image_task())).items():
        torch.testing.assert_close(weights(task)[name], value)


def test_clips_and_parameters_stay_the_same_objects():
    model = torch.nn.Conv3d(2, 3, 3)
    parameter, before = model.weight, model.weight.detach().clone()
    reorder(model, "channels_last")
    assert model.weight is parameter and torch.equal(parameter, before)
    assert parameter.is_contiguous(memory_format=torch.channels_last_3d)
    clip = torch.zeros(2, 2, 4, 4, 4)
    assert reordered(clip, "channels_last").is_contiguous(memory_format=torch.channels_last_3d)
    assert reordered("text", "channels_last") == "text"


def test_a_run_resumes_with_either_format(tmp_path):
    run = LocalTrainer(str(tmp_path), "r").train(image_task(epochs=1).set_memory_format("channels_last"))
    resumed = image_task(epochs=2)
    LocalTrainer(resume=run.path).train(resumed)
    assert resumed.base_model.model[1].weight.is_contiguous()
    for name, value in weights(train(image_task(epochs=2))).items():
        torch.testing.assert_close(weights(resumed)[name], value)


def test_an_automatic_choice_is_kept_in_the_checkpoint_and_used_again(tmp_path, monkeypatch):
    task = image_task(epochs=1).set_memory_format("auto")
    run = LocalTrainer(str(tmp_path), "r").train(task)
    found = task.device_setup.chosen
    assert found.memory_format in ("contiguous", "channels_last") and found.tried_on["input"] == [3, 8, 8]
    monkeypatch.setattr("ray_classy.tasks.probes._faster_format", None)  # a second trial would call it
    resumed = image_task(epochs=2).set_memory_format("auto")
    LocalTrainer(resume=run.path).train(resumed)
    assert resumed.device_setup.chosen == found


def test_a_trial_leaves_the_task_as_it_was():
    tried, plain = image_task(dropout=0.5).set_memory_format("auto"), image_task(dropout=0.5)
    tried.prepare(), plain.prepare()
    for name, value in weights(plain).items():
        assert torch.equal(weights(tried)[name], value)
    assert torch.equal(torch.rand(3), torch.rand(3)) is False and all(
        p.grad is None for p in tried.base_model.parameters()
    )


def test_without_convolutions_there_is_nothing_to_try():
    assert train(make_task().set_memory_format("auto")).device_setup.chosen is None


def test_an_unknown_format():
    with pytest.raises(ComponentError, match="memory_format must be 'auto', 'channels_last' or 'contiguous'"):
        ClassificationTask().set_memory_format("nhwc")
