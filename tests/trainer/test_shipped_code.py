import os
import sys

import pytest

from ray_classy.cli.describe_code import describe_code
from ray_classy.errors import ShippingError
from ray_classy.trainer import shipped_code
from ray_classy.trainer.ray_connection import connected
from ray_classy.trainer.shipped_code import places_on_local_workers, staged_code, users_modules
from ray_classy.user_code import SHIPPED_FOLDER
from tests.test_user_code import load, own_search, write  # noqa: F401

REASON = "it may hold secrets, and no module imports it"


def names():
    return [file.name for file in users_modules().files]


def test_what_imports_name_is_sent_and_nothing_else(tmp_path):
    write(tmp_path, sc_parts="import sc_layers, queue", sc_layers="", queue="", credentials="", other="")
    (tmp_path / "images").mkdir()
    load(tmp_path, "sc_parts")
    assert names() == ["sc_layers.py", "sc_parts.py"]


def test_packages_are_sent_with_their_data(tmp_path):
    write(tmp_path, sc_space__nets="", sc_pack____init__="from . import sub", sc_pack__sub="")
    (tmp_path / "sc_space" / "classes.txt").write_text("a")
    (tmp_path / "sc_pack" / "more").mkdir()
    (tmp_path / "sc_pack" / "more" / "mean.bin").write_bytes(b"1")
    load(tmp_path, "sc_space.nets", "sc_pack")
    assert names() == [
        "sc_pack/__init__.py",
        "sc_pack/sub.py",
        "sc_pack/more/mean.bin",
        "sc_space/classes.txt",
        "sc_space/nets.py",
    ]


def test_data_that_a_single_module_names_is_sent(tmp_path):
    write(tmp_path, sc_one="FILES = ['words.txt', 'data/mean.bin', '../up.txt', '/etc/passwd', '.env', 'none.txt']")
    (tmp_path / "data").mkdir()
    for name in ("words.txt", "data/mean.bin", ".env", "unnamed.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path.parent / "up.txt").write_text("x")
    load(tmp_path, "sc_one")
    assert names() == ["sc_one.py", "data/mean.bin", "words.txt"]


def test_data_beside_a_module_may_be_a_link_within_the_folder_as_in_a_config_map(tmp_path):
    write(tmp_path / "proj", sc_map="FILES = ['words.txt', 'out.txt']")
    (tmp_path / "proj" / "..data").mkdir()
    for name, target in (("words.txt", tmp_path / "proj" / "..data" / "w"), ("out.txt", tmp_path / "outside")):
        target.write_text("x")
        (tmp_path / "proj" / name).symlink_to(target)
    load(tmp_path / "proj", "sc_map")
    assert names() == ["sc_map.py", "words.txt"]


def test_hidden_files_secrets_and_links_out_of_a_package_stay(tmp_path):
    write(tmp_path, sc_safe____init__="", sc_safe__credentials="", sc_safe__run="")
    package, outside = tmp_path / "sc_safe", tmp_path / "outside"
    outside.mkdir()
    (outside / "key.txt").write_text("k")
    (package / ".git").mkdir()
    for name in (".env", ".git/config", "my.pem", "auth_token"):
        (package / name).write_text("x")
    (package / "link.txt").symlink_to(outside / "key.txt")
    (package / "self").symlink_to(package)
    os.mkfifo(package / "pipe")
    load(tmp_path, "sc_safe")
    modules = users_modules()
    assert [file.name for file in modules.files] == ["sc_safe/__init__.py", "sc_safe/run.py"]
    assert {os.path.basename(path): reason for path, reason in modules.left_out.items()} == {
        "auth_token": REASON,
        "credentials.py": REASON,
        "my.pem": REASON,
        "link.txt": "a link out of the package",
        "self": "a link to a folder",
        "pipe": "not a file",
    }


def test_a_module_that_looks_like_a_secret_is_sent_if_it_is_imported(tmp_path):
    write(tmp_path, sc_open____init__="from .credentials import KEY", sc_open__credentials="KEY = 1")
    load(tmp_path, "sc_open")
    assert "sc_open/credentials.py" in names()


def test_what_the_script_imports_is_sent(tmp_path, monkeypatch):
    write(tmp_path, script="import sc_mine\ndef f():\n    import sc_late", sc_mine="", sc_late="", sc_other="")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(tmp_path / "script.py"), raising=False)
    assert names() == ["sc_late.py", "sc_mine.py"]


@pytest.mark.parametrize(("name", "whose"), [("xdrlib", "Python's standard library"), ("yaml", "an installed package")])
def test_a_module_of_the_script_with_the_name_of_another_is_refused(tmp_path, monkeypatch, name, whose):
    write(tmp_path, script=f"import {name}", **{name: ""})
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(tmp_path / "script.py"), raising=False)
    with pytest.raises(ShippingError, match=f"{name}.py has the name of .*{whose}, which workers import instead"):
        users_modules()


@pytest.fixture
def taken(tmp_path, monkeypatch):
    """A script's folder with a package of the name that an installed one has."""
    write(tmp_path, script="import sc_taken", sc_taken____init__="")
    write(tmp_path / "site-packages", sc_taken____init__="")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path, str(tmp_path / "site-packages")])
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(tmp_path / "script.py"), raising=False)
    return tmp_path


def test_a_package_with_the_name_of_an_installed_one_is_refused_for_a_local_ray(taken):
    text = "sc_taken has the name of an installed package, which workers import instead"
    with pytest.raises(ShippingError, match=text):
        places_on_local_workers()
    with pytest.raises(ShippingError, match=text), connected("local"):
        pass


def test_a_package_that_workers_of_a_local_ray_find_first_is_accepted(taken, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(taken))
    assert places_on_local_workers() == {"sc_taken": str(taken / "sc_taken")}
    assert describe_code(None)["files"] == {"sc_taken/__init__.py": 0}


def test_a_folder_without_modules_that_is_installed_takes_no_name(taken):
    (taken / "site-packages" / "sc_taken" / "__init__.py").unlink()
    assert list(places_on_local_workers()) == ["sc_taken"]


def test_too_much_is_refused_with_the_largest_files(tmp_path, monkeypatch):
    write(tmp_path, sc_big____init__="")
    for number in range(4):
        (tmp_path / "sc_big" / f"{number}.bin").write_bytes(bytes((number + 1) << 19))
    load(tmp_path, "sc_big")
    monkeypatch.setattr(shipped_code, "MOST_BYTES", 4 << 20)
    with pytest.raises(ShippingError, match=r"sc_big have 5.0 MiB .*largest: .*3.bin \(2.0 MiB\), .*2.bin \(1.5 MiB\)"):
        users_modules().check()


def test_the_copy_that_is_sent_is_this_package_with_the_users_modules_in_it(tmp_path):
    write(tmp_path, sc_copy="x = 1")
    load(tmp_path, "sc_copy")
    with staged_code() as folder:
        assert os.path.basename(folder) == "ray_classy" and os.path.isfile(os.path.join(folder, "user_code.py"))
        assert os.listdir(os.path.join(folder, SHIPPED_FOLDER)) == ["sc_copy.py"]
    assert not os.path.exists(folder)
