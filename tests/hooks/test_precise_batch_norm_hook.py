import pytest
import torch
from torch import nn

from ray_classy.errors import ComponentError
from ray_classy.hooks import PreciseBatchNormHook, build_hook
from ray_classy.hooks.precise_batch_norm_hook import _Sums
from ray_classy.trainer import LocalTrainer
from tests.helpers import RecordingHook, Vectors, make_task, run_ranks, train, weights
from tests.trainer.test_row_resume import Ledger, interrupted, small_task
from tests.trainer.test_whole_state import difference

STATISTICS = ("running_mean", "running_var")


def statistics(task):
    return {name: value for name, value in weights(task).items() if name.endswith(STATISTICS)}


def same(one, other):
    return all(torch.allclose(one[name], other[name], rtol=1e-5, atol=1e-6) for name in one)


def inputs_of_batch_norm(task, rows):
    """The inputs of the task's one batch-norm layer, right behind the first linear one."""
    first = next(module for module in task.base_model.modules() if isinstance(module, nn.Linear))
    return first(Vectors(24).inputs[:rows]).detach()


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("rows", [8, 24, 1000])
def test_statistics_are_those_of_the_first_rows_with_the_trained_weights(cached, rows):
    task = train(make_task(test=None, batch_norm=True, hooks=[PreciseBatchNormHook(rows, cached)]))
    inputs = inputs_of_batch_norm(task, rows)
    mean, variance = statistics(task).values()
    assert torch.allclose(mean, inputs.mean(0), atol=1e-6) and torch.allclose(variance, inputs.var(0), rtol=1e-5)


def test_nothing_else_is_touched():
    seen = RecordingHook(lambda task: task.last_batch and task.last_batch.sample["row"].tolist())
    plain = RecordingHook(lambda task: task.last_batch and task.last_batch.sample["row"].tolist())
    options = dict(epochs=2, batch_norm=True, dropout=0.2, shuffle=True)
    one = train(make_task(hooks=[PreciseBatchNormHook(8), seen], **options))
    other = train(make_task(hooks=[plain], **options))
    assert seen.calls == plain.calls
    for name, value in weights(one).items():
        assert name.endswith(STATISTICS) or torch.equal(value, weights(other)[name])


def test_layers_in_evaluation_mode_keep_their_statistics():
    task = make_task(batch_norm=True, hooks=[PreciseBatchNormHook(8), freeze := RecordingHook()])
    freeze.look = lambda task: [m.eval() for m in task.base_model.modules() if isinstance(m, nn.BatchNorm1d)]
    before = statistics(task)
    train(task)
    assert same(before, statistics(task))


def test_a_layer_that_the_model_does_not_call_keeps_its_statistics():
    task = make_task(test=None, batch_norm=True, hooks=[PreciseBatchNormHook(8)])
    task.base_model.never_called = nn.BatchNorm1d(3)
    train(task)
    assert task.base_model.never_called.running_var.tolist() == [1, 1, 1]


def test_sums_lie_on_the_device_of_their_layers():
    layer = nn.BatchNorm1d(3, device="meta")
    assert _Sums([layer])._sums[layer].is_meta


def _statistics_of_a_rank(strategy):
    task = make_task(train=22, batch=3, batch_norm=True, shuffle=True, lr=0.0, hooks=[PreciseBatchNormHook(100)])
    train(task.set_distributed_options(strategy=strategy))
    return {name: value.tolist() for name, value in statistics(task).items()}


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_ranks_share_the_statistics_of_all_their_rows(strategy):
    alone = _statistics_of_a_rank("ddp")
    one, other = run_ranks(2, _statistics_of_a_rank, strategy)
    assert one == other
    for name, value in alone.items():
        assert one[name] == pytest.approx(value, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("cached", [False, True])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path, cached):
    def task(*hooks):
        made = small_task(batch_norm=True, every=2)
        return made.set_hooks([*hooks, PreciseBatchNormHook(20, cached)])

    calm, resumed = task(), task()
    LocalTrainer(str(tmp_path), "calm").train(calm)
    interrupted(str(tmp_path), task(Ledger(stop=18)))
    LocalTrainer(resume=str(tmp_path / "r")).train(resumed)
    assert difference(*(one.get_classy_state() for one in (calm, resumed))) is None


@pytest.mark.parametrize("number", [0, -1, 1.5, "8"])
def test_impossible_num_samples(number):
    with pytest.raises(ComponentError, match="num_samples"):
        build_hook({"name": "precise_bn", "num_samples": number})
