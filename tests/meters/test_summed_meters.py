import torch

from ray_classy.distributed import get_rank
from ray_classy.meters import AccuracyMeter, PrecisionAtKMeter, RecallAtKMeter, VideoAccuracyMeter, sync_meters
from tests.helpers import run_ranks

SCORES = torch.tensor([[3.0, 2.0, 1.0], [1.0, 3.0, 2.0], [2.0, 1.0, 3.0], [1.0, 2.0, 3.0]])
TARGET = torch.tensor([0, 2, 1, 2])
VIDEOS = ["a", "b", "c", "b", "c", "c", "a", "c"]  # "a" and "b" lack clips
VIDEO_TARGET = torch.tensor([0, 1, 2, 1, 2, 2, 0, 2])
OUTPUTS = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))


class CountsCalls(AccuracyMeter):
    calls = 0

    def sync_state(self):
        self.calls += 1


def synced():
    """Values of several meters after updates on the first rank alone, and the number of reductions."""
    reductions = []
    before = torch.distributed.all_reduce
    torch.distributed.all_reduce = lambda tensor, op: (reductions.append(len(tensor)), before(tensor, op))
    meters = [AccuracyMeter([1]), PrecisionAtKMeter([1, 2]), RecallAtKMeter([2]), VideoAccuracyMeter([1], 1, 2)]
    if get_rank() == 0:
        for meter in meters:
            meter.update(SCORES[[0, 0, 1, 1]], TARGET[[0, 0, 1, 1]], is_train=False)
    sync_meters(meters)
    torch.distributed.all_reduce = before
    return [meter.value for meter in meters], reductions


def videos(world_size):
    """Values of videos whose clips are spread over the ranks, in batches of 3."""
    meter = VideoAccuracyMeter([1, 2], 1, 4)
    mine = list(range(8))[get_rank() :: world_size]
    for batch in [mine[:3], mine[3:6], mine[6:]]:
        if batch:
            meter.update(OUTPUTS[batch], VIDEO_TARGET[batch], is_train=False, video=[VIDEOS[row] for row in batch])
    meter.sync_state()
    return meter.value, meter.get_classy_state()["meter_state"]["total_sample_count"].item()


def both():
    return synced(), videos(2)


def test_two_processes_need_one_reduction_and_count_each_video_once():
    first, second = run_ranks(2, both)
    assert first == second
    (values, reductions), of_videos = first
    assert values == [{"top_1": 0.5}, {"top_1": 0.5, "top_2": 0.5}, {"top_2": 1.0}, {"top_1": 0.5}]
    assert reductions == [2 + 3 + 2 + 3]
    assert of_videos == videos(1)


def test_a_video_counts_by_the_mean_of_its_clips():
    rows = {name: [row for row, video in enumerate(VIDEOS) if video == name] for name in "abc"}
    means = torch.stack([OUTPUTS[rows[name]].mean(0) for name in "abc"])
    right = (means.argmax(1) == torch.tensor([0, 1, 2])).double().mean().item()
    meter = VideoAccuracyMeter([1], 1, 4)
    meter.update(OUTPUTS, VIDEO_TARGET, is_train=False, video=VIDEOS)
    meter.sync_state()
    assert meter.value == {"top_1": right}


def test_a_meter_with_its_own_synchronisation_keeps_it():
    meter = CountsCalls([1])
    sync_meters([AccuracyMeter([1]), meter])
    assert meter.calls == 1


def test_no_meters_need_no_reduction():
    sync_meters([])


def test_updates_fetch_nothing_from_the_device():
    meters = [AccuracyMeter([1]), PrecisionAtKMeter([1]), RecallAtKMeter([1]), VideoAccuracyMeter([1], 1, 4)]
    lists = [AccuracyMeter([1], False), PrecisionAtKMeter([1], False), RecallAtKMeter([1], False)]
    one_hot = torch.nn.functional.one_hot(VIDEO_TARGET).to("meta")  # where there is no data to be fetched
    for meter in [*meters, *lists, meters[-1]]:
        for target in (VIDEO_TARGET.to("meta"), one_hot):
            meter.reset()
            meter.update(OUTPUTS.to("meta"), target, is_train=False)
            meter.update(OUTPUTS.to("meta"), VIDEO_TARGET.to("meta"), is_train=False, video=VIDEOS)
