"""The strategies zero and fsdp train as ddp does. All that two ranks do is done once."""

import pytest
import torch
from torch import nn
from torch.distributed.tensor import DTensor

from ray_classy.errors import ComponentError, TaskError
from ray_classy.heads import FullyConnectedHead
from ray_classy.models import ClassyModel
from ray_classy.tasks import BroadcastBuffersMode, ClassificationTask, FineTuningTask
from tests.helpers import RecordingHook, run_ranks, train
from tests.tasks.strategy_parts import (
    ADAMW,
    DOUBLE,
    SGD,
    SHARDED,
    STRATEGIES,
    assert_same,
    local_numbers,
    outcome,
    wide_model,
    wide_task,
)


def fine_tuned(strategy):
    head = FullyConnectedHead("head", 4, in_plane=257)
    trunk = nn.Sequential(nn.Linear(6, 257), nn.BatchNorm1d(257), nn.Linear(257, 257), nn.Unflatten(1, (257, 1, 1)))
    model = ClassyModel.from_model(trunk, input_shape=(6,))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        for parameter in [*model.parameters(), *head.parameters()]:
            nn.init.normal_(parameter, std=0.1)
    model.set_heads({"model": [head]})
    model.to(DOUBLE)
    task = wide_task(strategy, model=model, cls=FineTuningTask)
    task._set_pretrained_checkpoint_dict({"classy_state_dict": {"base_model": model.get_classy_state(deep_copy=True)}})
    return task.set_reset_heads(True).set_freeze_trunk(True)


def memory(strategy):
    """Numbers of the model, its gradients and the optimizer that this rank has after a train step."""
    seen = {}

    def look(task):
        parameters = list(task.base_model.parameters())
        entries = task.optimizer.optimizer.state.values()
        seen["parameters"] = local_numbers(parameters)
        seen["gradients"] = local_numbers([p.grad for p in parameters])
        seen["optimizer"] = local_numbers([v for e in entries for v in e.values() if isinstance(v, torch.Tensor)])

    hook = RecordingHook()
    hook.on_step = lambda task: task.train and look(task)
    train(wide_task(strategy, ADAMW, hooks=[hook], model=wide_model(depth=4)))
    return seen


class Overflowing(nn.Linear):
    """Has an infinite gradient in one row, and so in the part of one rank, in its second step."""

    calls = 0

    def forward(self, rows):
        weight = self.weight * 1
        self.calls += self.training
        if self.calls == 2 and self.training:
            weight.register_hook(lambda gradient: gradient.index_fill(0, torch.tensor([0]), torch.inf))
        return nn.functional.linear(rows, weight, self.bias)


class ScalingTask(ClassificationTask):
    """Scales losses, as float16 on a GPU does."""

    def prepare(self):
        super().prepare()
        self.update_step.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)


def scaled(strategy):
    model = wide_model()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model.model[-1] = Overflowing(257, 4, dtype=DOUBLE)
    scales = []
    hook = RecordingHook()
    hook.on_step = lambda task: task.train and scales.append(task.update_step.scaler.get_scale())
    task = train(
        wide_task(strategy, ADAMW, model=model, cls=ScalingTask, epochs=1, hooks=[hook]).set_clip_grad_norm(1.0)
    )
    return {"scaled": outcome(task), "scales": scales}


def trained(strategy):
    done = {"sgd": outcome(train(wide_task(strategy)))}
    schedule = {"name": "cosine", "start_value": 0.1, "end_value": 0.0, "update_interval": "step"}
    done["schedule"] = outcome(train(wide_task(strategy, schedule=schedule, epochs=3).set_test_phase_period(2)))
    accumulated = wide_task(strategy, ADAMW).set_simulated_global_batchsize(12).set_clip_grad_norm(0.05)
    done["accumulated, clipped, adamw"] = outcome(train(accumulated.set_bn_weight_decay(True)))
    weighted = wide_task(
        strategy, ADAMW, transform=lambda row: {**row, "target": -1 if row["row"] < 9 else row["target"]}
    )
    weighted.set_loss(nn.CrossEntropyLoss(torch.tensor([0.1, 1, 3, 8], dtype=DOUBLE), ignore_index=-1))
    done["weighted rows"] = outcome(train(weighted.set_simulated_global_batchsize(12)))
    done["one test row"] = outcome(train(wide_task(strategy, test=1)))
    done["no test"] = outcome(train(wide_task(strategy, test=None)))
    done["frozen trunk"] = outcome(train(fine_tuned(strategy)))
    low = wide_task(strategy, model=wide_model(torch.float32), dtype=torch.float32)
    low.set_amp_args({"amp_type": "pytorch", "dtype": "bfloat16"})
    done["bfloat16"] = outcome(train(low))
    return {**done, **scaled(strategy)}


