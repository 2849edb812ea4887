"""A row is the same whoever makes it: one thread, several, other processes, memory, and alone."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from ray_classy.dataset import ClassyDataset
from ray_classy.dataset.row_dataset import RowDataset
from ray_classy.dataset.rows import ItemRows
from ray_classy.dataset.seeded_rows import SeededRows
from ray_classy.dataset.transforms import ApplyTransformToKey, ClassyTransform, build_transforms
from ray_classy.dataset.transforms.placement import place
from ray_classy.errors import DataError, TaskError
from ray_classy.seeding import derive_seed, seed_host

RRC, FLIP = {"name": "RandomResizedCrop", "size": 16}, {"name": "RandomHorizontalFlip"}
NORMALIZE = {"name": "Normalize", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
FLOAT = {"name": "ToDtype", "dtype": "float32", "scale": True}
CHAINS = {
    "crop": [RRC, FLIP, {"name": "ToTensor"}, NORMALIZE],
    "tensors": [{"name": "ToImage"}, RRC, FLIP, FLOAT, {"name": "RandomErasing"}, NORMALIZE],
    "no draws on the host": [{"name": "Resize", "size": [16, 16]}, FLIP, {"name": "ToTensor"}, NORMALIZE],
    "nothing in batches": [RRC, FLIP, {"name": "ToTensor"}, {"name": "lighting", "alphastd": 0}],
    "all draws on the host": [FLIP, {"name": "ToTensor"}, {"name": "lighting"}, RRC],
}


def encoded(number):
    pixels = np.random.default_rng(number).integers(0, 256, (20 + number % 5, 24, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def decode(row):
    if row["image"] is None:
        raise DataError(f"row {row['row']} is damaged")
    return {"input": Image.open(io.BytesIO(row["image"])).convert("RGB"), "target": row["row"] % 3, "row": row["row"]}


def dataset(chain, threads=0, rows=30, batch=8, bad=(), mine=False):
    images = [None if number in bad else encoded(number) for number in range(rows)]
    base = RowDataset(ItemRows(image=images), decode, len(bad))
    base.threads = threads
    transform = build_transforms([{"name": "apply_transform_to_key", "transforms": chain}])
    if mine:
        transform.transforms.insert(0, lambda sample: {**sample, "noise": torch.rand(2) + np.random.rand()})
    return ClassyDataset(base, batch, True, transform)


def rows_of(made, phase=0, **options):
    seen = {}
    for batch in made.iterator(phase_type="train", current_phase_id=phase, seed=5, **options):
        for position, row in enumerate(batch["row"].tolist()):
            seen[row] = {name: values[position] for name, values in batch.items()}
    return seen


def same(one, other):
    return one.keys() == other.keys() and all(
        torch.equal(one[row][name], other[row][name]) for row in one for name in one[row]
    )


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
@pytest.mark.parametrize("mine", [False, True])
def test_threads_change_nothing(chain, mine):
    alone = [rows_of(dataset(chain, mine=mine), phase) for phase in range(2)]
    threads = dataset(chain, threads=3, batch=7, mine=mine)
    assert all(same(one, rows_of(threads, phase)) for phase, one in enumerate(alone))
    assert len(alone[0]) == 30


@pytest.mark.parametrize("threads", [0, 2])
def test_a_decoder_knows_where_no_pil_image_is_needed(threads):
    seen = []

    def decode_and_tell(row):
        seen.append(row.get("as_tensor", False))
        return decode(row)

    made = dataset(CHAINS["tensors"], threads=threads)
    made.dataset.decode = decode_and_tell
    tensors = made.transform
    rows_of(made)
    made.transform = build_transforms([{"name": "apply_transform_to_key", "transforms": CHAINS["crop"]}])
    rows_of(made)
    made.transform = tensors
    rows_of(made)
    assert seen == [True] * 30 + [False] * 30 + [True] * 30


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_processes_change_nothing(chain):
    alone = rows_of(dataset(chain))
    assert same(alone, rows_of(dataset(chain), num_workers=2, multiprocessing_context="fork"))


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_memory_changes_nothing(chain, monkeypatch):
    kept = dataset(chain)
    first, again = rows_of(kept), rows_of(kept)
    monkeypatch.setattr("ray_classy.dataset.loader.cached_batches", lambda *_: iter(()))
    assert same(first, again) and same(first, rows_of(dataset(chain)))


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_batches_are_what_the_transforms_give_row_by_row(chain):
    """The host's draws are torchvision's own; those of the tail are put in its place."""
    made = dataset(chain)
    placement = place(made.transform)
    for row, sample in rows_of(made).items():
        seed_host(derive_seed(5, 0, row))
        expected = made.dataset[row] if placement.host is None else placement.host(made.dataset[row])
        if placement.batched is not None:
            expected["input"] = placement.batched.row(expected["input"], 5, 0, row)
        assert torch.equal(sample["input"], expected["input"].as_subclass(torch.Tensor))


@pytest.mark.parametrize("threads", [0, 2])
def test_without_draws_a_batch_is_what_the_dataset_gives(threads):
    made = dataset([{"name": "Resize", "size": [16, 16]}, {"name": "ToTensor"}, NORMALIZE], threads)
    for row, sample in rows_of(made).items():
        assert torch.equal(sample["input"], made[row]["input"])


def test_images_travel_as_bytes():
    made = dataset(CHAINS["crop"])
    rows = SeededRows(made, made.plan("train"))
    batch = rows.collate([rows[0], rows[1], rows[2]])
    assert batch.sample["input"].dtype == torch.uint8 and batch.sample["input"].shape == (3, 3, 16, 16)
    assert batch.numbers.tolist() == [0, 1, 2]


@pytest.mark.parametrize("mode", ["RGBA", "CMYK", "I;16", "F"])
def test_images_that_do_not_travel_as_bytes_are_finished_beside_those_that_do(mode):
    other = Image.new("I;16", (16, 16), 300) if mode == "I;16" else Image.new("RGB", (16, 16), 40).convert(mode[:4])

    def decode_one(row):
        image = other if row["row"] % 2 else Image.new("RGB", (16, 16), row["row"])
        return {"input": image, "target": 0, "row": row["row"]}

    tail = [v2.RandomHorizontalFlip(), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    to_three = [lambda image: image, *tail] if mode == "RGB" else tail
    base = RowDataset(ItemRows(value=list(range(8))), decode_one)
    made = ClassyDataset(base, 1, False, ApplyTransformToKey(v2.Compose(to_three)))
    for row, sample in rows_of(made).items():
        image = other if row % 2 else Image.new("RGB", (16, 16), row)
        assert torch.equal(sample["input"], v2.Compose(tail[1:])(image))


def test_a_batch_of_both_kinds():
    def decode_one(row):
        image = Image.new("L", (4, 4), row["row"])
        as_tensor = torch.full((1, 4, 4), row["row"], dtype=torch.uint8)
        return {"input": as_tensor if row["row"] % 2 else image, "row": row["row"], "target": 0}

    chain = ApplyTransformToKey(v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]))
    made = ClassyDataset(RowDataset(ItemRows(value=list(range(8))), decode_one), 8, False, chain)
    seen = rows_of(made)
    assert all(torch.equal(seen[row]["input"], made[row]["input"]) for row in range(8))


@pytest.mark.parametrize("threads", [0, 2])
def test_bad_rows_keep_their_neighbours_draws(threads):
    whole, left = rows_of(dataset(CHAINS["crop"])), rows_of(dataset(CHAINS["crop"], threads, bad={3, 4}))
    assert left.keys() == whole.keys() - {3, 4}
    assert all(torch.equal(left[row]["input"], whole[row]["input"]) for row in left)


def test_an_error_in_a_thread_names_the_row():
    made = dataset(CHAINS["crop"], threads=2, bad={9})
    made.dataset.max_bad_rows = 0
    with pytest.raises(DataError, match="row 9 is damaged"):
        rows_of(made)


def test_threads_leave_the_generators_of_the_process_alone():
    made = dataset(CHAINS["crop"], threads=2)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    rows_of(made)
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == np.random.get_state()[1].tolist()


@pytest.mark.parametrize(("chain", "seeds"), [("crop", 30), ("no draws on the host", 1)])
def test_rows_are_seeded_only_where_something_draws(chain, seeds):
    made, seen = dataset(CHAINS[chain]), set()
    made.dataset.decode = lambda row: (seen.add(torch.initial_seed()), decode(row))[1]
    rows_of(made)
    assert len(seen) == seeds


class Own(ClassyDataset):
    def __getitem__(self, index):
        return {**super().__getitem__(index), "extra": torch.rand(1)}


def test_a_dataset_with_samples_of_its_own_is_asked_for_them():
    plain = dataset(CHAINS["crop"])
    made = [Own(plain.dataset, 8, True, plain.transform) for _ in range(2)]
    made[1].dataset = dataset(CHAINS["crop"], threads=2).dataset
    one, other = (rows_of(each) for each in made)
    assert same(one, other) and one[0]["extra"] != one[1]["extra"]


def test_a_phase_that_is_left_early_leaves_nothing_behind():
    made = dataset(CHAINS["crop"], threads=2, batch=2)
    batches = iter(made.iterator(phase_type="train"))
    next(batches)
    del batches
    assert made.dataset._fetched == {} and len(rows_of(made)) == 30


class CenterCrop(ClassyTransform):
    """A user's transform that runs in batches, and changes the size."""

    batchable = deterministic = True

    def __call__(self, image):
        return image[..., :16, :16]


