import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import nn

from ray_classy.checkpoint import save_checkpoint
from ray_classy.errors import CheckpointError, CheckpointNotFoundError
from ray_classy.meters import AccuracyMeter
from ray_classy.models import ClassyModel
from ray_classy.optim import build_optimizer
from tests.helpers import RecordingHook, equal_weights, make_task, train, weights


def checkpoint(task):
    return {"input_args": None, "classy_state_dict": task.get_classy_state(deep_copy=True)}


def resumed(content, **options):
    task = make_task(**options)._set_checkpoint_dict(content)
    task.prepare()
    return task


@pytest.fixture
def trained():
    return train(make_task(momentum=0.9, weight_decay=1e-2, hooks=[CountingHook()]))


class CountingHook(RecordingHook):
    def on_step(self, task):
        self.state.steps = getattr(self.state, "steps", 0) + 1


def test_state_carries_weights_counters_and_losses(trained):
    task = resumed(checkpoint(trained), momentum=0.9, epochs=2)
    assert equal_weights(weights(task), weights(trained)) and task.losses == trained.losses
    assert (task.phase_idx, task.train_phase_idx, task.num_updates, task.num_train_steps) == (1, 0, 24, 6)


def test_state_restores_momentum_but_no_option(trained):
    task = resumed(checkpoint(trained), momentum=0.9, lr=0.7, weight_decay=0.3, epochs=2)
    theirs, ours = trained.optimizer.optimizer.state_dict(), task.optimizer.optimizer.state_dict()
    assert all(
        torch.equal(ours["state"][i]["momentum_buffer"], theirs["state"][i]["momentum_buffer"]) for i in range(4)
    )
    assert task.optimizer.options_view.lr == 0.7 and task.optimizer.options_view.weight_decay == 0.3


def test_learning_rate_follows_the_new_schedule(trained):
    task = resumed(
        checkpoint(trained), momentum=0.9, epochs=2, schedule={"name": "linear", "start_value": 1.0, "end_value": 0.0}
    )
    assert task.optimizer.options_view.lr == pytest.approx(0.5)


def test_state_of_a_finished_run_can_be_taken_up(trained):
    task = resumed(checkpoint(trained), momentum=0.9, schedule={"name": "cosine", "start_value": 1.0, "end_value": 0})
    assert task.done_training() and task.where == 1.0


def test_restored_state_is_a_copy(trained):
    content = checkpoint(trained)
    before = copy.deepcopy(content)
    train(resumed(content, momentum=0.9, epochs=2))
    buffers, kept = (c["classy_state_dict"]["optimizer"]["optim"]["state"][0] for c in (content, before))
    assert torch.equal(buffers["momentum_buffer"], kept["momentum_buffer"])
    trunk, kept_trunk = (c["classy_state_dict"]["base_model"]["model"]["trunk"] for c in (content, before))
    assert all(torch.equal(trunk[name], kept_trunk[name]) for name in trunk)


def test_deep_copy_is_apart_from_the_live_task(trained):
    shared, apart = trained.get_classy_state(), trained.get_classy_state(deep_copy=True)
    with torch.no_grad():
        trained.base_model.model[0].weight.zero_()
    name = "model.0.weight"
    assert not shared["base_model"]["model"]["trunk"][name].any() and apart["base_model"]["model"]["trunk"][name].any()


def test_meters_are_matched_by_name(trained):
    content = checkpoint(trained)

    class Other(AccuracyMeter):
        name = "other"

    task = make_task(epochs=2, momentum=0.9)._set_checkpoint_dict(content)
    task.set_meters([Other([1]), AccuracyMeter([1, 2])]).prepare()
    assert task.meters[0].value == {"top_1": 0.0} and task.meters[1].value == trained.meters[0].value


def test_hooks_are_matched_by_name(trained):
    hooks = [RecordingHook(), CountingHook()]
    resumed(checkpoint(trained), momentum=0.9, epochs=2, hooks=hooks)
    assert hooks[1].state.steps == 9 and not hasattr(hooks[0].state, "steps")


def test_test_only_takes_the_model_alone(trained):
    task = make_task()._set_checkpoint_dict(checkpoint(trained)).set_test_only(True)
    task.prepare()
    assert equal_weights(weights(task), weights(trained))
    assert (task.phase_idx, task.num_updates, task.train) == (-1, 0, False) and task.losses == []