def refused(task):
    try:
        task.prepare()
    except (ComponentError, TaskError) as error:
        return f"{type(error).__name__}: {error}"
    return None


class ScalarLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=DOUBLE))

    def forward(self, output, target):
        return nn.functional.cross_entropy(output * self.scale, target)


def buffers(mode):
    """Of both ranks' models in a test phase."""
    seen = []
    hook = RecordingHook(lambda task: task.train or seen.append(task.base_model.model[1].running_mean.sum().item()))
    task = wide_task("fsdp", hooks=[hook]).set_distributed_options(strategy="fsdp", broadcast_buffers_mode=mode)
    train(task)
    return seen[-1]


def seen_by_hooks():
    kinds, configs = [], []
    hook = RecordingHook()
    for point in ("on_start", "on_phase_start", "on_step", "on_phase_end", "on_end"):

        def look(task, point=point):
            whole = not any(isinstance(parameter, DTensor) for parameter in task.base_model.parameters())
            kinds.append((point, task.train, whole))
            configs.append(task.config is not None)

        setattr(hook, point, look)
    model = wide_model()
    task = wide_task("fsdp", hooks=[hook], model=model, epochs=1)
    task.config = {"name": "classification_task"}
    train(task)
    return {"whole": sorted(set(kinds)), "same model": task.base_model is model, "config": all(configs)}


class Forked(nn.Module):
    """A model with a layer behind its output, which gets no gradient."""

    def __init__(self):
        super().__init__()
        self.used, self.behind = wide_model().model, nn.Linear(4, 2, dtype=DOUBLE)

    def forward(self, rows):
        output = self.used(rows)
        self.behind(output)
        return output


def with_unused_layer(strategy, **options):
    model = ClassyModel.from_model(Forked(), input_shape=(6,))
    task = wide_task(strategy, model=model).set_distributed_options(strategy=strategy, **options)
    return train(task).losses.row_mean()


def all_trained():
    return {strategy: trained(strategy) for strategy in STRATEGIES}


def all_else():
    done = {"memory": {strategy: memory(strategy) for strategy in STRATEGIES}}
    done["loss refused"] = refused(wide_task("fsdp").set_loss(ScalarLoss()))
    done["loss with zero"] = [
        outcome(train(wide_task(name).set_loss(ScalarLoss())))["bits"] for name in ("ddp", "zero")
    ]
    zero = wide_task("ddp", {"name": "zero", "base_optimizer": SGD})
    done["old spellings"] = [outcome(train(task)) for task in (wide_task("ddp").set_use_sharded_ddp(True), zero)]
    done["unused"] = [
        with_unused_layer("ddp", find_unused_parameters=True),
        with_unused_layer("zero", find_unused_parameters=True),
        with_unused_layer("fsdp"),
    ]
    done["hooks"] = seen_by_hooks()
    for mode in (BroadcastBuffersMode.DISABLED, BroadcastBuffersMode.BEFORE_EVAL):
        done[mode.name] = buffers(mode)
    return done


@pytest.fixture(scope="module")
def ranks():
    answers = run_ranks(2, all_trained, seconds=280)
    for answer, more in zip(answers, run_ranks(2, all_else), strict=True):
        answer.update(more)
    return answers


