"""Several optimizers, or options of one, for parameters that are chosen by name or by number of dimensions."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from ray_classy.errors import ComponentError
from ray_classy.optim.classy_optimizer import ClassyOptimizer, build_optimizer, register_optimizer
from ray_classy.optim.joined_optimizer import JoinedOptimizer
from ray_classy.optim.param_groups import Group, check_option
from ray_classy.optim.param_scheduler import ParamScheduler
from ray_classy.optim.saved_state import buffers_of
from ray_classy.optim.trained_parameters import Choice, Trained, make_groups
from ray_classy.registry import Key, Keys, nearest

_SHOWN = 5
_GROUP_KEYS: Keys = {
    "match": Key(str | list[str] | None, None, "a pattern of parameter names, or a list of them."),
    "ndim": Key(int | list[int] | None, None, "a number of dimensions, or a list of them: 2 for matrices."),
    "optimizer": Key(ClassyOptimizer | None, None, "takes the place of the default one."),
    "lr_scale": Key(float, 1.0, "factor for the learning rate."),
    "options": Key(dict[str, Any], {}, "take the place of options of the optimizer, and of its schedules."),
}


class _Rule(NamedTuple):
    """One entry of `groups`.

    Attributes:
        where: its place in the config, for messages.
        patterns: of names; empty for any name.
        ndims: numbers of dimensions; empty for any.
        part: number of its optimizer.
        choice: options of its parameters.
    """

    where: str
    patterns: Sequence[str]
    ndims: Sequence[int]
    part: int
    choice: Choice

    def matches(self, one: Trained, pattern: str | None = None) -> bool:
        patterns = self.patterns if pattern is None else [pattern]
        named = not patterns or any(_matches(one.name, each) for each in patterns)
        return named and (not self.ndims or one.parameter.ndim in self.ndims)


@register_optimizer("by_pattern")
class ByPattern(ClassyOptimizer):
    """Several optimizers, or options of one, for groups of parameters; each parameter belongs to the first that fits.

    An entry of `groups` has one or both of `match`, a shell pattern (`*`, `?`, `[ab]`; `*` matches dots too) or a list
    of them for names as in `named_parameters`, and `ndim`, a number of dimensions or a list of them (2 for matrices).
    It may have `optimizer`, in place of the default one; `lr_scale`, a factor for the learning rate; and `options`, in
    place of the optimizer's own and of its schedules. The prefix `model.` of a wrapped module may be left out, and
    parameters of a loss begin with `loss.`. Schedules are given in the config of each optimizer.

    Args:
        groups: which parameters (`match`, `ndim`) have which `optimizer`, `lr_scale` and `options`, in order.
        default: an optimizer, or its config, for entries without one and for all other parameters; None refuses those.

    Raises:
        ComponentError: an entry has a wrong key or value.
    """

    def __init__(self, groups: list[dict[str, Any]], default: ClassyOptimizer | None = None) -> None:
        super().__init__()
        if not isinstance(groups, list | tuple) or not groups:
            raise ComponentError(f"by_pattern needs groups, a list of mappings with `match` or `ndim`, not {groups!r}")
        self._parts: list[ClassyOptimizer] = []
        self._names: list[str] = []
        self._rules: list[_Rule] = []
        for index, group in enumerate(groups):
            where = f"groups.{index}"
            _check_keys(group, where)
            if group.get("optimizer") is not None:
                self._add_part(group["optimizer"], where)
            elif default is None:
                raise ComponentError(f"{where} has no `optimizer`, and there is no `default`: give one of them")
            part = len(self._parts) - 1 if group.get("optimizer") is not None else -1
            self._rules.append(_rule(group, where, part))
        if default is not None:
            self._add_part(default, "default")
        self._has_default = default is not None
        self.needs_whole_parameters = any(part.needs_whole_parameters for part in self._parts)

    def _add_part(self, given: Any, where: str) -> None:
        part = build_optimizer(given) if isinstance(given, Mapping) else given
        if not isinstance(part, ClassyOptimizer) or part.shards_state or isinstance(part, ByPattern):
            raise ComponentError(f"{where}: expected an optimizer other than zero and by_pattern, not {given!r}")
        self._parts.append(part)
        self._names.append(where)

    @classmethod
    def config_keys(cls) -> Keys:
        """Returns `groups`, `default` and `layer_decay`; schedules belong to each optimizer."""
        keys = {name: key for name, key in super().config_keys().items() if name != "param_schedulers"}
        groups: Any = list[_GROUP_KEYS]  # type: ignore[valid-type]
        return {**keys, "groups": Key(groups), "default": Key(ClassyOptimizer | None, None)}

    @property
    def type_name(self) -> str:
        """The name that a checkpoint has for these types of optimizers."""
        return f"{type(self).__name__}({', '.join(part.type_name for part in self._parts)})"

    def flags(self) -> dict[str, bool]:
        """Returns the flags of all optimizers."""
        parts = zip(self._names, self._parts, strict=True)
        return {f"{where}.{name}": value for where, part in parts for name, value in part.flags().items()}

    def buffers(self, options: Mapping[str, Any]) -> Collection[str]:
        """Returns the names of the buffers of a parameter."""
        part = options.get("part")
        known = isinstance(part, int) and 0 <= part < len(self._parts)
        return buffers_of(self._parts[part], options) if known else ()  # type: ignore[index]

    def make_groups(
        self, trained: Sequence[Trained], schedulers: Mapping[str, ParamScheduler], bn_weight_decay: bool
    ) -> list[Group]:
        """Returns the groups of all optimizers, each with the number of its optimizer as `part`.

        Raises:
            ComponentError: an entry of `groups` matches no parameter, or no entry matches a parameter.
        """
        for key in schedulers:
            if not key.startswith(tuple(f"{name}." for name in self._names)):
                known = " or ".join(f"{name}.lr" for name in self._names)
                raise ComponentError(f"by_pattern has a schedule {key!r}, and they are named like {known}")
        chosen = [next((rule for rule in self._rules if rule.matches(one)), None) for one in trained]
        self._check_matches(trained, chosen)
        groups = []
        for number, (part, name) in enumerate(zip(self._parts, self._names, strict=True)):
            mine = [
                (one, rule.choice if rule is not None else Choice())
                for one, rule in zip(trained, chosen, strict=True)
                if (len(self._parts) - 1 if rule is None or rule.part < 0 else rule.part) == number
            ]
            own = {key.removeprefix(f"{name}."): one for key, one in schedulers.items() if key.startswith(f"{name}.")}
            decay = self.layer_decay if part.layer_decay is None else part.layer_decay
            made = make_groups([one for one, _ in mine], own, bn_weight_decay, decay, [choice for _, choice in mine])
            groups += [{**group, "part": number} for group in made]
        return groups

    def _check_matches(self, trained: Sequence[Trained], chosen: Sequence[_Rule | None]) -> None:
        for rule in self._rules:
            patterns: Sequence[str | None] = rule.patterns or [None]
            for pattern in patterns:
                if not any(rule.matches(one, pattern) for one in trained):
                    raise ComponentError(f"{rule.where}: {_missed(rule, pattern, trained)}")
            if rule not in chosen:
                raise ComponentError(
                    f"{rule.where}: all parameters that it matches belong to entries before it: move it up or remove it"
                )
        others = [one.name for one, rule in zip(trained, chosen, strict=True) if rule is None]
        if others and not self._has_default:
            listed = ", ".join(others[:_SHOWN]) + (", ..." if len(others) > _SHOWN else "")
            raise ComponentError(
                f"groups: no entry matches {len(others)} of {len(trained)} parameters ({listed}): add an entry, or a "
                f"`default` optimizer"
            )

    def parts(self) -> Sequence[ClassyOptimizer]:
        """Returns the optimizers of the groups, and the default one."""
        return self._parts

    def prepare(self, param_groups: list[Group]) -> None:
        """Creates the torch optimizers for groups that `make_groups` has made.

        Raises:
            ComponentError: the groups are others, or an option is unknown.
        """
        if any("part" not in group for group in param_groups):
            raise ComponentError(
                "by_pattern needs the names of the parameters: give set_param_groups what its make_groups returns"
            )
        used = []
        for number, part in enumerate(self._parts):
            own = [group for group in param_groups if group["part"] == number]
            if own:
                part.prepare(own)
                used.append(part.optimizer)
        self.optimizer = JoinedOptimizer(used)
        for rule in self._rules:
            for name, value in rule.choice.options:
                where, optimizer = f"{rule.where}.options.{name}", self._parts[rule.part].optimizer
                check_option(name, optimizer, where)
                _check_value(value, optimizer.defaults[name], where)


def _check_keys(group: Any, where: str) -> None:
    if not isinstance(group, Mapping):
        raise ComponentError(f"{where} must be a mapping with `match` or `ndim`, not {group!r}")
    unknown = [key for key in group if key not in _GROUP_KEYS]
    if unknown:
        raise ComponentError(f"{where}: unknown key {unknown[0]!r}: it takes {', '.join(_GROUP_KEYS)}")


def _rule(group: Mapping[str, Any], where: str, part: int) -> _Rule:
    patterns, ndims = _as_list(group.get("match")), _as_list(group.get("ndim"))
    if not patterns and not ndims:
        raise ComponentError(f"{where} needs `match`, a pattern of parameter names, or `ndim`, a number of dimensions")
    scale, options = group.get("lr_scale", 1.0), group.get("options") or {}
    if not isinstance(scale, int | float) or isinstance(scale, bool) or not 0 <= scale < math.inf:
        raise ComponentError(f"{where}.lr_scale must be a number of at least 0, not {scale!r}")
    if not isinstance(options, Mapping):
        raise ComponentError(f"{where}.options must be a mapping such as {{weight_decay: 0}}, not {options!r}")
    plain = tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in options.items())
    return _Rule(where, patterns, ndims, part, Choice(scale, plain))


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name.removeprefix("model."), pattern)


def _missed(rule: _Rule, pattern: str | None, trained: Sequence[Trained]) -> str:
    """Says that no parameter is matched, and what may have been meant."""
    what = f"{pattern!r} matches no trained parameter" if pattern is not None else "it matches no trained parameter"
    dims = f" with {' or '.join(map(str, rule.ndims))} dimensions" if rule.ndims else ""
    near = nearest(pattern or "", [one.name for one in trained])
    return f"{what}{dims}{f'; did you mean {near}?' if near else ''}"


def _check_value(value: Any, default: Any, where: str) -> None:
    """Refuses a value of another kind than the optimizer's own, which torch does not check in groups."""
    if isinstance(default, bool) or not isinstance(default, int | float):
        wrong, wanted = isinstance(default, bool) and not isinstance(value, bool), "true or false"
    else:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        wrong, wanted = not number or not math.isfinite(value) or value < min(default, 0), "a number of at least 0"
    if wrong:
        raise ComponentError(f"{where}: expected {wanted}, not {value!r}")