def test_other_model_is_refused_with_the_difference(trained):
    other = make_task(epochs=2).set_model(ClassyModel.from_model(nn.Linear(6, 4)))
    with pytest.raises(CheckpointError, match=r"model\.weight.*model\.0\.weight"):
        other._set_checkpoint_dict(checkpoint(trained)).prepare()


def test_other_model_is_taken_as_far_as_it_fits_without_strict(trained):
    task = make_task(epochs=2).set_checkpoint_load_strict(False)._set_checkpoint_dict(checkpoint(trained))
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4, bias=False))
    task.set_model(ClassyModel.from_model(model)).set_test_only(True).prepare()
    assert torch.equal(task.base_model.model[0].weight, trained.base_model.model[0].weight)


def test_other_optimizer_is_refused(trained):
    task = make_task(epochs=2).set_optimizer(build_optimizer({"name": "adam", "lr": 0.1}))
    with pytest.raises(CheckpointError, match=r"SGD.*Adam"):
        task._set_checkpoint_dict(checkpoint(trained)).prepare()


def test_other_parameter_groups_are_refused():
    content = checkpoint(train(make_task(batch_norm=True)))
    task = make_task(batch_norm=True, epochs=2)._set_checkpoint_dict(content)
    task.prepare()
    task.optimizer.set_param_groups(list(task.base_model.parameters()))
    with pytest.raises(CheckpointError, match=r"\[4, 2\].*\[6\]"):
        task.set_classy_state(content["classy_state_dict"])


def test_checkpoint_of_the_predecessor_is_taken_up(trained):
    state = trained.get_classy_state(deep_copy=True)
    del state["num_train_steps"], state["optimizer"]["name"]
    task = resumed({"input_args": {"config": {}}, "classy_state_dict": state}, momentum=0.9, epochs=2)
    assert train(task).phase_idx == 3 and task.num_train_steps == 6


def test_checkpoint_from_a_file_or_a_folder(trained, tmp_path):
    path = save_checkpoint(str(tmp_path), checkpoint(trained))
    for place in (path, str(tmp_path)):
        task = make_task(momentum=0.9, epochs=2).set_checkpoint(place)
        task.prepare()
        assert equal_weights(weights(task), weights(trained)) and task.loaded_checkpoint


def test_a_loaded_checkpoint_is_released(trained):
    content = copy.deepcopy(checkpoint(trained))
    models = [weakref.ref(value) for value in content["classy_state_dict"]["base_model"]["model"]["trunk"].values()]
    state = content["classy_state_dict"]["optimizer"]["optim"]["state"]
    buffers = [weakref.ref(value["momentum_buffer"]) for value in state.values()]
    task = make_task(momentum=0.9, epochs=2)
    task.prepare_from(content)
    del content, state
    gc.collect()
    live = [value["momentum_buffer"] for value in task.optimizer.optimizer.state.values()]
    assert models and not any(model() is not None for model in models) and task.checkpoint is None
    assert buffers and all(buffer() is None or any(buffer() is one for one in live) for buffer in buffers)


def test_a_checkpoint_by_path_is_read_again_when_the_task_is_prepared_again(trained, tmp_path):
    task = make_task(momentum=0.9, epochs=2).set_checkpoint(save_checkpoint(str(tmp_path), checkpoint(trained)))
    task.preflight()
    train(task)
    task.prepare()
    assert equal_weights(weights(task), weights(trained)) and task.checkpoint is None


def test_content_that_was_set_is_loaded_each_time_the_task_is_prepared(trained):
    content = copy.deepcopy(checkpoint(trained))
    task = train(make_task(momentum=0.9, epochs=2)._set_checkpoint_dict(content))
    task.prepare()
    assert equal_weights(weights(task), weights(trained)) and task.checkpoint is content
    buffers, theirs = (
        [entry["momentum_buffer"] for entry in one.optimizer.optimizer.state.values()] for one in (task, trained)
    )
    assert buffers and all(map(torch.equal, buffers, theirs))
    task.prepare_from(copy.deepcopy(checkpoint(trained)))
    assert task.checkpoint is content


