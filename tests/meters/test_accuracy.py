import copy
import io
import pickle

import pytest
import torch

from ray_classy.distributed import is_primary
from ray_classy.errors import CheckpointError, ComponentError
from ray_classy.meters import AccuracyMeter
from tests.helpers import run_ranks

SCORES = torch.tensor([[3.0, 2.0, 1.0], [1.0, 3.0, 2.0], [2.0, 1.0, 3.0], [1.0, 2.0, 3.0]])
INDEX = torch.tensor([0, 2, 1, 2])  # right, second, third, right


def updated(target=INDEX, topk=(1, 2)):
    meter = AccuracyMeter(list(topk))
    meter.update(SCORES, target, is_train=True)
    return meter


def test_there_is_nothing_before_any_update():
    assert AccuracyMeter([1, 2]).value == {"top_1": 0.0, "top_2": 0.0}


@pytest.mark.parametrize("target", [INDEX, INDEX[:, None], torch.nn.functional.one_hot(INDEX)])
def test_targets_of_every_shape_count_alike(target):
    assert updated(target).value == {"top_1": 0.5, "top_2": 0.75}


def test_values_are_plain_floats():
    assert {type(value) for value in updated().value.values()} == {float}


def test_any_positive_class_makes_a_sample_correct():
    target = torch.tensor([[0, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 1]])
    assert updated(target).value == {"top_1": 0.25, "top_2": 0.75}


def test_soft_targets_add_the_largest_mass_among_the_k():
    target = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.5, 0.5], [0.0, 1.0, 0.0], [0.0, 0.5, 0.5]])
    assert updated(target).value == {"top_1": (0.25 + 0.5 + 0.5) / 4, "top_2": (0.75 + 0.5 + 0.5) / 4}


def test_updates_add_up():
    meter = updated()
    meter.update(SCORES[:1], INDEX[:1])
    assert meter.value["top_1"] == 3 / 5


def test_an_empty_batch_changes_nothing():
    meter = updated()
    meter.update(SCORES[:0], INDEX[:0])
    assert meter.value == updated().value


def test_counts_stay_exact_where_single_precision_would_not():
    meter = updated()
    state = meter.get_classy_state()
    state["total_sample_count"] = torch.tensor([2.0**24], dtype=torch.float64)
    meter.set_classy_state(state)
    assert meter.get_classy_state()["total_sample_count"] + state["curr_sample_count"] == 2**24 + 4
    assert meter.value["top_1"] == 2 / (2**24 + 4)


def test_reset_forgets():
    meter = updated()
    meter.reset()
    assert meter.value == AccuracyMeter([1, 2]).value


def test_synchronising_alone_keeps_the_value_and_does_not_count_twice():
    meter = updated()
    meter.sync_state()
    meter.sync_state()
    assert meter.value == updated().value


def test_updates_in_inference_mode_and_outside_mix():
    meter = AccuracyMeter([1, 2])
    with torch.inference_mode():
        meter.update(SCORES.clone(), INDEX.clone())
        meter.sync_state()
    meter.update(SCORES, INDEX)
    meter.sync_state()
    assert meter.value == updated().value


def test_outputs_that_need_gradients_leave_none_behind():
    meter = AccuracyMeter([1])
    meter.update(SCORES.clone().requires_grad_(), INDEX)
    assert not meter.get_classy_state()["curr_correct_predictions_k"].requires_grad


def test_repr_shows_six_digits():
    assert repr(updated(topk=[1])) == "accuracy_meter(top_1=0.500000)"


@pytest.mark.parametrize("topk", [[], [0], [1.0], ["1"], "1", 1, None, [True], [-1, 5]])
def test_impossible_topk_is_refused(topk):
    with pytest.raises(ComponentError, match="topk"):
        AccuracyMeter(topk)


@pytest.mark.parametrize(
    ("output", "target"), [((4,), (4,)), ((4, 3, 2), (4,)), ((4, 5), (3,)), ((4, 5), (4, 2)), ((4, 5), (4, 5, 1))]
)
def test_shapes_that_do_not_fit_are_refused(output, target):
    with pytest.raises(ComponentError, match="'accuracy'"):
        AccuracyMeter([1]).validate(output, target)


def test_every_k_must_be_less_than_the_classes():
    with pytest.raises(ComponentError, match=r"topk \[1, 3\], but the model has 3 outputs"):
        AccuracyMeter([1, 3]).validate(SCORES.shape, INDEX.shape)


