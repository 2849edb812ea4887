import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ray_classy.errors import DataError
from ray_classy.urls import (
    expanded,
    files_below,
    is_url,
    joined,
    located,
    parent,
    read_bytes,
    reason,
    shown,
    split_query,
    stamp_of,
)


@pytest.fixture
def hanging():
    """The address of a server that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_urls_have_a_scheme():
    assert is_url("s3://bucket/x") and not is_url("/a/b") and not is_url("C:/x")


@pytest.mark.parametrize(
    ("url", "folder", "file", "printed"),
    [
        ("a/b", "a", "a/b/x", "a/b"),
        ("s3://b/c/d", "s3://b/c", "s3://b/c/d/x", "s3://b/c/d"),
        ("s3://k:p%2F@b/c/d?region=r", "s3://k:p%2F@b/c?region=r", "s3://k:p%2F@b/c/d/x?region=r", None),
        ("s3://b/c/d?e.png", "s3://b/c", "s3://b/c/d?e.png/x", "s3://b/c/d?e.png"),
    ],
)
def test_parts_of_urls(url, folder, file, printed):
    assert (parent(url), joined(url, "x")) == (folder, file)
    assert shown(url) == (printed or "s3://b/c/d?region=r")


def test_the_query_is_what_an_arrow_url_ends_in():
    assert split_query("s3://b/c?region=r&scheme=http") == ("s3://b/c", "?region=r&scheme=http")
    assert split_query("https://b/c?region=r") == ("https://b/c?region=r", "")


@pytest.mark.parametrize("name", ["a.png", "deep/b c.png", "percent%20.png", "question?x.png", "hash#.png", "ä.png"])
def test_keys_stand_as_they_are(s3, name):
    assert read_bytes(s3.put(name, b"content")) == b"content"


def test_a_file_system_is_opened_once(s3):
    first, second = s3.put("a", b"1"), s3.put("b", b"2")
    assert located(first)[0] is located(second)[0]


def test_file_systems_of_fsspec_and_file_urls(tmp_path):
    import fsspec

    with fsspec.open("memory://urls/a b", "wb") as file:
        file.write(b"1")
    (tmp_path / "a b").write_bytes(b"22")
    assert read_bytes("memory://urls/a b") == b"1" and read_bytes(f"file://{tmp_path}/a%20b") == b"22"
    assert stamp_of("memory://urls/a b").size == 1 and files_below("memory://urls")[0][0] == "a b"


def test_the_environment_gives_endpoint_and_credentials(s3, monkeypatch):
    s3.put("a", b"1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{s3.port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert read_bytes(f"s3://{s3.name}/a") == b"1"


def test_masked_credentials_are_those_of_the_environment(s3, monkeypatch):
    s3.put("a", b"1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    address = f"scheme=http&endpoint_override=127.0.0.1:{s3.port}"
    assert read_bytes(f"s3://{s3.name}/a?access_key=***&secret_key=***&{address}") == b"1"


@pytest.mark.parametrize("url", ["https://host/a?token=***", "s3://***@bucket/a"])
def test_a_url_that_lacks_its_secret_must_be_given_again(url):
    with pytest.raises(DataError, match=r"records no secrets.*give the whole URL once more"):
        read_bytes(url)


@pytest.mark.parametrize("secret", ["a/b", "a@b", "a?b", "a@b/c"])
def test_credentials_that_are_not_percent_encoded_are_refused_unprinted(secret):
    with pytest.raises(DataError, match="must be percent-encoded") as caught:
        read_bytes(f"s3://key:{secret}@bucket/x")
    assert secret not in str(caught.value)


def test_stamps_tell_contents_apart(s3, tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    for url in (str(tmp_path / "a"), s3.put("a", b"1")):
        before = stamp_of(url)
        assert before.size == 1 and abs(before.changed_ns / 1e9 - time.time()) < 60 and stamp_of(url) == before
    assert stamp_of(str(tmp_path / "b")) is stamp_of(s3.url("b")) is None
    s3.put("a", b"22")
    assert stamp_of(s3.url("a")) != before


def test_a_folder_is_listed_with_what_is_in_its_folders(s3):
    for name in ("f/a", "f/g/h/b", "f2/c"):
        s3.put(name, b"1")
    assert sorted(name for name, _ in files_below(s3.url("f"))) == ["a", "g/h/b"]
    assert files_below(s3.url("nowhere")) is None


@pytest.mark.parametrize("url", ["nope://a/b", "s3://bucket/x?nope=1"])
def test_urls_that_nothing_opens(url):
    with pytest.raises(DataError, match="use a local path, or a URL that pyarrow"):
        read_bytes(url)


def test_missing_key_and_bucket(s3):
    with pytest.raises(DataError, match=rf"no file 's3://{s3.name}/nowhere"):
        read_bytes(s3.url("nowhere"))
    with pytest.raises(DataError, match=r"cannot list.*nobucket.*correct the bucket's name"):
        files_below(s3.url("x").replace(s3.name, "nobucket"))


def check_is_refused_within(seconds, address):
    began = time.monotonic()
    with pytest.raises(DataError, match=r"cannot read 's3://bucket/a.*check the address"):
        read_bytes(f"s3://key:secret@bucket/a?scheme=http&endpoint_override={address}")
    assert time.monotonic() - began < seconds


def test_a_store_that_is_not_there_is_an_error_within_seconds():
    check_is_refused_within(15, "127.0.0.1:9")


@pytest.mark.full
def test_a_store_that_never_answers_is_an_error_within_a_minute(hanging):
    check_is_refused_within(60, hanging)


def test_wrong_credentials(s3):
    import requests

    s3.put("a", b"1")
    server = f"http://127.0.0.1:{s3.port}"
    requests.post(f"{server}/moto-api/reset-auth", data="0")
    try:
        with pytest.raises(DataError, match="provide credentials with access to it"):
            files_below(s3.url("x"))
        with pytest.raises(DataError, match="provide credentials with access to it"):
            read_bytes(s3.url("a"))
    finally:
        requests.post(f"{server}/moto-api/reset-auth", data="inf")


def test_what_changed_after_a_time_is_refused(s3, tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    for url in (str(tmp_path / "a"), s3.put("a", b"1")):
        assert read_bytes(url, since=time.time()) == b"1"
        with pytest.raises(DataError, match=r"a.*was changed at .* since the run began: restore the previous file"):
            read_bytes(url, since=time.time() - 60)


def test_times_of_an_archive_and_new_rights_are_no_change(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"1")
    future = time.time() + 9e5
    os.utime(path, (future, future))
    assert read_bytes(str(path), since=time.time()) == b"1"
    os.utime(path, (1, 1))
    path.chmod(0o600)
    assert read_bytes(str(path), since=time.time() - 60) == b"1"


def test_each_thread_has_a_file_system_of_fsspec_of_its_own():
    def opened(*_):
        return located("memory://a/b")[0].handler.fs

    with ThreadPoolExecutor(1) as pool:
        (other,) = pool.map(opened, [0])
    assert opened() is opened() and opened() is not other


def test_a_tilde_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~odd").touch()
    assert (
        expanded("~/a") == f"{tmp_path}/a" and expanded("~root").startswith("/") and expanded(tmp_path) == str(tmp_path)
    )
    assert expanded("~odd") == "~odd" and expanded("a/~/b") == "a/~/b" and expanded("s3://b/~") == "s3://b/~"
    with pytest.raises(DataError, match="no user 'nobody-here'"):
        expanded("~nobody-here/a")


def test_the_cause_of_a_stores_error_is_short():
    error = OSError(
        "When reading information for key 'a' in bucket 'b': AWS Error ACCESS_DENIED during GetObject operation (x): "
        "Access Denied (Request ID: 12)"
    )
    assert reason(error).startswith("Access Denied; provide credentials")
    assert reason(OSError("When it rains")) == "When it rains" and reason(OSError()) == "OSError"
