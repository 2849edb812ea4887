"""The manifest of a checkpoint: `manifest.json` beside its files says what it is, and what the files must be.

    format        1
    epoch, step, samples, where, in_phase     how far the run was; `in_phase` is null at the end of a phase
    metrics       of the round that had ended
    seed, world_size, classes, versions, written
    config, config_sha256                     the run's resolved config, and the SHA-256 of its config.yaml
    files         {"checkpoint.torch": {"bytes": ..., "sha256": ...}}

It is written last. A checkpoint without one (Classy Vision's, a published copy of an older version) is read unchecked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ray_classy.records import parse_json

MANIFEST_FILE = "manifest.json"


def write_manifest(storage: Any, folder: str, facts: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Writes the manifest of a folder in `storage`.

    Args:
        storage: a `Storage`.
        folder: in it; empty for the storage's own.
        facts: plain values.
        files: the content of the folder's files.
    """
    sums = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    text = json.dumps({**facts, "files": sums}, indent=2, default=str) + "\n"
    storage.write(_inside(folder), text.encode())


def remove_manifest(storage: Any, folder: str) -> None:
    """Removes the manifest of files that are about to be replaced."""
    storage.remove_file(_inside(folder))


def read_manifest(storage: Any, folder: str) -> dict[str, Any] | None:
    """The manifest of a folder in `storage`; None if there is none that can be read."""
    if not storage.exists(_inside(folder)):
        return None
    try:
        manifest = parse_json(storage.read(_inside(folder)), storage.join(_inside(folder)))
    except ValueError:
        return None
    return manifest if isinstance(manifest, dict) else None


def is_listed(manifest: Mapping[str, Any] | None, name: str) -> bool:
    """Whether a manifest says what is in a file."""
    return bool(((manifest or {}).get("files") or {}).get(name))


def difference(manifest: Mapping[str, Any] | None, name: str, data: bytes) -> str | None:
    """Compares a file's content with what the manifest says of it.

    Returns:
        In what they differ; None if they agree, or the manifest does not list the file.
    """
    if manifest is None or not is_listed(manifest, name):
        return None
    expected = manifest["files"][name]
    if len(data) != expected["bytes"]:
        return f"it has {len(data)} bytes, and {expected['bytes']} were written"
    if hashlib.sha256(data).hexdigest() != expected["sha256"]:
        return "its bytes are not those that were written"
    return None


def _inside(folder: str) -> str:
    return f"{folder}/{MANIFEST_FILE}" if folder else MANIFEST_FILE
