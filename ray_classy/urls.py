"""Files by path or URL: the one place that finds the file system in which one lies, and reads from it."""

from __future__ import annotations

import functools
import os
import re
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from ray_classy.errors import DataError

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<host>[^/?]*)(?P<path>.*?)(?P<query>\?[a-z_]+=.*)?", re.S)
_ARROW_SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs")
_AT_ONCE = 16
_GCS_SECONDS = 30
_CONNECT_SECONDS = 5
_SILENT_SECONDS = 10
_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


class Stamp(NamedTuple):
    """What tells one content of a file from another without reading it.

    Attributes:
        size: in bytes; None if the store does not tell.
        changed_ns: time of the last change, in ns since 1970; None if the store does not tell.
    """

    size: int | None
    changed_ns: int | None


def is_url(path: str) -> bool:
    """Whether a path names a store by its scheme (`s3://...`) rather than a local file."""
    return "://" in path


def shown(path: str) -> str:
    """A path or URL as it may be printed: without the password that a URL may hold."""
    return re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*://[^/?@:]*):[^/?@]*@", r"\1:***@", path)


def split_query(path: str) -> tuple[str, str]:
    """A URL without its query, and the query with its question mark; a local path has none."""
    found = _URL.fullmatch(path)
    query = (found["query"] or "") if found is not None and found["scheme"].lower() in _ARROW_SCHEMES else ""
    return path.removesuffix(query), query


def joined(folder: str, name: str) -> str:
    """A file in a folder: `a/b`, or of a URL with a query, `s3://bucket/a/b?region=...`."""
    start, query = split_query(folder)
    return f"{start.rstrip('/')}/{name}{query}"


def parent(path: str) -> str:
    """The folder of a file; that of a URL keeps the query."""
    start, query = split_query(path)
    return os.path.dirname(start) + query


def located(path: str) -> tuple[Any, str]:
    """The file system of a path or URL, and the path in it.

    In URLs of object stores, keys stand as they are: nothing is percent-encoded but in front of the `@`. Schemes that
    pyarrow does not know are those of fsspec.

    Raises:
        DataError: nothing that is installed opens such a URL, or its query is wrong.
        OSError: the store cannot be reached.
    """
    from pyarrow import fs

    found = _URL.fullmatch(path)
    if found is None:
        return _opened("file", os.getpid()), path
    scheme = found["scheme"].lower()
    if scheme == "file":
        return _opened("file", os.getpid()), unquote(found["path"])
    try:
        if scheme in _ARROW_SCHEMES:
            filesystem, root = _opened(f"{scheme}://{found['host']}{found['query'] or ''}", os.getpid())
            return filesystem, root.rstrip("/") + found["path"].rstrip("/")
        filesystem = _opened(f"{scheme}://{found['host']}", os.getpid(), threading.get_ident())
        return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), filesystem._strip_protocol(path)
    except (ValueError, ImportError) as error:  # ArrowInvalid is a ValueError
        raise DataError(
            f"{shown(path)!r}: {str(error).replace(path, shown(path))}; give a local path, or a URL such as s3://... "
            f"or gs://... that pyarrow.fs or fsspec opens"
        ) from None


@functools.lru_cache(maxsize=64)
def _opened(start: str, process: int, thread: int = 0) -> Any:
    """Opens a file system by the start of its URLs.

    The clients of stores do not survive a fork: each process has its own. Those of fsspec need not bear two threads at
    once (SFTP's loses answers): each thread has its own, as in fsspec's cache.
    """
    from pyarrow import fs

    scheme = start.partition("://")[0]
    if scheme == "file":
        return fs.LocalFileSystem()
    if scheme in _ARROW_SCHEMES:
        if scheme in ("gs", "gcs") and "retry_limit_seconds" not in start:  # else it goes on for 15 minutes
            start += f"{'&' if '?' in start else '?'}retry_limit_seconds={_GCS_SECONDS}"
        filesystem, root = fs.FileSystem.from_uri(start)
        return (_patient_for_seconds(filesystem, start) if scheme == "s3" else filesystem), root
    import fsspec  # type: ignore[import-untyped]

    return fsspec.core.url_to_fs(f"{start}/")[0]


