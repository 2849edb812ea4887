"""`ray-classy ls`: the checkpoints of a run."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from ray_classy.checkpoint import CHECKPOINT_FILE
from ray_classy.checkpoint.manifest import MANIFEST_FILE, read_manifest
from ray_classy.cli.output import Answer
from ray_classy.cli.paths import path_in, reading
from ray_classy.errors import RayClassyError
from ray_classy.printable import printable
from ray_classy.records import read_record
from ray_classy.trainer.metrics import dotted
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.urls import shown


def ls(arguments: argparse.Namespace) -> Answer:
    """Lists the checkpoints of a run, oldest first, from their manifests; the checkpoint files are not read.

    Raises:
        RunFolderError: there is no such run.
    """
    with reading(path := path_in(arguments, "a run's folder")):
        return _describe(RunFolder.existing(path))


@dataclass
class _Manifest:
    """What is printed of a manifest."""

    step: int
    where: float
    in_phase: dict[str, Any] | None = None
    metrics: dict[str, Any] | None = None
    files: dict[str, dict[str, Any]] | None = None


def _describe(run: RunFolder) -> Answer:
    best, names = run.checkpoints.best_name(), run.checkpoints.names()
    read = {name: _read(run, name) for name in names}
    entries = [{**values, "name": name, "best": name == best} for name, (values, _) in read.items()]
    status = run.record.facts().get("status")
    lines = [f"{shown(run.path)}: {status}, {len(entries)} checkpoint{'' if len(entries) == 1 else 's'}"]
    lines += [f"  {name}  {line}{'  best' if name == best else ''}" for name, (_, line) in read.items()]
    return Answer("\n".join(map(printable, lines)), {"run": run.path, "status": status, "checkpoints": entries})


def _read(run: RunFolder, name: str) -> tuple[dict[str, Any], str]:
    """The manifest of a checkpoint, without its classes, and a line about the checkpoint."""
    try:
        manifest = read_manifest(run.storage, name)
        if manifest is None:
            return {}, "(without a manifest)"
        line = _line(read_record(_Manifest, manifest, run.storage.join(f"{name}/{MANIFEST_FILE}")))
    except RayClassyError as error:
        return {"error": str(error)}, f"({error})"
    return {key: value for key, value in manifest.items() if key != "classes"}, line


def _line(manifest: _Manifest) -> str:
    size = ((manifest.files or {}).get(CHECKPOINT_FILE) or {}).get("bytes")
    inside = manifest.in_phase
    words = [f"{size / 2**20:.1f} MiB"] if isinstance(size, int) else []
    words.append(f"{manifest.where:.0%} done")
    if inside:
        words[-1] += f", {inside.get('rows')} of {inside.get('of')} rows of an epoch"
    metrics = dotted(manifest.metrics or {}).items()
    words += [f"{name} {value:.4f}" for name, value in metrics if isinstance(value, float)]
    return "  ".join(words)
