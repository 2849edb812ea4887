"""Connects this process to a Ray cluster, or starts a local Ray for the time of a run."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from typing import Any

import ray

import ray_classy
from ray_classy.config.ray_options import address_problem
from ray_classy.errors import RayClassyError, ResourceError
from ray_classy.ray_compat import settings
from ray_classy.ray_compat.authentication import with_own_token, with_token_of
from ray_classy.ray_compat.cluster import running_cluster, shut_down_local
from ray_classy.ray_compat.local import job_config, on_loopback, private_folders, without_uv
from ray_classy.trainer.interrupts import handlers_restored, signals_held_back
from ray_classy.trainer.shipped_code import places_on_local_workers, staged_code
from ray_classy.user_code import SEARCH_VARIABLE, SETUP_FUNCTION, Search, is_installed

_log = logging.getLogger(__name__)

_CONNECT_SECONDS = 5.0


@contextlib.contextmanager
def connected(
    address: str | None,
    verbose: bool = False,
    *,
    runtime_env: Mapping[str, Any] | None = None,
    object_store_memory: int | None = None,
) -> Iterator[None]:
    """A connection to a cluster for the block; Ray is left as it was found.

    Args:
        address: of the cluster; None takes RAY_ADDRESS, and without it, or with "local", starts a local Ray.
        verbose: let Ray and the workers print, and keep the logs of a local Ray.
        runtime_env: Ray's runtime environment of the workers; code that they lack is added.
        object_store_memory: bytes of shared memory of a local Ray; None leaves it to Ray.

    Raises:
        ResourceError: nothing answers at the address, it refuses the token, or this process is connected to another.
        ShippingError: the user's modules cannot be sent, or one has the name of another.
    """
    given, address = address, address or os.environ.get("RAY_ADDRESS") or "local"
    _check_options(given, address, runtime_env, object_store_memory)
    with contextlib.ExitStack() as stack:
        stack.enter_context(environment(settings.TRAIN))
        if not ray.is_initialized():
            quiet: dict[str, Any] = {} if verbose else {"logging_level": "ERROR", "log_to_driver": False}
            env = dict(runtime_env or {})
            if address == "local":
                if object_store_memory is not None:
                    quiet["object_store_memory"] = object_store_memory
                stack.enter_context(_local_ray({**quiet, "runtime_env": env or None}, keep=verbose))
            else:
                stack.enter_context(_cluster(address, env, quiet))
        if not verbose:
            stack.enter_context(_quiet_loggers())
        yield


def _check_options(
    given: str | None, address: str, runtime_env: Mapping[str, Any] | None, object_store_memory: int | None
) -> None:
    problem = address_problem(address)
    if problem is not None and (given or not ray.is_initialized()):  # RAY_ADDRESS may be the dashboard's, for `ray job`
        where = "--address (ray.address)" if given else "RAY_ADDRESS"
        raise ResourceError(f"{where} is {address!r}: {problem}")
    if ray.is_initialized():
        _check_connection(given)
        if runtime_env or object_store_memory is not None:
            option = "runtime_env" if runtime_env else "object_store_memory"
            raise ResourceError(f"this process is connected already: give {option} to ray.init, not in ray.{option}")
    if object_store_memory is not None and address != "local":
        raise ResourceError(
            f"ray.object_store_memory is for a local Ray, but the cluster at {address!r} has its own: leave it out, or "
            f"give it to `ray start --object-store-memory`"
        )


@contextlib.contextmanager
def _local_ray(options: dict[str, Any], keep: bool) -> Iterator[None]:
    """A Ray of this process alone: on the loopback interface, with files and a token that no other user can read."""
    places_on_local_workers()
    with contextlib.ExitStack() as stack:
        stack.enter_context(environment(settings.LOCAL))
        stack.enter_context(environment(_worker_variables(), replace=True))
        folders = stack.enter_context(private_folders(keep))
        with contextlib.ExitStack() as start:
            start.enter_context(on_loopback())
            start.enter_context(without_uv())
            start.enter_context(signals_held_back())
            stack.enter_context(with_own_token())
            try:
                ray.init("local", include_dashboard=False, job_config=job_config(), **folders, **options)
            except RayClassyError:
                raise
            except Exception as error:
                raise ResourceError(
                    f"no local Ray could be started: {_first_line(error)}; to do without, --local"
                ) from error
            stack.callback(shut_down_local)
        if keep:
            _log.info("Ray's logs are kept in %s", folders["_temp_dir"])
        yield


def _worker_variables() -> dict[str, str]:
    """What the workers of a local Ray find in their environment: how they find this package and the user's modules."""
    variables = {SEARCH_VARIABLE: json.dumps(Search.here()), settings.SETUP_HOOK: SETUP_FUNCTION}
    package = os.path.dirname(os.path.dirname(os.path.abspath(ray_classy.__file__)))
    if not is_installed(package):
        before = os.environ.get("PYTHONPATH")
        variables["PYTHONPATH"] = os.pathsep.join([before, package] if before else [package])
    return variables