def _patient_for_seconds(filesystem: Any, start: str) -> Any:
    """The S3 file system of a URL with a bound on what it waits: by itself it tries a silent store for minutes."""
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


def read_bytes(path: str, since: float | None = None) -> bytes:
    """The content of a file.

    Args:
        path: a path or URL.
        since: a time in seconds since 1970; a file that was changed after it is an error.

    Raises:
        DataError: there is no such file, it cannot be read, or it was changed.
    """
    try:
        if not is_url(path):
            with open(path, "rb") as file:
                status = os.fstat(file.fileno())
                # Unpacking an archive may set the first in the future, and changing an owner sets the second.
                check_age(path, since, min(status.st_mtime, status.st_ctime))
                return file.read()
        filesystem, inside = located(path)
        with filesystem.open_input_stream(inside) as stream:
            if since is not None:
                check_age(path, since, _modified(stream))
            return stream.read()
    except FileNotFoundError as error:
        raise DataError(f"there is no file {shown(path)!r}") from error
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"cannot read {shown(path)!r}: {reason(error)}") from error


def _modified(stream: Any) -> float | None:
    """When an object was written, in seconds since 1970, where its store says so with the content."""
    try:
        return datetime.fromisoformat(stream.metadata()["Last-Modified"].decode()).timestamp()
    except Exception:
        return None


_CLOCK_SECONDS = 10
"""By how much the clock of a file server may be ahead of ours."""


def check_age(path: str, since: float | None, changed: float | None) -> None:
    """Refuses a file that was changed after a time, both in seconds since 1970; None stands for what is not known.

    Raises:
        DataError: it was; the message names it.
    """
    if since is not None and changed is not None and changed > since + _CLOCK_SECONDS:
        raise DataError(
            f"{shown(path)!r} was changed at {datetime.fromtimestamp(changed):%Y-%m-%d %H:%M:%S}, since the run began: "
            f"put the former file back or start a new run"
        )


def stamp_of(path: str) -> Stamp | None:
    """Size and time of change of a file; None if there is no such file.

    Raises:
        OSError: its store cannot be reached, or refuses.
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
    """The stamp in a `pyarrow.fs.FileInfo`."""
    return Stamp(info.size, info.mtime_ns)


def files_below(folder: str) -> list[tuple[str, Stamp]] | None:
    """All files in the folder of a URL and in the folders in it, by one listing; None if there is no such folder.

    The first of each pair is the path below the folder.

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
    """The function of every item, in order; several at once where each waits for a store."""
    listed = list(items)
    if not urls or len(listed) < 2:
        return [function(item) for item in listed]
    with ThreadPoolExecutor(min(_AT_ONCE, len(listed))) as pool:
        return list(pool.map(function, listed))


_REMEDIES = (
    (
        r"NETWORK_CONNECTION|curlCode|Could not connect|Connection refused",
        "is the address right (endpoint_override, AWS_ENDPOINT_URL), and does the store answer from this machine?",
    ),
    (r"NO_SUCH_BUCKET|bucket does not exist", "correct the bucket's name"),
    (
        r"ACCESS_DENIED|INVALID_ACCESS_KEY|SIGNATURE|CREDENTIAL|HTTP status 40[13]|Forbidden|Unauthorized",
        "give credentials that may read it (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or KEY:SECRET@ in "
        "the URL)",
    ),
)


def reason(error: BaseException) -> str:
    """What an error of a store says, with what to do where that is known."""
    text = re.sub(r"\s*\(Request ID: [^)]*\)", "", str(error)) or type(error).__name__
    for pattern, remedy in _REMEDIES:
        if re.search(pattern, text, re.I):
            return f"{text}; {remedy}"
    return text
