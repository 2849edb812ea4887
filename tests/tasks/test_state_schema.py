"""States that no task can have returned: refused in Python, and passed over by a run that is resumed."""

import copy
import math

import pytest
import torch

from ray_classy.checkpoint import load_checkpoint, save_checkpoint
from ray_classy.errors import CheckpointError, DamagedCheckpointError
from ray_classy.hooks import CheckpointHook, ExponentialMovingAverageModelHook
from ray_classy.optim import build_optimizer
from ray_classy.trainer import LocalTrainer
from ray_classy.trainer.run_folder import RunFolder
from tests.helpers import equal_weights, make_task, train, weights


def task(epochs=1, **options):
    hooks = [ExponentialMovingAverageModelHook(0.9), CheckpointHook("published")]
    return make_task(epochs=epochs, momentum=0.9, hooks=hooks, **options)


@pytest.fixture(scope="module")
def good():
    hooks = [ExponentialMovingAverageModelHook(0.9)]
    state = train(make_task(momentum=0.9, hooks=hooks)).get_classy_state(deep_copy=True)
    return {**state, "hooks": {**state["hooks"], "CheckpointHook": {"phases_counted": 1}}}


IN_PHASE = {"rows": 8, "order": {"num_rows": 24}, "losses": [1.0], "loss_rows": [4.0], "meters": [], "bad_rows": 0}
MISSING, DEEP = object(), [[]]
for _ in range(2000):
    DEEP = [DEEP]
BAD = {
    "base_model": [MISSING, None, [], {"model": 3}, {"model": {"trunk": {}, "heads": []}}],
    "train": [MISSING, 1, None, "yes"],
    "train_phase_idx": [MISSING, None, -2, 0.0, "0", 10**40, True, math.nan],
    "num_updates": [MISSING, None, -1, 1.5, [24], 2**64],
    "num_train_steps": [-1, "6"],
    "losses": [MISSING, None, "abc", {}, ["a"], [None]],
    "meters": [MISSING, None, {}, [3], [None]],
    "meters.0": [{"name": "accuracy"}],
    "meters.0.top_k": [MISSING, 3, None],
    "meters.0.total_correct_predictions": [MISSING, "a", torch.ones(5), torch.tensor([math.nan, 1]), {}],
    "meters.0.total_sample_count": [torch.tensor([-1.0]), torch.ones(0)],
    "hooks": [MISSING, [], None, 3],
    "hooks.CheckpointHook": [None, {"phases_counted": "1"}, {"phases_counted": -1}, {3: 4}, {"get_classy_state": 1}],
    "hooks.ExponentialMovingAverageModelHook": [{"model_state": 3}, {"ema_model_state": {"model.0.bias": 3}}],
    "loss": [MISSING, None, []],
    "optimizer": [MISSING, None, [], {"optim": 3}, {"name": 3, "optim": {}}],
    "optimizer.optim.state": [MISSING, None, {}, {99: {}}, {"0": {}}, {0: 3}],
    "optimizer.optim.state.0": [MISSING, {}, None],
    "optimizer.optim.state.0.momentum_buffer": [MISSING, None, 3, torch.ones(8, 6, dtype=torch.int64)],
    "optimizer.optim.param_groups": [MISSING, {}, [3], [{}], [{"params": ["a"]}], [{"params": [0, 0]}]],
    "in_phase": [3, {}, {"rows": 1}, {**IN_PHASE, "rows": -1}, {**IN_PHASE, "rows": 25}],
    "in_phase.losses": [[math.nan], [1.0, 2.0], None],
    "amp": [3],
    "new": [DEEP, 2**3000],
}
CASES = [(path, number) for path, values in BAD.items() for number in range(len(values))]


def changed(state, path, value):
    """A copy of a state with another value at a path."""
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    state = copy.deepcopy(state)
    if path == "in_phase.losses":
        state["in_phase"] = dict(IN_PHASE)
    node = state
    for part in parents:
        node = node[part]
    if value is MISSING:
        del node[last]
    else:
        node[last] = value
    return state


