"""`ray-classy ls`: the checkpoints of a run."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from ray_classy.checkpoint import CHECKPOINT_FILE
from ray_classy.checkpoint.files import BEST
from ray_classy.checkpoint.manifest import read_manifest
from ray_classy.cli.output import Answer
from ray_classy.cli.paths import path_in, reading
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


def _describe(run: RunFolder) -> Answer:
    best = run.storage.pointed(BEST)
    manifests = {name: read_manifest(run.storage, name) or {} for name in run.checkpoints.names()}
    entries = [
        {"name": name, "best": name == best, **{key: value for key, value in manifest.items() if key != "classes"}}
        for name, manifest in manifests.items()
    ]
    status = run.record.facts().get("status")
    lines = [f"{shown(run.path)}: {status}, {len(entries)} checkpoints", *map(_line, entries)]
    return Answer("\n".join(lines), {"run": run.path, "status": status, "checkpoints": entries})


def _line(entry: Mapping[str, Any]) -> str:
    if "step" not in entry:
        return f"  {entry['name']}  (without a manifest)"
    size = (entry.get("files") or {}).get(CHECKPOINT_FILE, {}).get("bytes", 0) / 2**20
    inside = entry.get("in_phase")
    where = f"{entry['where']:.0%} done" + (f", {inside['rows']} of {inside['of']} rows of an epoch" if inside else "")
    metrics = [
        f"{name} {value:.4f}" for name, value in dotted(entry.get("metrics") or {}).items() if isinstance(value, float)
    ]
    best = ["best"] if entry["best"] else []
    return "  ".join([f"  {entry['name']}", f"{size:.1f} MiB", where, *metrics, *best])
