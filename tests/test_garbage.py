"""The garbage collector, while nothing becomes garbage."""

import gc

import pytest

from ray_classy.garbage import no_collection


def test_the_collector_is_stopped_for_the_block_alone():
    with pytest.raises(ValueError), no_collection():
        assert not gc.isenabled()
        raise ValueError
    assert gc.isenabled()


def test_a_collector_that_is_stopped_stays_so():
    gc.disable()
    try:
        with no_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
