"""The token by which a cluster knows its users.

`ray start` asks for a token wherever the user has one, and a local Ray makes one, so that every later cluster of this
user asks for it. But Ray sends it only to a cluster that it finds by itself, not to one that is named by its address.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import secrets
import stat
import tempfile
from collections.abc import Iterator
from typing import Any

from ray_classy.errors import ResourceError
from ray_classy.ray_compat import find

_MODE, _TOKEN, _TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
_PATIENCE = ("RAY_gcs_rpc_server_reconnect_timeout_s", "RAY_py_gcs_connect_timeout_s")
_WITHOUT = "tokens are sent as Ray decides (RAY_AUTH_MODE)"
HOW_TO_GET_IT = (
    f"run `ray get-auth-token` on a node of the cluster, and give what it prints in {_TOKEN}, or as a file that "
    f"{_TOKEN_PATH} names"
)


@contextlib.contextmanager
def with_own_token() -> Iterator[None]:
    """For a local Ray that is started in the block: the user's token exists, and no one else can read it.

    Ray 2.59 and later write it to the home folder, where it is readable for all. An older Ray has no tokens.

    Raises:
        ResourceError: the environment names a token that cannot be read.
    """
    with _restored(_MODE, _TOKEN):
        if os.environ.get(_MODE, "token").lower() == "token" and _loader() is not None and not os.environ.get(_TOKEN):
            if os.environ.get(_TOKEN_PATH):
                _has_token()
            else:
                _make_private(os.path.expanduser("~/.ray/auth_token"))
            _reload()
        yield


@contextlib.contextmanager
def with_token_of(address: str) -> Iterator[bool]:
    """For a connection to a cluster in the block: the user's token is sent if the cluster asks for one.

    Ray 2.59 and later have tokens. Without the names that are used here, tokens are sent as Ray decides.

    Args:
        address: host and port of the cluster, or "ray://" and those of its server for Ray clients.

    Yields:
        Whether the cluster asks for a token; also True where that is not known.

    Raises:
        ResourceError: the user has no token, or another one than the cluster.
        ConnectionError: no Ray cluster answers.
    """
    client = find("ray._raylet:GcsClient", _WITHOUT)
    if _loader() is None or client is None:
        yield True
        return
    with _restored(_MODE):
        chosen = os.environ.get(_MODE)
        if address.startswith("ray://"):
            if chosen is None and _has_token():
                _set_mode("token")
            yield True
            return
        _set_mode("disabled")
        asks = not _lets_in(client, address)
        if asks:
            if chosen is not None and chosen.lower() != "token":
                raise ResourceError(
                    f"the Ray cluster at {address!r} asks for a token, but {_MODE}={chosen} is set: unset it"
                )
            if not _has_token():
                raise ResourceError(
                    f"the Ray cluster at {address!r} asks for a token, and you have none: {HOW_TO_GET_IT}"
                )
            _set_mode("token")
            if not _lets_in(client, address):
                raise ResourceError(f"the Ray cluster at {address!r} refuses the token in {_source()}: {HOW_TO_GET_IT}")
        yield asks


def own_token() -> tuple[str | None, str]:
    """The token that this user has, or None, and where it is looked for.

    For the dashboard of a cluster, whose public client sends a token only where the environment says so.
    """
    token = os.environ.get(_TOKEN)
    if not token:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            path = os.environ.get(_TOKEN_PATH) or "~/.ray/auth_token"
            token = pathlib.Path(os.path.expanduser(path)).read_text().strip()
    return token or None, _source()


def _lets_in(client: Any, address: str) -> bool:
    """Whether a cluster answers a request that is made as the mode says."""
    from ray.exceptions import AuthenticationError

    with _silent_stderr(), _impatient():
        try:
            client(address=address)
        except AuthenticationError:
            return False
        except Exception as error:
            raise ConnectionError(next(iter(str(error).splitlines()), type(error).__name__)) from None
    return True


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """Ray tries for seconds, not for most of a minute, whether what listens at an address is a cluster."""
    with _restored(*_PATIENCE):
        os.environ.update(dict.fromkeys(_PATIENCE, "3"))
        _reload()
        yield


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Keeps Ray's C++ code from printing that a request was refused, which is the answer to a question here."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


@contextlib.contextmanager
def _restored(*names: str) -> Iterator[None]:
    """Ray leaves the mode set that a cluster of this process had; the next one may have another."""
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            _set(name, value)
        _reload()


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _set_mode(mode: str) -> None:
    os.environ[_MODE] = mode
    _reload()


def _reload() -> None:
    """Lets Ray read mode and token once more."""
    config, loader = find("ray._raylet:Config", _WITHOUT), _loader()
    if config is not None:
        config.initialize("")
    if loader is not None:
        loader.reset_cache()


def _loader() -> Any:
    kind = find("ray._raylet:AuthenticationTokenLoader", _WITHOUT)
    return None if kind is None else kind.instance()


def _has_token() -> bool:
    from ray.exceptions import AuthenticationError

    _reload()
    try:
        return bool(_loader().has_token(ignore_auth_mode=True))
    except AuthenticationError:
        raise ResourceError(f"there is no token in {_source()}: {HOW_TO_GET_IT}, or unset it") from None


def _source() -> str:
    """Where Ray takes the token from."""
    if os.environ.get(_TOKEN):
        return _TOKEN
    path = os.environ.get(_TOKEN_PATH)
    return f"{path!r} ({_TOKEN_PATH})" if path else "~/.ray/auth_token"


def _make_private(path: str) -> None:
    """Makes the user's token if there is none, and lets only the user read it."""
    try:
        status = os.stat(path)
    except OSError:
        status = None
    if status is not None and status.st_size:
        if status.st_mode & 0o077 and stat.S_ISREG(status.st_mode) and status.st_uid == os.getuid():
            with contextlib.suppress(OSError):
                os.chmod(path, 0o600)
        return
    token = secrets.token_hex(32)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        number, new = tempfile.mkstemp(dir=os.path.dirname(path))  # readable for the user alone
        with open(number, "w") as file:
            file.write(token)
        if status is None:
            with contextlib.suppress(FileExistsError):  # by another process of the user's
                os.link(new, path)
            os.unlink(new)
        else:
            os.replace(new, path)
    except OSError:  # a home that cannot be written
        os.environ[_TOKEN] = token
