"""What a checkpoint or an export holds for inference: the model with its weights, its preprocessing, its classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ray_classy.checkpoint import load_checkpoint
from ray_classy.checkpoint.files import followed, run_of_checkpoint
from ray_classy.checkpoint.manifest import read_manifest
from ray_classy.config.code import is_run, may_name_code
from ray_classy.config.document import Config
from ray_classy.config.imports import import_modules
from ray_classy.deferred_compiler import defer_compiler
from ray_classy.errors import CheckpointError, CheckpointNotFoundError, DamagedCheckpointError
from ray_classy.inference.exported import is_export, read_export
from ray_classy.models import build_model
from ray_classy.storage import Storage
from ray_classy.trainer.near_runs import near_runs, runs_in
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.trainer.run_record import RUN_FILE
from ray_classy.urls import shown

if TYPE_CHECKING:
    from torch import nn

_AVERAGES = "ema_model_weights"


@dataclass(frozen=True)
class Trained:
    """A checkpoint of a run, or an export.

    Attributes:
        path: of the checkpoint; of the best one, where a run was asked for.
        config: of the run's task, as resolved; that of an export has no test data. It has the file that it was read
            from, if modules may be looked for beside that.
        state: the `classy_state_dict`; empty for an export.
        classes: names in the order of the model's outputs; None if the data had none.
        metrics: of the round that the checkpoint was written after, by phase type.
        epoch: how many epochs the model was trained for.
        split: how the rows were divided between the phases, see `SplitRows.record`; None if they were not.
        exported: makes the model of an export; None for a checkpoint.
        target_classes: where rows have several targets, the names of the classes of each; None for one without names.
    """

    path: str
    config: Mapping[str, Any]
    state: Mapping[str, Any]
    classes: list[str] | None
    metrics: Mapping[str, Any]
    epoch: float | None
    split: Mapping[str, Any] | None = None
    exported: Callable[[], nn.Module] | None = None
    target_classes: Mapping[str, list[str] | None] = field(default_factory=dict)

    def model(self) -> nn.Module:
        """Builds the model in evaluation mode, with the averages of its weights if the run kept any.

        Raises:
            CheckpointError: the weights do not fit the config.
        """
        defer_compiler()
        import_modules(self.config)
        if self.exported is not None:
            return self.exported()
        model = build_model(self.config["model"], weights=False)
        model.set_classy_state(self.state["base_model"])
        averages = (self.state.get("hooks") or {}).get(_AVERAGES)
        _load_averages(model, (averages or {}).get("ema_model_state") or {}, self.path)
        return model.eval().requires_grad_(False)


def read_trained(path: str) -> Trained:
    """Reads a checkpoint, the best one of a run, or an export.

    Args:
        path: the folder of a run or of a checkpoint, a checkpoint's file, or what `ray-classy export` wrote; local or a
            URL.

    Raises:
        CheckpointNotFoundError: there is none.
        DamagedCheckpointError: it is damaged.
        UnsafeFileError: it is an export that could run code.
        CheckpointError: it does not say how its model is built.
    """
    if is_export(path):
        where, record, build = read_export(path)
        return Trained(where, record.config(), {}, record.classes, record.metrics, record.epoch, exported=build)
    if Storage(path).exists(RUN_FILE):
        path = _best(RunFolder.existing(path))
    try:
        content = load_checkpoint(path)
    except CheckpointNotFoundError as error:
        raise CheckpointNotFoundError(f"{error}{near_runs(path)}") from None
    path = followed(path)
    manifest = read_manifest(Storage(path.rpartition("/")[0] if path.endswith(".torch") else path), "") or {}
    ours = content.get("ray_classy") or {}
    config = next(filter(None, map(_config_in, (ours, manifest, content.get("input_args")))), None)
    state = content["classy_state_dict"]
    if config is None:
        raise CheckpointError(
            f"the checkpoint {shown(path)!r} has no config, because its task was built in Python: build the model "
            f"yourself, and give it to ray_classy.inference.Classifier"
        )
    if "base_model" not in state:
        raise CheckpointError(f"the checkpoint {shown(path)!r} holds no model")
    names = (ours.get("classes") or {}).get("train") or (ours.get("classes") or {}).get("test")
    return Trained(
        path,
        Config(config, _config_file(path)),
        state,
        [str(name) for name in names] if names else None,
        manifest.get("metrics") or {},
        manifest.get("epoch"),
        ours.get("split"),
        target_classes=_of_targets(ours.get("target_classes")),
    )


def _config_file(path: str) -> str | None:
    """The file of the config with which the run of a checkpoint was started, if the user may rely on its folder."""
    run = run_of_checkpoint(path)[0]
    if run is None or not is_run(Storage(run)):
        return None
    file = RunFolder(run).record.facts().get("config_file")
    return file if isinstance(file, str) and may_name_code(run, file) else None


def _of_targets(recorded: Any) -> dict[str, list[str] | None]:
    """The names of the classes of several targets, as `recorded_classes` wrote them."""
    kinds = recorded if isinstance(recorded, Mapping) else {}
    several = kinds.get("train") or kinds.get("test") or {}
    return {target: None if names is None else [str(name) for name in names] for target, names in several.items()}


def _config_in(record: Any) -> Mapping[str, Any] | None:
    """The config of a task in a record, if it has one with a model."""
    config = record.get("config") if isinstance(record, Mapping) else None
    return config if isinstance(config, Mapping) and isinstance(config.get("model"), Mapping) else None


def _best(run: RunFolder) -> str:
    """The path of a run's best checkpoint; of its newest one, if none is the best."""
    path = run.checkpoints.best() or run.checkpoints.latest()
    if path is not None:
        return path
    if within := runs_in(run.storage):
        raise CheckpointNotFoundError(f"{shown(run.path)!r} is a sweep: give one of its trials, {', '.join(within)}")
    raise CheckpointNotFoundError(
        f"the run {shown(run.path)!r} has no checkpoint: its status is {run.record.facts().get('status')}; the first "
        f"one is written at the end of a round"
    )


def _load_averages(model: nn.Module, averages: Any, path: str) -> None:
    """Copies averages of weights into the model that has them."""
    import torch

    own = dict([*model.named_parameters(), *model.named_buffers(remove_duplicate=False)])
    if not isinstance(averages, Mapping):
        raise DamagedCheckpointError(f"the checkpoint {path!r} is damaged: its averages of the weights have no names")
    with torch.no_grad():
        for name, value in averages.items():
            if name not in own or not isinstance(value, torch.Tensor) or own[name].shape != value.shape:
                raise DamagedCheckpointError(
                    f"the checkpoint {path!r} is damaged: its average of {name!r} does not fit the model"
                )
            own[name].copy_(value)
