"""The checkpoints of a run, as `ray-classy ls RUN` lists them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ray_classy.checkpoint import CHECKPOINT_FILE
from ray_classy.checkpoint.files import run_of_checkpoint
from ray_classy.checkpoint.manifest import MANIFEST_FILE, read_manifest, size_difference
from ray_classy.cli.output import Answer
from ray_classy.disk_errors import size_text
from ray_classy.errors import RayClassyError, RecordError
from ray_classy.printable import printable
from ray_classy.records import read_record, what_is_wrong
from ray_classy.tasks.metrics import summary
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.urls import shown


def list_checkpoints(path: str) -> Answer:
    """Lists the checkpoints of a run, oldest first, from their manifests and sizes; the files are not read.

    Args:
        path: the folder of the run, or a checkpoint in it.

    Raises:
        RunFolderError: there is no such run.
    """
    run = RunFolder(path)
    above = None if run.record.exists() else run_of_checkpoint(run.path)[0]
    return _describe(RunFolder.existing(path if above is None else above))


@dataclass
class _Manifest:
    """What is printed of a manifest."""

    step: int
    where: float
    in_phase: dict[str, Any] | None = None
    metrics: dict[str, Any] | None = None


def _describe(run: RunFolder) -> Answer:
    best, names = run.checkpoints.best_name(), run.checkpoints.names()
    read = {name: _read(run, name) for name in names}
    entries = [{**values, "name": name, "best": name == best} for name, (values, _) in read.items()]
    facts = run.record.facts()
    status, error = facts.get("status"), facts.get("error") or ""
    early = facts.get("stopped_early")
    why = f" ({error.splitlines()[0]})" if error.strip() else f" (stopped early: {early})" if early else ""
    lines = [f"{shown(run.path)}: {status}{why}, {len(entries)} checkpoint{'' if len(entries) == 1 else 's'}"]
    lines += [f"  {name}  {line}{'  best' if name == best else ''}" for name, (_, line) in read.items()]
    return Answer(
        "\n".join(map(printable, lines)),
        {"run": run.path, "status": status, "stopped_early": early, "checkpoints": entries},
    )


def _read(run: RunFolder, name: str) -> tuple[dict[str, Any], str]:
    """The manifest of a checkpoint, without its classes, and a line about the checkpoint."""
    size, where = run.storage.size(f"{name}/{CHECKPOINT_FILE}"), run.storage.join(f"{name}/{MANIFEST_FILE}")
    try:
        manifest = read_manifest(run.storage, name)
        if manifest is None:
            return {}, f"{size_text(size)}  (without a manifest)"
        line = _line(read_record(_Manifest, manifest, where))
    except RecordError as error:
        return {"error": str(error)}, f"damaged: its manifest cannot be read: {what_is_wrong(error, where)}"
    except RayClassyError as error:
        return {"error": str(error)}, f"({error})"
    values = {key: value for key, value in manifest.items() if key != "classes"}
    written = (manifest["files"].get(CHECKPOINT_FILE) or {}).get("bytes")
    wrong = "its manifest does not list it" if written is None else size_difference(written, size)
    if wrong is not None:
        return {**values, "error": f"{CHECKPOINT_FILE} is damaged: {wrong}"}, f"damaged: {wrong}"
    return values, f"{size_text(size)}  {line}"


def _line(manifest: _Manifest) -> str:
    inside = manifest.in_phase
    words = [f"{manifest.where:.0%} done"]
    if inside:
        words[-1] += f", {inside.get('rows')} of {inside.get('of')} rows of an epoch"
    metrics = summary(manifest.metrics or {}).items()
    words += [f"{name} {value:.4f}" for name, value in metrics if isinstance(value, float)]
    return "  ".join(words)
