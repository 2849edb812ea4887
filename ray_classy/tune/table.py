"""The table of a sweep: one that is drawn anew in place on a terminal, a line per event elsewhere."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

from ray_classy.tune.folder import FAILED, TrialRecord
from ray_classy.tune.space import Space

_SECONDS_BETWEEN = 0.5
_LINES_BETWEEN = 15.0
_STATES = {"PENDING": "waiting", "PAUSED": "paused", "RUNNING": "running"}


class Table:
    """Shows the trials of a sweep on standard error.

    Args:
        space: what is searched.
        metric: what the sweep goes by.
        mode: "min" or "max".
        epochs: length of a trial.
        total: trials altogether.
        records: the trials by name.
        shown: False shows nothing.
    """

    def __init__(
        self,
        space: Space,
        metric: str,
        mode: str,
        epochs: int | float,
        total: float,
        records: Mapping[str, TrialRecord],
        shown: bool = True,
    ) -> None:
        self._space, self._metric, self._mode = space, metric, mode
        self._epochs, self._total, self._records = epochs, total, records
        self._shown = shown
        self._in_place = shown and sys.stderr.isatty()
        self._began = time.monotonic()
        self._drawn = 0.0
        self._height = 0
        self._done_before = sum(record.ended for record in records.values())
        self._where: dict[str, float] = {}

    # -- events -------------------------------------------------------------------------------------------------------

    def reported(self, record: TrialRecord, where: float | None) -> None:
        """A trial has reported."""
        self._where[record.name] = where or 0.0

    def told(self, text: str) -> None:
        """Something worth a line."""
        if self._shown and not self._in_place:
            _print(text)

    def ended(self, record: TrialRecord) -> None:
        """A trial is over."""
        ended = sum(one.ended for one in self._records.values())
        of = "" if self._total == float("inf") else f"/{int(self._total)}"
        reason = f"  ({record.reason})" if record.reason else ""
        self.told(f"{ended}{of}  {record.name}  {self._line(record)}  {record.state}{reason}")

    def draw(self, statuses: Mapping[str, str]) -> None:
        """Draws the table, or now and then a line of progress.

        Args:
            statuses: Ray Tune's, of the trials that are not over.
        """
        now = time.monotonic()
        if not self._shown or now - self._drawn < (_SECONDS_BETWEEN if self._in_place else _LINES_BETWEEN):
            return
        first, self._drawn = self._drawn == 0.0, now
        if self._in_place:
            self._redraw(statuses)
        elif not first:
            self.told(self._progress(statuses))

    def finish(self) -> None:
        """Removes the table that was drawn in place."""
        if self._in_place and self._height:
            sys.stderr.write(f"\x1b[{self._height}F\x1b[J")
            sys.stderr.flush()
            self._height = 0

    # -- text ---------------------------------------------------------------------------------------------------------

    def params(self, params: Mapping[str, Any]) -> str:
        """Parameters in a few words."""
        active = self._space.active(params)
        return "  ".join(f"{_short(name, self._space)} {_number(value)}" for name, value in active.items())

    def best(self, records: Iterable[TrialRecord]) -> list[TrialRecord]:
        """The trials from the best to the worst; those that failed or reported nothing last."""
        sign = 1 if self._mode == "min" else -1
        return sorted(
            records,
            key=lambda record: (
                record.state == FAILED or not math.isfinite(record.metrics.get(self._metric, math.nan)),
                sign * record.metrics.get(self._metric, 0.0),
                record.index,
            ),
        )

    def rows(self, records: Iterable[TrialRecord], statuses: Mapping[str, str] | None = None) -> list[list[str]]:
        """A head and a row for each trial: name, parameters, metric, epoch, state, time."""
        names = [_short(node.name, self._space) for node in self._space.nodes]
        rows = [["trial", *names, self._metric, "epoch", "state", "time"]]
        for record in records:
            active = self._space.active(record.params)
            value = record.metrics.get(self._metric)
            state = record.state
            if not record.ended and statuses is not None:
                state = _STATES.get(statuses.get(record.name, ""), "waiting")
            spent = f"{record.seconds:.0f} s"
            rows.append(
                [
                    record.name,
                    *(_number(active[node.name]) if node.name in active else "" for node in self._space.nodes),
                    "" if value is None else f"{value:.4f}",
                    f"{record.epoch}/{self._epochs_of(record)}",
                    state,
                    _time_left(record, self._where.get(record.name)) if state == "running" else spent,
                ]
            )
        return rows

    def text(self, records: Iterable[TrialRecord]) -> str:
        """The table as plain text."""
        return "\n".join(aligned(self.rows(records)))

    def _line(self, record: TrialRecord) -> str:
        value = record.metrics.get(self._metric)
        metric = "" if value is None else f"  {self._metric} {value:.4f}"
        return f"{self.params(record.params)}{metric}  epoch {record.epoch}/{self._epochs_of(record)}"

    def _epochs_of(self, record: TrialRecord) -> int | float:
        return record.num_epochs or record.params.get("num_epochs", self._epochs)

    def _progress(self, statuses: Mapping[str, str]) -> str:
        ended = sum(one.ended for one in self._records.values())
        running = sum(status == "RUNNING" for status in statuses.values())
        best = self.best(record for record in self._records.values() if self._metric in record.metrics)
        text = f"{ended} trials done, {running} running"
        if self._total != float("inf"):
            text = f"{ended} of {int(self._total)} trials done, {running} running"
            new = ended - self._done_before
            if new and ended < self._total:
                left = (time.monotonic() - self._began) / new * (self._total - ended)
                text += f", about {_duration(left)} left"
        if best:
            text += f"; best so far {best[0].name} {self._metric} {best[0].metrics[self._metric]:.4f}"
        return text

    def _redraw(self, statuses: Mapping[str, str]) -> None:
        size = shutil.get_terminal_size()
        running = [record for record in self._records.values() if not record.ended]
        running.sort(key=lambda record: (statuses.get(record.name) != "RUNNING", record.index))
        ended = self.best(record for record in self._records.values() if record.ended)
        most = max(3, size.lines - 4)
        shown = [*running[: max(most // 2, most - len(ended))]]
        shown += ended[: most - len(shown)]
        lines = aligned(self.rows(shown, statuses))
        hidden = len(self._records) - len(shown)
        if hidden > 0:
            lines.append(f"... and {hidden} more")
        lines = [line[: size.columns - 1] for line in [*lines, self._progress(statuses)]]
        up = f"\x1b[{self._height}F\x1b[J" if self._height else ""
        sys.stderr.write(up + "\n".join(lines) + "\n")
        sys.stderr.flush()
        self._height = len(lines)


def aligned(rows: list[list[str]]) -> list[str]:
    """Rows of cells as lines with columns of one width."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _short(name: str, space: Space) -> str:
    """The last part of a dotted name, if no other node ends in it."""
    parts = name.split(".")
    for length in range(1, len(parts)):
        short = ".".join(parts[-length:])
        if sum(f".{node.name}".endswith(f".{short}") for node in space.nodes) == 1:
            return short
    return name


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _time_left(record: TrialRecord, where: float | None) -> str:
    return f"{_duration(record.seconds * (1 - where) / where)} left" if where else ""


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _print(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)