@pytest.mark.parametrize("strategy", SHARDED)
@pytest.mark.parametrize("what", [
    "sgd", "schedule", "accumulated, clipped, adamw", "weighted rows", "one test row", "no test", "frozen trunk"
])  # fmt: skip
def test_trains_as_ddp_does(ranks, what, strategy):
    for answer in ranks:
        ours, theirs = answer[strategy][what], answer["ddp"][what]
        assert_same(ours, theirs)
        assert ours["losses"] == pytest.approx(theirs["losses"], rel=0, abs=1e-9)


def test_layer_without_gradient_is_left_alone(ranks):
    for answer in ranks:
        assert answer["unused"] == pytest.approx([answer["ddp"]["sgd"]["loss"]] * 3, rel=0, abs=1e-9)


def test_zero_updates_to_the_same_bits(ranks):
    for answer in ranks:
        assert all(answer["zero"][what] == answer["ddp"][what] for what in answer["ddp"])


@pytest.mark.parametrize("strategy", SHARDED)
def test_mixed_precision(ranks, strategy):
    for answer in ranks:
        ours, theirs = answer[strategy]["bfloat16"], answer["ddp"]["bfloat16"]
        assert ours["weights"] == pytest.approx(theirs["weights"], rel=0, abs=1e-3)


@pytest.mark.parametrize("strategy", SHARDED)
def test_loss_scaling_passes_over_the_same_steps(ranks, strategy):
    for answer in ranks:
        assert answer[strategy]["scales"] == answer["ddp"]["scales"] == [1024.0, 512.0, 512.0, 512.0]
        assert_same(answer[strategy]["scaled"], answer["ddp"]["scaled"])


@pytest.mark.parametrize(("strategy", "sharded"), [
    ("zero", {"optimizer"}), ("fsdp", {"parameters", "gradients", "optimizer"})
])  # fmt: skip
def test_each_of_two_ranks_has_half(ranks, strategy, sharded):
    for kind, everything in ranks[0]["memory"]["ddp"].items():
        parts = [answer["memory"][strategy][kind] for answer in ranks]
        if kind in sharded:
            assert all(part == pytest.approx(everything / 2, rel=0.05) for part in parts)
        else:
            assert parts == [everything, everything]


def test_old_spellings_mean_zero(ranks):
    for answer in ranks:
        assert answer["old spellings"] == [answer["zero"]["sgd"]] * 2


def test_fsdp_refuses_a_loss_with_parameters(ranks):
    for answer in ranks:
        assert (
            "ComponentError: distributed.strategy 'fsdp' cannot shard parameters of the loss"
            in (answer["loss refused"])
        )
        assert answer["loss with zero"][0] == answer["loss with zero"][1]


def test_base_model_is_whole_but_in_steps_that_train(ranks):
    for answer in ranks:
        assert answer["hooks"]["same model"]
        sharded = {(point, train) for point, train, whole in answer["hooks"]["whole"] if not whole}
        assert sharded == {("on_phase_start", True), ("on_step", True)}


def test_config_is_known_while_the_model_is_sharded(ranks):
    assert all(answer["hooks"]["config"] for answer in ranks)


@pytest.mark.parametrize(("mode", "same"), [("DISABLED", False), ("BEFORE_EVAL", True)])
def test_buffers_agree_in_test_phases_of_fsdp(ranks, mode, same):
    assert (ranks[0][mode] == ranks[1][mode]) is same


@pytest.mark.parametrize("options", [
    {"find_unused_parameters": True}, {"fp16_grad_compress": True}, {"bucket_cap_mb": 5},
    {"broadcast_buffers_mode": BroadcastBuffersMode.FORWARD_PASS},
])  # fmt: skip
def test_fsdp_refuses_options_of_ddp(options):
    with pytest.raises(ComponentError, match="an option of DistributedDataParallel"):
        ClassificationTask().set_distributed_options(strategy="fsdp", **options)
    ClassificationTask().set_distributed_options(strategy="zero", **options)


def test_unknown_strategy():
    with pytest.raises(ComponentError, match="strategy must be one of ddp, fsdp, zero, not 'sharded'"):
        ClassificationTask().set_distributed_options(strategy="sharded")
