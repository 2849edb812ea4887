import enum
import numbers
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Optional, TypedDict, TypeVar, Union

import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode

from ray_classy.config.values import mismatch
from ray_classy.config.wording import expectation


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Shape(TypedDict):
    width: int


class Odd:
    pass


@pytest.mark.parametrize(
    "annotation, value",
    [
        (int, 3),
        (float, 3),
        (float, float("inf")),
        (float, float("nan")),
        (bool, True),
        (str, ""),
        (None, None),
        (Any, object()),
        (object, 3),
        (TypeVar("T"), 3),
        ("unresolved", 3),
        (5, 3),
        (int | None, None),
        (Optional[int], 3),  # noqa: UP045
        (Union[int, list[int]], [1]),  # noqa: UP007
        (list, [1, "a"]),
        (list[int], []),
        (tuple[float, float], [1, 2]),
        (tuple[int, ...], [1, 2, 3]),
        (tuple[int, str], [1, "a"]),
        (Sequence[float], (0.1, 2)),
        (Sequence, ["a", 1]),
        (Iterable[str], ["a"]),
        (set[str], ["a"]),
        (dict, {"a": 1}),
        (dict[str, float], {"a": 1}),
        (dict[str | type, float], {"a": 1}),
        (Mapping[str, list[int]], {"a": [1]}),
        (Literal["a", 1], 1),
        (Literal[0.5, 1.0], 1),
        (InterpolationMode, "bilinear"),
        (InterpolationMode, "BILINEAR"),
        (InterpolationMode, InterpolationMode.BILINEAR),
        (Level, 2),
        (Level, "low"),
        (torch.Tensor, [[0.1, 2], [3, 4]]),
        (torch.Tensor, 1),
        (torch.Tensor, torch.ones(2)),
        (torch.Tensor | None, None),
        (list[torch.Tensor], [[1], 2]),
        (torch.dtype, "float32"),
        (torch.dtype, "torch.float16"),
        (torch.dtype, torch.float32),
        (torch.device, "cuda:0"),
        (pathlib.Path, "a/b"),
        (str | os.PathLike, "a/b"),
        (numbers.Number, 15),
        (numbers.Integral, 15),
        (Callable[[int], int], "name"),
        (Callable, {"name": "x"}),
        (type[Odd], "Odd"),
        (Odd, {"x": 1}),
        (list[Odd], [1]),
        (Shape, {"width": 1}),
        (torch.nn.Module, {"name": "x"}),
    ],
)
def test_a_fitting_value_is_accepted(annotation, value):
    assert mismatch(value, annotation) is None


@pytest.mark.parametrize(
    "annotation, value, message",
    [
        (int, True, "expected an integer, not true"),
        (int, "3", "expected an integer, not '3'; write 3 without quotes"),
        (int, "1_000", "expected an integer, not '1_000'; write 1000"),
        (int, 1.5, "expected an integer, not 1.5"),
        (int, 1e2, "expected an integer, not 100.0; write 100"),
        (int, None, "expected an integer, not null"),
        (float, ".5", "expected a number, not '.5'; write 0.5"),
        (float, "0.5", "expected a number, not '0.5'; write 0.5 without quotes"),
        (float, "1e999", "expected a number, not '1e999'"),
        (float, "nan", "expected a number, not 'nan'"),
        (float, [1], "expected a number, not [1]"),
        (float, False, "expected a number, not false"),
        (bool, "off", "expected true or false, not 'off'; write false"),
        (bool, "True", "expected true or false, not 'True'; write true without quotes"),
        (bool, 0, "expected true or false, not 0"),
        (str, 3, "expected a string, not 3"),
        (None, 3, "expected null, not 3"),
        (int | None, "a", "expected an integer or null, not 'a'"),
        (int | float, "a", "expected a number, not 'a'"),
        (str | list[str], 3, "expected a string or a list of strings, not 3"),
        (list[int], [1, "a"], 'expected a list of integers, not [1, "a"]'),
        (list[list[bool]], 1, "expected a list of lists of true or false values, not 1"),
        (list[int], "abc", "expected a list of integers, not 'abc'"),
        (list, {"a": 1}, 'expected a list, not {"a": 1}'),
        (Sequence[str], "abc", "expected a list of strings, not 'abc'; write ['abc']"),
        (list[int] | None, 5, "expected a list of integers or null, not 5; write [5]"),
        (tuple[float, float], [1], "expected a list of 2 numbers, not [1]"),
        (tuple[int, str], [1], "expected a list of an integer and a string, not [1]"),
        (tuple[int, ...], ["a"], 'expected a list of integers, not ["a"]'),
        (dict[str, float], {"a": "b"}, 'expected a mapping from names to numbers, not {"a": "b"}'),
        (dict, [1], "expected a mapping, not [1]"),
        (Literal["a", "b"], "c", "expected one of 'a', 'b', not 'c'"),
        (Literal["a"], "c", "expected 'a', not 'c'"),
        (Literal[1], True, "expected 1, not true"),
        (Literal[True], 1, "expected true, not 1"),
        (Level, 3, "expected one of 1, 2, not 3"),
        (torch.Tensor, ["a"], 'expected a number or a (nested) list of numbers, not ["a"]'),
        (torch.dtype, "float33", "expected the name of a dtype, such as 'float32', not 'float33'"),
        (pathlib.Path, 3, "expected a path, not 3"),
        (numbers.Number, "a", "expected a number, not 'a'"),
        (int, Odd, f"expected an integer, not {Odd!r}"),
    ],
)
def test_a_wrong_value_is_told_in_plain_words(annotation, value, message):
    assert mismatch(value, annotation) == message


def test_long_values_are_cut():
    assert mismatch(list(range(100)), int).endswith(" 15, 16...")


def test_unknown_types_are_called_by_their_name():
    assert (expectation(Odd), expectation(list[Odd])) == ("an Odd", "a list of Odd values")


def test_importing_the_package_does_not_import_pydantic():
    code = "import sys, ray_classy.config; sys.exit('pydantic' in sys.modules or 'ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("value", [1 << 63, -(1 << 63) - 1, [1, 1 << 63], [[10**40]]])
@pytest.mark.parametrize("annotation", [int, float, Any, list[int] | int | None])
def test_integers_of_more_than_64_bits_are_too_large(value, annotation):
    assert "is too large: integers go from -9,223,372,036,854,775,808 to" in mismatch(value, annotation)


def test_the_largest_integers_fit():
    assert mismatch([(1 << 63) - 1, -(1 << 63)], list[int]) is None
