import os
import sys
import threading

import pytest

from ray_classy.errors import ShippingError
from ray_classy.trainer.shipping import own_folders, pickled
from tests.helpers import make_task, train


def test_what_does_not_travel_is_not_blamed():
    task = train(make_task())
    pickled(task)
    task.meters[0].lock = threading.Lock()
    with pytest.raises(ShippingError, match=r"task\.meters\[0\]\.lock cannot"):
        pickled(task)


def test_folder_beside_the_installation_is_the_users(tmp_path, monkeypatch):
    folders = [str(tmp_path / name) for name in ("env", "env/lib", "env-project")]
    for folder in folders:
        os.makedirs(folder)
    monkeypatch.setattr(sys, "prefix", folders[0])
    monkeypatch.setattr(sys, "path", folders)
    assert own_folders() == folders[2:]
