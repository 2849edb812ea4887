import json
import time

import pytest
import torch

from ray_classy.dataset import device_batches
from ray_classy.errors import TaskError
from ray_classy.profiling.measure import profile_steps
from ray_classy.profiling.stopwatch import PARTS, Stopwatch, stopwatch_on
from tests.helpers import RecordingHook, make_task
from tests.tasks.images import image_task


class Slow(RecordingHook):
    def on_step(self, task):
        time.sleep(0.004)


def slow_rows(sample):
    time.sleep(0.001)
    return sample


def test_the_time_of_a_step_is_divided_among_its_parts(tmp_path):
    trace = tmp_path / "t.json"
    found = profile_steps(make_task(batch=4, hooks=[Slow()], transform=slow_rows), 6, 2, str(trace))
    assert set(found.parts) == set(PARTS) and found.rows == 4 and found.device == "cpu" and found.busy is None
    assert found.parts["hooks"] >= 0.004 and found.parts["data"] >= 0.004 and found.parts["backward"] > 0
    assert sum(found.parts.values()) == pytest.approx(found.seconds, rel=0.5) and found.seconds >= 0.008
    names = {event.get("name") for event in json.loads(trace.read_text())["traceEvents"]}
    assert {"forward", "backward", "optimizer", "hooks", "data"} <= names
    assert found.operations and found.operations[0].seconds >= found.operations[-1].seconds > 0


def test_a_task_is_left_as_it_was():
    task = make_task(hooks=[RecordingHook()])
    task.prepare()
    task.on_phase_start()
    task.step()
    names, batches, copy = set(vars(task)), task.data_iterator.batches, device_batches.recursive_copy_to_device
    with stopwatch_on(task, Stopwatch()):
        task.step()
        assert task.data_iterator.batches is not batches
    assert set(vars(task)) == names and task.data_iterator.batches is batches and "on_step" not in vars(task.hooks[0])
    assert device_batches.recursive_copy_to_device is copy


def test_the_time_within_a_part_counts_once():
    watch = Stopwatch()
    with watch.counting("data"), watch.counting("transfer"):
        time.sleep(0.01)
    assert watch.seconds["transfer"] >= 0.01 > watch.seconds["data"]


def test_steps_computed_in_parts_and_mixed_precision_are_measured_too():
    task = image_task(batch=8).set_batch(3).set_amp_args({"amp_type": "pytorch", "dtype": "bfloat16"})
    assert profile_steps(task, 3, 1).seconds > 0


def test_what_cannot_be_measured():
    with pytest.raises(TaskError, match="single step"):
        profile_steps(make_task(train=4, batch=4), 1, 1)
    with pytest.raises(TaskError, match="train steps"):
        profile_steps(make_task().set_test_only(True))
    assert not torch.is_inference_mode_enabled()
