import pytest

from ray_classy.errors import ComponentError
from ray_classy.hooks import CheckpointHook, LossLrMeterLoggingHook, ProgressBarHook
from ray_classy.tasks import ClassificationTask
from tests.helpers import RecordingHook, make_task, train


def test_five_points_in_order():
    hook = RecordingHook()
    train(make_task(train=8, test=4, batch=4, hooks=[hook]))
    phase = ["on_phase_start", "on_step", "on_step", "on_phase_end"]
    test = ["on_phase_start", "on_step", "on_phase_end"]
    assert [point for point, _ in hook.calls] == ["on_start", *phase, *test, "on_end"]


def test_hooks_are_called_in_their_order():
    order = []

    class Second(RecordingHook):
        pass

    hooks = [RecordingHook(lambda task: order.append("first")), Second(lambda task: order.append("second"))]
    train(make_task(train=4, test=None, hooks=hooks))
    assert order == ["first", "second"] * 5


def test_phase_start_sees_the_new_phase():
    hook = RecordingHook(lambda task: (task.phase_idx, len(task.losses), len(task.data_iterator or ())))
    train(make_task(train=8, test=4, hooks=[hook]))
    assert hook.seen("on_phase_start") == [(0, 0, 2), (1, 0, 1)]


def test_phase_end_sees_losses_and_meters_but_no_batch():
    hook = RecordingHook(lambda task: (len(task.losses), task.meters[0]._total[-1].item(), task.last_batch))
    train(make_task(train=8, test=4, hooks=[hook]))
    assert hook.seen("on_phase_end") == [(2, 8.0, None), (1, 4.0, None)]


def test_step_sees_its_batch():
    hook = RecordingHook(lambda task: task.last_batch and task.last_batch.sample["row"].tolist())
    train(make_task(train=6, test=None, hooks=[hook]))
    assert hook.seen("on_step") == [[0, 1, 2, 3], [4, 5]]


def test_perf_log_keeps_the_entries_of_one_phase():
    hook = RecordingHook(lambda task: [entry["tag"] for entry in task.perf_log])
    train(make_task(train=8, test=4, hooks=[hook]))
    assert hook.seen("on_phase_end") == [["train"], ["train_total", "test"]]


def test_checkpoint_hooks_go_last():
    checkpoint, progress, log = CheckpointHook("somewhere"), ProgressBarHook(), LossLrMeterLoggingHook()
    assert ClassificationTask().set_hooks([checkpoint, progress, log]).hooks == [progress, log, checkpoint]


def test_two_hooks_of_one_name_are_refused():
    with pytest.raises(ComponentError, match="ProgressBarHook"):
        ClassificationTask().set_hooks([ProgressBarHook(), ProgressBarHook()])


@pytest.mark.parametrize("hooks", [ProgressBarHook(), [None], ["checkpoint"]])
def test_what_is_no_hook_is_refused(hooks):
    with pytest.raises(ComponentError, match="list of ClassyHook"):
        ClassificationTask().set_hooks(hooks)


def test_run_hooks_passes_the_variables():
    class Legacy(RecordingHook):
        def on_step(self, task, local_variables=None):
            self.calls.append(local_variables)

    hook = Legacy()
    make_task(hooks=[hook]).run_hooks({"a": 1}, "on_step")
    assert hook.calls == [{"a": 1}]


def test_speed_counts_rows_and_not_full_batches():
    def look(task):
        task._phase_began -= 1000
        return [round(entry["im_per_sec"] * 1000) for entry in task.perf_log][-1:]

    hook = RecordingHook(look)
    train(make_task(train=6, test=5, batch=4, hooks=[hook]))
    assert hook.seen("on_phase_end") == [[2], [2]]  # after 3 and 3 calls of 1000 s
