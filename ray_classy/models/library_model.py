"""Networks of other libraries as models: what those of torchvision and timm have in common."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ray_classy.errors import CheckpointError, ComponentError
from ray_classy.models.batch_counters import fit_counters
from ray_classy.models.classifiers import is_classifier
from ray_classy.models.classy_model import ClassyModel
from ray_classy.models.head_points import in_trunk
from ray_classy.models.model_state import StateMismatch, compare
from ray_classy.models.plain_weights import find_weights
from ray_classy.models.pretrained import PretrainedWeights
from ray_classy.models.weights import Weights, load_weights, origin
from ray_classy.models.weights_report import WeightsReport, nothing_fits, of_file, shapes
from ray_classy.registry import nearest

_GIVEN_TWICE = re.compile(r"multiple values for (?:keyword )?argument '(\w+)'")


class LibraryModel(ClassyModel):
    """A network of another library: with its own classifier, or with heads in the classifier's place.

    Heads may read any submodule of the network, or `trunk_output`: what is in front of the classifier, (N, features).

    Args:
        network: the network; its parameters have the prefix "model.".
        network_name: of the network in its library.
        classifiers: the names of the layers that make the class scores; empty if the network has none.
        input_shape: of one image.
    """

    sizes_classifier = True
    KEYS_DEPEND_ON: ClassVar[str] = "model"
    __jit_unused_properties__ = [*ClassyModel.__jit_unused_properties__, "num_classes"]
    FURTHER: ClassVar[tuple[str, ...]] = ()
    """Prefixes of weights that files have and the network does not, such as those of auxiliary classifiers."""

    def __init__(
        self, network: nn.Module, network_name: str, classifiers: Iterable[str], input_shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.network_name = network_name
        self.model = network
        self.trunk_output = nn.Identity()
        self._classifiers = tuple(classifiers)
        self._input_shape = input_shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.trunk_output(self.model(x))

    def extract_features(self, x: torch.Tensor) -> torch.Tensor:
        """Returns what is in front of the classifier, (N, features)."""
        if not self._classifiers:
            return self.forward(x)
        seen: list[torch.Tensor] = []
        layer = self.model.get_submodule(self._classifiers[0])
        hook = layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        try:
            self.model(x)
        finally:
            hook.remove()
        return seen[0] if seen[0].ndim == 2 else seen[0].flatten(2).mean(2)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self._input_shape

    @property
    def num_classes(self) -> int | None:
        """The number of outputs of the classifier; None without one."""
        for name in self._classifiers:
            return next(iter(self.model.get_submodule(name).parameters())).shape[0]
        return None

    def head_modules(self) -> list[nn.Module]:
        """Returns the heads or, without heads, the layers of the classifier."""
        return super().head_modules() or [self.model.get_submodule(name) for name in self._classifiers]

    # -- weights ------------------------------------------------------------------------------------------------------

    def load_starting_weights(self, weights: Weights) -> WeightsReport:
        found = find_weights(self, weights.tensors)
        by_name = {name.removeprefix("model."): value for name, value in found.weights.items() if in_trunk(name)}
        given = {name: value for name, value in by_name.items() if not name.startswith(self.FURTHER)}
        own = self.model.state_dict()
        of_classifier = tuple(f"{name}." for name in self.classifier_names())
        classifier = {name for name in (*given, *own) if of_classifier and name.startswith(of_classifier)}
        # An earlier run's classes are those of its data, also where their number is the same.
        new = weights.state is not None or not all(_alike(given.get(name), own.get(name)) for name in classifier)
        left_out = classifier if new else set()
        given, _ = fit_counters(own, given)
        if _differences(own, given, left_out):
            given = self.converted(given)
            left_out = left_out | {name for name in given if name not in own and is_classifier(name)}
        source = origin(weights, found.prefix)
        differences = _differences(own, given, left_out)
        if differences:
            raise CheckpointError(f"{source}: {self._refusal(differences, by_name, own, left_out)}")
        filled = {f"model.{name}": own[name] for name in own if name in left_out or _may_lack(name)}
        tensors = {**filled, **{f"model.{name}": value for name, value in given.items() if name not in left_out}}
        report = load_weights(self, replace(weights, tensors=tensors, state=None), reset_heads=new)
        self.starting_weights_loaded = True
        names = {id(value): name for name, value in weights.tensors.items()}
        unused = {name: value for name, value in by_name.items() if name in left_out or name.startswith(self.FURTHER)}
        return replace(
            report,
            source=source,
            model=self.network_name,
            why_reset="of other classes than the file's",
            unused=shapes({names.get(id(value), name): value for name, value in {**unused, **found.others}.items()}),
            resized={
                f"model.{name}": f"{tuple(by_name[name].shape)} to {tuple(value.shape)}"
                for name, value in given.items()
                if name in by_name and name not in left_out and not _alike(by_name[name], value)
            },
        )

    def _refusal(
        self, differences: StateMismatch, given: Mapping[str, Any], own: Mapping[str, Any], left_out: Collection[str]
    ) -> str:
        """Says why weights do not fit, and what to do."""
        kept = {name: value for name, value in own.items() if name not in left_out}
        if differences.fits_nothing_of(kept):
            return nothing_fits(self.network_name, given, kept)
        return (
            f"it does not fit {self.network_name}: {of_file(str(differences))}. Use weights of this network, or name "
            f"the one that they are of (`model.model`; with --images DIR and its like, --model NAME)"
        )

    def converted(self, weights: dict[str, Any]) -> dict[str, Any]:
        """Returns weights of other names or sizes as the network has them; what cannot be converted stays.

        Args:
            weights: by the names of the network, or by others.
        """
        return weights

    def classifier_names(self) -> tuple[str, ...]:
        """Returns the names of the layers that are the classifier in files of weights."""
        return self._classifiers


def _alike(one: Any, other: Any) -> bool:
    return one is not None and other is not None and one.shape == other.shape


def _differences(own: Mapping[str, Any], given: Mapping[str, Any], left_out: Collection[str]) -> StateMismatch:
    """Compares the weights of a network with those in a file, but for the names in `left_out`."""
    kept = {name: value for name, value in own.items() if name not in left_out}
    filled = {name: value for name, value in kept.items() if _may_lack(name)}
    return compare(kept, {**filled, **{name: value for name, value in given.items() if name not in left_out}})


def _may_lack(name: str) -> bool:
    """Whether old files lack an entry that is not learned."""
    return name.endswith(("num_batches_tracked", "relative_position_index"))


def build_network(build: Callable[..., nn.Module], what: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Builds a network, also on the meta device where the network computes numbers while it is built.

    Raises:
        ComponentError: the network refuses an argument.
    """
    try:
        try:
            return build(**arguments)
        except NotImplementedError:
            if torch.empty(0).device.type != "meta":
                raise
            with torch.device("cpu"), _ParametersOnMeta():
                network = build(**arguments)
            return network.to("meta")
    except (TypeError, ValueError, AssertionError, RuntimeError, NotImplementedError, KeyError) as error:
        twice = _GIVEN_TWICE.search(str(error))
        if twice is not None:
            raise ComponentError(f"{twice[1]} cannot be given to {what}, whose name fixes it: leave it out") from error
        given = ", ".join(f"{key}: {value!r}" for key, value in arguments.items())
        raise ComponentError(f"{what} cannot be built with {given}: {type(error).__name__}: {error}") from error


class _ParametersOnMeta(TorchFunctionMode):
    """Makes uninitialized tensors, which parameters are made of, on the meta device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def unknown_network(library: str, name: str, known: list[str]) -> str:
    """Returns the message for the name of a network that a library does not have."""
    near = nearest(name, known)
    hint = f"did you mean {near}?" if near else "find one with `ray-classy list model PATTERN`"
    return f"{library} has no classification network {name!r}: {hint}"


def check_heads(config: Mapping[str, Any]) -> None:
    """Refuses a config with heads and a size for the classifier in whose place they are.

    Raises:
        ComponentError: it has both.
    """
    if config.get("heads") and config.get("num_classes"):
        raise ComponentError(
            f"num_classes is {config['num_classes']}, the size of the network's own classifier, and heads take its "
            f"place: leave out one of them (a head has a num_classes of its own)"
        )


def file_of_weights(key: str, value: str) -> PretrainedWeights:
    """Returns the weights in a file or folder that a config names."""
    return PretrainedWeights(f"the weights in {value}", value)
