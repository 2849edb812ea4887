"""`ray-classy serve`."""

from __future__ import annotations

import argparse
import errno
import logging
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ray_classy.cli.arguments import UsageError
from ray_classy.cli.output import Answer, short
from ray_classy.cli.paths import path_in
from ray_classy.cli.trained import trained_at, use_code
from ray_classy.dataset.cpus import cpus_of_this_machine
from ray_classy.display import print_line
from ray_classy.errors import ResourceError, RunError
from ray_classy.inference.load_model import classifier_of
from ray_classy.inference.ray_serve import NAME, check_one_target, require_serve, serve_app
from ray_classy.urls import shown

_SECONDS_BETWEEN_CHECKS = 2.0
_LOOPBACK = ("localhost", "::1")


def serve_run(arguments: argparse.Namespace) -> Answer:
    """Serves the model of a run over HTTP on a local Ray, until it is interrupted.

    Raises:
        UsageError: the command line has a mistake.
        RayClassyError: it cannot be done; the message says why.
    """
    path, host, port = path_in(arguments, "a run, checkpoint or export"), arguments.host, arguments.port
    for name, most in (("port", 65_535), ("topk", None), ("batch_size", None), ("max_megabytes", 1024)):
        value = getattr(arguments, name)
        if value < 1 or value > (most or value):
            limits = "at least 1" if most is None else f"1 to {most:,}"
            raise UsageError(f"--{name.replace('_', '-')} must be {limits}, not {value}")
    require_serve()
    check_port(host, port)
    use_code(arguments.code)
    trained = trained_at(path)
    model = classifier_of(trained)  # what is wrong with it is said before Ray is started
    check_one_target(model)
    model.preprocessing.check()
    app = serve_app(
        {
            "run": trained.path,
            "topk": arguments.topk,
            "batch_size": arguments.batch_size,
            "max_megabytes": arguments.max_megabytes,
            "num_cpus": max(1, cpus_of_this_machine() - 1),
            "use_gpu": model.device.type == "cuda",
        }
    )
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    try:
        with _served(app, host, port, arguments.verbose) as status:
            print_line(f"checkpoint  {short(shown(trained.path))}")
            print_line(f"page        {url}/")
            print_line(f"predict     curl --data-binary @photo.jpg {url}/predict")
            print_line(f"health      {url}/healthz")
            print_line(f"metrics     {url}/metrics")
            if not host.startswith("127.") and host not in _LOOPBACK:
                print_line(f"whoever reaches {host} can use the service: it asks for no password")
            print_line("Ctrl-C stops it")
            while True:
                time.sleep(_SECONDS_BETWEEN_CHECKS)
                if status() not in ("RUNNING", "DEPLOYING"):
                    raise RunError(f"the service has failed: its status is {status()}; --verbose prints Ray's output")
    except KeyboardInterrupt:
        return Answer("stopped", {"checkpoint": trained.path, "url": url})


def check_port(host: str, port: int) -> None:
    """Checks that a port can be listened at.

    Raises:
        ResourceError: it is in use, or is not this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that have just ended may linger
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ResourceError(f"port {port} of {host} is in use: give another --port") from None
        raise ResourceError(f"cannot listen at {host}, port {port}: {error.strerror or error}") from None


@contextmanager
def _served(app: Any, host: str, port: int, verbose: bool) -> Iterator[Any]:
    """An application for the block, which gets a function that returns its status."""
    import ray
    from ray import serve

    from ray_classy.trainer.ray_connection import connected

    logger = logging.getLogger("ray.serve")
    with connected("local", verbose):
        if not verbose:
            logger.setLevel(logging.ERROR)
        try:
            serve.start(proxy_location="HeadOnly", http_options={"host": host, "port": port})
            try:
                serve.run(app, name=NAME, route_prefix="/")
            except RuntimeError as error:
                line = next(iter(str(error).strip().splitlines()), type(error).__name__)
                raise RunError(f"the service does not start: {line} --verbose prints Ray's output") from error
            yield lambda: str(getattr(serve.status().applications[NAME].status, "value", ""))
        finally:
            # Requests under way are answered; the rest of Serve ends with this process's own Ray. (serve.shutdown()
            # would print an error about its own controller.)
            with suppress(ray.exceptions.RayError, TimeoutError):
                serve.delete(NAME)
