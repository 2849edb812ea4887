"""The table of a sweep's trials: updated in place on a terminal, one line per event elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ray_classy.display import LiveDisplay, aligned, duration, is_quiet, on_terminal, print_line
from ray_classy.tune.folder import FAILED, FINISHED, NOT_STARTED, RUNNING, STOPPED, TrialRecord
from ray_classy.tune.space import Space

if TYPE_CHECKING:
    from rich.console import RenderableType

_SECONDS_BETWEEN_UPDATES = 0.5
_SECONDS_BETWEEN_LINES = 15.0
_LINES_AROUND_THE_TRIALS = 4  # the head of the table, two lines of text and the cursor
_LEAST_TRIALS = 3
_LEAST_WIDTH = 6  # of the metric: 0.1234
_STATES = {"PENDING": "waiting", "PAUSED": "paused", "RUNNING": RUNNING}
_FIXED_COLUMNS = ("epoch", "state", "time")
_STYLES = {RUNNING: "cyan", FINISHED: "green", STOPPED: "yellow", FAILED: "red"}


class Table:
    """Shows the trials of a sweep on standard error.

    Args:
        space: the search space.
        metric: dotted name of the metric by which trials are ranked.
        mode: "min" or "max".
        epochs: length of a trial whose parameters do not say.
        total: number of trials in the sweep; infinity if it has no end.
        records: the trials by name; the caller adds and changes them.
        shown: whether anything is printed.
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
        self._shown = shown and not is_quiet()
        self._display = LiveDisplay() if self._shown and on_terminal() else None
        self._began = time.monotonic()
        self._drawn: float | None = None
        self._done_before = sum(record.ended for record in records.values())
        self._where: dict[str, float] = {}

    # -- events -------------------------------------------------------------------------------------------------------

    def reported(self, record: TrialRecord, where: float | None) -> None:
        """Notes how far a trial is.

        Args:
            record: the trial, which has just reported.
            where: the fraction of its training that is done.
        """
        self._where[record.name] = where or 0.0

    def print_line(self, text: str) -> None:
        """Prints a line about the sweep, unless the table itself is shown."""
        if self._shown and self._display is None:
            print_line(text)

    def ended(self, record: TrialRecord) -> None:
        """Prints the line of a trial that has ended."""
        of = "" if math.isinf(self._total) else f"/{int(self._total)}"
        reason = f"  ({record.reason})" if record.reason else ""
        self.print_line(f"{self._num_ended}{of}  {record.name}  {self._summary(record)}  {record.state}{reason}")

    def draw(self, statuses: Mapping[str, str]) -> None:
        """Updates the table, or prints a line of progress, if it is time for one.

        Args:
            statuses: Ray Tune's status of each trial that has not ended, by name.
        """
        now, interval = time.monotonic(), _SECONDS_BETWEEN_LINES if self._display is None else _SECONDS_BETWEEN_UPDATES
        if not self._shown or (self._drawn is not None and now - self._drawn < interval):
            return
        first, self._drawn = self._drawn is None, now
        if self._display is not None:
            self._display.draw(lambda columns, lines: self._render(statuses, lines))
        elif not first:
            self.print_line(self._progress(statuses))

    def finish(self) -> None:
        """Removes the table from the terminal."""
        if self._display is not None:
            self._display.close()

    # -- text ---------------------------------------------------------------------------------------------------------

    def params(self, params: Mapping[str, Any]) -> str:
        """Returns parameters as short text, without those of choices that are not made."""
        active = self._space.active(params)
        return "  ".join(f"{_short(name, self._space)} {_number(value)}" for name, value in active.items())

    def best(self, records: Iterable[TrialRecord]) -> list[TrialRecord]:
        """Sorts trials from the best to the worst; those that failed or have no finite metric come last."""
        sign = 1 if self._mode == "min" else -1
        return sorted(
            records,
            key=lambda record: (
                record.state == FAILED or not math.isfinite(_value(record, self._metric)),
                sign * _value(record, self._metric) if math.isfinite(_value(record, self._metric)) else 0.0,
                record.index,
            ),
        )

    def rows(self, records: Iterable[TrialRecord], statuses: Mapping[str, str] | None = None) -> list[list[str]]:
        """Returns a header and a row for each trial: name, parameters, metric, epoch, state and time."""
        names = [_short(node.name, self._space) for node in self._space.nodes]
        head = ["trial", *names, self._metric, *_FIXED_COLUMNS]
        return [head, *(self._row(record, statuses) for record in records)]

    def text(self, records: Iterable[TrialRecord]) -> str:
        """Returns the table as plain text."""
        return aligned(self.rows(records))

    # -----------------------------------------------------------------------------------------------------------------

    @property
    def _num_ended(self) -> int:
        return sum(record.ended for record in self._records.values())

    def _row(self, record: TrialRecord, statuses: Mapping[str, str] | None) -> list[str]:
        active = self._space.active(record.params)
        value = _value(record, self._metric)
        state = record.state
        if not record.ended and statuses is not None:
            state = _STATES.get(statuses.get(record.name, ""), "waiting")
        left = _time_left(record, self._where.get(record.name))
        began = state != NOT_STARTED
        return [
            record.name,
            *(_number(active[node.name]) if node.name in active else "" for node in self._space.nodes),
            "" if self._metric not in record.metrics else f"{value:.4f}",
            f"{record.epoch}/{self._epochs_of(record)}" if began else "",
            state,
            left if state == RUNNING else f"{record.seconds:.0f} s" if began else "",
        ]

    def _summary(self, record: TrialRecord) -> str:
        value = _value(record, self._metric)
        metric = "" if self._metric not in record.metrics else f"  {self._metric} {value:.4f}"
        return f"{self.params(record.params)}{metric}  epoch {record.epoch}/{self._epochs_of(record)}"

    def _epochs_of(self, record: TrialRecord) -> int | float:
        return record.num_epochs or record.params.get("num_epochs", self._epochs)

    def _progress(self, statuses: Mapping[str, str]) -> str:
        ended = self._num_ended
        running = sum(status == "RUNNING" for status in statuses.values())
        of = "" if math.isinf(self._total) else f" of {int(self._total)}"
        text = f"{ended}{of} trials done, {running} running"
        new = ended - self._done_before
        if new and ended < self._total < math.inf:
            left = (time.monotonic() - self._began) / new * (self._total - ended)
            text += f", about {duration(left)} left"
        best = self.best(record for record in self._records.values() if self._metric in record.metrics)
        if best:
            text += f"; best so far {best[0].name} {self._metric} {_value(best[0], self._metric):.4f}"
        return text

    def _render(self, statuses: Mapping[str, str], lines: int) -> RenderableType:
        """Renders as many trials as there are lines for: first those that run, then the best that have ended."""
        from rich.console import Group
        from rich.table import Table as RichTable
        from rich.text import Text

        chosen = self._choose(statuses, max(_LEAST_TRIALS, lines - _LINES_AROUND_THE_TRIALS))
        head, *rows = self.rows(chosen, statuses)
        table = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in head:
            flexible = name not in ("trial", *_FIXED_COLUMNS)  # shortened where the terminal is narrow
            table.add_column(
                Text(name, style="bold", no_wrap=True, overflow="ellipsis"),
                no_wrap=not flexible,
                min_width=_LEAST_WIDTH if name == self._metric else None,
            )
        for row in rows:
            table.add_row(*(Text(c, _STYLES.get(c, ""), no_wrap=True, overflow="ellipsis") for c in row))
        hidden = len(self._records) - len(chosen)
        more = [Text(f"... and {hidden} more")] if hidden else []
        return Group(table, *more, Text(self._progress(statuses), no_wrap=True, overflow="ellipsis"))

    def _choose(self, statuses: Mapping[str, str], most: int) -> list[TrialRecord]:
        running = [record for record in self._records.values() if not record.ended]
        running.sort(key=lambda record: (statuses.get(record.name) != "RUNNING", record.index))
        ended = self.best(record for record in self._records.values() if record.ended)
        chosen = running[: max(most // 2, most - len(ended))]
        return [*chosen, *ended[: most - len(chosen)]]


def _short(name: str, space: Space) -> str:
    """Returns the shortest end of a dotted name with which no other node's name ends."""
    parts = name.split(".")
    for length in range(1, len(parts)):
        short = ".".join(parts[-length:])
        if sum(f".{node.name}".endswith(f".{short}") for node in space.nodes) == 1:
            return short
    return name


def _value(record: TrialRecord, metric: str) -> float:
    """Returns a metric of a trial's last report; NaN if it is not a number."""
    value = record.metrics.get(metric)
    return float(value) if isinstance(value, int | float) else math.nan


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _time_left(record: TrialRecord, where: float | None) -> str:
    return f"{duration(record.seconds * (1 - where) / where)} left" if where else ""
