"""Writes what is derived from the constructors: docs/components.md, and configs/task.schema.json for editors."""

import itertools
from collections.abc import Iterator
from pathlib import Path

from ray_classy.cli.list import KINDS
from ray_classy.cli.schema import schema_text, task_schema
from ray_classy.config.check import component_keys
from ray_classy.config.wording import expectation, shown
from ray_classy.docstrings import for_configs, summary
from ray_classy.registry import REQUIRED, Key, Keys, Registry

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/components.md"
SCHEMA = ROOT / "configs/task.schema.json"
OF_RAY = ("scheduler", "search_alg")
"""Kinds whose arguments are those of Ray's classes, and differ from version to version."""
HEAD = """# Components

All components by kind, with the keys of their configs. This page is written by `make docs` from the constructors, and
so is the [JSON schema](config.md#complete-and-check-in-an-editor) by which editors complete configs. The same for what
is installed, your own components included: `ray-classy list KIND NAME`.
"""


def page() -> str:
    """The text of the page."""
    task_schema()  # imports the modules of all registries
    return "\n".join([HEAD, *(line for kind in KINDS for line in section(Registry.all[kind]))]).rstrip() + "\n"


def section(registry: Registry) -> Iterator[str]:
    """The lines about the components of a kind; those with the same keys have one table."""
    yield f"## {registry.kind}"
    yield ""
    names = [name for name in registry if registry[name].__module__.startswith("ray_classy.")]
    same = itertools.groupby(sorted(names, key=lambda name: (place(registry, name), name)), table(registry))
    for lines, names in same:
        for name in names:
            cls = registry[name]
            about = f": {for_configs(summary(cls))}" if summary(cls) else ""
            yield f"- **`{name}`** (`{cls.__module__}.{cls.__name__}`){about}"
        yield from ("", *lines, "")
    if len(registry.names()) > len(registry):
        yield f"Also classes of other packages, by their own names: `ray-classy list {registry.kind}` lists them."
        yield ""


def place(registry: Registry, name: str) -> tuple[str, list[str]]:
    return registry[name].__module__, table(registry)(name)


def table(registry: Registry):
    def lines(name: str) -> list[str]:
        cls = registry[name]
        if registry.kind in OF_RAY:
            of_ray = getattr(cls, "class_name", None)
            return [f"Keys: the arguments of Ray's `{of_ray}`."] if of_ray else ["No keys."]
        keys = component_keys(cls)
        if keys is None:
            return ["Keys: those that its own `from_config` reads."]
        rows = list(cells(keys))
        return ["| key | type | default | meaning |", "| --- | --- | --- | --- |", *rows] if rows else ["No keys."]

    return lines


def cells(keys: Keys, before: str = "") -> Iterator[str]:
    for name, key in keys.items():
        if isinstance(key.annotation, dict):
            kind = "a mapping or null" if key.default is None else "a mapping"
            yield row(before + name, kind, key)
            yield from cells(key.annotation, f"{before}{name}.")
        else:
            yield row(before + name, expectation(key.annotation), key)


def row(name: str, kind: str, key: Key) -> str:
    default = "required" if key.default is REQUIRED else f"`{shown(key.default)}`"
    texts = (f"`{name}`", kind, default, for_configs(key.doc))
    return f"| {' | '.join(text.replace('|', chr(92) + '|') for text in texts)} |"


def main() -> None:
    """Writes the files."""
    PAGE.write_text(page(), encoding="utf-8")
    SCHEMA.write_text(schema_text(task_schema()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
