"""The strategies zero and fsdp train as ddp does. All that two ranks do is done once."""

import contextlib
import hashlib
import os

import pytest
import torch
from torch import nn
from torch.distributed.tensor import DTensor

from ray_classy.checkpoint import load_checkpoint
from ray_classy.distributed import get_rank
from ray_classy.errors import ComponentError, TaskError
from ray_classy.heads import FullyConnectedHead
from ray_classy.models import ClassyModel
from ray_classy.optim import build_optimizer
from ray_classy.tasks import BroadcastBuffersMode, ClassificationTask, FineTuningTask
from ray_classy.trainer import DistributedTrainer, LocalTrainer
from tests.helpers import RecordingHook, make_task, run_ranks, train

DOUBLE = torch.float64
STRATEGIES = ("ddp", "zero", "fsdp")
DEALT = STRATEGIES[1:]
ADAMW = {"name": "adamw", "lr": 0.01, "weight_decay": 0.1}
SGD = {"name": "sgd", "lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}


def wide_model(dtype=DOUBLE, batch_norm=True, depth=1):
    """With one layer that is dealt by itself, and some that are not."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3 + get_rank())  # ranks begin with the first one's weights, whatever theirs are
        layers = [nn.Linear(6, 257), nn.BatchNorm1d(257) if batch_norm else nn.Identity(), nn.ReLU()]
        layers += [layer for _ in range(depth) for layer in (nn.Linear(257, 257), nn.ReLU())]
        layers += [nn.Linear(257, 4)]
        return ClassyModel.from_model(nn.Sequential(*layers).to(dtype), input_shape=(6,))


def wide_task(strategy, optimizer=SGD, batch_norm=True, model=None, **options):
    # 7 test rows in batches of 3: two steps on one rank, one on the other
    options = {"train": 22, "test": 7, "batch": 3, "dtype": DOUBLE, "epochs": 2, "shuffle": True, **options}
    task = make_task(**options).set_model(model or wide_model(batch_norm=batch_norm))
    task.set_optimizer(build_optimizer(optimizer))
    return task.set_distributed_options(strategy=strategy)


def outcome(task):
    state = task.get_classy_state()
    flat = torch.cat([value.flatten().double() for value in task.base_model.state_dict().values()])
    entries = state["optimizer"]["optim"]["state"]
    return {
        "weights": flat[::31].tolist(),
        "bits": hashlib.sha256(flat.numpy().tobytes()).hexdigest(),
        "optimizer": {number: _sums(entry) for number, entry in entries.items()},
        "losses": list(task.losses),
        "loss": task.losses.row_mean(),
        "counts": task.meters[0]._total.tolist(),
    }


def _sums(entry):
    return {name: float(value.double().pow(2).sum()) for name, value in entry.items() if value is not None}


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


def local_numbers(tensors):
    return sum((value.to_local() if isinstance(value, DTensor) else value).numel() for value in tensors)


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


def loaded(strategy, checkpoint):
    """Numbers of the optimizer's state that this rank has when a checkpoint is read."""
    task = resumable(strategy, checkpoint)
    task.prepare()
    return local_numbers([v for e in task.optimizer.optimizer.state.values() for v in e.values()])


def taken_up_again(strategy):
    """The state after the first epoch, and what a task tells that has trained on and taken it up."""
    kept = []
    hook = RecordingHook()
    hook.on_phase_end = lambda task: kept.extend([outcome(task), task.get_classy_state(deep_copy=True)])
    task = train(wide_task(strategy, ADAMW, hooks=[hook]))
    task.set_classy_state(kept[1])
    return [kept[0]["bits"], kept[0]["optimizer"]], [outcome(task)["bits"], outcome(task)["optimizer"]]


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
    done["one test row"] = outcome(train(wide_task(strategy, test=1)))
    done["no test"] = outcome(train(wide_task(strategy, test=None)))
    done["frozen trunk"] = outcome(train(fine_tuned(strategy)))
    low = wide_task(strategy, model=wide_model(torch.float32), dtype=torch.float32)
    low.set_amp_args({"amp_type": "pytorch", "dtype": "bfloat16"})
    done["bfloat16"] = outcome(train(low))
    return {**done, **scaled(strategy)}


def at(folder, *parts):
    return os.path.join(folder, *parts)


def resumable(strategy, checkpoint=None, **options):
    task = wide_task(strategy, ADAMW, batch_norm=False, **options)
    return task if checkpoint is None else task.set_checkpoint(checkpoint)


def resumed_from(folder):
    """Whole runs, those that went on from the checkpoints of others, and those that were stopped inside an epoch."""
    done = {}
    for strategy in STRATEGIES:
        result = DistributedTrainer(folder, f"first-{strategy}").train(resumable(strategy, epochs=1))
        done[f"first-{strategy}"] = result.checkpoint
        inside = resumable(strategy, epochs=1).set_checkpoint_every(steps=2, minutes=None)
        stop = RecordingHook(lambda task: task.num_train_steps == 3 and 1 / 0)
        with contextlib.suppress(ZeroDivisionError):
            DistributedTrainer(folder, f"inside-{strategy}").train(inside.set_hooks([stop]))
    for before in STRATEGIES:
        for after in STRATEGIES:
            again = resumable(after, done[f"first-{before}"])
            done[f"{before} to {after}"] = outcome(train(again))
            inside = resumable(after, newest(at(folder, f"inside-{before}")))
            done[f"inside {before} to {after}"] = outcome(train(inside))
    for after in DEALT:
        done[f"one rank to {after}"] = outcome(train(resumable(after, at(folder, "alone-checkpoint"))))
    done["whole"] = outcome(train(resumable("ddp")))
    return done


def newest(run):
    return at(run, sorted(name for name in os.listdir(run) if name.startswith("epoch_"))[-1])


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
    kinds = []
    hook = RecordingHook()
    for point in ("on_start", "on_phase_start", "on_step", "on_phase_end", "on_end"):

        def look(task, point=point):
            whole = not any(isinstance(parameter, DTensor) for parameter in task.base_model.parameters())
            kinds.append((point, task.train, whole))

        setattr(hook, point, look)
    model = wide_model()
    task = train(wide_task("fsdp", hooks=[hook], model=model, epochs=1))
    return {"whole": sorted(set(kinds)), "same model": task.base_model is model}


def all_trained():
    return {strategy: trained(strategy) for strategy in STRATEGIES}


def all_else(first):
    done = {"memory": {strategy: memory(strategy) for strategy in STRATEGIES}}
    done["loaded"] = {strategy: loaded(strategy, first) for strategy in STRATEGIES}
    done["taken up again"] = {strategy: taken_up_again(strategy) for strategy in DEALT}
    done["loss refused"] = refused(wide_task("fsdp").set_loss(ScalarLoss()))
    done["loss with zero"] = [
        outcome(train(wide_task(name).set_loss(ScalarLoss())))["bits"] for name in ("ddp", "zero")
    ]
    zero = wide_task("ddp", {"name": "zero", "base_optimizer": SGD})
    done["old spellings"] = [outcome(train(task)) for task in (wide_task("ddp").set_use_sharded_ddp(True), zero)]
    done["hooks"] = seen_by_hooks()
    for mode in (BroadcastBuffersMode.DISABLED, BroadcastBuffersMode.BEFORE_EVAL):
        done[mode.name] = buffers(mode)
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("runs"))
    result = LocalTrainer(folder, "alone").train(resumable("ddp", epochs=1, batch=6))
    os.symlink(result.checkpoint, at(folder, "alone-checkpoint"))
    return folder


