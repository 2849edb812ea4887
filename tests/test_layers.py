"""Imports point down, as the table of CONTRIBUTING.md says, and never run in a circle."""

import ast
import functools
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted((ROOT / "ray_classy").rglob("*.py"))
}


def imported(node, deferred):
    """The names that a module imports, but for types; with `deferred` also within its functions."""
    found = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import):
            found += [alias.name for alias in child.names]
        elif isinstance(child, ast.ImportFrom) and child.module:
            found += [name for alias in child.names for name in (f"{child.module}.{alias.name}", child.module)]
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            found += imported(child, deferred) if deferred else []
        elif isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            found += imported(child, deferred)
    return found


@functools.cache
def trees():
    return {name: ast.parse(file.read_text()) for name, file in FILES.items()}


def imports(deferred):
    """The modules of the package that each of them imports."""
    return {name: {one for one in imported(tree, deferred) if one in FILES} - {name} for name, tree in trees().items()}


def floors():
    """The floor of each package and module in the table of CONTRIBUTING.md."""
    rows = re.findall(r"^\| (\d) \| (.+?) \|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    names = {floor: re.findall(r"`(\w+)(?:/|\.py)`", row) for floor, row in rows}
    return {name: int(floor) for floor, found in names.items() for name in found}


def test_an_import_points_down():
    floor = floors()
    assert {"cli", "errors"} <= floor.keys()

    def of(module):
        return floor.get(module.split(".")[1]) if "." in module else None

    up = [
        (module, other)
        for module, others in imports(deferred=True).items()
        for other in others
        if None not in (of(module), of(other)) and of(other) > of(module)
    ]
    assert not up


def test_no_modules_import_each_other():
    packages = {name for name, file in FILES.items() if file.name == "__init__.py"}
    graph = {name: others - packages for name, others in imports(deferred=False).items() if name not in packages}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(f"a circle of imports: {' <- '.join(error.args[1])}") from None
