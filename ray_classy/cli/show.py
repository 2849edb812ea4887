"""`ray-classy show`: what is in a checkpoint."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from ray_classy.checkpoint import load_checkpoint
from ray_classy.checkpoint.files import LAST, followed
from ray_classy.checkpoint.manifest import read_manifest
from ray_classy.cli.output import Answer
from ray_classy.cli.paths import path_in
from ray_classy.disk_errors import size_text
from ray_classy.errors import CheckpointNotFoundError
from ray_classy.printable import printable
from ray_classy.storage import Storage
from ray_classy.tasks.metrics import summary
from ray_classy.trainer.near_runs import near_runs, runs_in
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.trainer.run_record import RUN_FILE
from ray_classy.urls import reading, shown

_MOST_NAMES = 8


def show(arguments: argparse.Namespace) -> Answer:
    """Describes a checkpoint, after comparing its file with its manifest; of a run, the newest one.

    Raises:
        CheckpointError: the file is damaged, or is not a checkpoint.
    """
    with reading(path := path_in(arguments, "a checkpoint, or a run's folder")):
        return _describe(path)


def _describe(path: str) -> Answer:
    if Storage(path).exists(RUN_FILE):
        path = _newest(RunFolder.existing(path))
    try:
        content = load_checkpoint(path)
    except CheckpointNotFoundError as error:
        raise CheckpointNotFoundError(f"{error}{near_runs(path)}") from None
    path = followed(path)
    folder = path.rpartition("/")[0] if path.endswith(".torch") else path
    manifest = read_manifest(Storage(folder or "."), "") or {}
    parts = {name: _size(part) for name, part in content["classy_state_dict"].items()}
    ours = content.get("ray_classy") or {}
    classes = _of_phase(ours.get("classes"))
    of_targets = _of_phase(ours.get("target_classes")) or {}
    data = {
        "path": path,
        "manifest": manifest,
        "parts": parts,
        "classes": classes,
        "target_classes": of_targets,
        "input_args": content.get("input_args"),
    }
    named = {"classes": classes, **{f"classes of {target}:": names for target, names in of_targets.items()}}
    return Answer("\n".join(map(printable, _lines(path, manifest, parts, named))), data)


def _of_phase(names: Any) -> Any:
    """Returns what a checkpoint says of the classes of train rows, or else of test rows."""
    return (names or {}).get("train") or (names or {}).get("test")


def _newest(run: RunFolder) -> str:
    path = run.checkpoints.latest()
    if path is None:
        if within := runs_in(run.storage):
            raise CheckpointNotFoundError(
                f"{shown(run.path)!r} is a sweep: give one of its trials, {', '.join(within)}"
            )
        gone = run.storage.pointed(LAST)
        lost = f" (`last` leads to {gone}, which is gone)" if gone is not None else ""
        status = run.record.facts().get("status")
        raise CheckpointNotFoundError(
            f"the run {shown(run.path)!r} has no checkpoint{lost}: its status is {status}; the first one is written at "
            f"the end of a round, and an evaluation (test_only) writes none"
        )
    return path


def _lines(
    path: str, manifest: Mapping[str, Any], parts: Mapping[str, dict[str, int]], named: Mapping[str, list[str] | None]
) -> Iterator[str]:
    yield shown(path)
    for key in ("epoch", "step", "samples", "where", "in_phase", "seed", "world_size", "written", "config_sha256"):
        if manifest.get(key) is not None:
            yield f"  {key:<14} {manifest[key]}"
    for name, value in summary(manifest.get("metrics") or {}).items():
        yield f"  {name:<24} {value}"
    if manifest.get("versions"):
        yield f"  {'versions':<14} " + ", ".join(f"{name} {value}" for name, value in manifest["versions"].items())
    for label, classes in named.items():
        if not classes:
            continue
        more = f", ... ({len(classes)})" if len(classes) > _MOST_NAMES else ""
        yield f"  {label:<14} {', '.join(map(str, classes[:_MOST_NAMES]))}{more}"
    yield "  parts"
    for name, size in parts.items():
        if size["tensors"]:
            yield f"    {name:<22} {size['tensors']} tensors, {size['numbers']:,} numbers, {size_text(size['bytes'])}"
    yield "  the file is what was written" if manifest else "  there is no manifest to compare the file with"


def _size(part: Any) -> dict[str, int]:
    """Counts the tensors in a part of a state, the numbers in them and their bytes."""
    if isinstance(part, torch.Tensor):
        return {"tensors": 1, "numbers": part.numel(), "bytes": part.nbytes}
    items = part.values() if isinstance(part, Mapping) else part if isinstance(part, list | tuple) else ()
    sizes = [_size(item) for item in items]
    return {name: sum(size[name] for size in sizes) for name in ("tensors", "numbers", "bytes")}
