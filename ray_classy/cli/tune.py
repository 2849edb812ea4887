"""The command `ray-classy tune`."""

from __future__ import annotations

import argparse
import math
import os
from typing import TYPE_CHECKING, Any

from ray_classy.cli.arguments import UsageError
from ray_classy.cli.given import Given, read_given
from ray_classy.cli.output import Answer, command_line, resumed_by, short
from ray_classy.cli.print_config import config_text
from ray_classy.cli.spec import add_logging
from ray_classy.config.code import code_words
from ray_classy.storage import Storage
from ray_classy.trainer.run_folder import DEFAULT_STORAGE_PATH, RunFolder
from ray_classy.urls import joined, reading

if TYPE_CHECKING:
    from ray_classy.tune import SweepResult, TaskTuner

_MOST_ROWS = 20
_BEST = 3


def tune(arguments: argparse.Namespace) -> Answer:
    """Runs, resumes or extends a sweep; the answer names its best trial and the next commands.

    Raises:
        RayClassyError: the sweep cannot be run; the message says why.
        KeyboardInterrupt: the user stopped it; the message has the command that resumes it.
    """
    more = _extension(arguments)
    given = read_given(arguments)
    if arguments.print_config:
        return config_text(given)
    tuner = tuner_for(given, more)
    try:
        result = tuner.fit()
    except KeyboardInterrupt as error:
        path = str(error)
        path = path if path and Storage(path).exists() else ""  # it is not if nothing has happened in it
        code = code_words(given.config, path)
        raise resumed_by(error, command_line("tune", "--resume", short(path), *code) if path else "") from None
    return Answer(_summary(result, code_words(given.config, result.path)), _data(result))


def tuner_for(given: Given, more: dict[str, Any] | None = None) -> TaskTuner:
    """Builds the tuner of the sweep that the command line describes."""
    from ray_classy.trainer.ray_trainer import RayTrainer
    from ray_classy.tune import TaskTuner

    flags, config = given.flags, given.config
    add_logging(config)
    section = config.get("ray") or {}
    name, extend, resume = section.pop("name", None), getattr(flags, "extend", None), flags.resume
    if name and not (extend or resume):
        resume = _same_sweep(str(section.get("storage_path") or DEFAULT_STORAGE_PATH), name)
    return TaskTuner(
        config,
        trainer=RayTrainer(name=None if resume else name, verbose=flags.verbose),
        resume=resume,
        extend=extend,
        **(more or {}),
    )


def _same_sweep(storage_path: str, name: str) -> str | None:
    """The sweep of that name, which the command that started it resumes; None if there is none."""
    folder = RunFolder.named(storage_path, name)
    with reading(folder.path):
        return folder.path if folder.record.exists() and folder.record.facts().get("kind") == "sweep" else None


def _extension(arguments: argparse.Namespace) -> dict[str, Any]:
    """Reads what --extend adds, and removes it from the arguments, as it does not change the sweep's config."""
    if arguments.extend is None:
        if arguments.best is not None:
            raise UsageError("--best chooses the trials that --extend trains longer: give --extend SWEEP num_epochs=N")
        return {}
    if arguments.resume is not None:
        raise UsageError("--extend adds to a sweep, --resume continues one unchanged: use one of them")
    more: dict[str, Any] = {
        "num_samples": arguments.num_samples or 0,
        "best": _BEST if arguments.best is None else arguments.best,
    }
    words = []
    for word in arguments.words:
        key, equals, value = word.partition("=")
        if equals and key == "num_epochs":
            more["num_epochs"] = _number_of_epochs(value)
        elif equals and not os.path.exists(word):
            raise UsageError(
                f"--extend only adds trials (--num-samples N) or trains the best ones longer (num_epochs=N): leave out "
                f"{word!r}, or start a new sweep"
            )
        else:
            words.append(word)
    if not more["num_samples"] and "num_epochs" not in more:
        raise UsageError(
            "--extend adds trials (--num-samples N) or trains the best ones longer (num_epochs=N): use one of them"
        )
    arguments.words, arguments.num_samples = words, None
    return more


def _number_of_epochs(text: str) -> int | float:
    try:
        number = int(text) if text.isdigit() else float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise UsageError(f"num_epochs must be a positive number, not {text!r}")
    return number


def _summary(result: SweepResult, code: list[str]) -> str:
    rows = result.table().splitlines()
    lines = rows[: _MOST_ROWS + 1]
    if len(rows) > len(lines):
        lines.append(f"... and {len(rows) - len(lines)} more")
    failed = [record for record in result.trials if record.state == "failed"]
    for record in failed[:5]:
        lines.append(f"{record.name} failed: {record.reason}")
    best, config = result.best, result.best_config
    assert best is not None and config is not None, "a sweep without a best trial is an error"
    folder = joined(result.path, best.name)
    places = {
        "best": f"{best.name}  {result.metric} {best.metrics[result.metric]:.4f}",
        "config": short(joined(result.path, "best.yaml")),
        "checkpoint": short(result.best_checkpoint or "none"),
        "sweep": short(result.path),
    }
    lines += ["", *(f"{what + ':':<12} {place}" for what, place in places.items())]
    trained = next((record.epoch for record in result.trials if record.name == best.name), 0)
    what, override = _longer(trained, config.get("num_epochs", 1))
    commands = {
        what: command_line("train", "--resume", short(folder), *code, *override),
        "train it from scratch": command_line("train", short(joined(result.path, "best.yaml")), *code),
        "add trials to the sweep": command_line("tune", "--extend", short(result.path), *code, "--num-samples", "8"),
    }
    for what, command in commands.items():
        lines += ["", f"{what}:", f"  {command}"]
    return "\n".join(lines)


def _longer(trained: float, num_epochs: float) -> tuple[str, list[str]]:
    """Says how a trial is trained on: to its end, if the sweep has ended it before, or else twice as long."""
    if trained < num_epochs:
        return f"train it to its end, {num_epochs:g} epochs", []
    return "train it longer", [f"num_epochs={math.ceil(2 * num_epochs) or 1}"]


def _data(result: SweepResult) -> dict[str, Any]:
    best = result.best
    assert best is not None
    return {
        "status": "finished",
        "sweep_dir": result.path,
        "metric": result.metric,
        "mode": result.mode,
        "best": {
            "trial": best.name,
            "params": best.params,
            "metrics": best.metrics,
            "epoch": best.epoch,
            "run_dir": joined(result.path, best.name),
            "checkpoint": result.best_checkpoint,
            "config": joined(result.path, "best.yaml"),
        },
        "trials": [
            {
                "trial": record.name,
                "state": record.state,
                "reason": record.reason,
                "params": record.params,
                "epoch": record.epoch,
                "metrics": record.metrics,
                "seconds": round(record.seconds, 3),
            }
            for record in result.trials
        ],
    }
