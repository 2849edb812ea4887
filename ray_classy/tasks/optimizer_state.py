"""Restores the buffers of a task's optimizer from a checkpoint, also from one of Classy Vision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from ray_classy.errors import CheckpointError
from ray_classy.models.model_state import head_entry, model_part

if TYPE_CHECKING:
    from ray_classy.tasks.classification_task import ClassificationTask


def restore_buffers(task: ClassificationTask, state: Mapping[str, Any]) -> None:
    """Restores momenta, moments and step counters; the optimizer keeps its options.

    Args:
        task: its optimizer has parameters.
        state: of the task.
    """
    optimizer = task.optimizer
    kept = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    optimizer.set_classy_state(_in_own_order(task, state))
    for group, options in zip(optimizer.param_groups, kept, strict=False):
        group.update(options)


def _in_own_order(task: ClassificationTask, state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the optimizer's state with the parameters of each group in the order that they have here.

    Classy Vision's optimizers have no `name` in their state, and its networks may list their parameters in another
    order: that of the checkpoint's model. A state whose parameters cannot be told apart is returned as it is.
    """
    saved = state["optimizer"]
    if "name" in saved or not isinstance(saved.get("optim"), Mapping):
        return saved
    try:
        former = _former_order(task, state["base_model"])
    except CheckpointError:  # a model with a state of another form
        return saved
    position = {parameter: index for index, parameter in enumerate(former)}
    groups, own = saved["optim"]["param_groups"], [group["params"] for group in task.optimizer.param_groups]
    if [len(group["params"]) for group in groups] != [len(parameters) for parameters in own]:
        return saved
    if not all(parameter in position for parameters in own for parameter in parameters):
        return saved
    ordered = []
    for group, parameters in zip(groups, own, strict=True):
        numbers = dict(zip(sorted(parameters, key=position.__getitem__), group["params"], strict=True))
        ordered.append({**group, "params": [numbers[parameter] for parameter in parameters]})
    return {**saved, "optim": {**saved["optim"], "param_groups": ordered}}


def _former_order(task: ClassificationTask, state: Any) -> list[torch.Tensor]:
    """Returns the parameters of the model and the loss in the order in which Classy Vision's optimizers list them.

    Args:
        task: has the model.
        state: of the model, by Classy Vision: the model's own parameters, which are in no submodule, come first, then
            heads, then the rest of the trunk, then the loss.
    """
    model, saved = task.base_model, model_part(state)
    parameters = dict(model.named_parameters())
    heads = {
        head_entry(block, head.unique_id, name): parameter
        for block, attached in model.get_heads().items()
        for head in attached
        for name, parameter in head.named_parameters()
    }
    of_heads = [
        heads.get(head_entry(block, unique_id, name))
        for block, attached in saved["heads"].items()
        for unique_id, entries in attached.items()
        for name in entries
    ]
    of_trunk = model.own_names(saved["trunk"])
    direct = [parameters.get(name) for name in of_trunk if "." not in name]
    nested = [parameters.get(name) for name in of_trunk if "." in name]
    ordered = (*direct, *of_heads, *nested, *task.base_loss.parameters())
    return [parameter for parameter in ordered if parameter is not None]
