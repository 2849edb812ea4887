"""The task that goes on from a trained model."""

from __future__ import annotations

from typing import Any

from ray_classy.errors import TaskError
from ray_classy.registry import Key, Keys
from ray_classy.tasks import task_config, task_state
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
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pretrained_checkpoint_path: str | None = None
        self.pretrained_checkpoint_dict: dict[str, Any] | None = None
        self.pretrained_checkpoint_load_strict = True
        self.reset_heads = False
        self.freeze_trunk = False

    @classmethod
    def config_keys(cls) -> Keys:
        """The keys of the task's config."""
        return {
            **super().config_keys(),
            "pretrained_checkpoint": Key(str | None, None),
            "pretrained_checkpoint_load_strict": Key(bool, True),
            "reset_heads": Key(bool, False),
            "freeze_trunk": Key(bool, False),
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
        return task.set_freeze_trunk(config.get("freeze_trunk", False))

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

    def _load_weights(self) -> None:
        super()._load_weights()
        if self.checkpoint_dict is None:
            task_state.take_pretrained(
                self.base_model, self._read_pretrained(), self.reset_heads, self.pretrained_checkpoint_load_strict
            )
        if self.freeze_trunk:
            self._set_trunk_frozen()

    def _read_pretrained(self) -> dict[str, Any]:
        content = task_state.read_pretrained(self.pretrained_checkpoint_dict, self.pretrained_checkpoint_path)
        if content is None:
            raise TaskError(
                "a fine-tuning task needs weights to start from: set pretrained_checkpoint "
                "(set_pretrained_checkpoint) to a checkpoint, a file with a state dict, or a .safetensors file"
            )
        return content

    def _set_trunk_frozen(self) -> None:
        for parameter in self.base_model.parameters():
            parameter.requires_grad = False
        for heads in self.base_model.get_heads().values():
            for head in heads:
                for parameter in head.parameters():
                    parameter.requires_grad = True

    def _set_model_train_mode(self) -> None:
        super()._set_model_train_mode()
        if self.train and self.freeze_trunk:
            self.base_model.eval()
            for heads in self.base_model.get_heads().values():
                for head in heads:
                    head.train()
