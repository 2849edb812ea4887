import copy

import numpy as np
import pytest
import torch
from torch import nn

from ray_classy.dataset import ClassyDataset
from ray_classy.dataset.transforms.mixup import MixupTransform
from ray_classy.errors import CheckpointError, ComponentError, DataError, TaskError
from ray_classy.meters import AccuracyMeter
from ray_classy.models import ClassyModel
from ray_classy.optim import SGD, build_optimizer
from ray_classy.tasks import ClassificationTask
from ray_classy.trainer import LocalTrainer
from tests.helpers import Vectors, equal_weights, linear_model, make_task, vectors, weights


def with_labels(task, labels, phase_type="train", classes=None):
    dataset = task.datasets[phase_type]
    dataset.labels = lambda: np.asarray(labels)
    dataset.classes = classes
    return task


def refused(task, error, match, **options):
    with pytest.raises(error, match=match):
        task.preflight(**options)


def test_good_task_passes_and_stays_as_it_was():
    task = make_task(batch_norm=True, dropout=0.5)
    before, training, state = weights(task), task.base_model.training, torch.get_rng_state()
    task.preflight()
    assert equal_weights(before, weights(task)) and task.base_model.training is training and task.train
    assert torch.equal(state, torch.get_rng_state()) and task.phase_idx == -1 and task.optimizer.optimizer is None


def test_fewer_outputs_than_classes():
    names = [f"class {i}" for i in range(12)]
    refused(with_labels(make_task(), [0], classes=names), DataError, "12 classes, but the model has 4 outputs")


@pytest.mark.parametrize("label", [4, -1])
def test_label_out_of_range(label):
    refused(with_labels(make_task(), [0, 3, label, 9]), DataError, rf"row 2 .* label {label}.* \[0, 4\)")


def test_empty_dataset():
    refused(make_task(train=0), DataError, "train dataset has no rows")


def test_empty_test_dataset():
    refused(make_task(test=0), DataError, "test dataset has no rows")


def test_sample_without_target():
    task = make_task(transform=lambda sample: {"input": sample["input"]})
    refused(task, TaskError, r"`input` and `target`, not \['input'\]")


def test_sample_that_is_no_dict():
    refused(make_task(transform=lambda sample: (1, 2)), TaskError, "tuple.*tuple_to_map")


def test_sample_that_makes_no_batch():
    refused(make_task(transform=lambda sample: {**sample, "input": object()}), TaskError, "batch.*ToTensor")


def test_model_that_does_not_fit_the_input():
    task = make_task().set_model(ClassyModel.from_model(nn.Linear(5, 4)))
    refused(task, TaskError, r"the model cannot take rows of the train dataset \(input \(2, 6\)")


