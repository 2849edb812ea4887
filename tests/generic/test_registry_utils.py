import sys

import pytest

from ray_classy.generic.registry_utils import import_all_modules, import_all_packages_from_directory


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "losses_of_mine"
    package.mkdir()
    for name in ("__init__", "one", "two", "_private"):
        (package / f"{name}.py").touch()
    (tmp_path / "script_of_mine.py").touch()
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("losses_of_mine")]:
        del sys.modules[name]


def test_the_modules_of_a_package_are_imported(root):
    names = import_all_modules(str(root / "losses_of_mine"), "losses_of_mine")
    assert names == ["losses_of_mine.one", "losses_of_mine.two"] and set(names) <= set(sys.modules)


def test_the_packages_of_a_folder_are_imported(root):
    assert import_all_packages_from_directory(str(root)) == ["losses_of_mine"] and "losses_of_mine" in sys.modules
