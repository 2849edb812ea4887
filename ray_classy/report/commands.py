"""The commands that come after a run or a sweep, for its report."""

from __future__ import annotations

import math

from ray_classy.config.code import code_words
from ray_classy.display import short
from ray_classy.printable import command_line
from ray_classy.report.run_source import RunSource
from ray_classy.urls import shown


def run_commands(run: RunSource) -> list[tuple[str, str]]:
    """Returns what a command does, and the command."""
    path, local = short(shown(run.folder.path)), (["--local"] if run.local else [])
    flags = [*local, *code_words(run.config, run.folder.path)]
    finished = run.row.state == "finished"
    longer = [f"num_epochs={math.ceil(2 * run.epochs) or 1}"] if finished else []
    found = [("Train it longer" if finished else "Resume it", command_line("train", "--resume", path, *flags, *longer))]
    if run.folder.checkpoints.names():
        found += [
            ("Evaluate it on its test images, or on other ones", command_line("evaluate", path)),
            (
                "Predict the classes of new images",
                command_line("predict", path, "IMAGES", "--output", "predictions.csv"),
            ),
            ("Serve it over HTTP", command_line("serve", path)),
            ("Export it for other programs", command_line("export", path, "--format", "onnx")),
        ]
    return found


def sweep_commands(
    path: str, finished: bool, best: str | None, epochs: float | None, config: bool
) -> list[tuple[str, str]]:
    """Returns the commands that come after a sweep.

    Args:
        path: of the sweep.
        finished: whether nothing of it is left to resume.
        best: the name of its best trial; None if there is none.
        epochs: of the best trial.
        config: whether the config of the best trial is written already.
    """
    where = short(shown(path))
    found = [] if finished else [("Resume the sweep", command_line("tune", "--resume", where))]
    if best is not None:
        longer = f"num_epochs={math.ceil(2 * (epochs or 1)) or 1}"
        found = [
            ("Train the best trial longer", command_line("train", "--resume", f"{where}/{best}", longer)),
            *([("Train the best config from scratch", command_line("train", f"{where}/best.yaml"))] if config else []),
            ("Add trials to the sweep", command_line("tune", "--extend", where, "--num-samples", "8")),
            ("Evaluate the best trial", command_line("evaluate", f"{where}/{best}")),
            *found,
        ]
    return found
