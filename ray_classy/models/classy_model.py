"""The base class of models, and their registry.

A model is a trunk and heads. The trunk is what the subclass writes: submodules and `forward`. Heads are attached to
named submodules ("blocks") of the trunk and read their outputs. Calling the model runs the trunk, then the heads.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from torch import nn
from torch.utils.hooks import RemovableHandle

from ray_classy.errors import CheckpointError, ComponentError, UnknownComponentError
from ray_classy.heads import ClassyHead
from ray_classy.models.head_points import find_block, in_trunk, unambiguous_names
from ray_classy.models.last_call import LastCall, begin_call, end_call, record, run_heads
from ray_classy.models.layers import layer_groups
from ray_classy.models.model_state import (
    StateMismatch,
    checked,
    flatten,
    head_entry,
    model_part,
)
from ray_classy.models.model_table import MODELS
from ray_classy.models.model_wrappers import ClassyModelHeadExecutorWrapper
from ray_classy.models.model_wrappers import ClassyModelWrapper as ClassyModelWrapper
from ray_classy.models.plain_weights import with_head_names
from ray_classy.registry import (
    Key,
    Keys,
    Registry,
    construct_from,
    constructor_arguments,
    nearest,
    reads_signature,
    signature_keys,
)

if TYPE_CHECKING:
    from ray_classy.models.preprocessing import Preprocessing
    from ray_classy.models.pretrained import PretrainedWeights
    from ray_classy.models.weights import Weights
    from ray_classy.models.weights_report import WeightsReport

MODEL_REGISTRY: Registry[ClassyModel] = Registry(
    "model",
    MODELS,
    unique_class_names=True,
)
register_model = MODEL_REGISTRY.register


class _Wrapped(type):
    """Makes instances that are in the wrapper of their class."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        model = super().__call__(*args, **kwargs)
        wrapper = model.wrapper_cls
        # A call of a ClassyModel runs its heads itself: the usual wrapper would add nothing.
        return model if wrapper in (None, ClassyModelHeadExecutorWrapper) else wrapper(model)


