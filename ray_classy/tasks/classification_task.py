"""The task that trains and evaluates a classifier."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import nn

from ray_classy.dataset import ClassyDataset
from ray_classy.dataset.loader import PhaseLoader
from ray_classy.distributed import barrier, timed_exchange
from ray_classy.errors import TaskError
from ray_classy.losses.loss_weight import ignores_rows, unlabelled, weight_of
from ray_classy.meters import sync_meters
from ray_classy.optim import ClassyOptimizer
from ray_classy.optim.trained_parameters import trained_parameters
from ray_classy.tasks import phase_state, preparation, sharding, task_state
from ray_classy.tasks.classy_task import register_task
from ray_classy.tasks.device_options import DeviceSetup, memory_remedy, raise_explained
from ray_classy.tasks.loss_log import LastBatchInfo, LossCurve, LossLog
from ray_classy.tasks.micro_batches import eval_output, train_in_parts
from ray_classy.tasks.phases import where_of
from ray_classy.tasks.planned_task import PlannedTask
from ray_classy.tasks.precision import AmpType, autocast
from ray_classy.tasks.replicas import BatchNormSyncMode, BroadcastBuffersMode
from ray_classy.tasks.samples import detached, next_sample, record, rows_consumed, rows_count_alike
from ray_classy.tasks.update_step import UpdateStep
from ray_classy.tasks.user_calls import call

__all__ = ["AmpType", "BatchNormSyncMode", "BroadcastBuffersMode", "ClassificationTask", "LastBatchInfo"]


@register_task("classification_task")
class ClassificationTask(PlannedTask):
    """Trains a classifier in alternating train and test phases.

    Its parts and options are set by `from_config` or by setters; see the base classes for the other attributes.

    Attributes:
        distributed_model: the model in DistributedDataParallel, or sharded across ranks; None in a single process.
        dataloader: dataloader of the current phase.
        losses: losses of the current phase's steps; averaged over the ranks at the end of the phase.
        last_batch: batch of the last step, on its device; None before the first and after the last step of a phase.
        optimizer_period: train steps per optimizer update.
        device: device of the model; available after `prepare()`.
        device_setup: how the model computes there; available after `prepare()`.
    """

    losses: Any = LossCurve()

    def __init__(self) -> None:
        super().__init__()
        self.phases: list[dict[str, bool]] = []
        self.distributed_model: nn.Module | None = None
        self.distributed_loss: nn.Module | None = None
        self._sharded: sharding.ShardedModel | None = None
        self.dataloader: Any = None
        self.perf_log: list[dict[str, Any]] = []
        self.last_batch: LastBatchInfo | None = None
        self.optimizer_period = 1
        self.device = torch.device("cpu")
        self.device_setup = DeviceSetup()
        self.update_step = UpdateStep()
        self._loss_weight: torch.Tensor | None = None  # of the current step
        self._rows_count_alike, self._ignores_rows = False, True  # in the loss of the current phase, or may do so
        self._updates_before_phase, self._eval_steps, self._phase_began = 0, 0, 0.0
        self._rows_per_step = 0  # global batch size of the current phase; 0 where `advance_phase` is a user's
        self._in_phase: dict[str, Any] | None = None  # state of the unfinished phase in a checkpoint
        self._consumed = self._steps_before = 0  # rows and steps of the current phase before it was resumed

    @property
    def model(self) -> Any:
        """The model; in train phases on several processes, wrapped for distributed training."""
        return self.distributed_model if self.distributed_model is not None and self.train else self.base_model

    @property
    def loss(self) -> Any:
        """The loss; if it has parameters, wrapped like the model."""
        return self.distributed_loss if self.distributed_loss is not None and self.train else self.base_loss

    @property
    def amp_grad_scaler(self) -> torch.amp.GradScaler | None:
        """Scales losses of mixed precision with float16; None if there is none."""
        return self.update_step.scaler

    @property
    def num_batches_per_phase(self) -> int:
        """Number of steps of this rank in the current phase."""
        return self._steps_before + len(self.data_iterator)

    @property
    def where(self) -> float:
        """Progress of the training: finished train phases plus the part of the current one, over all train phases.

        It is below 1 in every train step, and does not change in test phases. In a test-only run it is the progress of
        the evaluation.

        Raises:
            TaskError: the current phase has no batches.
        """
        test_only = self.test_only
        index = self.phase_idx if test_only else self.train_phase_idx
        total = self.get_total_test_phases() if test_only else self.get_total_training_phases()
        in_phase = self.train != test_only and self.data_iterator is not None  # in one that counts
        steps = self.num_batches_per_phase if in_phase else 0
        if steps:
            return where_of(index, total, self.steps_in_phase, steps)
        if in_phase and self.train:
            raise TaskError("the train phase has no batches")
        return where_of(index + 1, total)  # also on a rank without test rows, where there are more ranks than rows

    @property
    def steps_in_phase(self) -> int:
        """Steps made in the current phase, including those before an interruption."""
        return self._steps_before + self._steps_made

    @property
    def _steps_made(self) -> int:
        """Steps that this process made; train steps are counted by `num_updates`, as any `train_step` does."""
        if not self.train:
            return self._eval_steps
        return (self.num_updates - self._updates_before_phase) // (self._rows_per_step or self.get_global_batchsize())

    def prepare(self) -> None:  # type: ignore[override]  # the base's arguments are for tasks with loaders of their own
        """Builds what derives from the parts, loads the checkpoint, and wraps the model for distributed training.

        Raises:
            TaskError: a part is missing, or the options do not go together.
            CheckpointError: the checkpoint is missing, damaged or does not fit.
        """
        preparation.prepare(self)

    def prepare_optimizer(self, optimizer: ClassyOptimizer, model: nn.Module, loss: nn.Module | None = None) -> None:
        """Gives the optimizer two parameter groups: batch-norm parameters last, by default without weight decay."""
        trained = trained_parameters(model, loss)
        optimizer.set_param_groups(optimizer.make_groups(trained, self.optimizer_schedulers, self.bn_weight_decay))

    def _load_weights(self) -> None:
        """Loads the checkpoint, if one is set, and releases its content unless the user set it."""
        preparation.load_weights(self)

    def init_distributed_data_parallel_model(self) -> None:
        """Wraps the model, and a loss with parameters, in DistributedDataParallel on more than one process.

        Each train phase has a new wrapper, because a wrapper rebuilds its gradient buckets after its first step. That
        changes the order in which three or more ranks add up gradients, and so the last bits of the weights: a resumed
        run, which starts at a phase with a new wrapper, would differ from an uninterrupted one.
        """
        if not self.test_only:
            self.distributed_model = self.distributed_loss = None  # before there is another
            self.distributed_model = self.distributed_options.wrap(self.base_model, self.device)
            self.distributed_loss = self.distributed_options.wrap(self.base_loss, self.device)

    # -- phases -------------------------------------------------------------------------------------------------------

    def advance_phase(self) -> None:
        """Advances to the next phase: counters, meters, losses, data, and the mode of the model."""
        for meter in self.meters:
            meter.reset()
        self.losses = LossLog()
        self.phase_idx += 1
        self.train = self.phases[self.phase_idx]["train"]
        self.train_phase_idx += self.train
        self._updates_before_phase, self._eval_steps = self.num_updates, 0
        unfinished, self._in_phase = self._in_phase, None
        self._consumed, self._steps_before = (0 if unfinished is None else unfinished["rows"]), 0
        self.build_dataloaders_for_current_phase()
        self.create_data_iterators()
        self._rows_per_step = self.get_global_batchsize()
        if unfinished is not None:
            group = self._rows_per_step * self.optimizer_period
            self._steps_before = round(unfinished["rows"] / group) * self.optimizer_period
            phase_state.restore(self, unfinished)
        self._rows_count_alike, self._ignores_rows = rows_count_alike(self), ignores_rows(self.base_loss)
        sharding.unshard(self)
        self._set_model_train_mode()
        self.device_setup.phase_started(self)
        if not self.train:
            self.distributed_options.share_buffers(self.base_model)
        elif self.distributed_model is not None:
            self.init_distributed_data_parallel_model()
        else:
            sharding.shard(self)

    def build_dataloader_from_dataset(self, dataset: ClassyDataset, **kwargs: Any) -> Any:
        """Builds a dataloader over a dataset for the current phase.

        Args:
            dataset: its `iterator` builds the dataloader.
            kwargs: passed to `iterator`.
        """
        if self._consumed:
            kwargs = {"start": self._consumed, **kwargs}
        loader = dataset.iterator(
            phase_type=self.phase_type,
            current_phase_id=self.train_phase_idx if self.train else 0,
            seed=self.seed,
            pin_memory=self.device.type == "cuda",
            multiprocessing_context=self.dataloader_mp_context,
            **kwargs,
        )
        if isinstance(loader, PhaseLoader):
            loader.device = self.device
        return loader

    def build_dataloaders_for_current_phase(self) -> None:
        """Builds the dataloader of the current phase."""
        self.dataloader = self.build_dataloader_from_dataset(self.datasets[self.phase_type])

    def create_data_iterators(self) -> None:
        """Creates the iterator over the current phase's dataloader."""
        self.data_iterator = iter(self.dataloader)

    def _set_model_train_mode(self) -> None:
        self.base_model.train(self.train)
        self.base_loss.train(self.train)

    # -- steps --------------------------------------------------------------------------------------------------------

    def compute_model(self, sample: dict[str, Any]) -> Any:
        """Runs the model on a batch, and returns its output."""
        return self.model(sample["input"])

    def compute_loss(self, model_output: Any, sample: dict[str, Any]) -> torch.Tensor:
        """Returns the loss of an output: a scalar, the mean over the rows of the batch or as `loss_weight` says."""
        return self.loss(model_output, sample["target"])

    def loss_weight(self, model_output: Any, sample: dict[str, Any]) -> torch.Tensor | None:
        """Returns what the mean of `compute_loss` divides by, a scalar; None if that is the number of rows."""
        return None if self._rows_count_alike else weight_of(self.base_loss, model_output, sample["target"])

    def update_meters(self, model_output: Any, sample: dict[str, Any]) -> None:
        """Updates every meter with the output of a step, on the device; rows that the loss ignores have target -1."""
        output, target = detached(model_output), detached(sample["target"])
        if self._ignores_rows:
            target = unlabelled(self.base_loss, target)
        for meter in self.meters:
            more = {key: sample[key] for key in getattr(meter, "sample_keys", ()) if key in sample}
            meter.update(output, target, is_train=self.train, **more)

    def step(self) -> None:
        """Trains or evaluates one batch, then calls the hooks; raises StopIteration when the phase has no more.

        Raises:
            TaskError: the model cannot be compiled; the message says what to set.
        """
        try:
            super().step()
        except Exception as error:
            raise_explained(error)
            raise

    def memory_remedy(self) -> str | None:
        """Returns which keys to set where memory ran out in the current step; None if there are none."""
        return memory_remedy(self)

    def train_step(self) -> None:
        """Trains on the next batch; raises StopIteration when the phase has no more."""
        self.last_batch = None
        sample, step_data = next_sample(self.data_iterator, self.device)
        target = sample["target"]
        if self.mixup_transform is not None:
            sample = call("mixup", self.mixup_transform, sample)
        sample = self.device_setup.arranged(sample)
        with torch.enable_grad(), timed_exchange():
            if self.device_setup.splits(sample):
                loss, output = train_in_parts(self, sample)
            else:
                loss, output = self._train_at_once(sample)
        self.num_train_steps += 1
        self.num_updates += self._rows_per_step or self.get_global_batchsize()
        self.last_batch = LastBatchInfo(loss.detach(), detached(output), target, sample, step_data)

    def _train_at_once(self, sample: dict[str, Any]) -> tuple[torch.Tensor, Any]:
        """Runs forward pass, backward pass and update for a whole batch; returns its loss and output."""
        with self.update_step.begin(self.model, self.optimizer, self._steps_made, len(self.data_iterator)):
            with autocast(self.precision, self.device), self.device_setup.recomputed(self):
                output = call("the model", self.compute_model, sample)
                loss = call("the loss", self.compute_loss, output, sample)
            loss, self._loss_weight = record(self, loss, output, sample)
            call("the optimizer", self.run_optimizer, loss)
        return loss, output

    def run_optimizer(self, loss: torch.Tensor) -> None:
        """Runs the backward pass of a train step; applies the optimizer where a group of accumulated steps ends."""
        step, steps = self._steps_made, len(self.data_iterator)
        reduction = "weighted" if self._loss_weight is not None else getattr(self.base_loss, "reduction", "mean")
        factor = self.update_step.loss_factor(step, steps, self.data_iterator, reduction)
        self.update_step.run(loss, self.optimizer, self.where, step, steps, factor, self._loss_weight)

    def eval_step(self) -> None:
        """Evaluates the next batch; raises StopIteration when the phase has no more."""
        self.last_batch = None
        sample, step_data = next_sample(self.data_iterator, self.device)
        sample = self.device_setup.arranged(sample)
        with torch.no_grad(), autocast(self.precision, self.device):
            output = call("the model", eval_output, self, sample)
            loss = call("the loss", self.compute_loss, output, sample)
            loss, self._loss_weight = record(self, loss, output, sample)
        self._eval_steps += 1
        self.last_batch = LastBatchInfo(loss, output, sample["target"], sample, step_data)

    def synchronize_losses(self) -> None:
        """Averages each step's loss over all ranks, by rows or by what the loss divides by."""
        self.losses.synchronize()

    def check_inf_nan(self, loss: Any = None) -> None:
        """Checks the losses of the current phase, which fetches them from the device.

        Args:
            loss: the loss of the current step, to be checked instead of those of the phase.

        Raises:
            FloatingPointError: a loss is infinite or not a number; the message names the step.
        """
        number = self.train_phase_idx if self.train else self.eval_phase_idx
        losses = self.losses
        if loss is not None:
            steps = self.steps_in_phase if self.data_iterator is not None else 0
            losses = LossLog([0.0] * steps + [torch.as_tensor(loss).item()])
        losses.check_finite(f"{self.phase_type} phase {number}")

    # -- what the trainer calls ---------------------------------------------------------------------------------------

    def on_start(self) -> None:
        """Starts the run: calls the hooks."""
        self.call_hooks("on_start")

    def on_phase_start(self) -> None:
        """Starts the next phase, then calls the hooks."""
        self._phase_began = time.perf_counter()
        self.advance_phase()
        self.call_hooks("on_phase_start")

    def on_phase_end(self) -> None:
        """Ends the phase: updates schedules, synchronizes losses and meters across ranks, then calls the hooks."""
        self.log_phase_end(self.phase_type)
        self.device_setup.phase_ended(self.phase_type)
        sharding.unshard(self)
        if self.train:
            self.optimizer.on_epoch(where=self.where)
        self.synchronize_losses()
        self.check_inf_nan()
        sync_meters(self.meters)
        barrier()
        self.call_hooks("on_phase_end")
        self.perf_log = []
        self.log_phase_end(f"{self.phase_type}_total")
        dataset = self.datasets[self.phase_type]
        if hasattr(dataset, "on_phase_end"):
            dataset.on_phase_end()

    def on_end(self) -> None:
        """Ends the run: calls the hooks."""
        self.call_hooks("on_end")

    def log_phase_end(self, tag: str) -> None:
        """Adds the current phase's speed to `perf_log`: rows per second of all ranks together."""
        seconds = max(time.perf_counter() - self._phase_began, 1e-9)
        known = rows_consumed(self.data_iterator)
        rows = self._steps_made * self.get_global_batchsize() if known is None else known
        self.perf_log.append({"tag": tag, "phase_idx": self.train_phase_idx, "im_per_sec": rows / seconds})

    # -- state --------------------------------------------------------------------------------------------------------

    @property
    def can_pause(self) -> bool:
        """Whether a checkpoint can be written now: a plan assigns the rows, and no gradients are pending."""
        return self.train and phase_state.can_pause(self, self._steps_made)

    def get_phase_state(self) -> dict[str, Any]:
        """Returns the state of the unfinished train phase: the entry `in_phase` of a checkpoint's state.

        Every rank must call it. It re-creates the wrapper of the model, as a run that resumes from the checkpoint does.
        """
        state = phase_state.phase_state(self)
        self.init_distributed_data_parallel_model()
        return state

    def get_classy_state(self, deep_copy: bool = False) -> dict[str, Any]:
        """Returns the state that a checkpoint keeps, which is the same for every strategy.

        With the strategies zero and fsdp every rank must call it, and tensors that were sharded are in host memory.

        Args:
            deep_copy: copy the tensors instead of sharing them with the live objects.
        """
        return task_state.get_state(self, deep_copy)

    def set_classy_state(self, state: dict[str, Any]) -> None:
        """Restores weights, counters and buffers. A test-only task restores the weights alone.

        Options such as the learning rate are not restored; the task's own schedules give them at the restored `where`.

        Raises:
            CheckpointError: the state does not fit the model or the optimizer.
        """
        task_state.set_state(self, state)
