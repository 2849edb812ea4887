"""Loads a trained model, ready to predict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import nn

from ray_classy.inference.classifier import Classifier
from ray_classy.inference.outputs import Output
from ray_classy.inference.preprocessing import Preprocessing
from ray_classy.inference.trained import Trained, read_trained
from ray_classy.losses import LOSS_REGISTRY
from ray_classy.tasks.averaged_views import AveragedViews
from ray_classy.tasks.precision import Precision


def load_model(path: str, device: Any = None) -> Classifier:
    """Loads the model of a run, checkpoint or export, with its preprocessing and class names.

    Args:
        path: the folder of a run, for its best checkpoint, or of a checkpoint, a checkpoint's file, or what
            `ray-classy export` wrote; local or a URL.
        device: None takes the first GPU, or else the CPU.

    Raises:
        CheckpointNotFoundError: there is none.
        UnsafeFileError: it is an export that could run code; nothing of it was run.
        CheckpointError: it is damaged, or does not say how its model is built.

    Example:
        model = load_model("runs/flowers")
        model.predict("rose.jpg").label
    """
    return classifier_of(read_trained(path), device)


def classifier_of(trained: Trained, device: Any = None) -> Classifier:
    """Builds the classifier of a checkpoint that was read; arguments and errors as those of `load_model`."""
    classifier = Classifier(
        trained.model(),
        Preprocessing.from_config(trained.config),
        trained.classes,
        Precision.from_args(trained.config.get("amp_args")),
        device,
        AveragedViews(**(trained.config.get("test_time_augmentation") or {})),
        activation_of(trained.config["loss"]),
        _targets_of(trained),
    )
    classifier.path, classifier.metrics = trained.path, dict(trained.metrics)
    return classifier


def _targets_of(trained: Trained) -> dict[str, Output] | None:
    """The classes and activation of each output of a model with several targets; None if it has one."""
    losses = trained.config["loss"].get("losses")
    if not isinstance(losses, Mapping) or not trained.target_classes:
        return None
    classes = trained.target_classes
    return {target: Output(classes.get(target), activation_of(loss)) for target, loss in losses.items()}


def activation_of(loss: Mapping[str, Any]) -> Literal["softmax", "sigmoid"]:
    """What makes probabilities of the outputs of a model that was trained with the loss of a config."""
    known = LOSS_REGISTRY.named_class(loss)
    per_class = issubclass(known, nn.BCEWithLogitsLoss | nn.MultiLabelSoftMarginLoss)
    given = loss.get("activation") or getattr(known, "activation", "sigmoid" if per_class else "softmax")
    return "sigmoid" if given == "sigmoid" else "softmax"