@pytest.mark.parametrize(("path", "number"), CASES)
def test_a_bad_state_is_refused_with_one_error(good, path, number):
    fresh = task()
    fresh.prepare()
    before = weights(fresh)
    bad = changed(good, path, BAD[path][number])
    with pytest.raises(CheckpointError) as error:
        fresh.set_classy_state(bad)
    assert len(str(error.value)) < 400
    if not path.startswith(("meters", "hooks.", "optimizer.optim.state.0", "base_model")):
        assert equal_weights(before, weights(fresh)) and fresh.num_updates == 0
    with pytest.raises(CheckpointError):
        fresh.check_state(bad)
        fresh.check_checkpoint({"classy_state_dict": bad})


def test_a_good_state_is_accepted(good):
    fresh = task()
    fresh.prepare()
    fresh.check_state(good)
    fresh.set_classy_state(good)
    assert fresh.num_updates == 24


def test_a_state_must_be_a_dict():
    with pytest.raises(CheckpointError, match="must be a dict, not a int"):
        make_task().set_classy_state(3)


def spoil(run, path, value):
    """Writes the newest checkpoint of a run again, with a bad state and a manifest that fits."""
    folder = RunFolder(run.path)
    name = folder.checkpoints.names()[-1]
    content = load_checkpoint(f"{run.path}/{name}")
    content["classy_state_dict"] = changed(content["classy_state_dict"], path, value)
    save_checkpoint(name, content, storage=folder.storage, facts={})
    return name


@pytest.mark.parametrize(
    ("path", "value"),
    [("num_updates", -1), ("meters.0.top_k", 3), ("optimizer.optim.state.0", MISSING), ("train", "yes")],
)
def test_a_run_resumes_from_the_checkpoint_before_one_with_a_bad_state(tmp_path, caplog, path, value):
    calm = make_task(epochs=3, momentum=0.9)
    run = LocalTrainer(str(tmp_path), "r").train(calm)
    name = spoil(run, path, value)
    again = make_task(epochs=3, momentum=0.9)
    LocalTrainer(resume=run.path).train(again)
    said = [r.getMessage() for r in caplog.records if "resuming from the one before" in r.getMessage()]
    assert len(said) == 1 and name in said[0]
    assert equal_weights(weights(calm), weights(again))


def test_a_run_whose_only_checkpoint_has_a_bad_state_is_refused(tmp_path):
    run = LocalTrainer(str(tmp_path), "r").train(make_task())
    spoil(run, "num_updates", None)
    with pytest.raises(DamagedCheckpointError, match=r"the run has no intact checkpoint.*num_updates must be"):
        LocalTrainer(resume=run.path).train(make_task(epochs=2))


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_every_buffer_of_an_optimizer_is_wanted(name):
    options = {"momentum": 0.9} if name == "sgd" else {"amsgrad": True}
    made = train(make_task().set_optimizer(build_optimizer({"name": name, "lr": 0.1, **options})))
    state = made.optimizer.get_classy_state()
    assert state["without_state"] == []
    for buffer in state["optim"]["state"][1]:
        bad = copy.deepcopy(state)
        del bad["optim"]["state"][1][buffer]
        with pytest.raises(DamagedCheckpointError, match=f"parameter 1 has no {buffer}"):
            made.optimizer.set_classy_state(bad)


def test_parameters_without_a_gradient_have_no_state_and_are_no_damage():
    made = make_task(momentum=0.9)
    made.base_model.model[0].weight.requires_grad_(True)
    made.prepare()
    made.optimizer.optimizer.param_groups[0]["params"][1].grad = torch.ones(8)
    made.optimizer.step(where=0.0)
    state = made.optimizer.get_classy_state()
    assert state["without_state"] == [0, 2, 3]
    made.optimizer.set_classy_state(state)


def test_a_state_of_an_older_release_has_no_list_of_parameters_without_state(good):
    old = copy.deepcopy(good)
    del old["optimizer"]["without_state"]
    fresh = task()
    fresh.prepare()
    fresh.set_classy_state(old)
