"""Training on a Ray cluster."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import ray
from ray.train import CheckpointConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from ray_classy.dataset.rows import ItemRows, ParquetRows, RowDataset
from ray_classy.errors import ComponentError, RayClassyError, RunError
from ray_classy.ingest.ray_ingest import AwayRows, PlannedShards, ray_dataset
from ray_classy.tasks import ClassyTask
from ray_classy.trainer.classy_trainer import ClassyTrainer
from ray_classy.trainer.local_trainer import opened_run, result_of
from ray_classy.trainer.logs import followed, shown
from ray_classy.trainer.preflight import preflight
from ray_classy.trainer.ray_cluster import check_resources, check_visible, connected
from ray_classy.trainer.ray_worker import train_on_worker
from ray_classy.trainer.result import Result
from ray_classy.trainer.run_folder import DEFAULT_STORAGE_PATH, RunFolder
from ray_classy.trainer.shipping import own_folders, pickled


class RayTrainer(ClassyTrainer):
    """Trains on the workers of one `ray.train.torch.TorchTrainer`, whose rows come from Ray Data.

    Args:
        scaling_config: how many workers, and what each gets; None is one worker with one CPU.
        run_config: Ray's; its name and storage path are those of the run folder.
        torch_config: Ray's settings of the process group.
        storage_path: the folder of runs, in place of the one in `run_config`; None is `runs` in the working directory.
        name: the run's name, in place of the one in `run_config`; None makes one from the time.
        resume: the folder of an earlier run to go on with, in place of the other two.
        address: of the cluster; None takes RAY_ADDRESS, and without it starts a local Ray. A Ray that this process is
            connected to is used as it is.
        verbose: let Ray and the workers print.
        wait_for_resources_s: how long to wait for resources that others hold, in seconds.
    """

    def __init__(
        self,
        scaling_config: ScalingConfig | None = None,
        run_config: RunConfig | None = None,
        torch_config: TorchConfig | None = None,
        *,
        storage_path: str | None = None,
        name: str | None = None,
        resume: str | None = None,
        address: str | None = None,
        verbose: bool = False,
        wait_for_resources_s: float = 60.0,
    ) -> None:
        self.scaling_config = scaling_config or ScalingConfig()
        self.run_config = run_config or RunConfig(storage_path=storage_path or DEFAULT_STORAGE_PATH)
        self.torch_config = torch_config
        self.storage_path = storage_path or self.run_config.storage_path
        # Ray names a run after the second it was made in, which two runs at once would share.
        named = self.run_config.name if not str(self.run_config.name).startswith("ray_train_run-") else None
        self.name = name or named
        self.resume = resume
        self.address = address
        self.verbose = verbose
        self.wait_for_resources_s = wait_for_resources_s
        if self.scaling_config.num_workers == 0:
            raise ComponentError("num_workers is 0; to train in this process use LocalTrainer (--local)")

    def train(self, task: ClassyTask) -> Result:
        """Trains the task to its end on the cluster; the caller's task holds the final state afterwards.

        Raises:
            RayClassyError: the task, its data, the run folder or the cluster cannot be used; before anything is trained.
            FloatingPointError: the loss became infinite or not a number.
            RunError: training failed on a worker; the message has the worker's traceback.
        """
        workers = self.scaling_config.num_workers
        world_size = workers[-1] if isinstance(workers, tuple) else workers
        preflight(task, world_size, bool(self.scaling_config.use_gpu))
        filesystem = self.run_config.storage_filesystem
        with opened_run(self.storage_path, self.name, self.resume, task, filesystem) as run:
            with shown(), connected(self.address, self.verbose):
                check_resources(self.scaling_config, self.wait_for_resources_s)
                check_visible(run.path, _data_files(task))
                with followed(run), _interrupt_handler_kept():
                    self._fit(task, run)
            _take_final_state(task, run)
            return result_of(run)

    def _fit(self, task: ClassyTask, run: RunFolder) -> None:
        shards, blob = _shards_and_task(task)
        job = {
            "task": ray.put(blob),
            "run": (run.path, self.run_config.storage_filesystem, run.token),
            "shards": sorted(shards),
            "cwd": os.getcwd(),
            "path": own_folders(),
        }
        trainer = TorchTrainer(
            train_on_worker,
            train_loop_config=job,
            torch_config=self.torch_config,
            scaling_config=self.scaling_config,
            run_config=self._run_config(run),
            datasets=shards,
            dataset_config=PlannedShards(),
        )
        try:
            trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise _cause(error) from None
        except ray.exceptions.RayActorError as error:
            raise RunError(f"Ray Train's controller died: {error}. Go on with --resume {run.path}") from None

    def _run_config(self, run: RunFolder) -> RunConfig:
        """Ray's settings for this run: its folder is where Ray keeps what it keeps."""
        config = dataclasses.replace(
            self.run_config, name=run.name, storage_path=os.path.dirname(run.path.rstrip("/")) or run.path
        )
        config.checkpoint_config = config.checkpoint_config or CheckpointConfig()
        return config