def test_a_batched_transform_may_crop_images_of_different_sizes():
    made = dataset([{"name": "ToTensor"}])
    made.transform = ApplyTransformToKey(v2.Compose([build_transforms([{"name": "ToTensor"}]), CenterCrop()]))
    assert place(made.transform).names()[1] == ["ToTensor", "CenterCrop"]
    assert {tuple(row["input"].shape) for row in rows_of(made).values()} == {(3, 16, 16)}


def raise_stop_iteration(sample):
    raise StopIteration


@pytest.mark.parametrize("options", [{}, {"num_workers": 1}])
def test_stop_iteration_in_a_transform_is_an_error(options):
    made = dataset(CHAINS["crop"])
    made.transform = raise_stop_iteration
    with pytest.raises(TaskError, match="raised StopIteration for row"):
        rows_of(made, **options)


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("chain", [[{"name": "ToTensor"}], [{"name": "ToTensor"}, {"name": "lighting"}]])
def test_images_of_two_sizes_are_named_with_their_files(threads, chain, tmp_path):
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(encoded(number // 3))
    base = RowDataset(
        ItemRows(path=[f"{tmp_path}/{number}.png" for number in range(4)]),
        lambda row: {"input": Image.open(row["path"]), "target": 0},
    )
    base.threads = threads
    made = ClassyDataset(base, 4, False, build_transforms([{"name": "apply_transform_to_key", "transforms": chain}]))
    with pytest.raises(
        DataError,
        match=r"'input' of row 0 \(.*0\.png\) has size \(3, 20, 24\), and of row 3 \(.*3\.png\) \(3, 21, 24\)\.",
    ):
        next(iter(made.iterator(phase_type="train")))


def test_a_large_image_after_small_ones_is_not_cached(monkeypatch):
    monkeypatch.setattr("ray_classy.dataset.row_dataset.CACHE_BYTES", 50_000)
    base = RowDataset(ItemRows(size=[8, 8, 400]), lambda row: {"input": Image.new("RGB", (row["size"],) * 2)})
    for number in range(3):
        base[number]
    assert base._decoded is None
