import resource

import numpy as np
import pytest

from ray_classy.memory import machine_bytes, reason_of, within_memory


def test_more_memory_than_is_free_is_refused_in_the_block_and_only_there():
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with within_memory():
        np.empty(1 << 20, np.uint8)
        with pytest.raises(MemoryError):
            np.empty(max(machine_bytes(), 5 << 30), np.uint8)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_a_lower_limit_of_the_user_stays(monkeypatch):
    set_to = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1 << 20, 1 << 21))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: set_to.append(limits))
    with within_memory():
        pass
    assert set_to == [(1 << 20, 1 << 21)] * 2


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "it takes more memory than there is; a size or a number may be too large"),
        (RuntimeError("CPU: can't allocate memory\n#0"), r"it takes more memory than there is (CPU: can't allocate"),
        (TypeError("no\nframe #0"), "TypeError: no"),
        (KeyError(), "KeyError"),
    ],
)
def test_errors_are_one_line_and_those_of_memory_plain(error, reason):
    assert reason_of(error).startswith(reason) and "\n" not in reason_of(error)
