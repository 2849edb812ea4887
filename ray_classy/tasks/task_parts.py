"""What a classification task is made of, and the setters for it."""

from __future__ import annotations

from typing import Any, Self

from torch import nn

from ray_classy.checkpoint import CheckpointEvery
from ray_classy.dataset import ClassyDataset
from ray_classy.dataset.transforms.mixup import MixupTransform
from ray_classy.hooks import ClassyHook
from ray_classy.losses import ClassyLoss
from ray_classy.meters import ClassyMeter
from ray_classy.models import ClassyModel
from ray_classy.optim import ClassyOptimizer
from ray_classy.optim.param_scheduler import ParamScheduler
from ray_classy.tasks import arguments
from ray_classy.tasks.classy_task import ClassyTask
from ray_classy.tasks.precision import Precision
from ray_classy.tasks.replicas import BatchNormSyncMode, BroadcastBuffersMode, DistributedOptions, Strategy


class TaskParts(ClassyTask):
    """The parts and options of a `ClassificationTask`; setters return the task, so that they can be chained.

    Attributes:
        base_loss: the loss.
        datasets: phase type ("train", "test") to dataset.
        meters: what is measured in each phase.
        num_epochs: passes over the train dataset; of a test-only run, over the test dataset.
        base_model: the model, unwrapped; with the strategy fsdp, in train phases, its copy that is dealt to the ranks.
        optimizer: applied in train steps.
        optimizer_schedulers: option of the optimizer ("lr", ...) to its schedule.
        checkpoint_path: what `set_checkpoint` was given.
        checkpoint_dict: the content of the checkpoint to start from.
        clip_grad_norm: the largest gradient norm, or None.
        simulated_global_batchsize: batch size reached by accumulating gradients, or None.
        wanted_period: train steps per update that a trainer wants, whatever the simulated batch size; None if it does
            not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.base_loss: Any = None
        self.datasets: dict[str, ClassyDataset] = {}
        self.meters: list[ClassyMeter] = []
        self.num_epochs: int | float = 1
        self.test_phase_period = 1
        self.train_phases_per_epoch = 0
        self.base_model: Any = None
        self.optimizer: Any = None
        self.optimizer_schedulers: dict[str, ParamScheduler] = {}
        self.checkpoint_dict: dict[str, Any] | None = None
        self.checkpoint_path: str | None = None
        self.checkpoint_load_strict = True
        self.distributed_options = DistributedOptions()
        self.use_sharded_ddp = False
        self.clip_grad_norm: float | None = None
        self.simulated_global_batchsize: int | None = None
        self.wanted_period: int | None = None
        self.mixup_transform: MixupTransform | None = None
        self.amp_args: dict[str, Any] | None = None
        self.precision: Precision | None = None
        self.use_gpu: bool | None = None
        self.bn_weight_decay = False
        self.dataloader_mp_context: str | None = "spawn"

    def set_num_epochs(self, num_epochs: int | float) -> Self:
        """Sets how many passes over the train dataset are made; a part of one is rounded up to whole phases."""
        self.num_epochs = arguments.number_of_epochs(num_epochs)
        return self

    def set_test_phase_period(self, test_phase_period: int) -> Self:
        """Sets after how many train phases a test phase follows, at least 1."""
        self.test_phase_period = arguments.integer("test_phase_period", test_phase_period, 1)
        return self

    def set_dataset(self, dataset: ClassyDataset, phase_type: str) -> Self:
        """Sets the dataset of the "train" or the "test" phases; without a test dataset there are no test phases."""
        self.datasets[arguments.choice("phase_type", phase_type, ("train", "test"))] = dataset
        if phase_type == "train":
            self.train_phases_per_epoch = getattr(dataset, "phases_per_epoch", 1)
        return self

    def set_dataloader_mp_context(self, dataloader_mp_context: str | None) -> Self:
        """Sets how loading processes are started: "spawn", "fork", "forkserver", or None for the platform's way."""
        contexts = ("spawn", "fork", "forkserver", None)
        self.dataloader_mp_context = arguments.choice("dataloader_mp_context", dataloader_mp_context, contexts)
        return self

    def set_optimizer(self, optimizer: ClassyOptimizer) -> Self:
        """Sets the optimizer."""
        self.optimizer = optimizer
        return self

    def set_optimizer_schedulers(self, schedulers: dict[str, ParamScheduler]) -> Self:
        """Sets the schedules of the optimizer's options, by option."""
        self.optimizer_schedulers = schedulers
        return self

    def set_loss(self, loss: ClassyLoss | nn.Module) -> Self:
        """Sets the loss: a `ClassyLoss` or any `torch.nn` loss."""
        self.base_loss = loss
        return self

    def set_meters(self, meters: list[ClassyMeter]) -> Self:
        """Sets what is measured in each phase."""
        self.meters = meters
        return self

    def set_model(self, model: ClassyModel) -> Self:
        """Sets the model; a plain `torch.nn.Module` is wrapped by `ClassyModel.from_model`."""
        self.base_model = model if isinstance(model, ClassyModel) else ClassyModel.from_model(model)
        return self

    def set_hooks(self, hooks: list[ClassyHook]) -> Self:
        """Sets the hooks; checkpoint hooks go last, so that they see what the others changed.

        Raises:
            ComponentError: something in the list is no hook, or two hooks have one name.
        """
        self.hooks = arguments.ordered_hooks(hooks)
        return self

    def set_test_only(self, test_only: bool) -> Self:
        """Sets whether only test phases are run."""
        self.test_only = test_only
        return self

    def set_bn_weight_decay(self, bn_weight_decay: bool) -> Self:
        """Sets whether batch-norm parameters have weight decay."""
        self.bn_weight_decay = arguments.flag("bn_weight_decay", bn_weight_decay)
        return self

    def set_amp_args(self, amp_args: dict[str, Any] | None) -> Self:
        """Sets mixed precision: the arguments of `Precision`, or None for none.

        Raises:
            TaskError: apex is asked for.
        """
        self.precision = Precision.from_args(amp_args)
        self.amp_args = amp_args
        return self

    def set_mixup_transform(self, mixup_transform: MixupTransform | None) -> Self:
        """Sets the transform that mixes the rows of each training batch, or None."""
        self.mixup_transform = mixup_transform
        return self

    def set_clip_grad_norm(self, clip_grad_norm: float | None) -> Self:
        """Sets the largest L2 norm of all gradients together, or None not to clip."""
        self.clip_grad_norm = arguments.norm("clip_grad_norm", clip_grad_norm)
        return self

    def set_simulated_global_batchsize(self, simulated_global_batchsize: int | None) -> Self:
        """Sets the batch size that is reached by accumulating gradients, a multiple of the global one; None for no."""
        self.simulated_global_batchsize = simulated_global_batchsize
        self.wanted_period = None
        return self

    def set_checkpoint(self, checkpoint_path: str) -> Self:
        """Sets the checkpoint to start from: a file, or a folder with `checkpoint.torch`; read in `prepare`."""
        self.checkpoint_path, self.checkpoint_dict = checkpoint_path, None
        return self

    def _set_checkpoint_dict(self, checkpoint_dict: dict[str, Any] | None) -> Self:
        """Sets the content of a checkpoint to start from."""
        self.checkpoint_dict = checkpoint_dict
        return self

    def set_checkpoint_load_strict(self, checkpoint_load_strict: bool) -> Self:
        """Sets whether a checkpoint must have exactly the model's weights."""
        self.checkpoint_load_strict = checkpoint_load_strict
        return self

    def set_distributed_options(
        self,
        broadcast_buffers_mode: BroadcastBuffersMode = BroadcastBuffersMode.BEFORE_EVAL,
        batch_norm_sync_mode: BatchNormSyncMode = BatchNormSyncMode.DISABLED,
        batch_norm_sync_group_size: int = 0,
        find_unused_parameters: bool = False,
        bucket_cap_mb: int = 25,
        fp16_grad_compress: bool = False,
        strategy: Strategy = "ddp",
    ) -> Self:
        """Sets how the replicas of a run on several processes agree.

        Args:
            broadcast_buffers_mode: when buffers are copied from rank 0 to all.
            batch_norm_sync_mode: whether batch-norm statistics are taken over all replicas (needs GPUs).
            batch_norm_sync_group_size: must be 0; groups were apex's.
            find_unused_parameters: see `torch.nn.parallel.DistributedDataParallel`.
            bucket_cap_mb: the same, in MiB.
            fp16_grad_compress: exchange gradients as float16.
            strategy: what the ranks deal among them: "ddp" nothing, "zero" the optimizer's state, "fsdp" parameters and
                gradients as well.

        Raises:
            TaskError: apex is asked for.
            ComponentError: the options do not go together.
        """
        statistics = (broadcast_buffers_mode, batch_norm_sync_mode, batch_norm_sync_group_size)
        gradients = (find_unused_parameters, bucket_cap_mb, fp16_grad_compress)
        self.distributed_options = DistributedOptions(*statistics, *gradients, strategy)
        return self

    def set_use_sharded_ddp(self, use_sharded_ddp: bool) -> Self:
        """Sets whether the optimizer's state is dealt to the ranks: an old spelling of the strategy "zero"."""
        self.use_sharded_ddp = arguments.flag("use_sharded_ddp", use_sharded_ddp)
        return self

    def set_deterministic(self, deterministic: bool) -> Self:
        """Sets whether torch may only use algorithms that give the same bits every time."""
        self.deterministic = arguments.flag("deterministic", deterministic)
        return self

    def set_checkpoint_every(
        self, rounds: int | None = None, steps: int | None = None, minutes: float | None = 10.0
    ) -> Self:
        """Sets how often the run writes checkpoints: the arguments of `CheckpointEvery`."""
        self.checkpoint_every = CheckpointEvery(rounds, steps, minutes)
        return self

    def set_use_gpu(self, use_gpu: bool | None) -> Self:
        """Sets whether to train on a GPU; None takes one if the process has one."""
        self.use_gpu = use_gpu
        return self

    def set_seed(self, seed: int) -> Self:
        """Sets the seed of the order of rows, of their transforms and of draws on the device, at least 0."""
        self.seed = arguments.integer("seed", seed, 0)
        return self
