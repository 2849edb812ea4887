"""From the host's batch to the model's."""

import numpy as np
import pytest
import torch

from ray_classy.dataset import build_dataset
from ray_classy.dataset.device_batches import batches_on_device
from ray_classy.dataset.loader import PhaseLoader
from ray_classy.dataset.plan import PhasePlan
from ray_classy.dataset.seeded_rows import Batch
from ray_classy.dataset.transforms import build_transforms
from ray_classy.dataset.transforms.placement import place

TRANSFORMS = [
    {"name": "RandomHorizontalFlip"},
    {"name": "ToTensor"},
    {"name": "Normalize", "mean": [0.5], "std": [0.2]},
]
ON_INPUT = [{"name": "apply_transform_to_key", "transforms": TRANSFORMS}]
DIGITS = {
    "name": "digits",
    "split": "test",
    "batchsize_per_replica": 32,
    "use_shuffle": True,
    "transforms": ON_INPUT,
}
PLAN = PhasePlan(num_rows=6, batch_size=3, train=True, seed=2)
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def host_batches(pin=False):
    for numbers in PLAN.batches():
        images = torch.from_numpy(np.random.default_rng(numbers).integers(0, 256, (3, 1, 300, 300), dtype=np.uint8))
        sample = {"input": images, "target": torch.from_numpy(numbers.copy()), "names": ["a", "b", "c"]}
        sample = {k: v.pin_memory() if pin and isinstance(v, torch.Tensor) else v for k, v in sample.items()}
        yield Batch(sample, 3, [], numbers)


def test_the_batched_transforms_are_applied_and_the_rest_is_left():
    placement = place(build_transforms(ON_INPUT))
    for before, after in zip(host_batches(), batches_on_device(host_batches(), placement, PLAN, None), strict=True):
        expected = placement.batched.batch(before.sample["input"], 2, 0, before.numbers)
        assert torch.equal(after.sample["input"], expected) and after.sample["input"].dtype == torch.float32
        assert torch.equal(after.sample["target"], before.sample["target"])
        assert after.sample["names"] == ["a", "b", "c"] and after.rows == 3


def test_batches_without_batched_transforms_and_without_rows_pass():
    given = [Batch({"input": torch.ones(2)}, 2, []), Batch(None, 0, ["bad"])]
    assert [
        one.sample for one in batches_on_device(given, place(build_transforms(ON_INPUT)), PLAN, torch.device("cpu"))
    ] == [one.sample for one in given]


def test_the_device_is_asked_for_by_the_loader():
    """The meta device shows where tensors go on a machine that has no other."""
    dataset = build_dataset(
        {**DIGITS, "transforms": [{"name": "apply_transform_to_key", "transforms": TRANSFORMS[1:]}]}
    )
    loader = dataset.iterator(phase_type="train")
    assert isinstance(loader, PhaseLoader)
    assert next(iter(loader))["input"].device.type == "cpu"
    loader.device = torch.device("meta")
    assert next(iter(loader))["input"].device.type == "meta"


@gpu
def test_a_gpu_gets_the_same_batches_on_a_stream_of_its_own():
    placement, device = place(build_transforms(ON_INPUT)), torch.device("cuda", 0)
    here = [batch.sample["input"] for batch in batches_on_device(host_batches(), placement, PLAN, None)]
    busy = torch.randn(4096, 4096, device=device)
    for batch, expected in zip(batches_on_device(host_batches(pin=True), placement, PLAN, device), here, strict=True):
        for _ in range(20):  # the current stream is busy while the next batch arrives
            busy = (busy @ busy).clamp(-1, 1)
        total = batch.sample["input"].double().sum()
        assert batch.sample["input"].device == device
        assert torch.equal(batch.sample["input"].cpu(), expected)
        assert torch.isclose(total.cpu(), expected.double().sum())


@gpu
def test_a_dataset_gives_a_gpu_what_it_gives_the_cpu():
    here = list(build_dataset(DIGITS).iterator(phase_type="train", seed=1))
    loader = build_dataset(DIGITS).iterator(phase_type="train", seed=1, pin_memory=True)
    loader.device = torch.device("cuda", 0)
    there = list(loader)
    assert all(torch.equal(one["input"], other["input"].cpu()) for one, other in zip(here, there, strict=True))
