import pytest

from ray_classy.errors import UnavailableError
from ray_classy.hooks import VisdomHook, build_hook


def test_the_error_names_the_successor():
    with pytest.raises(UnavailableError, match="tensorboard_plot"):
        build_hook({"name": "visdom", "server": "localhost", "port": 8097})
    with pytest.raises(RuntimeError):
        VisdomHook("localhost", "8097", "main", "")
