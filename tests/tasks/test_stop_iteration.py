"""A StopIteration of the user's code must not end the phase."""

import pytest
from torch import nn

from ray_classy.errors import TaskError
from ray_classy.meters import AccuracyMeter
from tests.helpers import RecordingHook, linear_model, make_task, train


def stop(*_, **__):
    raise StopIteration


class StoppingLoss(nn.CrossEntropyLoss):
    forward = stop


class StoppingMeter(AccuracyMeter):
    update = stop


@pytest.mark.parametrize("train_rows", [8, 0])
@pytest.mark.parametrize("part", ["model", "loss", "meter"])
def test_in_a_part(part, train_rows):
    task = make_task(train=train_rows or None).set_test_only(not train_rows)
    model = linear_model()
    model.register_forward_hook(stop)
    parts = {"model": model, "loss": StoppingLoss(), "meters": [StoppingMeter([1])]}
    name = {"meter": "meters"}.get(part, part)
    getattr(task, f"set_{name}")(parts[name])
    with pytest.raises(TaskError, match=rf"{part} raised StopIteration, which means"):
        train(task)


@pytest.mark.parametrize("point", ["on_start", "on_phase_start", "on_step", "on_phase_end", "on_end"])
def test_in_a_hook(point):
    hook = RecordingHook()
    setattr(hook, point, stop)
    with pytest.raises(TaskError, match=f"the hook RecordingHook raised StopIteration in {point}"):
        train(make_task(hooks=[hook]))


def test_of_the_data_ends_the_phase():
    task = make_task()
    task.prepare()
    task.on_phase_start()
    with pytest.raises(StopIteration):
        for _ in range(7):
            task.train_step()
