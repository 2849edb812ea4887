"""The commands of `ray-classy`: the function of each, its options, and the config keys that options set."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

COMMANDS = {
    "train": "ray_classy.cli.train:train",
    "check": "ray_classy.cli.check:check",
    "tune": "ray_classy.cli.tune:tune",
    "bench-data": "ray_classy.cli.bench_data:bench_data",
    "profile": "ray_classy.cli.profile:profile",
    "evaluate": "ray_classy.cli.evaluate:evaluate_run",
    "predict": "ray_classy.cli.predict:predict",
    "export": "ray_classy.cli.export:export",
    "serve": "ray_classy.cli.serve:serve_run",
    "submit": "ray_classy.cli.submit:submit",
    "ls": "ray_classy.cli.ls:ls",
    "compare": "ray_classy.cli.compare:compare",
    "report": "ray_classy.cli.report:report",
    "show": "ray_classy.cli.show:show",
    "list": "ray_classy.cli.list:list_components",
    "recipes": "ray_classy.cli.recipes:recipes",
    "schema": "ray_classy.cli.schema:schema",
    "new": "ray_classy.cli.new:new",
    "import": "ray_classy.cli.import_project:import_project",
}
"""The function of each command, "module:function"."""
READ_CONFIG = ("train", "check", "bench-data", "profile")
"""Commands whose function takes the config that the command line gives, not the command line."""

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

_FLAG: dict[str, Any] = {"action": "store_true"}
_NUMBER: dict[str, Any] = {"type": int, "metavar": "N"}
_SHARED: dict[str, tuple[str, dict[str, Any]]] = {
    "--address": ("address of the Ray cluster; default: RAY_ADDRESS, else a local Ray (ray.address)", {}),
    "--batch-size": ("number of images that the model takes at once; default: 32", {**_NUMBER, "default": 32}),
    "--code": (
        "folder of the modules under `imports`; default: that of the config, but never a run's",
        {"metavar": "DIR"},
    ),
    "--json": ("print the result as one JSON object on standard output", _FLAG),
    "--num-workers": ("number of worker processes (ray.num_workers)", _NUMBER),
    "--quiet": ("print the result and errors alone", _FLAG),
    "--resume": ("resume this run; without CONFIG, the run's own config is used", {"metavar": "RUN"}),
    "--storage-path": ("folder or URL for runs; default: runs (ray.storage_path)", {"metavar": "PATH"}),
    "--topk": ("number of classes per image; default: 5", {**_NUMBER, "default": 5}),
    "--use-gpu": ("reserve a GPU for each worker (ray.use_gpu)", {**_FLAG, "default": None}),
    "--verbose": ("print tracebacks of errors", _FLAG),
}
"""Options of several commands: the help, which a command may word differently, and the arguments of argparse."""

_CODE_OF_RUN = "folder of the modules that the run imports; default: that of the config that it was started with"
_WORDS = "the config file or recipe:NAME, and overrides of its values such as optimizer.lr=0.01 or num_epochs=3"
_CONFIG = ("CONFIG [key=value ...]", _WORDS)
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

_AddOption = Callable[..., None]
"""Takes the flag, its help unless it is that in `_SHARED`, and arguments of argparse."""
_AddCommand = Callable[[str, str, str, str], _AddOption]
"""Takes a command's name, what it does, the form of its other words, and their help."""


def add_commands(parser: argparse.ArgumentParser) -> dict[str, list[str]]:
    """Adds all commands to the parser, and returns the names of each command's options."""
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    options: dict[str, list[str]] = {}

    def command(name: str, text: str, words: str, words_help: str) -> _AddOption:
        added = commands.add_parser(name, help=text, description=f"{text}.", allow_abbrev=False)
        added.add_argument("words", nargs="*", metavar=words, help=words_help)
        options[name] = []

        def option(flag: str, help: str | None = None, **more: Any) -> None:
            shared_help, shared = _SHARED.get(flag, ("", {}))
            added.add_argument(flag, help=help or shared_help, **{**shared, **more})
            options[name].append(flag)

        return option

    for add in (_add_training, _add_inference, _add_submit, _add_runs, _add_components):
        add(command)
    return options


