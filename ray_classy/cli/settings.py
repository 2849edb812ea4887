"""From what the command line gives to a checked config and the trainer for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ray_classy.cli.given import Given
from ray_classy.config import Config, dotted, mark_of
from ray_classy.config.changes import changed_lines
from ray_classy.config.check import component_keys
from ray_classy.config.document import search_node
from ray_classy.errors import CheckpointNotFoundError, ConfigError, RunFolderError
from ray_classy.hooks import HOOK_REGISTRY, LossLrMeterLoggingHook
from ray_classy.registry import Key, Keys
from ray_classy.storage import Storage
from ray_classy.tasks import TASK_REGISTRY
from ray_classy.tasks.task_config import checked, located
from ray_classy.trainer.local_trainer import LocalTrainer
from ray_classy.trainer.run_folder import DEFAULT_STORAGE_PATH, RUN_FILE, RunFolder

if TYPE_CHECKING:
    from ray.train import ScalingConfig

_CHECKPOINT_KEYS = ("checkpoint", "pretrained_checkpoint")
_LOGGING = "loss_lr_meter_logging"


@dataclass(frozen=True)
class Settings:
    """A config without mistakes, and where and how it is to be run.

    Attributes:
        config: the task's config; of the `ray` section, the run's name is taken out: it belongs to one run only.
        file: the config file.
        run: the folder of the run, which exists if `resume` is set.
        resume: whether to go on with that run: it is asked for, or the same command began it.
        local: whether to train in this process.
        ray_configs: Ray's config objects.
        address: of the cluster, if one is given.
        verbose: let Ray print.
    """

    config: Config
    file: str
    run: RunFolder
    resume: bool
    local: bool
    ray_configs: dict[str, Any]
    address: str | None
    verbose: bool

    @property
    def storage_path(self) -> str:
        """The folder of runs in which the run's lies."""
        return self.run.path.rstrip("/").rpartition("/")[0] or "/"

    @property
    def scaling_config(self) -> ScalingConfig:
        """How many workers there are, and what each gets."""
        return self.ray_configs["scaling_config"]

    @property
    def world_size(self) -> int:
        """Ranks of the run; of an elastic one, the most."""
        workers = self.scaling_config.num_workers
        return 1 if self.local else workers[-1] if isinstance(workers, tuple) else workers

    @property
    def on_gpu(self) -> bool | None:
        """Whether the workers have GPUs; None where each process finds out."""
        return None if self.local else bool(self.scaling_config.use_gpu)

    def trainer(self) -> Any:
        """The trainer for it."""
        place: dict[str, Any] = {"resume": self.run.path}
        if not self.resume:
            place = {"storage_path": self.storage_path, "name": self.run.name}
        if self.local:
            return LocalTrainer(**place)
        from ray_classy.trainer.ray_trainer import RayTrainer

        return RayTrainer(**self.ray_configs, **place, address=self.address, verbose=self.verbose)


def ray_sections() -> Keys:
    """What the check knows of the reserved keys of a config."""
    from ray_classy.trainer.ray_config import ray_keys

    return {"ray": Key(ray_keys(), {})}


def settings_of(given: Given) -> Settings:
    """Checks the whole config and finds out where it is to be run.

    Raises:
        ConfigError: the config has mistakes; the message lists them all.
        RunFolderError: the run cannot be resumed, or its name is that of a run with another config.
        CheckpointNotFoundError: the run that is to be started from has no checkpoint.
    """
    config, resume = given.config, given.flags.resume
    node = search_node(config)
    if node is not None:
        raise ConfigError(
            f"{mark_of(config, node)}: {dotted(node)} is a search node, and training needs a value; to run the sweep: "
            f"ray-classy tune {given.file}"
        )
    checked(config, sections=ray_sections())
    section = config.get("ray") or {}
    configs = _ray_configs(config, section)
    if not given.flags.local:
        with located(config, "ray"):
            _check_gpu_shares(configs)
    name, storage_path = section.pop("name", None), section.get("storage_path")
    if not resume:
        config.given = _as_given(config)
    elif given.flags.words:  # gone on with as something else than what began it
        config.given = {}
    begun = None if resume or not name else _begun_by_this(config, storage_path or DEFAULT_STORAGE_PATH, name)
    if begun is None:
        _set_checkpoints(config)
    set_logging(config)
    if resume:
        run = RunFolder.existing(resume)
    else:
        run = begun or RunFolder.planned(storage_path, name)
    return Settings(
        config=config,
        file=given.file,
        run=run,
        resume=bool(resume) or begun is not None,
        local=given.flags.local,
        ray_configs=configs,
        address=section.get("address"),
        verbose=given.flags.verbose,
    )


