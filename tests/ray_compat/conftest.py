"""Hides names of Ray."""

import logging

import pytest

from ray_classy.ray_compat import log_missing


@pytest.fixture
def hidden(monkeypatch, caplog):
    """`hidden(object, name)` takes a name away from Ray; `hidden.lines()` is what was logged about it."""
    log_missing.cache_clear()
    caplog.set_level(logging.WARNING, "ray_classy")

    def hide(owner, name):
        monkeypatch.delattr(owner, name)

    hide.lines = lambda: [message for message in caplog.messages if " has no " in message]
    yield hide
    log_missing.cache_clear()
