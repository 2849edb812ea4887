"""Removes secrets from what is written and printed.

Credentials belong to a user, not to a run: they are in no message, log, config, record or manifest, so none of these
files needs protection, and a run can be resumed by another user. What remains of a secret:

    s3://KEY:SECRET@bucket/runs?region=eu       s3://bucket/runs?region=eu     (read with the environment's credentials)
    s3://bucket/runs?secret_key=SECRET          s3://bucket/runs?secret_key=***
    https://host/a.csv?token=SECRET             https://host/a.csv?token=***
    {"WANDB_API_KEY": "SECRET"}                 {"WANDB_API_KEY": "***"}
"""

from __future__ import annotations

import base64
import functools
import os
import re
from collections.abc import Mapping
from typing import Any

MASK = "***"
"""Stands where a secret was."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SECRET = re.compile(  # the end of a name whose words are joined by _
    r"(?:(?:password|passwd|passphrase|secret)s?|(?:^|_)(?:credentials?|connection_?string|authorization|signature)"
    r"|(?:api|access|secret|private)_?keys?(?:_?id)?|(?:app|account|shared|master|auth|signing|encryption|storage)_?key"
    r"|^token|(?:^|_)(?:api|app|auth|oauth|jwt|access|session|security|bearer|refresh|sas|secret|hf|hub|huggingface"
    r"|wandb|git|github|gitlab|bot|user)_?token)\Z"
)
_SECRET_IN_URLS = re.compile(r"(?:token|^key|^pwd|^pass|^sig|^sas|^auth)\Z")
_WITHOUT_USER = ("s3", "s3a", "s3n", "http", "https")  # where the user's name is a part of the secret, or a token
_STORES = ("s3", "s3a", "s3n", "gs", "gcs", "abfs", "abfss", "az", "adl")  # their URLs have no port
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*\Z")
_SPAN = re.compile(r"[^\s'\"<>]*")
_AUTHORITY = re.compile(r"[^/?#]*")
_NAME = re.compile(r"(?<![\w.-])([\w.-]++)([\"']?)\s*+([=:])(?!//)[ \t]*+")
_CREDENTIALS = re.compile(r"\b(Bearer|Basic)( +)([A-Za-z0-9._~+/-]{7,}=*+)")
_NUMBER = re.compile(
    r"[\s\[(]*(?:[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?%?|[-+]?\.?(?:nan|NaN|inf)|true|false|null|None|True|False)"
    r"[\s\])]*(?:#.*)?"
)
_LONGEST_SCHEME = 40
_SHORTEST_SECRET = 12
"""Characters of a variable's value that is masked wherever it stands; a shorter one may be a usual word."""
_SURE_TOKEN = 32
"""Characters after `Bearer` that are masked whatever they are."""


def is_secret(name: str) -> bool:
    """Returns whether a key, option or environment variable of this name holds a secret."""
    return _is_secret(name.rpartition(".")[2])


@functools.lru_cache(maxsize=4096)
def _is_secret(name: str, in_url: bool = False) -> bool:
    words = "_".join(_WORD.findall(name)).lower()
    if _SECRET.search(words) or (name.isupper() and words.endswith("token")):
        return True
    return in_url and _SECRET_IN_URLS.search(words) is not None


def redacted(text: str) -> str:
    """Returns a text for people without the secrets in it.

    Args:
        text: may hold URLs, `name=value`, mappings in YAML, JSON or Python, and values of environment variables.
    """
    text = _CREDENTIALS.sub(_without_credentials, _named(_urls(text)))
    for secret in _secrets_of_environment():
        if secret in text:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", MASK, text)
    return text


def redacted_values(value: Any) -> Any:
    """Returns a copy of plain values (a config, a record) without the secrets in it; other objects stay as they are.

    A string is masked if its key is the name of a secret, or if it is the value of an environment variable that is one.
    Numbers stay: a metric or a class may have any name.
    """
    return _values(value, set(_secrets_of_environment()))


def _values(value: Any, secrets: set[str]) -> Any:
    if isinstance(value, Mapping):
        return {
            _string(key, secrets) if isinstance(key, str) else key: _masked(item)
            if isinstance(key, str) and is_secret(key)
            else _values(item, secrets)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_values(item, secrets) for item in value]
    return _string(value, secrets) if isinstance(value, str) else value


