"""Reads `.pt2` files: archives of a program that torch.export wrote, which may come from anybody.

`torch.export.load` unpickles some members of such an archive, loads libraries from it, and evaluates text in it as
Python: expressions of sizes, guards, names in the code that it makes. So everything is checked before torch sees it,
and torch gets a new archive, of the members that were checked and of nothing else.
"""

from __future__ import annotations

import ast
import io
import json
import mmap
import re
import zipfile
import zlib
from typing import Any

from ray_classy.checkpoint.buffers import BufferFile
from ray_classy.errors import CheckpointError, DamagedCheckpointError, RecordError, UnsafeFileError
from ray_classy.inference.export_record import RECORD
from ray_classy.printable import printable
from ray_classy.records import parse_json, what_is_wrong

_MEMBER = re.compile(
    r"archive_format|archive_version|byteorder|version|\.data/(?:version|serialization_id)|models/model\.json"
    r"|data/(?:weights|constants)/model_(?:weights|constants)_config\.json|data/weights/weight_\d{1,6}"
    r"|data/constants/tensor_\d{1,6}|data/sample_inputs/model\.pt|extra/[\w.-]{1,100}"
)
_PROGRAM, _SAMPLES = "models/model.json", "data/sample_inputs/model.pt"
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_MOST_MEMBERS = 200_000
_MOST_JSON_BYTES = 256 * 2**20
_PLAIN = re.compile(r"[A-Za-z0-9_.-]{0,1000}")
_TARGETS = re.compile(
    r"torch\.ops\.aten\.\w+\.\w+"
    r"|torch\.ops\.higher_order\.(?:wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|torch\.sym_(?:float|int|ite|max|min|not|sqrt|sum)|math\.(?:ceil|floor|trunc|sqrt)"
    r"|_operator\.(?:add|sub|mul|floordiv|truediv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_|not_|getitem)"
)
_REFUSED = re.compile(r"torch\.ops\.aten\.(?:from_file|_?save\w*|_?load\w*)\.")
_FUNCTIONS = {
    "Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Max", "Min", "Mod", "PythonMod", "FloorDiv", "CleanDiv",
    "CeilDiv", "ModularIndexing", "Where", "CeilToInt", "FloorToInt", "IntTrueDiv", "FloatTrueDiv", "ToFloat",
    "TruncToInt", "TruncToFloat", "RoundToInt", "Eq", "Ne", "Gt", "Ge", "Lt", "Le", "Equality", "Unequality",
    "GreaterThan", "LessThan", "StrictGreaterThan", "StrictLessThan", "And", "Or", "Not",
}  # fmt: skip
_NODES = (ast.Expression, ast.Call, ast.keyword, ast.Name, ast.Load, ast.Constant, ast.UnaryOp, ast.USub, ast.BinOp,
          ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod, ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt,
          ast.GtE)  # fmt: skip
_SPEC_TYPES = (None, "builtins.tuple", "builtins.list", "builtins.dict")


def is_program(data: bytes | mmap.mmap) -> bool:
    """Whether bytes begin as a ZIP archive does."""
    return data[:4] == b"PK\x03\x04"


def check_program(data: bytes | mmap.mmap) -> tuple[bytes, bytes]:
    """Checks the archive of a program.

    Args:
        data: the file.

    Returns:
        An archive of the members that were checked, for `torch.export.load`, and the content of `ray_classy.json`.

    Raises:
        UnsafeFileError: a member is a pickle, a library, or anything else that a program of plain tensors does not
            have, or text in it could run code; the message names it.
        DamagedCheckpointError: it is damaged, or no such archive.
    """
    members = _members(data)
    for needed in (_PROGRAM, *_CONFIGS, f"extra/{RECORD}"):
        if needed not in members:
            raise DamagedCheckpointError(f"it has no {needed}" + (_NOT_OURS if needed.startswith("extra/") else ""))
    if members.get(_SAMPLES):
        raise UnsafeFileError(
            f"its member {_SAMPLES} is a pickle, which could run code: export it with program.example_inputs = None"
        )
    for name in _CONFIGS:
        _check_payloads(name, _json(name, members[name]), members)
    program = _json(_PROGRAM, members[_PROGRAM])
    if not isinstance(program, dict):
        raise DamagedCheckpointError(f"its {_PROGRAM} is not a program")
    members[_PROGRAM] = json.dumps(_checked(program, "")).encode()
    members[_SAMPLES] = b""
    record = members[f"extra/{RECORD}"]
    clean = io.BytesIO()
    with zipfile.ZipFile(clean, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            if not name.startswith("extra/"):
                archive.writestr(f"archive/{name}", content)
    return clean.getvalue(), record


_NOT_OURS = ": it was not written by `ray-classy export`, and says nothing of classes and preprocessing"


def _members(data: bytes | mmap.mmap) -> dict[str, bytes]:
    """The contents of the members by their names below the folder that all are in."""
    try:
        with zipfile.ZipFile(BufferFile(data)) as archive:
            found = archive.infolist()
            if len(found) > _MOST_MEMBERS or sum(info.file_size for info in found) > len(data):
                raise UnsafeFileError("its archive unpacks to more than the file has bytes, as that of a ZIP bomb does")
            names: dict[str, zipfile.ZipInfo] = {}
            roots = {info.filename.partition("/")[0] for info in found}
            for info in found:
                name = info.filename.partition("/")[2]
                if len(roots) != 1 or not _MEMBER.fullmatch(name):
                    raise UnsafeFileError(
                        f"its member {printable(info.filename)[:100]!r} is none of a program of plain tensors: such a "
                        f"file could run code"
                    )
                if name in names:
                    raise UnsafeFileError(f"its archive has two members {name!r}")
                if info.compress_type != zipfile.ZIP_STORED:
                    raise UnsafeFileError(f"its member {name!r} is compressed, which torch.export does not do")
                names[name] = info
            return {name: archive.read(info) for name, info in names.items()}
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, LookupError, ValueError, EOFError, OSError) as error:
        raise DamagedCheckpointError(f"its archive is damaged: {error}") from None
    except RuntimeError as error:
        if isinstance(error, CheckpointError):
            raise
        raise DamagedCheckpointError(f"its archive is damaged: {error}") from None


