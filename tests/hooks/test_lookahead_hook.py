import pytest
import torch

from ray_classy.errors import ComponentError, DamagedCheckpointError
from ray_classy.hooks import ClassyHook, LookaheadHook, build_hook
from ray_classy.trainer import LocalTrainer
from tests.helpers import equal_weights, make_task, train, weights
from tests.trainer.test_row_resume import Ledger, interrupted, small_task


class Watch(ClassyHook):
    """The weights before and after the hooks between its two halves."""

    on_phase_start = on_phase_end = on_end = ClassyHook._noop

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_start(self, task):
        self.seen.append(weights(task))

    def on_step(self, task):
        if task.train:
            self.seen.append(weights(task))


class After(Watch):
    pass


def test_every_few_updates_the_weights_become_the_slow_ones():
    before, after = Watch(), After()
    train(make_task(train=16, batch_norm=True, hooks=[before, LookaheadHook(0.25, period=3), after]))
    (slow, *fast), moved = before.seen, after.seen[1:]
    assert equal_weights(fast[0], moved[0]) and equal_weights(fast[1], moved[1])
    for name in ("model.0.weight", "model.1.running_mean"):
        assert torch.allclose(moved[2][name], 0.25 * slow[name] + 0.75 * fast[2][name])


def test_the_run_ends_with_the_slow_weights():
    made = train(make_task(train=16, test=None, hooks=[LookaheadHook(0.9, period=3)]))
    slow = made.hooks[0].state.slow
    assert all(torch.equal(value, slow[name]) for name, value in made.base_model.named_parameters())


def test_the_share_grows_with_the_progress():
    before, after = Watch(), After()
    train(make_task(train=16, test=None, hooks=[before, LookaheadHook(0.8, period=2, power=3), after]))
    (slow, _, fast, *_), moved = before.seen, after.seen[2]
    share = 0.8 * 0.5**3
    assert torch.allclose(
        moved["model.0.weight"], share * slow["model.0.weight"] + (1 - share) * fast["model.0.weight"]
    )


def test_a_run_resumed_inside_a_phase_equals_an_uninterrupted_one(tmp_path):
    calm = small_task().set_hooks([LookaheadHook(0.5, period=3)])
    LocalTrainer(str(tmp_path), "calm").train(calm)
    interrupted(str(tmp_path), small_task().set_hooks([LookaheadHook(0.5, period=3), Ledger(stop=5)]))
    resumed = small_task().set_hooks([LookaheadHook(0.5, period=3)])
    LocalTrainer(resume=str(tmp_path / "r")).train(resumed)
    assert equal_weights(weights(calm), weights(resumed))


@pytest.mark.parametrize("options", [{"decay": 1.0}, {"period": 0}, {"power": -1}])
def test_impossible_arguments_are_refused(options):
    with pytest.raises(ComponentError):
        build_hook({"name": "lookahead", **options})


@pytest.mark.parametrize("state", [{"slow": 3}, {"slow": {"a": 1}}, {"updates": "x"}])
def test_a_damaged_state_is_refused(state):
    with pytest.raises(DamagedCheckpointError):
        LookaheadHook().set_classy_state(state)
