"""`ray-classy ls` and `ray-classy show`: what a run has kept, and what is in a checkpoint."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from ray_classy.checkpoint import CHECKPOINT_FILE, load_checkpoint
from ray_classy.checkpoint.files import BEST, followed
from ray_classy.checkpoint.manifest import read_manifest
from ray_classy.cli.arguments import UsageError
from ray_classy.cli.output import Answer
from ray_classy.errors import RayClassyError, RunFolderError
from ray_classy.storage import Storage
from ray_classy.trainer.metrics import dotted
from ray_classy.trainer.run_folder import RUN_FILE, RunFolder
from ray_classy.urls import reason, shown

_MOST_NAMES = 8


def ls(arguments: argparse.Namespace) -> Answer:
    """The checkpoints of a run, oldest first; by their manifests, without reading them.

    Raises:
        RunFolderError: there is no such run.
    """
    with _reached(path := _one(arguments, "a run's folder")):
        return _listed(RunFolder.existing(path))


def _listed(run: RunFolder) -> Answer:
    entries = []
    best = run.storage.pointed(BEST)
    for name in run.checkpoints():
        manifest = read_manifest(run.storage, name) or {}
        entries.append(
            {"name": name, "best": name == best, **{key: value for key, value in manifest.items() if key != "classes"}}
        )
    status = run.facts().get("status")
    data = {"run": run.path, "status": status, "checkpoints": entries}
    lines = [f"{shown(run.path)}: {status}, {len(entries)} checkpoints"]
    lines += [_line(entry) for entry in entries]
    return Answer("\n".join(lines), data)


def show(arguments: argparse.Namespace) -> Answer:
    """What a checkpoint holds; its file is read and compared with its manifest. A run stands for its newest one.

    Raises:
        CheckpointError: it is damaged, or is none.
    """
    with _reached(path := _one(arguments, "a checkpoint, or a run's folder")):
        return _looked_into(path)


def _looked_into(path: str) -> Answer:
    if Storage(path).exists(RUN_FILE):
        path = RunFolder.existing(path).latest_checkpoint() or path
    path = followed(path)
    content = load_checkpoint(path)
    folder = path.rpartition("/")[0] if path.endswith(".torch") else path
    manifest = read_manifest(Storage(folder or "."), "") or {}
    parts = {name: _size(part) for name, part in content["classy_state_dict"].items()}
    ours = content.get("ray_classy") or {}
    classes = (ours.get("classes") or {}).get("train") or (ours.get("classes") or {}).get("test")
    data = {"path": path, "manifest": manifest, "parts": parts, "classes": classes, "input_args": content["input_args"]}
    return Answer("\n".join(_shown(path, manifest, parts, classes)), data)


@contextlib.contextmanager
def _reached(path: str) -> Iterator[None]:
    """Tells of a store that does not answer."""
    try:
        yield
    except RayClassyError:
        raise
    except OSError as error:
        raise RunFolderError(f"{shown(path)} cannot be read ({reason(error)}): correct the path or the URL") from error


def _one(arguments: argparse.Namespace, what: str) -> str:
    if len(arguments.words) != 1:
        raise UsageError(f"{arguments.command} takes one word, {what}; see ray-classy {arguments.command} --help")
    return str(arguments.words[0])


def _line(entry: Mapping[str, Any]) -> str:
    if "step" not in entry:
        return f"  {entry['name']}  (without a manifest)"
    size = (entry.get("files") or {}).get(CHECKPOINT_FILE, {}).get("bytes", 0) / 2**20
    inside = entry.get("in_phase")
    where = f"{entry['where']:.0%} done" + (f", {inside['rows']} of {inside['of']} rows of an epoch" if inside else "")
    metrics = [f"{name} {value:.4f}" for name, value in dotted(entry.get("metrics") or {}).items() if _number(value)]
    best = ["best"] if entry["best"] else []
    return "  ".join([f"  {entry['name']}", f"{size:.1f} MiB", where, *metrics, *best])


def _number(value: Any) -> bool:
    return isinstance(value, float)


def _shown(
    path: str, manifest: Mapping[str, Any], parts: Mapping[str, dict[str, int]], classes: list[str] | None
) -> Iterator[str]:
    yield shown(path)
    for key in ("epoch", "step", "samples", "where", "in_phase", "seed", "world_size", "written", "config_sha256"):
        if manifest.get(key) is not None:
            yield f"  {key:<14} {manifest[key]}"
    for name, value in dotted(manifest.get("metrics") or {}).items():
        yield f"  {name:<24} {value}"
    if manifest.get("versions"):
        yield f"  {'versions':<14} " + ", ".join(f"{name} {value}" for name, value in manifest["versions"].items())
    if classes:
        more = f", ... ({len(classes)})" if len(classes) > _MOST_NAMES else ""
        yield f"  {'classes':<14} {', '.join(classes[:_MOST_NAMES])}{more}"
    yield "  parts"
    for name, size in parts.items():
        if size["tensors"]:
            numbers, mebibytes = f"{size['numbers']:,}", f"{size['bytes'] / 2**20:.1f}"
            yield f"    {name:<22} {size['tensors']} tensors, {numbers} numbers, {mebibytes} MiB"
    yield (
        "  the file is what was written" if manifest.get("files") else "  there is no manifest to compare the file with"
    )


def _size(part: Any) -> dict[str, int]:
    """Tensors in a part of a state, the numbers in them, and their bytes."""
    if isinstance(part, torch.Tensor):
        return {"tensors": 1, "numbers": part.numel(), "bytes": part.nbytes}
    items = part.values() if isinstance(part, Mapping) else part if isinstance(part, list | tuple) else ()
    sizes = [_size(item) for item in items]
    return {name: sum(size[name] for size in sizes) for name in ("tensors", "numbers", "bytes")}
