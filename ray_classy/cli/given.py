"""The config that the command line gives: read from its file or run, with overrides and flags applied.

Nothing heavy is imported here, so that a missing file is reported at once.
"""

from __future__ import annotations

import argparse
import os
from typing import Any, NamedTuple

from ray_classy.cli.arguments import UsageError
from ray_classy.cli.commands import FLAG_KEYS
from ray_classy.cli.own_data import chosen_model_flag, words_of
from ray_classy.cli.relative_paths import resolve_paths, started_in
from ray_classy.config import Config, Mark, apply_overrides, dotted, load_config, mark_of
from ray_classy.config.code import in_run, is_record, is_run, may_name_code
from ray_classy.config.document import search_node
from ray_classy.config.load import STDIN
from ray_classy.config.overrides import override_texts
from ray_classy.config.recipe_files import PREFIX
from ray_classy.config.secrets import restore_secrets
from ray_classy.display import print_line
from ray_classy.errors import ConfigError, RunFolderError
from ray_classy.printable import shell_word
from ray_classy.storage import Storage, is_url
from ray_classy.urls import expanded, parent, reading, shown


class Given(NamedTuple):
    """What the command line gives.

    Attributes:
        config: not checked yet; overrides and flags are laid over it.
        file: where it was read.
        flags: the command line.
    """

    config: Config
    file: str
    flags: argparse.Namespace


def read_given(arguments: argparse.Namespace) -> Given:
    """Reads the config and lays the command line over it.

    Raises:
        UsageError: the command line says something it must not.
        ConfigError: the config or an override cannot be read, or a secret is missing.
        RunFolderError: the run to be resumed is none, or has no config.
    """
    _check_usage(arguments)
    given, file, overrides = _read(arguments)
    config = apply_overrides(given, overrides)
    flag = chosen_model_flag(arguments)
    if flag is not None:
        config.marks[("model",)] = Mark(flag)
    on_command_line = {override.partition("=")[0].strip() for override in overrides}
    if "test_only" in on_command_line and config.get("test_only") is True:
        if getattr(arguments, "resume", None):
            raise UsageError(
                f"--resume continues training; to evaluate, give test_only=true --checkpoint {arguments.resume}"
            )
        if "num_epochs" not in on_command_line:  # the file's is that of training
            config = apply_overrides(config, ["num_epochs=1"])
    if arguments.code is not None:
        config.file = os.path.join(code_folder_of(arguments.code), os.path.basename(config.file or "config.yaml"))
    config = _with_flags(config, arguments)
    restore_secrets(config)
    return Given(config, file, arguments)


def refuse_search(given: Given, command: str) -> None:
    """Checks that a config has a value in each place.

    Raises:
        ConfigError: it has a search node.
    """
    node = search_node(given.config)
    if node is not None:
        raise ConfigError(
            f"{mark_of(given.config, node)}: {dotted(node)} is a search node, and {command} needs a value; to run the "
            f"sweep: ray-classy tune {shell_word(given.file)}"
        )


def _check_usage(arguments: argparse.Namespace) -> None:
    for flag in ("name", "storage_path", "checkpoint", "resume", "extend", "address"):
        if getattr(arguments, flag, None) == "":
            raise UsageError(f"--{flag.replace('_', '-')} is empty: give it a value, or leave it out")
    if getattr(arguments, "local", False):
        for flag, why in (
            ("num_workers", "--local trains in this one process"),
            ("address", "--local trains without Ray"),
            ("use_gpu", "--local trains on the GPU if there is one"),
        ):
            if getattr(arguments, flag) is not None:
                raise UsageError(f"{why}: leave out --{flag.replace('_', '-')}, or leave out --local")
    for option in ("resume", "extend"):
        if getattr(arguments, option, None) is not None:
            for flag in ("name", "storage_path", "checkpoint"):
                if getattr(arguments, flag, None) is not None:
                    text = f"--{option} goes on in the run's own folder: leave out --{flag.replace('_', '-')}"
                    raise UsageError(text)