def _masked(value: Any) -> Any:
    """Masks the texts under the name of a secret."""
    if isinstance(value, Mapping):
        return {key: _masked(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(item) for item in value]
    return value if isinstance(value, int | float) or value is None or value == "" else MASK


def _string(text: str, secrets: set[str]) -> str:
    """Redacts a whole value: a path, a URL, or a word of a command, which may have spaces."""
    if text in secrets:
        return MASK
    name, equals, value = text.partition("=")
    if equals and re.fullmatch(r"[\w.-]+", name):
        masked = is_secret(name) and value and not _NUMBER.fullmatch(value)
        return f"{name}={MASK if masked else _string(value, secrets)}"
    return _named(_urls(text, whole=True), whole="://" in text) if "://" in text or "=" in text or ":" in text else text


def _secrets_of_environment() -> list[str]:
    """The values of environment variables that are secrets, the longest first, as one may be a part of another."""
    found = {value for name, value in os.environ.items() if is_secret(name) and _is_random(value)}
    return sorted(found, key=len, reverse=True)


def _is_random(value: str) -> bool:
    """Whether a value looks random. An ordinary word or path would be masked where it is not a secret."""
    mixed = re.search(r"\d", value) or not (value.islower() or value.isupper() or value.istitle())
    return len(value) >= _SHORTEST_SECRET and bool(mixed)


def _without_credentials(found: re.Match[str]) -> str:
    """Masks what follows `Bearer` or `Basic`, unless it is an ordinary word."""
    kind, space, value = found.groups()
    if kind == "Basic":
        try:
            secret = b":" in base64.b64decode(f"{value.rstrip('=')}==")
        except ValueError:
            secret = False
    else:
        secret = len(value) >= _SURE_TOKEN or re.search(r"[\d=]", value) is not None
    return f"{kind}{space}{MASK}" if secret else found[0]


def _urls(text: str, whole: bool = False) -> str:
    """Removes user and password from the URLs in a text, or from one that is the whole text."""
    done, parts = 0, []
    at = text.find("://")
    while at >= 0:
        start, following = at + 3, text.find("://", at + 3)
        scheme = _SCHEME.search(text, max(0, at - _LONGEST_SCHEME), at)
        end = len(text)
        if following >= 0:
            after = _SCHEME.search(text, max(start, following - _LONGEST_SCHEME), following)
            end = after.start() if after else following
        if not whole:
            span = _SPAN.match(text, start, end)
            end = span.end() if span else end
        parts += [text[done:start], _without_user(scheme[0].lower() if scheme else "", text[start:end])]
        done, at = end, following
    return "".join([*parts, text[done:]])


def _without_user(scheme: str, rest: str) -> str:
    """Removes user and password from what follows `scheme://`.

    A secret may hold `/`, `?`, `#` or `@` that should have been percent-encoded: then it is not certain where it ends,
    and the mask says that something is missing.
    """
    found = _AUTHORITY.match(rest)
    authority = found[0] if found else ""
    user, at, host = authority.rpartition("@")
    tail = rest[len(authority) :]
    name, colon, _ = user.partition(":")
    if at:
        if colon and ("@" in user or "@" in tail):
            return f"{MASK}@{rest.rpartition('@')[2]}"
        kept = "" if scheme.rpartition("+")[2] in _WITHOUT_USER and name != MASK else name
        return f"{kept}@{host}{tail}" if kept else f"{host}{tail}"
    port = authority.startswith("[") or (scheme not in _STORES and authority.rpartition(":")[2].isdigit())
    if ":" in authority and "@" in tail and not port:
        return f"{MASK}@{rest.rpartition('@')[2]}"
    return rest


def _named(text: str, whole: bool = False) -> str:
    """Masks values that follow the name of a secret: `name=...`, `{name: ...}`, `"name": "..."`, a line `name: ...`."""
    parts, done = [], 0
    found = _NAME.search(text)
    while found:
        start = found.end()
        if _names_secret(text, found):
            end = _end_of_value(text, found, whole)
            in_url = text[max(0, found.start() - 1) : found.start()] in ("?", "&", ";", "#")
            if end > start and (in_url or not _NUMBER.fullmatch(text, start, end)):
                parts += [text[done:start], MASK]
                done = start = end
        found = _NAME.search(text, start)
    return "".join([*parts, text[done:]])


def _names_secret(text: str, found: re.Match[str]) -> bool:
    name, quote, sign = found.groups()
    before = text[found.start() - 1] if found.start() else "\n"
    if sign == "=":
        return _is_secret(name.rpartition(".")[2], before in "?&;#")
    if not is_secret(name):
        return False
    if quote:
        return before == quote
    return text[max(0, found.start() - 200) : found.start()].rstrip(" \t-")[-1:] in ("", "\n", "{", ",")


def _end_of_value(text: str, found: re.Match[str], whole: bool) -> int:
    """Returns where the value after a secret's name ends."""
    start, before = found.end(), text[found.start() - 1 : found.start()]
    if text[start : start + 1] in ("'", '"') and text[start:]:
        end = text.find(text[start], start + 1)
        return end + 1 if end >= 0 else len(text)
    if found[3] == ":":
        return _first(text, ",}\n", start)
    if before in ("'", '"') and before:  # 'name=a value with spaces'
        return _first(text, before, start)
    if whole:
        return _first(text, "&", start)
    end = _first(text, "&'\"<> \t\r\n", start)
    return start + len(text[start:end].rstrip(").,;:]}"))


def _first(text: str, characters: str, start: int) -> int:
    found = re.compile(f"[{re.escape(characters)}]").search(text, start)
    return found.start() if found else len(text)
