"""YAML text to values and line marks, and values to YAML text.

The dialect is the one in which JSON's numbers and words mean the same as in JSON: `1e-4` is a number; `010`, `0x10`,
`1_000`, `1:30`, `.5`, `yes`, `on` and dates are strings. (YAML 1.1, PyYAML's own dialect, has it the other way round.)
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from ray_classy.config.document import MOST_LEVELS, Mark, Path, dotted, too_deep
from ray_classy.config.json_text import duplicate
from ray_classy.config.numbers import number
from ray_classy.errors import ConfigError

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)\Z")
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+(?:[eE][+-]?[0-9]+)?|[eE][+-]?[0-9]+)\Z")
_INFINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)\Z")
_NAN = re.compile(r"\.(?:nan|NaN|NAN)\Z")
_WORDS = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
}
_PLAIN = "plain"  # the tag that the loader below gives to every scalar without quotes and without a tag
_CORE = "tag:yaml.org,2002:"
_MOST_REPEATED = 100_000  # values in which aliases and merges may result: a few lines could expand to billions
_MOST_REPEATED_CHARACTERS = 2**24

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _ConfigLoader(_Loader):
    yaml_implicit_resolvers = {None: [(_PLAIN, re.compile(""))]}


def parse_yaml(text: str, file: str, lines: bool = True) -> tuple[Any, dict[Path, Mark]]:
    """Returns the value of `text` (one document) and the line of each value in it.

    Args:
        text: YAML.
        file: where it was read, for the errors.
        lines: whether its reader knows of lines; those of a word on the command line mean nothing.

    Raises:
        ConfigError: the text is not YAML, or uses what this dialect lacks: a key twice, a key that is not a string, a
            tag, a second document, an alias to a section around itself.
    """
    try:
        loader = _ConfigLoader(text)
        try:
            values = _count_values(text, file, lines)
            node = loader.get_single_node()
        finally:
            loader.dispose()
        construct = _Construct(file, values, len(text), lines)
        return (None if node is None else construct.value(node, ())), construct.marks
    except yaml.MarkedYAMLError as error:
        if "nesting depth" in str(error):
            raise too_deep(file) from None
        raise ConfigError(_not_yaml(error, text, file) if lines else _not_yaml_word(error, file)) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not YAML: {error} (save it as UTF-8 text)") from None
    except UnicodeEncodeError:
        raise ConfigError(f"{file}: not Unicode text: it has a surrogate; save it as UTF-8") from None


def _count_values(text: str, file: str, lines: bool) -> int:
    """Returns how many keys and values are written in a text, and refuses what is nested too deeply.

    It parses without recursion; PyYAML's composer, a recursion in C, would end the process (up to version 6.0.3).
    """
    count = level = 0
    for event in yaml.parse(text, Loader=_ConfigLoader):
        if isinstance(event, yaml.NodeEvent):
            count += 1
        if isinstance(event, yaml.CollectionStartEvent):
            level += 1
            if level > MOST_LEVELS:
                raise too_deep(str(_mark(file, event, lines)))
        elif isinstance(event, yaml.CollectionEndEvent):
            level -= 1
    return count


def _mark(file: str, node: Any, lines: bool) -> Mark:
    return Mark(file, node.start_mark.line + 1 if lines else None)


def _not_yaml_word(error: yaml.MarkedYAMLError, file: str) -> str:
    return (
        f"{file}: not YAML: {error.problem or error.context} (close each bracket and quote; text that begins with one "
        f"must be quoted for YAML: 'key=\"[...\"')"
    )


def _not_yaml(error: yaml.MarkedYAMLError, text: str, file: str) -> str:
    mark, begun = error.problem_mark or error.context_mark, error.context_mark
    if mark is None:
        return f"{file}: not YAML: {error}"
    message = f"{file}:{mark.line + 1}:{mark.column + 1}: not YAML: {error.problem or error.context}"
    if error.context and begun and begun.line != mark.line:
        message += f" {error.context} that began on line {begun.line + 1}"
    lines = text.splitlines()
    return f"{message} ({_remedy(message, lines[mark.line] if mark.line < len(lines) else '')})"


def _remedy(message: str, line: str) -> str:
    if line.lstrip(" ").startswith("\t"):
        return "indent with spaces, not tabs"
    if "mapping values" in message:
        return "put text that contains ': ' in quotes, and indent the keys of one section alike"
    if "another document" in message:
        return "one file holds one config: remove the second '---'"
    if "alias" in message:
        return "an alias needs its anchor above it; put text that begins with '*' in quotes"
    if "cannot start any token" in message:
        return "put text that begins with a special character in quotes"
    return "check indentation, quotes and brackets here and on the line above"


class _Construct:
    """Builds values from YAML nodes; each alias gives a separate copy."""

    def __init__(self, file: str, values: int, characters: int, lines: bool = True) -> None:
        self.file = file
        self.lines = lines
        self.marks: dict[Path, Mark] = {}
        self._open: set[int] = set()
        self._known: dict[int, dict[str, tuple[yaml.Node, yaml.Node]]] = {}
        self._values_left = values + _MOST_REPEATED
        self._characters_left = characters + _MOST_REPEATED_CHARACTERS

    def value(self, node: yaml.Node, path: Path) -> Any:
        self.marks.setdefault(path, self._mark(node))
        self._spend(node, path)
        if id(node) in self._open:
            raise ConfigError(f"{self._at(node, path)}: the alias stands inside what it repeats; write the value out")
        if len(path) > MOST_LEVELS:
            raise too_deep(self._at(node, path[:3]))
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            self._expect_tag(node, path, "seq")
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        finally:
            self._open.discard(id(node))

    def _spend(self, node: yaml.Node, path: Path) -> None:
        """Counts a value, which may be one of those that an alias repeats."""
        self._values_left -= 1
        if isinstance(node, yaml.ScalarNode):
            self._characters_left -= len(node.value)
        if self._values_left < 0 or self._characters_left < 0:
            raise ConfigError(
                f"{self._at(node, path[:3])}: more than {_MOST_REPEATED} values are repeated; use fewer aliases"
            )

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        self._expect_tag(node, path, "map")
        values: dict[str, Any] = {}
        for key, (key_node, value_node) in self._entries(node, path).items():
            inner = (*path, key)
            self.marks[inner] = self._mark(key_node)
            values[key] = self.value(value_node, inner)
        return values

    def _entries(self, node: yaml.MappingNode, path: Path) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """Key text to (key, value), with `<<` resolved: own keys win over merged ones, earlier merged over later."""
        if id(node) in self._known:
            return self._known[id(node)]
        own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _PLAIN and key_node.value == "<<":
                for inherited, entry in self._merged(value_node, path).items():
                    merged.setdefault(inherited, entry)
                continue
            key: Any = self._scalar(key_node, path) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                text = key_node.value if isinstance(key_node, yaml.ScalarNode) else "a list or mapping"
                quoted = f'; put it in quotes: "{text}"' if isinstance(key_node, yaml.ScalarNode) else ""
                raise ConfigError(f"{self._at(key_node, path)}: the key {text or 'that is empty'} is no string{quoted}")
            if key in own:
                raise ConfigError(duplicate(self._mark(key_node), (*path, key), self._mark(own[key][0])))
            own[key] = (key_node, value_node)
        self._known[id(node)] = {**merged, **own}
        return self._known[id(node)]

    def _merged(self, node: yaml.Node, path: Path) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for source in sources:
            if not isinstance(source, yaml.MappingNode):
                raise ConfigError(f"{self._at(source, path)}: `<<` merges a mapping or a list of them: `<<: *anchor`")
            if id(source) in self._open:
                raise ConfigError(f"{self._at(source, path)}: a section cannot be merged into itself")
            self._open.add(id(source))
            for key, entry in self._entries(source, path).items():
                self._spend(entry[0], path)
                merged.setdefault(key, entry)
            self._open.discard(id(source))
        return merged

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        text = node.value
        if node.tag in (_CORE + "str", "!"):
            return text
        try:
            value = plain_value(text)
        except ValueError as error:
            raise ConfigError(f"{self._at(node, path)}: {error}") from None
        if node.tag == _PLAIN:
            return value
        if node.tag == _CORE + "float" and type(value) in (int, float):
            return float(value)
        for name, kind in (("int", int), ("bool", bool), ("null", type(None))):
            if node.tag == _CORE + name and type(value) is kind:
                return value
        raise ConfigError(f"{self._at(node, path)}: {_tag(node)} cannot stand before {text!r}; write the plain value")

    def _expect_tag(self, node: yaml.Node, path: Path, core: str) -> None:
        if node.tag not in (_CORE + core, "!"):
            raise ConfigError(f"{self._at(node, path)}: unknown tag {_tag(node)}; write plain values without tags")

    def _mark(self, node: yaml.Node) -> Mark:
        return _mark(self.file, node, self.lines)

    def _at(self, node: yaml.Node, path: Path) -> str:
        return f"{self._mark(node)}: {dotted(path)}" if path else str(self._mark(node))


def _tag(node: yaml.Node) -> str:
    return node.tag.replace(_CORE, "!!")


def plain_value(text: str) -> Any:
    """Returns the value of a scalar without quotes: null, true, false, a number, or else the text itself.

    Raises:
        ValueError: a number is out of range.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.match(text) or _FLOAT.match(text):
        return number(text)
    if _INFINITE.match(text) or _NAN.match(text):
        return float(text.replace(".", ""))
    return text


class _Dumper(yaml.SafeDumper):
    """Block mappings, lists of scalars on one line, and quotes round whatever either dialect takes for a number."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_list(self, data: Any) -> yaml.SequenceNode:
        flow = not any(isinstance(item, dict | list | tuple) for item in data)
        return self.represent_sequence(_CORE + "seq", data, flow_style=flow)


_Dumper.add_representer(list, _Dumper.represent_list)
_Dumper.add_representer(tuple, _Dumper.represent_list)
_Dumper.add_multi_representer(dict, _Dumper.represent_dict)
_Dumper.add_implicit_resolver(_CORE + "float", _FLOAT, list("-0123456789"))


def dump_yaml(values: dict[str, Any]) -> str:
    """Writes YAML text that `load_config` reads back as exactly these values (tuples as lists).

    Raises:
        ConfigError: a value is not plain.
    """
    try:
        return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    except yaml.representer.RepresenterError as error:
        plain = "numbers, strings, true, false, null, lists and mappings"
        raise ConfigError(f"a config file holds {plain}; it cannot hold {error.args[-1]!r}") from None
