"""The checkpoints in a run's folder, and `last` and `best`, which are aliases of two of them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Container, Mapping
from typing import Any

from ray_classy.checkpoint import CHECKPOINT_FILE, load_checkpoint, save_checkpoint
from ray_classy.checkpoint.files import BEST, LAST, checkpoints_in, position_of
from ray_classy.checkpoint.manifest import read_manifest
from ray_classy.errors import CheckpointNotFoundError, DamagedCheckpointError, RayClassyError
from ray_classy.storage import Storage
from ray_classy.tasks.metrics import dotted
from ray_classy.trainer.retention import Retention
from ray_classy.urls import reason

_log = logging.getLogger(__name__)
_warned: set[str] = set()
"""What this process has said of damaged checkpoints: it may look for the newest intact one twice."""


class RunCheckpoints:
    """The checkpoints of a run.

    Args:
        storage: the run's folder.
        check_owner: raises an error if another process has taken the folder over.
    """

    def __init__(self, storage: Storage, check_owner: Callable[[], None] = lambda: None) -> None:
        self._storage, self._check_owner = storage, check_owner
        self._unwritable: set[str] = set()  # aliases that cannot be written
        self._manifests: dict[str, dict[str, Any]] = {}

    def names(self) -> list[str]:
        """The names of the complete checkpoints, oldest first."""
        return checkpoints_in(self._storage)

    def latest(self) -> str | None:
        """The path of the newest complete checkpoint."""
        names = self.names()
        return self._storage.join(names[-1]) if names else None

    def best(self) -> str | None:
        """The path of the checkpoint that `best` is an alias of."""
        name = self.best_name()
        return self._storage.join(name) if name is not None else None

    def best_name(self) -> str | None:
        """The name of the checkpoint that `best` is an alias of; None if it is not an alias of a complete one."""
        name = self._storage.pointed(BEST)
        return name if name in self.names() else None

    def write(self, name: str, content: dict[str, Any], facts: Mapping[str, Any] | None = None) -> str:
        """Writes a checkpoint folder of that name, with a manifest of `facts`, and returns its path.

        Raises:
            RunFolderError: another process has taken the run over.
        """
        self._check_owner()
        self._manifests.pop(name, None)
        if self._storage.has_link(name):
            self._storage.remove(name)  # the link; what it leads to stays as it is
        save_checkpoint(name, content, storage=self._storage, facts=facts)
        return self._storage.join(name)

    def remove(self, name: str) -> None:
        """Removes a checkpoint."""
        self._storage.remove(name)

    def keep(self, retention: Retention, pinned: Container[str] = ()) -> None:
        """Makes `last` and `best` aliases of their checkpoints, and removes those that the retention does not keep.

        Args:
            retention: which ones are kept.
            pinned: names of checkpoints that are kept besides.
        """
        names = self.names()
        metrics = self._metrics_of(names)
        away = [name for name in retention.superfluous(metrics) if name not in pinned]
        best = retention.best({name: values for name, values in metrics.items() if name not in away})
        for alias, name in ((LAST, names[-1] if names else None), (BEST, best)):
            if name is not None:
                self._point(alias, name)
        for name in away:
            self.remove(name)

    def update_aliases(self) -> None:
        """Makes `last` and `best` aliases of their checkpoints, and removes none."""
        self.keep(Retention())

    def _point(self, alias: str, name: str) -> None:
        """Makes `last` or `best` an alias; one that cannot be written is warned of once, and ends no run."""
        try:
            if self._storage.pointed(alias) != name:
                self._storage.point(alias, name)
        except OSError as error:
            if alias not in self._unwritable:
                _log.warning("%s cannot be pointed to %s: %s", self._storage.join(alias), name, reason(error))
            self._unwritable.add(alias)

    def _metrics_of(self, names: list[str]) -> dict[str, dict[str, Any]]:
        """The metrics of the checkpoints at the end of a round, by name."""
        manifests = {name: self._manifest(name) for name in names}
        at_end = {name: found.get("metrics") for name, found in manifests.items() if found.get("in_phase") is None}
        return {name: dotted(values) if isinstance(values, dict) else {} for name, values in at_end.items()}

    def _manifest(self, name: str) -> dict[str, Any]:
        manifest = self._manifests.get(name)
        if manifest is None:
            with contextlib.suppress(RayClassyError):  # a damaged one is an error where its checkpoint is loaded
                manifest = read_manifest(self._storage, name)
            if manifest is not None:  # else it may still be written
                self._manifests[name] = manifest
        return manifest or {}

    def load(self, name: str) -> dict[str, Any]:
        """Reads a checkpoint.

        Raises:
            DamagedCheckpointError: its content is not what was written.
            StorageError: it cannot be read.
        """
        return load_checkpoint(f"{name}/{CHECKPOINT_FILE}", self._storage)

    def load_latest(
        self, check: Callable[[dict[str, Any]], None] = lambda state: None
    ) -> tuple[str, dict[str, Any]] | None:
        """Reads the newest intact checkpoint, and logs a warning for each damaged one that is newer.

        Args:
            check: raises a DamagedCheckpointError for a state that the task cannot have written.

        Returns:
            Its name and content; None if the run has no checkpoint.

        Raises:
            DamagedCheckpointError: there are checkpoints, and all are damaged.
            CheckpointError: the newest intact one cannot be loaded in this environment.
            StorageError: one cannot be read. A store that fails is no reason to resume from an older one.
        """
        damaged: list[str] = []
        for name in reversed(self.names()):
            try:
                content = self.load(name)
                check(content["classy_state_dict"])
            except (DamagedCheckpointError, CheckpointNotFoundError) as error:
                text = str(error)
                damaged.append(text if name in text else f"the checkpoint {self._storage.join(name)!r}: {text}")
                continue
            for text in damaged:
                if text not in _warned:
                    _log.warning("%s; resuming from the one before", text)
            _warned.update(damaged)
            return name, content
        if damaged:
            others = f"; neither are the older ones ({len(damaged) - 1})" if len(damaged) > 1 else ""
            raise DamagedCheckpointError(
                f"the run has no intact checkpoint: {damaged[0]}{others}. Restore one from a copy, or start a new run"
            )
        return None


def epoch_of(checkpoint: str) -> int:
    """The train phases that were over when a checkpoint of that name was written."""
    return position_of(checkpoint)[0]
