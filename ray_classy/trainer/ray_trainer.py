"""Training on a Ray cluster."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
from collections.abc import Mapping
from typing import Any, Literal

import ray
import torch
from ray.train import CheckpointConfig, CheckpointUploadMode, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig

from ray_classy.config.ray_options import Ingest, RayOptions
from ray_classy.dataset.row_dataset import data_files, streamed
from ray_classy.distributed import check_single_process
from ray_classy.errors import ComponentError, RunStopped
from ray_classy.ingest.store_memory import warn_if_too_large
from ray_classy.ray_compat.train import given_name
from ray_classy.tasks import ClassyTask, check_task
from ray_classy.trainer.classy_trainer import ClassyTrainer
from ray_classy.trainer.interrupts import interruptible
from ray_classy.trainer.listener import Listener
from ray_classy.trainer.local_trainer import check_start
from ray_classy.trainer.logs import log_to_stderr, tail_log
from ray_classy.trainer.progress_file import ProgressFile
from ray_classy.trainer.ray_cluster import check_resources, check_room_for_pipelines, check_visible
from ray_classy.trainer.ray_config import RaySettings
from ray_classy.trainer.ray_fit import fit_run, ray_storage
from ray_classy.trainer.ray_worker import RayReporter
from ray_classy.trainer.result import Result
from ray_classy.trainer.retention import Retention
from ray_classy.trainer.run import Run
from ray_classy.trainer.run_display import RunDisplay, RunView, show_run
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.trainer.run_spec import RunSpec
from ray_classy.urls import parent


class RayTrainer(ClassyTrainer):
    """Trains on the workers of one `ray.train.torch.TorchTrainer`, whose rows come from Ray Data.

    An argument that is None is taken from the `ray` section of the task's config, if it has one.

    Args:
        scaling_config: how many workers, and what each gets; by default one worker with one CPU.
        run_config: Ray's; its name and storage path are those of the run folder.
        torch_config: Ray's settings of the process group.
        storage_path: the folder of runs, in place of the one in `run_config`; None is `runs` in the working directory.
        name: the run's name, in place of the one in `run_config`; None makes one from the time.
        resume: the folder of an earlier run to resume, in place of the other two.
        address: of the cluster; None takes RAY_ADDRESS, and without it starts a local Ray. A Ray that this process is
            connected to is used as it is.
        verbose: let Ray and the workers print.
        autoscaling: whether nodes are added to the cluster on demand: the run waits for resources that the cluster does
            not have yet.
        wait_for_resources_s: how long to wait for resources that others hold, or that are to be added, in seconds; by
            default 60.
        checkpoint_upload_mode: "ASYNC" writes checkpoints while training continues, "SYNC" waits for each (or Ray's
            `CheckpointUploadMode` of that name); None is "ASYNC".
        ingest: who makes the batches: "worker", "cluster" or "auto", or one of them for "train" and "test"; None is
            "auto" (docs/data.md).
        ingest_memory: bytes of batches of all workers that other CPUs may have ready in shared memory.

    Raises:
        ComponentError: there is no such mode.
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
        autoscaling: bool | None = None,
        wait_for_resources_s: float | None = None,
        checkpoint_upload_mode: Literal["ASYNC", "SYNC"] | CheckpointUploadMode | None = None,
        ingest: Ingest | Mapping[str, Ingest] | None = None,
        ingest_memory: int | None = None,
    ) -> None:
        self.scaling_config = scaling_config
        self.run_config = run_config
        self.torch_config = torch_config
        self.storage_path = storage_path
        self.name = name
        self.resume = resume
        self.address = address
        self.verbose = verbose
        self.autoscaling = autoscaling
        self.wait_for_resources_s = wait_for_resources_s
        self.ingest = ingest
        self.ingest_memory = ingest_memory
        self.checkpoint_upload_mode = getattr(checkpoint_upload_mode, "value", checkpoint_upload_mode)
        if self.checkpoint_upload_mode not in ("ASYNC", "SYNC", None):
            raise ComponentError(
                f"checkpoint_upload_mode must be 'ASYNC' or 'SYNC', not {self.checkpoint_upload_mode!r}: checkpoints "
                f"are written to their place at once"
            )

    def train(self, task: ClassyTask) -> Result:
        """Trains the task to its end on the cluster; the caller's task holds the final state afterwards.

        Raises:
            RayClassyError: the task, its data, the run folder or the cluster cannot be used; nothing was trained.
            FloatingPointError: the loss became infinite or not a number.
            RunError: training failed on a worker; the message has the worker's traceback.
            RunStopped: Ctrl-C was pressed, and a checkpoint is written. (At the second Ctrl-C, KeyboardInterrupt.)
            RunTerminated: the same after SIGTERM or SIGHUP.
        """
        check_task(task)
        settings = self.settings((task.built_from or {}).get("ray"))
        return self.run(task, RunSpec.of_task(task, ray=settings, **self.place(settings.run_config)))

    def settings(self, section: Mapping[str, Any] | None) -> RaySettings:
        """The trainer's arguments, completed from the `ray` section of a config.

        Raises:
            ComponentError: Ray refuses an option, or the options do not go together.
        """
        return RaySettings.of(
            RayOptions.of(section),
            self.scaling_config,
            self.run_config,
            self.torch_config,
            address=self.address,
            upload_mode=self.checkpoint_upload_mode,
            autoscaling=self.autoscaling,
            wait_for_resources_s=self.wait_for_resources_s,
            ingest=self.ingest,
            ingest_memory=self.ingest_memory,
            verbose=self.verbose,
        )

    def place(self, run_config: RunConfig) -> dict[str, Any]:
        """Where the run is kept, and which checkpoints: what a `RunSpec` takes of these arguments."""
        return {
            "storage_path": self.storage_path or run_config.storage_path,
            "name": self.name or given_name(run_config),
            "resume": self.resume,
            "filesystem": run_config.storage_filesystem,
            "retention": Retention.of(run_config.checkpoint_config),
        }

    def run(self, task: ClassyTask, spec: RunSpec) -> Result:
        """Trains the task as a spec describes it; what `train` does with the trainer's own arguments."""
        settings = spec.ray
        assert isinstance(settings, RaySettings), "the spec of a run on Ray has Ray's settings"
        check_single_process(type(self).__name__)
        with show_run(task, here=False) as view:
            view.working("checking the data, the model and the checkpoint")
            check_start(task, spec)
            with interruptible(), log_to_stderr(displayed=view.displayed):
                view.working(_connecting(settings), line=True)
                with settings.connected():
                    if not settings.autoscaling:
                        check_room_for_pipelines(settings.scaling, streamed(task.datasets))
                    view.working("looking for free resources")
                    check_resources(settings.scaling, settings.wait_for_resources_s, settings.autoscaling)
                    warn_if_too_large(dict(task.datasets), ray.cluster_resources().get("object_store_memory", 0.0))
                    with Run.of_task(task, spec) as run:
                        answer = self._fit(task, spec, settings, run.folder, view)
        _set_final_state(task, run.folder, answer)
        return run.result()

    def _fit(
        self, task: ClassyTask, spec: RunSpec, settings: RaySettings, folder: RunFolder, view: RunView
    ) -> dict[str, Any]:
        check_visible(folder.path, data_files(task.datasets.values()))
        listeners: list[Listener] = [RayReporter()]
        with contextlib.ExitStack() as stack:
            stack.enter_context(tail_log(folder, displayed=view.displayed, heard=view.heard))
            stack.enter_context(interruptible())
            if isinstance(view, RunDisplay):
                listeners.append(ProgressFile())
                stack.enter_context(view.following(folder))
            run_config = _in_folder(settings.run_config, folder)
            answer = fit_run(task, folder, settings, run_config, spec.retention, listeners, view)
        if "stopped" in answer:
            raise RunStopped(answer["stopped"])
        return answer


def _connecting(settings: RaySettings) -> str:
    if ray.is_initialized():
        return "using the connection to Ray"
    address = settings.address or os.environ.get("RAY_ADDRESS")
    return f"connecting to Ray at {address}" if address else "starting a local Ray"


def _in_folder(config: RunConfig, run: RunFolder) -> RunConfig:
    """Ray's settings with the run's folder as Ray's own; the session removes checkpoints, Ray none."""
    config = dataclasses.replace(config, checkpoint_config=CheckpointConfig())
    path, filesystem = ray_storage(parent(run.path.rstrip("/")), run.storage.filesystem)
    return dataclasses.replace(config, name=run.name, storage_path=path, storage_filesystem=filesystem)


def _set_final_state(task: ClassyTask, folder: RunFolder, answer: Mapping[str, Any]) -> None:
    """Gives the caller's task the state that the workers' tasks ended with."""
    names = folder.checkpoints.names()
    if task.test_only:
        task.set_evaluation_state(torch.load(io.BytesIO(answer["evaluation"]), weights_only=True))
    elif names:
        task.set_classy_state(folder.checkpoints.load(names[-1])["classy_state_dict"])
        task.stopped_early = folder.metrics.stopped_early()
