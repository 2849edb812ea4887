"""Writes ray_classy/dataset/transforms/torchvision_keys.py for the installed version of torchvision."""

import subprocess
import types
import typing
from pathlib import Path

import torchvision

from ray_classy.dataset.transforms.torchvision_transforms import classes, keys_of
from ray_classy.registry import REQUIRED, Key

TARGET = Path(__file__).parents[1] / "ray_classy/dataset/transforms/torchvision_keys.py"
HEAD = '''"""The keys of torchvision's transforms, written by scripts/write_torchvision_keys.py: do not edit.

They are read instead of the signatures where torchvision has this version, so that a config is checked without the
seconds that its import takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from ray_classy.dataset.transforms.classy_transform import ClassyTransform
from ray_classy.registry import Key, Keys

VERSION = "{version}"

'''
ALIASES = {
    "Interpolation": "Literal['nearest', 'nearest-exact', 'bilinear', 'bicubic', 'box', 'hamming', 'lanczos'] | int",
    "Fill": "int | float | Sequence[int] | Sequence[float] | None",
    "PaddingMode": "Literal['constant', 'edge', 'reflect', 'symmetric']",
}


def written(annotation: object) -> str:
    """The annotation as source code."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is typing.Any:
        return "Any"
    if annotation is type(None):
        return "None"
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(written, arguments))
    if origin is typing.Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    name = (origin or annotation).__name__
    return f"{name}[{', '.join(map(written, arguments))}]" if arguments else name


def plain(default: object) -> object:
    """The default as a config writes it."""
    return default if isinstance(default, int | float | tuple | None) else str(getattr(default, "value", default))


def entry(key: Key) -> str:
    """The key as source code."""
    text = written(key.annotation)
    text = next((f"_{alias}" for alias, full in ALIASES.items() if text == full), text)
    return f"Key({text})" if key.default is REQUIRED else f"Key({text}, {plain(key.default)!r})"


def main() -> None:
    """Writes the file."""
    lines = [f"_{name} = {text}" for name, text in ALIASES.items()] + ["", "KEYS: dict[str, Keys] = {"]
    for name, cls in sorted(classes().items()):
        entries = ", ".join(f"{key!r}: {entry(value)}" for key, value in keys_of(cls).items())
        lines.append(f"    {name!r}: {{{entries}}},")
    version = ".".join(torchvision.__version__.split(".")[:2])
    TARGET.write_text(HEAD.format(version=version) + "\n".join([*lines, "}"]) + "\n")
    subprocess.run(["ruff", "format", "-q", TARGET], check=True)


if __name__ == "__main__":
    main()
