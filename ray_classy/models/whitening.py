"""A first convolution that whitens the patches of the training images."""

from __future__ import annotations

import torch
from torch import nn


class WhiteningConv2d(nn.Module):
    """A convolution whose filters whiten patches of images, and are not trained (Jordan 2024, arXiv:2404.00498, 3.2).

    The filters are the eigenvectors of the patches' second moments, each divided by the root of its eigenvalue, and
    the negatives of these. The hook `whitening` makes them of the training images; before, they are those of white
    noise. They are part of the model's state. The bias starts at zero and is trained.

    Args:
        in_channels: of the images.
        kernel_size: height and width of a patch.
        eps: is added to the eigenvalues.

    The input is (N, in_channels, H, W), the output (N, out_channels, H - kernel_size + 1, W - kernel_size + 1).

    Attributes:
        out_channels: 2 * in_channels * kernel_size**2.
        num_patches: a tensor: of how many patches the filters were made; 0 for those of white noise.
    """

    def __init__(self, in_channels: int = 3, kernel_size: int = 2, eps: float = 5e-4) -> None:
        super().__init__()
        self.in_channels, self.kernel_size, self.eps = in_channels, kernel_size, eps
        self.patch_values = in_channels * kernel_size**2
        self.out_channels = 2 * self.patch_values
        self.weight: torch.Tensor
        self.num_patches: torch.Tensor
        vectors = torch.eye(self.patch_values) / (1 + eps) ** 0.5
        self.register_buffer("weight", self._as_filters(vectors))
        self.register_buffer("num_patches", torch.tensor(0))
        self.bias = nn.Parameter(torch.zeros(self.out_channels))

    def moments(self, images: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Returns the sums of the products of all pairs of values of a patch, and the number of patches.

        Args:
            images: shape (N, in_channels, H, W).

        Returns:
            The sums over all patches of all images, shape (V, V), float64, with V values in a patch; the number.
        """
        patches = nn.functional.unfold(images.double(), self.kernel_size).transpose(1, 2).flatten(0, 1)
        return patches.T @ patches, len(patches)

    def whiten(self, moments: torch.Tensor, num_patches: int) -> None:
        """Makes the filters.

        Args:
            moments: as `moments` returns them, on the CPU.
            num_patches: the number of patches that they are sums over, at least 1.
        """
        values, vectors = torch.linalg.eigh(moments / num_patches)
        scaled = vectors.flip(1).T / (values.flip(0).clamp(min=0)[:, None] + self.eps).sqrt()
        with torch.no_grad():
            self.weight.copy_(self._as_filters(scaled))
            self.num_patches.fill_(num_patches)

    def _as_filters(self, vectors: torch.Tensor) -> torch.Tensor:
        filters = torch.cat([vectors, -vectors]).float()
        return filters.view(self.out_channels, self.in_channels, self.kernel_size, self.kernel_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(x, self.weight.to(x.dtype), self.bias)

    def flops(self, x: torch.Tensor) -> int:
        """Returns the multiplications for an input, as those of any convolution are counted."""
        height, width = (side - self.kernel_size + 1 for side in x.shape[2:])
        return x.shape[0] * self.out_channels * self.patch_values * height * width