def test_the_state_of_an_evaluation_is_taken_without_the_model(trained):
    def refuse():
        raise AssertionError

    trained.base_model.get_classy_state = refuse
    other = make_task(test=10).set_test_only(True)
    other.set_evaluation_state(trained.evaluation_state())
    assert other.meters[0].value == trained.meters[0].value and other.losses == trained.losses


def test_missing_checkpoint_is_an_error(tmp_path):
    with pytest.raises(CheckpointNotFoundError, match="nothing"):
        make_task().set_checkpoint(str(tmp_path / "nothing")).prepare()


def test_state_without_a_model_is_refused():
    with pytest.raises(CheckpointError, match="no model state"):
        make_task().set_classy_state({"phase_idx": 1})


def test_state_can_be_set_before_prepare(trained):
    task = make_task(momentum=0.9, epochs=2)
    task.set_classy_state(trained.get_classy_state())
    assert equal_weights(weights(task), weights(trained)) and task.where == 0.5


def test_state_can_be_set_before_prepare_with_a_warmup():
    warmup = {"name": "warmup", "epochs": 1, "then": {"name": "linear", "start_value": 1.0, "end_value": 0.0}}
    task = make_task(momentum=0.9, epochs=2, schedule=warmup)
    task.set_classy_state(train(make_task(momentum=0.9, epochs=2, schedule=warmup)).get_classy_state())
    assert task.where == 1.0 and task.optimizer.options_view.lr == pytest.approx(0.0, abs=1e-4)


def test_state_can_be_got_before_prepare():
    assert make_task().get_classy_state()["optimizer"] == {}


def test_learned_loss_is_kept():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, output, target):
            return nn.functional.cross_entropy(output * self.scale, target)

    first = train(make_task(momentum=0.9).set_loss(Scaled()))
    second = make_task(momentum=0.9, epochs=2).set_loss(Scaled())._set_checkpoint_dict(checkpoint(first))
    second.prepare()
    assert first.base_loss.scale.item() != 1.0 and second.base_loss.scale.item() == first.base_loss.scale.item()


def test_batch_norm_has_a_group_without_weight_decay():
    task = make_task(batch_norm=True, weight_decay=0.1)
    task.prepare()
    groups = task.optimizer.param_groups
    assert [(len(group["params"]), group["weight_decay"]) for group in groups] == [(4, 0.1), (2, 0.0)]
    assert task.optimizer.options_view.weight_decay == [0.1, 0.0]


def test_batch_norm_may_have_weight_decay():
    task = make_task(batch_norm=True, weight_decay=0.1).set_bn_weight_decay(True)
    task.prepare()
    assert task.optimizer.options_view.weight_decay == 0.1


def test_bn_weight_decay_is_exactly_a_bool():
    with pytest.raises(ValueError, match="bn_weight_decay"):
        make_task().set_bn_weight_decay(1)


def test_state_of_the_train_dataset_is_kept():
    task, other = make_task(), make_task()
    for one in (task, other):
        dataset = one.datasets["train"]
        dataset.seen = 0
        dataset.get_classy_state = lambda dataset=dataset: {"seen": dataset.seen}
        dataset.set_classy_state = lambda state, dataset=dataset: setattr(dataset, "seen", state["seen"])
    task.datasets["train"].seen = 5
    other.set_classy_state(task.get_classy_state())
    assert other.datasets["train"].seen == 5


def test_checkpoint_that_is_set_later_counts(trained, tmp_path):
    for name, one in (("first", make_task()), ("second", trained)):
        one.get_classy_state()
        save_checkpoint(str(tmp_path / name), checkpoint(one))
    task = make_task(momentum=0.9, epochs=2).set_checkpoint(str(tmp_path / "first"))
    task._load_weights()
    task.set_checkpoint(str(tmp_path / "second")).prepare()
    assert equal_weights(weights(task), weights(trained))


def test_trained_task_can_be_copied_and_pickled():
    task = train(make_task())
    for copied in (copy.deepcopy(task), pickle.loads(pickle.dumps(task))):
        assert equal_weights(weights(copied), weights(task)) and copied.data_iterator is copied.dataloader is None
        assert copied.losses == task.losses and copied.where == 1.0
