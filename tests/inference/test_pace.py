"""Lines on the progress of predictions and evaluations."""

import time

from ray_classy.inference import pace
from ray_classy.inference.pace import Pace, seldom


def test_a_line_says_how_many_are_done_how_fast_and_how_long_the_others_take(monkeypatch):
    lines, now = [], iter([0.0, 2.0, 16.0, 20.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    of_parts = Pace(5000, lines.append)
    of_parts.reach(8)
    of_parts.reach(4000, part=1)
    of_parts.reach(1000)
    assert lines == [
        "8 of 5,000 images, 4.0 images/s, 21 min left",
        "4,008 of 5,000 images, 250 images/s, 4 s left",
        "5,000 of 5,000 images, 250 images/s",
    ]


def test_lines_come_seldom(monkeypatch):
    lines = []
    told = seldom(lines.append)
    told("first"), told("at once")
    monkeypatch.setattr(pace, "_SECONDS_BETWEEN_LINES", 0.0)
    told("later")
    assert lines == ["first", "later"]
