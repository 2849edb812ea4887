import pytest
import torch

from ray_classy.checkpoint.state_dicts import find_state_dict
from ray_classy.errors import CheckpointError

ONE = torch.zeros(())


def tensors(count):
    return {f"layer{number}.weight": ONE for number in range(count)}


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (tensors(3), ""),
        ({"ema_state_dict": tensors(3), "best_loss": ONE}, "ema_state_dict"),
        ({**tensors(3), "ema": tensors(3)}, ""),
        ({"student": tensors(2), "teacher": tensors(3)}, "teacher"),
        ({"model": {"net": tensors(3), "step": ONE}, "other": tensors(9)}, "model.net"),
        ({"net": tensors(3), "state_dict": tensors(2)}, "state_dict"),
    ],
)
def test_state_dict_that_is_meant(content, key):
    assert find_state_dict(content).key == key


def test_file_without_tensors():
    assert find_state_dict({"model": 3}) == find_state_dict(3) == ("", {}, [])


@pytest.mark.parametrize("outer", [lambda inner: inner, lambda inner: {"model": inner}])
def test_two_state_dicts_of_one_size_are_refused_with_both_keys(outer):
    with pytest.raises(CheckpointError, match=r"of 3 tensors \((model\.)?student, (model\.)?teacher\)"):
        find_state_dict(outer({"student": tensors(3), "teacher": tensors(3), "last": tensors(1)}))
