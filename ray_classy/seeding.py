"""Seeds that depend only on what is drawn for, never on who draws it or when."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from ray_classy.errors import DamagedCheckpointError

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def derive_seed(*parts: int, after: int = 0) -> int:
    """A 63-bit seed mixed from integers, the same on every machine.

    Args:
        *parts: the integers.
        after: what `mix_parts` returned for the integers before these; 0 if there are none.
    """
    return mix_parts(*parts, after=after) >> 1


def mix_parts(*parts: int, after: int = 0) -> int:
    """Mixes integers into a 64-bit state: seeds that start with the same integers mix those only once.

    The mixing step is SplitMix64's finaliser (Steele, Lea & Flood, "Fast splittable pseudorandom number generators",
    OOPSLA 2014).
    """
    state = after
    for part in parts:
        state = (state + (part & _MASK) + _GOLDEN) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state


def row_uniforms(seed: int, epoch: int, rows: np.ndarray, purpose: int, count: int) -> np.ndarray:
    """Random numbers that belong to rows, whoever draws them: shape (rows, count), float64, evenly in [0, 1).

    Args:
        seed: the run's seed.
        epoch: pass over the dataset.
        rows: row numbers, shape (rows,).
        purpose: what is drawn for; other numbers for another purpose.
        count: numbers per row.
    """
    key = np.uint64(derive_seed(seed, epoch, purpose))
    with np.errstate(over="ignore"):
        states = mix64(key + np.asarray(rows).astype(np.uint64)[:, None] * np.uint64(_GOLDEN))
        mixed = mix64(states + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN))
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def mix64(state: np.ndarray) -> np.ndarray:
    """Mixes the bits of 64-bit numbers (uint64, any shape): SplitMix64's finaliser, a bijection."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def seed_host(seed: int) -> None:
    """Seeds Python's, NumPy's and torch's CPU generators."""
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    torch.default_generator.manual_seed(seed)


def seed_all(seed: int) -> None:
    """Seeds every generator of this process, those of the devices in use included."""
    seed_host(seed)
    seed_torch(seed)


def seed_torch(seed: int) -> None:
    """Seeds torch's generators: of the CPU, and of the devices in use."""
    torch.default_generator.manual_seed(seed)
    # torch.manual_seed would format a stack trace on every call while CUDA is not initialised.
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def use_deterministic_algorithms() -> None:
    """Makes torch use algorithms that give the same bits every time; an operation that has none raises an error."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # which cuBLAS reads when it is first used
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def get_rng_state() -> dict[str, Any]:
    """The states of all generators of this process, as tensors and plain values."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    state: dict[str, Any] = {
        "python": [version, list(words), gauss],
        "numpy": [str(name), torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: dict[str, Any]) -> None:
    """Puts back what `get_rng_state` returned.

    Raises:
        DamagedCheckpointError: `state` is something else.
    """
    try:
        version, words, gauss = state["python"]
        random.setstate((version, tuple(words), gauss))
        name, keys, position, has_gauss, cached = state["numpy"]
        if not 0 <= position <= len(keys):  # which NumPy does not check
            raise ValueError(f"position {position} of {len(keys)} numbers")
        np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
        torch.set_rng_state(state["torch"])
        if "cuda" in state and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["cuda"])
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise DamagedCheckpointError(f"the checkpoint's states of the random generators are damaged: {error}") from None


@contextmanager
def host_rng_kept() -> Iterator[None]:
    """Leaves the host generators after the block as they were before it."""
    python, numpy_state, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)
