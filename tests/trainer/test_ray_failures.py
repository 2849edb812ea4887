"""What failed, of the failures that Ray Train has from the ranks."""

import os
import pickle
import time
import traceback
from datetime import timedelta
from types import SimpleNamespace

import pytest
import ray
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from ray_classy.distributed import all_reduce_sum, exchange_failed, timed_exchange
from ray_classy.errors import DataError, ResourceError, RunError, WorkerDiedError
from ray_classy.trainer.ray_failures import Place, Retries, cause, mark
from tests.helpers import free_port

TIMEOUT = 4.0


def failed(failures):
    return SimpleNamespace(worker_failures=failures)


def raised(error, rank, ranks=2, step=5):
    """An exception as it comes from a worker whose code raised it."""
    try:
        raise error
    except Exception as caught:
        mark(caught, rank, ranks, step)
        caught.add_note(traceback.format_exc())
        return caught


def exchange(rank, ranks=2, seconds=0.0, kind="yes", step=5):
    """An exception as it comes from a worker whose exchange with the others failed."""
    error = RuntimeError("[gloo] something")
    error.place_in_run = Place(rank, ranks, step, kind, seconds)
    return error


@pytest.mark.parametrize("kind", ["yes", "maybe"])
def test_the_first_failure_is_not_that_of_a_rank_whose_exchange_failed(kind):
    found = cause(failed({0: exchange(0, kind=kind), 1: raised(ValueError("mine"), 1)}))
    assert type(found) is RunError
    assert str(found).startswith("training failed on rank 1 of 2, after 5 train steps:\nTraceback")
    assert str(found).endswith("ValueError: mine")


def test_an_error_of_ours_is_itself():
    error = DataError("row 3")
    assert cause(failed({0: exchange(0), 1: error})) is error
    refused = ResourceError("no room")
    assert cause(SimpleNamespace(controller_failure=refused)) is refused


def test_a_process_that_died_is_named_and_not_those_that_lost_it():
    found = cause(failed({0: exchange(0), 1: ray.exceptions.ActorDiedError()}))
    assert isinstance(found, WorkerDiedError) and str(found).startswith("the process of rank 1 died: ")


def test_an_exchange_that_failed_alone_has_its_traceback():
    error = raised(dist.DistBackendError("NCCL error: duplicate GPU"), 0)
    found = cause(failed({0: error}))
    assert isinstance(found, WorkerDiedError)
    assert str(found).startswith("an exchange between the ranks failed on rank 0 of 2, after 5 train steps")
    assert "Traceback" in str(found) and "NCCL error: duplicate GPU" in str(found)


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError("read timed out"),
        ValueError("the backend must be gloo or nccl"),
        RuntimeError("Connection closed by peer"),
        ray.exceptions.RayTaskError("f", "Traceback", ValueError("of a task")),
    ],
)
def test_an_error_of_the_users_code_is_reported_as_such_whatever_it_says(error):
    found = cause(failed({2: raised(error, 2, ranks=4)}))
    assert type(found) is RunError
    assert str(found).startswith("training failed on rank 2 of 4, after 5 train steps:\nTraceback")


@pytest.mark.parametrize(("ranks", "stuck"), [((0,), "ranks 1, 2"), ((0, 2), "rank 1")])
def test_the_ranks_for_which_others_waited_until_the_time_out_are_named(ranks, stuck):
    failures = {rank: exchange(rank, ranks=3, seconds=8.1) for rank in ranks}
    assert str(cause(failed(failures), 8)).startswith(f"{stuck} did not come to an exchange")
    assert "an exchange between the ranks failed" in str(cause(failed(failures), 1800))


def test_the_same_failure_in_the_same_place_is_not_tried_again(tmp_path):
    lines = []
    retries = Retries(-1, SimpleNamespace(log_now=lines.append))
    again = [retries.decide(failed({1: raised(ValueError("mine"), 1, step=step)}), True) for step in (5, 6, 6)]
    assert again == [True, True, False]
    assert lines[-1] == "the same failed again on rank 1 of 2, after 6 train steps: giving up"


def test_an_actor_of_rays_that_dies_counts_as_a_failure_of_workers():
    retries = Retries(1, SimpleNamespace(log_now=lambda _: None))
    died = SimpleNamespace(controller_failure=ray.exceptions.ActorDiedError())
    assert [retries.decide(died, False) for _ in range(4)] == [True, True, True, False]
    assert not Retries(0, SimpleNamespace(log_now=lambda _: None)).decide(died, False)


# -- real exchanges ---------------------------------------------------------------------------------------------------


def _failure(exchange):
    try:
        exchange()
    except Exception as error:
        mark(error, 0, 2, 5)
        return error


def _rank(rank, port, answers):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2, timeout=timedelta(seconds=TIMEOUT))
    groups = [dist.new_group(timeout=timedelta(seconds=TIMEOUT)) for _ in range(2)]
    models = [nn.parallel.DistributedDataParallel(nn.Linear(2, 2), process_group=group) for group in groups]
    for model in [*models, *models]:
        model(torch.ones(1, 2)).sum().backward()
    losses = [model(torch.ones(1, 2)).sum() for model in models]
    dist.barrier()
    if rank == 1:
        time.sleep(2.5 * TIMEOUT)  # two exchanges of the other rank time out, and fail when this process is gone
        os._exit(0)
    backward = [timed_exchange()(loss.backward) for loss in losses]
    late = [_failure(backward[0]), _failure(lambda: all_reduce_sum(torch.ones(2)))]
    time.sleep(2 * TIMEOUT)
    dead = [_failure(backward[1]), _failure(lambda: all_reduce_sum(torch.ones(2)))]
    answers.put(pickle.dumps((late, dead)))
    answers.close()
    answers.join_thread()
    os._exit(0)


@pytest.mark.full
def test_an_exchange_that_fails_is_recognized_where_it_is_raised():
    context = mp.get_context("spawn")
    answers, port = context.Queue(), free_port()
    for rank in range(2):
        context.Process(target=_rank, args=(rank, port, answers), daemon=True).start()
    late, dead = pickle.loads(answers.get(timeout=120))
    assert [type(error) for error in (*late, *dead)] == [RuntimeError] * 4, (late, dead)
    for errors, waited in ((late, True), (dead, False)):
        assert [error.place_in_run.exchange for error in errors] == ["maybe", "yes"]
        for error in errors:
            assert ("did not come to an exchange" in str(cause(failed({0: error}), TIMEOUT))) == waited


def test_an_exchange_is_recognized_by_the_place_of_its_error():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        error = _failure(lambda: dist.all_gather([torch.ones(3)], torch.ones(2)))
    finally:
        dist.destroy_process_group()
    assert type(error) is not dist.DistError and error.place_in_run.exchange == "yes"


def test_an_error_of_an_operation_is_no_failed_exchange():
    with timed_exchange():
        assert exchange_failed(_failure(lambda: torch.ones(2, 3) @ torch.ones(2, 3))) == "no"


def test_errors_of_torchs_own_types_are_failed_exchanges_and_words_are_not():
    assert exchange_failed(dist.DistNetworkError("x")) == exchange_failed(dist.DistStoreError("x")) == "yes"
    assert exchange_failed(TimeoutError("timed out")) == exchange_failed(RuntimeError("nccl")) == "no"
