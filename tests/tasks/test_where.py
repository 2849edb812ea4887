import pytest

from ray_classy.optim.param_scheduler import ClassyParamScheduler
from tests.helpers import RecordingHook, make_task, train


class _Positions(ClassyParamScheduler):
    """Notes where it is evaluated."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __call__(self, where):
        self.seen.append(where)
        return 0.1


def test_where_of_each_update_is_below_one():
    positions = _Positions()
    train(make_task(train=12, epochs=2).set_optimizer_schedulers({"lr": positions}))
    assert positions.seen == [0.0, 0.0, *(pytest.approx(step / 6) for step in range(1, 6))]


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
