"""Position embeddings of sines and cosines in two dimensions."""

from __future__ import annotations

import torch


def sincos2d(height: int, width: int, dim: int, temperature: float = 10_000.0) -> torch.Tensor:
    """Returns fixed embeddings of the positions in a grid, line by line (Beyer et al. 2022, arXiv:2205.01580).

    A position (y, x) has sin(x w), cos(x w), sin(y w) and cos(y w) for dim / 4 frequencies w, which fall from 1 to
    1 / temperature in equal ratios.

    Args:
        height, width: sides of the grid, at least 1.
        dim: width of an embedding, a multiple of 4 and at least 8.
        temperature: the inverse of the lowest frequency.

    Returns:
        shape (height * width, dim).
    """
    frequencies = temperature ** -torch.linspace(0, 1, dim // 4, dtype=torch.float64)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    angles = [position.flatten()[:, None] * frequencies for position in (x, y)]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1).float()
