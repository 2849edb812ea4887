import pytest
import torch

from ray_classy.errors import ResourceError, TaskError
from ray_classy.trainer import ClassyTrainer
from tests.helpers import RecordingHook, equal_weights, make_task, weights


def test_trains_without_a_folder():
    task = make_task(epochs=2)
    assert ClassyTrainer().train(task) is None
    assert task.phase_idx == 3 and task.where == 1.0


def test_wants_a_task():
    with pytest.raises(TaskError, match="build_task"):
        ClassyTrainer().train("task")


def test_error_in_a_step_goes_through_and_no_end_is_called():
    def fail(task):
        if len(task.losses) == 3:
            raise ZeroDivisionError

    hook = RecordingHook(fail)
    with pytest.raises(ZeroDivisionError):
        ClassyTrainer().train(make_task(hooks=[hook]))
    assert hook.seen("on_end") == []


@pytest.mark.parametrize("phase_type", ["train", "test"])
def test_the_key_is_named_where_memory_runs_out(phase_type):
    def fill(task):
        if task.train == (phase_type == "train"):
            torch.empty(1 << 58, dtype=torch.uint8)

    hook = RecordingHook()
    hook.on_step = fill
    with pytest.raises(
        ResourceError, match=rf"step 1 of a {phase_type} phase .* lower dataset\.{phase_type}\.batchsize"
    ):
        ClassyTrainer().train(make_task(hooks=[hook]))


def draws(seed):
    hook = RecordingHook(lambda task: (task.phase_idx, torch.rand(1).item()))
    ClassyTrainer().train(make_task(train=8, test=4, epochs=2, hooks=[hook]).set_seed(seed))
    return hook.seen("on_phase_start") + hook.seen("on_step")


def test_draws_depend_on_seed_phase_and_step():
    torch.manual_seed(1)
    first = draws(0)
    torch.manual_seed(2)
    assert draws(0) == first and draws(1) != first
    assert len({value for _, value in first}) == len(first)


def test_dropout_is_the_same_at_any_number_of_draws_before():
    tasks = [make_task(dropout=0.5), make_task(dropout=0.5)]
    for number, task in enumerate(tasks):
        torch.rand(number)
        ClassyTrainer().train(task)
    assert equal_weights(*map(weights, tasks))


def test_finished_task_is_done():
    task = make_task()
    ClassyTrainer().train(task)
    before = weights(task)
    ClassyTrainer().train(task)
    assert equal_weights(before, weights(task))


def test_finished_task_can_be_trained_longer():
    task, straight = make_task(epochs=1), make_task(epochs=2)
    ClassyTrainer().train(task)
    ClassyTrainer().train(task.set_num_epochs(2))
    ClassyTrainer().train(straight)
    assert equal_weights(weights(task), weights(straight))


def test_extra_draws_in_a_step_do_not_change_the_next():
    drawing = RecordingHook(lambda task: torch.rand(task.phase_idx + 2))
    tasks = [make_task(dropout=0.5), make_task(dropout=0.5, hooks=[drawing])]
    for task in tasks:
        ClassyTrainer().train(task)
    assert equal_weights(*map(weights, tasks))
