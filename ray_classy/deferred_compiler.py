"""`torch._dynamo`, the package behind `torch.compile`, imported when something is compiled.

Optimizers, DistributedDataParallel and torchvision import it to say what a compiler must leave alone. That takes about
1.2 s of CPU time in each process, as long as importing torch does, and most processes compile nothing. Until something
else is asked of it, a module in its place remembers what was said; then the package is imported and told. The module
knows what torch 2.11 to 2.14 and torchvision 0.26 to 0.29 ask for; anything else imports the package.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from types import FunctionType, ModuleType
from typing import Any

_PACKAGE = "torch._dynamo"
_UTILS = f"{_PACKAGE}.utils"
_disabled: list[Callable[[], None]] = []
_changing = threading.Lock()


def defer_compiler() -> None:
    """Imports torch; from now on `torch._dynamo` is imported when it is needed, unless it has been imported already."""
    import torch

    spec = PathFinder.find_spec(_PACKAGE, list(torch.__path__))
    with _changing:
        if spec is None or _PACKAGE in sys.modules:
            return
        utils = _put(ModuleSpec(_UTILS, None))
        utils.get_optimize_ddp_mode = lambda: "ddp_optimizer"  # the default; whoever changes it imports the package
        utils.is_compile_supported = _is_compile_supported
        package = _put(spec)
        package.utils = utils
        package.disable = _disable
        package.graph_break = _graph_break
        package.trace_rules = _Deferred(f"{_PACKAGE}.trace_rules")
        package.trace_rules.clear_lru_cache = _nothing_cached
        torch._dynamo = package
        sys.meta_path.insert(0, _Submodules)


def compiler_is_imported() -> bool:
    """Whether `torch._dynamo` has really been imported into this process."""
    return _PACKAGE in sys.modules and not isinstance(sys.modules[_PACKAGE], _Deferred)


class _Deferred(ModuleType):
    """Stands in for a module, which is imported when a name is asked for that the stand-in does not have."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # Python asks all modules for such names, for instance for `__warningregistry__`
            raise AttributeError(name)
        return getattr(_imported(self.__name__), name)


def _put(spec: ModuleSpec) -> Any:
    module = importlib.util.module_from_spec(spec)
    module.__class__ = _Deferred
    sys.modules[spec.name] = module
    return module


def _imported(name: str) -> ModuleType:
    """The real module `torch._dynamo`, or the submodule of this name."""
    with _changing:  # nothing is imported meanwhile, for which another thread might wait
        for deferred in (_PACKAGE, _UTILS):
            if isinstance(sys.modules.get(deferred), _Deferred):
                del sys.modules[deferred]
        if _Submodules in sys.meta_path:
            sys.meta_path.remove(_Submodules)
            vars(sys.modules["torch"]).pop("_dynamo", None)
        told, _disabled[:] = _disabled[:], []
    importlib.import_module(_PACKAGE)
    for tell in told:
        tell()
    return importlib.import_module(name)


class _Submodules:
    """Finds `torch._dynamo.x`, for which the whole package is imported first."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith(f"{_PACKAGE}."):
            return None
        _imported(_PACKAGE)
        # The caller is about to load the module. If the package has imported it, that must not happen a second time.
        module = sys.modules.pop(name, None)
        return None if module is None else ModuleSpec(name, _Loaded(module))


class _Loaded(Loader):
    """A loader that loads nothing: it has the module."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = self.module


def _disable(fn: Any = None, *args: Any, **options: Any) -> Any:
    """`torch._dynamo.disable` of functions of torch and torchvision: it has no effect before something is compiled."""
    if not isinstance(fn, FunctionType) or fn.__module__.partition(".")[0] not in ("torch", "torchvision"):
        return _imported(_PACKAGE).disable(fn, *args, **options)
    call: Callable[..., Any] = fn

    @functools.wraps(fn)
    def disabled(*values: Any, **named: Any) -> Any:
        return call(*values, **named)

    def tell() -> None:
        nonlocal call
        call = sys.modules[_PACKAGE].disable(fn, *args, **options)

    _disabled.append(tell)
    return disabled


def _graph_break(msg: str = "") -> None:
    """`torch._dynamo.graph_break`, which has an effect inside compiled functions only."""


def _nothing_cached() -> None:
    """`torch._dynamo.trace_rules.clear_lru_cache`, of which a new process group asks."""


def _is_compile_supported(device_type: str) -> Any:
    return _imported(_UTILS).is_compile_supported(device_type)
