import importlib
import pkgutil
import subprocess
import sys

import pytest

import ray_classy

PACKAGES = [
    module.name
    for module in pkgutil.walk_packages(ray_classy.__path__, "ray_classy.")
    if module.ispkg and hasattr(importlib.import_module(module.name), "__getattr__")
]


@pytest.mark.parametrize("package", PACKAGES)
def test_what_a_package_lists_can_be_imported(package):
    module = importlib.import_module(package)
    assert all(getattr(module, name) is not None for name in module.__all__)


@pytest.mark.parametrize("package", PACKAGES)
def test_what_a_package_lacks_is_an_attribute_error(package):
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        _ = importlib.import_module(package).nothing


def test_importing_the_packages_does_no_work():
    code = f"import sys, {', '.join(PACKAGES)}; print(sorted({{'torch', 'ray', 'numpy'}} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_modules_of_a_package_are_its_attributes():
    code = "import ray_classy.heads as heads; print(heads.identity_head.IdentityHead.__name__)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "IdentityHead\n"
