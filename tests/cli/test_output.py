import io
import shlex
import sys

from ray_classy.cli.output import command_line
from ray_classy.cli.streams import LenientStream


def test_a_command_can_be_pasted_from_a_terminal_without_umlauts(monkeypatch):
    assert command_line("ls", "runs/läufe") == "ray-classy ls " + shlex.quote("runs/läufe")
    monkeypatch.setattr(sys, "stdout", LenientStream(io.TextIOWrapper(io.BytesIO(), "ascii")))
    assert command_line("ls", "runs/läufe") == r"ray-classy ls $'runs/l\303\244ufe'"
