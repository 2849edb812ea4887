"""`ray_classy.json`, the record that goes with an exported model: classes, preprocessing, and how its model is built.

An exported file may come from anybody: the record is read with the types and limits below before anything in it is
used. It names no place of the training data.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ray_classy import __version__
from ray_classy.dataset import DATASET_REGISTRY
from ray_classy.dataset.decode import IMAGE_MODES
from ray_classy.dataset.image_options import ImageOptions
from ray_classy.errors import RayClassyError, RecordError
from ray_classy.inference.classifier import Classifier
from ray_classy.inference.normalization import Normalization
from ray_classy.records import damaged, parse_json, read_record
from ray_classy.redact import redacted_values
from ray_classy.registry import signature_keys
from ray_classy.tasks.averaged_views import AveragedViews
from ray_classy.tasks.data_sections import with_test_section

RECORD = "ray_classy.json"
"""Name of the record: of an extra file of a .pt2, of the metadata of .safetensors and .onnx, of a file in a folder."""
FORMAT = 1
MOST_RECORD_BYTES = 16 * 2**20
_MOST_CLASSES = 1_000_000
_MOST_SIDE, _MOST_NUMBERS = 65_536, 2**28
_LOSSES = {"softmax": "CrossEntropyLoss", "sigmoid": "BCEWithLogitsLoss"}


@dataclass(frozen=True)
class PreprocessingRecord:
    """How an image becomes an input.

    Attributes:
        image_mode: "RGB" or "L" (grey).
        transforms: the configs of the transforms; None for the default of the dataset.
        dataset: the name of the dataset whose default transform is meant; None if there are transforms.
        options: how images are decoded, see `ImageOptions`.
    """

    image_mode: str
    transforms: list[Any] | None
    dataset: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ExportRecord:
    """What an exported model needs besides its weights.

    Attributes:
        format: of this record.
        ray_classy: the version that wrote it.
        classes: names in the order of the outputs; None numbers them.
        activation: makes probabilities of outputs, "softmax" or "sigmoid".
        input_shape: "rows", then the shape of one input.
        preprocessing: of an image.
        model: the config of the model.
        imports: modules with components of the user's.
        test_time_augmentation: views whose outputs are averaged; None for the image alone.
        metrics, epoch: of the checkpoint.
        seed: of the run.
        normalization: what the exported model does with its inputs first, which are in [0, 1] then; None if the
            preprocessing does it.
    """

    format: int
    ray_classy: str
    classes: list[str] | None
    activation: str
    input_shape: list[Any]
    preprocessing: PreprocessingRecord
    model: dict[str, Any]
    imports: list[str] = field(default_factory=list)
    test_time_augmentation: dict[str, Any] | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    epoch: float | None = None
    seed: int = 0
    normalization: Normalization | None = None

    def text(self) -> str:
        """Returns the record as JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return tuple(self.input_shape[1:])

    def config(self) -> dict[str, Any]:
        """Returns the config of a task that evaluates the model; it has no test data, as exports do not name any."""
        images = self.preprocessing
        dataset = {
            "name": images.dataset or "image_path",
            "batchsize_per_replica": 32,
            "image_mode": images.image_mode,
            "transforms": images.transforms,
            **images.options,
        }
        config = {
            "name": "classification_task",
            "test_only": True,
            "num_epochs": 1,
            "seed": self.seed,
            "imports": self.imports,
            "dataset": {"train": dataset},
            "model": self.model,
            "loss": {"name": _LOSSES[self.activation]},
        }
        views = self.test_time_augmentation
        return config if views is None else {**config, "test_time_augmentation": views}


def record_of(
    config: Mapping[str, Any],
    model: Classifier,
    input_shape: tuple[int, ...],
    epoch: float | None,
    normalization: Normalization | None = None,
) -> ExportRecord:
    """Makes the record of a trained model.

    Args:
        config: of the run's task.
        model: built from it.
        input_shape: of one input.
        epoch: how many epochs it was trained for.
        normalization: what the model does with its inputs itself, and the transforms of the config do not.
    """
    sections = with_test_section(config).get("dataset") or {}
    section = sections.get("test") or sections.get("train") or {}
    transforms = section.get("transforms")
    return ExportRecord(
        format=FORMAT,
        ray_classy=__version__,
        classes=model.classes,
        activation=model.activation,
        input_shape=["rows", *input_shape],
        preprocessing=PreprocessingRecord(
            image_mode=model.preprocessing.mode,
            transforms=redacted_values(transforms),
            dataset=section.get("name") if transforms is None else None,
            options={key: section[key] for key in signature_keys(ImageOptions) if key in section},
        ),
        model=_without_places(redacted_values(config["model"])),
        imports=list(config.get("imports") or []),
        test_time_augmentation=dataclasses.asdict(model.views) if model.views != AveragedViews() else None,
        metrics=model.metrics,
        epoch=epoch,
        seed=model.preprocessing.seed,
        normalization=normalization,
    )


def read_export_record(content: bytes | str, where: str) -> ExportRecord:
    """Reads a record, and checks all that is in it.

    Raises:
        RecordError: it is damaged, or of a newer version; the message says what is wrong, and where.
    """
    value = parse_json(content, where, MOST_RECORD_BYTES)
    version = value.get("format") if isinstance(value, dict) else None
    if type(version) is int and version > FORMAT:
        raise RecordError(f"{where} has the format {version}, of a newer ray_classy; this one reads {FORMAT}")
    record = read_record(ExportRecord, value, where)
    problem = _problem(record)
    if problem:
        raise damaged(where, problem)
    return record


def _problem(record: ExportRecord) -> str:
    """What is wrong with the values of a record; empty if nothing is."""
    if record.format != FORMAT:
        return f"its format is {record.format}, and {FORMAT} is read"
    if record.classes is not None and not 1 <= len(record.classes) <= _MOST_CLASSES:
        return f"it has {len(record.classes):,} classes"
    if record.activation not in _LOSSES:
        return f"its activation must be {' or '.join(_LOSSES)}, not {record.activation[:40]!r}"
    images = record.preprocessing
    if images.image_mode not in IMAGE_MODES:
        return f"its image_mode must be {' or '.join(IMAGE_MODES)}, not {images.image_mode[:40]!r}"
    if images.transforms is None and DATASET_REGISTRY.get(images.dataset or "") is None:
        return f"it has neither transforms nor a known dataset: {str(images.dataset)[:40]!r}"
    shape = record.input_shape
    sides = shape[1:]
    if shape[:1] != ["rows"] or not 1 <= len(sides) <= 4:
        return "its input_shape must be rows, then the shape of one input"
    if not all(type(side) is int and 1 <= side <= _MOST_SIDE for side in sides) or math.prod(sides) > _MOST_NUMBERS:
        return f"its input_shape is impossible: {str(sides)[:80]}"
    if record.normalization is not None and (wrong := record.normalization.problem(sides[0])):
        return wrong
    if not isinstance(record.model.get("name"), str):
        return "its model has no name"
    try:
        if images.options.keys() - signature_keys(ImageOptions).keys():
            return f"its preprocessing has unknown options: {', '.join(sorted(images.options))[:80]}"
        ImageOptions(**images.options)
        AveragedViews(**(record.test_time_augmentation or {}))
    except (RayClassyError, TypeError) as error:
        return str(error)
    return ""


def _without_places(model: Any) -> Any:
    """The config of a model without the files of weights that it started from, of which it has its own now."""
    places = {key: False for key in ("pretrained",) if isinstance(model.get(key), str)}
    return {**{key: value for key, value in model.items() if key != "weights"}, **places}
