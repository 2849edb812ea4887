import pytest

from ray_classy.cli.duration import seconds_of


@pytest.mark.parametrize(("text", "seconds"), [("1h", 3600), ("90m", 5400), ("1h30m", 5400), ("20s", 20), ("60", 60)])
def test_a_budget_is_a_time(text, seconds):
    assert seconds_of(text) == seconds
