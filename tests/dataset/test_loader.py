import random

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from ray_classy.dataset import ClassyDataset
from ray_classy.dataset.row_dataset import RowDataset
from ray_classy.dataset.rows import ItemRows
from ray_classy.errors import ComponentError, DataError
from tests.helpers import Vectors, make_task, train


def jitter(sample):
    """Noise from all three generators of the host."""
    noise = torch.rand(3).double() + random.random() + torch.from_numpy(np.random.rand(3))
    return {**sample, "input": noise}


def dataset(rows=20, batch=4, shuffle=True, **attributes):
    made = ClassyDataset(Vectors(rows), batch, shuffle, jitter)
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def noise(made, phase=0, seed=0, **options):
    """Row number to its noise."""
    seen = {}
    for batch in made.iterator(phase_type="train", current_phase_id=phase, seed=seed, **options):
        seen.update(zip(batch["row"].tolist(), batch["input"].tolist(), strict=True))
    return seen


def test_rows_are_the_same_in_other_batches_and_order():
    assert noise(dataset()) == noise(dataset(batch=7)) == noise(dataset(shuffle=False))


def test_rows_are_the_same_in_loading_processes():
    assert noise(dataset()) == noise(dataset(), num_workers=2, multiprocessing_context="fork")


def test_parts_of_an_epoch_have_its_noise():
    parts = [noise(dataset(phases_per_epoch=2), phase) for phase in range(2)]
    assert {**parts[0], **parts[1]} == noise(dataset())


def test_other_epochs_seeds_and_rows_have_other_noise():
    runs = [noise(dataset(), phase, seed) for phase in range(2) for seed in range(2)]
    assert len({tuple(value) for run in runs for value in run.values()}) == 4 * 20


def test_caller_generators_are_left_alone():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    noise(dataset(), num_workers=0)
    assert (random.random(), np.random.rand()) == expected[:2]


def test_order_changes_every_epoch():
    orders = {tuple(noise(dataset(), phase)) for phase in range(3)}
    assert len(orders) == 3


def test_test_phases_have_one_order_and_noise():
    def seen(phase):
        batches = dataset(shuffle=False).iterator(phase_type="test", current_phase_id=0, seed=0)
        return [batch["input"].tolist() for batch in batches]

    assert seen(0) == seen(1)


class _Bad:
    """Decodes numbers; those in `bad` are damaged."""

    def __init__(self, bad):
        self.bad = bad

    def __call__(self, row):
        if row["value"] in self.bad:
            raise DataError(f"file-{row['value']}.png is no image")
        return {"input": torch.full((6,), float(row["value"])), "target": 0}


def damaged(bad, allowed, rows=12, batch=4, threads=0):
    base = RowDataset(ItemRows(value=list(range(rows))), _Bad(bad), allowed)
    base.threads = threads
    return ClassyDataset(base, batch, False)


def read(made, phase_type="train"):
    batches = iter(made.iterator(phase_type=phase_type))
    seen = [(batch["input"][:, 0].int().tolist(), batches.share.rows) for batch in batches]
    return seen, batches.bad_rows


@pytest.mark.parametrize("phase_type", ["train", "test"])
@pytest.mark.parametrize("threads", [0, 2])
def test_bad_row_is_skipped_and_counted(phase_type, threads):
    assert read(damaged({5}, 1, threads=threads), phase_type) == (
        [([0, 1, 2, 3], 4), ([4, 6, 7], 3), ([8, 9, 10, 11], 4)],
        1,
    )


def test_bad_row_stops_the_run_with_its_path():
    with pytest.raises(DataError, match=r"file-5\.png"):
        read(damaged({5}, 0))


def test_too_many_bad_rows_stop_the_run():
    with pytest.raises(DataError, match=r"2 rows .* max_bad_rows=1 .*file-9\.png"):
        read(damaged({5, 9}, 1))


def test_batch_of_bad_rows_trains_on_padding_rows_without_weight():
    seen, bad = read(damaged({4, 5, 6, 7}, 4))
    assert [rows for _, rows in seen] == [4, 0, 4] and bad == 4 and seen[1][0] == [8, 9]


