"""`ray-classy export`."""

from __future__ import annotations

import argparse
import os

from ray_classy.cli.arguments import UsageError
from ray_classy.cli.output import Answer, short
from ray_classy.cli.paths import path_in
from ray_classy.cli.trained import trained_at, use_code
from ray_classy.disk_errors import size_text
from ray_classy.errors import RunFolderError
from ray_classy.inference.export import FORMATS, PROGRAMS, Export, check_format, export_model
from ray_classy.inference.model_card import input_text, model_card
from ray_classy.storage import Storage
from ray_classy.urls import expanded, shown

_CARD_IN_FOLDER = "README.md"
"""The Hugging Face Hub shows a card of this name."""


def export(arguments: argparse.Namespace) -> Answer:
    """Writes the model of a run to files for other programs, and says how far its outputs differ.

    Raises:
        UsageError: the command line has a mistake.
        RayClassyError: it cannot be done; the message says why.
    """
    form = arguments.format
    if form not in FORMATS:
        raise UsageError(f"--format must be {', '.join(FORMATS[:-1])} or {FORMATS[-1]}, not {form!r}")
    if arguments.normalize and form not in PROGRAMS:
        raise UsageError(f"--normalize goes with --format {' and '.join(PROGRAMS)}: weights alone compute nothing")
    check_format(form)
    path = path_in(arguments, "a run or checkpoint")
    name = os.path.basename(path.rstrip("/")) or "model"
    suffix = "-timm" if form == "timm" else f".{form}"
    output = expanded(arguments.output or f"{name}{suffix}").rstrip("/")
    if form != "timm" and not output.endswith(suffix):
        raise UsageError(f"--output must end in {suffix}, not {output!r}")
    place = _Place(output, folder=form == "timm")
    place.check_free()
    use_code(arguments.code)
    trained = trained_at(path)
    made = export_model(trained, form, arguments.normalize)
    card = place.write(made, model_card(trained, made, form, place.name))
    what = "random inputs" if made.lacking else "rows of the test data"
    lines = [
        f"checkpoint  {short(shown(trained.path))}",
        f"{'folder' if form == 'timm' else 'file  '}      {short(shown(output))}, "
        f"{size_text(sum(map(len, made.files.values())))}",
        f"model card  {short(shown(card))}",
        f"input       {input_text(made.record)}",
        f"difference  {made.difference:.3g} at most, on {what}",
    ]
    if made.lacking:
        lines.append(f"            the test data was not used: {made.lacking}")
    data = {
        "checkpoint": trained.path,
        "file": output,
        "model_card": card,
        "input_shape": list(made.input_shape),
        "normalizes": made.record.normalization is not None,
        "difference": made.difference,
        "rows": made.rows,
        "real_rows": not made.lacking,
    }
    return Answer("\n".join(lines), data)


class _Place:
    """Where an export goes: a file with its model card beside it, or a folder with the card in it."""

    def __init__(self, output: str, folder: bool) -> None:
        within, _, self.name = output.rpartition("/")
        self._output = output
        self._folder = folder
        self._storage = Storage(output if folder else within or ".")
        self._card = _CARD_IN_FOLDER if folder else f"{self.name}.md"

    def check_free(self) -> None:
        """Checks that nothing would be overwritten.

        Raises:
            RunFolderError: it would.
        """
        taken = [""] if self._folder else [self.name, self._card]
        for name in taken:
            if self._storage.exists(name):
                what = self._output if name in ("", self.name) else self._storage.join(name)
                raise RunFolderError(f"{shown(what)!r} exists: remove it, or give another --output")

    def write(self, made: Export, card: str) -> str:
        """Writes the files, and returns the path of the card."""
        self._storage.make()
        for name, content in made.files.items():
            self._storage.write(name or self.name, content)
        self._storage.write(self._card, card.encode())
        return self._storage.join(self._card)
