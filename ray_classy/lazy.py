"""Packages that import their modules when a name is first used."""

from __future__ import annotations

import ast
import functools
import importlib
import sys
from collections.abc import Callable
from typing import Any


def lazy_exports(package: str) -> Callable[[str], Any]:
    """Returns a module-level `__getattr__` that imports what a package exports when it is first used.

    The exports are the imports that the package's `__init__.py` lists under `if TYPE_CHECKING:`, where type checkers
    and editors read them as well. Modules named in those imports are attributes of the package too.

    Args:
        package: the package's `__name__`.
    """

    @functools.cache
    def exports() -> dict[str, str]:
        source = sys.modules[package].__loader__.get_source(package)  # type: ignore[union-attr]
        blocks = [node for node in ast.parse(source).body if isinstance(node, ast.If)]
        imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
        return {alias.name: str(node.module) for node in imports for alias in node.names}

    def __getattr__(name: str) -> Any:
        if name in exports():
            value = getattr(importlib.import_module(exports()[name]), name)
        elif f"{package}.{name}" in exports().values():
            value = importlib.import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, value)
        return value

    return __getattr__