def _json(name: str, content: bytes) -> Any:
    try:
        return parse_json(content, name, _MOST_JSON_BYTES)
    except RecordError as error:
        raise DamagedCheckpointError(f"its {name} is damaged: {what_is_wrong(error, name)}") from None


def _check_payloads(where: str, config: Any, members: dict[str, bytes]) -> None:
    """Checks the list of weights or constants: tensors of plain numbers, each in a member of its own folder."""
    entries = config.get("config") if isinstance(config, dict) else None
    if not isinstance(entries, dict) or config.keys() != {"config"}:
        raise DamagedCheckpointError(f"its {where} is damaged")
    folder = where.rpartition("/")[0]
    for name, entry in entries.items():
        path = entry.get("path_name") if isinstance(entry, dict) else None
        what = f"{printable(name)[:80]!r} ({folder}/{printable(path)[:80]})"
        if not isinstance(entry, dict) or not isinstance(path, str) or f"{folder}/{path}" not in members:
            raise DamagedCheckpointError(f"its {where} lists {what}, which is not there")
        if entry.get("use_pickle") is not False or not isinstance(entry.get("tensor_meta"), dict):
            raise UnsafeFileError(f"its tensor {what} is a pickle, which could run code")
        _checked(entry["tensor_meta"], where)


def _checked(value: Any, key: str) -> Any:
    """Returns a part of a program without what it is not run by, or raises an error if it could run code."""
    if isinstance(value, dict):
        return {_name(name): _checked_entry(name, item) for name, item in value.items()}
    if isinstance(value, list):
        return [_checked(item, key) for item in value]
    if isinstance(value, str):
        return _name(value)
    return value


def _checked_entry(key: str, value: Any) -> Any:
    if key == "metadata":  # traces of the code that was exported
        return {}
    if key == "guards_code":  # text that would be run as Python; sizes are checked without it
        return []
    if key in ("as_custom_obj", "custom_obj_values", "treespec_namedtuple_fields") and value:
        raise UnsafeFileError("its program has objects that are no tensors")
    if key in ("target", "as_operator"):
        if not isinstance(value, str) or not _TARGETS.fullmatch(value) or _REFUSED.match(value):
            raise UnsafeFileError(
                f"its program calls {printable(value)[:100]}; only programs of PyTorch's own operators are read"
            )
        return value
    if key == "expr_str":
        _check_expression(value)
        return value
    if key in ("in_spec", "out_spec"):
        _check_spec(value)
        return value
    if key == "as_string":
        if not isinstance(value, str) or len(value) > 1000 or not value.isprintable():
            raise UnsafeFileError(f"its program has a text that no operator takes: {printable(value)[:80]!r}")
        return value
    if key == "torch_version":
        return str(value) if re.fullmatch(r"[\w.+-]{1,100}", str(value)) else "unknown"
    if key in ("device", "as_device") and isinstance(value, dict) and value.get("type") != "cpu":
        raise CheckpointError(f"its program is for the device {printable(value.get('type'))[:40]}: export it on a CPU")
    return _checked(value, key)


def _name(text: str) -> str:
    """Returns a text that becomes a part of generated code, if it is a name or a dotted one."""
    if not _PLAIN.fullmatch(text):
        raise UnsafeFileError(f"its program has a name that could run code: {printable(text)[:80]!r}")
    return text


def _check_expression(text: Any) -> None:
    """Checks the text of a size, such as `Mul(Integer(2), Symbol('s0', positive=True, integer=True))`.

    torch evaluates it as Python (`sympy.sympify`).
    """
    wrong = UnsafeFileError(f"its program has an expression that could run code: {printable(text)[:80]!r}")
    if not isinstance(text, str) or len(text) > 4000:
        raise wrong
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise wrong from None
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if not isinstance(node, _NODES):
            raise wrong
        if isinstance(node, ast.Name) and id(node) not in called and not re.fullmatch(r"[a-z]{1,5}\d+", node.id):
            raise wrong
        if isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS):
            raise wrong
        if isinstance(node, ast.Constant):
            number = isinstance(node.value, int | float) and abs(node.value) < 2**63
            if not number and not (isinstance(node.value, str) and re.fullmatch(r"[a-z]{1,5}\d+", node.value)):
                raise wrong


def _check_spec(text: Any) -> None:
    """Checks the structure of the arguments or of the output: tuples, lists and dicts of tensors.

    torch imports the modules of the other types that it names.
    """
    wrong = UnsafeFileError(f"its program takes or returns something else than tensors: {printable(text)[:120]}")
    try:
        version, *rest = json.loads(text)
        level = list(rest)
        for _ in range(8):
            below = []
            for spec in level:
                context = json.loads(spec["context"]) if spec["context"] is not None else None
                keys = isinstance(context, list) and all(isinstance(key, str) for key in context)
                if spec["type"] not in _SPEC_TYPES or not (context is None or keys) or len(spec) != 3:
                    raise wrong
                for key in context or ():
                    _name(key)
                below += spec["children_spec"]
            level = below
        if type(version) is not int or level:
            raise wrong
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise wrong from None