@pytest.fixture(scope="module")
def ranks(folder):
    answers = run_ranks(2, all_trained, seconds=280)
    for answer, resumed in zip(answers, run_ranks(2, resumed_from, folder, seconds=280), strict=True):
        answer["resumed"] = resumed
    for answer, more in zip(answers, run_ranks(2, all_else, answers[0]["resumed"]["first-ddp"]), strict=True):
        answer.update(more)
    return answers


def assert_same(outcome, other):
    assert outcome["weights"] == pytest.approx(other["weights"], rel=0, abs=1e-9)
    assert outcome["loss"] == pytest.approx(other["loss"], rel=0, abs=1e-9)
    assert outcome["counts"] == other["counts"]
    assert outcome["optimizer"].keys() == other["optimizer"].keys()
    for number, entry in outcome["optimizer"].items():
        assert entry == pytest.approx(other["optimizer"][number], rel=1e-6)


@pytest.mark.parametrize("strategy", DEALT)
@pytest.mark.parametrize("what", [
    "sgd", "schedule", "accumulated, clipped, adamw", "one test row", "no test", "frozen trunk"
])  # fmt: skip
def test_trains_as_ddp_does(ranks, what, strategy):
    for answer in ranks:
        ours, theirs = answer[strategy][what], answer["ddp"][what]
        assert_same(ours, theirs)
        assert ours["losses"] == pytest.approx(theirs["losses"], rel=0, abs=1e-9)


