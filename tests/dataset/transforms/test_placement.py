import pytest
from torchvision.transforms import v2

from ray_classy.dataset.transforms import (
    ApplyTransformToKey,
    GenericImageTransform,
    ImagenetAugmentTransform,
    build_transforms,
)
from ray_classy.dataset.transforms.placement import place

NORMALIZE = {"name": "Normalize", "mean": [0.5], "std": [0.5]}


def on_input(*names):
    transforms = [NORMALIZE if name == "Normalize" else {"name": name, **EXTRA.get(name, {})} for name in names]
    return build_transforms([{"name": "apply_transform_to_key", "transforms": transforms}])


EXTRA = {
    "Resize": {"size": 8},
    "RandomResizedCrop": {"size": 8},
    "CenterCrop": {"size": 8},
    "ToDtype": {"dtype": "float32", "scale": True},
}


@pytest.mark.parametrize(
    ("names", "host"),
    [
        (["RandomResizedCrop", "RandomHorizontalFlip", "ToTensor", "Normalize"], 1),
        (["Resize", "CenterCrop", "ToTensor", "Normalize"], 2),
        (["ToImage", "RandomResizedCrop", "RandomHorizontalFlip", "ToDtype", "Normalize"], 2),
        (["ToTensor"], 0),
        (["RandomHorizontalFlip", "RandomVerticalFlip", "ToTensor", "RandomErasing", "Normalize"], 0),
        (["RandomHorizontalFlip", "ToTensor", "lighting", "Normalize"], 3),
        (["ToTensor", "RandomResizedCrop"], 2),
        (["PILToTensor", "ToDtype", "ToPureTensor"], 0),
        (["Normalize", "ToTensor"], 1),  # an error where it stands: it needs a tensor
    ],
)
def test_the_longest_end_that_can_be_batched(names, host):
    rows, batches = place(on_input(*names)).names()
    assert (len(rows), batches) == (host, names[host:])


def test_chains_within_chains_are_looked_into():
    inner = v2.Compose([v2.Resize(8), v2.RandomHorizontalFlip()])
    made = place(ApplyTransformToKey(v2.Compose([inner, v2.ToImage()])))
    assert made.names() == (["Resize"], ["RandomHorizontalFlip", "ToImage"])
    assert place(GenericImageTransform(ImagenetAugmentTransform())).names()[0] == ["RandomResizedCrop"]


def test_what_follows_the_image_transforms_keeps_all_on_the_host():
    after = build_transforms([{"name": "tuple_to_map", "list_of_map_keys": ["input", "target"]}])
    after.transforms.append(ApplyTransformToKey(v2.ToImage()))
    assert place(after).batched is not None
    after.transforms.append(lambda sample: sample)
    assert place(after).batched is None and place(after).host is after


def test_entries_by_position_are_left_to_the_host():
    assert place(ApplyTransformToKey(v2.ToImage(), key=0)).batched is None


def test_subclasses_that_do_otherwise_are_left_to_the_host():
    class Mine(ApplyTransformToKey):
        def __call__(self, sample):
            return super().__call__(dict(sample))

    assert place(Mine(v2.ToImage())).batched is None


def test_nothing():
    assert place(None) == (None, "input", None)
