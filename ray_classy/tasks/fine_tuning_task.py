"""The task that trains from pretrained weights."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from ray_classy.checkpoint.content import Checkpoint
from ray_classy.errors import TaskError
from ray_classy.generic.checkpoint_util import read_and_broadcast
from ray_classy.models.weights import Weights, load_weights, read_weights, weights_of
from ray_classy.models.weights_report import WeightsReport
from ray_classy.tasks import classes, freezing
from ray_classy.tasks.classification_task import ClassificationTask
from ray_classy.tasks.classy_task import register_task
from ray_classy.tasks.dry_run import DryRun
from ray_classy.tasks.option import option
from ray_classy.tasks.preparation import log_weights
from ray_classy.tasks.starting_weights import trying_weights


@register_task("fine_tuning")
class FineTuningTask(ClassificationTask):
    """Trains a model from pretrained weights, optionally with new heads or frozen parameters.

    Attributes:
        pretrained_checkpoint_path: file, folder, run or checkpoint with the weights to load; see `read_weights`.
        pretrained_checkpoint_dict: its content, if that was set instead.
        pretrained_checkpoint_key: where in the file the weights are, with dots ("model_ema"); None looks at the usual
            places.
        pretrained_checkpoint_load_strict: whether it must have exactly the weights of the model.
        reset_heads: whether the heads start from new weights.
        freeze_trunk: whether only the heads are trained; the batch-norm statistics of the trunk do not change.
        freeze: shell patterns for the names of further parameters that are not trained.
    """

    pretrained_checkpoint_path: str | None = option(None, key="pretrained_checkpoint")
    pretrained_checkpoint_key: str | None = option(None)
    pretrained_checkpoint_load_strict: bool = option(True)
    reset_heads: bool = option(False)
    freeze_trunk: bool = option(False)
    freeze: list[str] = option([], freezing.check_patterns)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pretrained_checkpoint_dict: dict[str, Any] | None = None
        self._pretrained: Weights | None = None  # read by the dry run
        self._frozen: list[nn.Parameter] = []  # by this task

    def set_pretrained_checkpoint(self, checkpoint_path: str) -> FineTuningTask:
        """Sets the weights to load: any file, folder, run or checkpoint that `read_weights` reads."""
        self.pretrained_checkpoint_path, self.pretrained_checkpoint_dict = checkpoint_path, None
        self._pretrained = None
        return self

    def _set_pretrained_checkpoint_dict(self, checkpoint_dict: dict[str, Any] | None) -> FineTuningTask:
        """Sets the content of the checkpoint with the weights to load."""
        self.pretrained_checkpoint_dict, self._pretrained = checkpoint_dict, None
        return self

    def set_pretrained_checkpoint_key(self, key: str | None) -> FineTuningTask:
        """Sets where in the file the weights are, with dots: "model_ema"."""
        self.pretrained_checkpoint_key, self._pretrained = key, None
        return self

    def set_pretrained_checkpoint_load_strict(self, pretrained_checkpoint_load_strict: bool) -> FineTuningTask:
        """Sets whether the pretrained checkpoint must have exactly the weights of the model."""
        self.pretrained_checkpoint_load_strict = pretrained_checkpoint_load_strict
        return self

    def set_reset_heads(self, reset_heads: bool) -> FineTuningTask:
        """Sets whether the heads start from new weights."""
        self.reset_heads = reset_heads
        return self

    def set_freeze_trunk(self, freeze_trunk: bool) -> FineTuningTask:
        """Sets whether only the heads are trained."""
        self.freeze_trunk = freeze_trunk
        return self

    def set_freeze(self, patterns: list[str]) -> FineTuningTask:
        """Sets which parameters are not trained, in addition to a frozen trunk.

        Args:
            patterns: shell patterns for dotted names: `["initial_block.*", "blocks.[01].*"]`. Modules all of whose
                parameters are frozen stay in eval mode, so that their batch-norm statistics do not change.

        Raises:
            ComponentError: it is not a list of patterns.
        """
        self.freeze = patterns
        return self

    def check_frozen(self) -> None:
        """Checks what the patterns match, before anything is started.

        Raises:
            TaskError: a pattern matches nothing, or nothing is left to train.
        """
        self._thaw()
        freezing.parameters_to_freeze(self.base_model, self.freeze_trunk, self.freeze)

    def _before_prepare(self) -> None:
        super()._before_prepare()
        self._thaw()  # the optimizer's groups are the same each time, and other options may be set by now

    def preflight(
        self, world_size: int = 1, on_gpu: bool | None = None, resume: Checkpoint | None = None
    ) -> dict[str, DryRun]:
        """As for every classification task; also looks up what is to be frozen."""
        try:
            seen = super().preflight(world_size, on_gpu, resume)
        finally:
            self._thaw()
        self.check_frozen()
        return seen

    def _content_to_start_from(self) -> tuple[dict[str, Any] | None, str | None]:
        content, path = super()._content_to_start_from()
        if content is not None or self._starts_from_model:
            return content, path
        self._pretrained = self._read_pretrained()
        return (None, None) if self.reset_heads else ({"ray_classy": self._pretrained.record}, self._pretrained.source)

    def _check_weights(self) -> None:
        super()._check_weights()
        if self.checkpoint_dict is None and not self._starts_from_model:
            with trying_weights(self) as model:
                self.weights_report = self._load_pretrained(model)

    def _load_pretrained(self, model: Any) -> WeightsReport:
        strict = self.pretrained_checkpoint_load_strict
        return load_weights(model, self._read_pretrained(), self.reset_heads, strict)

    def _load_weights(self) -> None:
        super()._load_weights()
        if not self.loaded_checkpoint and not self._starts_from_model:
            self._pretrained = self._read_pretrained()
            if not self.reset_heads:
                classes.match_classes(self, {"ray_classy": self._pretrained.record}, self._pretrained.source)
            self.weights_report = self._load_pretrained(self.base_model)
            log_weights(self)
        self._pretrained = None  # read again if the task is prepared again
        self._freeze()

    @property
    def _starts_from_model(self) -> bool:
        """Whether the weights to start from are those that the config of the model names."""
        source = self.base_model.starting_weights if self.base_model is not None else None
        given = self.pretrained_checkpoint_path is not None or self.pretrained_checkpoint_dict is not None
        if source is not None and given:
            raise TaskError(f"pretrained_checkpoint is set, and the model starts from {source.name}: leave out one")
        return source is not None

    def _freeze(self) -> None:
        self._thaw()
        self._frozen = freezing.parameters_to_freeze(self.base_model, self.freeze_trunk, self.freeze)
        for parameter in self._frozen:
            parameter.requires_grad = False
            parameter.grad = None  # an optimizer leaves a parameter without one alone, also its weight decay

    def _thaw(self) -> None:
        for parameter in self._frozen:
            parameter.requires_grad = True
        self._frozen = []

    def _read_pretrained(self) -> Weights:
        """Returns the weights to start from, on every rank; the primary rank reads them.

        Raises:
            TaskError: none are set.
            CheckpointError: they cannot be read; every rank raises it.
        """
        content, path, key = (
            self.pretrained_checkpoint_dict,
            self.pretrained_checkpoint_path,
            self.pretrained_checkpoint_key,
        )
        if self._pretrained is not None:
            return self._pretrained
        if content is not None:
            return weights_of(content, path or "the pretrained weights", key)
        if path is None:
            raise TaskError(
                "a fine-tuning task needs weights to start from: set pretrained_checkpoint "
                "(set_pretrained_checkpoint) to a file of weights, a folder with one, a run or a checkpoint; or use a "
                "model that names them (`model: {name: torchvision, model: resnet18, weights: DEFAULT}`)"
            )
        return read_and_broadcast(path, partial(read_weights, key=key))

    def _set_model_train_mode(self) -> None:
        super()._set_model_train_mode()
        if self.train:
            freezing.set_eval_where_frozen(self.base_model, self.freeze_trunk, self._frozen)