def _add_own_data(option: _AddOption) -> None:
    """Adds the options that take the place of a config."""
    for flag, what, place in _OWN_DATA:
        option(flag, f"in place of CONFIG: {what}", metavar=place)
    for flag, what, place in _WITH_OWN_DATA:
        option(flag, f"with these, {what}", metavar=place)
    option("--split", "with these, the share of test images; default: 0.2", type=float, metavar="SHARE")
    option("--print-config", "print the config and do nothing else", **_FLAG)


def _add_training(command: _AddCommand) -> None:
    """Adds the commands that train, or look at what would be trained."""
    for name, text in (
        ("train", "train or evaluate the task of a config, or resume a run"),
        ("check", "check a config, and print what a training of it does and needs; starts nothing"),
    ):
        option = command(name, text, *_CONFIG)
        _add_own_data(option)
        option("--num-workers")
        option("--use-gpu")
        option("--storage-path")
        option("--name", "name of the run; default: date and time with a random suffix (ray.name)")
        option("--resume")
        option("--checkpoint", "checkpoint to start from, or a run for its latest one (checkpoint)", metavar="PATH")
        option("--address")
        option("--local", "train in this process, without Ray", **_FLAG)
        option("--code")
        option("--json")
        option("--verbose", "print the output of Ray, and tracebacks of errors")
        if name == "train":
            option("--quiet", "print the result and errors alone; log.txt has the rest")
    option = command("tune", "run a hyperparameter search over a config with search spaces", *_CONFIG)
    _add_own_data(option)
    option("--budget", "with --images and its like, how long trials run in all, such as 1h or 90m", metavar="TIME")
    option("--code")
    option(
        "--num-samples",
        "number of trials, or passes over a grid; with --extend, additional ones (tune.num_samples)",
        **_NUMBER,
    )
    option("--num-workers", "number of worker processes per trial (ray.num_workers)")
    option("--use-gpu")
    option("--storage-path", "folder or URL for sweeps; default: runs (ray.storage_path)")
    option("--name", "name of the sweep; default: date and time with a random suffix (ray.name)")
    option("--resume", "resume this sweep; trials that have ended are not repeated")
    option(
        "--extend", "add --num-samples trials to this sweep, or train its best trials up to num_epochs=N", metavar="RUN"
    )
    option("--best", "with --extend and num_epochs=N, the number of best trials to train; default: 3", **_NUMBER)
    option("--address")
    option("--json")
    option("--verbose", "print the output of Ray, and tracebacks of errors")
    option("--quiet")
    option = command(
        "bench-data", "measure the throughput of a config's data pipeline, and name its bottleneck", *_CONFIG
    )
    option("--code")
    option("--rows", "number of rows to read from each dataset per measurement; default: 2000", default=2000, **_NUMBER)
    option("--json")
    option("--verbose")
    option = command(
        "profile", "run some train steps in this process, and say where their time goes and what to try", *_CONFIG
    )
    option("--code")
    option("--steps", "number of steps of each measurement; default: 20", default=20, **_NUMBER)
    option("--warmup", "number of steps before them; default: 5", default=5, **_NUMBER)
    option("--try", "measure what each key that may help gains", action="store_true", dest="try_")
    option("--trace", "the file for a trace of three steps; default: trace-TIME.json", metavar="FILE")
    option("--json")
    option("--verbose")


def _add_inference(command: _AddCommand) -> None:
    """Adds the commands that use a trained model."""
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
    option("--flip", "average the outputs for each image and its mirror image", **_FLAG)
    option("--batch-size", "number of rows that the model takes at once; default: 32")
    option("--code", _CODE_OF_RUN)
    option("--num-workers", "number of Ray workers; default: 0, in this process")
    option("--use-gpu")
    option("--address")
    option("--json", "print the report as one JSON object on standard output")
    option("--verbose")
    option("--quiet", "print the report and errors alone")
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
    option("--topk")
    option(
        "--threshold",
        "of models with several labels per image, the probability above which a class is a label; default: 0.5",
        default=0.5,
        type=float,
        metavar="P",
    )
    option("--id-column", "column of .parquet files and manifests to copy to the column `id`", metavar="NAME")
    option("--batch-size")
    option("--code", _CODE_OF_RUN)
    option("--num-workers", "number of Ray workers that hold the model; default: 0, in this process")
    option("--use-gpu", "reserve a GPU for each worker; default: if there are enough")
    option("--address")
    option("--json")
    option("--verbose")
    option("--quiet", "print the predictions and errors alone")
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
        **_FLAG,
    )
    option("--code", _CODE_OF_RUN)
    option("--json")
    option("--verbose")
    option = command(
        "serve",
        "serve predictions of a trained model over HTTP, until Ctrl-C",
        "RUN",
        "a run (its best checkpoint), checkpoint or export",
    )
    option("--port", "the port; default: 8000", default=8000, **_NUMBER)
    option("--host", "the address to listen at; default: 127.0.0.1, this machine alone", default="127.0.0.1")
    option("--topk")
    option("--batch-size")
    option("--code", _CODE_OF_RUN)
    option("--max-megabytes", "size of the largest upload; default: 32", default=32, **_NUMBER)
    option("--json")
    option("--verbose", "print the output of Ray, and tracebacks of errors")


