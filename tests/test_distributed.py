import pytest
import torch

from ray_classy import distributed
from ray_classy.generic import distributed_util
from tests.helpers import run_ranks


def work():
    rank = float(distributed.get_rank())
    numbers = torch.tensor([rank, 1.0])
    whole = torch.tensor([distributed.get_rank()])
    distributed.barrier()
    return {
        "rank": distributed.get_rank(),
        "world": distributed.get_world_size(),
        "primary": distributed.is_primary(),
        "many": distributed.is_distributed_training_run(),
        "sum": distributed.all_reduce_sum(numbers.clone()).tolist(),
        "mean": distributed.all_reduce_mean(numbers.clone()).tolist(),
        "whole mean": distributed.all_reduce_mean(whole.clone()).tolist(),
        "min": distributed.all_reduce_min(numbers.clone()).tolist(),
        "max": distributed.all_reduce_max(numbers.clone()).tolist(),
        "broadcast": distributed.broadcast(numbers.clone()).tolist(),
        "object": distributed.broadcast_object({"from": rank}),
        "objects": distributed.gather_objects(rank),
        "tensors": [t.tolist() for t in distributed.gather_tensors_from_all(torch.tensor(rank))],
        "concatenated": distributed.gather_from_all(numbers).tolist(),
        "strided": distributed.gather_from_all(torch.stack([numbers, numbers]).t()).tolist(),
    }


def test_collectives_on_two_ranks():
    first, second = run_ranks(2, work)
    assert (first.pop("rank"), second.pop("rank")) == (0, 1)
    assert (first.pop("primary"), second.pop("primary")) == (True, False)
    assert (
        first
        == second
        == {
            "world": 2,
            "many": True,
            "sum": [1.0, 2.0],
            "mean": [0.5, 1.0],
            "whole mean": [0.5],
            "min": [0.0, 1.0],
            "max": [1.0, 1.0],
            "broadcast": [0.0, 1.0],
            "object": {"from": 0.0},
            "objects": [0.0, 1.0],
            "tensors": [[0.0], [1.0]],
            "concatenated": [0.0, 1.0, 1.0, 1.0],
            "strided": [[0.0, 0.0], [1.0, 1.0], [1.0, 1.0], [1.0, 1.0]],
        }
    )


def test_one_process_needs_no_group():
    alone = work()
    assert alone["sum"] == alone["mean"] == alone["max"] == alone["broadcast"] == [0.0, 1.0]
    assert (alone["rank"], alone["world"], alone["primary"], alone["many"]) == (0, 1, True, False)
    assert alone["object"] == {"from": 0.0} and alone["objects"] == [0.0] and alone["whole mean"] == [0.0]


def failing():
    if distributed.get_rank() == 1:
        raise ValueError("rank 1 gives up")
    distributed.barrier()


def test_rank_that_fails_alone_ends_the_others():
    with pytest.raises(RuntimeError, match=r"rank [01] failed"):
        run_ranks(2, failing)


def test_names_of_the_predecessor():
    for name in ("all_reduce_sum", "all_reduce_mean", "get_rank", "get_world_size", "is_primary", "barrier"):
        assert getattr(distributed_util, name) is getattr(distributed, name)