class ClassyModel(nn.Module, metaclass=_Wrapped):
    """A trunk with any number of heads.

    Calling the model returns the trunk's output if it has no heads, the head's output if it has one, and a dict from
    `unique_id` to output if it has several. A subclass calls `super().__init__()`, adds its submodules and defines
    `forward`, the trunk.

    Attributes:
        wrapper_cls: None in a subclass leaves the heads out of calls, which then run `forward` alone. With another
            class, a ClassyModelWrapper, creating the subclass gives a wrapper of the model, and the heads run only if
            it is a ClassyModelHeadExecutorWrapper.
        sizes_classifier: whether the key `num_classes` of the config sizes a classifier of the trunk, which is used
            where there are no heads; it is then filled in from the data.
        starting_weights: the pretrained weights that the config names, if it names any.
        starting_weights_loaded: whether they are loaded.
    """

    wrapper_cls: ClassVar[type | None] = ClassyModelHeadExecutorWrapper
    sizes_classifier: ClassVar[bool] = False
    starting_weights: PretrainedWeights | None = None
    starting_weights_loaded: bool = False

    # Properties that torch.jit.script does not compile.
    __jit_unused_properties__: ClassVar[list[str]] = [
        "head_outputs",
        "input_shape",
        "input_key",
        "attachable_block_names",
    ]

    def __init__(self) -> None:
        super().__init__()
        self._heads = nn.ModuleList()  # the name in models.head_points.HEADS
        self._fork_blocks: list[str] = []  # the block of each head, in the order of _heads
        self._last_call = LastCall()
        self._hooks: list[RemovableHandle] = []
        self._layers: dict[str, int] = {}  # the layer of each parameter, once it was asked for

    # Building

    @classmethod
    @reads_signature
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Builds the trunk from the model's config; `heads` are left to `build_model`."""
        arguments = constructor_arguments(cls, config)
        arguments.pop("heads", None)
        return construct_from(cls, arguments, config.get("name", cls.__name__))

    @classmethod
    def config_keys(cls) -> Keys:
        """The constructor's arguments, and the heads."""
        return with_heads(signature_keys(cls))

    @classmethod
    def preprocessing(cls, config: Mapping[str, Any]) -> Preprocessing:
        """Returns the preprocessing of a model's images: ImageNet's, unless a subclass has another.

        Args:
            config: of the model; images have its `image_size`, if it has one.
        """
        from ray_classy.models.preprocessing import Preprocessing

        size = config.get("image_size")
        return Preprocessing() if size is None else Preprocessing().of_size(size)

    @classmethod
    def from_model(
        cls, nn_module: nn.Module, input_shape: tuple[int, ...] | None = None, model_depth: int | None = None
    ) -> ClassyModel:
        """Makes a model whose trunk is `nn_module`, any module; its blocks are the module's named submodules.

        Args:
            nn_module: the trunk. Its parameters keep their names under the prefix "model.".
            input_shape: shape of one input, without the batch dimension; (3, 224, 224) if None.
            model_depth: the number of layers, if someone wants to know.
        """
        from ray_classy.models.adapter import Adapter  # a subclass

        return Adapter(nn_module, input_shape, model_depth)

    @classmethod
    def from_checkpoint(cls, checkpoint: Mapping[str, Any] | str) -> ClassyModel:
        """Builds the model that a checkpoint was written for, and loads its weights.

        Args:
            checkpoint: path of a checkpoint, or its content. The model's config is in the content, under
                `input_args.config.model` (as in Classy Vision) or `ray_classy.config.model`, or in the manifest beside
                the file.

        Raises:
            CheckpointError: the checkpoint has no model config or no model state, or they do not fit.
        """
        from ray_classy.models.building import build_from_checkpoint  # above this module

        return build_from_checkpoint(checkpoint)

    # Running

    def extract_features(self, *args: Any, **kwargs: Any) -> Any:
        """The trunk's output, without heads; `forward` unless a subclass knows better."""
        return self.forward(*args, **kwargs)

    def execute_heads(self) -> dict[str, Any]:
        """Runs every head on the output of its block in the current call, or in the last one.

        After a call the block outputs are detached: gradients of what this returns then reach the heads only.

        Returns:
            The heads' outputs by `unique_id`.

        Raises:
            ComponentError: a block with a head has not been run.
        """
        outputs: dict[str, Any] = {}
        for block, head in self._attached():
            if block not in self._last_call.block_outputs:
                raise ComponentError(
                    f"head {head.unique_id!r} reads block {block!r}, which {type(self).__name__} has not run: "
                    "call the model first, and let its forward call that submodule"
                )
            outputs[head.unique_id] = head(self._last_call.block_outputs[block])
        return outputs

    def get_block_outputs(self) -> dict[str, Any]:
        """The outputs, by name, of the blocks with heads: in the current call, or detached ones of the last."""
        return dict(self._last_call.block_outputs)

    @property
    def head_outputs(self) -> dict[str, Any]:
        """The heads' outputs in the last call by `unique_id`, detached."""
        return dict(self._last_call.head_outputs)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input, without the batch dimension."""
        return (3, 224, 224)

    # Heads

    @property
    def attachable_block_names(self) -> list[str]:
        """The names that `set_heads` takes besides full paths: those that a single submodule has."""
        return unambiguous_names(self)

    def set_heads(self, heads: Mapping[str, list[ClassyHead]]) -> None:
        """Replaces the model's heads.

        Args:
            heads: the heads of each block. A block is a submodule of the trunk, named as in its parent ("block3-2"),
                or by its full path where several bear that name ("blocks.3.block3-2").

        Raises:
            UnknownComponentError: the trunk has no such block.
            ComponentError: several submodules bear a block's name, or two heads have the same `unique_id`.
        """
        blocks = {name: find_block(self, name) for name in heads}
        unique_ids: set[str] = set()
        for head in (head for attached in heads.values() for head in attached):
            if head.unique_id in unique_ids:
                raise ComponentError(f"two heads have the unique_id {head.unique_id!r}; give each one of its own")
            unique_ids.add(head.unique_id)
        self.clear_heads()
        if not unique_ids:
            return
        for name, attached in heads.items():
            self._heads.extend(attached)
            self._fork_blocks += [name] * len(attached)
            if attached:
                self._hooks.append(blocks[name].register_forward_hook(partial(record, self._last_call, name)))
        self._hooks.append(self.register_forward_pre_hook(begin_call))
        self._hooks.append(self.register_forward_hook(run_heads if self._runs_heads() else end_call))

    def _runs_heads(self) -> bool:
        return self.wrapper_cls is not None and issubclass(self.wrapper_cls, ClassyModelHeadExecutorWrapper)

    def get_heads(self) -> dict[str, list[ClassyHead]]:
        """The heads of each block that has any."""
        heads: dict[str, list[ClassyHead]] = {}
        for block, head in self._attached():
            heads.setdefault(block, []).append(head)
        return heads

    def head_modules(self) -> list[nn.Module]:
        """Returns the heads; without heads, a model that `sizes_classifier` returns the layers of its classifier."""
        return list(self._heads)

    def clear_heads(self) -> None:
        """Takes all heads off."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self._heads = nn.ModuleList()
        self._fork_blocks = []
        self._last_call = LastCall()
        self._layers = {}

    def _attached(self) -> list[tuple[str, ClassyHead]]:
        return list(zip(self._fork_blocks, cast(Iterable[ClassyHead], self._heads), strict=True))

    # Weights to start from

    def load_starting_weights(self, weights: Weights) -> WeightsReport:
        """Loads the pretrained weights that the config of the model names.

        Args:
            weights: what `starting_weights.read()` returned.

        Returns:
            What was loaded, and what was not.

        Raises:
            CheckpointError: they do not fit.
        """
        raise CheckpointError(f"the config of a {type(self).__name__} names no weights to start from")

    # Layers

    def layer_groups(self) -> list[list[str]]:
        """Returns the names of all parameters, layer by layer from the stem to the heads; see `models.layers`.

        A subclass whose submodules are not in the order in which they run overrides it.
        """
        return layer_groups(self)

    def layer_of(self, parameter_name: str) -> int:
        """Returns the layer of a parameter: 0 for the stem, `len(layer_groups()) - 1` for the heads.

        Args:
            parameter_name: as in `named_parameters`.

        Raises:
            UnknownComponentError: there is no such parameter.
        """
        if parameter_name not in self._layers:
            groups = self.layer_groups()
            self._layers = {name: layer for layer, names in enumerate(groups) for name in names}
        if parameter_name not in self._layers:
            near = nearest(parameter_name, list(self._layers))
            hint = f": did you mean {near}?" if near else ""
            raise UnknownComponentError(f"{type(self).__name__} has no parameter {parameter_name!r}{hint}")
        return self._layers[parameter_name]

    # State

    def own_names(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a plain state dict under this model's names.

        A subclass whose weights have other names elsewhere adds them; names that it does not know stay.

        Args:
            weights: name to tensor; `fc`, torchvision's last layer, is that of the model's only head.
        """
        return with_head_names(self, weights)

    def get_classy_state(self, deep_copy: bool = False) -> dict[str, Any]:
        """The weights: `{"model": {"trunk": {...}, "heads": {block: {unique_id: {...}}}}}`.

        Args:
            deep_copy: copy the tensors; otherwise they are the model's own.
        """
        state = {"model": self._model_state()}
        return copy.deepcopy(state) if deep_copy else state

    def set_classy_state(self, state: Mapping[str, Any], strict: bool = True) -> StateMismatch:
        """Loads a state that `get_classy_state` returned, or one whose trunk has names that `own_names` knows.

        Args:
            state: the state.
            strict: refuse a state whose names or shapes differ; otherwise load what fits and log the rest.

        Returns:
            The differences; falsy if there are none.

        Raises:
            CheckpointError: `state` is not a model's, nothing in it fits, or `strict` is set and it differs; nothing is
                loaded then.
        """
        model = model_part(state)
        return self._load(self.own_names(model["trunk"]), model["heads"], strict)

    def load_head_states(self, state: Mapping[str, Any], strict: bool = True) -> StateMismatch:
        """Loads the heads' weights and leaves the trunk alone.

        Args:
            state: of a model, as for `set_classy_state`.
            strict: as in `set_classy_state`.

        Raises:
            CheckpointError: `strict` is set and the state differs; nothing is loaded then.
        """
        return self._load(None, model_part(state)["heads"], strict)

    def _model_state(self) -> dict[str, Any]:
        trunk = {key: value for key, value in self.state_dict().items() if in_trunk(key)}
        heads: dict[str, dict[str, Any]] = {}
        for block, head in self._attached():
            heads.setdefault(block, {})[head.unique_id] = dict(head.state_dict())
        return {"trunk": trunk, "heads": heads}

    def _load(self, trunk: Mapping[str, Any] | None, heads: Mapping[str, Any], strict: bool) -> StateMismatch:
        own = self._model_state()
        entries = flatten({} if trunk is None else own["trunk"], own["heads"])
        name = getattr(self, "network_name", type(self).__name__)
        mismatch = checked(f"this {name}", entries, flatten(trunk or {}, heads), strict)
        skipped = {*mismatch.unexpected, *mismatch.reshaped}
        if trunk is not None:
            entries = OrderedDict((key, value) for key, value in trunk.items() if key not in skipped)
            entries._metadata = self.state_dict()._metadata  # type: ignore[attr-defined]  # versions of the layers
            self.load_state_dict(entries, strict=False)
        for block, head in self._attached():
            given = heads.get(block, {}).get(head.unique_id, {})
            names = {key: head_entry(block, head.unique_id, key) for key in given}
            head.load_state_dict({key: given[key] for key in given if names[key] not in skipped}, strict=False)
        return mismatch


MODEL_REGISTRY.base = ClassyModel


def with_heads(keys: Keys) -> Keys:
    """A trunk's config keys and those that every model has."""
    return {**keys, "heads": Key(list[ClassyHead] | None, None, "heads, each on its `fork_block`.")}
