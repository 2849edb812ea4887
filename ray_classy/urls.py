"""Access to files by path or URL, and the file systems behind URLs."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from ray_classy.errors import DataError, RayClassyError, RunFolderError
from ray_classy.redact import MASK, redacted_values

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<host>[^/?]*)(?P<path>.*?)(?P<query>\?[a-z_]+=.*)?", re.S)
_ARROW_SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs")
_AT_ONCE = 16
_GCS_SECONDS = 30
_CONNECT_SECONDS = 5
_SILENT_SECONDS = 10
_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


class Stamp(NamedTuple):
    """Size and modification time of a file, by which a change is detected without reading it.

    Attributes:
        size: in bytes; None if the store does not report it.
        changed_ns: time of the last modification in ns since 1970; None if the store does not report it.
    """

    size: int | None
    changed_ns: int | None


def is_url(path: str) -> bool:
    """Returns whether a path is a URL (`s3://...`) rather than a local path."""
    return "://" in path


def without_file_scheme(path: str) -> str:
    """Returns the local path of a `file://` URL, which is percent-encoded; any other path or URL stays as it is."""
    found = _URL.fullmatch(path)
    return unquote(found["path"]) if found is not None and found["scheme"].lower() == "file" else path


def expanded(path: str | os.PathLike[str]) -> str:
    """Returns a path in which a leading `~` or `~user` is replaced by the home folder; called where a path enters.

    A name such as `~x` stays if there is no such user but such a file. URLs stay as they are.

    Raises:
        DataError: there is no such user, and no such file.
    """
    text = os.fspath(path)
    found = os.path.expanduser(text) if text.startswith("~") else text
    if found.startswith("~") and not os.path.lexists(found):
        raise DataError(
            f"{text!r}: there is no user {found.partition('/')[0][1:]!r} whose home folder it could be; for a folder "
            f"of that name write ./{text}"
        )
    return found


def shown(path: str) -> str:
    """Returns a path or URL for printing, without the secrets in it."""
    return str(redacted_values(path))


def split_query(path: str) -> tuple[str, str]:
    """Splits a URL into the part before the query and the query with its question mark, which may be empty."""
    found = _URL.fullmatch(path)
    query = (found["query"] or "") if found is not None and found["scheme"].lower() in _ARROW_SCHEMES else ""
    return path.removesuffix(query), query


def joined(folder: str, name: str) -> str:
    """Joins a folder and a file name; the query of a URL stays at the end: `s3://bucket/a/b?region=...`."""
    start, query = split_query(folder)
    return f"{start.rstrip('/')}/{name}{query}"


def parent(path: str) -> str:
    """Returns the folder of a file; that of a URL keeps the query."""
    start, query = split_query(path)
    return os.path.dirname(start) + query


def located(path: str) -> tuple[Any, str]:
    """Returns the `pyarrow.fs.FileSystem` of a path or URL, and the path within it.

    In URLs of object stores only the credentials before the `@` are percent-encoded, keys are not. Where a record of a
    run has a mask for credentials, a store is opened with those of the environment. Schemes that pyarrow does not know
    are opened by fsspec.

    Raises:
        DataError: no installed package opens such a URL, its query is wrong, or it lacks secrets that it needs.
        OSError: the store cannot be reached.
    """
    from pyarrow import fs

    path = without_file_scheme(path)
    found = _URL.fullmatch(path)
    if found is None:
        return _opened("file", os.getpid()), path
    scheme = found["scheme"].lower()
    _check_secrets(path, scheme)
    try:
        if scheme in _ARROW_SCHEMES:
            filesystem, root = _opened(f"{scheme}://{found['host']}{_unmasked(found['query'] or '')}", os.getpid())
            return filesystem, root.rstrip("/") + found["path"].rstrip("/")
        filesystem = _opened(f"{scheme}://{found['host']}", os.getpid(), threading.get_ident())
        return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), filesystem._strip_protocol(path)
    except (ValueError, ImportError) as error:  # ArrowInvalid is a ValueError
        raise DataError(
            f"{shown(path)!r}: {error}; use a local path, or a URL that "
            f"pyarrow.fs or fsspec opens, such as s3://... or gs://..."
        ) from None


def _check_secrets(path: str, scheme: str) -> None:
    """Refuses a URL whose credentials are not percent-encoded, or masked where the environment cannot give them."""
    printed = shown(path)
    if path == printed and (f"://{MASK}@" in path or (f"={MASK}" in path and scheme not in _ARROW_SCHEMES)):
        raise DataError(
            f"{path!r}: this URL was read from a run, which records no secrets ({MASK}): give the whole URL once more, "
            f"on the command line or in a config"
        )
    if path != printed and f"://{MASK}@" in printed:
        raise DataError(
            f"{printed!r}: user and password before the `@` must be percent-encoded: write %2F for a slash, %40 for an "
            f"at sign, %3F for a question mark, %23 for a number sign"
        )


def _unmasked(query: str) -> str:
    """The query of a store's URL without the entries that are masked."""
    kept = [entry for entry in query[1:].split("&") if not entry.endswith(f"={MASK}")]
    return f"?{'&'.join(kept)}" if query and kept else ""


