"""What is asked of the process that trains in a run's folder, by files in it: to stop, or to write a checkpoint."""

from __future__ import annotations

from collections.abc import Callable

from ray_classy.storage import Storage

STOP_FILE, SAVE_FILE = "stop", "save"


class Requests:
    """The requests in a run's folder.

    Args:
        storage: the folder.
        check_owner: raises an error if another process has taken the folder over.
    """

    def __init__(self, storage: Storage, check_owner: Callable[[], None] = lambda: None) -> None:
        self._storage, self._check_owner = storage, check_owner

    def stop(self) -> None:
        """Asks for a checkpoint, and for the end of the training after it."""
        self._check_owner()
        self._storage.write(STOP_FILE, b"")

    def stop_requested(self) -> bool:
        """Whether the run is asked to stop."""
        return self._storage.exists(STOP_FILE)

    def checkpoint(self) -> None:
        """Asks for a checkpoint as soon as possible."""
        self._check_owner()
        self._storage.write(SAVE_FILE, b"")

    def checkpoint_requested(self) -> bool:
        """Whether a checkpoint is asked for."""
        return self._storage.exists(SAVE_FILE)

    def forget_checkpoint(self) -> None:
        """Forgets that a checkpoint was asked for; that the run is to stop stays."""
        if self.checkpoint_requested():
            self._check_owner()
            self._storage.remove_file(SAVE_FILE)

    def forget(self) -> None:
        """Forgets everything that was asked for."""
        self.forget_checkpoint()
        if self.stop_requested():
            self._check_owner()
            self._storage.remove_file(STOP_FILE)
