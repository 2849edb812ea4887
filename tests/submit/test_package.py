import os
import sys

import pytest

from ray_classy.errors import ShippingError
from ray_classy.submit.package import files_of, staged
from ray_classy.trainer import shipped_code


def names(job):
    return [file.name for file in files_of(job)[0]]


def test_the_config_and_the_modules_that_it_names_are_sent_without_importing_them(project, job):
    (project / "my_parts.py").write_text("import my_layers\nraise ValueError\n")
    (project / "other.py").write_text("")
    assert names(job("train", "my.yaml")) == ["my.yaml", "my_layers.py", "my_parts.py"]
    assert "my_parts" not in sys.modules


def test_a_module_on_the_search_path_is_sent_too(project, job, monkeypatch):
    (project / "more").mkdir()
    (project / "my_parts.py").rename(project / "more" / "my_parts.py")
    monkeypatch.syspath_prepend(project / "more")
    assert names(job("train", "my.yaml")) == ["my.yaml", "my_parts.py"]


def test_the_working_directory_has_the_package_its_recipes_and_the_modules(project, job):
    with staged(job("train", "my.yaml")) as package:
        found = {
            os.path.relpath(os.path.join(place, name), package.folder)
            for place, _, n in os.walk(package.folder)
            for name in n
        }
        assert {"my.yaml", "ray_classy/_shipped_code/my_parts.py", "ray_classy/recipes/sweeps/asha.yaml"} <= found
        assert {name.split(os.sep)[0] for name in found} == {"my.yaml", "ray_classy"}
        assert package.size == sum(os.path.getsize(os.path.join(package.folder, name)) for name in found)
        line, *_ = package.lines()
    assert line.startswith("sends ") and "ray_classy 0." in line and "my.yaml (" in line and "my_layers.py (" in line
    assert not os.path.exists(package.folder)


def test_files_over_the_cap_are_refused_by_name(project, job, monkeypatch):
    monkeypatch.setattr(shipped_code, "MOST_BYTES", 1000)
    (project / "my_parts").mkdir()
    (project / "my_parts.py").rename(project / "my_parts" / "__init__.py")
    (project / "my_parts" / "data.bin").write_bytes(b"0" * 2000)
    with pytest.raises(ShippingError, match=r"the largest: .*my_parts/data\.bin"), staged(job("train", "my.yaml")):
        pass