@functools.lru_cache(maxsize=64)
def _opened(start: str, process: int, thread: int = 0) -> Any:
    """Opens the file system of all URLs that start with `start`.

    `process` and `thread` separate the cached clients: those of stores do not survive a fork, and those of fsspec are
    not always thread-safe (the one for SFTP loses answers).
    """
    from pyarrow import fs

    scheme = start.partition("://")[0]
    if scheme == "file":
        return fs.LocalFileSystem()
    if scheme in _ARROW_SCHEMES:
        if scheme in ("gs", "gcs") and "retry_limit_seconds" not in start:  # by default it retries for 15 minutes
            start += f"{'&' if '?' in start else '?'}retry_limit_seconds={_GCS_SECONDS}"
        filesystem, root = fs.FileSystem.from_uri(start)
        return (_patient_for_seconds(filesystem, start) if scheme == "s3" else filesystem), root
    import fsspec  # type: ignore[import-untyped]

    return fsspec.core.url_to_fs(f"{start}/")[0]


def _patient_for_seconds(filesystem: Any, start: str) -> Any:
    """Opens an S3 file system with short timeouts: by default it waits minutes for a store that does not answer."""
    from pyarrow import fs

    parts = urlsplit(start)
    options: dict[str, Any] = {
        name: value.lower() in ("true", "1") if name.startswith(("allow_", "check_", "tls_verify_")) else value
        for name, value in parse_qsl(parts.query)
        if name != "smart_defaults"
    }
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint and "endpoint_override" not in options:
        options.update(scheme=urlsplit(endpoint).scheme, endpoint_override=urlsplit(endpoint).netloc)
    if parts.username:
        options.update(access_key=unquote(parts.username), secret_key=unquote(parts.password or ""))
    return fs.S3FileSystem(
        **{**options, "region": filesystem.region},
        connect_timeout=_CONNECT_SECONDS,
        request_timeout=_SILENT_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=3),
    )


def read_bytes(path: str, since: float | None = None, most: int | None = None) -> bytes:
    """Reads a file.

    Args:
        path: a path or URL.
        since: a time in seconds since 1970; a file that was modified later is refused.
        most: the bytes that are read at most; a larger file is refused.

    Raises:
        DataError: the file is missing, cannot be read, is too large, was modified, or is a folder, pipe or device.
    """
    try:
        if not is_url(path):
            with open(path, "rb", opener=_at_once) as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise DataError(f"{shown(path)!r} is not a file but a pipe or device; replace or remove it")
                _check_length(path, status.st_size, most)
                # Unpacking an archive may set the first in the future, and changing an owner sets the second.
                check_age(path, since, min(status.st_mtime, status.st_ctime))
                return file.read()
        filesystem, inside = located(path)
        with filesystem.open_input_stream(inside) as stream:
            if since is not None:
                check_age(path, since, _modified(stream))
            content = stream.read() if most is None else stream.read(most + 1)
            _check_length(path, len(content), most)
            return content
    except FileNotFoundError as error:
        raise DataError(f"there is no file {shown(path)!r}") from error
    except IsADirectoryError as error:
        raise DataError(f"{shown(path)!r} is a folder, not a file; rename or remove it") from error
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"cannot read {shown(path)!r}: {reason(error)}") from error


def read_start(path: str, size: int) -> bytes:
    """Reads the first bytes of a local file.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb", buffering=0, opener=_at_once) as file:
        return file.read(size) or b""


def _at_once(path: str, flags: int) -> int:
    """Opens a file; a pipe too, without waiting for someone who writes into it."""
    return os.open(path, flags | os.O_NONBLOCK)


def _check_length(path: str, length: int, most: int | None) -> None:
    if most is not None and length > most:
        raise DataError(f"{shown(path)!r} is too large: it has more than {most:,} bytes; scale it down or remove it")


def _modified(stream: Any) -> float | None:
    """Returns when an object was written, in seconds since 1970; None if its store does not report it."""
    try:
        return datetime.fromisoformat(stream.metadata()["Last-Modified"].decode()).timestamp()
    except Exception:
        return None


_CLOCK_SECONDS = 10
"""Tolerated lead of a file server's clock over the local clock."""


