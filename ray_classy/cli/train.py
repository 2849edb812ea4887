"""`ray-classy train`."""

from __future__ import annotations

import math
import os
from typing import Any

from ray_classy.cli.given import Given
from ray_classy.cli.output import Answer, command_line, short
from ray_classy.cli.settings import Settings, settings_of
from ray_classy.errors import RunStopped
from ray_classy.tasks import ClassyTask, build_task
from ray_classy.trainer.local_trainer import result_of
from ray_classy.trainer.metrics import dotted
from ray_classy.trainer.result import Result
from ray_classy.trainer.run_folder import CONFIG_FILE, METRICS_FILE, RUN_FILE

_OWN_IMAGES = "configs/image_folder.yaml"


def train(given: Given) -> Answer:
    """Trains, resumes or evaluates, and tells the results and how to go on.

    Raises:
        RayClassyError, FloatingPointError: it cannot be done; the message says why.
        KeyboardInterrupt: the user stopped it; the message is the command that goes on with it.
    """
    settings = settings_of(given)
    task = build_task(settings.config)
    if settings.resume:
        _try_checkpoint(settings, task)
    finished = settings.resume and _finished(settings, task)
    if finished:
        task.preflight(settings.world_size, settings.on_gpu)  # the config may say something else by now
        result = result_of(settings.run)
    else:
        result = _trained(settings, task)
    data = {
        "status": "finished",
        "trained": not finished,
        "name": settings.run.name,
        "run_dir": settings.run.path,
        "metrics_file": settings.run.storage.join(METRICS_FILE),
        "checkpoint": result.checkpoint,
        "config": settings.file,
        "metrics": result.metrics,
    }
    return Answer(_summary(settings, task, result, finished), data)


def _trained(settings: Settings, task: ClassyTask) -> Result:
    try:
        return settings.trainer().train(task)
    except (KeyboardInterrupt, RunStopped):
        begun = settings.run.storage.exists(RUN_FILE)
        raise KeyboardInterrupt(_resume_command(settings) if begun else "") from None


def _try_checkpoint(settings: Settings, task: ClassyTask) -> None:
    """Tries the run's newest checkpoint on the task, before anything is written into the folder."""
    latest = settings.run.load_latest_checkpoint()
    if latest is not None:
        task.check_checkpoint(latest[1], settings.run.storage.join(latest[0]))


def _finished(settings: Settings, task: ClassyTask) -> bool:
    """Whether the run has ended and the config asks for no more phases than it has made."""
    if settings.run.facts().get("status") != "finished":
        return False
    phases = task.planned_phases()
    return bool(phases) and len(phases) <= len(settings.run.metrics())


def _resume_command(settings: Settings, *overrides: str) -> str:
    return command_line("train", "--resume", short(settings.run.path), *_local(settings), *overrides)


def _local(settings: Settings) -> list[str]:
    return ["--local"] if settings.local else []


def _summary(settings: Settings, task: Any, result: Result, finished: bool) -> str:
    run = settings.run
    lines = [f"the run {run.name} is finished already; nothing was trained"] if finished else []
    lines += [f"{name:<28} {_number(value)}" for name, value in dotted(result.metrics).items()]
    places = {"run": run.path, "metrics": run.storage.join(METRICS_FILE), "checkpoint": result.checkpoint}
    lines += ["", *(f"{what + ':':<12} {short(place)}" for what, place in places.items() if place)]
    commands = {}
    if result.checkpoint is not None and task.planned_phases():
        epochs = math.ceil(2 * task.num_epochs) or 1
        evaluation = [short(run.storage.join(CONFIG_FILE)), "test_only=true", "--checkpoint", short(run.path)]
        commands["go on with it"] = _resume_command(settings, f"num_epochs={epochs}")
        if "test" in task.datasets:
            commands["evaluate it"] = command_line("train", *evaluation, *_local(settings))
        if os.path.exists(_OWN_IMAGES):
            folders = ["dataset.train.image_folder=DIR", "dataset.test.image_folder=DIR2"]
            commands["train on your own images, in one folder per class"] = command_line(
                "train", _OWN_IMAGES, *folders, *_local(settings)
            )
    for what, command in commands.items():
        lines += ["", f"{what}:", f"  {command}"]
    return "\n".join(lines)


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
