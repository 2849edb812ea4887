"""Random augmentation of torchvision gives a row the same bits on any number of ranks and threads."""

import dataclasses

import pytest
import torch

from ray_classy.dataset import build_dataset
from ray_classy.dataset.loader import PhaseLoader

AUGMENTATIONS = [
    {"name": "TrivialAugmentWide"},
    {"name": "RandAugment", "num_ops": 2, "magnitude": 6, "num_magnitude_bins": 11},
    {"name": "RandomErasing", "p": 0.5, "value": 0},
]


def images(augmentation, ranks, threads):
    """The images of the train rows 0 to 15, by the ranks' batches of the steps."""
    steps = [{"name": "ToImage"}, augmentation, {"name": "ToDtype", "dtype": "float32", "scale": True}]
    if augmentation["name"] == "RandomErasing":
        steps = [steps[0], steps[2], augmentation]
    config = {"name": "digits", "split": "train", "image_mode": "RGB", "num_samples": 16, "use_shuffle": False}
    transforms = [{"name": "apply_transform_to_key", "key": "input", "transforms": steps}]
    dataset = build_dataset({**config, "batchsize_per_replica": 4, "transforms": transforms})
    dataset.dataset.threads = threads
    plan = dataclasses.replace(dataset.plan("train", 3, seed=1), world_size=ranks, batch_size=8 // ranks)
    loaders = [iter(PhaseLoader(dataset, dataclasses.replace(plan, rank=rank))) for rank in range(ranks)]
    return torch.cat([batch["input"] for batches in zip(*loaders, strict=True) for batch in batches])


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=lambda one: one["name"])
def test_a_row_is_augmented_alike_on_any_number_of_ranks_and_threads(augmentation):
    alone = images(augmentation, 1, 0)
    assert torch.equal(images(augmentation, 2, 3), alone)
    assert not torch.equal(alone, images({"name": "Identity"}, 1, 0))
