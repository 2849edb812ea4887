"""The command-line arguments of Classy Vision's `classy_train.py`, for scripts that were made from it.

`ray-classy train` has arguments of its own.
"""

from __future__ import annotations

import argparse

from ray_classy.errors import ComponentError
from ray_classy.generic.util import is_pos_int


def add_generic_args(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Adds the arguments to a parser, and returns it."""
    add = parser.add_argument
    add("--config_file", type=str, required=True, help="path of the task's config")
    add("--checkpoint_folder", type=str, default="", help="folder in which checkpoint.torch is published")
    add("--checkpoint_load_path", type=str, default="", help="checkpoint to start from: a file or a folder")
    add("--pretrained_checkpoint_path", type=str, default="", help="weights that a fine-tuning task starts from")
    add("--checkpoint_period", type=int, default=1, help="train phases between two checkpoints")
    add("--show_progress", action="store_true", default=False, help="draw a progress bar")
    add("--skip_tensorboard", action="store_true", default=False, help="do not write tensorboard's files")
    add("--visdom_server", type=str, default="", help="without effect: visdom is no longer maintained")
    add("--visdom_port", type=int, default=8097, help="without effect")
    add("--profiler", action="store_true", default=False, help="profile the model when the run starts")
    add("--debug", action="store_true", default=False, help="start a debugger at an error")
    add("--ignore_checkpoint_config", action="store_true", default=False, help="load a checkpoint of another config")
    add("--log_freq", type=int, default=5, help="train steps between two lines of the log")
    add("--image_backend", type=str, default="PIL", help="library that decodes images")
    add("--video_backend", type=str, default="pyav", help="library that decodes videos")
    add("--distributed_backend", type=str, default="none", help="none, or ddp for several processes")
    return parser


def check_generic_args(args: argparse.Namespace) -> None:
    """Checks the values of parsed arguments.

    Raises:
        ComponentError: one is impossible.
    """
    if not is_pos_int(args.visdom_port):
        raise ComponentError(f"--visdom_port must be an integer of at least 0, not {args.visdom_port!r}")


def get_parser() -> argparse.ArgumentParser:
    """Returns a parser with the arguments."""
    return add_generic_args(argparse.ArgumentParser(description="Trains the task of a config."))


def parse_train_arguments(parser: argparse.ArgumentParser | None = None) -> argparse.Namespace:
    """Parses and checks this process's arguments.

    Args:
        parser: has the arguments, and may have others; None for one that has only them.
    """
    args = (get_parser() if parser is None else parser).parse_args()
    check_generic_args(args)
    return args
