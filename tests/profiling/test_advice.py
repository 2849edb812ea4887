import dataclasses

import pytest

from ray_classy.profiling.advice import advice_for, limit_of
from ray_classy.profiling.measure import StepProfile
from ray_classy.profiling.stopwatch import PARTS
from tests.helpers import make_task
from tests.tasks.images import image_task


def made(busy=None, waits=0.0, waited=0.0, **parts):
    return StepProfile("cpu", 1, 8, 10, 1.0, {name: parts.get(name, 0.0) for name in PARTS}, busy, waits, waited)


MODEL = {"forward": 0.3, "backward": 0.6}


@pytest.mark.parametrize(
    ("profile", "limit", "told"),
    [
        (made(data=0.5, **MODEL), "data", "waiting for data takes 36% of a step"),
        (made(hooks=0.9, **MODEL), "hooks", "the hooks take 50%"),
        (made(optimizer=0.4, **MODEL), "optimizer", "the optimizer"),
        (made(**MODEL), "model", "100% of a step, on the CPU"),
        (made(python=0.6, **MODEL), "python", "a small model"),
        (made(busy=0.4, **MODEL), "python", "the GPU computes in 40% of a step"),
        (made(busy=0.9, **MODEL), "model", "on the GPU"),
        (made(busy=0.5, waits=2, waited=0.3, **MODEL), "waits", "Python waits for the GPU 2 times in a step"),
    ],
)
def test_what_limits_a_training(profile, limit, told):
    what, sentence = limit_of(profile)
    assert what == limit and told in sentence


def overrides(profile, task):
    task.prepare()
    return [one.override.partition("=")[0] for one in advice_for(profile, task)]


def test_the_largest_part_comes_first():
    assert overrides(made(data=2.0, **MODEL), make_task())[0] == "dataset.train.num_workers"
    assert overrides(made(optimizer=0.5, **MODEL), make_task())[0] in ("amp_args", "compile")


def test_only_what_fits_the_device_and_the_model_is_named():
    cpu, gpu = overrides(made(**MODEL), image_task()), overrides(made(busy=0.9, **MODEL), image_task())
    assert "memory_format" in cpu and not {"tf32", "cudnn_benchmark"} & {*cpu}
    assert {"tf32", "cudnn_benchmark", "memory_format"} <= {*gpu}
    assert "memory_format" not in overrides(made(**MODEL), make_task())
    assert "tf32" not in overrides(made(busy=0.9, **MODEL), image_task().set_tf32(True))


def test_what_it_would_gain_at_most():
    task = make_task()
    task.prepare()
    data = advice_for(made(data=0.5, forward=0.5), task)
    assert {one.override.split("=")[0]: one.at_most for one in data}["dataset.train.num_workers"] == pytest.approx(2)
    assert all(dataclasses.asdict(one)["why"] for one in data)
