"""Evaluates the pickle in a file of tensors without running code, in time and memory bounded by the file's size.

It knows what `torch.load(..., weights_only=True)` knows of dense tensors and plain values, and no other classes:
objects of others are refused, or replaced by `Foreign`. Unlike it, it checks every size that a file claims before
memory is allocated, and what tensors claim of their storages.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import torch

from ray_classy.checkpoint.later_pickles import LATER_OPERATIONS
from ray_classy.checkpoint.number_types import DTYPE, STORAGES
from ray_classy.checkpoint.plain import MOST_BITS, Foreign, is_key
from ray_classy.checkpoint.unsafe_names import refuse_unsafe
from ray_classy.errors import CheckpointError

MOST_OPERATIONS = 16_000_000
"""Operations of a pickle: seconds. A tensor takes about 30, a number in a list one."""
MOST_CONTAINERS = 1_000_000
"""Containers in a pickle, as an empty one of 1 byte takes 60 bytes of memory."""
FREE_BYTES = 64 * 2**20
TIMES_THE_FILE = 4
"""Tensors may have as many bytes as the file this many times, and FREE_BYTES: they may share their storages."""

_WRONG = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError, struct.error)
"""What operations raise that find other values than they take."""


class _Name(NamedTuple):
    """A class or function that the pickle names."""

    name: str


class TypedStorage(NamedTuple):
    """A storage and the type of the numbers in it."""

    storage: torch.UntypedStorage
    dtype: torch.dtype


StorageReader = Callable[[str, torch.dtype, int], torch.UntypedStorage]
"""Returns the storage of a key, for so many numbers of a type."""


def most_bytes(file_size: int) -> int:
    """Returns how many bytes the tensors of a file may have together."""
    return FREE_BYTES + TIMES_THE_FILE * file_size


class Unpickler:
    """Evaluates pickles that follow one another in a file.

    Args:
        data: the file, or the part of it that has the pickles.
        read_storage: returns the storages that tensors name.
        most: how many bytes the tensors may have together.
        foreign: gets the names of classes and functions that are not known; None refuses them.

    Attributes:
        functions: what may be called, by its name in the pickle; it gets the unpickler, then the arguments.
        operations: what each opcode does.
        kinds: what a pickle may hold, for messages.
    """

    functions: Mapping[str, Callable[..., Any]]
    operations: Mapping[int, Callable[[Any], None]]
    kinds: ClassVar[str] = "tensors and plain values"

    def __init__(
        self,
        data: bytes | bytearray | mmap.mmap,
        read_storage: StorageReader | None = None,
        most: int = 0,
        foreign: set[str] | None = None,
    ) -> None:
        self.at = 0
        self._data = data
        self._read_storage = read_storage
        self._bytes_left = most
        self._foreign = foreign
        self._operations_left, self._containers_left = MOST_OPERATIONS, MOST_CONTAINERS

    def load(self) -> Any:
        """Evaluates the next pickle.

        Raises:
            CheckpointError: it holds something else than dense tensors and plain values, or claims what is not there.
        """
        self._stack: list[Any] = []
        self._stacks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        try:
            while (code := self._data[self.at]) != _STOP:
                self.at += 1
                self._operations_left -= 1
                if self._operations_left < 0:
                    raise CheckpointError(f"it takes more than {MOST_OPERATIONS:,} operations to read")
                operation = self.operations.get(code)
                if operation is None:
                    raise CheckpointError(f"it holds something else than {self.kinds} (opcode {code:#x})")
                operation(self)
            self.at += 1
            return self._stack.pop()
        except CheckpointError:
            raise
        except _WRONG as error:
            raise CheckpointError(f"byte {self.at} of its pickle is wrong: {type(error).__name__}") from None

    def _take(self, size: int) -> bytes | bytearray:
        taken = self._data[self.at : self.at + size]
        if len(taken) < size:
            raise CheckpointError("it is cut off")
        self.at += size
        return taken

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _push_container(self, value: Any) -> None:
        self._containers_left -= 1
        if self._containers_left < 0:
            raise CheckpointError(f"it has more than {MOST_CONTAINERS:,} containers")
        self._stack.append(value)

    def _to_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._stacks.pop()
        return items

    # -- operations ---------------------------------------------------------------------------------------------------

    def _mark(self) -> None:
        self._push_container(None)
        self._stack.pop()
        self._stacks.append(self._stack)
        self._stack = []

    def _long(self) -> None:
        size = self._number("<B")
        if size > MOST_BITS // 8:
            raise CheckpointError(f"it has an integer of {size} bytes")
        self._push(int.from_bytes(self._take(size), "little", signed=True))

    def _text(self, size: int) -> None:
        self._push(self._take(size).decode("utf-8", "surrogatepass"))  # names of files may be no UTF-8

    def _global(self) -> None:
        names = []
        for _ in range(2):
            end = self._data.find(b"\n", self.at, self.at + 200)
            if end < 0:
                raise CheckpointError("it names something without an end")
            names.append(self._take(end - self.at).decode("ascii"))
            self.at += 1
        self._name(*names)

    def _name(self, module: str, name: str) -> None:
        module = {"__builtin__": "builtins"}.get(module, module)
        if module == "torch" and DTYPE.fullmatch(name) and isinstance(getattr(torch, name, None), torch.dtype):
            self._push(getattr(torch, name))
            return
        storage = module in ("torch", "torch.storage") and name in STORAGES
        if not storage and f"{module}.{name}" not in self.functions:
            if self._foreign is not None:
                refuse_unsafe(f"{module}.{name}")
                self._foreign.add(f"{module}.{name}")
                self._push(Foreign(f"{module}.{name}"))
                return
            raise CheckpointError(f"it holds something else than {self.kinds}: {module}.{name}")
        self._push(_Name(name if storage else f"{module}.{name}"))

    def _persistent(self) -> None:
        kind, storage, key, _, size, *view = self._stack.pop()
        dtype = STORAGES[storage.name]
        if kind != "storage" or type(key) is not str or not _is_size(size) or any(view) or self._read_storage is None:
            raise CheckpointError("it names a storage in an unknown way")
        self._push(TypedStorage(self._read_storage(key, dtype, size), dtype))

    def _reduce(self) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        self._push_container(self._call(function, arguments))

    def _new(self) -> None:
        cls = self._stack[-2]
        if type(cls) is not Foreign:
            raise CheckpointError("it makes an object of something else than a class")
        self._reduce()

    def _call(self, function: Any, arguments: Any) -> Any:
        if type(function) is Foreign:
            return function
        if type(function) is not _Name or type(arguments) is not tuple:
            raise CheckpointError(f"it calls something else than what makes {self.kinds}")
        return self.functions[function.name](self, *arguments)

    def _build(self) -> None:
        state = self._stack.pop()
        self._set_state(self._stack[-1], state)

    def _set_state(self, target: Any, state: Any) -> None:
        """Drops attributes, such as the `_metadata` of a state dict."""
        if not isinstance(target, OrderedDict | torch.Tensor | Foreign):
            raise CheckpointError("it sets attributes of something else than tensors and state dicts")

    def _append(self) -> None:
        item = self._stack.pop()
        self._extend([item])

    def _extend(self, items: list[Any]) -> None:
        if type(self._stack[-1]) is Foreign:
            return
        if type(self._stack[-1]) is not list:
            raise CheckpointError("it adds an item to something else than a list")
        self._stack[-1].extend(items)

    def _set_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set_items([key, value])

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is Foreign:
            return
        if type(target) not in (dict, OrderedDict, Counter):
            raise CheckpointError("it sets an item of something else than a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) is Foreign:
                continue
            if not is_key(key):
                raise CheckpointError(f"it has a key of type {type(key).__name__}")
            target[key] = value

    def _tuple_of(self, size: int) -> None:
        items = tuple(self._stack[-size:])
        if len(items) < size:
            raise CheckpointError("it is cut off")
        del self._stack[-size:]
        self._push_container(items)

    def _put(self, number: int) -> None:
        self._memo[number] = self._stack[-1]

    # -- what makes values --------------------------------------------------------------------------------------------

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> torch.Tensor:
        typed = isinstance(rest[2] if len(rest) > 2 else None, torch.dtype)  # of a type without storages of its own
        dtype = rest[2] if typed else storage.dtype
        if any(rest[3:] if typed else rest[2:]):
            raise CheckpointError("it holds a tensor that torch keeps as a conjugate or negative view")
        size, stride = tuple(size), tuple(stride)
        numbers = (offset, *size, *stride)
        if type(storage) is not TypedStorage or len(size) != len(stride) or not all(map(_is_size, numbers)):
            raise CheckpointError("it holds a tensor of an impossible shape")
        count = math.prod(size)
        last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        if count and last >= storage.storage.nbytes() // dtype.itemsize:
            raise CheckpointError(f"it holds a tensor of shape {size} that exceeds its storage")
        self._bytes_left -= count * dtype.itemsize
        if self._bytes_left < 0:
            raise CheckpointError("its tensors claim more memory than the file has data for")
        try:
            empty = torch.empty(0, dtype=dtype, device=storage.storage.device)
            return empty.set_(storage.storage, offset, size, stride)
        except (RuntimeError, NotImplementedError):
            raise CheckpointError(f"it holds a tensor of shape {size} and type {dtype}, which cannot be made") from None

    def _parameter(self, tensor: Any, *_: Any) -> Any:
        return tensor

    def _of_type(self, function: Any, kind: Any, arguments: Any, *_: Any) -> Any:
        if kind not in (_Name("torch.Tensor"), _Name("torch.nn.parameter.Parameter")):
            raise CheckpointError("it holds a tensor of a class of its own")
        return self._call(function, arguments)

    def _ordered(self, pairs: Any = ()) -> OrderedDict[Any, Any]:
        self._push(OrderedDict())
        self._set_items([part for key, value in pairs for part in (key, value)])
        return self._stack.pop()

    def _default_dict(self, *_: Any) -> dict[Any, Any]:
        return {}

    def _counter(self, counts: Any = None) -> Counter[Any]:
        if counts is not None and type(counts) is not dict:
            raise CheckpointError("it holds a counter of something else than a dict")
        return Counter(counts)

    def _set(self, items: Any = ()) -> set[Any]:
        if not all(map(is_key, items)):
            raise CheckpointError("it holds a set of something else than plain values")
        return set(items)

    def _bytes(self, text: str = "", encoding: str = "latin1") -> bytes:
        if encoding not in ("latin1", "latin-1"):
            raise CheckpointError(f"it holds bytes in the encoding {encoding!r}")
        return text.encode("latin1")

    def _bytearray(self, content: Any = b"", *encoding: Any) -> bytearray:
        return bytearray(content if type(content) is bytes else self._bytes(content, *encoding))

    def _complex(self, real: float, imaginary: float) -> complex:
        return complex(float(real), float(imaginary))

    def _size(self, size: Any) -> torch.Size:
        return torch.Size(size)

    def _device(self, *device: Any) -> torch.device:
        return torch.device(*device)

    def _no(self, *_: Any) -> Any:
        raise CheckpointError("it makes a tensor in an unknown way")


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


Unpickler.functions = {
    "torch._utils._rebuild_tensor": Unpickler._tensor,
    "torch._utils._rebuild_tensor_v2": Unpickler._tensor,
    "torch._utils._rebuild_tensor_v3": Unpickler._tensor,
    "torch._utils._rebuild_parameter": Unpickler._parameter,
    "torch._utils._rebuild_parameter_with_state": Unpickler._parameter,
    "torch._tensor._rebuild_from_type_v2": Unpickler._of_type,
    "torch.Tensor": Unpickler._no,
    "torch.nn.parameter.Parameter": Unpickler._no,
    "torch.Size": Unpickler._size,
    "torch.device": Unpickler._device,
    "collections.OrderedDict": Unpickler._ordered,
    "collections.defaultdict": Unpickler._default_dict,
    "collections.Counter": Unpickler._counter,
    "builtins.set": Unpickler._set,
    "builtins.bytes": Unpickler._bytes,
    "builtins.bytearray": Unpickler._bytearray,
    "builtins.complex": Unpickler._complex,
    "_codecs.encode": Unpickler._bytes,
}
_STOP = ord(".")
Unpickler.operations = {
    ord(code): operation
    for code, operation in {
        "\x80": lambda self: self._take(1),
        "N": lambda self: self._push(None),
        "\x88": lambda self: self._push(True),
        "\x89": lambda self: self._push(False),
        "J": lambda self: self._push(self._number("<i")),
        "K": lambda self: self._push(self._number("<B")),
        "M": lambda self: self._push(self._number("<H")),
        "G": lambda self: self._push(self._number(">d")),
        "\x8a": Unpickler._long,
        "X": lambda self: self._text(self._number("<I")),
        "U": lambda self: self._text(self._number("<B")),  # text of Python 2
        "T": lambda self: self._text(self._number("<I")),
        "]": lambda self: self._push_container([]),
        "}": lambda self: self._push_container({}),
        ")": lambda self: self._push(()),
        "(": Unpickler._mark,
        "t": lambda self: self._push_container(tuple(self._to_mark())),
        "\x85": lambda self: self._tuple_of(1),
        "\x86": lambda self: self._tuple_of(2),
        "\x87": lambda self: self._tuple_of(3),
        "a": Unpickler._append,
        "e": lambda self: self._extend(self._to_mark()),
        "s": Unpickler._set_item,
        "u": lambda self: self._set_items(self._to_mark()),
        "q": lambda self: self._put(self._number("<B")),
        "r": lambda self: self._put(self._number("<I")),
        "h": lambda self: self._push(self._memo[self._number("<B")]),
        "j": lambda self: self._push(self._memo[self._number("<I")]),
        "c": Unpickler._global,
        "R": Unpickler._reduce,
        "\x81": Unpickler._new,
        "b": Unpickler._build,
        "Q": Unpickler._persistent,
    }.items()
} | LATER_OPERATIONS
