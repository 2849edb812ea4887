"""Settings of the whole suite, and the one Ray cluster that its tests share."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["RAY_AUTH_MODE"] = "disabled"  # the clusters of the tests listen on this machine alone
os.environ.pop("RAY_ADDRESS", None)

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def ray_cluster():
    """A local Ray with four logical CPUs, to which this process is connected."""
    import ray

    ray.init("local", num_cpus=4, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield ray
    ray.shutdown()
