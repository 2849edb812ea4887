"""The checkpoint that a command is given, with the paths of its run."""

from __future__ import annotations

import copy
import dataclasses
import os

from ray_classy.checkpoint.files import run_of_checkpoint
from ray_classy.cli.given import code_folder_of
from ray_classy.cli.relative_paths import resolve_paths, started_in
from ray_classy.config.document import Config
from ray_classy.display import print_line
from ray_classy.inference.trained import Trained, read_trained
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.urls import reading
from ray_classy.user_code import add_user_code


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
        config = copy.deepcopy(Config(trained.config, getattr(trained.config, "file", None)))
        for line in resolve_paths(config, started_in(RunFolder(run).record.facts())):
            print_line(line)
        return dataclasses.replace(trained, config=config)


def use_code(given: str | None) -> None:
    """Lets the modules that the config of a run names be found in the folder that --code gives, if it gives one.

    Raises:
        UsageError: there is no such folder, or it is that of a run.
    """
    if given is not None:
        folder = code_folder_of(given)
        add_user_code(folder, {name.partition(".")[0] for name in os.listdir(folder)})
