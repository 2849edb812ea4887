"""The strategies go on from each other's checkpoints. All that two ranks do is done once."""

import contextlib
import os

import pytest
import torch

from ray_classy.checkpoint import load_checkpoint
from ray_classy.trainer import DistributedTrainer, LocalTrainer
from tests.helpers import RecordingHook, run_ranks, train
from tests.tasks.strategy_parts import ADAMW, SHARDED, STRATEGIES, assert_same, local_numbers, outcome, wide_task


def at(folder, *parts):
    return os.path.join(folder, *parts)


def resumable(strategy, checkpoint=None, **options):
    task = wide_task(strategy, ADAMW, batch_norm=False, **options)
    return task if checkpoint is None else task.set_checkpoint(checkpoint)


def resumed_from(folder):
    """Whole runs, runs that start from checkpoints of others, and runs that were interrupted inside an epoch."""
    done = {}
    for strategy in STRATEGIES:
        result = DistributedTrainer(folder, f"first-{strategy}").train(resumable(strategy, epochs=1))
        done[f"first-{strategy}"] = result.checkpoint
        inside = resumable(strategy, epochs=1).set_checkpoint_every(steps=2, minutes=None)
        stop = RecordingHook(lambda task: task.num_train_steps == 3 and 1 / 0)
        with contextlib.suppress(ZeroDivisionError):
            DistributedTrainer(folder, f"inside-{strategy}").train(inside.set_hooks([stop]))
    for before in STRATEGIES:
        for after in STRATEGIES:
            again = resumable(after, done[f"first-{before}"])
            done[f"{before} to {after}"] = outcome(train(again))
            inside = resumable(after, newest(at(folder, f"inside-{before}")))
            done[f"inside {before} to {after}"] = outcome(train(inside))
    for after in SHARDED:
        done[f"one rank to {after}"] = outcome(train(resumable(after, at(folder, "alone-checkpoint"))))
    done["whole"] = outcome(train(resumable("ddp")))
    return done


def newest(run):
    return at(run, sorted(name for name in os.listdir(run) if name.startswith("epoch_"))[-1])


def loaded(strategy, checkpoint):
    """Numbers of the optimizer's state on this rank after loading a checkpoint."""
    task = resumable(strategy, checkpoint)
    task.prepare()
    return local_numbers([v for e in task.optimizer.optimizer.state.values() for v in e.values()])


def restored(strategy):
    """The state after the first epoch, and that of a task which trained on and then restored it."""
    kept = []
    hook = RecordingHook()
    hook.on_phase_end = lambda task: kept.extend([outcome(task), task.get_classy_state(deep_copy=True)])
    task = train(wide_task(strategy, ADAMW, hooks=[hook]))
    task.set_classy_state(kept[1])
    return [kept[0]["bits"], kept[0]["optimizer"]], [outcome(task)["bits"], outcome(task)["optimizer"]]


def on_each(folder):
    done = resumed_from(folder)
    done["loaded"] = {strategy: loaded(strategy, done["first-ddp"]) for strategy in STRATEGIES}
    done["restored"] = {strategy: restored(strategy) for strategy in SHARDED}
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("runs"))
    result = LocalTrainer(folder, "alone").train(resumable("ddp", epochs=1, batch=6))
    os.symlink(result.checkpoint, at(folder, "alone-checkpoint"))
    return folder


@pytest.fixture(scope="module")
def ranks(folder):
    return run_ranks(2, on_each, folder, seconds=280)


@pytest.mark.parametrize("before", [*STRATEGIES, "inside ddp", "inside zero", "inside fsdp"])
@pytest.mark.parametrize("after", STRATEGIES)
def test_goes_on_from_the_checkpoint_of_another_strategy(ranks, before, after):
    for answer in ranks:
        assert_same(answer[f"{before} to {after}"], answer["whole"])


@pytest.mark.parametrize("after", SHARDED)
def test_goes_on_from_the_checkpoint_of_one_process(ranks, after):
    for answer in ranks:
        assert_same(answer[f"one rank to {after}"], answer["whole"])


@pytest.mark.parametrize("before", STRATEGIES)
@pytest.mark.parametrize("after", STRATEGIES)
def test_one_process_goes_on_from_the_checkpoint_of_two(ranks, before, after):
    resumed = outcome(train(resumable(after, ranks[0][f"first-{before}"], batch=6)))
    assert_same(resumed, ranks[0]["whole"])


@pytest.mark.parametrize("strategy", SHARDED)
def test_checkpoint_has_what_that_of_ddp_has(ranks, strategy):
    theirs, ours = (_flat(ranks[0][f"first-{name}"]) for name in ("ddp", strategy))
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        if isinstance(value, torch.Tensor):
            assert type(value) is torch.Tensor and value.dtype == theirs[name].dtype
            torch.testing.assert_close(value, theirs[name], rtol=0, atol=1e-9)
        elif "losses" not in name:
            assert value == theirs[name]


def _flat(checkpoint):
    def walk(value, name):
        if isinstance(value, (dict, list)):
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                yield from walk(item, f"{name}.{key}")
        else:
            yield name, value

    return dict(walk(load_checkpoint(checkpoint)["classy_state_dict"], ""))


def test_a_checkpoint_is_read_into_the_part_of_each_rank(ranks):
    everything = ranks[0]["loaded"]["ddp"]
    for strategy in SHARDED:
        parts = [answer["loaded"][strategy] for answer in ranks]
        assert sum(parts) == pytest.approx(everything, rel=0.001) and max(parts) < everything


@pytest.mark.parametrize("strategy", SHARDED)
def test_a_task_that_has_trained_takes_up_a_state(ranks, strategy):
    for answer in ranks:
        before, after = answer["restored"][strategy]
        assert before == after
