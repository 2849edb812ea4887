"""Runs that are interrupted inside an epoch, and go on at the row."""

import contextlib
import itertools
import json
import os
import random
import threading

import numpy as np
import pytest
import torch

from ray_classy.checkpoint import load_checkpoint
from ray_classy.distributed import get_world_size
from ray_classy.errors import CheckpointError
from ray_classy.hooks import ClassyHook
from ray_classy.trainer import DistributedTrainer, LocalTrainer
from tests.helpers import equal_weights, make_task, run_ranks, weights

DOUBLE = torch.float64
ROWS = 50


class Stopped(Exception):
    pass


class Ledger(ClassyHook):
    """Writes down which rows each step trained, and stops after step `stop`."""

    on_start = on_phase_start = on_phase_end = on_end = ClassyHook._noop

    def __init__(self, file=None, stop=None):
        super().__init__()
        self.file, self.stop = file, stop

    def on_step(self, task):
        if not task.train:
            return
        share = task.data_iterator.share
        rows = task.last_batch.sample["row"].tolist()[: share.rows]
        if self.file is not None:
            with open(f"{self.file}.{os.getpid()}.{threading.get_ident()}", "a") as file:
                file.write(json.dumps([task.train_phase_idx, task.num_train_steps, rows]) + "\n")
        if task.num_train_steps == self.stop:
            raise Stopped


def trained_rows(folder, last_step=None):
    """The rows of each train phase, of all ranks; up to a step, after which the work of a killed run is lost."""
    rows = {}
    for file in folder.iterdir():
        for line in file.read_text().splitlines():
            phase, step, batch = json.loads(line)
            if last_step is None or step <= last_step:
                rows.setdefault(phase, []).extend(batch)
    return {phase: sorted(numbers) for phase, numbers in rows.items()}


def small_task(hook=None, batch=4, every=1, accumulate=None, **options):
    options = dict(train=ROWS, test=17, epochs=2, shuffle=True, momentum=0.9, dropout=0.2, dtype=DOUBLE) | options
    schedule = {"name": "cosine", "start_value": 0.1, "end_value": 0}
    task = make_task(batch=batch, hooks=[hook] if hook else [], schedule=schedule, **options)
    task.set_checkpoint_every(steps=every, minutes=None).set_seed(3)
    return task.set_simulated_global_batchsize(accumulate)


def interrupted(storage, task):
    with pytest.raises(Stopped):
        LocalTrainer(storage, "r").train(task)


@pytest.mark.parametrize("stop", [1, 5, 12, 13, 14, 20])
def test_interrupted_run_ends_as_an_uninterrupted_one(tmp_path, stop):
    calm = small_task()
    whole = LocalTrainer(str(tmp_path), "calm").train(calm)
    interrupted(str(tmp_path), small_task(Ledger(stop=stop)))
    resumed = small_task(Ledger())
    result = LocalTrainer(resume=str(tmp_path / "r")).train(resumed)
    assert equal_weights(weights(calm), weights(resumed)) and calm.losses == resumed.losses
    assert (calm.num_updates, calm.num_train_steps) == (resumed.num_updates, resumed.num_train_steps)
    facts = ("phase_idx", "where", "num_updates", "metrics")
    assert [[line[name] for name in facts] for line in result.metrics_history] == [
        [line[name] for name in facts] for line in whole.metrics_history
    ]


@pytest.mark.parametrize("every, stop", [(3, 8), (5, 12), (4, 25)])
def test_each_row_is_trained_once_also_in_the_epoch_of_the_interruption(tmp_path, every, stop):
    ledger = tmp_path / "ledger"
    ledger.mkdir()
    interrupted(str(tmp_path), small_task(Ledger(ledger / "a", stop), every=every))
    kept = int(max(name for name in os.listdir(tmp_path / "r") if name.startswith("epoch_")).rpartition("_")[2])
    before = trained_rows(ledger, kept)
    after = tmp_path / "after"
    after.mkdir()
    LocalTrainer(resume=str(tmp_path / "r")).train(small_task(Ledger(after / "b"), every=every))
    again = trained_rows(after)
    for phase in (0, 1):
        assert sorted(before.get(phase, []) + again.get(phase, [])) == list(range(ROWS))


def test_a_checkpoint_inside_a_phase_takes_the_place_of_the_one_before(tmp_path):
    interrupted(str(tmp_path), small_task(Ledger(stop=19), every=2))
    names = sorted(name for name in os.listdir(tmp_path / "r") if name.startswith("epoch_"))
    assert names == ["epoch_0001-step_000013", "epoch_0001-step_000018"]


def test_a_finished_run_keeps_no_checkpoint_from_inside_a_phase(tmp_path):
    LocalTrainer(str(tmp_path), "r").train(small_task(every=2))
    names = sorted(name for name in os.listdir(tmp_path / "r") if name.startswith("epoch_"))
    assert names == ["epoch_0001-step_000013", "epoch_0002-step_000026"]


def test_accumulation_is_not_cut(tmp_path):
    calm = small_task(accumulate=12)
    LocalTrainer(str(tmp_path), "calm").train(calm)
    interrupted(str(tmp_path), small_task(Ledger(stop=5), accumulate=12))
    assert os.path.isdir(tmp_path / "r" / "epoch_0000-step_000003")
    resumed = small_task(accumulate=12)
    LocalTrainer(resume=str(tmp_path / "r")).train(resumed)
    assert equal_weights(weights(calm), weights(resumed)) and calm.losses == resumed.losses


