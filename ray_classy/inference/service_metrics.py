"""Counts of a service, which it answers in the text format of Prometheus, and gives to Ray's own metrics too."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Histogram:
    """Counts values up to each of some boundaries.

    Args:
        boundaries: rising; values above the last one count as well.
    """

    def __init__(self, boundaries: Sequence[float]) -> None:
        self.boundaries = boundaries
        self.counts = [0] * (len(boundaries) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Counts a value."""
        self.counts[bisect_left(self.boundaries, value)] += 1
        self.sum += value

    def lines(self, name: str) -> Iterator[str]:
        """Yields the samples of the histogram, cumulated."""
        bounds = [*(f"{bound:g}" for bound in self.boundaries), "+Inf"]
        for bound, count in zip(bounds, accumulate(self.counts), strict=True):
            yield f'{name}_bucket{{le="{bound}"}} {count}'
        yield f"{name}_sum {self.sum:g}"
        yield f"{name}_count {sum(self.counts)}"


class ServiceMetrics:
    """What one replica has answered and predicted since it started.

    Args:
        exported: makes a metric of `ray.util.metrics`, of a kind ("Counter" or "Histogram") with its arguments; None
            counts in this process alone.
    """

    def __init__(self, exported: Callable[..., Any] | None = None) -> None:
        self._answers: Counter[int] = Counter()
        self._seconds, self._batches = Histogram(_SECONDS), Histogram(_ROWS)
        self._rays: dict[str, Any] = {}
        if exported is not None:
            for name, text in _TEXTS.items():
                kind = "Counter" if name == _ANSWERS else "Histogram"
                own = {"tag_keys": ("status",)} if name == _ANSWERS else {"boundaries": list(_BOUNDARIES[name])}
                self._rays[name] = exported(kind, name, text, **own)

    @property
    def images(self) -> int:
        """The images that were predicted."""
        return round(self._batches.sum)

    @property
    def batches(self) -> int:
        """The batches that they were in."""
        return sum(self._batches.counts)

    def answered(self, status: int, seconds: float) -> None:
        """Counts an answer to an upload."""
        self._answers[status] += 1
        self._seconds.observe(seconds)
        if self._rays:
            self._rays[_ANSWERS].inc(tags={"status": str(status)})
            self._rays[_LATENCY].observe(seconds)

    def predicted(self, images: int) -> None:
        """Counts a batch."""
        self._batches.observe(images)
        if self._rays:
            self._rays[_BATCHES].observe(images)

    def text(self) -> str:
        """Returns all counts in the text format of Prometheus."""
        answers = [f'{_ANSWERS}_total{{status="{status}"}} {count}' for status, count in sorted(self._answers.items())]
        lines = [
            *_head(f"{_ANSWERS}_total", _TEXTS[_ANSWERS], "counter"),
            *answers,
            *_head(_LATENCY, _TEXTS[_LATENCY], "histogram"),
            *self._seconds.lines(_LATENCY),
            *_head(_BATCHES, _TEXTS[_BATCHES], "histogram"),
            *self._batches.lines(_BATCHES),
        ]
        return "\n".join(lines) + "\n"


_ANSWERS, _LATENCY, _BATCHES = "ray_classy_answers", "ray_classy_answer_seconds", "ray_classy_batch_size"
_TEXTS = {
    _ANSWERS: "Answers to uploads, by HTTP status.",
    _LATENCY: "Seconds from a request to its answer.",
    _BATCHES: "Images that the model took at once.",
}
_BOUNDARIES: dict[str, Sequence[float]] = {_LATENCY: _SECONDS, _BATCHES: _ROWS}


def _head(name: str, text: str, kind: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
