"""Which trial comes next."""

import math

import pytest

from ray_classy.errors import RunError
from ray_classy.tune.folder import FINISHED, TrialRecord, trial_name
from ray_classy.tune.search import SweepSearch
from ray_classy.tune.space import Space

SPACE = Space({"a": {"search": "uniform", "lower": 0.0, "upper": 1.0}})


class Search(SweepSearch):
    """Gives records in place of Ray's trials, and notes those it began."""

    def __init__(self, records=(), total=4, most_live=math.inf, searcher=None):
        self.begun = []
        super().__init__(SPACE, 0, list(records), total, most_live, searcher, self.begun.append, lambda _: [], str)

    def _trial(self, record):
        return record

    def all(self):
        given = []
        while (record := self.next_trial()) is not None:
            given.append(record.name)
        return given


def record(index, state="running"):
    return TrialRecord(trial_name(index), index, {"a": 0.5}, state)


def test_new_trials_are_numbered_and_written_down_first():
    search = Search(total=3)
    assert search.all() == ["t0000", "t0001", "t0002"] and search.is_finished()
    assert [one.name for one in search.begun] == ["t0000", "t0001", "t0002"]
    assert [one.params for one in search.begun] == [SPACE.draw(index, 0) for index in range(3)]


def test_unfinished_trials_come_before_new_ones():
    search = Search([record(0, FINISHED), record(1), record(2, FINISHED)])
    assert search.all() == ["t0001", "t0003"]
    assert [one.name for one in search.begun] == ["t0003"]


def test_a_total_of_none_begins_none():
    assert Search([record(0)], total=0).all() == ["t0000"]


def test_no_more_are_under_way_than_may_be():
    search = Search(most_live=2)
    assert search.all() == ["t0000", "t0001"] and not search.is_finished()
    search.on_trial_complete("t0000")
    assert search.all() == ["t0002"]


def test_a_sweep_without_end_has_always_another():
    search = Search(total=math.inf, most_live=5)
    assert len(search.all()) == 5 and not search.is_finished() and search.total_samples > 10**6


class Searcher:
    FINISHED = "FINISHED"

    def __init__(self, *answers):
        self.answers, self.told = list(answers), []

    def suggest(self, trial_id):
        return self.answers.pop(0)

    def on_trial_result(self, trial_id, result):
        self.told.append(trial_id)

    def on_trial_complete(self, trial_id, result, error):
        self.told.append((trial_id, result, error))


def test_a_search_algorithm_may_have_nothing_to_suggest_for_now():
    search = Search(searcher=Searcher({"a": 0.1}, None, {"a": 0.2}, "FINISHED"))
    assert search.all() == ["t0000"] and search.all() == ["t0001"]
    assert search.exhausted and [one.params["a"] for one in search.begun] == [0.1, 0.2]


def test_a_search_algorithm_with_another_space_is_refused():
    with pytest.raises(RunError, match="suggests b, but what is searched are a"):
        Search(searcher=Searcher({"b": 1})).next_trial()


def test_a_search_algorithm_hears_of_its_own_trials_only():
    searcher = Searcher({"a": 0.1})
    search = Search([record(0)], total=2, searcher=searcher)
    search.all()
    for name in ("t0000", "t0001"):
        search.on_trial_result(name, {})
        search.on_trial_complete(name, {"failed": "why"})
    assert searcher.told == ["t0001", ("t0001", None, True)]
