"""`ray-classy schema`."""

from __future__ import annotations

import argparse
import json
from typing import Any

from ray_classy.cli.arguments import UsageError
from ray_classy.cli.output import Answer
from ray_classy.config import load_config
from ray_classy.config.imports import import_modules
from ray_classy.config.json_schema import json_schema
from ray_classy.config.ray_options import RAY_KEYS
from ray_classy.tasks.classy_task import TASK_REGISTRY
from ray_classy.tasks.task_config import RESERVED
from ray_classy.tune.domains import DOMAINS
from ray_classy.tune.section import tune_keys


def schema(arguments: argparse.Namespace) -> Answer:
    """Returns the JSON schema of configs; given a config, it has also the components that the config imports.

    Raises:
        UsageError: more than one config is given.
        ConfigError: the config cannot be read, or a module that it imports.
    """
    words = arguments.words
    if len(words) > 1:
        raise UsageError(f"schema takes one config, not {' '.join(words[1:])!r} beside it")
    for file in words:
        import_modules(load_config(file))
    data = task_schema()
    return Answer(schema_text(data), data, public=True)


def schema_text(schema: dict[str, Any]) -> str:
    """Writes a schema with a line for each definition."""
    defs = [f" {json.dumps(name)}: {json.dumps(one)}" for name, one in schema["$defs"].items()]
    rest = json.dumps({name: one for name, one in schema.items() if name != "$defs"})
    return f'{rest[:-1]}, "$defs": {{\n' + ",\n".join(defs) + "\n}}"


def task_schema() -> dict[str, Any]:
    """Returns the JSON schema of the configs of all tasks and sweeps, with the components that are registered now."""
    tune = RESERVED["tune"]._replace(annotation=tune_keys())
    schema = json_schema(TASK_REGISTRY, {**RESERVED, **RAY_KEYS, "tune": tune}, DOMAINS)
    for name, one in schema["$defs"].items():
        if name.startswith("task."):
            dataset = one["properties"].get("dataset", {})
            _let_split_share(dataset.get("else", dataset))
    return schema


def _let_split_share(dataset: dict[str, Any]) -> None:
    """Lets `test` have only some keys of a dataset where there is a `split`: it takes the others from `train`."""
    keys = dataset.get("properties", {})
    if {"test", "split"} <= keys.keys():
        whole, keys["test"] = keys["test"], {"type": ["null", "object"]}
        dataset["if"] = {"required": ["split"], "properties": {"split": {"type": "object"}}}
        dataset["else"] = {"properties": {"test": whole}}
