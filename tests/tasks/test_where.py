import pytest

from ray_classy.optim.param_scheduler import ClassyParamScheduler, CompositeParamScheduler, UpdateInterval
from tests.helpers import RecordingHook, make_task, train


class _Positions(ClassyParamScheduler):
    """Notes where it is evaluated."""

    def __init__(self, interval=UpdateInterval.STEP):
        super().__init__(interval)
        self.seen = []

    def __call__(self, where):
        self.seen.append(pytest.approx(where))
        return 0.1


SIXTHS = [step / 6 for step in range(6)]
PREDECESSORS = [  # recorded with classy-vision 0.7.0: 12 rows in batches of 4
    ("epoch", {}, [0, 1 / 2]),
    ("epoch", {"test": None}, [0, 1 / 2]),
    ("epoch", {"parts": 2}, [0, 1 / 4, 2 / 4, 3 / 4]),
    ("epoch", {"parts": 2, "epochs": 1.5}, [0, 1 / 3, 2 / 3]),
    ("epoch", {"accumulated": 12}, [0, 1 / 2]),
    ("step", {}, [0, *SIXTHS]),
    ("step", {"epochs": 3, "period": 2}, [0, *(step / 9 for step in range(9))]),
    ("step", {"accumulated": 12}, [0, 2 / 6, 5 / 6]),
]


@pytest.mark.parametrize(("interval", "options", "expected"), PREDECESSORS)
def test_schedules_are_evaluated_as_often_and_where_the_predecessor_does(interval, options, expected):
    positions = _Positions(UpdateInterval(interval))
    task = make_task(train=12, test=options.get("test", 4), epochs=options.get("epochs", 2))
    task.datasets["train"].phases_per_epoch = options.get("parts", 1)
    task.set_dataset(task.datasets["train"], "train").set_test_phase_period(options.get("period", 1))
    task.set_simulated_global_batchsize(options.get("accumulated")).set_optimizer_schedulers({"lr": positions})
    task.preflight()
    train(task)
    assert positions.seen == expected


def test_parts_of_a_composite_are_not_evaluated_before_the_run():
    positions = _Positions()
    task = make_task().set_optimizer_schedulers({"lr": CompositeParamScheduler([positions], [1.0])})
    task.preflight()
    assert positions.seen == []


def test_where_is_one_after_the_last_train_step():
    hook = RecordingHook(lambda task: task.where)
    train(make_task(train=12, test=None, epochs=2, hooks=[hook]))
    assert hook.seen("on_step") == [pytest.approx(step / 6) for step in range(1, 7)]
    assert hook.seen("on_step")[-1] == 1.0 and hook.seen("on_end") == [1.0]


def test_where_rests_in_test_phases():
    hook = RecordingHook(lambda task: (task.phase_type, task.where))
    train(make_task(train=8, test=10, epochs=2, hooks=[hook]))
    tested = [where for kind, where in hook.seen("on_step") if kind == "test"]
    assert tested == [0.5] * 3 + [1.0] * 3


def test_where_of_a_test_only_run_is_the_part_evaluated():
    hook = RecordingHook(lambda task: task.where)
    train(make_task(test=8, epochs=2, hooks=[hook]).set_test_only(True))
    assert hook.seen("on_step") == [0.25, 0.5, 0.75, 1.0] and hook.seen("on_phase_start") == [0.0, 0.5]


def test_num_updates_adds_the_nominal_batch():
    assert train(make_task(train=10, batch=4, epochs=2)).num_updates == 2 * 3 * 4


def test_evaluation_leaves_num_updates():
    assert train(make_task(test=8).set_test_only(True)).num_updates == 0


def test_where_goes_on_after_a_restart():
    first = train(make_task(epochs=1))
    second = make_task(epochs=2)._set_checkpoint_dict({"classy_state_dict": first.get_classy_state()})
    second.prepare()
    assert second.where == 0.5 and second.train_phase_idx == 0


def test_number_of_batches():
    hook = RecordingHook(lambda task: task.data_iterator and task.num_batches_per_phase)
    train(make_task(train=10, test=5, batch=4, hooks=[hook]))
    assert hook.seen("on_phase_start") == [3, 2]
