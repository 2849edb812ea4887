"""`ray-classy train`."""

from __future__ import annotations

import math
from typing import Any

from ray_classy.cli.given import Given
from ray_classy.cli.output import Answer, command_line, resumed_by, short
from ray_classy.cli.spec import spec_of
from ray_classy.config.code import code_words
from ray_classy.dataset.image_dataset import ImageDataset
from ray_classy.errors import RunStopped
from ray_classy.garbage import no_collection
from ray_classy.tasks import ClassyTask
from ray_classy.tasks.build import build_checked_task
from ray_classy.tasks.metrics import summary
from ray_classy.trainer.local_trainer import LocalTrainer, check_start
from ray_classy.trainer.result import Result
from ray_classy.trainer.run import FINISHED, INTERRUPTED, result_of
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.trainer.run_metrics import METRICS_FILE
from ray_classy.trainer.run_record import CONFIG_FILE
from ray_classy.trainer.run_spec import RunSpec


def train(given: Given) -> Answer:
    """Trains, resumes or evaluates, and prints the results and the commands that come next.

    Raises:
        RayClassyError, FloatingPointError: it cannot be done; the message says why.
        KeyboardInterrupt: the user stopped it; the message has the command that resumes it.
    """
    with no_collection():
        spec = spec_of(given)
    assert spec.config is not None and spec.name is not None, "a command gives both"
    task = build_checked_task(spec.config)
    folder = RunFolder(spec.resume) if spec.resume else RunFolder.named(spec.storage_path, spec.name)
    finished = spec.resume is not None and _is_finished(folder, task)
    if finished:
        check_start(task, spec)  # the config may say something else by now
        result = result_of(folder)
    else:
        result = _trained(task, spec, folder)
    data = {
        "status": "finished",
        "trained": not finished,
        "stopped_early": result.stopped_early,
        "name": folder.name,
        "run_dir": folder.path,
        "metrics_file": folder.storage.join(METRICS_FILE),
        "checkpoint": result.checkpoint,
        "config": given.file,
        "metrics": result.metrics,
    }
    return Answer(_summary(spec, folder, task, result, finished), data)


def _trained(task: ClassyTask, spec: RunSpec, folder: RunFolder) -> Result:
    try:
        if spec.ray is None:
            return LocalTrainer().run(task, spec)
        from ray_classy.trainer.ray_trainer import RayTrainer

        return RayTrainer().run(task, spec)
    except (KeyboardInterrupt, RunStopped) as error:
        command = _resume_command(spec, folder) if folder.record.exists() else ""
        if command and folder.record.facts().get("status") == INTERRUPTED:
            folder.log_now(f"interrupted; resume with: {command}")  # the terminal may be gone
        raise resumed_by(error, command) from None


def _is_finished(folder: RunFolder, task: ClassyTask) -> bool:
    """Whether the run has ended and the config asks for no more phases than it has made.

    A run that has stopped early has no more phases as long as its hooks are the same.
    """
    facts = folder.record.facts()
    if facts.get("status") == FINISHED and facts.get("stopped_early"):
        return task.built_from is not None and folder.record.config()[0].get("hooks") == task.built_from.get("hooks")
    phases, lines = len(task.planned_phases()), folder.metrics.lines()
    made = max(len(lines), lines[-1].get("phase_idx", -1) + 1) if lines else 0  # a damaged line is not among them
    return facts.get("status") == FINISHED and 0 < phases <= made


def _resume_command(spec: RunSpec, folder: RunFolder, *overrides: str) -> str:
    return command_line("train", "--resume", short(folder.path), *_flags(spec, folder), *overrides)


def _flags(spec: RunSpec, folder: RunFolder) -> list[str]:
    """The flags of a command that resumes or evaluates a run where this one has trained it."""
    return [*(["--local"] if spec.ray is None else []), *code_words(spec.config, folder.path)]


def _summary(spec: RunSpec, run: RunFolder, task: ClassyTask, result: Result, finished: bool) -> str:
    lines = [f"the run {run.name} is already finished; nothing was trained"] if finished else []
    if result.stopped_early:
        lines.append(f"the run stopped early: {result.stopped_early}")
    elif not result.metrics_history:
        lines.append(
            "nothing was trained: the checkpoint has made all phases that the config asks for; to train more, raise "
            "num_epochs; to evaluate it, add test_only=true"
        )
    lines += [f"{name:<28} {_number(value)}" for name, value in summary(result.metrics).items()]
    places = {"run": run.path, "metrics": run.storage.join(METRICS_FILE), "checkpoint": result.checkpoint}
    lines += ["", *(f"{what + ':':<12} {short(place)}" for what, place in places.items() if place)]
    commands = {}
    if result.checkpoint is not None:
        longer = math.ceil(2 * task.num_epochs) or 1
        evaluation = [short(run.storage.join(CONFIG_FILE)), "test_only=true", "--checkpoint", short(run.path)]
        more = _more_patience(spec) if result.stopped_early else [f"num_epochs={longer}"]
        commands["train it longer"] = _resume_command(spec, run, *more)
        if isinstance(task.datasets.get("test"), ImageDataset):
            commands["evaluate it, with figures of each class"] = command_line("evaluate", short(run.path))
            commands["predict images"] = command_line("predict", short(run.path), "IMAGES")
        elif "test" in task.datasets:
            commands["evaluate it"] = command_line("train", *evaluation, *_flags(spec, run))
        if _is_example(spec):
            commands["train on your own images, in one folder per class"] = command_line(
                "train", "--images", "DIR", *(["--local"] if spec.ray is None else [])
            )
    for what, command in commands.items():
        lines += ["", f"{what}:", f"  {command}"]
    return "\n".join(lines)


def _is_example(spec: RunSpec) -> bool:
    """Whether the images are those that the package comes with, or makes."""
    train = ((spec.config or {}).get("dataset") or {}).get("train") or {}
    return train.get("name") in ("digits", "synthetic_image", "synthetic_image_streaming")


def _more_patience(spec: RunSpec) -> list[str]:
    """The overrides with which a run that has stopped early trains on."""
    for index, hook in enumerate((spec.config or {}).get("hooks") or []):
        if hook.get("name") == "early_stopping":
            more = [f"hooks.{index}.patience={2 * (hook.get('patience') or 5)}"]
            return more if hook.get("stop_at") is None else [*more, f"hooks.{index}.stop_at=null"]
    return ["hooks=[]"]


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