def _read(arguments: argparse.Namespace) -> tuple[Config, str, list[str]]:
    """The config as it was written, its file, and the overrides."""
    words = words_of(arguments)
    if words and not is_override(words[0]):
        config = load_config(words[0])
        if words[0] != STDIN and not words[0].startswith(PREFIX):
            config = _at_home(config, Storage(parent(expanded(words[0])) or "."))
        return config, words[0], words[1:]
    resumes = hasattr(arguments, "resume")
    earlier = getattr(arguments, "resume", None) or getattr(arguments, "extend", None)
    if earlier is None:
        raise UsageError(
            f"{arguments.command} needs a config file: ray-classy {arguments.command} CONFIG [key=value ...]"
            + (f", or --resume RUN to resume a {'sweep' if arguments.command == 'tune' else 'run'}" if resumes else "")
        )
    from ray_classy.trainer.run_folder import RunFolder
    from ray_classy.trainer.run_record import CONFIG_FILE, RUN_FILE

    with reading(earlier):
        run = RunFolder.existing(earlier)
        facts, has_config = run.record.facts(), run.storage.exists(CONFIG_FILE)
    if not is_record(facts):
        raise RunFolderError(f"{shown(run.path)!r} is not a run folder: its {RUN_FILE} is not the record of a run")
    _check_kind(arguments.command, run.path, facts.get("kind"))
    file = run.storage.join(CONFIG_FILE)
    if not has_config:
        raise RunFolderError(
            f"the run {run.path!r} has no {CONFIG_FILE}, because its task was built in Python: resume it from there, "
            f"with a trainer's `resume`, or give a config before --resume"
        )
    return _at_home(load_config(file), run.storage), file, words


def _check_kind(command: str, path: str, kind: Any) -> None:
    """Refuses to train a sweep, or to search in a run."""
    if (kind == "sweep") != (command == "tune"):
        what, other = ("sweep, not a run", "tune") if kind == "sweep" else ("run, not a sweep", "train")
        raise RunFolderError(
            f"{shown(path)!r} is a {what}: resume it with ray-classy {other} --resume {shell_word(shown(path))}"
            + ("; each of its trials is a run" if kind == "sweep" else "")
        )


def code_folder_of(given: str) -> str:
    """The folder that --code gives.

    Raises:
        UsageError: there is no such folder, or it is that of a run.
    """
    folder = os.path.abspath(expanded(given))
    if not os.path.isdir(folder):
        raise UsageError(f"--code {given}: there is no such folder")
    if in_run(folder):
        raise UsageError(f"--code {given} is the folder of a run: name the folder of your modules")
    return folder


def is_override(word: str) -> bool:
    """Whether a word of a command line is an override of a config, and not a file."""
    path, equals, _ = word.partition("=")
    return bool(equals) and not is_url(path) and not os.path.exists(word)


def _at_home(config: Config, folder: Storage) -> Config:
    """The config of a run as it was where the run was started.

    It has the paths that it had and, if the user may rely on it, the file that it was once read from, beside which
    `imports` looks for modules.
    """
    from ray_classy.trainer.run_record import RunRecord

    if is_run(folder):
        facts = RunRecord(folder).facts()
        file = facts.get("config_file")
        if file and may_name_code(folder.path, file):
            config.file = file
        for line in resolve_paths(config, started_in(facts)):
            print_line(line)
    return config


def _with_flags(config: Config, arguments: argparse.Namespace) -> Config:
    """The config with the keys that flags are short for."""
    for flag, path in FLAG_KEYS.items():
        value = getattr(arguments, flag, None)
        if value is not None:
            config = apply_overrides(config, override_texts({".".join(path): value}))
            config.marks[path] = Mark(f"--{flag.replace('_', '-')}")
    return config
