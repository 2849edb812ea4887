from types import SimpleNamespace

import pytest

from ray_classy.errors import RunError
from ray_classy.submit.follow import Written, exit_code


def job(status, code=None, message=None):
    return SimpleNamespace(submission_id="j", status=status, driver_exit_code=code, message=message)


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        (job("SUCCEEDED", 0), 0),
        (job("FAILED", 2), 2),
        (job("FAILED", 130), 130),
        (job("FAILED", -9), 137),
        (job("STOPPED"), 143),
    ],
)
def test_the_exit_code_is_that_of_the_command(ended, code):
    assert exit_code(ended) == code


def test_a_job_that_died_before_its_command_is_one_error():
    with pytest.raises(RunError, match="the job j died before its command began: no such package"):
        exit_code(job("FAILED", None, "\nno such package\n"))


def test_each_piece_of_a_log_is_printed_once_though_it_is_read_again():
    printed = []
    written = Written(printed.append)
    for position, text in [(0, "ab\n"), (3, "cd"), (0, "ab\ncd"), (5, "e\n"), (0, "a"), (1, "b\ncde\nf")]:
        written.add(text, position)
    assert printed == ["ab\n", "cd", "e\n", "f"]
