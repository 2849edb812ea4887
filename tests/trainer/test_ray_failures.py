from types import SimpleNamespace

import pytest

from ray_classy.errors import DataError, ResourceError, RunError, WorkerDiedError
from ray_classy.trainer.ray_failures import cause, mark

GONE = RuntimeError("gloo: Connection closed by peer [127.0.0.1]:1")
LATE = RuntimeError("Timed out waiting 8000ms for recv operation to complete")


def failed(**failures):
    return SimpleNamespace(worker_failures={int(rank[1:]): error for rank, error in failures.items()})


def marked(error, rank, ranks=2, step=5):
    mark(error, rank, ranks, step)
    return error


def test_the_first_failure_is_not_that_of_a_rank_that_lost_the_other():
    found = cause(failed(r0=GONE, r1=marked(ValueError("mine"), 1)))
    assert type(found) is RunError
    assert str(found) == "training failed on rank 1 of 2, after 5 train steps:\nValueError: mine"


def test_an_error_of_ours_is_itself():
    error = DataError("row 3")
    assert cause(failed(r0=GONE, r1=error)) is error
    refused = ResourceError("no room")
    assert cause(SimpleNamespace(controller_failure=refused)) is refused


def test_ranks_that_only_lost_another_one_say_so():
    found = cause(failed(r0=GONE))
    assert isinstance(found, WorkerDiedError) and "rank 0 lost the connection to another one" in str(found)


@pytest.mark.parametrize(("failures", "stuck"), [((0,), "rank 1, 2"), ((0, 2), "rank 1")])
def test_the_ranks_that_were_waited_for_are_named(failures, stuck):
    errors = {f"r{rank}": marked(RuntimeError(str(LATE)), rank, ranks=3) for rank in failures}
    assert str(cause(failed(**errors))).startswith(stuck.replace("rank 1,", "ranks 1,") + " did not come to where")
