import pytest
import torch

from ray_classy.errors import ComponentError, RayClassyError
from ray_classy.optim.param_scheduler import build_param_scheduler
from ray_classy.tasks.image_size import resized
from ray_classy.trainer import LocalTrainer
from tests.helpers import RecordingHook, equal_weights, train, weights
from tests.tasks.images import image_task

GROWS = {"name": "linear", "start_value": 16, "end_value": 64}


def grown(epochs, **options):
    sizes = RecordingHook(lambda task: task.last_batch and task.last_batch.sample["input"].shape[-1])
    task = image_task(epochs=epochs, hooks=[sizes], **options).set_image_size(build_param_scheduler(GROWS))
    for dataset in task.datasets.values():
        dataset.dataset.inputs = torch.randn(len(dataset), 3, 48, 48, generator=torch.Generator().manual_seed(3))
    return task, sizes


def test_images_grow_from_phase_to_phase_and_test_images_have_their_own_size():
    task, sizes = grown(4)
    train(task)
    seen = sizes.seen("on_step")
    assert [seen[first] for first in (0, 4, 8, 12)] == [16, 32, 32, 48]
    assert {seen[3], seen[7], seen[15]} == {48}


def test_a_resumed_run_has_the_sizes_of_an_uninterrupted_one(tmp_path):
    class Stops(RecordingHook):
        def on_step(self, task):
            if task.train_phase_idx == 2 and task.steps_in_phase == 2:
                raise KeyboardInterrupt

    task = grown(4)[0].set_checkpoint_every(steps=1)
    with pytest.raises(KeyboardInterrupt):
        LocalTrainer(str(tmp_path), "r").train(task.set_hooks([Stops()]))
    resumed = grown(4)[0]
    LocalTrainer(resume=str(tmp_path / "r")).train(resumed)
    assert equal_weights(weights(resumed), weights(train(grown(4)[0])))


@pytest.mark.parametrize(("shape", "size", "new"), [((2, 3, 20, 40), 32, (16, 32)), ((1, 3, 4, 40, 40), 16, (16, 16))])
def test_the_longer_side_is_given_and_clips_are_images_too(shape, size, new):
    small = resized(torch.ones(shape), size)
    assert small.shape == (*shape[:-2], *new) and torch.allclose(small, torch.ones_like(small))


def test_what_is_no_image_is_left_alone():
    vectors = torch.ones(2, 3)
    assert resized(vectors, 16) is vectors and resized({"a": 1}, 16) == {"a": 1}


def test_what_is_no_schedule_and_what_gives_no_size():
    with pytest.raises(ComponentError, match="image_size must be a schedule"):
        image_task().set_image_size(128)
    with pytest.raises(RayClassyError, match="image_size is 0"):
        image_task().set_image_size(build_param_scheduler({"name": "constant", "value": 0})).preflight()
