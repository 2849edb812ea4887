from pathlib import Path

import pytest
import torch

from ray_classy.checkpoint import load_checkpoint
from ray_classy.errors import ComponentError
from ray_classy.hooks import ExponentialMovingAverageModelHook, build_hook
from ray_classy.hooks.classy_hook import ClassyHook
from ray_classy.trainer import LocalTrainer
from tests.helpers import equal_weights, make_task, run_ranks, train, weights
from tests.trainer.test_row_resume import Ledger, interrupted, small_task
from tests.trainer.test_whole_state import difference

DECAY = 0.8
AVERAGED = ("weight", "bias", "running_mean", "running_var")


def ema(**options):
    return ExponentialMovingAverageModelHook(DECAY, **options)


class Weights(ClassyHook):
    """The model's weights at each point, and the averages by the formula."""

    on_start = on_end = ClassyHook._noop

    def __init__(self):
        super().__init__()
        self.seen, self.raw, self.average = [], None, None

    def on_phase_start(self, task):
        if self.average is None:
            self.average = weights(task)
        self.seen.append(("start", task.train, weights(task)))

    def on_step(self, task):
        if task.train:
            self.raw = weights(task)
            for name, value in self.raw.items():
                if value.is_floating_point():
                    self.average[name] = DECAY * self.average[name] + (1 - DECAY) * value

    def on_phase_end(self, task):
        self.seen.append(("end", task.train, weights(task)))


def close(one, other, names=AVERAGED):
    kept = [name for name in one if name.endswith(names)]
    return all(torch.allclose(one[name], other[name], rtol=1e-5, atol=1e-7) for name in kept)


def test_a_test_phase_sees_the_averages_and_a_train_phase_the_weights():
    watch = Weights()
    train(make_task(epochs=2, batch_norm=True, hooks=[ema(), watch]))
    start, trained, test, tested, again, *_, averaged = (state for _, _, state in watch.seen)
    assert equal_weights(trained, again) and equal_weights(test, tested)
    assert not close(test, trained) and close(averaged, watch.average)
    assert not close(start, trained)


def test_statistics_of_batch_norm_are_left_if_so_asked():
    watch = Weights()
    task = train(make_task(batch_norm=True, hooks=[ema(consider_bn_buffers=False), watch]))
    now = weights(task)
    assert close(now, watch.raw, ("running_mean", "running_var")) and close(now, watch.average, ("weight", "bias"))
    assert not close(now, watch.average, ("running_mean",))


def test_a_task_can_ask_to_be_tested_with_its_weights():
    watch = Weights()
    task = make_task(hooks=[ema(), watch])
    task.ema = False
    assert equal_weights(weights(train(task)), watch.raw)


def test_only_updates_are_averaged():
    one, other = Weights(), Weights()
    once = train(make_task(train=24, batch=8, hooks=[ema(), one]))
    parts = train(make_task(train=24, batch=4, hooks=[ema(), other]).set_simulated_global_batchsize(8))
    assert close(weights(once), weights(parts), ("weight", "bias"))


@pytest.mark.parametrize("stop", [5, 13, 18, 26])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path, stop):
    def task(*hooks):
        made = small_task(batch_norm=True, every=2)
        return made.set_hooks([*hooks, ema()])

    calm, resumed = task(), task()
    LocalTrainer(str(tmp_path), "calm").train(calm)
    interrupted(str(tmp_path), task(Ledger(stop=stop)))
    LocalTrainer(resume=str(tmp_path / "r")).train(resumed)
    assert difference(*(one.get_classy_state() for one in (calm, resumed))) is None


def test_a_checkpoint_after_a_test_phase_has_the_averages_for_its_model(tmp_path):
    watch = Weights()
    result = LocalTrainer(str(tmp_path), "r").train(make_task(batch_norm=True, hooks=[ema(), watch]))
    evaluated = make_task(batch_norm=True, hooks=[ema()]).set_test_only(True).set_checkpoint(result.checkpoint)
    evaluation = LocalTrainer(str(tmp_path), "t").train(evaluated)
    assert close(weights(evaluated), watch.average)
    assert evaluation.metrics_history[-1]["metrics"] == result.metrics_history[-1]["metrics"]


def _averages_of_a_rank(strategy):
    task = make_task(train=22, batch=3, epochs=2, batch_norm=True, hooks=[ema()])
    task.set_distributed_options(strategy=strategy)
    train(task)
    return {name: value.tolist() for name, value in weights(task).items()}


@pytest.mark.parametrize("strategy", ["ddp", "zero"])
def test_every_rank_is_tested_with_the_same_averages(strategy):
    one, other = run_ranks(2, _averages_of_a_rank, strategy)
    assert one == other


