"""A hook that makes a whitening convolution of the training images."""

from __future__ import annotations

import logging
from typing import Any

import torch

from ray_classy.distributed import broadcast, broadcast_object, is_primary
from ray_classy.errors import ComponentError, RayClassyError, TaskError
from ray_classy.hooks.classy_hook import ClassyHook, register_hook
from ray_classy.models.whitening import WhiteningConv2d
from ray_classy.seeding import derive_seed, host_rng_kept, seed_host

_log = logging.getLogger(__name__)
_AT_ONCE = 64


@register_hook("whitening")
class WhiteningHook(ClassyHook):
    """Makes the model's whitening convolution of training images, and trains its bias in the first epochs only.

    At the start of a run without weights to start from, rank 0 reads the first rows of the train dataset, with its
    transforms, and gives the filters to all ranks (Jordan 2024, arXiv:2404.00498, section 3.2). A run that is resumed,
    or starts from weights, has them from there.

    Args:
        num_images: rows to read, at least 1; all rows, if there are fewer.
        bias_epochs: epochs in which the bias is trained, at least 0; a fraction is rounded up to whole phases. None
            for all.

    Raises:
        ComponentError: an argument is impossible.
        TaskError: (before the start) the model has no whitening convolution.
    """

    changes_weights = True
    on_phase_start = on_step = on_end = ClassyHook._noop

    def __init__(self, num_images: int = 5000, bias_epochs: float | None = None) -> None:
        super().__init__()
        if type(num_images) is not int or num_images < 1:
            raise ComponentError(f"num_images must be an integer of at least 1, not {num_images!r}")
        if bias_epochs is not None and not bias_epochs >= 0:
            raise ComponentError(f"bias_epochs must be a number of at least 0 or null, not {bias_epochs!r}")
        self.num_images = num_images
        self.bias_epochs = bias_epochs

    def check(self, task: Any) -> None:
        """Refuses a model without a whitening convolution."""
        _whitening_layer(task.base_model)

    def on_start(self, task: Any) -> None:
        """Makes the filters, unless the weights of the model have them."""
        layer = _whitening_layer(task.base_model)
        if not task.test_only:
            if not int(layer.num_patches):
                self._whiten(layer, task)
            self._choose_training(layer, task)

    def on_phase_end(self, task: Any) -> None:
        """Stops the training of the bias where its epochs end."""
        if task.train:
            self._choose_training(_whitening_layer(task.base_model), task)

    def _choose_training(self, layer: WhiteningConv2d, task: Any) -> None:
        # Between phases, as the wrapper of the model, which counts on the gradients, is re-created for each.
        finished = task.train_phase_idx + 1
        trained = self.bias_epochs is None or finished < self.bias_epochs * task.train_phases_per_epoch
        layer.bias.requires_grad = trained
        if not trained:
            layer.bias.grad = None  # an optimizer leaves a parameter without one alone

    def _whiten(self, layer: WhiteningConv2d, task: Any) -> None:
        failed: RayClassyError | None = None
        if is_primary():
            try:
                layer.whiten(*self._moments(layer, task))
            except RayClassyError as error:
                failed = error
        failed = broadcast_object(failed)
        if failed is not None:
            raise failed
        broadcast(layer.weight)
        broadcast(layer.num_patches)

    def _moments(self, layer: WhiteningConv2d, task: Any) -> tuple[torch.Tensor, int]:
        """Sums over the patches of the first rows."""
        dataset = task.datasets["train"]
        rows = min(self.num_images, len(dataset))
        total, patches = torch.zeros(layer.patch_values, layer.patch_values, dtype=torch.float64), 0
        with host_rng_kept():
            seed_host(derive_seed(task.seed, 0))
            for begin in range(0, rows, _AT_ONCE):
                images = [dataset[row]["input"] for row in range(begin, min(begin + _AT_ONCE, rows))]
                for image in images:
                    _check_image(image, layer)
                same = len({image.shape for image in images}) == 1
                for some in [torch.stack(images)] if same else [image[None] for image in images]:
                    sums, number = layer.moments(some)
                    total, patches = total + sums, patches + number
        _log.info("whitened %d patches of %d training images", patches, rows)
        return total, patches


def _whitening_layer(model: Any) -> WhiteningConv2d:
    layer = next((module for module in model.modules() if isinstance(module, WhiteningConv2d)), None)
    if layer is None:
        raise TaskError(
            f"the hook whitening needs a model with a whitening convolution, such as airbench; "
            f"{type(model).__name__} has none: leave the hook out"
        )
    return layer


def _check_image(image: Any, layer: WhiteningConv2d) -> None:
    shape = tuple(image.shape) if isinstance(image, torch.Tensor) else type(image).__name__
    if not isinstance(image, torch.Tensor) or image.ndim != 3 or image.shape[0] != layer.in_channels:
        raise TaskError(f"the hook whitening reads images of {layer.in_channels} channels, (C, H, W), not {shape}")
    if min(image.shape[1:]) < layer.kernel_size:
        raise TaskError(f"an image of shape {shape} has no patch of {layer.kernel_size} x {layer.kernel_size} pixels")
