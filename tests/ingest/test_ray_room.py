"""The CPUs that make batches."""

import pytest

from ray_classy.ingest.ray_room import nodes_for_growth

SMALL, LARGE, GPU = {"CPU": 2.0}, {"CPU": 8.0}, {"CPU": 4.0, "GPU": 1.0}


@pytest.mark.parametrize(
    ("nodes", "each", "growth", "expected"),
    [
        ([SMALL, LARGE], {"CPU": 1.0}, 0, (set(), 0)),
        ([LARGE, SMALL], {"CPU": 1.0}, 2, ({1}, 0)),
        ([LARGE, SMALL], {"CPU": 1.0}, 3, ({1}, 1)),  # one node is always left
        ([LARGE, SMALL, GPU], {"CPU": 1.0, "GPU": 1.0}, 2, ({2}, 1)),
        ([LARGE], {"CPU": 1.0}, 1, (set(), 1)),
    ],
)
def test_nodes_stay_free_for_workers_that_may_join(nodes, each, growth, expected):
    assert nodes_for_growth(dict(enumerate(nodes)), each, growth) == expected