def test_a_sharded_model_is_refused():
    task = make_task(hooks=[ema()]).set_distributed_options(strategy="fsdp")
    with pytest.raises(ComponentError, match=r"ExponentialMovingAverageModelHook.*fsdp.*zero"):
        task.preflight(2, False)
    task.set_test_only(True).preflight(2, False)


@pytest.mark.parametrize("wrong", [{"decay": 1.1}, {"decay": "a"}, {"decay": 0.9, "device": "cuda"}], ids=str)
def test_senseless_arguments_are_refused(wrong):
    with pytest.raises(ComponentError, match=next(reversed(wrong))):
        build_hook({"name": "ema_model_weights", **wrong})


def test_another_run_with_the_same_hook_begins_with_its_own_weights():
    hook, watch = ema(), Weights()
    train(make_task(hooks=[hook]))
    train(make_task(hooks=[hook, watch]))
    assert equal_weights(watch.seen[0][2], weights(make_task()))


def test_an_evaluation_of_a_checkpoint_without_a_test_phase_has_the_averages_too(tmp_path):
    watch = Weights()
    task = make_task(epochs=2, hooks=[ema(), watch]).set_test_phase_period(2).set_checkpoint_every(rounds=1)
    run = LocalTrainer(str(tmp_path), "r").train(task)
    first = sorted(path for path in Path(run.path).iterdir() if path.name.startswith("epoch_0001"))[0]
    hook = ema()
    evaluated = make_task(hooks=[hook]).set_test_only(True).set_checkpoint(str(first))
    LocalTrainer(str(tmp_path), "t").train(evaluated)
    average = load_checkpoint(str(first))["classy_state_dict"]["hooks"]["ExponentialMovingAverageModelHook"]
    assert close(weights(evaluated), average["ema_model_state"])


def test_a_run_that_goes_on_without_the_hook_says_what_it_leaves_out(tmp_path, caplog):
    run = LocalTrainer(str(tmp_path), "r").train(make_task(hooks=[ema()]))
    LocalTrainer(resume=run.path).train(make_task(epochs=2))
    assert "the state of hook 'ExponentialMovingAverageModelHook', which this run does not have" in caplog.text


def test_averages_of_another_shape_are_left_out(tmp_path, caplog):
    run = LocalTrainer(str(tmp_path), "r").train(make_task(hooks=[ema()]))
    content = load_checkpoint(run.checkpoint)
    state = content["classy_state_dict"]["hooks"]["ExponentialMovingAverageModelHook"]
    for part in state.values():
        name = next(iter(part))
        part[name] = torch.zeros(1, 1)
        part["gone"] = part[name]
    task = make_task(epochs=2, hooks=[ema()])
    task._set_checkpoint_dict(content)
    train(task)
    assert "of the checkpoint" in caplog.text and task.num_train_steps == 12


def test_layers_that_share_their_statistics_and_whole_numbers_are_no_trouble():
    task = make_task(hooks=[ema()])
    first, second = torch.nn.BatchNorm1d(8), torch.nn.BatchNorm1d(8)
    second._buffers["running_mean"] = first.running_mean
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), first, second, torch.nn.Linear(8, 4))
    model.whole = torch.nn.Parameter(torch.ones(1, dtype=torch.int64), requires_grad=False)
    train(task.set_model(model))


@pytest.mark.parametrize("accumulate, updates", [(None, [3, 6, 9, 12]), (8, [6, 12])])
def test_the_averages_are_updated_every_n_updates(accumulate, updates):
    changed, before = [], None

    class Changes(Weights):
        def on_step(self, task):
            nonlocal before
            now = [value.clone() for value in task.hooks[0].state.ema_model_state.values()]
            if task.train and before is not None and not all(map(torch.equal, before, now)):
                changed.append(task.num_train_steps)
            before = now

        def on_phase_start(self, task):
            nonlocal before
            before = before or [value.clone() for value in task.hooks[0].state.ema_model_state.values()]

    task = make_task(epochs=2, hooks=[ema(update_every_n_steps=3), Changes()])
    train(task.set_simulated_global_batchsize(accumulate))
    assert changed == updates


def test_every_nth_update_is_counted_across_an_interruption(tmp_path):
    def task(hook=None):
        hooks = [ema(update_every_n_steps=4), *([hook] if hook else [])]
        return make_task(epochs=2, hooks=hooks).set_checkpoint_every(steps=1)

    whole, resumed = task(), task()
    LocalTrainer(str(tmp_path), "whole").train(whole)
    interrupted(str(tmp_path), task(Ledger(stop=7)))
    LocalTrainer(resume=str(tmp_path / "r")).train(resumed)
    assert difference(whole.hooks[0].get_classy_state(), resumed.hooks[0].get_classy_state()) is None


@pytest.mark.parametrize("wrong", [0, 1.5, True, None])
def test_an_impossible_period_is_refused(wrong):
    with pytest.raises(ComponentError, match="update_every_n_steps must be an integer of at least 1"):
        ema(update_every_n_steps=wrong)
