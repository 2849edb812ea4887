"""The dry run makes a step as a train phase does: loss, backward pass and meters, in train mode."""

import logging
import threading

import pytest
import torch
from torch import nn

from ray_classy.errors import ComponentError, DataError, TaskError
from ray_classy.losses import build_loss
from ray_classy.meters import AccuracyMeter
from ray_classy.models import ClassyModel
from ray_classy.tasks import ClassificationTask, FineTuningTask
from tests.helpers import equal_weights, linear_model, make_task, train, vectors, weights

WEIGHT = {"weight": [1.0, 2.0, 3.0]}


def one_hot(sample):
    return {**sample, "target": torch.eye(4)[sample["target"]]}


def whole_numbers(sample):
    return {**sample, "target": torch.eye(4, dtype=torch.int64)[sample["target"]]}


def refused(task, match, error=TaskError, **options):
    with pytest.raises(error, match=match):
        task.preflight(**options)


class Forked(nn.Module):
    """A model with a layer behind its output."""

    def __init__(self):
        super().__init__()
        self.used, self.behind = linear_model().model, nn.Linear(4, 2)

    def forward(self, rows):
        output = self.used(rows)
        self.behind(output)
        return output


def forked(**options):
    return make_task(**options).set_model(ClassyModel.from_model(Forked(), input_shape=(6,)))


def test_parameters_without_gradient_are_refused_on_two_workers():
    match = r"2 parameters got no gradient.*behind\.weight, model\.behind\.bias.*distributed\.find_unused_parameters"
    refused(forked(), match, world_size=2)
    refused(forked().set_distributed_options(strategy="zero"), match, world_size=2)


def test_parameters_without_gradient_are_a_warning_in_one_process(caplog):
    forked().preflight()
    assert "2 parameters got no gradient" in caplog.text


@pytest.mark.parametrize("options", [{"find_unused_parameters": True}, {"strategy": "fsdp"}])
def test_parameters_without_gradient_pass_where_no_rank_waits_for_them(options, caplog):
    forked().set_distributed_options(**options).preflight(world_size=2)
    assert "2 parameters got no gradient" in caplog.text


def test_frozen_parameters_need_no_gradient(caplog):
    task = forked(cls=FineTuningTask).set_freeze(["model.behind.*"])
    task._set_pretrained_checkpoint_dict({"classy_state_dict": task.get_classy_state()})
    with caplog.at_level(logging.WARNING):
        task.preflight(world_size=2)
    assert not caplog.records and all(p.requires_grad for p in task.base_model.parameters())


def test_task_stays_as_it_was_after_a_train_step():
    task = make_task(batch_norm=True, dropout=0.5)
    task.base_model.model[0].weight.grad = torch.ones(8, 6)
    before = weights(task)
    task.preflight()
    assert equal_weights(before, weights(task)) and torch.equal(task.base_model.model[0].weight.grad, torch.ones(8, 6))
    counts = task.meters[0].get_classy_state()
    assert task.base_model.model[1].weight.grad is None
    assert counts["total_sample_count"] == counts["curr_sample_count"] == 0


@pytest.mark.parametrize("rows", [9, 3])
def test_last_batch_of_one_row_is_refused_where_batch_norm_cannot_train(rows):
    refused(make_task(train=rows, batch=2, batch_norm=True), "last batch .* one row.* Set drop_last to true")
    make_task(train=rows, batch=2).preflight()


def test_batches_of_one_row_are_refused_where_batch_norm_cannot_train():
    refused(make_task(batch=1, batch_norm=True), "Expected more than 1 value per channel")
    make_task(batch=1).preflight()


def test_phases_of_one_row_are_refused_where_batch_norm_cannot_train():
    task = make_task(train=5, batch=4, batch_norm=True)
    task.datasets["train"].phases_per_epoch = 3
    refused(task, "last batch .* one row")


@pytest.mark.parametrize("rows", [9, 13, 5])
def test_other_rows_pass_and_train(rows):
    task = make_task(train=rows, test=None, batch=4, batch_norm=True)
    task.preflight()
    train(task)


