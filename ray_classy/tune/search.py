"""Which trial comes next: those that an earlier start of the sweep left unfinished, then new ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule
from ray.tune.search import SearchAlgorithm, Searcher

from ray_classy.errors import RunError
from ray_classy.ray_compat.tune import make_trial, replay
from ray_classy.tune.folder import FAILED, STOPPED, TrialRecord, trial_name
from ray_classy.tune.pointer import SOURCE, Pointer
from ray_classy.tune.space import Space
from ray_classy.tune.trial import NUM_EPOCHS

if TYPE_CHECKING:
    from ray.tune.experiment import Trial


class SweepSearch(SearchAlgorithm):
    """Gives Ray Tune the trials of a sweep.

    Args:
        space: what is searched.
        seed: of the sweep.
        records: the trials that were started earlier.
        total: how many trials there will be altogether; infinity for no end.
        most_live: how many may be under way at once.
        searcher: chooses parameters; None draws them at random, grids in full.
        begin: called with the record of each trial that is new, before it is given.
        history: the reports of an earlier trial, as Ray Tune saw them.
        folder_of: the run folder of a trial.
    """

    def __init__(
        self,
        space: Space,
        seed: int,
        records: list[TrialRecord],
        total: float,
        most_live: float,
        searcher: Searcher | None,
        begin: Callable[[TrialRecord], None],
        history: Callable[[TrialRecord], list[dict[str, Any]]],
        folder_of: Callable[[str], str],
    ) -> None:
        self._space, self._seed, self._searcher = space, seed, searcher
        self._begin, self._history, self._folder_of = begin, history, folder_of
        self._ended = [record for record in records if record.ended]
        self._left = [record for record in records if not record.ended]
        self._next = max((record.index for record in records), default=-1) + 1
        self._total, self._most_live = total, most_live
        self._live: set[str] = set()
        self._suggested: set[str] = set()
        self._experiment: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray Tune writes down what it is given, and of that nothing is ever read."""
        return {}

    # -- what Ray Tune calls ------------------------------------------------------------------------------------------

    @property
    def exhausted(self) -> bool:
        """Whether the search algorithm has nothing more to suggest."""
        return self._finished

    @property
    def total_samples(self) -> int:
        """Trials altogether."""
        return 2**31 if math.isinf(self._total) else int(self._total)

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Does nothing: metric, mode and parameters are known from the start."""
        return True

    def add_configurations(self, experiments: Any) -> None:
        """Takes note of what all trials have in common."""
        self._experiment = experiments[0]

    def next_trial(self) -> Trial | None:
        """The next trial; None if there is none at the moment."""
        if self.is_finished() or len(self._live) >= self._most_live:
            return None
        record = self._left.pop(0) if self._left else self._new()
        if record is None:
            return None
        self._live.add(record.name)
        return self._trial(record)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """A report of a trial."""
        if self._searcher is not None and trial_id in self._suggested and "failed" not in result:
            self._searcher.on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The end of a trial."""
        self._live.discard(trial_id)
        if self._searcher is not None and trial_id in self._suggested:
            failed = error or "failed" in (result or {})
            self._searcher.on_trial_complete(trial_id, None if failed else result, failed)

    def is_finished(self) -> bool:
        """Whether no trial is left to be given."""
        return self._finished or (not self._left and self._next >= self._total)

    # -----------------------------------------------------------------------------------------------------------------

    def _new(self) -> TrialRecord | None:
        name = trial_name(self._next)
        if self._searcher is None:
            params = self._space.draw(self._next, self._seed)
        else:
            suggested = self._searcher.suggest(name)
            if suggested is None:
                return None
            if suggested == Searcher.FINISHED:
                self.set_finished()
                return None
            names = [node.name for node in self._space.nodes]
            if suggested.keys() != set(names):
                raise RunError(
                    f"the search algorithm suggests {', '.join(suggested)}, but what is searched are "
                    f"{', '.join(names)}: make it without a space of its own"
                )
            self._suggested.add(name)
            params = {name: suggested[name] for name in names}
        record = TrialRecord(name, self._next, params)
        self._next += 1
        self._begin(record)
        return record

    def _trial(self, record: TrialRecord) -> Trial:
        config = {**record.params, **self._source(record)}
        if record.num_epochs is not None:
            config[NUM_EPOCHS] = record.num_epochs
        return make_trial(self._experiment, record.name, config, dict(record.params))

    def _source(self, record: TrialRecord) -> dict[str, Any]:
        """The source of a trial that had to adopt another's state when the sweep was interrupted."""
        clone = record.pending_clone
        if clone is None or clone.of is None or clone.checkpoint is None:
            return {}
        return {SOURCE: Pointer(self._folder_of(clone.of), clone.checkpoint).plain()}

    # -- history ------------------------------------------------------------------------------------------------------

    def replay(self, scheduler: Any, metric: str) -> None:
        """Tells the scheduler and the search algorithm what earlier trials reported."""
        names = [node.name for node in self._space.nodes]
        for record in [*self._ended, *self._left]:
            reports = [report for report in self._history(record) if metric in report]
            if isinstance(scheduler, AsyncHyperBandScheduler) or (
                isinstance(scheduler, MedianStoppingRule) and record.ended
            ):
                replay(scheduler, record.name, reports)
            tell = getattr(self._searcher, "add_evaluated_point", None)
            if record.ended and reports and tell is not None:
                values = [report[metric] for report in reports]
                tell(
                    {name: record.params[name] for name in names},
                    values[-1],
                    error=record.state == FAILED,
                    pruned=record.state == STOPPED,
                    intermediate_values=values,
                )
