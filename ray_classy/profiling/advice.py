"""Says what limits a training, and which keys of its config may make it faster."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ray_classy.dataset.cpus import cpus_of_this_process
from ray_classy.profiling.measure import StepProfile
from ray_classy.registry import config_keys
from ray_classy.tasks import ClassificationTask
from ray_classy.tasks.memory_format import has_formats

_MUCH, _SOME = 0.2, 0.1
"""Shares of a step from which on a part other than the model limits a training, or is worth a remark."""
_BUSY = 0.75
"""Share of a step in which a GPU computes, below which it waits for Python."""


@dataclass(frozen=True)
class Advice:
    """A key of the config that may make steps faster.

    Attributes:
        override: as it is given on the command line.
        why: what it does.
        at_most: how many times as fast a step is if the part of the step that it concerns took no time at all.
        comparable: whether its effect can be measured by the same steps with this override.
    """

    override: str
    why: str
    at_most: float
    comparable: bool = True


def limit_of(profile: StepProfile) -> tuple[str, str]:
    """Returns the part of a step that limits a training, or "python" or "model", and a sentence about it."""
    shares = shares_of(profile)
    model = shares["forward"] + shares["backward"] + shares["loss"]
    others = {name: shares[name] for name in ("data", "transfer", "optimizer", "hooks", "meters", "mixup")}
    largest = max(others, key=others.__getitem__)
    if others[largest] >= _MUCH:
        return largest, f"{_PLAIN[largest]} {others[largest]:.0%} of a step"
    if profile.waits >= 1 and profile.waited >= _SOME * profile.seconds:
        return "waits", (
            f"Python waits for the GPU {profile.waits:.0f} times in a step, which takes {profile.waited * 1e3:.1f} ms: "
            f"something reads a number from the GPU (.item(), float(tensor)), such as a hook or the model's own code"
        )
    if profile.busy is not None and profile.busy < _BUSY:
        return "python", (
            f"the GPU computes in {profile.busy:.0%} of a step and waits for Python in the rest, which starts its "
            f"kernels too slowly"
        )
    if profile.busy is None and shares["python"] >= _MUCH:
        return "python", f"Python code around the model takes {shares['python']:.0%} of a step: it is a small model"
    where = "on the CPU" if profile.busy is None else "on the GPU"
    return "model", f"forward and backward pass of the model take {model:.0%} of a step, {where}"


_PLAIN = {
    "data": "waiting for data takes",
    "transfer": "copying batches to the device takes",
    "optimizer": "the optimizer takes",
    "hooks": "the hooks take",
    "meters": "updating the meters takes",
    "mixup": "mixing rows takes",
}


def shares_of(profile: StepProfile) -> dict[str, float]:
    """Returns the share of each part in a step; they add up to 1."""
    total = sum(profile.parts.values()) or 1.0
    return {name: seconds / total for name, seconds in profile.parts.items()}


def advice_for(profile: StepProfile, task: ClassificationTask) -> list[Advice]:
    """Returns what to try, what concerns the largest part of a step first."""
    shares = shares_of(profile)
    found = [*_data(shares), *_model(profile, task, shares), *_optimizer(task, shares), *_python(profile, task, shares)]
    return sorted(found, key=lambda one: -one.at_most)


def _at_most(share: float) -> float:
    return 1 / max(1 - share, 0.05)


def _data(shares: dict[str, float]) -> Iterator[Advice]:
    if shares["data"] < _SOME:
        return
    yield Advice(
        f"dataset.train.num_workers={max(2, cpus_of_this_process())}",
        "reads and decodes batches in more processes; on Ray, CPUs of the workers (ray.resources_per_worker) do so. "
        "bench-data names the slowest step of reading",
        _at_most(shares["data"]),
    )


def _model(profile: StepProfile, task: ClassificationTask, shares: dict[str, float]) -> Iterator[Advice]:
    on_gpu, bound = profile.busy is not None, _at_most(shares["forward"] + shares["backward"] + shares["loss"])
    convolutions = has_formats(task.base_model)
    if task.precision is None:
        yield Advice(
            "amp_args={amp_type: pytorch, dtype: bfloat16}",
            "computes in bfloat16, which takes half the memory; GPUs, and CPUs with such units, are faster with it",
            bound,
        )
    if task.memory_format == "contiguous" and convolutions:
        yield Advice(
            "memory_format=auto", "tries both orders of pixels when the run starts, and takes the faster", bound
        )
    if task.compilation is None and not task.gradient_checkpointing:
        yield Advice("compile=true", "compiles model and loss, which takes a minute or more when the run starts", bound)
    if on_gpu and task.precision is None and not task.tf32:
        yield Advice("tf32=true", "multiplies float32 matrices with 10 bits of precision", bound)
    if on_gpu and convolutions and not task.deterministic and not task.cudnn_benchmark:
        yield Advice("cudnn_benchmark=true", "lets cuDNN measure which of its algorithms is the fastest", bound)
    if task.gradient_checkpointing:
        yield Advice("gradient_checkpointing=false", "computes activations once, if the memory is large enough", bound)


def _optimizer(task: ClassificationTask, shares: dict[str, float]) -> Iterator[Advice]:
    options = task.optimizer.param_groups[0]
    if shares["optimizer"] < _SOME or options.get("fused"):
        return
    keys = config_keys(type(task.optimizer)) or {}
    for name in ("fused", "foreach"):
        if name in keys and not options.get(name):
            why = "updates all parameters in few kernels"
            yield Advice(f"optimizer.{name}=true", why, _at_most(shares["optimizer"]))
            return


def _python(profile: StepProfile, task: ClassificationTask, shares: dict[str, float]) -> Iterator[Advice]:
    idle = shares["python"] if profile.busy is None else 1 - profile.busy
    if idle < _MUCH or shares["data"] >= _MUCH:
        return
    rows = 2 * task.get_batchsize_per_replica()
    yield Advice(
        f"dataset.train.batchsize_per_replica={rows}",
        "makes fewer and larger steps; the learning rate may have to be larger too",
        _at_most(idle),
        comparable=False,
    )
    if profile.busy is not None and task.compilation is None:
        yield Advice("compile={mode: reduce-overhead}", "replays kernels from a recorded CUDA graph", _at_most(idle))
