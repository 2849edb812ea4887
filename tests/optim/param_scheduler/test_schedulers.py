import math

import pytest

from ray_classy.errors import TaskError
from ray_classy.optim.param_scheduler import build_param_scheduler

POINTS = [index / 97 for index in range(97)]


def build(name, **keys):
    return build_param_scheduler({"name": name, **keys})


@pytest.mark.parametrize("where", POINTS)
def test_curves_follow_their_formulas(where):
    assert build("constant", value=0.3)(where) == 0.3
    assert build("linear", start_value=1.0, end_value=3.0)(where) == pytest.approx(1 + 2 * where)
    cosine = build("cosine", start_value=2.0, end_value=1.0)(where)
    assert cosine == pytest.approx(1 + math.cos(math.pi * where / 2) ** 2)
    assert build("polynomial", base_value=2.0, power=3)(where) == pytest.approx(2 * (1 - where) ** 3)


def test_a_constant_is_undefined_at_the_end():
    with pytest.raises(TaskError, match="not 1"):
        build("constant", value=0.3)(1)


@pytest.mark.parametrize("epochs", [1, 3, 30, 90, 100])
def test_multistep_changes_exactly_at_its_milestones(epochs):
    milestones = sorted({epochs // 3, epochs // 2} - {0})
    scheduler = build("multistep", values=list(range(len(milestones) + 1)), milestones=milestones, num_epochs=epochs)
    for epoch in range(epochs):
        assert scheduler(epoch / epochs) == sum(epoch >= milestone for milestone in milestones)


def test_multistep_without_milestones_has_equal_parts_rounded_up():
    scheduler = build("multistep", values=[1, 2, 3], num_epochs=10)
    assert [scheduler(epoch / 10) for epoch in range(10)] == [1, 1, 1, 1, 2, 2, 2, 2, 3, 3]


def test_multistep_without_a_length_ends_at_its_last_milestone():
    scheduler = build("multistep", values=[1, 2], milestones=[3, 4])
    assert [scheduler(epoch / 4) for epoch in range(4)] == [1, 1, 1, 2]


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 10])
def test_steps_have_equal_parts(parts):
    scheduler = build("step", values=list(range(parts)), num_epochs=90)
    for index in range(parts * 10):
        assert scheduler(index / (parts * 10)) == index // 10


def test_steps_end_with_the_last_value():
    assert build("step", values=[1, 2], num_epochs=90)(math.nextafter(1, 0)) == 2


def test_fixed_gamma_multiplies_after_every_part():
    scheduler = build("step_with_fixed_gamma", base_value=1.0, num_decays=3, gamma=0.1, num_epochs=8)
    values = [scheduler(epoch / 8) for epoch in range(8)]
    assert values == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


LINE = {"name": "linear", "start_value": 0.0, "end_value": 1.0}


def test_a_composite_rescales_its_parts():
    scheduler = build("composite", schedulers=[LINE, LINE], lengths=[0.25, 0.75])
    for where in POINTS:
        expected = where / 0.25 if where < 0.25 else (where - 0.25) / 0.75
        assert scheduler(where) == pytest.approx(expected)


def test_a_fixed_part_of_a_composite_sees_the_whole_of_training():
    scheduler = build(
        "composite", schedulers=[LINE, LINE], lengths=[0.25, 0.75], interval_scaling=["rescaled", "fixed"]
    )
    assert scheduler(0.125) == 0.5
    assert scheduler(0.5) == 0.5


def test_a_composites_part_begins_at_its_boundary():
    parts = [{"name": "constant", "value": value} for value in range(10)]
    scheduler = build("composite", schedulers=parts, lengths=[0.1] * 10)
    assert [scheduler(index / 10) for index in range(10)] == list(range(10))


def test_a_composites_last_part_reaches_the_end():
    parts = [{"name": "constant", "value": value} for value in range(3)]
    scheduler = build("composite", schedulers=parts, lengths=[0.333, 0.333, 0.3335])
    assert scheduler(math.nextafter(1, 0)) == 2


def test_schedules_are_pure():
    scheduler = build("composite", schedulers=[LINE, LINE], lengths=[0.5, 0.5])
    there = [scheduler(where) for where in POINTS]
    assert there == [scheduler(where) for where in reversed(POINTS)][::-1]