class NormLoss(nn.Module):
    """A loss that normalizes over the batch, which takes two values per channel."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, output, target):
        return nn.functional.cross_entropy(self.norm(output), target)


def test_a_loss_with_batch_norm_passes():
    make_task().set_loss(NormLoss()).preflight()


def growing(sample):
    return {**sample, "input": torch.zeros(6 + (sample["row"] > 2))}


def test_rows_of_different_sizes():
    refused(make_task(transform=growing), TaskError, r"row 0 has size \(6,\), and row 3 has \(7,\).*Resize")


def test_rows_of_different_sizes_in_batches_of_one_pass():
    make_task(batch=1, transform=growing).preflight()


def test_loss_that_does_not_fit():
    refused(make_task().set_loss(nn.BCEWithLogitsLoss()), TaskError, "the loss cannot take")


def test_loss_without_reduction():
    refused(make_task().set_loss(nn.CrossEntropyLoss(reduction="none")), TaskError, "one number")


def test_loss_that_wants_mixed_targets():
    task = make_task(test=None, transform=lambda sample: {**sample, "input": sample["input"].reshape(1, 2, 3)})
    model = nn.Sequential(nn.Flatten(), linear_model().model)
    task.set_model(ClassyModel.from_model(model)).set_loss(nn.BCEWithLogitsLoss())
    task.set_mixup_transform(MixupTransform(1.0, num_classes=4)).preflight()


def test_meter_that_does_not_fit():
    refused(make_task().set_meters([AccuracyMeter([5])]), ValueError, r"topk \[5\]")


def test_classes_that_differ():
    task = with_labels(with_labels(make_task(), [0], classes=["a", "b"]), [0], "test", classes=["a", "c"])
    refused(task, DataError, r"only in train: \['b'\]; only in test: \['c'\]")


def test_drop_last_that_leaves_nothing():
    task = make_task(train=10, batch=4)
    task.datasets["train"].drop_last = True
    task.preflight(world_size=2)
    refused(task, DataError, "drop_last", world_size=3)


def test_drop_last_that_leaves_nothing_of_a_part():
    task = make_task(train=10, batch=4)
    task.datasets["train"].drop_last, task.datasets["train"].phases_per_epoch = True, 3
    refused(task, DataError, "drop_last")


@pytest.mark.parametrize("part", ["base_model", "base_loss", "optimizer"])
def test_missing_part(part):
    task = make_task()
    setattr(task, part, None)
    refused(task, TaskError, f"no {part.removeprefix('base_')}; call set_")


def test_missing_dataset():
    refused(make_task(train=None), TaskError, r"dataset\.train")


def test_first_row_that_is_bad():
    def bad(sample):
        raise DataError("cat.png is no image")

    refused(make_task(transform=bad), DataError, r"cat\.png")


def test_no_row_that_can_be_decoded():
    def bad(sample):
        raise DataError(f"row {int(sample['row'])} is damaged")

    task = make_task(train=5, transform=bad)
    task.datasets["train"].dataset.max_bad_rows = 5
    refused(task, DataError, "none of the 5 rows of the train dataset can be decoded: row 4 is damaged")


@pytest.mark.parametrize(
    "error", [StopIteration(), KeyError("label"), TypeError("no\nPIL"), OverflowError(), MemoryError()]
)
def test_row_that_raises_anything_is_named(error):
    def bad(sample):
        raise error

    reason = "it takes more memory than there is" if isinstance(error, MemoryError) else type(error).__name__
    refused(
        make_task(transform=bad), TaskError, rf"row 0 of the train dataset cannot be read: {reason}.*test_dry_run\.py"
    )


def test_an_optimizer_that_does_not_take_the_parameters_is_named(monkeypatch):
    task = make_task()
    monkeypatch.setattr(type(task.optimizer), "prepare", lambda *_: (_ for _ in ()).throw(ValueError("no such option")))
    refused(task, TaskError, "the optimizer cannot take the model's parameters: ValueError: no such option")


def test_row_that_a_transform_cannot_take_is_one_error_with_the_line_of_the_users_code():
    def bad(sample):
        raise ValueError("too large")

    line = bad.__code__.co_firstlineno + 1
    told = (
        rf"row 0 of the train dataset cannot be read: ValueError: too large \(in .*test_dry_run\.py:{line}\)\. Correct"
    )
    refused(make_task(transform=bad), TaskError, told)


def test_rows_with_different_keys():
    def sometimes(sample):
        return {**sample, "mask": 1} if sample["row"] == 0 else sample

    refused(make_task(transform=sometimes), TaskError, "row 0 has the keys .*'mask'.* row 1 has .*the same keys")


@pytest.mark.parametrize("error", [StopIteration(), KeyError("label")])
def test_mixup_that_fails(error):
    def mixup(sample):
        raise error

    match = f"the mixup cannot take rows of the train dataset: {type(error).__name__}"
    refused(make_task().set_mixup_transform(mixup), TaskError, match)


def test_gpu_that_is_not_there():
    refused(make_task().set_use_gpu(True), TaskError, "use_gpu", on_gpu=False)


def test_accumulation_that_does_not_fit_the_number_of_workers():
    task = make_task(batch=4).set_simulated_global_batchsize(12)
    task.preflight()
    refused(task, ValueError, "simulated_global_batchsize 12", world_size=2)


def test_checkpoint_that_does_not_fit():
    other = make_task(batch_norm=True)
    content = {"classy_state_dict": {"base_model": other.base_model.get_classy_state()}}
    refused(make_task()._set_checkpoint_dict(content), CheckpointError, "does not fit")


@pytest.mark.parametrize("strategy", ["zero", "fsdp"])
def test_an_optimizer_that_is_not_torchs_is_refused_where_its_state_is_sharded(strategy):
    class Wrapping(SGD):
        def prepare(self, param_groups):
            super().prepare(param_groups)
            self.optimizer = LayerRates(self.optimizer)

    class LayerRates:
        def __init__(self, optimizer):
            self.defaults, self.param_groups = optimizer.defaults, optimizer.param_groups

    task = make_task().set_optimizer(Wrapping()).set_distributed_options(strategy=strategy)
    refused(task, ComponentError, f"strategy '{strategy}' shards the state of torch's .*, not of a Layer", world_size=2)
    task.preflight()


def test_fused_updates_that_do_not_take_shards_are_refused_with_fsdp():
    task, sgd = make_task().set_distributed_options(strategy="fsdp"), {"name": "sgd", "fused": True}
    adam = {"name": "adam", "fused": True}
    parts = {"name": "by_pattern", "groups": [{"ndim": 1, "optimizer": adam}]}
    for given in (sgd, {"name": "zero", "base_optimizer": sgd}, {**parts, "default": sgd}):
        task.set_optimizer(build_optimizer(given))
        refused(task, ComponentError, "only those of Adam take them: leave fused out", world_size=2)
    for taken in (adam, {"name": "sgd", "fused": False}, {**parts, "default": {"name": "sgd"}}):
        task.set_optimizer(build_optimizer(taken)).preflight(world_size=2)


def test_nothing_is_made_for_a_refused_task(tmp_path):
    with pytest.raises(DataError):
        LocalTrainer(str(tmp_path / "runs")).train(make_task(train=0))
    assert not (tmp_path / "runs").exists()


def test_model_is_tried_without_labels_in_memory():
    task = make_task()
    copied = copy.deepcopy(task.datasets["train"])
    task.set_dataset(copied, "train").preflight()


def test_task_of_a_subclass_is_tried_through_its_methods():
    class Own(ClassificationTask):
        def compute_model(self, sample):
            return self.model(sample["input"][..., :6])

    task = make_task(cls=Own)
    task.set_dataset(vectors(8, transform=lambda s: {**s, "input": torch.cat([s["input"]] * 2)}), "train").preflight()


class Stream:
    """A dataset that is not a ClassyDataset: it has batches, but no rows."""

    def get_batchsize_per_replica(self):
        return 4

    def iterator(self, **options):
        return torch.utils.data.DataLoader(Vectors(8), batch_size=4)


def test_dataset_without_rows_is_not_tried(tmp_path):
    task = make_task().set_dataset(Stream(), "train")
    assert task.preflight().keys() == {"test"}
    assert LocalTrainer(str(tmp_path)).train(task).metrics.keys() == {"train", "test"}


def test_dataset_of_rows_that_cannot_be_counted_is_not_tried():
    class Endless(ClassyDataset):
        def __init__(self):
            super().__init__(iter(()), 4, False)

    assert make_task().set_dataset(Endless(), "train").preflight().keys() == {"test"}


def test_dataset_with_an_iterator_of_its_own_is_not_tried():
    class Own(ClassyDataset):
        def iterator(self, **options):
            return torch.utils.data.DataLoader(self, batch_size=4, collate_fn=lambda rows: rows)

    dataset = Own(Vectors(8), 4, False, lambda row: {"x": object()})
    assert make_task().set_dataset(dataset, "train").preflight().keys() == {"test"}


def test_task_with_parts_made_in_prepare_is_not_tried_on_a_row():
    class Distilling(ClassificationTask):
        def prepare(self):
            super().prepare()
            self.teacher = linear_model()

        def compute_loss(self, model_output, sample):
            return (model_output - self.teacher(sample["input"])).square().mean()

    assert make_task(cls=Distilling).preflight()["train"].outputs is None


def test_task_with_a_step_of_its_own_names_its_samples_as_it_likes():
    class Own(ClassificationTask):
        def train_step(self):
            raise StopIteration

    assert make_task(test=None, cls=Own, transform=lambda row: {"x": row["input"]}).preflight()["train"].rows == 24


def test_classes_that_are_no_names_are_not_compared():
    task = make_task()
    task.datasets["train"].classes, task.datasets["test"].classes = 4, ["a"]
    task.preflight()


def checkpoint_for(classes):
    task = make_task()
    return {"classy_state_dict": task.get_classy_state(), "ray_classy": {"classes": {"train": classes}}}


def test_classes_that_are_not_those_of_the_checkpoint():
    content = checkpoint_for(["ant", "bee", "cat", "dog"])
    task = with_labels(make_task(train=None).set_test_only(True), [0], "test", classes=["ant", "cat"])
    refused(task._set_checkpoint_dict(content), DataError, r"only then: \['bee', 'dog'\]")


def test_the_classes_of_the_checkpoint_are_taken():
    names = ["ant", "bee", "cat", "dog"]
    task = with_labels(make_task(train=None).set_test_only(True), [0], "test", classes=names)
    task._set_checkpoint_dict(checkpoint_for(names)).preflight()


def test_rows_that_the_loss_ignores_need_no_class():
    task = with_labels(make_task(), [0, -1, 3])
    refused(task, DataError, "label -1")
    task.base_loss.ignore_index = -1
    task.preflight()
