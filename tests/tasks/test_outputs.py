"""Models with several outputs, losses with parts that learn, and meters that read samples."""

import copy

import pytest
import torch
from torch import nn

from ray_classy.errors import RayClassyError
from ray_classy.heads import FullyConnectedHead
from ray_classy.losses import ClassyLoss, MultiOutputSumLoss, SumArbitraryLoss
from ray_classy.meters import AccuracyMeter, VideoAccuracyMeter
from ray_classy.tasks import ClassificationTask
from tests.helpers import make_task, run_ranks, train, vectors


class MeasuresTheFirstHead(ClassificationTask):
    def update_meters(self, model_output, sample):
        super().update_meters(model_output["a"], sample)


class WeightsOutputs(ClassyLoss):
    def forward(self, output, target):
        cross_entropy = nn.functional.cross_entropy
        return cross_entropy(output["a"], target) + 0.5 * cross_entropy(output["b"], target)


class Scaled(ClassyLoss):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, output, target):
        return nn.functional.cross_entropy(output * self.scale, target)


class CountsRows(AccuracyMeter):
    sample_keys = ("row", "missing")
    rows = 0

    def update(self, model_output, target, row, **kwargs):
        self.rows += len(row)
        super().update(model_output, target)


def two_heads(cls=MeasuresTheFirstHead):
    task = make_task(train=8, test=6, cls=cls)
    task.base_model.set_heads({"2": [FullyConnectedHead("a", 4, 4)], "0": [FullyConnectedHead("b", 4, 8)]})
    return task


@pytest.mark.parametrize("loss", [WeightsOutputs(), MultiOutputSumLoss(nn.CrossEntropyLoss(ignore_index=3))])
def test_heads_train_with_a_loss_over_their_outputs(loss):
    task = two_heads().set_loss(loss)
    before = copy.deepcopy(task.base_model.state_dict())
    train(task)
    assert all(not torch.equal(value, before[name]) for name, value in task.base_model.state_dict().items())
    assert 0 <= task.meters[0].value["top_1"] <= 1


def test_a_meter_says_where_to_choose_an_output():
    with pytest.raises(RayClassyError, match=r"update_meters\(model_output, sample\)"):
        train(two_heads(ClassificationTask).set_loss(WeightsOutputs()))


def test_the_parts_of_a_sum_are_in_the_optimizer_and_in_the_state():
    loss = SumArbitraryLoss([Scaled(), nn.CrossEntropyLoss()], [1.0, 0.5])
    task = train(make_task(train=8, test=None).set_loss(loss))
    state = task.get_classy_state(deep_copy=True)
    assert state["loss"].keys() == {"losses.0.scale"} and state["loss"]["losses.0.scale"] != 1
    resumed = make_task(train=8, test=None).set_loss(SumArbitraryLoss([Scaled(), nn.CrossEntropyLoss()], [1.0, 0.5]))
    resumed.prepare()
    resumed.set_classy_state(state)
    assert torch.equal(resumed.base_loss.losses[0].scale, loss.losses[0].scale)


def test_a_meter_gets_the_entries_of_the_sample_that_it_names():
    task = make_task(train=8, test=6).set_meters([CountsRows([1])])
    train(task)
    assert task.meters[0].rows == 14


def measured_videos(batch):
    """Value and number of videos of 3 clips, 13 clips in all, the targets of whose rows are those of their videos."""

    def clip(row):
        return {**row, "target": row["row"] // 3 % 4, "video": str(row["row"] // 3)}

    task = make_task(train=None, test=13).set_test_only(True).set_meters([VideoAccuracyMeter([1, 2, 3], 1, 3)])
    train(task.set_dataset(vectors(13, batch, transform=clip), "test"))
    return task.meters[0].value, task.meters[0].meter.get_classy_state()["total_sample_count"].item()


def test_videos_count_once_in_any_batches_and_on_any_number_of_ranks():
    value, count = measured_videos(13)
    assert count == 5 and 0 < value["top_2"] < 1
    assert measured_videos(2) == measured_videos(5) == (value, count)
    assert run_ranks(2, measured_videos, 2) == run_ranks(2, measured_videos, 3) == [(value, count)] * 2