def test_a_k_of_all_classes_counts_and_a_larger_one_is_refused():
    meter = AccuracyMeter([3])
    meter.update(SCORES, INDEX)
    assert meter.value == {"top_3": 1.0}
    with pytest.raises(RuntimeError, match=r"topk \[4\], but the model has 3 outputs"):
        AccuracyMeter([4]).update(SCORES, INDEX)


def test_a_state_without_a_name_is_a_missing_key():
    with pytest.raises(KeyError, match="lacks name, top_k"):
        AccuracyMeter([1]).set_classy_state({})


def test_the_state_has_the_known_keys():
    assert set(updated().get_classy_state()) == {
        "name",
        "top_k",
        "total_correct_predictions",
        "total_sample_count",
        "curr_sample_count",
        "curr_correct_predictions_k",
    }


def test_state_survives_a_file_and_continues():
    file = io.BytesIO()
    torch.save(updated().get_classy_state(), file)
    file.seek(0)
    meter = AccuracyMeter([1, 2])
    meter.set_classy_state(torch.load(file, weights_only=True))
    meter.update(SCORES[:1], INDEX[:1])
    assert meter.value["top_1"] == 3 / 5


def test_the_state_is_a_snapshot():
    meter = updated()
    state = meter.get_classy_state()
    meter.update(SCORES, INDEX)
    other = AccuracyMeter([1, 2])
    other.set_classy_state(state)
    other.update(SCORES, INDEX)
    assert state["curr_sample_count"].item() == 4


@pytest.mark.parametrize("change", [{"top_k": [1]}, {"name": "recall_at_k"}])
def test_the_state_of_another_meter_is_refused_with_both_shown(change):
    with pytest.raises(CheckpointError, match=r"(?s)accuracy.*\[1, 2\]") as caught:
        AccuracyMeter([1, 2]).set_classy_state({**updated().get_classy_state(), **change})
    assert str(next(iter(change.values()))) in str(caught.value)


def test_an_incomplete_state_is_refused():
    state = updated().get_classy_state()
    del state["total_sample_count"]
    with pytest.raises(CheckpointError, match="lacks total_sample_count"):
        AccuracyMeter([1, 2]).set_classy_state(state)


def test_pickling_and_copying_keep_the_counts():
    assert pickle.loads(pickle.dumps(updated())).value == copy.deepcopy(updated()).value == updated().value


def synced():
    """Values and rows after two updates by the first rank alone."""
    meter = AccuracyMeter([1, 2])
    for _ in range(2):
        if is_primary():
            meter.update(SCORES, INDEX)
        meter.sync_state()
    return meter.value, meter.get_classy_state()["total_sample_count"].item()


def test_two_processes_agree_also_if_one_has_no_rows():
    first, second = run_ranks(2, synced)
    assert first == second == ({"top_1": 0.5, "top_2": 0.75}, 8)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_an_update_does_not_wait_for_the_gpu():
    meter, scores, target = AccuracyMeter([1, 2]), SCORES.cuda(), INDEX.cuda()
    meter.update(scores, target)
    torch.cuda.set_sync_debug_mode("error")
    try:
        meter.update(scores, target)
        meter.sync_state()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert meter.value == {"top_1": 0.5, "top_2": 0.75}


def test_rows_without_a_label_do_not_count():
    meter = AccuracyMeter([1])
    meter.update(torch.eye(4), torch.tensor([0, -1, 3, -100]))
    assert meter.unsynced_counts().tolist() == [1.0, 2.0]
    meter.update(torch.eye(4)[:2], torch.tensor([[-1, -1, -1, -1], [-1, 1, 0, 0]]))
    assert meter.unsynced_counts().tolist() == [2.0, 3.0]


def test_lists_of_class_indices():
    meter = AccuracyMeter([1, 2], target_is_one_hot=False)
    meter.update(SCORES, torch.tensor([[1, 2], [1, -1], [0, -1], [-1, -1]]))
    assert meter.value == {"top_1": 1 / 3, "top_2": 1.0}


def test_a_model_with_several_outputs_is_named():
    with pytest.raises(ComponentError, match=r"returns \['a', 'b'\]: choose an output"):
        AccuracyMeter([1]).update({"a": SCORES, "b": SCORES}, INDEX)


def test_topk_of_a_checkpoint_may_be_a_tuple():
    meter = AccuracyMeter((1, 2))
    meter.set_classy_state({**updated().get_classy_state(), "top_k": (1, 2)})
    assert meter.value == updated().value
