"""The manifest of a checkpoint: `manifest.json` beside its files says what it is, and what the files must be.

It is written last. A checkpoint without one (Classy Vision's, or a run's that was killed before it was written) is read
unchecked. One that cannot be read, or does not list the file, is damage.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ray_classy.errors import CheckpointError
from ray_classy.records import damaged, parse_json_object, read_record

MANIFEST_FILE = "manifest.json"
FORMAT = 1
"""Version of the content of checkpoints and manifests."""


@dataclass(frozen=True)
class FileFacts:
    """What a file must be."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class PhaseFacts:
    """How far an unfinished train phase was."""

    rows: int
    of: int | None = None


@dataclass(frozen=True)
class Manifest:
    """The types of a manifest's entries.

    Attributes:
        format: FORMAT.
        files: what the files beside it must be, by name.
        epoch, train_phase, step, samples, where, in_phase: how far the run was; `in_phase` is null at the end of a
            phase.
        metrics: of the round that had ended, by phase type.
        seed, world_size, classes, versions, written: of the run.
        config, config_sha256: the run's resolved config, and the SHA-256 of its config.yaml.
    """

    format: int
    files: dict[str, FileFacts]
    epoch: float | None = None
    train_phase: int | None = None
    step: int | None = None
    samples: int | None = None
    where: float | None = None
    in_phase: PhaseFacts | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    world_size: int | None = None
    classes: list[Any] | None = None
    versions: dict[str, Any] = field(default_factory=dict)
    written: str | None = None
    config: dict[str, Any] | None = None
    config_sha256: str | None = None


def write_manifest(storage: Any, folder: str, facts: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Writes the manifest of a folder in `storage`.

    Args:
        storage: a `Storage`.
        folder: in it; empty for the storage's own.
        facts: plain values.
        files: the content of the folder's files.
    """
    sums = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    text = json.dumps({"format": FORMAT, **facts, "files": sums}, indent=2, default=str) + "\n"
    storage.write(_inside(folder), text.encode())


def remove_manifest(storage: Any, folder: str) -> None:
    """Removes the manifest of files that are about to be replaced."""
    storage.remove_file(_inside(folder))


def read_manifest(storage: Any, folder: str) -> dict[str, Any] | None:
    """Returns the manifest of a folder in `storage`; None if there is none.

    Raises:
        RecordError: it is damaged: it cannot be parsed, or an entry is missing or of another type.
        CheckpointError: it is of a format that this release does not know.
    """
    name = _inside(folder)
    if not storage.exists(name):
        return None
    where = storage.join(name)
    values = parse_json_object(storage.read(name), where)
    check_format(values.get("format"), where)
    read_record(Manifest, values, where)
    return values


def check_format(value: Any, where: str) -> None:
    """Checks the version of a checkpoint or manifest.

    Raises:
        RecordError: the value is not a version number.
        CheckpointError: it is of another release.
    """
    if type(value) is not int or value < 1:
        raise damaged(where, "its format must be an integer of at least 1")
    if value != FORMAT:
        raise CheckpointError(
            f"{where} has format {value}, and this release reads format {FORMAT}: use the release that wrote it"
        )


def difference(manifest: Mapping[str, Any], name: str, data: bytes) -> str | None:
    """Compares a file's content with what the manifest says of it.

    Returns:
        In what they differ, or that the manifest does not list the file; None if they agree.
    """
    expected = manifest["files"].get(name)
    if expected is None:
        return "its manifest does not list it"
    if (wrong := size_difference(expected["bytes"], len(data))) is not None:
        return wrong
    if hashlib.sha256(data).hexdigest() != expected["sha256"]:
        return "its bytes are not those that were written"
    return None


def size_difference(written: int, found: int) -> str | None:
    """Compares the bytes of a file with those that were written; None if they agree."""
    return None if found == written else f"it has {found} bytes, and {written} were written"


def _inside(folder: str) -> str:
    return f"{folder}/{MANIFEST_FILE}" if folder else MANIFEST_FILE
