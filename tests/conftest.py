"""Settings of the whole suite, and the one Ray cluster that its tests share."""

import gc
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["RAY_AUTH_MODE"] = "disabled"  # the clusters of the tests listen on this machine alone
os.environ.pop("RAY_ADDRESS", None)
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # they cost a process per cluster
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # a test that needs a cluster says so: none is joined by chance

import pytest
import torch

torch.set_num_threads(1)
gc.disable()  # until all tests are imported: collecting garbage meanwhile takes half as long again


def pytest_collection_finish():
    """Collects garbage from now on, but does not look through what has been imported."""
    gc.enable()
    gc.freeze()


@pytest.fixture(scope="session")
def ray_cluster():
    """A local Ray with four logical CPUs, to which this process is connected; with the settings of a local run."""
    import ray

    from ray_classy.ray_compat.settings import LOCAL

    os.environ.update(LOCAL)
    ray.init("local", num_cpus=4, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.fixture(scope="session")
def s3_server():
    """The port of an S3-compatible server in this process."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()[1]
    server.stop()


@pytest.fixture
def s3(s3_server):
    """A new bucket on that server."""
    from tests.helpers import Bucket

    return Bucket(s3_server)
