import pytest
import torch
from torch import nn

from ray_classy.checkpoint import save_checkpoint
from ray_classy.errors import CheckpointError, TaskError
from ray_classy.heads import FullyConnectedHead
from ray_classy.models import ClassyModel
from ray_classy.tasks import FineTuningTask
from ray_classy.trainer import LocalTrainer
from tests.helpers import RecordingHook, equal_weights, linear_model, make_task, train, weights


class Trunk(ClassyModel):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU())

    def forward(self, x):
        return self.features(x)


def model(seed):
    torch.manual_seed(seed)
    made = Trunk()
    made.set_heads({"features": [FullyConnectedHead("head", 4, in_plane=8)]})
    return made


def fine_tuning(seed=2, **options):
    return make_task(cls=FineTuningTask, **options).set_model(model(seed))


@pytest.fixture(scope="module")
def pretrained():
    task = train(make_task().set_model(model(1)))
    return {"input_args": None, "classy_state_dict": task.get_classy_state(deep_copy=True)}


def trunk_and_head(state):
    return state["model"]["trunk"], state["model"]["heads"]["features"]["head"]


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_pretrained_weights_are_taken_from_a_path(pretrained, tmp_path):
    task = fine_tuning().set_pretrained_checkpoint(save_checkpoint(str(tmp_path), pretrained))
    task.prepare()
    trunk, head = trunk_and_head(task.base_model.get_classy_state())
    their_trunk, their_head = trunk_and_head(pretrained["classy_state_dict"]["base_model"])
    assert same(trunk, their_trunk) and same(head, their_head)
    assert (task.phase_idx, task.num_updates) == (-1, 0)


def test_heads_can_keep_their_fresh_weights(pretrained):
    task = fine_tuning()._set_pretrained_checkpoint_dict(pretrained).set_reset_heads(True)
    fresh = task.base_model.get_classy_state(deep_copy=True)
    task.prepare()
    trunk, head = trunk_and_head(task.base_model.get_classy_state())
    assert same(head, trunk_and_head(fresh)[1])
    assert same(trunk, trunk_and_head(pretrained["classy_state_dict"]["base_model"])[0])


def test_other_heads_need_reset_heads(pretrained):
    task = fine_tuning()
    task.base_model.set_heads({"features": [FullyConnectedHead("head", 5, in_plane=8)]})
    task._set_pretrained_checkpoint_dict(pretrained)
    with pytest.raises(CheckpointError, match="head"):
        task.prepare()
    task.set_reset_heads(True).prepare()


def test_frozen_trunk_stays_and_heads_learn(pretrained):
    hook = RecordingHook(lambda task: [task.base_model.features.training, task.base_model._heads[0].training])
    task = fine_tuning(hooks=[hook], momentum=0.9, weight_decay=0.1)
    train(task._set_pretrained_checkpoint_dict(pretrained).set_freeze_trunk(True))
    trunk, head = trunk_and_head(task.base_model.get_classy_state())
    their_trunk, their_head = trunk_and_head(pretrained["classy_state_dict"]["base_model"])
    assert same(trunk, their_trunk) and not same(head, their_head)
    assert hook.seen("on_phase_start") == [[False, True], [False, False]]


def test_unfrozen_trunk_learns(pretrained):
    task = train(fine_tuning()._set_pretrained_checkpoint_dict(pretrained))
    trunk, _ = trunk_and_head(task.base_model.get_classy_state())
    assert not same(trunk, trunk_and_head(pretrained["classy_state_dict"]["base_model"])[0])


def test_weights_to_start_from_are_required(tmp_path):
    with pytest.raises(TaskError, match="pretrained_checkpoint"):
        fine_tuning().prepare()
    with pytest.raises(TaskError, match="pretrained_checkpoint"):
        LocalTrainer(str(tmp_path)).train(fine_tuning())
    assert list(tmp_path.iterdir()) == []


def test_own_checkpoint_wins(pretrained, tmp_path):
    first = train(fine_tuning()._set_pretrained_checkpoint_dict(pretrained).set_freeze_trunk(True))
    own = {"input_args": None, "classy_state_dict": first.get_classy_state(deep_copy=True)}
    second = fine_tuning(3, epochs=2).set_freeze_trunk(True).set_pretrained_checkpoint(str(tmp_path / "nothing"))
    second._set_checkpoint_dict(own).prepare()
    assert same(second.base_model.state_dict(), first.base_model.state_dict()) and second.phase_idx == 1
    assert all(not parameter.requires_grad for parameter in second.base_model.features.parameters())


def test_frozen_run_goes_on_as_if_never_stopped(pretrained, tmp_path):
    def task(epochs):
        made = fine_tuning(epochs=epochs, momentum=0.9)
        return made._set_pretrained_checkpoint_dict(pretrained).set_freeze_trunk(True)

    straight, stopped, goes_on = task(2), task(1), task(2)
    LocalTrainer(str(tmp_path), "straight").train(straight)
    run = LocalTrainer(str(tmp_path), "stopped").train(stopped).path
    LocalTrainer(resume=run).train(goes_on)
    assert same(straight.base_model.state_dict(), goes_on.base_model.state_dict())


def test_pretrained_checkpoint_that_is_set_later_counts():
    task = FineTuningTask()._set_pretrained_checkpoint_dict({"classy_state_dict": {}})
    assert task.set_pretrained_checkpoint("other").pretrained_checkpoint_dict is None


@pytest.mark.parametrize("kind", ["plain", "nested", "parallel", "safetensors"])
def test_files_with_nothing_but_weights_are_taken_up(tmp_path, kind):
    source = model(1)
    state = {name: value.clone() for name, value in source.state_dict().items()}
    path = str(tmp_path / ("weights.safetensors" if kind == "safetensors" else "weights.pth"))
    if kind == "safetensors":
        pytest.importorskip("safetensors.torch").save_file(state, path)
    elif kind == "parallel":
        torch.save({f"module.{name}": value for name, value in state.items()}, path)
    else:
        torch.save({"epoch": 3, "state_dict": state} if kind == "nested" else state, path)
    task = fine_tuning().set_pretrained_checkpoint(path)
    task.prepare()
    assert equal_weights(weights(task), state)


def test_weights_of_the_module_in_from_model(tmp_path):
    torch.save(linear_model(seed=1).model.state_dict(), tmp_path / "weights.pt")
    task = make_task(cls=FineTuningTask).set_pretrained_checkpoint(str(tmp_path / "weights.pt"))
    task.prepare()
    assert equal_weights(weights(task), linear_model(seed=1).state_dict())


def test_weights_that_do_not_fit_are_listed(tmp_path):
    torch.save({"other.weight": torch.zeros(2)}, tmp_path / "weights.pt")
    task = fine_tuning().set_pretrained_checkpoint(str(tmp_path / "weights.pt"))
    with pytest.raises(CheckpointError, match=r"1 unknown to the model \(other\.weight\)"):
        task.prepare()


def test_a_file_that_holds_no_weights(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match=r"neither a checkpoint of a task .* nor a state dict"):
        fine_tuning().set_pretrained_checkpoint(str(tmp_path / "weights.pt")).prepare()