def _shards_and_task(task: ClassyTask) -> tuple[dict[str, Any], bytes]:
    """The datasets that Ray Data reads, by phase type, and the pickled task without their rows."""
    shards: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        for phase_type, dataset in getattr(task, "datasets", {}).items():
            read = ray_dataset(dataset)
            if read is not None:
                shards[phase_type] = read
                stack.enter_context(_rows_away(dataset.dataset))
        return shards, pickled(task)


@contextlib.contextmanager
def _rows_away(base: RowDataset) -> Iterator[None]:
    """Takes the rows out of a dataset while it is pickled."""
    rows = base.rows
    base.rows = AwayRows(len(rows))
    try:
        yield
    finally:
        base.rows = rows


def _data_files(task: ClassyTask) -> list[str]:
    """A path or two of each dataset, to see whether other nodes have them."""
    files: list[str] = []
    for dataset in getattr(task, "datasets", {}).values():
        rows = getattr(getattr(dataset, "dataset", None), "rows", None)
        if isinstance(rows, ItemRows) and "path" in rows.columns and len(rows):
            files += [str(rows.columns["path"][0])]
        elif isinstance(rows, ParquetRows):
            files += rows.files[:1]
    return files


def _take_final_state(task: ClassyTask, run: RunFolder) -> None:
    """Gives the caller's task what the workers' tasks ended with."""
    names = run.checkpoints()
    if names and not getattr(task, "test_only", False):
        task.set_classy_state(run.load_checkpoint(names[-1])["classy_state_dict"])


def _cause(error: Any) -> Exception:
    """The failure that came first, as the error that a training in this process would have raised."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", None) or {}
    if not failures:
        return RunError(f"Ray Train failed: {error}")
    unwrapped = {rank: _unwrapped(failure) for rank, failure in failures.items()}
    rank, (cause, trace) = min(unwrapped.items(), key=lambda item: (_is_consequence(item[1][0]), item[0]))
    if isinstance(cause, RayClassyError | FloatingPointError):
        return cause
    return RunError(f"training failed on rank {rank} of the workers:\n{trace.rstrip()}")


def _unwrapped(failure: Any) -> tuple[BaseException, str]:
    """A worker's exception and its traceback, out of what Ray wrapped it in."""
    cause = getattr(failure, "_base_exc", failure)
    trace = getattr(failure, "_traceback_str", None) or str(failure)
    inner = getattr(cause, "cause", None)
    return (inner if isinstance(inner, BaseException) else cause), trace


def _is_consequence(error: BaseException) -> bool:
    """Whether a rank failed only because another one was gone."""
    text = str(error).lower()
    return any(sign in text for sign in ("connection closed by peer", "connection reset", "gloo", "nccl"))


@contextlib.contextmanager
def _interrupt_handler_kept() -> Iterator[None]:
    """Puts back the handler of Ctrl-C, which Ray Train replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