@contextlib.contextmanager
def _cluster(address: str, env: dict[str, Any], quiet: dict[str, Any]) -> Iterator[None]:
    """A connection to a cluster, to whose nodes this package and the user's modules are sent."""
    with contextlib.ExitStack() as stack:
        address = _found(address)
        host = address.removeprefix("ray://").rpartition(":")[0].strip("[]")
        try:
            asks = stack.enter_context(with_token_of(address))
        except ConnectionError as error:
            raise _no_cluster(address, str(error)) from None
        if not asks and not _is_loopback(host):
            _log.warning(
                "the Ray cluster at %s asks for no token: whoever reaches it can run code there as its user", address
            )
        options: dict[str, Any] = {}
        if not settings.code_is_shipped():
            env["py_modules"] = [*(env.get("py_modules") or []), stack.enter_context(staged_code())]
            env["env_vars"] = {**(env.get("env_vars") or {}), settings.SETUP_HOOK: SETUP_FUNCTION}
            if not address.startswith("ray://"):
                options["job_config"] = job_config()
        try:
            with without_uv(), handlers_restored():  # Ray has a handler of its own for SIGTERM
                ray.init(address, runtime_env=env, **quiet, **options)
        except ConnectionError as error:
            raise _no_cluster(address, _first_line(error)) from None
        except RayClassyError:
            raise
        except Exception as error:
            raise ResourceError(
                f"the Ray cluster at {address!r} does not take this connection: {_first_line(error)}"
            ) from error
        stack.callback(ray.shutdown)
        yield


def _found(address: str) -> str:
    """The host and port of a cluster at which something listens; Ray itself would try for a minute.

    Raises:
        ResourceError: there is none.
    """
    if address == "auto":
        try:
            address = running_cluster()
        except ConnectionError as error:
            raise _no_cluster("auto", _first_line(error)) from None
        if address == "auto":
            return address
    if address.startswith("ray://") and importlib.util.find_spec("grpc") is None:
        raise ResourceError(
            f"{address!r} is the address of a server for Ray clients, which need `pip install 'ray[client]'`: or give "
            f"the cluster's own address, host:6379"
        )
    host, _, port = address.removeprefix("ray://").rstrip("/").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, UnicodeError) as error:
        raise _no_cluster(address, getattr(error, "strerror", None) or str(error)) from None
    return address


def _is_loopback(host: str) -> bool:
    try:
        return socket.gethostbyname(host).startswith("127.")
    except OSError:
        return host == "::1"


@contextlib.contextmanager
def environment(variables: Mapping[str, str], replace: bool = False) -> Iterator[None]:
    """Sets the variables for the block; those that are set already only if they are to be replaced."""
    added = {name: os.environ.get(name) for name in variables if replace or name not in os.environ}
    os.environ.update({name: variables[name] for name in added})
    try:
        yield
    finally:
        for name, before in added.items():
            if before is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = before


@contextlib.contextmanager
def _quiet_loggers() -> Iterator[None]:
    """Lets Ray's libraries log errors only, and Tune nothing: the sweep reports failed trials itself."""
    loggers = [logging.getLogger(name) for name in ("ray", "ray.data", "ray.train", "ray.tune")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL if logger.name == "ray.tune" else logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _check_connection(address: str | None) -> None:
    """Refuses an address that is not the one this process is connected to."""
    current = ray.get_runtime_context().gcs_address
    host, _, port = (address or "").rpartition(":")
    if not port.isdigit() or "://" in host:
        return  # "auto" and the like, and Ray client's: not comparable
    if port != current.rpartition(":")[2] or _resolved(host) != _resolved(current.rpartition(":")[0]):
        raise ResourceError(
            f"this process is connected to the cluster at {current!r}, not to {address!r}: "
            f"leave the address out to use that connection, or call ray.shutdown() first"
        )


def _resolved(host: str) -> str:
    try:
        return socket.gethostbyname(host.strip("[]"))
    except OSError:
        return host


def _no_cluster(address: str, reason: str) -> ResourceError:
    return ResourceError(
        f"no Ray cluster answers at {address!r} ({reason}): correct --address or RAY_ADDRESS, or leave both out to "
        f"start a local Ray"
    )


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
