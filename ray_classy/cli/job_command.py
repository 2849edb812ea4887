"""The job of a command line: its paths as the cluster finds them, and a name that the same command gets again."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
import tempfile
from typing import Any, NamedTuple

from ray_classy.cli.arguments import UsageError, parsed
from ray_classy.cli.given import is_override, read_given
from ray_classy.cli.own_source import PLACES
from ray_classy.cli.relative_paths import relative_paths
from ray_classy.config import Config, apply_overrides, dotted, load_config, raise_problems
from ray_classy.config.check import problems_in
from ray_classy.config.code import code_folder, is_run, may_name_code
from ray_classy.config.load import STDIN
from ray_classy.config.overrides import override_texts
from ray_classy.config.ray_options import RayOptions
from ray_classy.config.recipe_files import PREFIX
from ray_classy.errors import RayClassyError
from ray_classy.storage import Storage
from ray_classy.submit.job import Job, safe_name
from ray_classy.trainer.run_record import RunRecord, check_name
from ray_classy.urls import expanded, is_url, joined, parent, split_query

_PATHS = {"storage_path", "resume", "extend", "checkpoint", "test", "output", "predictions", *PLACES}
_PATHS_OR_NAMES = {"weights"}
_OF_CLIENT = {"command", "words", "address", "json", "code", "print_config"}
_NOT_IN_NAME = {*_OF_CLIENT, "num_workers", "use_gpu", "storage_path", "name", "quiet", "verbose", "local", "budget"}
_OF_JOB = ("ray.runtime_env", "ray.address")
_LONGEST_STEM = 40
_STORAGE_PATH = "runs"
_CONFIG_OF_STDIN = "config.yaml"
_KEY = re.compile(r"[a-z_][\w.]*=")
_DATA = re.compile(r"(?:^|_)(?:files?|folders?|paths?|dirs?|roots?|manifests?|shards?)\Z")


class _Read(NamedTuple):
    """The config of a command line.

    Attributes:
        config: with flags and overrides; None if it is not read on this machine.
        raw: the same without what a run adds to its own; None if no config is given.
        text: of standard input, if the config came from there.
        remarks: for the user.
    """

    config: Config | None = None
    raw: Config | None = None
    text: bytes | None = None
    remarks: tuple[str, ...] = ()


def job_of(arguments: argparse.Namespace) -> Job:
    """The job of a command line.

    Args:
        arguments: of `train`, `tune`, `evaluate` or `predict`.

    Raises:
        UsageError: it has an option that a job cannot have.
        ConfigError: the config cannot be read, or an override is invalid.
        RunFolderError: the run to resume is none, or no run can have the name.
    """
    if arguments.address is not None:
        command = f"ray-classy submit --address URL {arguments.command} ..."
        raise UsageError(f"a job runs on the cluster that it is submitted to: {command}")
    if getattr(arguments, "print_config", False):
        raise UsageError("--print-config starts nothing: leave out `submit`")
    arguments = argparse.Namespace(**{**vars(arguments), "words": list(arguments.words)})
    for name, value in vars(arguments).items():
        known = name in _PATHS or (name in _PATHS_OR_NAMES and isinstance(value, str) and os.path.exists(value))
        if known and isinstance(value, str):
            setattr(arguments, name, _absolute(value))
    return (_of_config if arguments.command in ("train", "tune") else _of_trained)(arguments)


def words_of(arguments: argparse.Namespace) -> list[str]:
    """The words of a command line on the cluster: without defaults, and without what concerns this machine alone."""
    defaults = vars(parsed([arguments.command]))
    words = [arguments.command, *arguments.words]
    for name, value in vars(arguments).items():
        if name not in _OF_CLIENT and value is not None and value != defaults.get(name):
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return words


def _of_config(arguments: argparse.Namespace) -> Job:
    read = _read(arguments)
    overrides, remarks = _absolute_overrides(read.raw, read.config) if read.raw and read.config else ([], [])
    section = _ray_section(arguments, read.config)
    if "working_dir" in (section.get("runtime_env") or {}):
        raise UsageError("ray.runtime_env.working_dir: a job has one already, with what is sent; leave it out")
    overrides += [f"{key}=null" for key in _OF_JOB if section.get(key.removeprefix("ray.")) is not None]
    run = arguments.resume or getattr(arguments, "extend", None)
    if run is None:
        arguments.name = str(section.get("name") or _name_of(arguments, read))
        check_name(arguments.name)
        arguments.storage_path = _absolute(str(section.get("storage_path") or _STORAGE_PATH))
        run = joined(arguments.storage_path, arguments.name)
    file, arguments.words = _sent_config(arguments.words, read)
    arguments.words = [*(word for word in arguments.words if not _is_of_job(word)), *overrides]
    words = words_of(arguments)
    named = read.config.get("imports") or [] if read.config is not None else []
    imports = [name for name in named if isinstance(name, str)]
    return Job(
        words=words,
        name=os.path.basename(split_query(run)[0].rstrip("/")),
        run=run,
        config_file=file,
        config_text=read.text,
        code=code_folder(read.config) if imports else None,
        imports=imports,
        ray=section,
        remarks=[*read.remarks, *remarks],
        digest=_digest(words, read.config, section),
    )


def _is_of_job(word: str) -> bool:
    """Whether a word is an override of what the job itself has: it may hold secrets, which a command line shows."""
    path = word.partition("=")[0]
    return is_override(word) and any(path == key or path.startswith(f"{key}.") for key in _OF_JOB)


def _read(arguments: argparse.Namespace) -> _Read:
    words = arguments.words
    if any(getattr(arguments, flag) is not None for flag in PLACES):
        return _Read()  # the data may be seen from the cluster alone, and the config is chosen by them
    if words[:1] == [STDIN] and not sys.stdin.isatty():
        text = sys.stdin.buffer.read()
        with tempfile.TemporaryDirectory() as folder:
            file = os.path.join(folder, _CONFIG_OF_STDIN)
            with open(file, "wb") as written:
                written.write(text)
            given = argparse.Namespace(**{**vars(arguments), "words": [file, *words[1:]]})
            given.code = arguments.code or os.getcwd()
            return _Read(read_given(given).config, _as_written(given.words), text)
    if words and not is_override(words[0]):
        return _Read(read_given(arguments).config, _as_written(words))
    earlier = arguments.resume or getattr(arguments, "extend", None)
    if earlier is not None and _run_at(earlier) is None:
        return _Read(remarks=(_not_seen(earlier),))
    return _Read(read_given(arguments).config)


def _not_seen(run: str) -> str:
    return f"the run of {run} is not seen from here: its modules, if it has any, must be on the cluster"


def _as_written(words: list[str]) -> Config:
    return apply_overrides(load_config(words[0]), words[1:])


def _ray_section(arguments: argparse.Namespace, config: Config | None) -> dict[str, Any]:
    """The `ray` section; of a config that is not read on this machine, what the command line says of it."""
    flags: dict[str, Any] = {}
    if config is None:
        config = apply_overrides(Config({}), [word for word in arguments.words if is_override(word)])
        values = {name: getattr(arguments, name, None) for name in ("num_workers", "use_gpu", "storage_path", "name")}
        flags = {name: value for name, value in values.items() if value is not None}
    section = config.get("ray") or {}
    raise_problems(problems_in(section, RayOptions.keys(), ("ray",)), config)
    return {**section, **flags}


def _sent_config(words: list[str], read: _Read) -> tuple[str | None, list[str]]:
    """The file that is sent, and the words in which it lies in the working directory."""
    if read.text is not None:
        return _CONFIG_OF_STDIN, [_CONFIG_OF_STDIN, *words[1:]]
    if read.raw is None or words[0].startswith(PREFIX) or is_url(words[0]):
        return None, words
    file = _absolute(words[0])
    return file, [os.path.basename(file), *words[1:]]


def _absolute_overrides(raw: Config, config: Config) -> tuple[list[str], list[str]]:
    """Overrides by which the relative paths of a config lead to where they lead here, if there is anything.

    Returns:
        The overrides, and a remark for each path that leads nowhere.
    """
    found, remarks = [], []
    for _, _, path in relative_paths(raw, ()):
        value: Any = config
        for step in path:
            value = value[step]
        if isinstance(value, str) and os.path.lexists(_fixed_part(value)):
            found += override_texts({dotted(path): _absolute(value)})
        elif isinstance(value, str) and _DATA.search(str(path[-1])):
            place = "nothing is there on this machine, and on the cluster it means the folder of the job"
            remarks.append(f"{dotted(path)}: {value!r} is a relative path; {place}: give an absolute path or a URL")
    return found, remarks


def _fixed_part(pattern: str) -> str:
    """The folder of a pattern, above its first wildcard."""
    wild = re.search(r"[*?\[{]", pattern)
    return pattern if wild is None or os.path.lexists(pattern) else os.path.dirname(pattern[: wild.start()]) or "."


def _name_of(arguments: argparse.Namespace, read: _Read) -> str:
    """A name from what is trained; not from where, and on how many workers."""
    if read.config is not None:
        what: Any = {key: value for key, value in read.config.items() if key != "ray"}
    else:
        what = [word for word in arguments.words if not word.startswith("ray.")]
    flags = {name: value for name, value in vars(arguments).items() if value is not None and name not in _NOT_IN_NAME}
    place = next((value for flag in PLACES if (value := getattr(arguments, flag)) is not None), None)
    source = place or (_CONFIG_OF_STDIN if read.text is not None else arguments.words[0]).removeprefix(PREFIX)
    stem = os.path.basename(split_query(source)[0].rstrip("/")).partition(".")[0]
    return f"{safe_name(stem)[:_LONGEST_STEM]}-{_digest(arguments.command, what, flags)}"


def _digest(*facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:8]


def _of_trained(arguments: argparse.Namespace) -> Job:
    options = [word for word in arguments.words if _KEY.match(word) and not os.path.exists(word)]
    places = [_absolute(word) for word in arguments.words if word not in options]
    if not places:
        raise UsageError(f"{arguments.command} takes a run or checkpoint; see ray-classy {arguments.command} --help")
    arguments.words = [*places, *map(_absolute_option, options)]
    run = _run_at(places[0])
    code, imports = _modules_of(run) if run is not None else (None, [])
    return Job(
        words=words_of(arguments),
        name=f"{arguments.command}-{os.path.basename(split_query(places[0])[0].rstrip('/'))}",
        code=code,
        imports=imports,
        remarks=[_not_seen(places[0])] if run is None else [],
        ray={"num_workers": arguments.num_workers or 1, "use_gpu": bool(arguments.use_gpu)},
    )


def _absolute_option(word: str) -> str:
    key, _, value = word.partition("=")
    return f"{key}={_absolute(value)}" if value and os.path.exists(value) else word


def _run_at(path: str) -> str | None:
    """The run that a path leads to, or to a checkpoint of which, if it is seen from this machine."""
    try:
        return next((folder for folder in (path, parent(path)) if folder and is_run(Storage(folder))), None)
    except (OSError, RayClassyError):
        return None


def _modules_of(run: str) -> tuple[str | None, list[str]]:
    """The folder and the names of the modules that the config of a run imports."""
    record = RunRecord(Storage(run))
    try:
        file, imports = record.facts().get("config_file"), record.config()[0].get("imports") or []
    except (OSError, RayClassyError):
        return None, []
    if not isinstance(file, str) or not may_name_code(run, file):
        return None, []
    return os.path.dirname(file), [name for name in imports if isinstance(name, str)]


def _absolute(path: str) -> str:
    return path if is_url(path) else os.path.abspath(expanded(path))
