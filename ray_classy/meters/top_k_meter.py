"""The base class of meters that count hits among the k highest scores."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch

from ray_classy.distributed import all_reduce_sum
from ray_classy.errors import CheckpointError, ComponentError, DamagedCheckpointError
from ray_classy.meters.classy_meter import ClassyMeter


class TopKMeter(ClassyMeter):
    """Counts hits for every k in `topk`, and their common denominator.

    The counts are one vector on the device of the outputs: the hits of each k, then the denominator. There are two
    vectors: the counts of all processes up to the last synchronisation, and those of this process since. They are
    float64, which is exact for counts up to 2^53 and also fits the mass of soft targets, on every process.

    Args:
        topk: the values of k, each at least 1.

    Raises:
        ComponentError: `topk` is not a list of such integers.
    """

    DENOMINATOR = "sample_count"
    """The denominator's name in the state."""

    def __init__(self, topk: list[int]) -> None:
        if (
            not isinstance(topk, Sequence)
            or isinstance(topk, str)
            or not topk
            or not all(type(k) is int and k >= 1 for k in topk)
        ):
            raise ComponentError(f"topk must be a list of integers of at least 1, such as [1, 5], not {topk!r}")
        self._topk = list(topk)
        self._total: torch.Tensor
        self._curr: torch.Tensor
        self.reset()

    @abstractmethod
    def _count(self, model_output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Counts one batch: returns a float64 vector of the hits of each k, then the addition to the denominator."""

    def _scale(self, k: int) -> float:
        """Returns the factor of the denominator for this k."""
        return 1.0

    @property
    def value(self) -> dict[str, float]:
        """The hits as a fraction of the denominator, in [0, 1], by name (`top_{k}`); 0 before any update."""
        *hits, denominator = (self._total + self._curr).tolist()
        return {
            f"top_{k}": hit / (denominator * self._scale(k)) if denominator else 0.0
            for k, hit in zip(self._topk, hits, strict=True)
        }

    @torch.no_grad()
    def update(self, model_output: torch.Tensor, target: torch.Tensor, **kwargs: Any) -> None:
        """Counts one batch.

        Args:
            model_output: scores of shape (N, C).
            target: class indices of shape (N,) or (N, 1), or values per class, multi-hot or soft, of shape (N, C).

        Raises:
            ComponentError: the shapes do not match.
        """
        self.validate(model_output.shape, target.shape)
        if self._curr.device != model_output.device:
            self._curr, self._total = self._curr.to(model_output.device), self._total.to(model_output.device)
        # Not in place: tensors made in inference mode cannot be changed in place outside of it.
        self._curr = self._curr + self._count(model_output, target)

    def reset(self) -> None:
        """Resets all counts to 0."""
        self._total = torch.zeros(len(self._topk) + 1, dtype=torch.float64)
        self._curr = torch.zeros_like(self._total)

    def sync_state(self) -> None:
        """Sums the counts of all processes, in one reduction; every process must call it."""
        self._total = self._total + all_reduce_sum(self._curr.clone())
        self._curr = torch.zeros_like(self._total)

    def validate(self, model_output_shape: tuple[int, ...], target_shape: tuple[int, ...]) -> None:
        """Raises a ComponentError if the meter cannot measure outputs and targets of these shapes."""
        output, target = tuple(model_output_shape), tuple(target_shape)
        if len(output) != 2:
            raise ComponentError(f"meter {self.name!r} takes outputs of shape (N, C), not {output}")
        if target not in ((output[0],), (output[0], 1), output):
            raise ComponentError(
                f"meter {self.name!r} takes targets of shape (N,), (N, 1) or (N, C), here {(output[0],)}, "
                f"{(output[0], 1)} or {output}, not {target}"
            )
        if max(self._topk) >= output[1]:
            raise ComponentError(
                f"meter {self.name!r} has topk {self._topk}, but the model has {output[1]} outputs: every k must be "
                f"less than the number of classes"
            )

    def get_classy_state(self) -> dict[str, Any]:
        """Returns the counts and the options they depend on, as plain values and tensors on the CPU."""
        total, curr = self._total.cpu(), self._curr.cpu()
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
        if not isinstance(state.get("top_k"), list):
            raise self._damaged("top_k is not a list")
        theirs, ours = (state.get("name"), state["top_k"]), (self.name, self._topk)
        if theirs != ours:
            raise CheckpointError(
                f"the checkpoint's meter is {theirs[0]!r} with topk {theirs[1]}, this one is {ours[0]!r} with topk "
                f"{ours[1]}: use the meters of the run that wrote the checkpoint"
            )
        self._total = self._vector(state, "total_correct_predictions", f"total_{self.DENOMINATOR}")
        self._curr = self._vector(state, "curr_correct_predictions_k", f"curr_{self.DENOMINATOR}")

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
