"""Config files: reading, overriding, checking and writing them out."""

from ray_classy.config.check import (
    Problem,
    check_component,
    check_config,
    former_keys_used,
    problems_in,
    raise_problems,
)
from ray_classy.config.document import Config, Mark, dotted, mark_of
from ray_classy.config.load import load_config
from ray_classy.config.overrides import apply_overrides
from ray_classy.config.resolve import resolve
from ray_classy.config.yaml_text import dump_yaml

__all__ = [
    "Config",
    "Mark",
    "Problem",
    "apply_overrides",
    "check_component",
    "check_config",
    "dotted",
    "dump_yaml",
    "former_keys_used",
    "load_config",
    "mark_of",
    "problems_in",
    "raise_problems",
    "resolve",
]
