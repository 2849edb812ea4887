"""Random colour noise along the principal components of natural images."""

from __future__ import annotations

import torch

from ray_classy.dataset.transforms.classy_transform import ClassyTransform, register_transform
from ray_classy.errors import ComponentError, DataError

# The eigenvalues and (for channels in [0, 255]) eigenvectors of ImageNet's colours; the vectors are the columns.
_EIGVAL = [0.2175, 0.0188, 0.0045]
_EIGVEC = [
    [-144.7125, 183.396, 102.2295],
    [-148.104, -1.1475, -207.57],
    [-148.818, -177.174, 107.1765],
]


@register_transform("lighting")
class LightingTransform(ClassyTransform):
    """Adds a random multiple of each principal component of colour to all pixels of an image.

    With a_i drawn from N(0, alphastd^2) for each image, every pixel gains sum_i a_i eigval_i eigvec_i / 255
    (section 4.1 of Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks,
    2012). The image is a float tensor (3, H, W) in [0, 1]; the result may lie slightly outside that range.

    Args:
        alphastd: standard deviation of the coefficients, at least 0; 0 changes nothing.
        eigval: the three eigenvalues.
        eigvec: the eigenvectors as columns of a 3 x 3 matrix, for channels in [0, 255].

    Raises:
        ComponentError: an argument has an invalid value.
        DataError: (when called) the image is not such a tensor.
    """

    draws = "torch"

    def __init__(
        self, alphastd: float = 0.1, eigval: list[float] = _EIGVAL, eigvec: list[list[float]] = _EIGVEC
    ) -> None:
        if alphastd < 0:
            raise ComponentError(f"lighting: alphastd must be at least 0, not {alphastd!r}")
        self.alphastd = alphastd
        self.eigval = torch.tensor(eigval, dtype=torch.float32)
        self.eigvec = torch.tensor(eigvec, dtype=torch.float32) / 255
        if self.eigval.shape != (3,) or self.eigvec.shape != (3, 3):
            raise ComponentError(
                f"lighting: eigval must have 3 numbers and eigvec 3 x 3, "
                f"not {tuple(self.eigval.shape)} and {tuple(self.eigvec.shape)}"
            )

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        if not isinstance(image, torch.Tensor) or not image.is_floating_point() or image.shape[-3:-2] != (3,):
            raise DataError(
                f"lighting needs a float tensor (3, H, W), not {_kind(image)}: put it after ToTensor in `transforms`"
            )
        if bool(image.min() < 0) or bool(image.max() > 1):
            raise DataError("lighting needs an image in [0, 1]: put it before Normalize in `transforms`")
        if self.alphastd == 0:
            return image
        alpha = torch.randn(3) * self.alphastd
        shift = self.eigvec @ (alpha * self.eigval)
        return image + shift.to(image).view(3, 1, 1)


def _kind(image: object) -> str:
    if isinstance(image, torch.Tensor):
        return f"{image.dtype} {tuple(image.shape)}"
    return type(image).__name__
