"""`ray-classy profile`."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from typing import Any, cast

from ray_classy.cli.arguments import UsageError
from ray_classy.cli.given import Given, refuse_search
from ray_classy.cli.output import Answer, command_line
from ray_classy.cli.spec import add_logging
from ray_classy.config import Config, apply_overrides
from ray_classy.display import print_line
from ray_classy.errors import RayClassyError, TaskError
from ray_classy.profiling.advice import Advice, advice_for, limit_of, shares_of
from ray_classy.profiling.measure import StepProfile, profile_steps
from ray_classy.profiling.stopwatch import PARTS
from ray_classy.tasks import ClassificationTask
from ray_classy.tasks.build import build_checked_task
from ray_classy.tasks.task_config import checked


def profile(given: Given) -> Answer:
    """Runs some train steps in this process, and says where their time goes and what may make them faster.

    Raises:
        RayClassyError: the config has a mistake, or its task cannot be trained.
    """
    flags = given.flags
    for name, least in (("steps", 1), ("warmup", 1)):
        if getattr(flags, name) < least:
            raise UsageError(f"--{name} must be at least {least}, not {getattr(flags, name)}")
    trace = flags.trace or time.strftime("trace-%Y%m%d-%H%M%S.json")
    if not os.path.isdir(os.path.dirname(trace) or "."):
        raise UsageError(f"--trace {trace}: there is no folder {os.path.dirname(trace)!r}")
    refuse_search(given, "profile")
    add_logging(given.config)
    checked(given.config)
    task = _task(given.config)
    task.preflight()
    result = profile_steps(task, flags.steps, flags.warmup, trace)
    tried = advice_for(result, task)
    measured = _measured(given.config, tried, flags.steps, flags.warmup) if flags.try_ else {}
    what, sentence = limit_of(result)
    data = {
        "config": given.file,
        **dataclasses.asdict(result),
        "limit": what,
        "advice": [{**dataclasses.asdict(one), **measured.get(one.override, {})} for one in tried],
        "trace": trace,
    }
    lines = [*_table(result), "", f"what limits it: {sentence}", *_advice(given, result, tried, measured), ""]
    lines.append(f"trace of three steps: {trace} (open it on https://ui.perfetto.dev)")
    return Answer("\n".join(lines), data)


def _task(config: Config) -> ClassificationTask:
    task = build_checked_task(config)
    if not any(phase["train"] for phase in task.planned_phases()):
        raise TaskError("profile measures train steps, and this task makes none")
    return cast(ClassificationTask, task)  # no other plans phases


def _measured(config: Config, tried: list[Advice], steps: int, warmup: int) -> dict[str, dict[str, Any]]:
    """Returns the time of a step with each override, or why it could not be measured."""
    found: dict[str, dict[str, Any]] = {}
    for one in tried:
        if not one.comparable:
            continue
        print_line(f"trying {one.override} ...")
        try:
            changed = apply_overrides(config, [one.override])
            checked(changed)
            task = _task(changed)
            task.preflight()
            found[one.override] = {"seconds": profile_steps(task, steps, warmup).seconds}
        except RayClassyError as error:
            found[one.override] = {"failed": str(error).splitlines()[0]}
    return found


def _table(result: StepProfile) -> Iterator[str]:
    threads = f"the CPU ({result.threads} thread{'s' if result.threads > 1 else ''})"
    device = threads if result.device == "cpu" else result.device
    yield f"mean of {result.steps} train steps of {result.rows} rows on {device}"
    yield f"a step takes {result.seconds * 1e3:.2f} ms: {result.rows / result.seconds:,.0f} rows per second"
    for name, share in shares_of(result).items():
        if result.parts[name] > 0:
            yield f"  {name:<10} {result.parts[name] * 1e3:>9.2f} ms {share:>5.0%}   {PARTS[name]}"
    if result.busy is not None:
        yield f"the GPU computes in {result.busy:.0%} of a step; Python waits for it {result.waits:.0f} times"
        yield "(the parts are measured with a wait for the GPU after each of them; their sum is longer than a step)"
    if result.memory is not None:
        yield f"memory of the GPU: {result.memory / 2**30:.1f} GiB at its peak"
    yield "most expensive operations of a step:"
    for one in result.operations:
        yield f"  {one.seconds * 1e3:>9.2f} ms {one.calls:>5.0f} x   {one.name[:80]}"


def _advice(
    given: Given, result: StepProfile, tried: list[Advice], measured: dict[str, dict[str, Any]]
) -> Iterator[str]:
    if not tried:
        yield "there is no key left to try"
        return
    yield "try:"
    for one in tried:
        yield f"  {one.override}: {_gain(one, result, measured.get(one.override))}"
        yield f"      {one.why}"
    if not measured:
        words = [given.file, *given.flags.words[1:]]
        yield f"to measure what each of them gains: {command_line('profile', *words, '--try')}"


def _gain(one: Advice, result: StepProfile, measured: dict[str, Any] | None) -> str:
    if measured is None:
        if not one.comparable:
            return "changes the training"
        return f"concerns {1 - 1 / one.at_most:.0%} of a step, so at most {one.at_most:.1f} times as fast"
    if "failed" in measured:
        return f"not possible here: {measured['failed']}"
    return f"{result.seconds / measured['seconds']:.2f} times as fast ({measured['seconds'] * 1e3:.2f} ms a step)"
