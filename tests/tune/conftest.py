"""What tests of sweeps share."""

import pytest

from ray_classy.tune.folder import SweepFolder


@pytest.fixture
def folder(tmp_path):
    """The folder of a new sweep."""
    made = SweepFolder.create(str(tmp_path), "sweep")
    made.describe(None, metric="test.loss", mode="min", config={})
    yield made
    made.release()
