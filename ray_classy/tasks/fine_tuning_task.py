"""The task that goes on from a trained model."""

from __future__ import annotations

from typing import Any

from torch import nn

from ray_classy.errors import TaskError
from ray_classy.registry import Key, Keys
from ray_classy.tasks import freezing, task_config, task_state
from ray_classy.tasks.classification_task import ClassificationTask
from ray_classy.tasks.classy_task import register_task


@register_task("fine_tuning")
class FineTuningTask(ClassificationTask):
    """Trains a model from pretrained weights, with new heads or a frozen trunk if so asked.

    Attributes:
        pretrained_checkpoint_path: the checkpoint whose model is taken up.
        pretrained_checkpoint_dict: its content.
        pretrained_checkpoint_load_strict: whether it must have exactly the model's weights.
        reset_heads: keep the heads' fresh weights.
        freeze_trunk: train the heads alone; the trunk's batch-norm statistics stay as they are.
        freeze: patterns of the names of further parameters that are not trained.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pretrained_checkpoint_path: str | None = None
        self.pretrained_checkpoint_dict: dict[str, Any] | None = None
        self.pretrained_checkpoint_load_strict = True
        self.reset_heads = False
        self.freeze_trunk = False
        self.freeze: list[str] = []
        self._frozen: list[nn.Parameter] = []  # those that this task froze

    @classmethod
    def config_keys(cls) -> Keys:
        """The keys of the task's config."""
        return {
            **super().config_keys(),
            "pretrained_checkpoint": Key(str | None, None),
            "pretrained_checkpoint_load_strict": Key(bool, True),
            "reset_heads": Key(bool, False),
            "freeze_trunk": Key(bool, False),
            "freeze": Key(list[str], []),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FineTuningTask:
        """Builds the task and all its parts from a config.

        Args:
            config: the keys of `config_keys`; it is not written to.
        """
        task: FineTuningTask = task_config.configure(cls(), config)
        if config.get("pretrained_checkpoint") is not None:
            task.set_pretrained_checkpoint(config["pretrained_checkpoint"])
        task.set_pretrained_checkpoint_load_strict(config.get("pretrained_checkpoint_load_strict", True))
        task.set_reset_heads(config.get("reset_heads", False))
        return task.set_freeze_trunk(config.get("freeze_trunk", False)).set_freeze(config.get("freeze", []))

    def set_pretrained_checkpoint(self, checkpoint_path: str) -> FineTuningTask:
        """Sets the weights that are taken up: a checkpoint (a file, or a folder with `checkpoint.torch`), or a file
        with nothing but a state dict (of `torch.save`, or `.safetensors`).
        """
        self.pretrained_checkpoint_path, self.pretrained_checkpoint_dict = checkpoint_path, None
        return self

    def _set_pretrained_checkpoint_dict(self, checkpoint_dict: dict[str, Any] | None) -> FineTuningTask:
        """Sets the content of the checkpoint whose model is taken up."""
        self.pretrained_checkpoint_dict = checkpoint_dict
        return self

    def set_pretrained_checkpoint_load_strict(self, load_strict: bool) -> FineTuningTask:
        """Sets whether the pretrained checkpoint must have exactly the model's weights."""
        self.pretrained_checkpoint_load_strict = load_strict
        return self

    def set_reset_heads(self, reset_heads: bool) -> FineTuningTask:
        """Sets whether the heads keep their fresh weights."""
        self.reset_heads = reset_heads
        return self

    def set_freeze_trunk(self, freeze_trunk: bool) -> FineTuningTask:
        """Sets whether only the heads are trained."""
        self.freeze_trunk = freeze_trunk
        return self

    def set_freeze(self, patterns: list[str]) -> FineTuningTask:
        """Sets which parameters are not trained, besides a frozen trunk.

        Args:
            patterns: as of a shell, for their dotted names: `["initial_block.*", "blocks.[01].*"]`. Modules all of
                whose parameters are frozen stay in eval mode, so that their batch-norm statistics stay as they are.

        Raises:
            ComponentError: it is no list of patterns.
        """
        self.freeze = freezing.as_patterns(patterns)
        return self

    def check_frozen(self) -> None:
        """Looks for what the patterns match, before anything is started.

        Raises:
            TaskError: a pattern matches nothing, or nothing is left to train.
        """
        self._thaw()
        freezing.parameters_to_freeze(self.base_model, self.freeze_trunk, self.freeze)

    def prepare(self) -> None:  # type: ignore[override]
        """Derives everything from the parts, loads the weights and freezes what is not to be trained.

        Raises:
            TaskError: a part is missing, the options do not go together, or a pattern of `freeze` matches nothing.
            CheckpointError: the checkpoint is missing, damaged or does not fit.
        """
        self._thaw()  # the optimizer's groups are the same each time, and other options may be set by now
        super().prepare()

    def _load_weights(self) -> None:
        super()._load_weights()
        if self.checkpoint_dict is None:
            task_state.take_pretrained(
                self.base_model, self._read_pretrained(), self.reset_heads, self.pretrained_checkpoint_load_strict
            )
        self._frozen = freezing.parameters_to_freeze(self.base_model, self.freeze_trunk, self.freeze)
        for parameter in self._frozen:
            parameter.requires_grad = False
            parameter.grad = None  # an optimizer leaves a parameter without one alone, also its weight decay

    def _thaw(self) -> None:
        for parameter in self._frozen:
            parameter.requires_grad = True
        self._frozen = []

    def _read_pretrained(self) -> dict[str, Any]:
        content = task_state.read_pretrained(self.pretrained_checkpoint_dict, self.pretrained_checkpoint_path)
        if content is None:
            raise TaskError(
                "a fine-tuning task needs weights to start from: set pretrained_checkpoint "
                "(set_pretrained_checkpoint) to a checkpoint, a file with a state dict, or a .safetensors file"
            )
        return content

    def _set_model_train_mode(self) -> None:
        super()._set_model_train_mode()
        if self.train:
            freezing.set_eval_where_frozen(self.base_model, self.freeze_trunk, self._frozen)
