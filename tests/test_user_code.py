import importlib
import os
import sys

import pytest

from ray_classy.config.document import Config
from ray_classy.config.imports import import_modules
from ray_classy.errors import ConfigError
from ray_classy.user_code import (
    Search,
    UserCode,
    beside,
    imported_by,
    is_installed,
    own_folders,
    place_of,
    reached,
    sources,
    user_code,
    user_module,
)


@pytest.fixture(autouse=True)
def own_search(monkeypatch):
    """The search path of modules is as before after each test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "meta_path", [f for f in sys.meta_path if not isinstance(f, UserCode)])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(folder, **files):
    for name, text in files.items():
        path = folder / name.replace("__", "/", 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".py").write_text(text)


def load(folder, *imports):
    import_modules(Config({"imports": list(imports)}, str(folder / "task.yaml"), {}))


def test_imports_are_found_beside_the_config_with_what_they_import(tmp_path):
    write(tmp_path, uc_parts="import uc_layers", uc_layers="x = 1", uc_other="")
    load(tmp_path, "uc_parts")
    assert importlib.import_module("uc_layers").x == 1
    assert user_code()[0].names == {"uc_parts", "uc_layers"}


@pytest.mark.parametrize("name", ["olefile_of_a_user", "secrets"])
def test_a_module_that_nothing_names_is_not_found_in_the_folder_of_the_config(tmp_path, name):
    write(tmp_path, uc_quiet="", **{name: "raise ValueError"})
    load(tmp_path, "uc_quiet")
    assert importlib.util.find_spec(name) is None or not importlib.util.find_spec(name).origin.startswith(str(tmp_path))
    assert str(tmp_path) not in sys.path


@pytest.mark.parametrize(("name", "whose"), [("queue", "Python's standard library"), ("yaml", "an installed package")])
def test_imports_of_a_file_with_the_name_of_another_module_are_refused(tmp_path, name, whose):
    write(tmp_path, **{name: ""})
    with pytest.raises(ConfigError, match=rf"imports\.0: '{name}' names .*{whose}.*: rename yours"):
        load(tmp_path, name)


def test_an_installed_module_may_be_named_under_imports(tmp_path):
    load(tmp_path, "yaml", "json.decoder")


def test_a_folder_without_init_is_a_package_where_a_module_in_it_is_named(tmp_path):
    write(tmp_path, uc_space__nets="x = 2", uc_data__readme="")
    load(tmp_path, "uc_space.nets")
    assert sys.modules["uc_space.nets"].x == 2
    assert beside(str(tmp_path), "uc_space") is None and beside(str(tmp_path), "uc_space.log") is None


def test_imports_in_functions_and_by_name_count(tmp_path):
    write(tmp_path, a="def f():\n    import b.c as d\n    importlib.import_module('e')\n    from g import h, i")
    assert set(imported_by(str(tmp_path / "a.py"))) == {"b.c", "e", "g", "g.h", "g.i"}


def test_modules_that_import_each_other_end_the_search(tmp_path):
    write(tmp_path, uc_a="import uc_b", uc_b="import uc_a, queue, torch", queue="", torch="")
    found = reached(["uc_a"], lambda name: user_module(str(tmp_path), name))
    assert list(found) == ["uc_a", "uc_b"]


def test_a_file_that_is_no_python_imports_nothing(tmp_path):
    (tmp_path / "bad.py").write_bytes(b"\xff\xfe import x (")
    assert imported_by(str(tmp_path / "bad.py")) == []


def test_a_project_below_the_prefix_of_python_is_the_users(tmp_path, monkeypatch):
    folders = [str(tmp_path / name) for name in ("app", "env-project", "home/site-packages")]
    for folder in folders:
        os.makedirs(folder)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(sys, "path", folders)
    assert own_folders() == folders[:2]
    assert not is_installed(os.path.join(sys.base_prefix, "src", "app"))
    assert is_installed(os.__file__) and is_installed(pytest.__file__)


def test_images_in_a_package_are_not_searched_for_modules(tmp_path):
    write(tmp_path, p____init__="", p__nets="")
    for folder in ("parts/deep", "data/train/cats", "no-name"):
        (tmp_path / "p" / folder).mkdir(parents=True)
        (tmp_path / "p" / folder / "found.py").write_text("")
    (tmp_path / "p" / "data" / "train" / "more").mkdir()
    found = [os.path.relpath(path, tmp_path / "p") for path in sources(str(tmp_path / "p"))]
    assert found == ["__init__.py", "nets.py", "parts/deep/found.py"]


def test_a_module_whose_file_is_gone_has_no_place(tmp_path):
    write(tmp_path, uc_gone="")
    load(tmp_path, "uc_gone")
    assert place_of("uc_gone") == str(tmp_path / "uc_gone.py")
    (tmp_path / "uc_gone.py").unlink()
    assert place_of("uc_gone") is None


def test_a_worker_finds_what_its_driver_finds(tmp_path):
    write(tmp_path, uc_sent="x = 3")
    load(tmp_path, "uc_sent")
    search = Search.here()
    del sys.modules["uc_sent"], sys.meta_path[-1]
    search.extend()
    assert importlib.import_module("uc_sent").x == 3
