"""What is fuzzed: how an input is made, and how it is used."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import io
import json
import pathlib
import pickle
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from fuzz_mutations import VALUES, mutated_bytes, mutated_value
from PIL import Image
from rich.console import Console

from ray_classy.checkpoint import load_checkpoint, save_checkpoint
from ray_classy.cli.main import main
from ray_classy.dataset import build_dataset
from ray_classy.dataset.cifar_files import LAYOUTS
from ray_classy.dataset.class_file import read_classes
from ray_classy.dataset.video_metadata import save_metadata
from ray_classy.display import LiveDisplay
from ray_classy.errors import RayClassyError, RunStopped
from ray_classy.models import ClassyModel
from ray_classy.models.weights import load_weights, read_weights
from ray_classy.storage import Storage
from ray_classy.tasks import build_task
from ray_classy.trainer import LocalTrainer
from ray_classy.trainer.progress_file import PROGRESS_FILE, read_progress
from ray_classy.trainer.progress_line import Figures
from ray_classy.trainer.run_display import RunDisplay

RECORDED = pathlib.Path(__file__).parents[1] / "tests" / "data" / "recorded"


class Fault(Exception):
    """The input was not used as it should be: a traceback for a message, or other data than was written."""


@dataclass(frozen=True)
class Surface:
    """One kind of input.

    Attributes:
        make: writes an input into an empty folder.
        use: uses it; returns whether it was used, and not refused by one clear error.
        share: of all inputs, relative to the other surfaces.
    """

    make: Callable[[pathlib.Path, Random], None]
    use: Callable[[pathlib.Path, Random], bool]
    share: int


def small_config() -> dict[str, Any]:
    """The config of a run of a few milliseconds."""
    datasets = {
        phase_type: {
            "name": "synthetic_image",
            "num_samples": 8,
            "crop_size": 4,
            "class_ratio": 0.5,
            "seed": 0,
            "batchsize_per_replica": 4,
            "use_shuffle": phase_type == "train",
            "transforms": [{"name": "apply_transform_to_key", "key": "input", "transforms": [{"name": "ToTensor"}]}],
        }
        for phase_type in ("train", "test")
    }
    return {
        "name": "classification_task",
        "num_epochs": 3,
        "seed": 1,
        "dataset": datasets,
        "model": {"name": "mlp", "input_dim": 48, "output_dim": 3, "hidden_dims": [4]},
        "loss": {"name": "CrossEntropyLoss"},
        "meters": {"accuracy": {"topk": [1]}},
        "optimizer": {
            "name": "sgd",
            "momentum": 0.9,
            "param_schedulers": {"lr": {"name": "cosine", "start_value": 0.1, "end_value": 0.0}},
        },
    }


def command(*words: str) -> bool:
    """Runs a command in this process; whether it succeeded.

    Raises:
        Fault: it failed without a clear error.
    """
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    text = err.getvalue()
    if code == 0:
        return True
    if "Traceback" in text or "error: " not in text or "error: None" in text:
        raise Fault(text[-4000:] or f"exit code {code} without a word")
    return False


# -- what a user writes ------------------------------------------------------------------------------------------------


def _make_config(folder: pathlib.Path, rng: Random) -> None:
    name = rng.choice(("c.yaml", "c.yaml", "c.json"))
    write = _json if name == "c.json" else yaml.safe_dump
    if rng.random() < 0.5:
        content = mutated_bytes(write(small_config()).encode(), rng)
    else:
        value = mutated_value(small_config(), rng)
        try:
            content = write(value).encode(errors="surrogatepass")
        except RecursionError:
            content = _json(value).encode()
    (folder / name).write_bytes(content)


def _use_config(folder: pathlib.Path, rng: Random) -> bool:
    (file,) = folder.iterdir()
    return command("check", str(file))


def _make_override(folder: pathlib.Path, rng: Random) -> None:
    (folder / "c.yaml").write_text(yaml.safe_dump(small_config()))
    keys = [
        "num_epochs",
        "dataset.train.num_samples",
        "model.hidden_dims",
        "optimizer.lr",
        "ray.num_workers",
        "loss",
        "x",
    ]
    value = _json(rng.choice(VALUES)) if rng.random() < 0.5 else _text(rng.choice(VALUES))
    word = f"{rng.choice(keys)}={value}".encode(errors="surrogateescape")
    (folder / "word").write_bytes(word if rng.random() < 0.4 else mutated_bytes(word[:2000], rng))


def _use_override(folder: pathlib.Path, rng: Random) -> bool:
    word = (folder / "word").read_bytes().replace(b"\0", b"")  # no operating system passes it
    return command("check", str(folder / "c.yaml"), word.decode(errors="surrogateescape"))


# -- what is read back -------------------------------------------------------------------------------------------------

_cache: dict[str, Any] = {}


def interrupted_run(folder: pathlib.Path) -> pathlib.Path:
    """Copies a run that was interrupted in its second epoch, with two checkpoints."""
    if "run" not in _cache:
        from ray_classy.hooks import ClassyHook

        class Stop(ClassyHook):
            on_start = on_phase_start = on_phase_end = on_end = ClassyHook._noop

            def on_step(self, task: Any) -> None:
                if task.train and task.where > 0.5:
                    (path / "stop").write_text("")

        path = folder.parent / "seed-of-runs" / "r"
        config = {**small_config(), "log_every": {"steps": 1}}
        task = build_task({**config, "hooks": [{"name": "loss_lr_meter_logging"}]}).set_hooks([Stop()])
        with contextlib.suppress(RunStopped), contextlib.redirect_stderr(io.StringIO()):
            LocalTrainer(str(path.parent), "r").train(task)
        (path / "config.yaml").write_text(yaml.safe_dump(small_config()))
        _cache["run"] = path
    return pathlib.Path(shutil.copytree(_cache["run"], folder / "r", symlinks=True))


def _make_run_file(folder: pathlib.Path, rng: Random) -> None:
    run = interrupted_run(folder)
    file = run / rng.choice(
        (
            "run.json",
            "metrics.jsonl",
            "steps.jsonl",
            "lease.json",
            "config.yaml",
            "last",
            "manifest.json",
            "manifest.json",
        )
    )
    if file.name == "manifest.json":
        file = rng.choice(sorted(run.glob("epoch*"))) / file.name
    elif file.name == "last":
        file.unlink()
        file.write_bytes(b"epoch_0001-step_000002")
    _mutate_json_file(file, rng)


def _use_run(folder: pathlib.Path, rng: Random) -> bool:
    run = str(folder / "r")
    report = ("report", run, "--rows", "0")
    return command(
        *rng.choice((("ls", run), ("ls", str(folder)), ("show", run), report, ("train", "--resume", run, "--local")))
    )


def _make_progress(folder: pathlib.Path, rng: Random) -> None:
    figures = Figures("train", 3, 90, 400, 1000, 2400, 0.34, 0.5, [0.1], 1234.4, 0.123, 3 << 30, 75.0, 7200.0)
    known: Any = {"working": "reading a checkpoint"} if rng.random() < 0.1 else dataclasses.asdict(figures)
    (folder / PROGRESS_FILE).write_text(_json(known))
    _mutate_json_file(folder / PROGRESS_FILE, rng)


def _use_progress(folder: pathlib.Path, rng: Random) -> bool:
    found = read_progress(Storage(str(folder)))
    if found is None:
        return False
    display = RunDisplay(LiveDisplay(io.StringIO()))
    try:
        display.show(found)
        console = Console(file=io.StringIO(), width=80)
        console.print(display.render(80))
    finally:
        display.close()
    if "\x1b" in console.file.getvalue():
        raise Fault("a file of progress controls the terminal")
    return True


def _make_sweep_file(folder: pathlib.Path, rng: Random) -> None:
    shutil.copytree(RECORDED / "sweep", folder / "s", symlinks=True)
    _mutate_json_file(
        rng.choice([file for file in sorted((folder / "s").rglob("*.json*")) if "epoch" not in str(file)]), rng
    )


def _use_sweep(folder: pathlib.Path, rng: Random) -> bool:
    from ray_classy.tune.folder import existing_sweep

    if rng.random() < 0.3:
        try:
            existing_sweep(str(folder / "s")).trials()
        except (RayClassyError, FileNotFoundError):
            return False
        return True
    sweep = str(folder / "s")
    return command(*rng.choice((("ls", sweep), ("ls", str(folder)), ("report", sweep), ("show", f"{sweep}/t0000"))))


def _mutate_json_file(file: pathlib.Path, rng: Random) -> None:
    content = file.read_bytes()
    lines = content.splitlines() if file.suffix == ".jsonl" else [content]
    if rng.random() < 0.4 or file.suffix not in (".json", ".jsonl"):
        file.write_bytes(mutated_bytes(content, rng))
        return
    at = rng.randrange(len(lines))
    lines[at] = _json(mutated_value(json.loads(lines[at]), rng)).encode(errors="surrogatepass")
    file.write_bytes(b"\n".join([*lines, b""]))


def _make_checkpoint(folder: pathlib.Path, rng: Random) -> None:
    run = interrupted_run(folder)
    file = sorted(run.glob("epoch*"))[-1] / "checkpoint.torch"
    file.write_bytes(mutated_bytes(file.read_bytes(), rng))


def _use_checkpoint(folder: pathlib.Path, rng: Random) -> bool:
    path = sorted((folder / "r").glob("epoch*"))[-1]
    if rng.random() < 0.5:
        return command("show", str(path))
    try:
        read = load_checkpoint(str(path))
    except RayClassyError:
        return False
    if not _same(read, load_checkpoint(str(_cache["run"] / path.name))):
        raise Fault("another state than the one written was loaded under an intact manifest")
    return True


def _make_state(folder: pathlib.Path, rng: Random) -> None:
    run = interrupted_run(folder)
    path = sorted(run.glob("epoch*"))[-1]
    content = load_checkpoint(str(path))
    with contextlib.suppress(Exception):  # what cannot be written cannot be read
        shutil.rmtree(path)
        save_checkpoint(str(path), _mutated_state(content, rng))


def _use_state(folder: pathlib.Path, rng: Random) -> bool:
    path = sorted((folder / "r").glob("epoch*"))[-1]
    if rng.random() < 0.3:
        return command("show", str(path))
    return command("train", "--resume", str(folder / "r"), "--local")


def _mutated_state(value: Any, rng: Random) -> Any:
    def tensor(found: torch.Tensor) -> torch.Tensor:
        return rng.choice(
            (
                found[:0],
                found.double(),
                found.long(),
                found.flatten(),
                found * float("nan"),
                torch.zeros(()),
                found[None],
            )
        )

    changed = mutated_value(value, rng)
    if rng.random() < 0.4:
        parents = [changed]
        while parents:
            node = parents.pop(rng.randrange(len(parents)))
            items = list(node.items() if isinstance(node, dict) else enumerate(node))
            tensors = [key for key, child in items if isinstance(child, torch.Tensor)]
            if tensors and isinstance(node, dict | list):
                key = rng.choice(tensors)
                node[key] = tensor(node[key])
                break
            parents += [child for _, child in items if isinstance(child, dict | list)]
    return changed


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and (one == other or (one != one and other != other))


# -- data --------------------------------------------------------------------------------------------------------------


def _picture(rng: Random, form: str) -> bytes:
    mode = {"JPEG": ("RGB", "L", "CMYK"), "GIF": ("P",), "PPM": ("RGB", "L"), "BMP": ("RGB", "P")}.get(
        form, ("RGB", "L")
    )
    mode = (*mode, "RGBA", "P", "I;16") if form == "PNG" else mode
    buffer = io.BytesIO()
    Image.new(rng.choice(mode), (9, 7), 1).save(buffer, form)
    return buffer.getvalue()


def _any_picture(rng: Random) -> bytes:
    return _picture(rng, rng.choice(("JPEG", "JPEG", "PNG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")))


def _read_all(config: dict[str, Any]) -> bool:
    keys = {"batchsize_per_replica": 4, "use_shuffle": False}
    shape = [{"name": "ToTensor"}, {"name": "Resize", "size": [4, 4]}]
    transforms = [{"name": "apply_transform_to_key", "key": "input", "transforms": shape}]
    try:
        dataset = build_dataset({**config, **keys, "transforms": transforms})
        for batch in dataset.iterator(num_workers=0):
            assert set(batch) >= {"input"}
    except (RayClassyError, FileNotFoundError, PermissionError):
        return False
    return True


def _make_image(folder: pathlib.Path, rng: Random) -> None:
    (folder / "a").mkdir()
    for name in ("x.png", "y.jpg"):
        content = _any_picture(rng)
        (folder / "a" / name).write_bytes(mutated_bytes(content, rng) if name == "x.png" else content)


def _use_images(folder: pathlib.Path, rng: Random) -> bool:
    return _read_all({"name": "image_path", "image_folder": str(folder)})


def _rows(folder: pathlib.Path, rng: Random) -> list[dict[str, Any]]:
    names = [f"{index}.png" for index in range(4)]
    for name in names:
        (folder / name).write_bytes(_picture(rng, "PNG"))
    return [{"path": name, "label": index % 2} for index, name in enumerate(names)]


def _make_manifest(folder: pathlib.Path, rng: Random) -> None:
    rows = _rows(folder, rng)
    if rng.random() < 0.5:
        lines = [",".join(rows[0]), *(",".join(str(value) for value in row.values()) for row in rows)]
        name, content = "m.csv", "\n".join(lines).encode()
    else:
        changed = mutated_value(rows, rng) if rng.random() < 0.5 else rows
        lines = [_json(row) for row in (changed if isinstance(changed, list) else [changed])]
        name, content = "m.jsonl", "\n".join(lines).encode(errors="surrogatepass")
    (folder / name).write_bytes(mutated_bytes(content, rng))


def _use_manifest(folder: pathlib.Path, rng: Random) -> bool:
    (file,) = folder.glob("m.*")
    return _read_all({"name": "manifest", "manifest": str(file)})


def _make_classes(folder: pathlib.Path, rng: Random) -> None:
    names = [
        _text(rng.choice(VALUES)) if rng.random() < 0.2 else f"class {number}" for number in range(rng.randrange(6))
    ]
    suffix = rng.choice((".txt", ".json"))
    content = (json.dumps(names) if suffix == ".json" else "\n".join(names)).encode(errors="replace")
    (folder / f"classes{suffix}").write_bytes(mutated_bytes(content, rng) if rng.random() < 0.5 else content)


def _use_classes(folder: pathlib.Path, rng: Random) -> bool:
    (file,) = folder.iterdir()
    try:
        return all(isinstance(name, str) and name for name in read_classes(str(file)))
    except RayClassyError:
        return False


def _make_parquet(folder: pathlib.Path, rng: Random) -> None:
    images = [_picture(rng, "PNG") for _ in range(4)]
    labels: Any = rng.choice(([0, 1, 0, 1], ["a", "b", "a", "b"]))
    columns: dict[str, Any] = {"image": images, "label": labels}
    if rng.random() < 0.4:
        value = rng.choice(VALUES)
        columns[rng.choice(("image", "label"))] = (
            [value] * 4 if rng.random() < 0.5 else [*rng.choice((images, labels))[:3], value]
        )
    elif rng.random() < 0.5:
        columns["image"] = [
            {"bytes": rng.choice((image, None)), "path": rng.choice(("x.png", "/etc/passwd", None))} for image in images
        ]
    try:
        table = pa.table(columns)
        pq.write_table(
            table, folder / "t.parquet", row_group_size=2, compression=rng.choice(("snappy", "none", "zstd"))
        )
    except (pa.ArrowException, TypeError, UnicodeError, OverflowError):  # such a file cannot be written
        pq.write_table(pa.table({"image": images, "label": [0] * 4}), folder / "t.parquet")
    if rng.random() < 0.6:
        (folder / "t.parquet").write_bytes(mutated_bytes((folder / "t.parquet").read_bytes(), rng))


def _use_parquet(folder: pathlib.Path, rng: Random) -> bool:
    return _read_all({"name": "parquet", "files": str(folder / "t.parquet")})


def _make_tar(folder: pathlib.Path, rng: Random) -> None:
    with tarfile.open(folder / "s.tar", "w", format=rng.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT))) as tar:
        for index in range(3):
            label = rng.choice((b"0", b"1"))
            if rng.random() < 0.1:
                label = _text(rng.choice(VALUES)).encode(errors="surrogatepass")
            for name, content in ((f"{index}.png", _picture(rng, "PNG")), (f"{index}.cls", label)):
                if rng.random() < 0.1:
                    name = rng.choice(("../", "a/", "ä", "/", "x" * 200)) + name
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    content = (folder / "s.tar").read_bytes()
    if rng.random() < 0.7:
        header = 512 * rng.randrange(len(content) // 512)
        part = mutated_bytes(content[header : header + 512], rng)[:512].ljust(512, b"\0")
        content = (
            content[:header] + part + content[header + 512 :] if rng.random() < 0.6 else mutated_bytes(content, rng)
        )
    (folder / "s.tar").write_bytes(content)


def _use_tar(folder: pathlib.Path, rng: Random) -> bool:
    return _read_all({"name": "webdataset", "shards": str(folder / "s.tar")})


def _make_cifar(folder: pathlib.Path, rng: Random) -> None:
    layout = LAYOUTS["cifar10"]
    (folder / layout.folder).mkdir()
    images = {"data": np.zeros((2, 3072), np.uint8), "labels": [1, 2]}
    names = {layout.names: [f"class {number}" for number in range(10)]}
    protocol = rng.choice((2, 3, 4, 5))
    files = {layout.meta: names, layout.files[False][0]: images}
    damaged = rng.choice(list(files))
    for name, content in files.items():
        data = pickle.dumps(content, protocol)
        (folder / layout.folder / name).write_bytes(mutated_bytes(data, rng) if name == damaged else data)


def _use_cifar(folder: pathlib.Path, rng: Random) -> bool:
    config = {"name": "classy_cifar10", "root": str(folder), "batchsize_per_replica": 4, "use_shuffle": False}
    try:
        for batch in build_dataset(config).iterator(num_workers=0):
            assert set(batch) == {"input", "target"}
    except RayClassyError:
        return False
    return True


@functools.cache
def _video(suffix: str) -> bytes:
    """A video of 12 frames."""
    import av

    stream, codec = io.BytesIO(), {"mp4": "libx264", "matroska": "libx264", "avi": "mpeg4"}[suffix]
    with av.open(stream, "w", format=suffix) as container:
        video = container.add_stream(codec, rate=10)
        video.height, video.width, video.pix_fmt = 32, 48, "yuv420p"
        for level in range(12):
            frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), 20 * level, np.uint8), format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return stream.getvalue()


def _make_video(folder: pathlib.Path, rng: Random) -> None:
    (folder / "a").mkdir()
    content = _video(rng.choice(("mp4", "matroska", "avi")))
    damaged = rng.random() < 0.5
    (folder / "a" / "0.mp4").write_bytes(mutated_bytes(content, rng) if damaged else content)
    if not damaged:
        name = rng.choice(("m.json", "m.pt"))
        times = [torch.arange(12)]
        save_metadata({"video_paths": ["/x/a/0.mp4"], "video_pts": times, "video_fps": [10.0]}, str(folder / name))
        (folder / name).write_bytes(mutated_bytes((folder / name).read_bytes(), rng))


def _use_video(folder: pathlib.Path, rng: Random) -> bool:
    known = next((str(file) for file in folder.glob("m.*")), str(folder / "new.json"))
    common = {"batchsize_per_replica": 2, "use_shuffle": False, "frames_per_clip": 4}
    config = {"name": "kinetics400", "split": "test", "video_dir": str(folder), "metadata_file": known, **common}
    try:
        for batch in build_dataset({**config, "transforms": {"video": []}}).iterator(num_workers=0):
            assert batch["input"]["video"].shape[:2] == (1, 4)
    except RayClassyError:
        return False
    return True


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    try:
        return json.dumps(value)
    except RecursionError:
        return "[" * 100_000


# -- weights of others -------------------------------------------------------------------------------------------------


def _make_weights(folder: pathlib.Path, rng: Random) -> None:
    tensors = _linear().state_dict()
    kind = rng.choice(("zip", "legacy", "safetensors", "parts"))
    if kind == "parts":
        from safetensors.torch import save

        (folder / "a.safetensors").write_bytes(save(tensors))
        index = json.dumps({"weight_map": dict.fromkeys(tensors, "a.safetensors")}).encode()
        (folder / "model.safetensors.index.json").write_bytes(mutated_bytes(index, rng))
        return
    if kind == "safetensors":
        from safetensors.torch import save

        data = save(tensors, {"format": "pt"})
        config = mutated_bytes(b'{"architecture": "linear", "num_classes": 3}', rng)
        (folder / "config.json").write_bytes(config)
    else:
        buffer = io.BytesIO()
        content = {"model": tensors, "model_ema": tensors, "args": argparse.Namespace(lr=0.1), "best": np.float64(1)}
        protocol = rng.choice((2, 2, 4, 5))
        torch.save(content, buffer, pickle_protocol=protocol, _use_new_zipfile_serialization=kind == "zip")
        data = buffer.getvalue()
    (folder / "model.safetensors").write_bytes(mutated_bytes(data, rng))


def _use_weights(folder: pathlib.Path, rng: Random) -> bool:
    key = rng.choice((None, None, "model_ema", "args"))
    try:
        print(load_weights(_linear(), read_weights(str(folder), key), strict=rng.random() < 0.5), file=io.StringIO())
    except RayClassyError:
        return False
    return True


def _linear() -> ClassyModel:
    return ClassyModel.from_model(torch.nn.Linear(4, 3), input_shape=(4,))


SURFACES = {
    "configs": Surface(_make_config, _use_config, 4),
    "overrides": Surface(_make_override, _use_override, 2),
    "run files": Surface(_make_run_file, _use_run, 3),
    "progress": Surface(_make_progress, _use_progress, 1),
    "sweep files": Surface(_make_sweep_file, _use_sweep, 2),
    "checkpoints": Surface(_make_checkpoint, _use_checkpoint, 2),
    "states": Surface(_make_state, _use_state, 3),
    "weights": Surface(_make_weights, _use_weights, 2),
    "manifests": Surface(_make_manifest, _use_manifest, 2),
    "class files": Surface(_make_classes, _use_classes, 1),
    "parquet": Surface(_make_parquet, _use_parquet, 2),
    "tars": Surface(_make_tar, _use_tar, 2),
    "images": Surface(_make_image, _use_images, 3),
    "cifar": Surface(_make_cifar, _use_cifar, 1),
    "videos": Surface(_make_video, _use_video, 1),
}
