import pytest
from PIL import Image

from ray_classy.dataset import SyntheticImageStreamingDataset, build_dataset
from ray_classy.errors import ComponentError, DataError

CONFIG = {
    "name": "synthetic_image_streaming",
    "batchsize_per_replica": 2,
    "use_shuffle": False,
    "num_samples": 7,
    "crop_size": 4,
    "class_ratio": 0.5,
    "seed": 1,
}


@pytest.mark.parametrize("phase_type", ["train", "test"])
def test_full_batches_only(phase_type):
    loader = build_dataset({**CONFIG, "length": 30}).iterator(phase_type=phase_type)
    assert len(loader) == 3 and [batch["id"].tolist() for batch in loader] == [[0, 1], [2, 3], [4, 5]]


def test_images_become_normalised_tensors():
    assert build_dataset(CONFIG)[0]["input"].shape == (3, 4, 4) and build_dataset(CONFIG)[0]["input"].min() < 0


def test_transforms_are_those_of_the_image():
    assert build_dataset({**CONFIG, "transforms": [{"name": "ToTensor"}]})[0]["input"].min() >= 0


def test_constructor_takes_the_arguments_of_the_predecessor_in_order():
    dataset = SyntheticImageStreamingDataset(2, False, None, 6, 4, 0.5, 1, 12, False)
    assert isinstance(dataset[11]["input"], Image.Image) and len(dataset) == 6


def test_fewer_images_than_samples():
    with pytest.raises(DataError, match="num_samples is 7, but the dataset has 3 rows"):
        build_dataset({**CONFIG, "length": 3}).iterator()


def test_less_than_a_batch():
    with pytest.raises(DataError, match="num_samples is 1, which is less than a global batch of 2"):
        build_dataset({**CONFIG, "num_samples": 1}).iterator()


def test_copy_to_the_gpu_needs_one():
    with pytest.raises(ComponentError, match="needs a GPU"):
        build_dataset({**CONFIG, "async_gpu_copy": True}).iterator()
