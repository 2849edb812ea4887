import pytest

from ray_classy.dataset.transforms import (
    ApplyTransformToKey,
    GenericImageTransform,
    TupleToMapTransform,
    build_transform,
)
from ray_classy.errors import ComponentError, DataError


def double(value):
    return 2 * value


def test_apply_to_key_of_a_dict_in_place():
    sample = {"input": 3, "target": 1}
    assert ApplyTransformToKey(double)(sample) is sample
    assert sample == {"input": 6, "target": 1}


@pytest.mark.parametrize(("sample", "expected"), [((3, 1), (3, 2)), ([3, 1], [3, 2])])
def test_apply_to_position(sample, expected):
    assert ApplyTransformToKey(double, key=1)(sample) == expected


def test_apply_to_last_position_of_a_tuple():
    assert ApplyTransformToKey(double, key=-1)((1, 2, 3)) == (1, 2, 6)


def test_apply_lets_none_pass():
    assert ApplyTransformToKey(double)(None) is None


@pytest.mark.parametrize("sample", [{"image": 1}, (1, 2)])
def test_apply_to_a_missing_key(sample):
    with pytest.raises(DataError, match="input"):
        ApplyTransformToKey(double)(sample)


def test_apply_from_config():
    transform = build_transform({"name": "apply_transform_to_key", "transforms": [], "key": "video"})
    assert transform({"video": 1}) == {"video": 1}


def test_tuple_to_map():
    assert TupleToMapTransform(["input", "target"])((5, 1)) == {"input": 5, "target": 1}


def test_tuple_to_map_collects_a_repeated_key():
    assert TupleToMapTransform(["input", "target", "target"])((5, 1, 2)) == {"input": 5, "target": [1, 2]}


def test_tuple_to_map_lets_maps_pass():
    sample = {"input": 5, "target": 1, "id": 2}
    assert TupleToMapTransform(["input", "target"])(sample) is sample


@pytest.mark.parametrize("sample", [(1,), {"input": 1}])
def test_tuple_to_map_of_another_shape(sample):
    with pytest.raises(DataError, match="tuple_to_map"):
        TupleToMapTransform(["input", "target"])(sample)


def test_generic_names_all_items_of_a_tuple():
    assert GenericImageTransform(double)((5, 1, "a")) == {"input": 10, "target": 1, "2": "a"}


def test_generic_takes_a_map():
    assert GenericImageTransform(double)({"input": 5, "id": 3}) == {"input": 10, "id": 3}


def test_generic_without_transform():
    assert build_transform({"name": "generic_image_transform"})((5, 1)) == {"input": 5, "target": 1}


@pytest.mark.parametrize("arguments", [{"transform": double, "split": "train"}, {"split": "val"}])
def test_generic_refuses(arguments):
    with pytest.raises(ComponentError):
        GenericImageTransform(**arguments)