@pytest.mark.parametrize("name", ["MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "KLDivLoss", "PoissonNLLLoss"])
@pytest.mark.parametrize("outputs", [1, 2, 4])
def test_losses_that_compare_values_refuse_class_indices(name, outputs):
    model = nn.Sequential(nn.Linear(6, outputs))
    task = make_task(test=None).set_loss(build_loss({"name": name})).set_meters([])
    task.set_model(ClassyModel.from_model(model, input_shape=(6,)))
    refused(task, f"the loss cannot take .*{name} compares outputs .* use CrossEntropyLoss")


@pytest.mark.parametrize("name", ["MSELoss", "L1Loss", "BCEWithLogitsLoss", "KLDivLoss", "MultiLabelSoftMarginLoss"])
def test_losses_that_compare_values_take_one_value_per_output(name):
    task = make_task(test=None, transform=one_hot).set_loss(build_loss({"name": name}))
    task.preflight()
    train(task)


class WithoutGradient(nn.Module):
    def forward(self, output, target):
        return (output.argmax(1) != target).float().mean()


def test_error_of_the_backward_pass_is_found():
    refused(make_task(test=None).set_loss(WithoutGradient()), "the loss cannot take .* does not require grad")


def test_targets_of_another_dtype_train_or_are_refused():
    task = make_task(test=None, transform=whole_numbers).set_loss(nn.MSELoss())
    if torch.__version__ < "2.12":  # it does not convert them
        refused(task, "the loss cannot take .* of int64")
    else:
        task.preflight()
        train(task)
    refused(task.set_loss(nn.BCEWithLogitsLoss()), "the loss cannot take .* of int64")


@pytest.mark.parametrize("name", ["BCELoss", "CTCLoss", "TripletMarginLoss", "GaussianNLLLoss", "MultiLabelMarginLoss"])
def test_losses_that_cannot_be_used_are_one_error(name):
    refused(make_task(test=None, transform=one_hot).set_loss(build_loss({"name": name})), "the loss cannot take rows")


@pytest.mark.parametrize("name", ["MultiMarginLoss", "NLLLoss", "CrossEntropyLoss"])
def test_losses_of_class_indices_train(name):
    task = make_task(test=None).set_loss(build_loss({"name": name}))
    task.preflight()
    train(task)


@pytest.mark.parametrize("name", ["CrossEntropyLoss", "NLLLoss", "MultiMarginLoss"])
def test_weights_must_be_as_many_as_the_outputs(name):
    refused(make_task().set_loss(build_loss({"name": name, **WEIGHT})), "weight has 3 values, .* 4 outputs")


def test_model_on_the_meta_device_is_tried_with_class_weights():
    task = make_task(batch_norm=True).set_loss(build_loss({"name": "CrossEntropyLoss", "weight": [1, 2, 3, 4]}))
    task.base_model.to("meta")
    task.preflight()
    assert task.base_loss.weight.device.type == "cpu"


def test_meter_that_cannot_count_the_rows():
    class Broken:
        name = "broken"

        def validate(self, *shapes):
            pass

        def update(self, output, target, **_):
            raise KeyError("label")

    refused(make_task().set_meters([Broken()]), "the meters cannot take rows of the train dataset.*KeyError")


def with_labels(task, labels):
    task.datasets["train"].labels = lambda: torch.tensor(labels).numpy()
    return task


def test_label_that_the_loss_ignores_passes():
    with_labels(make_task(), [0, -1, 3]).set_loss(nn.CrossEntropyLoss(ignore_index=-1)).preflight()
    refused(with_labels(make_task(), [0, -1, 3]), "row 1 .* label -1", DataError)


def test_label_out_of_range_is_named_before_the_loss_meets_it():
    task = make_task(test=None, transform=lambda row: {**row, "target": -1 if row["row"] == 0 else row["target"]})
    refused(with_labels(task, [-1, 0, 3]), "row 0 .* label -1.*ignore_index", DataError)


def test_mixup_must_ignore_what_the_loss_ignores():
    from ray_classy.dataset.transforms.mixup import MixupTransform

    def task(ignored):
        made = with_labels(make_task(test=None), [0, -1, 3]).set_loss(nn.CrossEntropyLoss(ignore_index=-1))
        images = vectors(24, transform=lambda row: {**row, "input": row["input"].reshape(1, 2, 3)})
        images.labels = made.datasets["train"].labels
        made.set_dataset(images, "train")
        model = nn.Sequential(nn.Flatten(), linear_model().model)
        made.set_model(ClassyModel.from_model(model)).set_meters([])
        return made.set_mixup_transform(MixupTransform(1.0, num_classes=4, ignore_index=ignored))

    task(-1).preflight()
    refused(task(-100), "set mixup.ignore_index to -1", ComponentError)


class Locked(nn.CrossEntropyLoss):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


class LockedMeter(AccuracyMeter):
    def __init__(self):
        super().__init__([1])
        self.lock = threading.Lock()


def test_parts_that_cannot_be_copied_are_not_tried():
    task = make_task().set_loss(Locked()).set_meters([LockedMeter()])
    task.preflight()
    train(task).check_state(task.get_classy_state())


class OwnLoss(ClassificationTask):
    def compute_model(self, sample):
        return {"scores": super().compute_model(sample)}

    def compute_loss(self, model_output, sample):
        return self.loss(model_output["scores"], sample["target"]).mean()


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(torch.ones(4)), nn.CrossEntropyLoss(reduction="none")])
def test_loss_of_the_tasks_own_takes_outputs_of_any_form(loss):
    make_task(cls=OwnLoss).set_loss(loss).set_meters([]).preflight()
