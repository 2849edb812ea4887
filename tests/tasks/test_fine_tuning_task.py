import pytest
import torch
from torch import nn

from ray_classy.checkpoint import save_checkpoint
from ray_classy.errors import CheckpointError, ComponentError, TaskError
from ray_classy.heads import FullyConnectedHead
from ray_classy.models import ClassyModel
from ray_classy.optim import build_optimizer
from ray_classy.tasks import FineTuningTask, build_task
from ray_classy.trainer import LocalTrainer
from tests.helpers import RecordingHook, equal_weights, linear_model, make_task, run_ranks, train, weights


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


def test_a_dry_run_tries_rows_on_the_model(pretrained):
    seen = fine_tuning()._set_pretrained_checkpoint_dict(pretrained).preflight()
    assert (seen["train"].input_shape, seen["train"].outputs) == ((6,), 4)


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
    with pytest.raises(
        CheckpointError, match=r"nothing in it fits this Trunk. It has: other\.weight \(2,\); the model"
    ):
        task.prepare()


def test_a_file_that_holds_no_weights(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match=r"neither a checkpoint of a task .* nor a state dict"):
        fine_tuning().set_pretrained_checkpoint(str(tmp_path / "weights.pt")).prepare()


class Deep(ClassyModel):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
        self.blocks = nn.Sequential(*[nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU()) for _ in range(2)])

    def forward(self, x):
        return self.blocks(self.stem(x))


def deep(seed=1):
    torch.manual_seed(seed)
    made = Deep()
    made.set_heads({"blocks": [FullyConnectedHead("head", 4, in_plane=8)]})
    return made


def freezing(patterns, **options):
    """A task whose weights are those of `deep(1)`."""
    source = make_task().set_model(deep())
    content = {"input_args": None, "classy_state_dict": source.get_classy_state(deep_copy=True)}
    task = make_task(cls=FineTuningTask, momentum=0.9, weight_decay=0.1, **options).set_model(deep(2))
    return task._set_pretrained_checkpoint_dict(content).set_freeze(patterns)


def changed(task):
    """The entries that training changed, by their first two names."""
    before = deep().state_dict()
    names = [n for n, value in task.base_model.state_dict().items() if not torch.equal(value, before[n])]
    return sorted({".".join(name.split(".")[:2]) for name in names if "num_batches" not in name})


def test_parameters_and_statistics_that_match_a_pattern_stay():
    task = train(freezing(["stem.*", "blocks.0.*"]))
    assert changed(task) == ["_heads.0", "blocks.1"]
    assert not task.base_model.stem[1].num_batches_tracked and task.base_model.blocks[1][1].num_batches_tracked


def test_modules_that_are_frozen_are_in_eval_mode_in_train_phases_only():
    hook = RecordingHook(lambda task: [task.base_model.stem.training, task.base_model.blocks[1].training])
    train(freezing(["stem.*"], hooks=[hook]))
    assert hook.seen("on_phase_start") == [[False, True], [False, False]]


def test_statistics_of_what_is_frozen_in_part_go_on():
    task = train(freezing(["*.1.weight"]))
    assert torch.equal(task.base_model.stem[1].weight, deep().stem[1].weight)
    assert task.base_model.stem[1].num_batches_tracked


@pytest.mark.parametrize("optimizer", [{"name": "adamw", "lr": 0.1, "weight_decay": 0.5}, {"name": "adam", "lr": 0.1}])
def test_no_optimizer_moves_what_is_frozen(optimizer):
    assert changed(train(freezing(["stem.*"]).set_optimizer(build_optimizer(optimizer)))) == [
        "_heads.0", "blocks.0", "blocks.1"
    ]  # fmt: skip


def test_patterns_go_with_a_frozen_trunk_and_fresh_heads():
    task = freezing(["_heads.*.bias"]).set_freeze_trunk(True).set_reset_heads(True)
    fresh = task.base_model._heads[0].state_dict()
    bias, weight = (fresh[name].clone() for name in ("fc.bias", "fc.weight"))
    train(task)
    head = task.base_model._heads[0].fc
    assert changed(task) == ["_heads.0"] and torch.equal(head.bias, bias) and not torch.equal(head.weight, weight)