def _add_submit(command: _AddCommand) -> None:
    """Adds the command that sends others to a cluster."""
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
    option("--follow", "print the log until the job ends, and exit with its code; the default", **_FLAG)
    option("--detach", "return when the job is submitted", **_FLAG)
    option("--attach", "print the log of this job, or of the last job of this run, until it ends", metavar="JOB")
    option("--status", "list the jobs, or describe this one", nargs="?", const="", metavar="JOB")
    option("--stop", "stop this job; a run writes a checkpoint before", metavar="JOB")
    option("--grace", "with --stop, seconds that the checkpoint may take; default: 120", type=float, metavar="SECONDS")
    option("--kuberay", "print a manifest that runs the command on Kubernetes, and submit nothing", **_FLAG)
    option("--image", "with --kuberay, the image of its pods; default: one of this version", metavar="IMAGE")
    option("--json")
    option("--verbose")


def _add_runs(command: _AddCommand) -> None:
    """Adds the commands that describe runs, sweeps and checkpoints."""
    option = command(
        "ls",
        "list runs and sweeps with their results, the trials of a sweep, or the checkpoints of a run",
        "[PATH ...]",
        "a folder or URL of runs (default: runs), a sweep, a run, or several of them",
    )
    option("--sort", "column, metric or config key to sort by; the best metric comes first", metavar="KEY")
    option("--reverse", "sort the other way round", **_FLAG)
    option(
        "--filter",
        "list only those with KEY=VALUE, also != < <= > >=, and * in a text; may be repeated",
        action="append",
        metavar="KEY=VALUE",
    )
    option("--json")
    option("--verbose")
    option = command("compare", "print what differs between runs: config, versions, results", "RUN RUN ...", "runs")
    option("--json")
    option("--verbose")
    option = command(
        "report",
        "write a web page and a summary of a run, of several runs side by side, or of a sweep",
        "RUN [RUN ...]",
        "runs, or one sweep",
    )
    option("--output", "the page, FILE.html; default: report.html in the folder of the run or sweep", metavar="FILE")
    option("--rows", "test rows to evaluate at most; 0 evaluates none; default: 5000", **_NUMBER)
    option("--code", _CODE_OF_RUN)
    option("--json")
    option("--verbose")
    what = "a checkpoint, or a run for its latest one"
    option = command("show", "describe a checkpoint, and verify its checksum", "CHECKPOINT", what)
    option("--json")
    option("--verbose")


def _add_components(command: _AddCommand) -> None:
    """Adds the commands that describe components and configs, and those for projects."""
    option = command(
        "list", "list components, or the keys and defaults of one", "KIND [NAME]", "for example: model resnet"
    )
    option("--pretrained", "networks with pretrained weights: list model PATTERN --pretrained", **_FLAG)
    option("--verbose")
    option = command(
        "recipes",
        "list the recipes, configs that come with the package, or print one",
        "[NAME]",
        "print this recipe; to change it: ray-classy recipes NAME > my.yaml",
    )
    option("--json")
    option("--verbose")
    option = command(
        "schema",
        "print the JSON schema of configs, by which editors complete and check them",
        "[CONFIG]",
        "a config, for the components of your own that it imports",
    )
    option("--verbose")
    option = command("new", "make a small project with components of your own", "PROJECT", "folder of the project")
    option("--verbose")
    option = command(
        "import", "list what a project written for Classy Vision needs to run here", "PROJECT", "folder of the project"
    )
    option("--write", "rename the imports in its files", **_FLAG)
    option("--json")
    option("--verbose")