def check_age(path: str, since: float | None, changed: float | None) -> None:
    """Refuses a file that was modified after a given time.

    Args:
        path: named in the error.
        since: the time, in seconds since 1970; None accepts any file.
        changed: when the file was modified, in seconds since 1970; None if that is not known.

    Raises:
        DataError: the file was modified later.
    """
    if since is not None and changed is not None and changed > since + _CLOCK_SECONDS:
        raise DataError(
            f"{shown(path)!r} was changed at {datetime.fromtimestamp(changed):%Y-%m-%d %H:%M:%S}, since the run began: "
            f"restore the previous file or start a new run"
        )


def stamp_of(path: str) -> Stamp | None:
    """Returns size and modification time of a file; None if it does not exist.

    Raises:
        OSError: its store cannot be reached, or denies access.
    """
    if not is_url(path):
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Stamp(status.st_size, status.st_mtime_ns)
    filesystem, inside = located(path)
    info = filesystem.get_file_info(inside)
    return stamp_of_info(info) if info.is_file else None


def stamp_of_info(info: Any) -> Stamp:
    """Converts a `pyarrow.fs.FileInfo` to a stamp."""
    return Stamp(info.size, info.mtime_ns)


def files_below(folder: str) -> list[tuple[str, Stamp]] | None:
    """Lists all files in the folder of a URL and its subfolders with one request.

    Returns:
        Each file's path relative to the folder, and its stamp; None if the folder does not exist.

    Raises:
        DataError: the folder cannot be listed.
    """
    from pyarrow import fs

    try:
        filesystem, inside = located(folder)
        infos = filesystem.get_file_info(fs.FileSelector(inside, recursive=True))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataError(f"cannot list {shown(folder)!r}: {reason(error)}") from None
    start = len(inside.rstrip("/")) + 1
    return [(info.path[start:], stamp_of_info(info)) for info in infos if info.is_file and len(info.path) > start]


def each(function: Callable[[_Item], _Answer], items: Iterable[_Item], urls: bool) -> list[_Answer]:
    """Applies a function to every item, in order; with `urls`, to several at once, as each call waits for a store."""
    listed = list(items)
    if not urls or len(listed) < 2:
        return [function(item) for item in listed]
    with ThreadPoolExecutor(min(_AT_ONCE, len(listed))) as pool:
        return list(pool.map(function, listed))


_REMEDIES = (
    (
        r"NETWORK_CONNECTION|curlCode|Could not connect|Connection refused",
        "check the address (endpoint_override, AWS_ENDPOINT_URL), and that the store answers from this machine",
    ),
    (r"NO_SUCH_BUCKET|bucket does not exist", "correct the bucket's name"),
    (
        r"ACCESS_DENIED|INVALID_ACCESS_KEY|SIGNATURE|CREDENTIAL|HTTP status 40[13]|Forbidden|Unauthorized",
        "provide credentials with access to it (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or KEY:SECRET@ "
        "in the URL)",
    ),
)


_AWS = re.compile(r"^When [^\n]*: AWS Error \w+ during \w+ operation(?: \([^)]*\))?: (?:curlCode: \d+, )?")
"""What pyarrow puts before the cause: an operation of which the user has not heard, on a key that is named beside."""


def reason(error: BaseException) -> str:
    """Returns the message of a store's error, followed by a remedy where one is known."""
    text = re.sub(r"\s*\(Request ID: [^)]*\)", "", str(error)) or type(error).__name__
    short = _AWS.sub("", text).rpartition("; Details: ")[2] or text
    for pattern, remedy in _REMEDIES:
        if re.search(pattern, text, re.I):
            return f"{short}; {remedy}"
    return short


@contextlib.contextmanager
def reading(path: str) -> Iterator[None]:
    """Turns the errors of a disk or a store, in the block, into one that names the path or URL.

    Raises:
        RunFolderError: the path cannot be read.
    """
    try:
        yield
    except RayClassyError:
        raise
    except OSError as error:
        file = error.filename if isinstance(error.filename, str) else path
        raise RunFolderError(f"{shown(file)!r} cannot be read: {error.strerror or reason(error)}") from error
