"""Where a run came from: its config against the recipe, its environment, the state of its code, and what it cost."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ray_classy.config.changes import flat
from ray_classy.config.load import load_config
from ray_classy.config.recipe_files import PREFIX
from ray_classy.display import duration
from ray_classy.errors import RayClassyError
from ray_classy.printable import shell_word
from ray_classy.redact import redacted, redacted_values
from ray_classy.report.run_source import RunSource
from ray_classy.report.words import count, date_text, moment, setting, worker_time
from ray_classy.urls import shown

_NOTHING = "(not set)"
_OUR_FILES = ("on_cluster.py", "__main__.py")  # run by `python -m`


@dataclass(frozen=True)
class Changes:
    """What was given on top of a recipe or a config file.

    Attributes:
        base: the recipe or file.
        rows: key, value there, value of the run.
        words: overrides of the command, where the base cannot be read any more.
    """

    base: str
    rows: list[tuple[str, str, str]]
    words: list[str]


def changes_of(run: RunSource) -> Changes | None:
    """Returns what differs from the recipe or file that the run was started with; None if there was none."""
    command = run.starts[0].command if run.starts else []
    words = [redacted(word) for word in command if "=" in word and not word.startswith("-")]
    recipe = next((word for word in command if word.startswith(PREFIX)), None)
    given = run.facts.get("given")
    if recipe is not None and isinstance(given, Mapping):
        try:
            before = flat(redacted_values(dict(load_config(recipe))))
        except RayClassyError:
            return Changes(recipe, [], words)
        now = flat(redacted_values(given))
        names = [*now, *(name for name in before if name not in now)]
        rows = [
            (name, _value(before, name), _value(now, name))
            for name in names
            if before.get(name) != now.get(name) and not name.startswith("ray.")
        ]
        return Changes(recipe, rows, words)
    base = run.row.config
    return None if base in ("", run.facts.get("task")) else Changes(base, [], words)  # a task that Python built


def _value(config: Mapping[str, Any], name: str) -> str:
    return setting(config[name]) if name in config else _NOTHING


def environment_of(run: RunSource) -> list[tuple[str, str]]:
    """Returns what is known of machines, versions and code, as names and values."""
    return [(name, value) for name, value in _environment(run) if value]


def _environment(run: RunSource) -> Iterator[tuple[str, str]]:
    last = run.starts[-1] if run.starts else None
    devices = list(dict.fromkeys(str(line["device"]) for line in run.lines if line.get("device")))
    workers = list(dict.fromkeys(run.workers_of(line) for line in run.lines))
    yield "workers", ", then ".join(map(str, workers))
    yield "computed on", ", ".join(devices)
    if last is not None:
        machine = f"{last.host}, {count(last.cpus, 'CPU')}" if last.host and last.cpus else last.host or ""
        yield "started from", machine
        yield "job", last.job or ""
        yield "folder", "" if last.job else last.cwd or ""  # that of a job is Ray's copy of what was sent
        yield "command", " ".join(shell_word(redacted(word)) for word in _typed(last.command))
        yield "git commit", _commit(last.commit, last.uncommitted_changes)
    versions = run.facts.get("versions")
    if isinstance(versions, Mapping):
        yield "versions", ", ".join(f"{name} {value}" for name, value in versions.items())
    yield "seed", str(run.facts.get("seed", ""))
    yield "run folder", shown(run.folder.path)


def _typed(command: list[str]) -> list[str]:
    """The words of a command, with the program as users type it."""
    program = os.path.basename(command[0]) if command else ""
    return ["ray-classy" if program in _OUR_FILES else program, *command[1:]] if command else []


def _commit(commit: str | None, changed: bool | None) -> str:
    if commit is None:
        return "not started in a git repository"
    return commit + (
        "" if changed is None else ", with uncommitted changes" if changed else ", without uncommitted changes"
    )


def cost_of(run: RunSource) -> list[tuple[str, str]]:
    """Returns what the run took: time of workers, time on the clock, and starts."""
    starts = [when for one in run.starts if (when := moment(one.at)) is not None]
    began, ended = (starts[0] if starts else None), moment(run.facts.get("ended"))
    found = [("training time", duration(run.row.seconds or 0.0)), ("cost", worker_time(run.seconds))]
    if began is not None:
        found.append(("started", date_text(run.starts[0].at)))
    if began is not None and ended is not None and ended >= began:
        found.append(("from start to end", duration((ended - began).total_seconds())))
    if len(run.starts) > 1:
        found.append(("starts", str(len(run.starts))))
    return found
