import pytest
import torch

from ray_classy.errors import CheckpointError, ComponentError
from ray_classy.meters import PrecisionAtKMeter, RecallAtKMeter, build_meter

SCORES = torch.tensor([[0.2, 0.4, 0.5, 0.0], [0.1, 0.2, 0.3, 0.4], [0.9, 0.05, 0.03, 0.02], [0.4, 0.3, 0.2, 0.1]])
INDEX = torch.tensor([2, 0, 1, 3])
MULTI_HOT = torch.tensor([[1, 0, 1, 0], [0, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]])
LISTS = torch.tensor([[2, 0, -1], [1, 2, 3], [0, -1, -1], [-1, -1, -1]])
SOFT = torch.tensor([[0.5, 0, 0.5, 0], [0, 0.25, 0.25, 0.5], [1.0, 0, 0, 0], [0.25] * 4])


def value(cls, target, **options):
    meter = cls([1, 2], **options)
    meter.update(SCORES, target, is_train=True)
    return meter.value


@pytest.mark.parametrize("target", [INDEX, INDEX[:, None], torch.nn.functional.one_hot(INDEX)])
def test_targets_of_one_class(target):
    assert value(PrecisionAtKMeter, target) == {"top_1": 1 / 4, "top_2": 2 / 8}
    assert value(RecallAtKMeter, target) == {"top_1": 1 / 4, "top_2": 2 / 4}


@pytest.mark.parametrize("target", [MULTI_HOT, MULTI_HOT.float(), MULTI_HOT.bool()])
def test_targets_of_several_classes(target):
    assert value(PrecisionAtKMeter, target) == {"top_1": 3 / 4, "top_2": 4 / 8}
    assert value(RecallAtKMeter, target) == {"top_1": 3 / 6, "top_2": 4 / 6}


def test_lists_of_classes():
    assert value(PrecisionAtKMeter, LISTS, target_is_one_hot=False) == {"top_1": 3 / 3, "top_2": 4 / 6}
    assert value(RecallAtKMeter, LISTS, target_is_one_hot=False, num_classes=4) == {"top_1": 3 / 6, "top_2": 4 / 6}


def test_lists_as_long_as_the_classes():
    padded = torch.nn.functional.pad(LISTS, (0, 1), value=-1)
    assert value(RecallAtKMeter, padded, target_is_one_hot=False) == value(RecallAtKMeter, MULTI_HOT)


def test_soft_targets_add_their_mass():
    assert value(PrecisionAtKMeter, SOFT) == {"top_1": 2.25 / 4, "top_2": 2.75 / 8}
    assert value(RecallAtKMeter, SOFT) == {"top_1": 2.25 / 4, "top_2": 2.75 / 4}


def test_rows_without_a_label_do_not_count():
    assert value(PrecisionAtKMeter, torch.tensor([2, -1, -1, 3])) == {"top_1": 1 / 2, "top_2": 1 / 4}
    assert value(RecallAtKMeter, torch.tensor([2, -1, -1, 3])) == {"top_1": 1 / 2, "top_2": 1 / 2}


@pytest.mark.parametrize(("cls", "counted"), [(PrecisionAtKMeter, "sample_count"), (RecallAtKMeter, "correct_targets")])
def test_state_has_the_known_keys_and_round_trips(cls, counted):
    meter, other = cls([1, 2]), cls([1, 2])
    meter.update(SCORES, MULTI_HOT)
    meter.sync_state()
    meter.update(SCORES, INDEX)
    state = meter.get_classy_state()
    both = {f"{when}_{counted}" for when in ("total", "curr")}
    assert set(state) == {"name", "top_k", "total_correct_predictions", "curr_correct_predictions_k", *both}
    other.set_classy_state(state)
    assert other.value == meter.value
    with pytest.raises(CheckpointError):
        cls([1]).set_classy_state(state)


@pytest.mark.parametrize("name", ["precision_at_k", "recall_at_k"])
def test_the_meters_are_built_by_name(name):
    meter = build_meter({"name": name, "topk": [1]})
    assert (meter.name, repr(meter)) == (name, f"{name}_meter(top_1=0.000000)")
    with pytest.raises(KeyError, match="has no `topk`"):
        build_meter({"name": name})


@pytest.mark.parametrize("target", [(3, 3), (4, 3, 1), ()])
def test_lists_of_another_shape_are_refused(target):
    with pytest.raises(ComponentError, match=r"lists of class indices of shape \(4, L\)"):
        RecallAtKMeter([1], target_is_one_hot=False).validate((4, 5), target)
