"""The parts of a checkpoint that are the same for every task, and their types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ray_classy.checkpoint.manifest import check_format
from ray_classy.errors import DamagedCheckpointError, RecordError
from ray_classy.records import read_record, what_is_wrong


class Checkpoint(NamedTuple):
    """A checkpoint that has been read.

    Attributes:
        path: of its folder.
        content: what was written.
    """

    path: str
    content: dict[str, Any]


def generators_of(content: Mapping[str, Any]) -> Sequence[Any] | None:
    """Returns the states of the random generators in the content of a checkpoint, by rank; None without them."""
    return (content.get("ray_classy") or {}).get("rng")


@dataclass(frozen=True)
class _Counters:
    """Attributes of the task that count its progress."""

    train: bool | None = None
    phase_idx: int | None = None
    train_phase_idx: int | None = None
    num_updates: int | None = None
    num_train_steps: int | None = None


@dataclass(frozen=True)
class _UpdateRows:
    """Rows per step on one rank, and per update."""

    replica: int
    update: int


@dataclass(frozen=True)
class _Split:
    """The rule by which rows were divided between the phases, and a fingerprint of their ids."""

    rule: dict[str, Any]
    ids: int
    total: int
    sketch: list[int]


@dataclass(frozen=True)
class _Ours:
    """The entry `ray_classy`."""

    format: int
    rng: list[Any] = field(default_factory=list)
    classes: dict[str, list[Any] | None] = field(default_factory=dict)
    seed: int | None = None
    world_size: int | None = None
    train_phases: int | None = None
    config: dict[str, Any] | None = None
    counters: _Counters | None = None
    update_rows: _UpdateRows | None = None
    split: _Split | None = None


@dataclass(frozen=True)
class _Content:
    classy_state_dict: dict[str, Any]
    input_args: Any = None
    ray_classy: _Ours | None = None


def check_content(content: dict[str, Any], where: str) -> dict[str, Any]:
    """Returns the content of a checkpoint, if its parts have the types that they must have.

    The state of the task is checked by the task, which knows it.

    Args:
        content: a dict with a `classy_state_dict`.
        where: the path of the file.

    Raises:
        DamagedCheckpointError: a part has another type.
        CheckpointError: it was written in a later format.
    """
    try:
        ours = content.get("ray_classy")
        if isinstance(ours, dict):
            check_format(ours.get("format"), where)
        read_record(_Content, content, where)
        for names in (ours or {}).get("classes", {}).values():
            check_classes_are_names(names, where)
    except RecordError as error:
        raise DamagedCheckpointError(f"{where} is damaged: {what_is_wrong(error, where)}") from None
    if not all(isinstance(name, str) for name in content["classy_state_dict"]):
        raise DamagedCheckpointError(f"{where} is damaged: the parts of its state have no names")
    return content


def check_classes_are_names(names: Any, where: str) -> None:
    """Refuses classes that are not text or numbers."""
    if not all(isinstance(name, str | int | float) for name in names or ()):
        raise DamagedCheckpointError(f"{where} is damaged: ray_classy.classes must be lists of names")
