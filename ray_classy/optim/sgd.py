"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from ray_classy import torch_compat
from ray_classy.errors import ComponentError
from ray_classy.optim.argument_checks import check_bool, check_number
from ray_classy.optim.classy_optimizer import ClassyOptimizer, register_optimizer
from ray_classy.optim.param_groups import Group

LARC_DEFAULTS = {"clip": True, "eps": 1e-8, "trust_coefficient": 0.02}


def _larc() -> Any:
    try:
        from apex.parallel.LARC import LARC  # type: ignore[import-not-found]
    except ImportError:
        raise ComponentError(
            "use_larc needs NVIDIA's apex, which is not installed: install it from https://github.com/NVIDIA/apex, "
            "or set use_larc to false"
        ) from None
    return LARC


@register_optimizer("sgd")
class SGD(ClassyOptimizer):
    """Stochastic gradient descent with momentum (Sutskever et al. 2013), as in `torch.optim.SGD`.

    Args:
        larc_config: the arguments `clip`, `eps` and `trust_coefficient` of LARC; default True, 1e-8 and 0.02.
        lr: the learning rate, at least 0.
        momentum: the decay rate of the accumulated gradients, in [0, 1).
        weight_decay: the L2 penalty, at least 0.
        nesterov: use Nesterov momentum; needs `momentum` above 0.
        use_larc: layer-wise learning rates (You et al. 2017, arXiv:1708.03888) by NVIDIA's apex.

    Raises:
        ComponentError: an argument is out of its range, or `use_larc` is set without apex.
    """

    implementations: ClassVar[tuple[str, ...]] = ("foreach", "fused")

    def __init__(
        self,
        larc_config: dict[str, Any] | None = None,
        lr: float = 0.1,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        use_larc: bool = False,
    ) -> None:
        super().__init__()
        if larc_config is not None and not isinstance(larc_config, Mapping):
            raise ComponentError(
                f"larc_config, the first argument, must be a mapping with keys among {', '.join(LARC_DEFAULTS)}, not "
                f"{larc_config!r}: give other arguments by name, as in SGD(lr=0.1)"
            )
        self._lr = check_number("lr", lr)
        self._momentum = check_number("momentum", momentum, below=1, example="0.9")
        self._weight_decay = check_number("weight_decay", weight_decay, example="0.0001")
        self._nesterov = check_bool("nesterov", nesterov)
        if nesterov and momentum == 0:
            raise ComponentError("nesterov needs a momentum above 0, such as 0.9")
        self._use_larc = check_bool("use_larc", use_larc)
        self._larc_config = {**LARC_DEFAULTS, **(larc_config or {})}
        if self._use_larc:
            _larc()

    def buffers(self, options: Mapping[str, Any]) -> Collection[str]:
        """Returns the names of the buffers of a parameter."""
        return ["momentum_buffer"] if options.get("momentum") else []

    def prepare(self, param_groups: list[Group]) -> None:
        """Creates the torch optimizer for these groups."""
        self.optimizer = torch_compat.SGD(
            param_groups,
            lr=self._lr,
            momentum=self._momentum,
            weight_decay=self._weight_decay,
            nesterov=self._nesterov,
            **self.implementation(param_groups),
        )
        if self._use_larc:
            self.optimizer = _larc()(optimizer=self.optimizer, **self._larc_config)
