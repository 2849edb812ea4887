"""Several torch optimizers as one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch


class JoinedOptimizer(torch.optim.Optimizer):
    """A torch optimizer that is made of others, each for its own parameters.

    Its groups are theirs, one optimizer after the other, and its state is theirs together: one state dict, one set of
    hooks, and gradients that are clipped or unscaled together.

    Args:
        parts: torch optimizers without common parameters, and without state.
    """

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        self._parts = list(parts)
        self._sizes = [len(part.param_groups) for part in parts]
        super().__init__([group for part in parts for group in part.param_groups], {})
        for part in parts:
            self.state.update(part.state)
        self._share()
        self.register_step_pre_hook(lambda optimizer, *_: optimizer.measure_gradients())

    def _own_groups(self) -> Iterator[tuple[torch.optim.Optimizer, list[dict[str, Any]]]]:
        first = 0
        for part, size in zip(self._parts, self._sizes, strict=True):
            yield part, self.param_groups[first : first + size]
            first += size

    def _share(self) -> None:
        """Gives the parts their groups, the same objects, and the common state."""
        for part, groups in self._own_groups():
            part.param_groups, part.state = groups, self.state

    def of_group(self, index: int) -> torch.optim.Optimizer:
        """Returns the optimizer of a group, by the number of the group."""
        return [part for part, groups in self._own_groups() for _ in groups][index]

    def measure_gradients(self) -> None:
        """Lets those that need all gradients look at them, before a hook takes those of other ranks away."""
        for part in self._parts:
            if hasattr(part, "measure_gradients"):
                part.measure_gradients()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Lets each optimizer update its parameters; returns what `closure` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_parts": self._parts, "_sizes": self._sizes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restores a copy, or the groups and the state that `load_state_dict` has read."""
        super().__setstate__(state)
        for part, groups in self._own_groups():
            parameters = [parameter for group in groups for parameter in group["params"]]
            own = {parameter: self.state[parameter] for parameter in parameters if parameter in self.state}
            part.__setstate__({"state": defaultdict(dict, own), "param_groups": groups})  # torch may convert them
        self._share()