@pytest.mark.parametrize("threads", [0, 2])
def test_batch_that_bad_rows_leave_with_one_row_gets_the_next_good_row(threads):
    seen, bad = read(damaged({4, 5, 7, 8}, 4, threads=threads))
    assert seen[1] == ([6, 9], 2) and bad == 4


def test_batch_of_one_row_is_not_filled_up():
    seen, _ = read(damaged({1}, 1, rows=3, batch=1))
    assert [rows for rows, _ in seen] == [[0], [2], [2]]


def test_batch_of_bad_rows_is_passed_over_in_a_test_phase():
    seen, bad = read(damaged({4, 5, 6, 7}, 4), "test")
    assert [rows for rows, _ in seen] == [[0, 1, 2, 3], [8, 9, 10, 11]] and bad == 4


def test_nothing_but_bad_rows():
    with pytest.raises(DataError, match="none of"):
        read(damaged(set(range(12)), 12))


def test_error_of_a_loading_process_is_one_line():
    made = damaged({1}, 0)
    made.set_num_workers(1)
    with pytest.raises(DataError, match=r"^file-1\.png [^\n]*$"):
        list(made.iterator(phase_type="test"))


def test_bad_rows_in_loading_processes():
    batches = iter(damaged({5}, 1).iterator(phase_type="train", num_workers=1, multiprocessing_context="fork"))
    assert sum(len(batch["target"]) for batch in batches) == 11 and batches.bad_rows == 1


def test_bad_rows_count_in_no_loss_and_no_meter():
    task = make_task(test=None).set_dataset(damaged({4, 5, 6, 7}, 4), "train")
    train(task)
    assert task.meters[0]._total[-1].item() == 8 and task.losses._rows == [4, 0, 4]


def test_length_is_the_number_of_steps():
    assert len(iter(dataset(10, 4).iterator(phase_type="train"))) == 3


@pytest.mark.parametrize(
    "rows",
    [
        [torch.arange(2.0), torch.arange(2.0), torch.arange(2.0)],
        [(torch.arange(2.0), 1)] * 3,
        [[torch.arange(2.0), 1]] * 3,
        [1, 2, 3],
        ["a", "b", "c"],
    ],
)
@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.full)])
def test_samples_need_be_no_mappings(rows, workers):
    batches = list(ClassyDataset(rows, 2, False).iterator(num_workers=workers, multiprocessing_context="fork"))
    expected = [default_collate(rows[:2]), default_collate(rows[2:])]
    assert all(_equal(one, other) for one, other in zip(batches, expected, strict=True))


def test_rows_that_are_tuples_are_decoded_cached_and_skipped():
    def decode(row):
        if row["row"] == 1:
            raise DataError("row 1 is bad")
        return torch.full((2,), row["number"]), row["row"]

    base = RowDataset(ItemRows(number=[5, 6, 7]), decode, max_bad_rows=1)
    loader = ClassyDataset(base, 3, False, lambda sample: (sample[0].mul_(2), sample[1])).iterator()
    for _ in range(2):
        numbers, rows = next(iter(loader))
        assert numbers.tolist() == [[10, 10], [14, 14]] and rows.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("rows", "entry"), [([(torch.zeros(1),), (torch.zeros(2),)], "0"), ([torch.zeros(1), torch.zeros(2)], "'sample'")]
)
def test_sizes_of_samples_that_are_no_mappings_are_named(rows, entry):
    with pytest.raises(DataError, match=rf"{entry} of row 0 has size \(1,\), and of row 1 \(2,\)"):
        list(ClassyDataset(rows, 2, False).iterator())


@pytest.mark.parametrize("option", [{"shuffle_seed": "a"}, {"current_phase_id": 1.5}])
def test_numbers_of_a_phase_are_integers(option):
    with pytest.raises(ComponentError, match=f"{next(iter(option))} must be an integer"):
        ClassyDataset(Vectors(4), 2, False).iterator(**option)


def _equal(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    return one == other if isinstance(one[0], str) else all(map(_equal, one, other))
