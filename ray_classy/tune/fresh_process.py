"""Trials that share a process, and do not see what an earlier one changed in it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch
import torch.distributed as dist

from ray_classy.registry import registrations_restored


@contextlib.contextmanager
def fresh_process() -> Iterator[None]:
    """Restores after a trial what it may have changed: switches of torch, the environment, the folder, registries."""
    folder, threads = os.getcwd(), torch.get_num_threads()
    dtype, grad = torch.get_default_dtype(), torch.is_grad_enabled()
    deterministic = torch.get_deterministic_debug_mode()
    cudnn = torch.backends.cudnn
    flags = cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32
    precision = torch.get_float32_matmul_precision()
    environment = dict(os.environ)
    try:
        with registrations_restored():
            yield
    finally:
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)
        if torch.get_deterministic_debug_mode() != deterministic:  # setting it imports torch's compiler
            torch.use_deterministic_algorithms(deterministic > 0, warn_only=deterministic == 1)
        cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = flags
        torch.set_float32_matmul_precision(precision)
        torch.set_num_threads(threads)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
