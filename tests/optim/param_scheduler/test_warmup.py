import pytest

from ray_classy.config import check_config
from ray_classy.errors import ComponentError, ConfigError, TaskError
from ray_classy.hooks import ClassyHook
from ray_classy.optim.param_scheduler import (
    PARAM_SCHEDULER_REGISTRY,
    CosineParamScheduler,
    TrainingLength,
    build_param_scheduler,
)
from ray_classy.trainer import LocalTrainer
from tests.helpers import make_task, train
from tests.trainer.test_row_resume import Stopped, interrupted

COSINE = {"name": "cosine", "start_value": 0.4, "end_value": 0.01}


def rates_of(length, config):
    """The values at each update of a training."""
    scheduler = build_param_scheduler(config)
    scheduler.set_length(length)
    phases = len(length.steps)
    at = [
        (phase + min(first + length.period, steps) / steps - 1 / steps) / phases  # of the last step of each update
        for phase, steps in enumerate(length.steps)
        for first in range(0, steps, length.period)
    ]
    return [scheduler(where) for where in at]


@pytest.mark.parametrize(
    "length", [TrainingLength((10, 10, 10)), TrainingLength((20, 20, 20), 2), TrainingLength((7, 8, 15))]
)
def test_the_values_at_each_update_are_exact(length):
    rates = rates_of(length, {"name": "warmup", "steps": 8, "start_value": 0.08, "then": COSINE})
    assert rates[:9] == pytest.approx([0.08 + 0.04 * k for k in range(9)], abs=1e-12)
    begin = length.start_of(8)
    cosine = CosineParamScheduler(0.4, 0.01)
    expected = [cosine((length.start_of(k) - begin) / (1 - begin)) for k in range(8, 30)]
    assert rates[8:] == pytest.approx(expected, abs=1e-12) and rates[8] == 0.4


def test_accumulated_steps_are_one_update():
    config = {"name": "warmup", "steps": 5, "then": COSINE}
    assert rates_of(TrainingLength((9, 9), 3), config) == pytest.approx(rates_of(TrainingLength((3, 3)), config))


@pytest.mark.parametrize("parts", [1, 2])
def test_epochs_are_passes_over_the_dataset(parts):
    config = {"name": "warmup", "epochs": 1.5, "then": {"name": "constant", "value": 3.0}}
    rates = rates_of(TrainingLength((4 // parts,) * (3 * parts), 1, parts), config)
    assert rates == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5] + [3.0] * 6)


def test_a_fixed_schedule_stays_where_it_is():
    steps = {"name": "multistep", "values": [1.0, 0.1], "milestones": [2]}
    config = {"name": "warmup", "epochs": 1, "then": steps, "num_epochs": 3}
    length = TrainingLength((4, 4, 4))
    assert rates_of(length, {**config, "interval_scaling": "fixed"}) == [0, 0.25, 0.5, 0.75] + [1.0] * 4 + [0.1] * 4
    assert rates_of(length, config) == [0, 0.25, 0.5, 0.75] + [1.0] * 6 + [0.1] * 2


def test_no_warmup_is_the_schedule_itself():
    length = TrainingLength((4,))
    assert rates_of(length, {"name": "warmup", "steps": 0, "then": COSINE}) == rates_of(length, COSINE)


class Rates(ClassyHook):
    """The learning rate of each update, and a stop after one of them."""

    on_start = on_phase_start = on_phase_end = on_end = ClassyHook._noop

    def __init__(self, stop=None):
        super().__init__()
        self.stop, self.seen = stop, []

    def on_step(self, task):
        if task.train and task.steps_in_phase % task.optimizer_period == 0:
            self.seen.append(task.optimizer.options_view.lr)
        if task.num_train_steps == self.stop:
            raise Stopped


def scheduled(hook, epochs=2, **options):
    schedule = {"name": "warmup", "epochs": 1, "then": COSINE}
    task = make_task(train=24, test=None, epochs=epochs, hooks=[hook], schedule=schedule, **options)
    return task.set_checkpoint_every(steps=1)


def test_a_task_tells_how_long_its_training_is():
    hook = Rates()
    train(scheduled(hook))
    assert hook.seen[:7] == pytest.approx([0.4 * k / 6 for k in range(7)])
    longer = Rates()
    train(scheduled(longer).set_num_epochs(3))
    assert longer.seen[:7] == pytest.approx(hook.seen[:7]) and len(longer.seen) == 18
    accumulated = Rates()
    train(scheduled(accumulated).set_simulated_global_batchsize(8))
    assert accumulated.seen[:4] == pytest.approx([0.4 * k / 3 for k in range(4)])


def test_a_resumed_run_has_the_values_of_one_that_was_not_interrupted(tmp_path):
    whole, before, after = Rates(), Rates(stop=4), Rates()
    train(scheduled(whole))
    interrupted(str(tmp_path), scheduled(before))
    LocalTrainer(resume=str(tmp_path / "r")).train(scheduled(after))
    assert before.seen[:3] + after.seen == whole.seen


def test_a_warmup_that_is_too_long_is_a_warning(caplog):
    scheduler = build_param_scheduler({"name": "warmup", "steps": 8, "then": COSINE})
    scheduler.set_length(TrainingLength((4,)))
    assert "the warm-up of 8 steps is longer than the training, of 4 steps in 1 epochs" in caplog.text
    assert scheduler(0.75) == pytest.approx(0.4 * 3 / 8)


def test_without_a_task_the_length_must_be_given():
    scheduler = build_param_scheduler({"name": "warmup", "steps": 8, "then": COSINE})
    assert scheduler(0.0) == 0.0
    with pytest.raises(TaskError, match="needs the length of the training"):
        scheduler(0.5)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({}, "either steps .* or epochs"),
        ({"steps": 1, "epochs": 1}, "either steps .* or epochs"),
        ({"steps": -1}, "steps of a warmup must be at least 0"),
        ({"steps": 1.5}, "steps of a warmup must be an integer"),
        ({"epochs": 1, "start_value": "low"}, "start_value of a warmup must be a number"),
        ({"epochs": 1, "then": None}, "needs then"),
        ({"epochs": 1, "then": {"name": "warmup", "steps": 1, "then": COSINE}}, "cannot follow a warmup"),
        ({"epochs": 1, "interval_scaling": "both"}, "interval_scaling must be"),
    ],
)
def test_mistakes_are_named(wrong, message):
    with pytest.raises(ComponentError, match=message):
        build_param_scheduler({"name": "warmup", "then": COSINE, **wrong})


def test_a_config_is_checked_down_to_the_schedule_after_it():
    with pytest.raises(ConfigError, match=r"then\.end_valu: unknown key; did you mean 'end_value'"):
        wrong = {"name": "warmup", "steps": 5, "then": {"name": "cosine", "start_value": 1, "end_valu": 0}}
        check_config(wrong, PARAM_SCHEDULER_REGISTRY)


def test_a_part_of_a_composite_cannot_be_one():
    part = {"name": "warmup", "steps": 5, "then": COSINE}
    with pytest.raises(ComponentError, match="cannot be a part of a composite"):
        build_param_scheduler({"name": "composite", "schedulers": [part], "lengths": [1.0]})
