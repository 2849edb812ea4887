"""The base class of meters that count hits among the k highest scores."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ray_classy.errors import CheckpointError, ComponentError, DamagedCheckpointError, ShapeError
from ray_classy.meters.summed_meter import SummedMeter

_MOST_PENDING = 32
"""Batches on the device that wait to be counted."""


class MissingEntryError(DamagedCheckpointError, KeyError):
    """The state of a meter lacks an entry."""


def check_one_output(meter: str, model_output: Any) -> None:
    """Raises a ComponentError, which names the meter, unless the model's output is one tensor."""
    if not isinstance(model_output, torch.Tensor):
        outputs = list(model_output) if isinstance(model_output, Mapping) else type(model_output).__name__
        raise ComponentError(
            f"meter {meter!r} takes one output of shape (N, C), and the model returns {outputs}: choose an output in a "
            f"task's `update_meters(model_output, sample)`"
        )


class TopKMeter(SummedMeter):
    """Counts hits for every k in `topk`, and their common denominator.

    The counts are one vector on the device of the outputs: the hits of each k, then the denominator. There are two
    vectors: the counts of all processes up to the last synchronisation, and those of this process since. They are
    float64, which is exact for counts up to 2^53 and also fits the mass of soft targets, on every process.

    A step with class indices as targets only keeps the classes of its highest scores, on the device. Batches are
    counted together when they are many, or when the counts are read: a step then costs fewer kernels than counting.

    Args:
        topk: the values of k, each at least 1.
        target_is_one_hot: whether a target of shape (N, C) has one value per class; False if a target of shape (N, L)
            lists up to L different class indices per sample, padded with -1 (as `nn.MultiLabelMarginLoss` takes them).

    Raises:
        ComponentError: `topk` is not a list of such integers, or `target_is_one_hot` is not a bool.
    """

    DENOMINATOR = "sample_count"
    """The denominator's name in the state."""

    def __init__(self, topk: list[int], target_is_one_hot: bool = True) -> None:
        if (
            not isinstance(topk, Sequence)
            or isinstance(topk, str)
            or not topk
            or not all(type(k) is int and k >= 1 for k in topk)
        ):
            raise ComponentError(f"topk must be a list of integers of at least 1, such as [1, 5], not {topk!r}")
        if not isinstance(target_is_one_hot, bool):
            raise ComponentError(f"target_is_one_hot must be true or false, not {target_is_one_hot!r}")
        self._topk = list(topk)
        self._most = max(topk)
        self._target_is_one_hot = target_is_one_hot
        self._kind: tuple[torch.Size, torch.Size, torch.device] | None = None  # shapes and device of the last batch
        self._total: torch.Tensor
        self._curr: torch.Tensor
        self._pending: list[tuple[torch.Tensor, torch.Tensor]]  # classes of the highest scores, labels
        self.reset()

    @abstractmethod
    def _count(self, mass: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
        """Counts rows: returns the hits of each k, then the addition to the denominator, as scalar tensors.

        Args:
            mass: the target's values for the classes of the highest scores, best first, of shape (N, max(topk)),
                float64; if the target has class indices, bool: whether they are target classes.
            labels: the target in two dimensions: one value per class, or class indices; negative where there is none.
        """

    def _scale(self, k: int) -> float:
        """Returns the factor of the denominator for this k."""
        return 1.0

    @property
    def value(self) -> dict[str, float]:
        """The hits as a fraction of the denominator, in [0, 1], by name (`top_{k}`); 0 before any update."""
        *hits, denominator = (self.unsynced_counts() + self._total).tolist()
        return {
            f"top_{k}": hit / (denominator * self._scale(k)) if denominator else 0.0
            for k, hit in zip(self._topk, hits, strict=True)
        }

    def update(self, model_output: torch.Tensor, target: torch.Tensor, **kwargs: Any) -> None:
        """Counts one batch.

        Args:
            model_output: scores of shape (N, C).
            target: class indices of shape (N,) or (N, 1), or values per class, multi-hot or soft, of shape (N, C);
                lists of class indices of shape (N, L) if `target_is_one_hot` is False.

        Raises:
            ComponentError: the shapes do not match, or the model has several outputs.
        """
        check_one_output(self.name, model_output)
        kind = model_output.shape, target.shape, model_output.device
        if self._kind != kind:
            self._check_shapes(model_output.shape, target.shape)
            if self._most > model_output.shape[1]:
                raise ShapeError(
                    f"meter {self.name!r} has topk {self._topk}, but the model has {model_output.shape[1]} outputs"
                )
            self._count_pending()
            self._kind = kind
        model_output = model_output.detach() if model_output.requires_grad else model_output
        classes = model_output.topk(self._most, dim=1).indices
        if self._target_is_one_hot and target.shape == model_output.shape:
            mass = target.detach().gather(1, classes).double()
            self._add(self._count(mass.masked_fill(mass < 0, 0), target.detach()))
            return
        # A copy, because whoever made the batch may use its memory for the next one.
        self._pending.append((classes, (target.detach() if target.requires_grad else target).clone()))
        if len(self._pending) == _MOST_PENDING:
            self._count_pending()

    def _count_pending(self) -> None:
        """Counts the batches that wait, which are all of one shape and on one device."""
        if not self._pending:
            return
        classes, labels = (torch.cat(parts) for parts in zip(*self._pending, strict=True))
        self._pending = []
        labels = labels.unsqueeze(1) if labels.ndim == 1 else labels
        mass = classes == labels if labels.shape[1] == 1 else (classes.unsqueeze(2) == labels.unsqueeze(1)).any(2)
        self._add(self._count(mass, labels))

    def _add(self, counts: list[torch.Tensor]) -> None:
        device = counts[0].device
        self._curr, self._total = self._curr.to(device), self._total.to(device)
        # Not in place: tensors made in inference mode cannot be changed in place outside of it.
        self._curr = self._curr + torch.stack([count.double() for count in counts])

    def reset(self) -> None:
        """Resets all counts to 0."""
        self._total = torch.zeros(len(self._topk) + 1, dtype=torch.float64)
        self._curr, self._pending = torch.zeros_like(self._total), []

    def unsynced_counts(self) -> torch.Tensor:
        """Returns the hits of each k and their denominator, of this process since the last synchronisation."""
        self._count_pending()
        return self._curr

    def add_synced_counts(self, counts: torch.Tensor) -> None:
        """Adds the sum of all processes' `unsynced_counts`, which restart at 0."""
        self._total = self._total + counts.to(self._total.device)
        self._curr, self._pending = torch.zeros_like(self._total), []

    def validate(self, model_output_shape: tuple[int, ...], target_shape: tuple[int, ...]) -> None:
        """Raises a ComponentError if the meter cannot measure outputs and targets of these shapes.

        It also refuses a k that is the number of classes, whose value is always 1.
        """
        self._check_shapes(model_output_shape, target_shape)
        if self._most >= model_output_shape[1]:
            raise ComponentError(
                f"meter {self.name!r} has topk {self._topk}, but the model has {model_output_shape[1]} outputs: every "
                f"k must be less than the number of classes"
            )

    def _check_shapes(self, model_output_shape: tuple[int, ...], target_shape: tuple[int, ...]) -> None:
        output, target = tuple(model_output_shape), tuple(target_shape)
        if len(output) != 2:
            raise ComponentError(f"meter {self.name!r} takes outputs of shape (N, C), not {output}")
        if not self._target_is_one_hot and (len(target) not in (1, 2) or target[0] != output[0]):
            raise ComponentError(
                f"meter {self.name!r} takes lists of class indices of shape ({output[0]}, L), not {target}"
            )
        if self._target_is_one_hot and target not in ((output[0],), (output[0], 1), output):
            raise ComponentError(
                f"meter {self.name!r} takes targets of shape (N,), (N, 1) or (N, C), here {(output[0],)}, "
                f"{(output[0], 1)} or {output}, not {target}"
            )

    def get_classy_state(self) -> dict[str, Any]:
        """Returns the counts and the options they depend on, as plain values and tensors on the CPU."""
        curr, total = self.unsynced_counts().cpu(), self._total.cpu()
        return {
            "name": self.name,
            "top_k": list(self._topk),
            "total_correct_predictions": total[:-1].clone(),
            f"total_{self.DENOMINATOR}": total[-1:].clone(),
            f"curr_{self.DENOMINATOR}": curr[-1:].clone(),
            "curr_correct_predictions_k": curr[:-1].clone(),
        }

    def set_classy_state(self, state: dict[str, Any]) -> None:
        """Restores what `get_classy_state` returned.

        Raises:
            DamagedCheckpointError: an entry is missing or has another type.
            CheckpointError: the state belongs to another meter, or has other values of k.
        """
        missing = [key for key in ("name", "top_k") if key not in state]
        if missing:
            raise MissingEntryError(f"the checkpoint's state of meter {self.name!r} lacks {', '.join(missing)}")
        if not isinstance(state["top_k"], list | tuple) or not all(type(k) is int for k in state["top_k"]):
            raise self._damaged("top_k is not a list of integers")
        theirs, ours = (state.get("name"), list(state["top_k"])), (self.name, self._topk)
        if theirs != ours:
            raise CheckpointError(
                f"the checkpoint's meter is {theirs[0]!r} with topk {theirs[1]}, this one is {ours[0]!r} with topk "
                f"{ours[1]}: use the meters of the run that wrote the checkpoint"
            )
        self._total = self._vector(state, "total_correct_predictions", f"total_{self.DENOMINATOR}")
        self._curr = self._vector(state, "curr_correct_predictions_k", f"curr_{self.DENOMINATOR}")
        self._pending = []

    def _vector(self, state: dict[str, Any], hits: str, denominator: str) -> torch.Tensor:
        missing = {hits, denominator} - state.keys()
        if missing:
            raise self._damaged(f"it lacks {', '.join(sorted(missing))}")
        try:
            parts = [torch.as_tensor(state[key], dtype=torch.float64).reshape(-1) for key in (hits, denominator)]
        except (TypeError, ValueError, RuntimeError):
            raise self._damaged(f"{hits} or {denominator} has no counts") from None
        if [len(part) for part in parts] != [len(self._topk), 1]:
            raise self._damaged(
                f"it counts {len(parts[0])} hits over {len(parts[1])} denominators, and {len(self._topk)} over 1 are "
                f"needed"
            )
        counts = torch.cat(parts)
        if not bool((counts.isfinite() & (counts >= 0)).all()):
            raise self._damaged("a count is negative or not a number")
        return counts

    def _damaged(self, what: str) -> DamagedCheckpointError:
        return DamagedCheckpointError(f"the checkpoint's state of meter {self.name!r} is damaged: {what}")
