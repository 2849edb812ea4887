"""A process that has imported packages, and forks workers or agents of Ray (see `warm_relay.py`)."""

import contextlib
import gc
import importlib.util
import json
import os
import random
import runpy
import select
import signal
import socket
import sys
from typing import NamedTuple

# What Ray and its workers import anyway: nothing of Ray, which reads settings and seeds its identifiers while it is
# imported, nothing of this project, and nothing that a test says is not imported.
PACKAGES = (
    "PIL.Image",
    "aiohttp.web",
    "asyncio",
    "fsspec",
    "google.protobuf.descriptor_pb2",
    "grpc.aio",
    "jsonschema",
    "msgpack",
    "opentelemetry.sdk.metrics",
    "pandas",
    "prometheus_client",
    "psutil",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "pydantic",
    "requests",
    "torch._dynamo",
    "torch.distributed",
    "torch.nn.parallel",
    "torch.utils.data",
    "yaml",
)


class Request(NamedTuple):
    """What a relay asks for: see `warm_relay.follow`."""

    command: list
    environment: dict
    variables: dict
    folder: str
    parent: int
    ignored: list
    blocked: list
    nice: int
    mask: int


def serve(listener, place, owner):
    """Forks workers until the process `owner` has ended; returns in each worker, with what it was asked for."""
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    relays = {}  # by the worker's process
    while os.path.exists(f"/proc/{owner}") and os.path.exists(place):
        ready, _, _ = select.select([listener, woken, *relays.values()], [], [], 2.0)
        if woken in ready:
            os.read(woken, 4096)
            reap(relays)
        for process, relay in list(relays.items()):
            if relay in ready:
                pass_on(relay, process)
        if listener in ready:
            relay, _ = listener.accept()
            asked = received(relay)
            process = os.fork() if asked is not None else None
            if process == 0:
                signal.set_wakeup_fd(-1)
                for each in (relay, listener, *relays.values()):
                    each.close()
                os.close(woken)
                os.close(wakes)
                become(*asked)
                return asked[0]
            if process is not None:
                relays[process] = relay
                for file in asked[1]:
                    os.close(file)
    for process in relays:
        os.kill(process, signal.SIGKILL)
    return None


def reap(relays):
    """Tells the relays of workers that have ended how they did."""
    for process, relay in list(relays.items()):
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            with contextlib.suppress(OSError):  # the relay has ended too
                relay.sendall(status.to_bytes(4, "big"))
            relays.pop(process).close()


def pass_on(relay, process):
    """Sends a worker the signals that its relay was sent; SIGKILL if the relay has ended."""
    for number in relay.recv(64) or [signal.SIGKILL]:
        os.kill(process, number)


def received(relay):
    """A relay's request, and its standard files; None if it has ended meanwhile."""
    length, files, _, _ = socket.recv_fds(relay, 4, 3)
    text = b""
    while len(files) == 3 and len(text) < int.from_bytes(length, "big"):
        more = relay.recv(1 << 16)
        if not more:
            return None
        text += more
    return (Request(**json.loads(text)), files) if text else None


def become(request, files):
    """Makes this process what the relay's own would have become."""
    os.setsid()
    for descriptor, file in enumerate(files):
        os.dup2(file, descriptor)
        os.close(file)
    # The title of a process is found in memory by the first of its variables, which stays.
    for name in os.environ.keys() - {"WARM_TEMPLATE"}:
        del os.environ[name]
    os.environ.update(request.environment)
    for name, value in request.variables.items():
        os.environ[name] = os.path.expandvars(value)
    os.chdir(request.folder)
    os.umask(request.mask)
    with contextlib.suppress(PermissionError):  # to lower it again, on some systems
        os.setpriority(os.PRIO_PROCESS, 0, request.nice)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in request.ignored:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, request.blocked)
    name_parent(sys.modules["psutil"].Process, request.parent)
    random.seed()
    sys.modules["numpy"].random.seed()
    sys.path[:] = [os.path.dirname(request.command[0]), *python_path(), *SEARCHED]
    sys.path_importer_cache.clear()
    importlib.invalidate_caches()
    sys.argv[:] = request.command


def name_parent(kind, relays):
    """Lets psutil name the parent of the relay as that of this process: Ray's agents end when it does."""
    others, own = kind.parent, os.getpid()
    kind.parent = lambda process: kind(relays) if process.pid == own else others(process)


def python_path():
    """The folders on PYTHONPATH."""
    return [os.path.abspath(folder) for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]


SEARCHED = [folder for folder in sys.path[1:] if folder not in python_path()]


def main():
    """Imports the packages, serves, and runs the script of a worker."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    place, owner = sys.argv[2:]
    rays = os.path.dirname(importlib.util.find_spec("ray").origin)
    sys.path.insert(0, os.path.join(rays, "thirdparty_files"))  # where Ray has a psutil of its own
    for package in PACKAGES:
        try:
            importlib.import_module(package)
        except Exception as error:
            print(f"{package} is not imported: {error}", flush=True)
    sys.path.remove(os.path.join(rays, "thirdparty_files"))
    gc.collect()
    gc.freeze()
    return serve(listener, place, owner)


if __name__ == "__main__":
    asked = main()
    if asked is not None:
        runpy.run_path(asked.command[0], run_name="__main__")
