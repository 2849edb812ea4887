"""Position embeddings of vision transformers for another number of patches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.functional import interpolate

from ray_classy.models.model_state import model_part

_TIMM, _TORCHVISION = "pos_embed", "pos_embedding"
_CLASS_TOKENS = (0, 1, 2, 5)
"""Tokens before those of the patches: none, one of the class, one of a teacher (DeiT), four registers."""


def fit_positions(model: Any, state: Mapping[str, Any]) -> tuple[Mapping[str, Any], dict[str, str]]:
    """Resizes the position embeddings in a state to a model's number of patches.

    Args:
        model: the state is for.
        state: as `model.get_classy_state` returns it.

    Returns:
        The state, and what was resized: name to "(1, 197, 384) to (1, 577, 384)".
    """
    given, own = model_part(state), model.state_dict()
    resized: dict[str, str] = {}
    trunk = dict(given["trunk"])
    for name, value in given["trunk"].items():
        if name.rpartition(".")[2] not in (_TIMM, _TORCHVISION) or name not in own:
            continue
        trunk[name] = resized_positions(value, tuple(own[name].shape), antialias=name.endswith(_TIMM))
        if trunk[name] is not value:
            resized[name] = f"{tuple(value.shape)} to {tuple(trunk[name].shape)}"
    return ({**state, "model": {**given, "trunk": trunk}} if resized else state), resized


def resized_positions(positions: Any, shape: tuple[int, ...], antialias: bool) -> Any:
    """Interpolates position embeddings of a square grid of patches (bicubic); those of class tokens stay.

    Args:
        positions: (1, S, D) or (S, 1, D), for S tokens of width D.
        shape: what it should be. A class token that only `positions` has is left out.
        antialias: as timm does (`resample_abs_pos_embed`), with a filter that is wider when the grid shrinks and
            aligned edges of pixels; otherwise as torchvision's `interpolate_embeddings`, with aligned corners.

    Returns:
        The embeddings of that shape; `positions` as they are where they cannot be resized.
    """
    if not isinstance(positions, torch.Tensor) or positions.ndim != 3 or len(shape) != 3:
        return positions
    axis = 1 if positions.shape[0] == 1 else 0
    others = [size for place, size in enumerate(positions.shape) if place != axis]
    if tuple(positions.shape) == shape or others != [size for place, size in enumerate(shape) if place != axis]:
        return positions
    before, tokens = _tokens(positions.shape[axis]), _tokens(shape[axis])
    first = next((count for count in tokens if count in before), None)
    dropped = first is None and 0 in tokens and 1 in before
    if (first is None and not dropped) or 1 not in others:
        return positions
    skipped, kept = (1, 0) if dropped else (first or 0, first or 0)
    flat = positions.detach().reshape(positions.shape[axis], positions.shape[2])
    side, new_side = (math.isqrt(count) for count in (len(flat) - skipped, shape[axis] - kept))
    grid = flat[skipped:].T.reshape(1, -1, side, side).float()
    if side != new_side:
        options: dict[str, Any] = {"antialias": True} if antialias else {"align_corners": True}
        grid = interpolate(grid, size=(new_side, new_side), mode="bicubic", **options)
    patches = grid.flatten(2)[0].T.to(flat.dtype)
    return torch.cat([flat[:kept], patches]).reshape(shape)


def _tokens(length: int) -> list[int]:
    """Returns how many tokens may be before those of a square grid of patches."""
    return [count for count in _CLASS_TOKENS if length > count and math.isqrt(length - count) ** 2 == length - count]
