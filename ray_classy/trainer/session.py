"""What a run is to the loop: where its state comes from and where its results go.

The loop is the same in one process, under torchrun, on Ray workers and in a trial of a sweep; what differs stands
behind `Session`.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from ray_classy.checkpoint import save_checkpoint
from ray_classy.checkpoint.files import FORMAT
from ray_classy.dataset.classy_dataset import class_names
from ray_classy.distributed import broadcast_object, gather_objects, get_world_size, is_primary
from ray_classy.hooks import CheckpointHook
from ray_classy.seeding import get_rng_state
from ray_classy.tasks.phases import ends_round
from ray_classy.trainer.metrics import latest_by_phase_type, phase_metrics
from ray_classy.trainer.preflight import check_known_classes
from ray_classy.trainer.run_folder import RunFolder

_log = logging.getLogger(__name__)


class Session:
    """A run without a folder: nothing is kept. The base of the others."""

    def start(self, task: Any) -> None:
        """Called before the task is prepared: gives it the state to go on from."""

    def phase_ended(self, task: Any) -> dict[str, Any] | None:
        """Called after each phase; returns the report of the round, if the phase ends one."""
        return None


class FolderSession(Session):
    """A run that keeps its metrics and checkpoints in a run folder.

    Args:
        run: the folder.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self._round: list[dict[str, Any]] = []
        self._phase_began = time.time()
        self.began: tuple[int, str | None] = (0, None)  # train phases of the state it goes on from, and its checkpoint

    def start(self, task: Any) -> None:
        """Takes up the newest checkpoint of the folder, and drops the metrics of what came after it."""
        names = broadcast_object(self.run.checkpoints() if is_primary() else None)
        epoch, tested = 0, False
        if names:
            content = self.run.load_checkpoint(names[-1])
            check_known_classes(task, content, self.run.storage.join(names[-1]))
            task._set_checkpoint_dict(content)
            state = content["classy_state_dict"]
            epoch, tested = state.get("train_phase_idx", -1) + 1, not state.get("train", True)
            _log.info("going on from %s", self.run.storage.join(names[-1]))
        self.began = (epoch, names[-1] if names else None)
        if is_primary():
            self.run.keep_metrics_until(epoch, tested)
            ranks = get_world_size()
            _log.info("run %s on %d process%s", self.run.name, ranks, "" if ranks == 1 else "es")
        self._phase_began = time.time()

    def phase_ended(self, task: Any) -> dict[str, Any] | None:
        """Adds the phase's line to the metrics; at the end of a round, writes the due checkpoint and reports."""
        line = self._line(task)
        self._round.append(line)
        if is_primary():
            self.run.add_metrics(line)
        if task.phases and not ends_round(task.phases, task.phase_idx):
            return None
        name = self._checkpoint(task)
        progress = {"phase_idx": task.phase_idx, "epoch": task.train_phase_idx + 1, "where": task.where}
        report = {**latest_by_phase_type(self._round), **progress}
        self._round = []
        self.report(report, name)
        return {**report, "checkpoint": name}

    def report(self, metrics: dict[str, Any], checkpoint: str | None) -> None:
        """Hands on the metrics of a round.

        Args:
            metrics: nested; plain values.
            checkpoint: name of the checkpoint written at the round's end, if one was.
        """

    def _line(self, task: Any) -> dict[str, Any]:
        now = time.time()
        speed = [entry["im_per_sec"] for entry in task.perf_log if entry["tag"] == f"{task.phase_type}_total"]
        line = {
            "phase_idx": task.phase_idx,
            "phase_type": task.phase_type,
            "epoch": task.train_phase_idx + 1,
            "where": task.where,
            "num_updates": task.num_updates,
            "metrics": phase_metrics(task),
            "seconds": round(now - self._phase_began, 3),
            "samples_per_second": round(speed[-1], 1) if speed else None,
            "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        bad_rows = sum(gather_objects(getattr(task.data_iterator, "bad_rows", 0)))
        if bad_rows:
            line["bad_rows"] = bad_rows
        self._phase_began = now
        return line

    def _checkpoint(self, task: Any) -> str | None:
        """Writes the checkpoint of the round that ends, if one is due, and returns its name."""
        hooks = [hook for hook in task.hooks if isinstance(hook, CheckpointHook)]
        last = task.done_training()
        if task.test_only or not (last or not hooks or any(hook.due for hook in hooks)):
            return None
        generators = gather_objects(get_rng_state())
        name = f"epoch_{task.train_phase_idx + 1:04d}-step_{task.num_train_steps:06d}"
        if is_primary():
            content = checkpoint_content(task, generators)
            self.run.write_checkpoint(name, content)
            for hook in hooks:
                if hook.due or last:
                    save_checkpoint(hook.checkpoint_folder, {**content, "input_args": hook.input_args})
        for hook in hooks:
            hook.due = False
        return name


def checkpoint_content(task: Any, generators: list[dict[str, Any]]) -> dict[str, Any]:
    """What is in a checkpoint of the task as it is now.

    Args:
        task: its state is taken.
        generators: the random states of all ranks.
    """
    classes = {phase_type: class_names(dataset) for phase_type, dataset in task.datasets.items()}
    return {
        "input_args": None,
        "classy_state_dict": task.get_classy_state(),
        "ray_classy": {
            "format": FORMAT,
            "rng": generators,
            "classes": {phase_type: names for phase_type, names in classes.items() if names is not None},
            "seed": task.seed,
            "world_size": get_world_size(),
        },
    }
