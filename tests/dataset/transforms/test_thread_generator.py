"""Random transforms in threads draw the numbers that the generators of the process would have given."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from ray_classy.dataset.transforms import ApplyTransformToKey, LightingTransform, build_transforms
from ray_classy.dataset.transforms.thread_generator import ThreadGenerator
from ray_classy.dataset.transforms.traits import TORCHVISION, is_thread_safe
from ray_classy.seeding import seed_host

IMAGE = Image.fromarray(np.random.default_rng(0).integers(30, 200, (40, 50, 3), dtype=np.uint8))
ARGUMENTS = {
    "ColorJitter": {"brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0.2},
    "GaussianBlur": {"kernel_size": 3},
    "RandomAdjustSharpness": {"sharpness_factor": 2.0},
    "RandomAffine": {"degrees": 20, "translate": (0.1, 0.1), "scale": (0.5, 1.5), "shear": 5},
    "RandomCrop": {"size": 20},
    "RandomPosterize": {"bits": 3},
    "RandomResize": {"min_size": 10, "max_size": 30},
    "RandomResizedCrop": {"size": 20},
    "RandomRotation": {"degrees": 20},
    "RandomShortestSize": {"min_size": [10, 20, 30]},
    "RandomSolarize": {"threshold": 100},
    "ScaleJitter": {"target_size": (30, 30)},
}
ON_TENSORS = ("RandomErasing", "RandomPhotometricDistort", "RandomChannelPermutation")


def transform_named(name):
    made = getattr(v2, name)(**ARGUMENTS.get(name, {}))
    return v2.Compose([v2.ToImage(), made]) if name in ON_TENSORS else made


def as_array(value):
    return np.asarray(value) if isinstance(value, Image.Image) else value.numpy()


@pytest.mark.parametrize("name", [name for name, traits in TORCHVISION.items() if traits.draws and not traits.parts])
def test_draws_are_those_of_the_process(name):
    transform = transform_named(name)
    assert is_thread_safe(transform)
    expected = []
    for seed in range(6):
        seed_host(seed)
        expected.append(as_array(transform(IMAGE.copy())))
    state = torch.get_rng_state()

    def drawn(seed):
        with ThreadGenerator() as generator:
            generator.seed(seed)
            return as_array(transform(IMAGE.copy()))

    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(drawn, range(6)))
    assert all(np.array_equal(one, other) for one, other in zip(made, expected, strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert len({one.tobytes() for one in made}) > 1


def test_containers_are_as_their_members():
    flips = [v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()]
    for container in (v2.RandomApply(flips), v2.RandomChoice(flips), v2.RandomOrder(flips), v2.Compose(flips)):
        assert is_thread_safe(ApplyTransformToKey(container))
    assert not is_thread_safe(v2.RandomChoice([*flips, lambda image: image]))


def test_ours():
    assert is_thread_safe(build_transforms([{"name": "imagenet_augment"}]))
    assert is_thread_safe(LightingTransform()) and is_thread_safe(None)


class Mine(v2.RandomHorizontalFlip):
    pass


@pytest.mark.parametrize("transform", [Mine(), lambda image: image, v2.ElasticTransform(), v2.AugMix()])
def test_what_is_unknown_runs_in_the_main_thread(transform):
    assert not is_thread_safe(transform)
