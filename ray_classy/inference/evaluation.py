"""Evaluates a trained model on its test rows, or on other labelled images."""

from __future__ import annotations

import copy
import dataclasses
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ray_classy.config.document import Config
from ray_classy.config.imports import import_modules
from ray_classy.config.places import locate_errors
from ray_classy.dataset import DATASET_REGISTRY, ClassyDataset
from ray_classy.dataset.row_dataset import row_dataset_of
from ray_classy.dataset.rows import ItemRows
from ray_classy.dataset.target_columns import ONLY
from ray_classy.errors import CheckpointError, ComponentError, DataError
from ray_classy.inference.classifier import Classifier
from ray_classy.inference.evaluated_rows import EvaluatedRows, evaluate_rows, match_to_model
from ray_classy.inference.labels_report import LabelsReport, labels_report_of
from ray_classy.inference.load_model import classifier_of
from ray_classy.inference.pace import OnProgress, ignore
from ray_classy.inference.preprocessing import Preprocessing
from ray_classy.inference.report import Report, report_of
from ray_classy.inference.trained import Trained
from ray_classy.registry import config_keys
from ray_classy.tasks.data_sections import build_phase_dataset, with_test_section
from ray_classy.tasks.splits import compare_split
from ray_classy.tasks.task_config import checked
from ray_classy.urls import expanded, is_url, split_query

_MANIFESTS = (".csv", ".tsv", ".jsonl", ".ndjson")
_SOURCES = {"image_path": "image_folder", "manifest": "manifest", "parquet": "files", "webdataset": "shards"}
"""The key of the source in the config of each dataset of images."""
_NOT_FOR_OTHER_DATA = ("image_folder", "image_files", "manifest", "files", "shards", "split", "num_samples", "classes")


_COMMON = ("transforms", "batchsize_per_replica")
_TABLES = ("manifest", "parquet")
_LABELS = ("label_column", "label_separator", "label_columns", "targets")
"""Keys that name the labels in either of `_TABLES`."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TargetEvaluation:
    """What rows say of a model's predictions of one target.

    Attributes:
        report: the figures.
        rows: labels and probabilities.
        classes: names in the order of the model's outputs.
    """

    report: Report | LabelsReport
    rows: EvaluatedRows
    classes: list[str]


@dataclass(frozen=True)
class Evaluation:
    """The rows that were evaluated, and what they say of the model.

    Attributes:
        targets: the figures by target; the only target has the name "".
        names: the path of each row, or its number where it has none.
    """

    targets: dict[str, TargetEvaluation]
    names: list[str]

    @property
    def only(self) -> TargetEvaluation:
        """The figures of the target, if there is one; of the first one, if there are several."""
        return next(iter(self.targets.values()))

    @property
    def report(self) -> Any:
        """The report of the only target."""
        return self.only.report

    @property
    def rows(self) -> EvaluatedRows:
        """The rows of the only target."""
        return self.only.rows


def config_for(trained: Trained, data: str | None = None, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Returns the config of an evaluation, whose `dataset.test` has the rows that are evaluated.

    Args:
        trained: the checkpoint.
        data: a folder with one folder of images per class, a manifest (.csv, .tsv, .jsonl, .ndjson), Parquet files or
            shards (.tar); None for the test rows of the run.
        options: keys of the dataset, such as `label_column`.

    Raises:
        CheckpointError: the run had no test rows, and `data` is None.
        ConfigError: the config has a mistake.
    """
    import_modules(trained.config)
    config = copy.deepcopy(dict(trained.config))
    dataset = dict(with_test_section(config).get("dataset") or {})
    own = dict(dataset.get("test") or dataset.get("train") or {})
    if data is None:
        if not dataset.get("test"):
            raise CheckpointError("the run has no test dataset: name the data to evaluate it on")
        config["dataset"] = {**dataset, "test": {**own, **(options or {})}}
    else:
        name = _kind_of(data, own.get("name"))
        alike, known = own.get("name") == name, config_keys(DATASET_REGISTRY[name]) or {}
        labels = _LABELS if own.get("name") in _TABLES and name in _TABLES else ()
        kept = {key: value for key, value in own.items() if alike or key in (*_COMMON, *labels)}
        kept = {key: value for key, value in kept.items() if key not in _NOT_FOR_OTHER_DATA}
        preprocessing = Preprocessing.from_config(config)
        preprocessing.check()
        mode = preprocessing.mode
        kept.pop("image_mode", None)  # of an export, whatever kind of dataset it was trained on
        modes = {"image_mode": mode} if "image_mode" in known else {}
        config["dataset"] = {"test": {**kept, **modes, "name": name, _SOURCES[name]: data, **(options or {})}}
    config = {**config, "test_only": True, "num_epochs": 1}
    for key in ("checkpoint", "pretrained_checkpoint"):
        config.pop(key, None)
    return Config(config, getattr(trained.config, "file", None))


