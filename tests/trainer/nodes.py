"""Nodes of Ray in processes of their own, started as users start them."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile

from ray_classy.ray_compat.settings import LOCAL

SETTINGS = {**LOCAL, "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "1"}
"""Environment variables of clusters that are started for one test: those of a local Ray, whose nodes may be lost."""

PROGRAM = str(pathlib.Path(sys.executable).with_name("ray"))


def started_cluster(num_cpus=0):
    """A cluster of one node, to which others are added."""
    from ray.cluster_utils import Cluster

    return Cluster(initialize_head=True, head_node_args={"num_cpus": num_cpus, "include_dashboard": False})


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def started_node(command, **environment):
    """A process that runs a node of Ray until it is killed, once the node is up; None removes a variable."""
    variables = {**os.environ, "RAY_AUTH_MODE": "disabled", **environment}
    variables = {name: value for name, value in variables.items() if value is not None}
    node = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True, start_new_session=True)
    for line in node.stdout:
        if "Ray runtime started" in line:
            return node
    raise AssertionError(f"no node came up: {command}")


def killed(node):
    """Ends a node and all its processes; `ray stop` would end those of other clusters as well.

    A head node that gets SIGTERM waits 30 s for an answer of its own server, which got SIGTERM as well.
    """
    os.killpg(node.pid, signal.SIGKILL)
    node.wait(60)
    node.stdout.close()


@contextlib.contextmanager
def head(folder, **environment):
    """The address of a head node of a user with this home folder."""
    port = free_port()
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as files:  # short enough for sockets
        options = [f"--port={port}", "--num-cpus=2", "--include-dashboard=false", f"--temp-dir={files}", "--block"]
        node = started_node([PROGRAM, "start", "--head", *options], HOME=str(folder), **environment)
        try:
            yield f"127.0.0.1:{port}"
        finally:
            killed(node)
