"""The parts and options of a classification task, with their setters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

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
from ray_classy.tasks.averaged_views import AveragedViews
from ray_classy.tasks.classy_task import ClassyTask
from ray_classy.tasks.compilation import Compilation
from ray_classy.tasks.image_size import check_schedule
from ray_classy.tasks.log_every import LogEvery
from ray_classy.tasks.option import SectionField, option, section_setter
from ray_classy.tasks.precision import AmpType, Precision
from ray_classy.tasks.replicas import DistributedOptions
from ray_classy.tasks.sharding import whole_model


def _start_method(name: str, value: Any) -> Any:
    return arguments.choice(name, value, ("spawn", "fork", "forkserver", None))


def _memory_format(name: str, value: Any) -> Any:
    return arguments.choice(name, value, ("auto", "channels_last", "contiguous"))


class TaskParts(ClassyTask):
    """The parts and options of a `ClassificationTask`; setters return the task, so that they can be chained.

    Options are declared here once: see `option`.

    Attributes:
        base_loss: the loss.
        datasets: dataset by phase type, "train" and "test".
        meters: measure each phase.
        test_phase_period: a test phase follows every so many train phases, at least 1.
        amp_args: mixed precision: the arguments of `Precision`; None for none.
        bn_weight_decay: whether batch-norm parameters have weight decay.
        use_sharded_ddp: whether the optimizer's state is sharded, as with the strategy "zero".
        dataloader_mp_context: start method of loading processes; None for the platform's default.
        checkpoint_load_strict: whether a checkpoint must have exactly the model's weights.
        num_epochs: passes over the train dataset; in a test-only run over the test dataset.
        base_model: the model, unwrapped; with the strategy fsdp, in train phases, its sharded copy.
        optimizer: applied in train steps.
        optimizer_schedulers: schedule by option of the optimizer ("lr", ...).
        checkpoint_path: checkpoint to start from: a file or folder; None to start without one.
        checkpoint_dict: its content, if that was set or read already; once it is loaded, None unless it was set by
            `_set_checkpoint_dict`, without a path.
        clip_grad_norm: largest L2 norm of all gradients together, above 0; None for no limit.
        simulated_global_batchsize: rows per optimizer update, reached by accumulating gradients; None for one step.
        mixup_transform: mixes the rows of each training batch; None for no mixing.
        image_size: schedule of the longer side of training images, in pixels; None for their own.
        test_time_augmentation: views of each image whose outputs are averaged in test phases.
        distributed_options: how several processes train together.
        compile: whether `torch.compile` compiles model and loss: true, false, or the arguments of `Compilation`.
        memory_format: order in memory of images and of the weights of convolutions: "contiguous", "channels_last", or
            "auto" for the faster of both.
        batch: most rows of a step that a replica computes at once, "auto" for as many as fit into its memory;
            None for all rows of the step.
        gradient_checkpointing: whether activations within blocks are computed again in the backward pass, which takes
            less memory and more time.
        tf32: whether GPUs may multiply float32 matrices with TensorFloat-32, which has 10 bits of precision; None for
            torch's defaults: in convolutions, and nowhere else.
        cudnn_benchmark: whether cuDNN measures which of its algorithms is the fastest for each new shape; None to leave
            torch's switch as it is.
    """

    num_epochs: int | float = option(1, arguments.epochs, required=True)
    test_only: bool = option(False, arguments.flag)
    test_phase_period: int = option(1, arguments.at_least(1))
    seed: int = option(0, arguments.at_least(0))
    deterministic: bool = option(False, arguments.flag)
    amp_args: dict[str, Any] | None = option(None, Precision.check_args)
    bn_weight_decay: bool = option(False, arguments.flag)
    clip_grad_norm: float | None = option(None, arguments.norm)
    simulated_global_batchsize: int | None = option(None)
    use_gpu: bool | None = option(None, arguments.flag_or_none)
    use_sharded_ddp: bool = option(False, arguments.flag)
    dataloader_mp_context: Literal["spawn", "fork", "forkserver"] | None = option("spawn", _start_method)
    test_time_augmentation: AveragedViews = option(AveragedViews())
    distributed_options: DistributedOptions = option(DistributedOptions(), key="distributed")
    checkpoint_path: str | None = option(None, key="checkpoint")
    checkpoint_every: CheckpointEvery = option(CheckpointEvery())
    checkpoint_load_strict: bool = option(True, arguments.flag)
    log_every: LogEvery = option(LogEvery())
    compile: bool | dict[str, Any] = option(False, Compilation.check_value)
    memory_format: Literal["auto", "channels_last", "contiguous"] = option("contiguous", _memory_format)
    batch: int | Literal["auto"] | None = option(None, arguments.rows_at_once)
    gradient_checkpointing: bool = option(False, arguments.flag)
    tf32: bool | None = option(None, arguments.flag_or_none)
    cudnn_benchmark: bool | None = option(None, arguments.flag_or_none)

    # fields of `distributed_options`, as Classy Vision named them
    broadcast_buffers_mode: Any = SectionField("distributed_options")
    batch_norm_sync_mode: Any = SectionField("distributed_options")
    find_unused_parameters: Any = SectionField("distributed_options")
    ddp_bucket_cap_mb: Any = SectionField("distributed_options", "bucket_cap_mb")
    fp16_grad_compress: Any = SectionField("distributed_options")

    def __init__(self) -> None:
        super().__init__()
        self.base_loss: Any = None
        self.datasets: dict[str, ClassyDataset] = {}
        self.meters: list[ClassyMeter] = []
        self.train_phases_per_epoch = 0
        self.optimizer: Any = None
        self.optimizer_schedulers: dict[str, ParamScheduler] = {}
        self.checkpoint_dict: dict[str, Any] | None = None
        self._kept_checkpoint_dict: dict[str, Any] | None = None  # the one to start from each time
        self.mixup_transform: MixupTransform | None = None
        self.image_size: ParamScheduler | None = None
        self._precision: tuple[Any, Precision | None] = (None, None)  # the arguments, and what they ask for
        self.balanced_loss: Mapping[str, Any] | None = None  # the config, if class weights of its loss are counted

    @property
    def precision(self) -> Precision | None:
        """Mixed precision, as `amp_args` asks for it; None for none."""
        amp_args = self.amp_args
        if self._precision[0] is not amp_args:  # each step asks
            self._precision = amp_args, Precision.from_args(amp_args)
        return self._precision[1]

    @property
    def compilation(self) -> Compilation | None:
        """How model and loss are compiled, as `compile` asks for it; None for not at all."""
        return Compilation.of(self.compile)

    @property
    def amp_type(self) -> AmpType | None:
        """The kind of mixed precision; None for none."""
        return None if self.precision is None else AmpType[self.precision.amp_type.upper()]

    def _parts(self) -> list[Any]:
        """The objects that a config builds."""
        singles = [whole_model(self), self.base_loss, self.optimizer, self.mixup_transform, self.image_size]
        schedules = [self.optimizer_schedulers[name] for name in sorted(self.optimizer_schedulers)]
        datasets = [self.datasets[name] for name in sorted(self.datasets)]
        return [*singles, *schedules, *datasets, *self.meters, *self.hooks]

    def set_num_epochs(self, num_epochs: int | float) -> Self:
        """Sets the number of passes over the train dataset; a fraction is rounded up to whole phases."""
        self.num_epochs = num_epochs
        return self

    def set_test_phase_period(self, test_phase_period: int) -> Self:
        """Sets after how many train phases, at least 1, a test phase follows."""
        self.test_phase_period = test_phase_period
        return self

    def set_dataset(self, dataset: ClassyDataset, phase_type: str) -> Self:
        """Sets the dataset of the "train" or the "test" phases; without a test dataset there are no test phases."""
        self.datasets[arguments.choice("phase_type", phase_type, ("train", "test"))] = dataset
        if phase_type == "train":
            self.train_phases_per_epoch = getattr(dataset, "phases_per_epoch", 1)
        return self

    def set_dataloader_mp_context(self, dataloader_mp_context: str | None) -> Self:
        """Sets how loading processes start: "spawn", "fork", "forkserver", or None for the platform's default."""
        self.dataloader_mp_context = dataloader_mp_context  # type: ignore[assignment]  # the option checks it
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
        """Sets the meters, which measure each phase."""
        self.meters = meters
        return self

    def set_model(self, model: ClassyModel) -> Self:
        """Sets the model; a plain `torch.nn.Module` is wrapped by `ClassyModel.from_model`."""
        self.base_model = model if isinstance(model, ClassyModel) else ClassyModel.from_model(model)
        return self

    def set_hooks(self, hooks: list[ClassyHook]) -> Self:
        """Sets the hooks; checkpoint hooks go last, so that they see what the others changed.

        Raises:
            ComponentError: something in the list is not a hook, or two hooks have the same name.
        """
        self.hooks = arguments.ordered_hooks(hooks)
        return self

    def set_test_only(self, test_only: bool) -> Self:
        """Sets whether only test phases are run."""
        self.test_only = test_only
        return self

    def set_bn_weight_decay(self, bn_weight_decay: bool) -> Self:
        """Sets whether batch-norm parameters have weight decay."""
        self.bn_weight_decay = bn_weight_decay
        return self

    def set_amp_args(self, amp_args: dict[str, Any] | None) -> Self:
        """Sets mixed precision: the arguments of `Precision`, or None for none.

        Raises:
            TaskError: apex is asked for.
        """
        self.amp_args = amp_args
        return self

    def set_mixup_transform(self, mixup_transform: MixupTransform | None) -> Self:
        """Sets the transform that mixes the rows of each training batch, or None."""
        self.mixup_transform = mixup_transform
        return self

    def set_image_size(self, image_size: ParamScheduler | None) -> Self:
        """Sets the schedule of the longer side of training images, evaluated at the start of each train phase.

        Raises:
            ComponentError: it is not a schedule, or one that needs the length of the training.
        """
        self.image_size = check_schedule(image_size)
        return self

    def set_clip_grad_norm(self, clip_grad_norm: float | None) -> Self:
        """Sets the largest L2 norm of all gradients together, or None to not clip."""
        self.clip_grad_norm = clip_grad_norm
        return self

    def set_simulated_global_batchsize(self, simulated_global_batchsize: int | None) -> Self:
        """Sets the rows per optimizer update, a multiple of the global batch size, by accumulating gradients."""
        self.simulated_global_batchsize = simulated_global_batchsize
        self.wanted_period = None
        return self

    def set_checkpoint(self, checkpoint_path: str) -> Self:
        """Sets the checkpoint to start from: a file, or a folder with `checkpoint.torch`; read in `prepare`."""
        self.checkpoint_path = checkpoint_path
        self.checkpoint_dict = self._kept_checkpoint_dict = None
        return self

    def _set_checkpoint_dict(self, checkpoint_dict: dict[str, Any] | None) -> Self:
        """Sets the content of a checkpoint to start from, each time the task is prepared.

        If a path is set as well, the next `prepare` releases the content, and a later one reads it at the path.
        """
        self.checkpoint_dict = checkpoint_dict
        self._kept_checkpoint_dict = checkpoint_dict if self.checkpoint_path is None else None
        return self

    def set_checkpoint_load_strict(self, checkpoint_load_strict: bool) -> Self:
        """Sets whether a checkpoint must have exactly the model's weights."""
        self.checkpoint_load_strict = checkpoint_load_strict
        return self

    set_distributed_options = section_setter(
        "distributed_options", DistributedOptions, "Sets how several processes train together, and returns the task."
    )

    set_test_time_augmentation = section_setter(
        "test_time_augmentation",
        AveragedViews,
        "Sets views whose outputs are averaged in test phases, and returns the task.",
    )

    def set_use_sharded_ddp(self, use_sharded_ddp: bool) -> Self:
        """Sets whether the optimizer's state is sharded: the predecessor's way to ask for the strategy "zero"."""
        self.use_sharded_ddp = use_sharded_ddp
        return self

    def set_deterministic(self, deterministic: bool) -> Self:
        """Sets whether torch may only use algorithms that give the same bits every time."""
        self.deterministic = deterministic
        return self

    set_checkpoint_every = section_setter(
        "checkpoint_every", CheckpointEvery, "Sets how often the run writes checkpoints, and returns the task."
    )

    set_log_every = section_setter(
        "log_every", LogEvery, "Sets how often the run logs its progress inside a phase, and returns the task."
    )

    def set_compile(self, compile: bool | dict[str, Any]) -> Self:
        """Sets whether `torch.compile` compiles model and loss: true, false, or the arguments of `Compilation`."""
        self.compile = compile
        return self

    def set_memory_format(self, memory_format: Literal["auto", "channels_last", "contiguous"]) -> Self:
        """Sets the order in memory of images and of the weights of convolutions; "auto" finds the faster one."""
        self.memory_format = memory_format
        return self

    def set_batch(self, batch: int | Literal["auto"] | None) -> Self:
        """Sets the most rows of a step that a replica computes at once: a number, "auto", or None for all."""
        self.batch = batch
        return self

    def set_gradient_checkpointing(self, gradient_checkpointing: bool) -> Self:
        """Sets whether activations within blocks are computed again in the backward pass."""
        self.gradient_checkpointing = gradient_checkpointing
        return self

    def set_tf32(self, tf32: bool | None) -> Self:
        """Sets whether GPUs may multiply float32 matrices with TensorFloat-32; None for torch's defaults."""
        self.tf32 = tf32
        return self

    def set_cudnn_benchmark(self, cudnn_benchmark: bool | None) -> Self:
        """Sets whether cuDNN measures which of its algorithms is fastest; None to leave torch's switch as it is."""
        self.cudnn_benchmark = cudnn_benchmark
        return self

    def set_use_gpu(self, use_gpu: bool | None) -> Self:
        """Sets whether to train on a GPU; None to use one if the process has one."""
        self.use_gpu = use_gpu
        return self

    def set_seed(self, seed: int) -> Self:
        """Sets the seed, at least 0, of the order of rows, of transforms, and of random numbers in the model."""
        self.seed = seed
        return self
