"""Chooses the parameters of a model that are not trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from ray_classy.errors import ComponentError, TaskError
from ray_classy.registry import nearest

_SHOWN = 12


def check_patterns(name: str, freeze: Any) -> list[str]:
    """Returns a list of patterns.

    Raises:
        ComponentError: it is not one.
    """
    if not isinstance(freeze, list | tuple) or not all(isinstance(pattern, str) and pattern for pattern in freeze):
        raise ComponentError(f"{name} must be a list of patterns of parameter names ('blocks.0.*'), not {freeze!r}")
    return list(freeze)


def parameters_to_freeze(model: Any, freeze_trunk: bool, patterns: Sequence[str]) -> list[nn.Parameter]:
    """Returns the parameters to freeze: those of the trunk, if asked for, and those whose names match a pattern.

    Args:
        model: a `ClassyModel`.
        freeze_trunk: whether to freeze all parameters but those of `head_modules`.
        patterns: shell patterns (`*`, `?`, `[ab]`; `*` matches dots too) for names as in `named_parameters`; the
            prefix `model.` of a wrapped module may be left out.

    Raises:
        TaskError: a pattern matches nothing, or nothing is left to train.
    """
    heads = {parameter for head in _heads(model) for parameter in head.parameters()}
    frozen = {p for p in model.parameters() if freeze_trunk and p not in heads}
    for pattern in patterns:
        matched = [parameter for name, parameter in _named(model) if _matches(name, pattern)]
        if not matched:
            raise TaskError(
                f"freeze: {pattern!r} matches no parameter of {type(model).__name__}{_hint(model, pattern)}"
            )
        frozen.update(matched)
    kept = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter not in frozen]
    if frozen and not kept:
        what = " and ".join(["freeze_trunk"] * freeze_trunk + [f"freeze {list(patterns)}"] * bool(patterns))
        raise TaskError(f"{what} leaves no parameter of {type(model).__name__} to train; leave out some of it")
    return [parameter for parameter in model.parameters() if parameter in frozen]


def set_eval_where_frozen(model: Any, freeze_trunk: bool, frozen: Sequence[nn.Parameter]) -> None:
    """Puts frozen modules in eval mode, so that batch-norm statistics do not change and dropout is off.

    Args:
        model: in train mode.
        freeze_trunk: whether all modules but the heads are frozen.
        frozen: parameters; a module all of whose parameters are among them is frozen.
    """
    modes = [(head, head.training) for head in _heads(model)]
    if freeze_trunk:
        model.eval()
        for head, training in modes:
            head.train(training)
    known = set(frozen)
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and known.issuperset(parameters):
            module.eval()


def _heads(model: Any) -> Iterator[nn.Module]:
    yield from model.head_modules()


def _named(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return list(model.named_parameters(remove_duplicate=False))


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name.removeprefix("model."), pattern)


def _hint(model: nn.Module, pattern: str) -> str:
    """Returns what may have been meant by a pattern that matches nothing."""
    names = [name for name, _ in _named(model)]
    if any(_matches(name, f"{pattern}.*") for name in names):
        return f"; to freeze all of it write {pattern + '.*'!r}"
    parts = [name.split(".") for name in names]
    folders = {".".join([*path[:depth], "*"]) for path in parts for depth in range(1, len(path))}
    near = nearest(pattern, sorted(folders | set(names) | {name.removeprefix("model.") for name in folders}))
    tops = list(dict.fromkeys(name.removeprefix("model.").partition(".")[0] for name in names))
    listed = ", ".join(tops[:_SHOWN]) + (", ..." if len(tops) > _SHOWN else "")
    return (f"; did you mean {near}?" if near else ".") + f" Its names begin with: {listed}"
