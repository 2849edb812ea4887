"""Runs with balanced sampling that are interrupted inside an epoch, and go on at the row."""

import os
from collections import Counter

import pytest

from ray_classy.dataset import ClassyDataset
from ray_classy.dataset.sampling import BalancedSampling
from ray_classy.distributed import get_world_size
from ray_classy.errors import CheckpointError
from ray_classy.trainer import DistributedTrainer, LocalTrainer
from tests.helpers import Vectors, equal_weights, run_ranks, weights
from tests.trainer.test_row_resume import DOUBLE, Ledger, Stopped, interrupted, small_task, trained_rows

ROWS, DRAWN, SEED = 50, 41, 3


class Labelled(ClassyDataset):
    def labels(self):
        return self.dataset.targets


def sampled_task(hook=None, batch=4, every=1, sampling=None):
    task = small_task(hook, batch, every)
    dataset = Labelled(Vectors(ROWS, dtype=DOUBLE), batch, True)
    dataset.sampling = sampling or BalancedSampling(rows=DRAWN)
    return task.set_dataset(dataset, "train")


def expected(epoch):
    counts = BalancedSampling(rows=DRAWN).counts(Labelled(Vectors(ROWS), 1, True), SEED, epoch)
    return {row: count for row, count in enumerate(counts) if count}


def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path):
    calm = sampled_task()
    LocalTrainer(str(tmp_path), "calm").train(calm)
    interrupted(str(tmp_path), sampled_task(Ledger(stop=14)))
    resumed = sampled_task()
    LocalTrainer(resume=str(tmp_path / "r")).train(resumed)
    assert equal_weights(weights(calm), weights(resumed)) and calm.losses == resumed.losses
    assert resumed.num_train_steps == 2 * 11


@pytest.mark.parametrize("other", [BalancedSampling(), BalancedSampling(power=0.5, rows=DRAWN)])
def test_another_sampling_is_refused_inside_an_epoch(tmp_path, other):
    interrupted(str(tmp_path), sampled_task(Ledger(stop=5)))
    with pytest.raises(CheckpointError, match="the order of rows differs now: sampling was"):
        LocalTrainer(resume=str(tmp_path / "r")).train(sampled_task(sampling=other))


def part(storage, ledger, stop=None):
    """One start of a run of a global batch of 12."""
    task = sampled_task(Ledger(f"{ledger}/l", stop), 12 // get_world_size(), every=2)
    trainer = (
        DistributedTrainer(resume=f"{storage}/r") if os.path.isdir(f"{storage}/r") else DistributedTrainer(storage, "r")
    )
    try:
        trainer.train(task)
    except Stopped:
        return


@pytest.mark.full
@pytest.mark.parametrize("first, second", [(2, 3), (3, 1), (1, 2)])
def test_another_number_of_ranks_trains_each_row_as_often_as_planned(tmp_path, first, second):
    ledgers = [tmp_path / "before", tmp_path / "after"]
    for ledger in ledgers:
        ledger.mkdir()
    run_ranks(first, part, str(tmp_path), str(ledgers[0]), 3)
    run_ranks(second, part, str(tmp_path), str(ledgers[1]))
    rows = [trained_rows(ledgers[0], 2), trained_rows(ledgers[1])]
    for phase in (0, 1):
        assert Counter(row for one in rows for row in one.get(phase, [])) == expected(phase)
