"""`--images DIR`: the recipe for a folder of one's own, with what the flags beside it say."""

from __future__ import annotations

import argparse
import json
from typing import Any

from ray_classy.cli.arguments import UsageError
from ray_classy.display import print_line

RECIPE = "recipe:own_folder"
_FROM_SCRATCH = ["num_epochs=100", "optimizer.param_schedulers.lr.then.start_value=1e-3"]
_FLAGS = ("model", "weights", "split")


def words_of(arguments: argparse.Namespace) -> list[str]:
    """Returns the words of a command line: with --images, the recipe, what the flags set, and the user's overrides.

    Raises:
        UsageError: there is a config besides --images, or one of its flags is given without it.
    """
    words: list[str] = arguments.words
    images = getattr(arguments, "images", None)
    given = [flag for flag in _FLAGS if getattr(arguments, flag, None) is not None]
    if images is None:
        if given:
            raise UsageError(f"--{given[0]} goes with --images DIR; in a config, the keys are model and dataset.split")
        return words
    if arguments.resume is not None:
        raise UsageError("--resume has the config of its run: leave out --images")
    if words and "=" not in words[0]:
        raise UsageError(f"--images takes {RECIPE}: leave out {words[0]!r}, or give the folder in that config")
    overrides = [_override("dataset.train.image_folder", images)]
    if arguments.weights is None:
        print_line("no --weights: the network is trained from scratch; --weights DEFAULT starts from pretrained ones")
        overrides += _FROM_SCRATCH
    for key, value in (
        ("model.model", arguments.model),
        ("model.weights", arguments.weights),
        ("dataset.split.test", arguments.split),
    ):
        if value is not None:
            overrides.append(_override(key, value))
    return [RECIPE, *overrides, *words]


def _override(key: str, value: Any) -> str:
    return f"{key}={json.dumps(value, ensure_ascii=False)}"
