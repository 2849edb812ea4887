"""Mixed precision: which dtype the forward pass runs in, and how losses are scaled."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Literal

import torch

from ray_classy.errors import ComponentError, TaskError
from ray_classy.registry import signature_keys

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class Precision:
    """Automatic mixed precision of one task.

    Args:
        amp_type: "pytorch", or "apex" (not available any more: refused with the way on).
        dtype: "float16" (losses are scaled; needs a GPU) or "bfloat16" (also on a CPU).
        opt_level: apex's; only with "apex".

    Raises:
        TaskError: apex is asked for, or float16 without CUDA.
        ComponentError: an argument is impossible.
    """

    def __init__(
        self,
        amp_type: Literal["apex", "pytorch"] = "apex",
        dtype: Literal["float16", "bfloat16"] = "float16",
        opt_level: str | None = None,
    ) -> None:
        if amp_type == "apex":
            raise TaskError(
                "amp_args asks for apex (amp_type 'apex' is the default), which is not installed and no longer "
                'maintained: use {"amp_type": "pytorch"} for float16, or {"amp_type": "pytorch", "dtype": "bfloat16"}'
            )
        if amp_type != "pytorch":
            raise ComponentError(f"amp_args.amp_type must be 'pytorch' or 'apex', not {amp_type!r}")
        if dtype not in DTYPES:
            raise ComponentError(f"amp_args.dtype must be 'float16' or 'bfloat16', not {dtype!r}")
        if opt_level is not None:
            raise ComponentError("amp_args.opt_level is apex's: leave it out with amp_type 'pytorch'")
        self.dtype = DTYPES[dtype]

    @classmethod
    def from_args(cls, amp_args: Mapping[str, Any] | None) -> Precision | None:
        """What `amp_args` asks for; None for no mixed precision."""
        if amp_args is None:
            return None
        unknown = sorted(set(amp_args) - signature_keys(cls).keys())
        if unknown and amp_args.get("amp_type") == "pytorch":
            raise ComponentError(f"amp_args has no key {unknown[0]!r}: it takes {', '.join(signature_keys(cls))}")
        return cls(**{key: value for key, value in amp_args.items() if key not in unknown})

    def scaler(self, device: torch.device) -> torch.amp.GradScaler | None:
        """A loss scaler for the dtypes that need one (Micikevicius et al., "Mixed precision training", 2018).

        Raises:
            TaskError: float16 is asked for on a CPU.
        """
        if self.dtype is not torch.float16:
            return None
        if device.type != "cuda":
            raise TaskError(
                "amp_args with dtype 'float16' needs a GPU, and this process has none in use: "
                "set amp_args.dtype to 'bfloat16', which also runs on a CPU, or leave amp_args out"
            )
        return torch.amp.GradScaler(device.type)


def autocast(precision: Precision | None, device: torch.device) -> contextlib.AbstractContextManager:
    """The context in which the forward pass runs."""
    return contextlib.nullcontext() if precision is None else torch.autocast(device.type, dtype=precision.dtype)
