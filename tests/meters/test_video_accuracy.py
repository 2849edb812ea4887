import copy
import logging

import pytest
import torch

from ray_classy.errors import CheckpointError, ComponentError, DataError
from ray_classy.meters import AccuracyMeter, VideoAccuracyMeter, build_meter

SCORES = torch.tensor([[3.0, 2, 1], [3, 1, 2], [1, 5, 2], [1, 2, 3], [9, 1, 2], [1, 3, 5]])
TARGET = torch.tensor([0, 0, 1, 1, 2, 2])


def updated(target=TARGET, **options):
    meter = VideoAccuracyMeter([1, 2], 1, 2)
    meter.update(SCORES, target, **{"is_train": False, **options})
    return meter


@pytest.mark.parametrize("target", [TARGET, TARGET[:, None], torch.nn.functional.one_hot(TARGET)])
def test_clips_that_follow_each_other_are_averaged(target):
    assert updated(target).value == {"top_1": 2 / 3, "top_2": 1.0}


def test_train_phases_have_their_own_number_of_clips():
    assert updated(is_train=True).value == {"top_1": 4 / 6, "top_2": 1.0}
    assert updated(is_train=True).meter.get_classy_state()["curr_sample_count"] == 6


def test_update_must_know_the_phase():
    with pytest.raises(TypeError, match="is_train"):
        VideoAccuracyMeter([1], 1, 2).update(SCORES, TARGET)


def test_a_batch_that_is_no_multiple_is_skipped_and_logged(caplog):
    meter = updated()
    with caplog.at_level(logging.INFO, "ray_classy"):
        meter.update(SCORES[:5], TARGET[:5], is_train=False)
    assert "skips a batch of 5 clips" in caplog.text and meter.value == updated().value


def test_named_videos_may_be_in_any_batches():
    meter, names = VideoAccuracyMeter([1, 2], 1, 2), list("abcbca")
    order = [0, 2, 4, 3, 5, 1]
    for batch in (slice(0, 1), slice(1, 4), slice(4, 6)):
        rows = order[batch]
        meter.update(SCORES[rows], TARGET[rows], is_train=False, video=names[batch])
    assert meter.value == updated().value


def test_a_video_that_lacks_clips_counts_when_it_is_synchronised():
    meter = VideoAccuracyMeter([1], 1, 5)
    meter.update(SCORES[:3], TARGET[:3], is_train=False, video=torch.tensor([7, 7, 8]))
    assert meter.value == {"top_1": 0.0}
    meter.sync_state()
    assert meter.value == {"top_1": 1.0} and meter.meter.get_classy_state()["total_sample_count"] == 2


def test_clips_of_a_video_have_one_target():
    wrong = torch.tensor([0, 1, 1, 1, 2, 2])
    with pytest.raises(AssertionError, match="different targets"):
        updated(wrong)
    with pytest.raises(AssertionError, match="different targets"):
        updated(wrong, video=list("aabbcc"))
    meter = VideoAccuracyMeter([1], 1, 3)
    meter.update(SCORES[:2], TARGET[:2], is_train=False, video=["a", "a"])
    with pytest.raises(AssertionError, match="different targets"):
        meter.update(SCORES[2:3], TARGET[2:3], is_train=False, video=["a"])


def test_reset_forgets_unfinished_videos_too():
    meter = VideoAccuracyMeter([1], 1, 2)
    meter.update(SCORES[:1], TARGET[:1], is_train=False, video=["a"])
    meter.reset()
    meter.sync_state()
    assert meter.value == {"top_1": 0.0}


def test_state_has_the_known_keys_and_round_trips():
    state = updated().get_classy_state()
    assert set(state) == {"meter_state", "name", "clips_per_video_train", "clips_per_video_test"}
    meter = VideoAccuracyMeter([1, 2], 1, 2)
    meter.set_classy_state(state)
    assert meter.value == copy.deepcopy(updated()).value


@pytest.mark.parametrize(
    "change",
    [{"name": "x"}, {"clips_per_video_test": 3}, {"clips_per_video_test": torch.ones(2)}, {"meter_state": None}],
)
def test_the_state_of_another_meter_is_refused(change):
    with pytest.raises(CheckpointError):
        VideoAccuracyMeter([1, 2], 1, 2).set_classy_state({**updated().get_classy_state(), **change})


def test_config_needs_the_clips_of_test_phases():
    meter = build_meter({"name": "video_accuracy", "topk": [1], "clips_per_video_test": 2})
    assert isinstance(meter.meter, AccuracyMeter) and repr(meter) == "video_accuracy_meter(top_1=0.000000)"
    with pytest.raises(KeyError, match="has no `clips_per_video_test`"):
        build_meter({"name": "video_accuracy", "topk": [1]})


@pytest.mark.parametrize("clips", [0, 1.0, True, None, "1"])
def test_impossible_numbers_of_clips_are_refused(clips):
    with pytest.raises(ComponentError, match="clips_per_video_test"):
        VideoAccuracyMeter([1], 1, clips)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_an_update_does_not_wait_for_the_gpu():
    meter, scores, target = VideoAccuracyMeter([1, 2], 1, 2), SCORES.cuda(), TARGET.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for video in (None, list("abbacc"), list("defdef")):
            meter.update(scores, target.zero_(), is_train=False, video=video)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert meter.value["top_2"] > 0


def test_a_video_with_more_clips_than_the_meter_expects_is_an_error_in_any_batches():
    for rows in (12, 5):
        meter = VideoAccuracyMeter([1], clips_per_video_train=1, clips_per_video_test=10)
        with pytest.raises(DataError, match="video 'a' has more than 10 clips"):
            for first in range(0, 12, rows):
                clips = min(rows, 12 - first)
                meter.update(torch.rand(clips, 3), torch.zeros(clips).long(), is_train=False, video=["a"] * clips)
