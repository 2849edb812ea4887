"""The checkpoint that a command is given, with the paths of its run."""

from __future__ import annotations

import copy
import dataclasses

from ray_classy.checkpoint.files import run_of_checkpoint
from ray_classy.cli.relative_paths import resolve_paths, started_in
from ray_classy.display import print_line
from ray_classy.inference.trained import Trained, read_trained
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.urls import reading


def trained_at(path: str) -> Trained:
    """Reads a checkpoint; relative paths in its config lead to where they led when its run was started.

    Raises:
        RayClassyError: there is none, or it is damaged.
    """
    with reading(path):
        trained = read_trained(path)
        run = run_of_checkpoint(trained.path)[0]
        if run is None:
            return trained
        config = copy.deepcopy(dict(trained.config))
        for line in resolve_paths(config, started_in(RunFolder(run).record.facts())):
            print_line(line)
        return dataclasses.replace(trained, config=config)
