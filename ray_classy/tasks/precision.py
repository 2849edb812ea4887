"""Mixed precision: the dtype of the forward pass, and the scaling of losses."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Literal

import torch

from ray_classy.distributed import is_primary
from ray_classy.errors import ComponentError, TaskError

_log = logging.getLogger(__name__)

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class AmpType(Enum):
    """The predecessor's kinds of mixed precision; `amp_args` names them in small letters."""

    APEX = auto()
    PYTORCH = auto()


@dataclass(frozen=True)
class Precision:
    """Automatic mixed precision; in a config, the section `amp_args`.

    Args:
        amp_type: "pytorch"; "apex", which is no longer maintained, is refused with a hint.
        dtype: "float16" (losses are scaled; without a GPU it has no effect) or "bfloat16" (also on a CPU).
        opt_level: an option of apex; must be None.

    Raises:
        TaskError: apex is asked for.
        ComponentError: an argument is impossible.
    """

    amp_type: Literal["apex", "pytorch"] = "apex"
    dtype: Literal["float16", "bfloat16"] = "float16"
    opt_level: str | None = None

    def __post_init__(self) -> None:
        if self.amp_type == "apex":
            raise TaskError(
                "amp_args asks for apex (amp_type 'apex' is the default), which is not installed and no longer "
                'maintained: use {"amp_type": "pytorch"} for float16, or {"amp_type": "pytorch", "dtype": "bfloat16"}'
            )
        if self.amp_type != "pytorch":
            raise ComponentError(f"amp_args.amp_type must be 'pytorch' or 'apex', not {self.amp_type!r}")
        if self.dtype not in DTYPES:
            raise ComponentError(f"amp_args.dtype must be 'float16' or 'bfloat16', not {self.dtype!r}")
        if self.opt_level is not None:
            raise ComponentError("amp_args.opt_level is an option of apex: leave it out with amp_type 'pytorch'")

    @classmethod
    def from_args(cls, amp_args: Mapping[str, Any] | None) -> Precision | None:
        """Returns what `amp_args` asks for; None for no mixed precision."""
        if amp_args is None:
            return None
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(amp_args).difference(known))
        if unknown and amp_args.get("amp_type") == "pytorch":
            raise ComponentError(f"amp_args has no key {unknown[0]!r}: its keys are {', '.join(known)}")
        return cls(**{key: value for key, value in amp_args.items() if key not in unknown})

    @classmethod
    def check_args(cls, _: str, amp_args: Any) -> Any:
        """Returns `amp_args` if it describes a precision; raises what the class raises otherwise."""
        cls.from_args(amp_args)
        return amp_args

    def works_on(self, device: torch.device) -> bool:
        """Returns whether the model computes in this dtype on a device; float16 needs a GPU."""
        return self.dtype != "float16" or device.type == "cuda"

    def remark(self, device: torch.device) -> str | None:
        """Says that `amp_args` has no effect on a device; None where it has one."""
        if self.works_on(device):
            return None
        return (
            "amp_args has no effect without a GPU: the model computes in float32 "
            "(its dtype 'bfloat16' also works on a CPU)"
        )

    def scaler(self, device: torch.device) -> torch.amp.GradScaler | None:
        """Returns a loss scaler if the dtype needs one (Micikevicius et al., "Mixed precision training", 2018)."""
        return torch.amp.GradScaler(device.type) if self.dtype == "float16" and self.works_on(device) else None


NO_CONTEXT = contextlib.nullcontext()
"""May be entered any number of times."""


def log_remark(precision: Precision | None, device: torch.device) -> None:
    """Logs a warning of the primary rank if `precision` has no effect on the device."""
    remark = None if precision is None else precision.remark(device)
    if remark is not None and is_primary():
        _log.warning(remark)


def autocast(precision: Precision | None, device: torch.device) -> contextlib.AbstractContextManager:
    """Returns the context of the forward pass."""
    if precision is None or not precision.works_on(device):
        return NO_CONTEXT
    return torch.autocast(device.type, dtype=DTYPES[precision.dtype])