def test_zero_updates_to_the_same_bits(ranks):
    for answer in ranks:
        assert all(answer["zero"][what] == answer["ddp"][what] for what in answer["ddp"])


@pytest.mark.parametrize("strategy", DEALT)
def test_mixed_precision(ranks, strategy):
    for answer in ranks:
        ours, theirs = answer[strategy]["bfloat16"], answer["ddp"]["bfloat16"]
        assert ours["weights"] == pytest.approx(theirs["weights"], rel=0, abs=1e-3)


@pytest.mark.parametrize("strategy", DEALT)
def test_loss_scaling_passes_over_the_same_steps(ranks, strategy):
    for answer in ranks:
        assert answer[strategy]["scales"] == answer["ddp"]["scales"] == [1024.0, 512.0, 512.0, 512.0]
        assert_same(answer[strategy]["scaled"], answer["ddp"]["scaled"])


@pytest.mark.parametrize("before", [*STRATEGIES, "inside ddp", "inside zero", "inside fsdp"])
@pytest.mark.parametrize("after", STRATEGIES)
def test_goes_on_from_the_checkpoint_of_another_strategy(ranks, before, after):
    for answer in ranks:
        assert_same(answer["resumed"][f"{before} to {after}"], answer["resumed"]["whole"])


@pytest.mark.parametrize("after", DEALT)
def test_goes_on_from_the_checkpoint_of_one_process(ranks, after):
    for answer in ranks:
        assert_same(answer["resumed"][f"one rank to {after}"], answer["resumed"]["whole"])


@pytest.mark.parametrize("before", STRATEGIES)
@pytest.mark.parametrize("after", STRATEGIES)
def test_one_process_goes_on_from_the_checkpoint_of_two(ranks, before, after):
    resumed = outcome(train(resumable(after, ranks[0]["resumed"][f"first-{before}"], batch=6)))
    assert_same(resumed, ranks[0]["resumed"]["whole"])


@pytest.mark.parametrize("strategy", DEALT)
def test_checkpoint_has_what_that_of_ddp_has(ranks, strategy):
    theirs, ours = (_flat(ranks[0]["resumed"][f"first-{name}"]) for name in ("ddp", strategy))
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        if isinstance(value, torch.Tensor):
            assert type(value) is torch.Tensor and value.dtype == theirs[name].dtype
            torch.testing.assert_close(value, theirs[name], rtol=0, atol=1e-9)
        elif "losses" not in name:
            assert value == theirs[name]


def _flat(checkpoint):
    def walk(value, name):
        if isinstance(value, (dict, list)):
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                yield from walk(item, f"{name}.{key}")
        else:
            yield name, value

    return dict(walk(load_checkpoint(checkpoint)["classy_state_dict"], ""))


@pytest.mark.parametrize(("strategy", "dealt"), [
    ("zero", {"optimizer"}), ("fsdp", {"parameters", "gradients", "optimizer"})
])  # fmt: skip
def test_each_of_two_ranks_has_half(ranks, strategy, dealt):
    for kind, everything in ranks[0]["memory"]["ddp"].items():
        parts = [answer["memory"][strategy][kind] for answer in ranks]
        if kind in dealt:
            assert all(part == pytest.approx(everything / 2, rel=0.05) for part in parts)
        else:
            assert parts == [everything, everything]


def test_a_checkpoint_is_read_into_the_part_of_each_rank(ranks):
    everything = ranks[0]["loaded"]["ddp"]
    for strategy in DEALT:
        parts = [answer["loaded"][strategy] for answer in ranks]
        assert sum(parts) == pytest.approx(everything, rel=0.001) and max(parts) < everything


@pytest.mark.parametrize("strategy", DEALT)
def test_a_task_that_has_trained_takes_up_a_state(ranks, strategy):
    for answer in ranks:
        before, after = answer["taken up again"][strategy]
        assert before == after


def test_old_spellings_mean_zero(ranks):
    for answer in ranks:
        assert answer["old spellings"] == [answer["zero"]["sgd"]] * 2


def test_fsdp_refuses_a_loss_with_parameters(ranks):
    for answer in ranks:
        assert (
            "ComponentError: distributed.strategy 'fsdp' cannot deal out parameters of the loss"
            in (answer["loss refused"])
        )
        assert answer["loss with zero"][0] == answer["loss with zero"][1]


def test_base_model_is_whole_but_in_steps_that_train(ranks):
    for answer in ranks:
        assert answer["hooks"]["same model"]
        dealt = {(point, train) for point, train, whole in answer["hooks"]["whole"] if not whole}
        assert dealt == {("on_phase_start", True), ("on_step", True)}


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