def _as_given(config: Config) -> dict[str, Any]:
    """What the run keeps of the command, to know it again: not where it runs."""
    given: dict[str, Any] = json.loads(json.dumps(config, default=str))
    return {key: value for key, value in given.items() if key != "ray"}


def _begun_by_this(config: Config, storage_path: str, name: str) -> RunFolder | None:
    """The run of that name, if this command began it: it goes on with it.

    Raises:
        RunFolderError: the run of that name has another config.
    """
    run = RunFolder.named(storage_path, name)
    facts = run.facts() if run.storage.exists(RUN_FILE) else {}
    before, now = facts.get("given"), config.given or {}
    if not before:
        return None
    if json.dumps(before, sort_keys=True) != json.dumps(now, sort_keys=True):
        told = [f"there is a run {name!r} in {storage_path!r} already, of another config; what changed:"]
        told += changed_lines(before, now)
        raise RunFolderError(
            "\n".join([*told, f"To go on with it: --resume {run.path}; to start a new one, give another name"])
        )
    recorded = run.config_facts()["config"] or {}
    config.update({key: recorded[key] for key in _CHECKPOINT_KEYS if key in recorded and key in config})
    return run


def _set_checkpoints(config: Config) -> None:
    """Puts the latest checkpoint of a run where a run folder is given for a checkpoint."""
    for key in _CHECKPOINT_KEYS:
        path = config.get(key)
        if isinstance(path, str) and Storage(path).exists(RUN_FILE):
            latest = RunFolder(path).latest_checkpoint()
            if latest is None:
                raise CheckpointNotFoundError(f"{mark_of(config, (key,))}: the run {path!r} has no checkpoint yet")
            config[key] = latest


def set_logging(config: Config) -> None:
    """Adds the hook that logs, if none of the config's does and the task has hooks."""
    if config.get("name") not in TASK_REGISTRY:
        return  # a choice of tasks, or a mistake that is told by the check
    keys = component_keys(TASK_REGISTRY.find(config["name"])) or {}
    hooks: Any = config.get("hooks") or []
    names = [hook.get("name") for hook in hooks if isinstance(hook, Mapping)] if isinstance(hooks, list) else None
    if "hooks" in keys and names is not None and not any(_logs(name) for name in names):
        config["hooks"] = [*hooks, {"name": _LOGGING}]


def _logs(name: Any) -> bool:
    return name in HOOK_REGISTRY and issubclass(HOOK_REGISTRY[name], LossLrMeterLoggingHook)


def _check_gpu_shares(configs: Mapping[str, Any]) -> None:
    from ray_classy.trainer.ray_config import check_gpu_shares

    check_gpu_shares(configs["scaling_config"], configs["torch_config"])


def _ray_configs(config: Config, section: Mapping[str, Any]) -> dict[str, Any]:
    from ray_classy.trainer.ray_config import ray_configs

    if section.get("num_workers") == 0:
        raise ConfigError(
            f"{mark_of(config, ('ray', 'num_workers'))}: ray.num_workers: must be at least 1, not 0; "
            f"to train in this process, without Ray: --local"
        )
    try:
        return ray_configs({key: value for key, value in section.items() if key != "address"})
    except Exception as error:
        raise ConfigError(f"{mark_of(config, ('ray',))}: ray: {error}") from error
