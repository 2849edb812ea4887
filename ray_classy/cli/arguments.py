"""The command line of `ray-classy`, and the config keys that its flags set."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from ray_classy import __version__
from ray_classy.errors import RayClassyError
from ray_classy.job_driver import SUBMITTED
from ray_classy.printable import shell_word
from ray_classy.registry import nearest

FLAG_KEYS: dict[str, tuple[str, ...]] = {
    "num_workers": ("ray", "num_workers"),
    "use_gpu": ("ray", "use_gpu"),
    "storage_path": ("ray", "storage_path"),
    "name": ("ray", "name"),
    "address": ("ray", "address"),
    "checkpoint": ("checkpoint",),
    "num_samples": ("tune", "num_samples"),
}
"""The config key that each flag sets."""

_WORDS = "the config file or recipe:NAME, and overrides of its values such as optimizer.lr=0.01 or num_epochs=3"
_CONFIG = ("CONFIG [key=value ...]", _WORDS)
_CODE = ("--code", "folder of the modules under `imports`; default: that of the config, but never a run's")
_NUMBER: dict[str, Any] = {"type": int, "metavar": "N"}
_OWN_DATA = (
    ("--images", "a folder with one folder of images per class, or with such folders for train and test", "DIR"),
    ("--manifest", "a CSV, JSON Lines or Parquet file of paths and labels", "FILE"),
    ("--parquet", "Parquet files of images and labels: a file, a folder or a quoted pattern", "FILES"),
    ("--shards", "tar files in WebDataset layout: a file, a folder or a quoted pattern", "SHARDS"),
)
_WITH_OWN_DATA = (
    ("--test", "test data of the same kind, in place of a split", "DATA"),
    (
        "--model",
        "a network of torchvision or timm; default: resnet50 with weights, else resnet18, for small images a small one",
        "NAME",
    ),
    ("--weights", "pretrained weights: DEFAULT or a file; without, the model is trained from scratch", "PATH"),
)
_EXAMPLES = """examples:
  ray-classy train recipe:digits --num-workers 2 num_epochs=3
  ray-classy train --images photos --weights DEFAULT
  ray-classy train --resume runs/20260102-030405-ab12 num_epochs=20
  ray-classy train recipe:digits test_only=true --checkpoint runs/20260102-030405-ab12
  ray-classy tune recipe:sweeps/asha --num-samples 12
  ray-classy tune --images photos --weights DEFAULT --budget 1h
  ray-classy check my.yaml
  ray-classy bench-data my.yaml
  ray-classy profile my.yaml
  ray-classy evaluate runs/20260102-030405-ab12
  ray-classy predict runs/20260102-030405-ab12 photos --output predictions.csv
  ray-classy ls runs --sort best
  ray-classy compare runs/20260102-030405-ab12 runs/20260103-040506-cd34
  ray-classy submit --address http://HEAD:8265 train my.yaml --storage-path s3://bucket/runs
  ray-classy report runs/20260102-030405-ab12
  ray-classy serve runs/20260102-030405-ab12 --port 8000
  ray-classy list optimizer
  ray-classy recipes
"""


class UsageError(RayClassyError, ValueError):
    """The command line has a mistake."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def parsed(argv: Sequence[str]) -> argparse.Namespace:
    """Parses the command line; flags and other words may come in any order.

    Raises:
        UsageError: the command line has a mistake.
        SystemExit: after --help and --version.
    """
    inner = _submitted(argv)
    parser, options = _parser()
    if argv and not argv[0].startswith("-") and argv[0] not in options:
        raise UsageError(_unknown_command(argv[0], list(options)))
    arguments, rest = parser.parse_known_args(list(argv[: len(argv) - len(inner)]))
    for word in rest:
        if word.startswith("-"):
            raise UsageError(f"unknown option {word!r}: {_instead(word, arguments.command, options)}")
    arguments.words += rest
    if arguments.command == "submit":
        arguments.job = parsed(inner) if inner else None
        arguments.words += inner[1:] if inner else []
    return arguments


def _submitted(argv: Sequence[str]) -> Sequence[str]:
    """The command that `submit` is given: its last words, with flags of their own."""
    if argv[:1] != ["submit"]:
        return ()
    begin = next((index for index, word in enumerate(argv) if index and word in SUBMITTED), len(argv))
    return argv[begin:]


def _unknown_command(word: str, commands: list[str]) -> str:
    near = nearest(word, commands)
    hint = f"did you mean {near}? The" if near else "the"
    if word.endswith((".yaml", ".yml", ".json")):
        hint = f"write ray-classy train {shell_word(word)}; the"
    return f"there is no command {word!r}: {hint} commands are {', '.join(commands)}"