def _kind_of(data: str, trained_on: Any) -> str:
    """The name of the dataset that reads some data."""
    path = split_query(expanded(data))[0].lower()
    if path.endswith(_MANIFESTS):
        return "manifest"
    if path.endswith(".parquet"):
        return "manifest" if trained_on == "manifest" else "parquet"
    if path.endswith((".tar", ".tar.gz", ".tgz")):
        return "webdataset"
    if not is_url(data) and not os.path.isdir(expanded(data)):
        what = "does not exist" if not os.path.exists(expanded(data)) else "is none of them"
        raise DataError(
            f"{data!r} {what}: evaluate takes a folder with one folder of images per class, a manifest "
            f"({', '.join(_MANIFESTS)}), .parquet files or .tar shards (looked in {os.getcwd()})"
        )
    return trained_on if trained_on in ("parquet", "webdataset") else "image_path"


def dataset_for(config: Mapping[str, Any], model: Classifier) -> ClassyDataset:
    """Builds the rows that are evaluated, with the targets that their classes have in the model.

    Args:
        config: from `config_for`.
        model: the model.

    Raises:
        ConfigError: the config has a mistake, or the data cannot be read.
    """
    checked(config)
    with locate_errors(config, "dataset", "test"):
        dataset = build_phase_dataset(config, "test")
        match_to_model(dataset, model.outputs)
        wanted = model.preprocessing.mode
        mode = getattr(dataset, "image_mode", wanted)
        if mode != wanted:
            raise DataError(
                f"the model takes images of mode {wanted!r}, and these are read as {mode!r}: list them in a manifest, "
                f"and give image_mode={wanted}"
            )
        if (config["dataset"]["test"] or {}).get("transforms") is None and not model.preprocessing.unknown:
            dataset.transform = model.preprocessing.transform  # another kind of dataset may have another default
    return dataset


def evaluate(
    trained: Trained,
    config: Mapping[str, Any],
    batch_size: int = 32,
    flip: bool = False,
    num_workers: int = 0,
    on_progress: OnProgress = ignore,
) -> Evaluation:
    """Evaluates each row once, in this process or on Ray workers, with the same result.

    Args:
        trained: the checkpoint.
        config: from `config_for`; its section `ray` says which cluster.
        batch_size: rows that the model takes at once, at least 1.
        flip: average the outputs for each image and its mirror image.
        num_workers: Ray workers; 0 evaluates in this process.
        on_progress: gets lines on the progress.

    Raises:
        RayClassyError: the rows cannot be read, or do not fit the model; the message says why.
    """
    if type(batch_size) is not int or batch_size < 1:
        raise ComponentError(f"batch_size must be an integer of at least 1, not {batch_size!r}")
    model = classifier_with(trained, flip)
    dataset = dataset_for(config, model)
    if not len(dataset):
        raise DataError("the test dataset has no rows")
    for warning in compare_split(trained.split, {"test": dataset}, True, trained.path):
        _log.warning("%s", warning)
    if num_workers:
        from ray_classy.inference.ray_rows import evaluated_on_ray

        rows = evaluated_on_ray(trained, config, batch_size, flip, num_workers, on_progress)
    else:
        rows = evaluate_rows(model, dataset, batch_size, on_progress=on_progress)
    return evaluation_of(model, dataset, rows)


def evaluation_of(model: Classifier, dataset: ClassyDataset, rows: Mapping[str, EvaluatedRows]) -> Evaluation:
    """Says what evaluated rows show of a model.

    Args:
        model: has evaluated them.
        dataset: has the rows.
        rows: by target.

    Raises:
        DataError: no row can be decoded, or none has a label.
    """
    return Evaluation(
        {target: _evaluated(target, one, model) for target, one in rows.items()},
        _names(dataset, next(iter(rows.values())).number),
    )


def _evaluated(target: str, rows: EvaluatedRows, model: Classifier) -> TargetEvaluation:
    if not len(rows):
        raise DataError(f"none of the {rows.bad} rows can be decoded")
    if not rows.labelled.any():
        raise DataError(f"no row has a label{f' of the target {target!r}' if target != ONLY else ''}")
    classes = model.outputs[target].classes or [str(number) for number in range(rows.scores.shape[1])]
    make: Any = report_of if rows.label.ndim == 1 else labels_report_of
    return TargetEvaluation(make(rows, classes, model.preprocessing.seed), rows, classes)


def classifier_with(trained: Trained, flip: bool) -> Classifier:
    """The model of a checkpoint, which also averages over mirror images if that is asked for."""
    model = classifier_of(trained)
    if flip:
        model.views = dataclasses.replace(model.views, flip=True)
    return model


def _names(dataset: ClassyDataset, numbers: np.ndarray) -> list[str]:
    base = row_dataset_of(dataset)
    if base is None or not isinstance(base.rows, ItemRows) or "path" not in base.rows.columns:
        return [str(number) for number in numbers.tolist()]
    listed = base.rows.column("path")
    return [str(listed[number]) for number in base.source_numbers(numbers.tolist())]