def test_minutes_are_a_cadence_too(tmp_path):
    task = make_task(train=ROWS, epochs=1, hooks=[Ledger(stop=10)]).set_checkpoint_every(minutes=1e-9)
    interrupted(str(tmp_path), task)
    assert any(name.startswith("epoch_0000-") for name in os.listdir(tmp_path / "r"))


@pytest.mark.parametrize("change", [{"train": 48}, {"shuffle": False}])
def test_other_rows_are_refused(tmp_path, change):
    interrupted(str(tmp_path), small_task(Ledger(stop=5)))
    with pytest.raises(CheckpointError, match=r"num_rows was 50 and is 48|shuffle was True and is False"):
        LocalTrainer(resume=str(tmp_path / "r")).train(small_task(**change))


def test_a_checkpoint_inside_a_phase_starts_another_run(tmp_path):
    calm = small_task()
    LocalTrainer(str(tmp_path), "calm").train(calm)
    interrupted(str(tmp_path), small_task(Ledger(stop=5)))
    task = small_task().set_checkpoint(str(tmp_path / "r" / "epoch_0000-step_000004"))
    LocalTrainer(str(tmp_path), "other").train(task)
    assert equal_weights(weights(calm), weights(task))


class Drawing(ClassyHook):
    """Notes a number of each generator of the process in each step."""

    on_start = on_phase_start = on_phase_end = on_end = ClassyHook._noop

    def on_step(self, task):
        seen = vars(self).setdefault("seen", {})
        seen[task.phase_idx, len(task.losses)] = random.random(), np.random.rand(), torch.rand(1).item()


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.full)])
def test_the_generators_of_a_phase_are_resumed(tmp_path, workers):
    draws = [Drawing(), Drawing()]
    for hook, stop in zip(draws, (None, 18), strict=True):
        task = small_task(hook, dropout=0.5)
        task.datasets["train"].set_num_workers(workers)
        task.hooks.append(Ledger(stop=stop))
        with contextlib.suppress(Stopped):
            LocalTrainer(str(tmp_path), f"r{stop}").train(task)
    resumed, task = Drawing(), small_task(dropout=0.5)
    LocalTrainer(resume=str(tmp_path / "r18")).train(task.set_hooks([resumed]))
    assert {**draws[1].seen, **resumed.seen} == draws[0].seen and (2, 4) not in resumed.seen


@pytest.mark.parametrize("state", [3, {}, {"python": [3, [1], None]}])
def test_damaged_states_of_generators_are_refused(tmp_path, state):
    interrupted(str(tmp_path), small_task(Ledger(stop=5)))
    path = str(tmp_path / "r" / "epoch_0000-step_000004")
    content = load_checkpoint(path)
    content["ray_classy"]["rng"] = [state]
    task = small_task()._set_checkpoint_dict(content)
    with pytest.raises(CheckpointError, match="states of the random generators are damaged"):
        LocalTrainer(str(tmp_path), "other").train(task)


def test_a_checkpoint_inside_a_phase_opens_without_trust(tmp_path):
    interrupted(str(tmp_path), small_task(Ledger(stop=5)))
    state = load_checkpoint(str(tmp_path / "r" / "epoch_0000-step_000004"))["classy_state_dict"]
    assert state["in_phase"]["rows"] == 16 and len(state["in_phase"]["losses"]) == 4


def test_rows_whose_order_may_change_are_not_gone_on_with_inside_an_epoch(tmp_path):
    task = small_task(Ledger(stop=19), every=2)
    task.datasets["train"].order_is_stable = False
    interrupted(str(tmp_path), task)
    assert [name for name in os.listdir(tmp_path / "r") if name.startswith("epoch_")] == ["epoch_0001-step_000013"]


# -- several ranks ----------------------------------------------------------------------------------------------------


def part(storage, name, ledger, stop=None, batch=None):
    """One start of a run of a global batch of 12; what it ended with, if it got there."""
    task = small_task(Ledger(ledger and f"{ledger}/l", stop), batch or 12 // get_world_size(), every=2, batch_norm=True)
    resume = os.path.isdir(f"{storage}/{name}")
    trainer = DistributedTrainer(resume=f"{storage}/{name}") if resume else DistributedTrainer(storage, name)
    try:
        trainer.train(task)
    except Stopped:
        return None
    flat = torch.cat([value.flatten().double() for value in task.base_model.state_dict().values()])
    return {"weights": flat.tolist(), "losses": list(task.losses), "counts": task.meters[0]._total.tolist()}


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_go_on_bit_for_bit(tmp_path, world_size):
    calm = run_ranks(world_size, part, str(tmp_path), "calm", None)
    run_ranks(world_size, part, str(tmp_path), "r", None, 3)
    again = run_ranks(world_size, part, str(tmp_path), "r", None)
    assert again[0]["weights"] == calm[0]["weights"] and again[0]["counts"] == calm[0]["counts"]
    assert again[0]["losses"] == pytest.approx(calm[0]["losses"], rel=1e-12)


@pytest.mark.parametrize("first, second", [(2, 3), (3, 1), (1, 2)])
def test_another_number_of_ranks_trains_each_row_once(tmp_path, first, second):
    ledgers = [tmp_path / "before", tmp_path / "after"]
    for ledger in ledgers:
        ledger.mkdir()
    run_ranks(first, part, str(tmp_path), "r", str(ledgers[0]), 3)
    answers = run_ranks(second, part, str(tmp_path), "r", str(ledgers[1]))
    rows = [trained_rows(ledgers[0], 2), trained_rows(ledgers[1])]
    for phase in (0, 1):
        assert sorted(itertools.chain(*(part.get(phase, []) for part in rows))) == list(range(ROWS))
    assert answers[0]["counts"][-1] == 17