def _instead(word: str, command: str, options: dict[str, list[str]]) -> str:
    """What to write in place of an option that a command does not have."""
    name, _, value = word.partition("=")
    if name == "--local" and command == "tune":
        return "a sweep runs on Ray, which starts on this machine without --address"
    others = [one for one, names in options.items() if name in names]
    if others:
        return f"{command} has none; it is one of {' and '.join(others)}"
    near = nearest(name, options[command])
    if near:
        return f"did you mean {near}?"
    if "--code" in options[command]:
        return f"values of the config are given without dashes, as in {name.strip('-')}={value or 'VALUE'}"
    return f"see ray-classy {command} --help"


def _parser() -> tuple[argparse.ArgumentParser, dict[str, list[str]]]:
    """Returns the parser, and the names of each command's options."""
    parser = _Parser(
        prog="ray-classy",
        description="Trains, tunes and evaluates image and video classifiers from a config, on Ray or in one process.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"ray-classy {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    options: dict[str, list[str]] = {}

    def command(name: str, text: str, words: str, words_help: str) -> Any:
        added = commands.add_parser(name, help=text, description=f"{text}.", allow_abbrev=False)
        added.add_argument("words", nargs="*", metavar=words, help=words_help)
        options[name] = []

        def option(flag: str, help: str, **more: Any) -> None:
            added.add_argument(flag, help=help, **more)
            options[name].append(flag)

        return option

    def own_data(option: Any) -> None:
        for flag, what, place in _OWN_DATA:
            option(flag, f"in place of CONFIG: {what}", metavar=place)
        for flag, what, place in _WITH_OWN_DATA:
            option(flag, f"with these, {what}", metavar=place)
        option("--split", "with these, the share of test images; default: 0.2", type=float, metavar="SHARE")
        option("--print-config", "print the config and do nothing else", action="store_true")

    for name, text in (
        ("train", "train or evaluate the task of a config, or resume a run"),
        ("check", "check a config, and print what a training of it does and needs; starts nothing"),
    ):
        option = command(name, text, *_CONFIG)
        own_data(option)
        option("--num-workers", "number of worker processes (ray.num_workers)", **_NUMBER)
        option("--use-gpu", "reserve a GPU for each worker (ray.use_gpu)", action="store_true", default=None)
        option("--storage-path", "folder or URL for runs; default: runs (ray.storage_path)", metavar="PATH")
        option("--name", "name of the run; default: date and time with a random suffix (ray.name)")
        option("--resume", "resume this run; without CONFIG, the run's own config is used", metavar="RUN")
        option("--checkpoint", "checkpoint to start from, or a run for its latest one (checkpoint)", metavar="PATH")
        option("--address", "address of the Ray cluster; default: RAY_ADDRESS, else a local Ray (ray.address)")
        option("--local", "train in this process, without Ray", action="store_true")
        option(*_CODE, metavar="DIR")
        option("--json", "print the result as one JSON object on standard output", action="store_true")
        option("--verbose", "print the output of Ray, and tracebacks of errors", action="store_true")
        if name == "train":
            option("--quiet", "print the result and errors alone; log.txt has the rest", action="store_true")
    option = command("tune", "run a hyperparameter search over a config with search spaces", *_CONFIG)
    own_data(option)
    option("--budget", "with --images and its like, how long trials run in all, such as 1h or 90m", metavar="TIME")
    option(*_CODE, metavar="DIR")
    option(
        "--num-samples",
        "number of trials, or passes over a grid; with --extend, additional ones (tune.num_samples)",
        **_NUMBER,
    )
    option("--num-workers", "number of worker processes per trial (ray.num_workers)", **_NUMBER)
    option("--use-gpu", "reserve a GPU for each worker (ray.use_gpu)", action="store_true", default=None)
    option("--storage-path", "folder or URL for sweeps; default: runs (ray.storage_path)", metavar="PATH")
    option("--name", "name of the sweep; default: date and time with a random suffix (ray.name)")
    option("--resume", "resume this sweep; trials that have ended are not repeated", metavar="RUN")
    option(
        "--extend", "add --num-samples trials to this sweep, or train its best trials up to num_epochs=N", metavar="RUN"
    )
    option("--best", "with --extend and num_epochs=N, the number of best trials to train; default: 3", **_NUMBER)
    option("--address", "address of the Ray cluster; default: RAY_ADDRESS, else a local Ray (ray.address)")
    option("--json", "print the result as one JSON object on standard output", action="store_true")
    option("--verbose", "print the output of Ray, and tracebacks of errors", action="store_true")
    option("--quiet", "print the result and errors alone", action="store_true")
    option = command(
        "bench-data", "measure the throughput of a config's data pipeline, and name its bottleneck", *_CONFIG
    )
    option(*_CODE, metavar="DIR")
    option("--rows", "number of rows to read from each dataset per measurement; default: 2000", default=2000, **_NUMBER)
    option("--json", "print the result as one JSON object on standard output", action="store_true")
    option("--verbose", "print tracebacks of errors", action="store_true")
    option = command(
        "profile", "run some train steps in this process, and say where their time goes and what to try", *_CONFIG
    )
    option(*_CODE, metavar="DIR")
    option("--steps", "number of steps of each measurement; default: 20", default=20, **_NUMBER)
    option("--warmup", "number of steps before them; default: 5", default=5, **_NUMBER)
    option("--try", "measure what each key that may help gains", action="store_true", dest="try_")
    option("--trace", "the file for a trace of three steps; default: trace-TIME.json", metavar="FILE")
    option("--json", "print the result as one JSON object on standard output", action="store_true")
    option("--verbose", "print tracebacks of errors", action="store_true")
    option = command(
        "evaluate",
        "evaluate a trained model on its test rows or on other data",
        "RUN [DATA] [key=value ...]",
        "a run (its best checkpoint), checkpoint or export; a folder with one folder of images per class, a manifest, "
        ".parquet files or .tar shards; keys of the dataset such as label_column=species",
    )
    option(
        "--predictions", "write label, prediction, scores and loss of each row to this .parquet file", metavar="FILE"
    )
    option("--flip", "average the outputs for each image and its mirror image", action="store_true")
    option("--batch-size", "number of rows that the model takes at once; default: 32", default=32, **_NUMBER)
    option("--num-workers", "number of Ray workers; default: 0, in this process", **_NUMBER)
    option("--use-gpu", "reserve a GPU for each worker (ray.use_gpu)", action="store_true", default=None)
    option("--address", "address of the Ray cluster; default: RAY_ADDRESS, else a local Ray (ray.address)")
    option("--json", "print the report as one JSON object on standard output", action="store_true")
    option("--verbose", "print tracebacks of errors", action="store_true")
    option("--quiet", "print the report and errors alone", action="store_true")
    option = command(
        "predict",
        "predict the classes of images with a trained model",
        "RUN INPUT ... [key=value ...]",
        "a run (its best checkpoint), checkpoint or export; image files, folders, patterns, URLs, .parquet files, .tar "
        "shards, manifests (.csv, .tsv, .jsonl) and .txt lists of paths; keys by which those are read, such as "
        "image_column=photo",
    )
    option(
        "--output",
        "write the predictions to this file (.parquet, .csv or .jsonl) instead of printing them; the same command "
        "continues one that was interrupted",
        metavar="FILE",
    )
    option("--topk", "number of classes per image; default: 5", default=5, **_NUMBER)
    option(
        "--threshold",
        "of models with several labels per image, the probability above which a class is a label; default: 0.5",
        default=0.5,
        type=float,
        metavar="P",
    )
    option("--id-column", "column of .parquet files and manifests to copy to the column `id`", metavar="NAME")
    option("--batch-size", "number of images that the model takes at once; default: 32", default=32, **_NUMBER)
    option("--num-workers", "number of Ray workers that hold the model; default: 0, in this process", **_NUMBER)
    option(
        "--use-gpu", "reserve a GPU for each worker; default: if there are enough", action="store_true", default=None
    )
    option("--address", "address of the Ray cluster; default: RAY_ADDRESS, else a local Ray (ray.address)")
    option("--json", "print the result as one JSON object on standard output", action="store_true")
    option("--verbose", "print tracebacks of errors", action="store_true")
    option("--quiet", "print the predictions and errors alone", action="store_true")
    option = command(
        "export",
        "write a trained model to files for other programs",
        "RUN",
        "a run (its best checkpoint) or a checkpoint",
    )
    option(
        "--format",
        "pt2 (a program of torch.export, the default), onnx, safetensors (weights) or timm (a folder)",
        default="pt2",
    )
    option("--output", "the file or folder; default: the name of the run, in the working directory", metavar="FILE")
    option(
        "--normalize",
        "of pt2 and onnx: normalize within the exported model, which takes images in [0, 1] then",
        action="store_true",
    )
    option("--json", "print the result as one JSON object on standard output", action="store_true")
    option("--verbose", "print tracebacks of errors", action="store_true")
    option = command(
        "serve",
        "serve predictions of a trained model over HTTP, until Ctrl-C",
        "RUN",
        "a run (its best checkpoint), checkpoint or export",
    )
    option("--port", "the port; default: 8000", default=8000, **_NUMBER)
    option("--host", "the address to listen at; default: 127.0.0.1, this machine alone", default="127.0.0.1")
    option("--topk", "number of classes per image; default: 5", default=5, **_NUMBER)
    option("--batch-size", "number of images that the model takes at once; default: 32", default=32, **_NUMBER)
    option("--max-megabytes", "size of the largest upload; default: 32", default=32, **_NUMBER)
    option("--json", "print the result as one JSON object on standard output", action="store_true")
    option("--verbose", "print the output of Ray, and tracebacks of errors", action="store_true")
    option = command(
        "submit",
        "run train, tune, evaluate or predict as a job of a Ray cluster; the same command resumes it",
        "COMMAND",
        "a command with its own words, as in: submit --address http://HEAD:8265 train my.yaml",
    )
    option(
        "--address",
        "URL of the cluster's dashboard; default: that in the environment, else http://127.0.0.1:8265",
        metavar="URL",
    )
    option("--follow", "print the log until the job ends, and exit with its code; the default", action="store_true")
    option("--detach", "return when the job is submitted", action="store_true")
    option("--attach", "print the log of this job, or of the last job of this run, until it ends", metavar="JOB")
    option("--status", "list the jobs, or describe this one", nargs="?", const="", metavar="JOB")
    option("--stop", "stop this job; a run writes a checkpoint before", metavar="JOB")
    option("--grace", "with --stop, seconds that the checkpoint may take; default: 120", type=float, metavar="SECONDS")
    option("--kuberay", "print a manifest that runs the command on Kubernetes, and submit nothing", action="store_true")
    option("--image", "with --kuberay, the image of its pods; default: one of this version", metavar="IMAGE")
    option("--json", "print the result as one JSON object on standard output", action="store_true")
    option("--verbose", "print tracebacks of errors", action="store_true")
    option = command(
        "ls",
        "list runs and sweeps with their results, the trials of a sweep, or the checkpoints of a run",
        "[PATH ...]",
        "a folder or URL of runs (default: runs), a sweep, a run, or several of them",
    )
    option("--sort", "column, metric or config key to sort by; the best metric comes first", metavar="KEY")
    option("--reverse", "sort the other way round", action="store_true")
    option(
        "--filter",
        "list only those with KEY=VALUE, also != < <= > >=, and * in a text; may be repeated",
        action="append",
        metavar="KEY=VALUE",
    )
    option("--json", "print the result as one JSON object on standard output", action="store_true")
    option("--verbose", "print tracebacks of errors", action="store_true")
    option = command("compare", "print what differs between runs: config, versions, results", "RUN RUN ...", "runs")
    option("--json", "print the result as one JSON object on standard output", action="store_true")
    option("--verbose", "print tracebacks of errors", action="store_true")
    option = command(
        "report",
        "write a web page and a summary of a run, of several runs side by side, or of a sweep",
        "RUN [RUN ...]",
        "runs, or one sweep",
    )
    option("--output", "the page, FILE.html; default: report.html in the folder of the run or sweep", metavar="FILE")
    option("--rows", "test rows to evaluate at most; 0 evaluates none; default: 5000", **_NUMBER)
    option("--json", "print the result as one JSON object on standard output", action="store_true")
    option("--verbose", "print tracebacks of errors", action="store_true")
    what = "a checkpoint, or a run for its latest one"
    option = command("show", "describe a checkpoint, and verify its checksum", "CHECKPOINT", what)
    option("--json", "print the result as one JSON object on standard output", action="store_true")
    option("--verbose", "print tracebacks of errors", action="store_true")
    option = command(
        "list", "list components, or the keys and defaults of one", "KIND [NAME]", "for example: model resnet"
    )
    option("--pretrained", "networks with pretrained weights: list model PATTERN --pretrained", action="store_true")
    option("--verbose", "print tracebacks of errors", action="store_true")
    option = command(
        "recipes",
        "list the recipes, configs that come with the package, or print one",
        "[NAME]",
        "print this recipe; to change it: ray-classy recipes NAME > my.yaml",
    )
    option("--json", "print the result as one JSON object on standard output", action="store_true")
    option("--verbose", "print tracebacks of errors", action="store_true")
    option = command(
        "schema",
        "print the JSON schema of configs, by which editors complete and check them",
        "[CONFIG]",
        "a config, for the components of your own that it imports",
    )
    option("--verbose", "print tracebacks of errors", action="store_true")
    option = command("new", "make a small project with components of your own", "PROJECT", "folder of the project")
    option("--verbose", "print tracebacks of errors", action="store_true")
    option = command(
        "import", "list what a project written for Classy Vision needs to run here", "PROJECT", "folder of the project"
    )
    option("--write", "rename the imports in its files", action="store_true")
    option("--json", "print the result as one JSON object on standard output", action="store_true")
    option("--verbose", "print tracebacks of errors", action="store_true")
    return parser, options
