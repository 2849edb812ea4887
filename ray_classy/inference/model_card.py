"""The model card of an export: what it is, how it was trained and how good it is, for people and for the Hub."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import yaml

from ray_classy import __version__
from ray_classy.inference.export import Export
from ray_classy.inference.export_record import ExportRecord
from ray_classy.inference.trained import Trained
from ray_classy.printable import printable
from ray_classy.redact import redacted_values
from ray_classy.tasks.data_sections import with_test_section

_MOST_CLASSES = 100
_LIBRARIES = {"timm": "timm", "onnx": "onnx"}
_TRAINING = ("num_epochs", "seed", "loss", "optimizer", "mixup", "amp_args", "clip_grad_norm", "num_batches_per_step")
_USE = {
    "timm": ("import timm", 'model = timm.create_model("local-dir:{file}", pretrained=True).eval()'),
    "pt2": ("import torch", 'model = torch.export.load("{file}").module()'),
    "onnx": ("import onnxruntime", 'session = onnxruntime.InferenceSession("{file}")'),
    "safetensors": ("from safetensors.torch import load_file", 'weights = load_file("{file}")'),
}


def model_card(trained: Trained, export: Export, form: str, file: str) -> str:
    """Writes the card, as Markdown with a front matter of YAML (https://huggingface.co/docs/hub/model-cards).

    Args:
        trained: what was exported.
        export: made of it.
        form: of the export.
        file: its name.
    """
    name = printable(file.rpartition(".")[0] or file) if form != "timm" else printable(file)
    config = redacted_values(dict(trained.config))
    front = {
        "pipeline_tag": "image-classification",
        "library_name": _LIBRARIES.get(form, "ray_classy"),
        "tags": ["image-classification", "ray_classy", form],
        "metrics": ["accuracy"],
        "model-index": [{"name": name, "results": _results(trained.metrics, config)}],
    }
    if not front["model-index"][0]["results"]:  # type: ignore[index]
        del front["model-index"]
    text = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    return "---\n" + text + "---\n\n" + "\n".join(_body(trained, export, form, file, name, config)) + "\n"


def input_text(record: ExportRecord) -> str:
    """Says what the exported model takes."""
    shape = f"float32 (rows, {', '.join(map(str, record.shape))})"
    return shape if record.normalization is None else f"{shape} in [0, 1], which the model normalizes itself"


def flat_metrics(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in the metrics of a phase, with their names."""
    for key, value in metrics.items():
        if isinstance(value, Mapping):
            yield from flat_metrics(value, f"{prefix}{key} ")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{key}", float(value)


def _results(metrics: Mapping[str, Any], config: Mapping[str, Any]) -> list[dict[str, Any]]:
    test = dict(flat_metrics(metrics.get("test") or {}))
    if not test:
        return []
    found = [
        {
            "type": "accuracy" if name.startswith("accuracy top_1") else name.replace(" ", "_"),
            "name": name,
            "value": value,
        }
        for name, value in test.items()
    ]
    dataset = _section(config, "test").get("name") or "images"
    return [
        {
            "task": {"type": "image-classification"},
            "dataset": {"name": f"test rows of the run ({dataset})", "type": str(dataset)},
            "metrics": found,
        }
    ]


def _section(config: Mapping[str, Any], phase_type: str) -> Mapping[str, Any]:
    sections = with_test_section(config).get("dataset") or {}
    return sections.get(phase_type) or {}


def _body(
    trained: Trained, export: Export, form: str, file: str, name: str, config: Mapping[str, Any]
) -> Iterator[str]:
    record = export.record
    classes = record.classes or []
    yield f"# {name}"
    yield ""
    model = record.model.get("model") or record.model["name"]
    number = f"{len(classes)} classes" if classes else "classes without names"
    yield f"A classifier of images: `{printable(str(model))}` with {number}, trained with ray_classy {__version__}."
    yield ""
    yield "## Use"
    yield ""
    yield "```python"
    yield from (line.format(file=printable(file)) for line in _USE[form])
    yield "```"
    yield ""
    yield f"Or with its preprocessing and the names of its classes: `ray_classy.load_model({printable(file)!r})`, or"
    yield f"`ray-classy predict {printable(file)} photo.jpg`."
    yield ""
    yield "## Metrics"
    yield ""
    yield "| phase | metric | value |"
    yield "| --- | --- | --- |"
    for phase, metrics in trained.metrics.items():
        yield from (f"| {phase} | {printable(one)} | {value:.4f} |" for one, value in flat_metrics(metrics or {}))
    yield ""
    where = "random inputs" if export.lacking else "rows of the test data"
    yield f"The exported model was compared with the trained one on {export.rows} {where}: the outputs differ by"
    yield f"{export.difference:.3g} at most."
    yield ""
    yield "## Input"
    yield ""
    yield f"{input_text(record)}, preprocessed from images of mode"
    yield f"{record.preprocessing.image_mode}; the outputs become probabilities by {record.activation}."
    yield ""
    yield from _block(record.preprocessing.transforms or f"as the dataset {record.preprocessing.dataset}")
    yield "## Data"
    yield ""
    for phase in ("train", "test"):
        section = _section(config, phase)
        if section:
            size = section.get("batchsize_per_replica")
            yield f"- {phase}: dataset `{printable(str(section.get('name')))}`, batches of {size} rows per worker"
    split = (config.get("dataset") or {}).get("split")
    if split:
        yield f"- split of one source: `{printable(json.dumps(split, default=str))}`"
    yield ""
    if classes:
        yield f"Classes: {', '.join(f'`{printable(one)}`' for one in classes[:_MOST_CLASSES])}"
        if len(classes) > _MOST_CLASSES:
            yield f"and {len(classes) - _MOST_CLASSES} more, in `ray_classy.json`."
        yield ""
    yield "## Training"
    yield ""
    if trained.epoch is not None:
        yield f"{trained.epoch:g} epochs."
        yield ""
    yield from _block({key: config[key] for key in _TRAINING if config.get(key) is not None})
    yield "## Versions"
    yield ""
    yield f"ray_classy {__version__}, torch {torch.__version__}"


def _block(value: Any) -> Iterator[str]:
    yield "```yaml"
    yield yaml.safe_dump(json.loads(json.dumps(value, default=str)), sort_keys=False, allow_unicode=True).rstrip()
    yield "```"
    yield ""
