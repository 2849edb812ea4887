"""Keeps the replicas of a model in step: gradients, buffers, batch-norm statistics."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Literal, get_args

import torch
from torch import nn

from ray_classy.distributed import broadcast, is_distributed_training_run, is_fsdp_module
from ray_classy.errors import ComponentError, TaskError
from ray_classy.torch_compat import wrap_in_ddp


class BroadcastBuffersMode(Enum):
    """When a model's buffers (batch-norm statistics) are copied from rank 0 to all."""

    DISABLED = auto()
    FORWARD_PASS = auto()
    BEFORE_EVAL = auto()


class BatchNormSyncMode(Enum):
    """Whether batch-norm statistics are computed over all replicas together."""

    DISABLED = auto()
    PYTORCH = auto()
    APEX = auto()


Strategy = Literal["ddp", "fsdp", "zero"]


def share_buffers(model: nn.Module) -> None:
    """Copies the model's buffers from rank 0 to all."""
    for buffer in model.buffers():
        broadcast(buffer)


@dataclass(frozen=True)
class DistributedOptions:
    """How several processes train together; in a config, the section `distributed`.

    Args:
        broadcast_buffers_mode: when buffers (batch-norm statistics) are copied from rank 0 to all ranks. (In a config
            `broadcast_buffers`.)
        batch_norm_sync_mode: whether batch-norm statistics are computed over all replicas (needs GPUs).
        batch_norm_sync_group_size: must be 0; only apex had groups.
        find_unused_parameters: as in `torch.nn.parallel.DistributedDataParallel`.
        bucket_cap_mb: as there, in MiB, at least 1.
        fp16_grad_compress: exchange gradients as float16.
        strategy: what is sharded across ranks: "ddp" nothing, "zero" the optimizer's state, "fsdp" parameters and
            gradients as well.

    Raises:
        TaskError: apex is asked for.
        ComponentError: the options do not go together.
    """

    broadcast_buffers_mode: BroadcastBuffersMode = field(
        default=BroadcastBuffersMode.BEFORE_EVAL, metadata={"key": "broadcast_buffers"}
    )
    batch_norm_sync_mode: BatchNormSyncMode = BatchNormSyncMode.DISABLED
    batch_norm_sync_group_size: int = 0
    find_unused_parameters: bool = False
    bucket_cap_mb: int = 25
    fp16_grad_compress: bool = False
    strategy: Strategy = "ddp"

    def __post_init__(self) -> None:
        if self.strategy not in get_args(Strategy):
            raise ComponentError(f"strategy must be one of {', '.join(get_args(Strategy))}, not {self.strategy!r}")
        if self.batch_norm_sync_mode is BatchNormSyncMode.APEX:
            raise TaskError(
                "batch_norm_sync_mode 'apex' needs apex, which is not installed and no longer maintained: use 'pytorch'"
            )
        if self.batch_norm_sync_group_size:
            raise ComponentError(
                f"batch_norm_sync_group_size {self.batch_norm_sync_group_size} needs batch_norm_sync_mode 'apex', "
                f"which is not available: set it to 0 (statistics over all replicas)"
            )
        if self.bucket_cap_mb < 1:
            raise ComponentError(f"bucket_cap_mb must be at least 1, not {self.bucket_cap_mb}")
        if self.strategy == "fsdp":
            self._check_no_option_of_ddp()

    def _check_no_option_of_ddp(self) -> None:
        given = {
            "broadcast_buffers: forward_pass": self.broadcast_buffers_mode is BroadcastBuffersMode.FORWARD_PASS,
            "find_unused_parameters": self.find_unused_parameters,
            "bucket_cap_mb": self.bucket_cap_mb != DistributedOptions.bucket_cap_mb,
            "fp16_grad_compress": self.fp16_grad_compress,
        }
        if any(given.values()):
            raise ComponentError(
                f"{', '.join(name for name in given if given[name])}: an option of DistributedDataParallel, which "
                f"the strategy 'fsdp' does not use: leave it out, or use the strategy 'ddp' or 'zero'"
            )

    def convert_batch_norm(self, model: nn.Module, device: torch.device, world_size: int) -> nn.Module:
        """Returns the model with its batch-norm layers synchronized, if the options ask for it.

        On a single CPU process the model is returned as it is: it has nothing to synchronize with.

        Raises:
            TaskError: synchronized batch norm is asked for on several processes without GPUs.
        """
        if self.batch_norm_sync_mode is not BatchNormSyncMode.PYTORCH:
            return model
        if device.type != "cuda":
            if world_size == 1:
                return model
            raise TaskError(
                "distributed.batch_norm_sync_mode 'pytorch' needs a GPU per worker, and this one trains on the CPU: "
                "set it to 'disabled', or run on GPUs (use_gpu)"
            )
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)

    def wrap(self, model: nn.Module, device: torch.device) -> nn.Module | None:
        """Returns the model in DistributedDataParallel; None in a single process, or if nothing has a gradient.

        With fsdp a sharded model is returned as it is, after its buffers were copied from rank 0.
        """
        if self.strategy == "fsdp":
            if not is_fsdp_module(model):
                return None
            share_buffers(model)
            return model
        if not is_distributed_training_run() or not any(p.requires_grad for p in model.parameters()):
            return None
        wrapped = wrap_in_ddp(
            model,
            device_ids=[device] if device.type == "cuda" else None,
            forward_sync_buffers=self.broadcast_buffers_mode is BroadcastBuffersMode.FORWARD_PASS,
            find_unused_parameters=self.find_unused_parameters,
            bucket_cap_mb=self.bucket_cap_mb,
        )
        if self.fp16_grad_compress:
            from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

            wrapped.register_comm_hook(None, default_hooks.fp16_compress_hook)
        return wrapped

    def share_buffers(self, model: nn.Module) -> None:
        """Copies the model's buffers from rank 0 to all before an evaluation, unless that is disabled."""
        if self.broadcast_buffers_mode is not BroadcastBuffersMode.DISABLED:
            share_buffers(model)
