"""The helpers of `ray_classy.distributed` under the module name that Classy Vision gave them."""

from ray_classy.distributed import (
    all_reduce_max,
    all_reduce_mean,
    all_reduce_min,
    all_reduce_op,
    all_reduce_sum,
    barrier,
    broadcast,
    broadcast_object,
    gather_from_all,
    gather_tensors_from_all,
    get_primary_rank,
    get_rank,
    get_world_size,
    is_distributed_training_run,
    is_primary,
)

__all__ = [
    "all_reduce_max",
    "all_reduce_mean",
    "all_reduce_min",
    "all_reduce_op",
    "all_reduce_sum",
    "barrier",
    "broadcast",
    "broadcast_object",
    "gather_from_all",
    "gather_tensors_from_all",
    "get_primary_rank",
    "get_rank",
    "get_world_size",
    "is_distributed_training_run",
    "is_primary",
]
