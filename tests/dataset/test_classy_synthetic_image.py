import numpy as np
import pytest
import torch
from PIL import Image

from ray_classy.dataset import SyntheticImageDataset, build_dataset
from ray_classy.dataset.core import ListDataset, RandomImageBinaryClassDataset, RandomImageDataset, SampleType
from ray_classy.errors import ComponentError, RowNumberError
from ray_classy.registry import REQUIRED, config_keys

CONFIG = {
    "name": "synthetic_image",
    "batchsize_per_replica": 4,
    "use_shuffle": False,
    "num_samples": 20,
    "crop_size": 16,
    "class_ratio": 0.5,
    "seed": 0,
}


def test_samples_carry_input_target_and_id():
    sample = RandomImageBinaryClassDataset(16, 0.5, 20, 0)[3]
    assert sample["input"].size == (16, 16) and sample["target"] in (0, 1) and sample["id"] == 3


def test_target_shows_in_its_channel():
    for sample in (RandomImageBinaryClassDataset(16, 0.5, 20, 0)[i] for i in range(20)):
        strongest = np.asarray(sample["input"]).max((0, 1))
        assert strongest[1 - sample["target"]] == 0 and strongest[sample["target"]] > 0 and strongest[2] > 0


def test_images_are_the_same_at_every_reading_and_leave_numpy_alone():
    before = np.random.get_state()[1].copy()
    one, two = (np.asarray(RandomImageBinaryClassDataset(16, 0.5, 20, 1)[5]["input"]) for _ in range(2))
    assert np.array_equal(one, two) and np.array_equal(np.random.get_state()[1], before)


def test_images_are_those_of_the_predecessor():
    dataset = RandomImageBinaryClassDataset(4, 0.5, 6, 3)
    assert [dataset[index]["target"] for index in range(6)] == [0, 0, 1, 0, 1, 0] == dataset.targets.tolist()
    assert np.asarray(dataset[2]["input"]).reshape(-1, 3)[:2].tolist() == [[0, 222, 75], [0, 52, 160]]
    sample = RandomImageDataset(4, 3, 7, 6, 3)[2]
    assert sample["target"] == 6 and np.asarray(sample["input"]).reshape(-1, 3)[0].tolist() == [112, 172, 107]


def test_class_ratio():
    assert abs(RandomImageBinaryClassDataset(1, 0.2, 10000, 0).targets.mean() - 0.2) < 0.02


@pytest.mark.parametrize(("kind", "expected"), [(SampleType.TUPLE, tuple), (SampleType.LIST, list)])
def test_sample_types(kind, expected):
    sample = RandomImageBinaryClassDataset(16, 0.5, 20, 0, kind)[0]
    assert type(sample) is expected and len(sample) == 2


def test_end_of_the_dataset():
    assert len(list(RandomImageBinaryClassDataset(2, 0.5, 3, 0))) == 3


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_random_images_have_the_channels(channels, mode):
    sample = RandomImageDataset(8, channels, 7, 20, 0)[0]
    assert sample["input"].mode == mode and 0 <= sample["target"] < 7


@pytest.mark.parametrize("index", [-1, 20])
def test_a_row_that_is_not_there(index):
    for dataset in (RandomImageDataset(8, 3, 7, 20, 0), ListDataset(["a"] * 20, loader=str)):
        with pytest.raises(RowNumberError) as caught:
            dataset[index]
        assert isinstance(caught.value, AssertionError) and isinstance(caught.value, IndexError)


def test_config_gives_batches():
    batch = next(iter(build_dataset(CONFIG).iterator()))
    assert batch["input"].shape == (4, 3, 16, 16) and batch["id"].tolist() == [0, 1, 2, 3]


def test_labels_are_the_targets():
    data = build_dataset(CONFIG)
    assert data.labels().tolist() == [data[i]["target"] for i in range(20)] and data.num_classes == 2


def test_constructor_takes_the_arguments_of_the_predecessor_in_order():
    assert isinstance(SyntheticImageDataset(4, False, None, 20, 16, 0.5, 0)[0]["input"], Image.Image)


def test_a_key_that_is_missing_is_named():
    with pytest.raises(ComponentError, match="lacks crop_size, seed"):
        build_dataset({key: value for key, value in CONFIG.items() if key not in ("crop_size", "seed")})


def test_num_samples_is_required():
    assert config_keys(SyntheticImageDataset)["num_samples"].default is REQUIRED


@pytest.mark.parametrize("wrong", [{"class_ratio": 1.5}, {"crop_size": 0}, {"seed": -1}])
def test_impossible_arguments(wrong):
    with pytest.raises(ComponentError):
        build_dataset({**CONFIG, **wrong})


def test_list_dataset_adds_metadata(tmp_path):
    Image.new("L", (2, 3)).save(tmp_path / "a.png")
    sample = ListDataset([str(tmp_path / "a.png")], [{"target": 4}])[0]
    assert sample["input"].mode == "RGB" and sample["target"] == 4


def test_list_dataset_takes_targets():
    sample = ListDataset(["a"], [torch.tensor(3)], loader=str.upper)[0]
    assert sample == {"input": "A", "target": torch.tensor(3)}


@pytest.mark.parametrize("metadata", [[], [{"input": 1}], ({"target": 1},)])
def test_list_dataset_refuses_metadata(metadata):
    with pytest.raises(ComponentError, match="metadata"):
        ListDataset(["a.png"], metadata)


def test_torch_sees_a_map_style_dataset():
    assert isinstance(RandomImageDataset(8, 3, 7, 20, 0), torch.utils.data.Dataset)


@pytest.mark.parametrize(("key", "value"), [("num_samples", 10**9), ("crop_size", 10**9), ("num_samples", None)])
def test_a_size_that_no_machine_has_is_refused(key, value):
    with pytest.raises(ComponentError, match=rf"{key} of random images must be an integer of 1 to 10,0.*, not {value}"):
        build_dataset({**CONFIG, key: value})
