import json
from collections import namedtuple
from types import MappingProxyType

import numpy as np
import pytest
import torch
from torch import nn

from ray_classy import distributed
from ray_classy.errors import ComponentError
from ray_classy.generic import distributed_util, util

Pair = namedtuple("Pair", "first second")


@pytest.mark.parametrize(("number", "expected"), [(0, True), (3, True), (-1, False), (True, False), (1.0, False)])
def test_positive_integers_include_zero_but_no_bools(number, expected):
    assert util.is_pos_int(number) is expected
    assert util.is_pos_int_list([1, number]) is expected
    assert util.is_pos_int_tuple((1, number)) is expected


def test_numpy_integers_are_no_positive_integers():
    assert not util.is_pos_int(np.int64(3))


def test_lists_and_tuples_are_told_apart():
    assert not util.is_pos_int_list((1, 2)) and not util.is_pos_int_tuple([1, 2])


@pytest.mark.parametrize(("number", "expected"), [(0.0, True), (0.5, True), (-0.5, False), (1, False)])
def test_positive_floats_include_zero_but_no_integers(number, expected):
    assert util.is_pos_float(number) is expected


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.float64])
def test_tensors_are_told_apart_by_type(dtype):
    tensor = torch.zeros(1, dtype=dtype)
    found = [util.is_long_tensor(tensor), util.is_float_tensor(tensor), util.is_double_tensor(tensor)]
    assert found == [dtype == other for other in (torch.int64, torch.float32, torch.float64)]


def test_leaves_have_no_children():
    assert util.is_leaf(nn.Linear(1, 1)) and not util.is_leaf(nn.Sequential(nn.Linear(1, 1)))


def test_a_model_on_the_cpu_or_without_parameters_is_not_on_the_gpu():
    assert not util.is_on_gpu(nn.Linear(1, 1)) and not util.is_on_gpu(nn.ReLU())


def test_none_is_none():
    assert util.is_not_none(0) and not util.is_not_none(None)


def test_copies_keep_the_structure():
    tensor = torch.zeros(1)
    value = {"a": [tensor, "text", 3], "b": (tensor, None), "c": Pair(tensor, {"d": tensor})}
    copied = util.recursive_copy_to_device(value, non_blocking=True, device="meta")
    assert copied["a"][0].device.type == copied["b"][0].device.type == copied["c"].second["d"].device.type == "meta"
    assert isinstance(copied["c"], Pair) and copied["a"][1:] == ["text", 3] and copied["b"][1] is None


def test_tensors_are_replaced_in_state_dicts_that_keep_their_class_and_attributes():
    state = nn.BatchNorm1d(2).state_dict()
    mapped = util.map_tensors({"model": state, "shape": torch.Size([2])}, lambda tensor: tensor + 1)
    assert type(mapped["model"]) is type(state) and mapped["model"]._metadata == state._metadata
    assert mapped["model"]["weight"].tolist() == [2, 2] and state["weight"].tolist() == [1, 1]
    assert type(mapped["shape"]) is torch.Size


def test_mappings_of_other_classes_become_dicts():
    mapped = util.map_tensors(MappingProxyType({"a": torch.zeros(1)}), torch.Tensor.tolist)
    assert mapped == {"a": [0]}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_copies_reach_the_gpu():
    assert util.recursive_copy_to_gpu({"input": [torch.zeros(1)]})["input"][0].is_cuda


def test_numpys_state_is_restored():
    np.random.seed(1)
    expected = np.random.rand(2)
    np.random.seed(1)
    first = np.random.rand()
    with util.numpy_seed(5):
        inside = np.random.rand()
    assert [first, np.random.rand()] == expected.tolist()
    with util.numpy_seed(5):
        assert np.random.rand() == inside


def test_further_numbers_change_numpys_seed():
    drawn = []
    for numbers in [(5,), (5, 1), (5, 2), (5, 1)]:
        with util.numpy_seed(*numbers):
            drawn.append(np.random.rand())
    assert drawn[1] == drawn[3] and len(set(drawn)) == 3


def test_torchs_state_is_restored_also_after_an_error():
    torch.manual_seed(1)
    expected = torch.rand(2).tolist()
    torch.manual_seed(1)
    first = torch.rand(1).item()
    with pytest.raises(KeyError), util.torch_seed(5):
        torch.rand(3)
        raise KeyError
    assert [first, torch.rand(1).item()] == expected


