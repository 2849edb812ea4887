import os
import stat

import pytest

from ray_classy.errors import ResourceError
from ray_classy.ray_compat.authentication import with_own_token


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_MODE")
    return tmp_path


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_token_is_made_that_only_its_user_can_read(home):
    with with_own_token():
        token = (home / ".ray" / "auth_token").read_text()
    assert len(token) == 64 and mode(home / ".ray" / "auth_token") == 0o600
    with with_own_token():
        assert (home / ".ray" / "auth_token").read_text() == token
    assert os.listdir(home / ".ray") == ["auth_token"]


@pytest.mark.parametrize("content", ["", "ab" * 32])
def test_a_token_that_ray_made_is_closed_to_others(home, content):
    path = home / ".ray" / "auth_token"
    path.parent.mkdir()
    path.write_text(content)
    path.chmod(0o644)
    with with_own_token():
        assert mode(path) == 0o600 and path.read_text().startswith(content) and path.stat().st_size == 64


def test_a_home_that_cannot_be_written_gets_no_token(home, monkeypatch):
    (home / ".ray").write_text("a file")
    with with_own_token():
        assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert "RAY_AUTH_TOKEN" not in os.environ


def test_without_authentication_no_token_is_made(home, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with with_own_token():
        assert os.listdir(home) == []


def test_a_file_of_a_token_that_is_not_there_is_named(home, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/no/file")
    with (
        pytest.raises(ResourceError, match=r"there is no token in '/no/file' \(RAY_AUTH_TOKEN_PATH\)"),
        with_own_token(),
    ):
        pass
