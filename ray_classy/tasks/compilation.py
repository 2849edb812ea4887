"""Compiles the model and the loss of a task with `torch.compile`."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn

from ray_classy.errors import ComponentError
from ray_classy.torch_compat import compiled_graphs

Mode = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]


@dataclass(frozen=True)
class Compilation:
    """How `torch.compile` compiles model and loss; in a config, the section `compile`, or `compile: true`.

    Args:
        backend: of `torch.compile`: "inductor", or another of `torch.compiler.list_backends(None)`.
        mode: of inductor: "default", "reduce-overhead" (CUDA graphs), "max-autotune" or "max-autotune-no-cudagraphs".
        dynamic: whether one program serves batches of any number of rows; None compiles another one when a second
            number of rows is seen.
        fullgraph: whether code that cannot be compiled is an error.

    Raises:
        ComponentError: an argument is impossible.
    """

    backend: str = "inductor"
    mode: Mode = "default"
    dynamic: bool | None = None
    fullgraph: bool = False

    def __post_init__(self) -> None:
        backends = [self.backend] if self.backend == "inductor" else torch.compiler.list_backends(None)  # takes seconds
        if self.backend not in backends:
            raise ComponentError(f"compile.backend must be one of {', '.join(backends)}, not {self.backend!r}")
        if self.mode not in get_args(Mode):
            raise ComponentError(f"compile.mode must be one of {', '.join(get_args(Mode))}, not {self.mode!r}")
        if self.mode != "default" and self.backend != "inductor":
            raise ComponentError(f"compile.mode {self.mode!r} is for the backend 'inductor': leave it out")
        if self.dynamic not in (None, True, False) or type(self.fullgraph) is not bool:
            raise ComponentError("compile.dynamic must be true, false or null, and compile.fullgraph true or false")

    @classmethod
    def of(cls, value: bool | Mapping[str, Any] | None) -> Compilation | None:
        """Returns what the key `compile` asks for: True for the defaults, None for no compilation.

        Raises:
            ComponentError: it has another type, an unknown key or an impossible value.
        """
        if value is None or value is False:
            return None
        if value is True:
            return cls()
        known = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(value, Mapping):
            raise ComponentError(f"compile must be true, false or a mapping with {', '.join(known)}, not {value!r}")
        unknown = sorted(map(str, value.keys() - set(known)))
        if unknown:
            raise ComponentError(f"compile has no key {unknown[0]!r}: its keys are {', '.join(known)}")
        return cls(**value)

    @classmethod
    def check_value(cls, _: str, value: Any) -> Any:
        """Returns the value of the key `compile` if it is possible; raises what `of` raises otherwise."""
        cls.of(value)
        return value

    def compile(self, *modules: nn.Module) -> None:
        """Lets calls of the modules run compiled code; their names, copies and state dicts stay as they are."""
        mode = {"mode": self.mode} if self.mode != "default" else {}
        for module in modules:
            module.compile(backend=self.backend, dynamic=self.dynamic, fullgraph=self.fullgraph, **mode)


class GraphCount:
    """Counts the graphs that are compiled in each kind of phase, to notice those that should not be."""

    def __init__(self) -> None:
        self._known = compiled_graphs()
        self._seen: set[str] = set()

    def phase_ended(self, phase_type: str) -> int:
        """Returns how many graphs were compiled since the last call, other than in the first phase of its type."""
        now = compiled_graphs()
        new, self._known = now - self._known, now
        first = phase_type not in self._seen
        self._seen.add(phase_type)
        return 0 if first else new


def uncompiled() -> contextlib.AbstractContextManager[Any]:
    """Returns a context in which compiled modules run as they were written, for rows that only try a model."""
    return torch.compiler.set_stance("force_eager")