@pytest.mark.parametrize("seed", [util.numpy_seed, util.torch_seed])
def test_no_seed_does_nothing(seed):
    torch.manual_seed(1)
    np.random.seed(1)
    expected = torch.rand(1).item(), np.random.rand()
    torch.manual_seed(1)
    np.random.seed(1)
    with seed(None):
        assert (torch.rand(1).item(), np.random.rand()) == expected


def test_nested_mappings_become_flat():
    nested = {"accuracy": {"top_1": 1, "top_5": {"x": 2}}, "loss": 3}
    assert util.flatten_dict(nested) == {"accuracy_top_1": 1, "accuracy_top_5_x": 2, "loss": 3}
    assert util.flatten_dict(nested, "train", "/")["train/accuracy/top_1"] == 1


def test_json_is_loaded(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"name": "é"}), encoding="utf-8")
    assert util.load_json(str(tmp_path / "config.json")) == {"name": "é"}


def test_indices_become_rows_with_a_one():
    rows = util.convert_to_one_hot(torch.tensor([[2], [0]]), 3)
    assert rows.tolist() == [[0, 0, 1], [1, 0, 0]] and rows.dtype == torch.int64


def test_one_hot_takes_a_column():
    with pytest.raises(ComponentError, match=r"\(N, 1\)"):
        util.convert_to_one_hot(torch.tensor([2, 0]), 3)


def test_targets_become_one_hot_only_if_they_are_indices():
    output, soft = torch.zeros(2, 3), torch.rand(2, 3)
    assert util.maybe_convert_to_one_hot(torch.tensor([2, 0]), output).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert util.maybe_convert_to_one_hot(soft, output) is soft
    with pytest.raises(ComponentError, match=r"\(2, 4\)"):
        util.maybe_convert_to_one_hot(torch.zeros(2, 4), output)


def test_the_batch_size_is_found_at_any_depth():
    assert util.get_batchsize_per_replica([{"input": (torch.zeros(4, 2), 1)}]) == 4
    with pytest.raises(ComponentError, match="empty"):
        util.get_batchsize_per_replica({"input": []})


def test_dummy_inputs_have_the_models_dtype_and_the_keys_asked_for():
    model = nn.Linear(3, 2).to(torch.float64)
    assert util.get_model_dummy_input(model, (3,), None, 2).dtype == torch.float64
    assert util.get_model_dummy_input(model, (3,), "a", 2)["a"].shape == (2, 3)
    assert {k: v.shape for k, v in util.get_model_dummy_input(model, [(3,), (4,)], ["a", "b"]).items()} == {
        "a": (1, 3),
        "b": (1, 4),
    }
    assert util.get_model_dummy_input(model, {"x": (3,)}, "a")["x"]["a"].shape == (1, 3)
    with pytest.raises(ComponentError, match="one shape for each key"):
        util.get_model_dummy_input(model, [(3,)], ["a", "b"])


def test_batch_norm_parameters_are_split_off():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.LayerNorm(2), nn.BatchNorm2d(2))
    batch_norm, other = util.split_batchnorm_params(model)
    assert [id(p) for p in batch_norm] == [id(p) for i in (1, 3) for p in model[i].parameters()]
    assert [id(p) for p in other] == [id(p) for i in (0, 2) for p in model[i].parameters()]


def test_frozen_parameters_are_left_out_and_shared_ones_listed_once():
    model = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2), nn.BatchNorm1d(2).requires_grad_(False)])
    model[1].weight = model[0].weight
    batch_norm, other = util.split_batchnorm_params(model)
    assert batch_norm == [] and len(other) == 3


def test_the_timer_measures_its_block():
    with util.Timer() as timer:
        assert timer.elapsed_time == 0
    assert timer.elapsed_time > 0


@pytest.mark.parametrize(("context", "mode"), [(util.train_model, True), (util.eval_model, False)])
def test_modes_are_restored_module_by_module(context, mode):
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout()))
    model[1].eval()
    with context(model):
        assert all(module.training is mode for module in model.modules())
    assert [module.training for module in model.modules()] == [True, True, False, False]


def test_the_version_of_torch_has_two_numbers():
    assert torch.__version__.startswith("{}.{}.".format(*util.get_torch_version()))


def test_the_distributed_helpers_are_the_same_functions():
    own = {"all_reduce_op", "broadcast_object"}  # with the predecessor's arguments
    shared = [name for name in distributed_util.__all__ if name not in own and hasattr(distributed, name)]
    assert len(shared) > 10
    assert all(getattr(distributed_util, name) is getattr(distributed, name) for name in shared)
