import pytest
import torch
from torch import nn

from ray_classy.errors import ComponentError, ResourceError, TaskError
from ray_classy.tasks import ClassificationTask
from ray_classy.tasks.micro_batches import joined, number_of_parts
from ray_classy.trainer import LocalTrainer
from tests.helpers import RecordingHook, make_task, train, weights
from tests.tasks.images import image_task, rows_seen


def close(one, other):
    for name, value in weights(other).items():
        torch.testing.assert_close(weights(one)[name], value)


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(),
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 5.0, 0.5], dtype=torch.float64)),
        nn.CrossEntropyLoss(ignore_index=2),
        nn.CrossEntropyLoss(reduction="sum"),
    ],
)
def test_every_row_counts_as_in_the_whole_batch(loss):
    def trained(batch):
        losses = RecordingHook(lambda task: list(task.losses) if len(task.losses) else None)
        task = make_task(train=22, batch=8, lr=0.01, dtype=torch.float64, hooks=[losses]).set_loss(loss)
        return train(task.set_batch(batch)), losses.seen("on_phase_end")

    (parts, its_losses), (whole, losses) = trained(3), trained(None)
    close(parts, whole)
    assert [one for phase in its_losses for one in phase] == pytest.approx([one for phase in losses for one in phase])
    assert parts.meters[0].value == whole.meters[0].value


def test_with_accumulated_and_clipped_gradients_and_mixup():
    from ray_classy.dataset.transforms.mixup import MixupTransform

    def trained(batch):
        task = image_task(train=22, batch=4, batch_norm=False).set_simulated_global_batchsize(8)
        return train(task.set_clip_grad_norm(0.1).set_mixup_transform(MixupTransform(0.5, 4)).set_batch(batch))

    close(trained(3), trained(None))


def test_test_steps_are_computed_in_parts_too():
    task, whole = train(image_task(epochs=1).set_batch(3)), train(image_task(epochs=1))
    assert max(rows_seen(task)) == 3 and task.losses[0] == pytest.approx(whole.losses[0], abs=0.1)
    assert len(task.losses) == len(whole.losses) == 1


def test_parts_differ_by_one_row_at_most():
    task = train(image_task(train=11, test=None, batch=11, epochs=1).set_batch(4))
    assert rows_seen(task) == [3, 4, 4] and number_of_parts(8, 4) == 2


def test_the_largest_number_of_rows_that_fits_is_found_and_kept(tmp_path, monkeypatch):
    task = image_task(train=32, batch=16, epochs=1, most=5, test=None).set_batch("auto")
    run = LocalTrainer(str(tmp_path), "r").train(task)
    assert task.device_setup.part_rows == 5 and set(rows_seen(task)[-8:]) == {4}
    monkeypatch.setattr("ray_classy.tasks.probes._most_rows", None)  # a second trial would call it
    resumed = image_task(train=32, batch=16, epochs=2, most=5, test=None).set_batch("auto")
    LocalTrainer(resume=run.path).train(resumed)
    assert resumed.device_setup.part_rows == 5


def test_a_whole_batch_that_fits_is_computed_at_once():
    task = train(image_task(test=None, epochs=1).set_batch("auto"))
    assert task.device_setup.part_rows == 8 and set(rows_seen(task)) == {8}


def test_not_even_one_row_fits():
    with pytest.raises(TaskError, match="batch: auto finds no number of rows that fits"):
        train(image_task(most=0).set_batch("auto"))


@pytest.mark.parametrize(("batch", "told"), [(None, "set batch to auto"), (6, "set batch to fewer rows, such as 3")])
def test_out_of_memory_in_a_step_names_the_key(batch, told):
    with pytest.raises(ResourceError, match=f"step 1 of a train phase ran out of memory: .*{told}") as caught:
        train(image_task(most=2).set_batch(batch))
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)


@pytest.mark.parametrize("value", [0, "all", 1.5, True])
def test_impossible_values(value):
    with pytest.raises(ComponentError, match="batch must be 'auto', an integer of at least 1"):
        ClassificationTask().set_batch(value)


def test_a_task_with_its_own_step_is_refused():
    class Own(ClassificationTask):
        def train_step(self):
            super().train_step()

    with pytest.raises(ComponentError, match="batch: Own has its own train_step"):
        make_task(cls=Own).set_batch(2).preflight()


def test_outputs_of_several_heads_are_joined():
    out = joined([{"a": torch.ones(2, 3), "b": [torch.zeros(2)]}, {"a": torch.ones(1, 3), "b": [torch.zeros(1)]}])
    assert out["a"].shape == (3, 3) and out["b"][0].shape == (3,)
