"""The names that pickles of torch have for types of numbers."""

from __future__ import annotations

import re

import torch

STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}
"""The types of the numbers in storages, by the names of their classes."""
DTYPE = re.compile(r"bool|u?int\d+|b?float\d+\w*|complex\d+")
"""Names in `torch` that may be types."""
