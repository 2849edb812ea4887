"""From what a command gives to the spec of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ray_classy.cli.given import Given, refuse_search
from ray_classy.cli.relative_paths import resolve_paths, started_in
from ray_classy.config import Config, mark_of, raise_problems
from ray_classy.config.changes import changed_lines
from ray_classy.config.check import component_keys
from ray_classy.config.places import locate_errors
from ray_classy.config.ray_options import RayOptions
from ray_classy.errors import CheckpointNotFoundError, ConfigError, RunFolderError
from ray_classy.hooks import HOOK_REGISTRY, LossLrMeterLoggingHook
from ray_classy.printable import shell_word
from ray_classy.redact import redacted_values
from ray_classy.storage import Storage
from ray_classy.tasks import TASK_REGISTRY
from ray_classy.tasks.task_config import checked
from ray_classy.trainer.lease import in_use
from ray_classy.trainer.ray_outline import RayOutline, is_outlined
from ray_classy.trainer.retention import Retention
from ray_classy.trainer.run_folder import DEFAULT_STORAGE_PATH, RunFolder
from ray_classy.trainer.run_record import RUN_FILE
from ray_classy.trainer.run_spec import RunSpec, config_file_fact
from ray_classy.urls import reading

_CHECKPOINT_KEYS = ("checkpoint", "pretrained_checkpoint")
_LOGGING = "loss_lr_meter_logging"


def spec_of(given: Given, starts: bool = True) -> RunSpec:
    """Checks the whole config, once, and decides where and how it is run.

    Args:
        given: what the command line gives.
        starts: whether the run is to be started, and not only described.

    Raises:
        ConfigError: the config has mistakes; the message lists them all.
        RunFolderError: the run cannot be resumed, or its name is that of a run with another config.
        CheckpointNotFoundError: the run that is to be started from has no checkpoint.
    """
    config, flags = given.config, given.flags
    refuse_search(given, "training")
    checked(config)
    section = RayOptions.of(config.get("ray"))
    raise_problems(section.problems(), config)
    if section.num_workers == 0:
        raise ConfigError(
            f"{mark_of(config, ('ray', 'num_workers'))}: ray.num_workers: must be at least 1, not 0; "
            f"to train in this process, without Ray: --local"
        )
    ray = None if flags.local else _on_ray(config, section, flags.verbose, starts)
    (config.get("ray") or {}).pop("name", None)  # the name is that of one run, the config may serve several
    facts: dict[str, Any] = config_file_fact(config.file)
    with reading(flags.resume or section.storage_path or DEFAULT_STORAGE_PATH):
        earlier = RunFolder.existing(flags.resume) if flags.resume else None
        if earlier is None:
            facts["given"] = _given(config)
            if section.name:
                earlier = _same_command(config, facts["given"], section)
        elif flags.words:  # resumed with another config than the one of the command that started it
            facts["given"] = None
        if earlier is None or flags.resume:
            _find_checkpoints(config)
        folder = earlier or RunFolder.planned(section.storage_path, section.name)
    add_logging(config)
    return RunSpec(
        config=config,
        facts=facts,
        storage_path=section.storage_path or DEFAULT_STORAGE_PATH,
        name=folder.name,
        resume=folder.path if earlier is not None else None,
        retention=Retention.of(section),
        ray=ray,
    )


def _on_ray(config: Config, section: RayOptions, verbose: bool, starts: bool) -> RayOutline:
    with locate_errors(config, "ray"):
        if not starts and is_outlined(section):  # importing Ray Train would take most of the time of `check`
            return RayOutline.of_section(section, verbose)
        from ray_classy.trainer.ray_config import RaySettings

        return RaySettings.of(section, verbose=verbose)


def _given(config: Config) -> dict[str, Any] | None:
    """What the run keeps of the command, to recognize it: the config, but not where it runs."""
    given: dict[str, Any] = redacted_values(json.loads(json.dumps(config, default=str)))
    return {key: value for key, value in given.items() if key != "ray"} or None


def _same_command(config: Config, given: Mapping[str, Any] | None, section: RayOptions) -> RunFolder | None:
    """The run of that name, if the same command started it: the command then resumes it.

    Raises:
        RunFolderError: the run of that name has another config.
    """
    storage_path = section.storage_path or DEFAULT_STORAGE_PATH
    run = RunFolder.named(storage_path, section.name)
    facts = run.record.facts() if run.record.exists() else {}
    before, now = redacted_values(facts.get("given")), given or {}
    if not before:
        return None
    resolve_paths(before, started_in(facts))  # in another working directory, the same words mean other files
    if json.dumps(before, sort_keys=True) != json.dumps(now, sort_keys=True):
        lines = [f"there is a run {section.name!r} in {storage_path!r} already, with another config; what changed:"]
        lines += changed_lines(before, now)
        resume = f"To resume it: --resume {shell_word(run.path)}; for a new run, give another name"
        raise RunFolderError("\n".join([*lines, in_use(run.storage) or resume]))
    recorded = run.record.config_facts()["config"] or {}
    config.update({key: recorded[key] for key in _CHECKPOINT_KEYS if key in recorded and key in config})
    return run


def _find_checkpoints(config: Config) -> None:
    """Replaces a run folder that is given for a checkpoint by the run's newest checkpoint."""
    for key in _CHECKPOINT_KEYS:
        path = config.get(key)
        if not isinstance(path, str):
            continue
        with reading(path):
            if Storage(path).exists(RUN_FILE):
                latest = RunFolder(path).checkpoints.latest()
                if latest is None:
                    raise CheckpointNotFoundError(f"{mark_of(config, (key,))}: the run {path!r} has no checkpoint yet")
                config[key] = latest


def add_logging(config: Config) -> None:
    """Adds the hook that logs, if the config has none and the task takes hooks."""
    if config.get("name") not in TASK_REGISTRY:
        return  # a choice of tasks, or a mistake that the check reports
    keys = component_keys(TASK_REGISTRY.find(config["name"])) or {}
    hooks: Any = config.get("hooks") or []
    names = [hook.get("name") for hook in hooks if isinstance(hook, Mapping)] if isinstance(hooks, list) else None
    if "hooks" in keys and names is not None and not any(_logs(name) for name in names):
        config["hooks"] = [*hooks, {"name": _LOGGING}]


def _logs(name: Any) -> bool:
    return name in HOOK_REGISTRY and issubclass(HOOK_REGISTRY[name], LossLrMeterLoggingHook)