def test_patterns_of_a_wrapped_module_need_not_name_the_wrapper():
    content = {"classy_state_dict": make_task().get_classy_state(deep_copy=True)}
    task = make_task(cls=FineTuningTask)._set_pretrained_checkpoint_dict(content).set_freeze(["0.*", "model.2.bias"])
    task.prepare()
    assert [n for n, p in task.base_model.named_parameters() if p.requires_grad] == ["model.2.weight"]


@pytest.mark.parametrize(
    ("patterns", "told"),
    [
        (["blocks.0"], r"freeze: 'blocks\.0' matches no parameter of Deep; to freeze all of it write 'blocks\.0\.\*'"),
        (["blcks.0.*"], r"; did you mean 'blocks\.0\.\*'.*\? Its names begin with: _heads, stem, blocks"),
        (
            ["stem.*", "layer4.*"],
            r"'layer4\.\*' matches no parameter of Deep\. Its names begin with: _heads, stem, blocks",
        ),
        (["*"], r"freeze \['\*'\] leaves no parameter of Deep to train"),
    ],
)
def test_patterns_that_cannot_be_meant_are_refused_before_the_run(tmp_path, patterns, told):
    with pytest.raises(TaskError, match=told):
        LocalTrainer(str(tmp_path)).train(freezing(patterns))
    assert list(tmp_path.iterdir()) == []


def test_a_frozen_trunk_without_heads_leaves_nothing_to_train():
    content = {"classy_state_dict": make_task().get_classy_state(deep_copy=True)}
    with pytest.raises(TaskError, match="freeze_trunk leaves no parameter"):
        make_task(cls=FineTuningTask)._set_pretrained_checkpoint_dict(content).set_freeze_trunk(True).prepare()


@pytest.mark.parametrize("patterns", ["stem.*", [""], [1], None])
def test_patterns_are_a_list_of_strings(patterns):
    with pytest.raises(ComponentError, match="freeze must be a list of patterns"):
        FineTuningTask().set_freeze(patterns)


def test_what_was_frozen_is_trained_when_the_task_is_prepared_without_it():
    task = train(freezing(["stem.*"]))
    train(task.set_freeze([])._set_checkpoint_dict({"classy_state_dict": task.get_classy_state()}).set_num_epochs(2))
    assert "stem.0" in changed(task)


def test_a_run_with_frozen_parameters_goes_on_as_if_never_stopped(tmp_path):
    LocalTrainer(str(tmp_path), "straight").train(straight := freezing(["stem.*"], epochs=2))
    run = LocalTrainer(str(tmp_path), "stopped").train(freezing(["stem.*"])).path
    LocalTrainer(resume=run).train(goes_on := freezing(["stem.*"], epochs=2))
    assert equal_weights(weights(straight), weights(goes_on))


def changed_on_a_rank():
    return changed(train(freezing(["stem.*", "blocks.0.*"])))


def test_several_ranks_freeze_the_same():
    assert run_ranks(2, changed_on_a_rank) == [["_heads.0", "blocks.1"]] * 2


def test_patterns_are_a_key_of_the_config():
    config = {"name": "fine_tuning", "num_epochs": 1, "loss": {"name": "CrossEntropyLoss"}, "freeze": ["*.bias"]}
    rows = {"name": "digits", "split": "train", "batchsize_per_replica": 32, "use_shuffle": False}
    model = {"name": "mlp", "input_dim": 64, "output_dim": 10, "hidden_dims": [4]}
    parts = {"dataset": {"train": rows}, "model": model, "optimizer": {"name": "sgd", "lr": 0.1}}
    task = build_task({**config, **parts, "pretrained_checkpoint": "nothing"})
    assert task.freeze == ["*.bias"]
    with pytest.raises(ValueError, match="freeze"):
        build_task({**config, **parts, "freeze": "stem"})
