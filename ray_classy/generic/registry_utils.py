"""Imports of whole folders, so that the components in them are registered."""

from __future__ import annotations

import importlib
import pkgutil


def import_all_modules(root: str, base_module: str) -> list[str]:
    """Imports every module in a package's folder and returns their names.

    Args:
        root: the folder.
        base_module: the package's name. Names that begin with an underscore are left out, and so are sub-packages.
    """
    names = [module.name for module in pkgutil.iter_modules([root]) if not module.ispkg]
    return [
        importlib.import_module(f"{base_module}.{name}").__name__ for name in sorted(names) if not name.startswith("_")
    ]


def import_all_packages_from_directory(root: str) -> list[str]:
    """Imports every top-level package in a folder and returns their names.

    Args:
        root: a folder on `sys.path`.
    """
    names = [module.name for module in pkgutil.iter_modules([root]) if module.ispkg]
    return [importlib.import_module(name).__name__ for name in sorted(names)]
