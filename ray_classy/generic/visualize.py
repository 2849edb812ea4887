"""Pictures of models, losses, learning curves and embeddings."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from ray_classy.errors import ArgumentTypeError, ComponentError, UnavailableError
from ray_classy.generic.util import eval_model, is_pos_int, train_model

_log = logging.getLogger(__name__)

UNSUPPORTED_LOSSES = (nn.CosineEmbeddingLoss, nn.PoissonNLLLoss, nn.KLDivLoss, nn.TripletMarginLoss)
REGRESSION_LOSSES = (nn.L1Loss, nn.SmoothL1Loss, nn.MSELoss)
_SCORES = 200


def visdom_connected() -> bool:
    """Returns False: visdom is not supported, as it is no longer maintained."""
    return False


def visdom_connect(server: str | None = None, port: int | None = None) -> None:
    """Raises an error: visdom is not supported.

    Raises:
        UnavailableError: always; the message names what to use instead.
    """
    raise UnavailableError(
        "visdom is no longer maintained: plot with the hook tensorboard_plot, or give a visdom.Visdom as visdom_server"
    )


def plot_learning_curves(
    curves: Mapping[str, Sequence[float]],
    visdom_server: Any = None,
    env: str | None = None,
    win: str | None = None,
    title: str = "",
) -> Any:
    """Plots curves of a run, such as losses, over their steps.

    Args:
        curves: values by name; NaN continues a curve that is shorter than others.
        visdom_server: a `visdom.Visdom`, or what has its method `line`; without one nothing is plotted.
        env, win: environment and window in visdom; None for the default ones.
        title: of the plot.

    Returns:
        What `line` returned; None if nothing is plotted.

    Raises:
        ComponentError: `curves` is not a mapping of names to lists.
    """
    if not isinstance(curves, Mapping) or not all(isinstance(values, Sequence) for values in curves.values()):
        raise ComponentError(f"curves must be lists of numbers by name, not {curves!r:.60}")
    length = max((len(values) for values in curves.values()), default=0)
    table = torch.full((length, len(curves)), float("nan"))
    for column, values in enumerate(curves.values()):
        table[: len(values), column] = torch.tensor(list(values), dtype=torch.float32)
    return _line(visdom_server, table, torch.arange(length), list(curves), env, win, title)


def plot_losses(
    losses: nn.Module | Sequence[nn.Module],
    visdom_server: Any = None,
    env: str | None = None,
    win: str | None = None,
    title: str = "",
) -> Any:
    """Plots losses over the score of the target, from -5 to 5: of a class against one of score 0, or of a number.

    Args:
        losses: a loss, or several in one plot.
        visdom_server, env, win, title: as in `plot_learning_curves`.

    Raises:
        ComponentError: a loss has more arguments than an output and a target (see `UNSUPPORTED_LOSSES`).
    """
    losses = [losses] if isinstance(losses, nn.Module) else list(losses)
    for loss in losses:
        if isinstance(loss, UNSUPPORTED_LOSSES):
            raise ComponentError(f"{type(loss).__name__} cannot be plotted: it compares no output with a target")
    if visdom_server is None:
        return _line(None, None, None, [], env, win, title)
    scores = torch.linspace(-5, 5, _SCORES)
    with torch.no_grad():
        columns = [torch.stack([_loss_of(loss, score) for score in scores]) for loss in losses]
    names = [type(loss).__name__ for loss in losses]
    return _line(visdom_server, torch.stack(columns, 1), scores, names, env, win, title)


def _loss_of(loss: nn.Module, score: torch.Tensor) -> torch.Tensor:
    if isinstance(loss, REGRESSION_LOSSES):
        return loss(score.reshape(1, 1), torch.zeros(1, 1)).mean()
    return loss(torch.stack([torch.zeros(()), score]).reshape(1, 2), torch.ones(1, dtype=torch.int64)).mean()


def _line(server: Any, y: Any, x: Any, legend: list[str], env: str | None, win: str | None, title: str) -> Any:
    if server is None:
        _log.warning("nothing is plotted without a visdom_server; the hook tensorboard_plot plots in tensorboard")
        return None
    return server.line(Y=y, X=x, env=env, win=win, opts={"title": title, "legend": legend})


def plot_model(
    model: nn.Module,
    size: tuple[int, ...] = (3, 224, 224),
    input_key: str | list[str] | None = None,
    writer: Any = None,
    folder: str = "",
    train: bool = False,
) -> None:
    """Draws the graph of a model in tensorboard.

    Args:
        model: called once with zeros, in the mode that `train` says; afterwards it has its own mode again.
        size: shape of one input, without the batch dimension.
        input_key: wrap the input in a dict under this key.
        writer: a `torch.utils.tensorboard.SummaryWriter`.
        folder: without a writer, one is opened for this folder.
        train: draw the model in train mode.

    Raises:
        ComponentError: neither `writer` nor `folder` is given.
        UnavailableError: the package tensorboard is not installed.
    """
    if writer is None and not folder:
        raise ComponentError("plot_model needs a writer (a SummaryWriter), or the folder to open one for")
    from ray_classy.generic.util import get_model_dummy_input

    opened = None
    if writer is None:
        from ray_classy.hooks.summary_writer import WriterPlan

        writer = opened = WriterPlan({"log_dir": folder}).open()
    sample = get_model_dummy_input(model, size, input_key)
    try:
        with train_model(model) if train else eval_model(model):
            writer.add_graph(model, input_to_model=(sample,))
        writer.flush()
    finally:
        if opened is not None:
            opened.close()


def image_map(
    mapcoord: Any,
    dataset: DataLoader | Dataset,
    mapsize: int = 5000,
    imsize: int = 32,
    unnormalize: Callable[[torch.Tensor], torch.Tensor] | None = None,
    snap_to_grid: bool = False,
) -> torch.Tensor:
    """Draws the images of a dataset at given places of one large image, such as those of an embedding.

    Args:
        mapcoord: x and y of each image, shape (N, 2), in any range.
        dataset: N images of shape (C, H, W) with values in [0, 1], as tensors, in tuples or under `input`.
        mapsize, imsize: pixels of a side of the map, and of an image in it.
        unnormalize: called with each image.
        snap_to_grid: place images in a grid without overlap; one whose cell is taken goes to the nearest free one.

    Returns:
        The map, shape (3, mapsize, mapsize), uint8; white where there is no image.

    Raises:
        ComponentError: an argument has an invalid value.
    """
    places = torch.as_tensor(mapcoord, dtype=torch.float64)
    if places.ndim != 2 or places.shape[1] != 2:
        raise ComponentError(f"mapcoord must have shape (N, 2), not {tuple(places.shape)}")
    if not is_pos_int(mapsize) or not is_pos_int(imsize) or not 0 < imsize <= mapsize:
        raise ComponentError(f"imsize {imsize!r} and mapsize {mapsize!r} must be integers with 0 < imsize <= mapsize")
    if not isinstance(dataset, DataLoader | Dataset):
        raise ArgumentTypeError(f"dataset must be a Dataset or a DataLoader, not {type(dataset).__name__}")
    low, high = places.min(0).values, places.max(0).values
    corners = ((places - low) / (high - low).clamp(min=1e-12) * (mapsize - imsize)).round().long()
    picture = torch.full((3, mapsize, mapsize), 255, dtype=torch.uint8)
    cells = mapsize // imsize
    free = torch.ones(cells, cells, dtype=torch.bool)
    for corner, image in zip(corners, _images(dataset), strict=False):
        if snap_to_grid and not free.any():
            break
        x, y = (_free_cell(corner // imsize, free) * imsize if snap_to_grid else corner).tolist()
        picture[:, y : y + imsize, x : x + imsize] = _thumbnail(
            image if unnormalize is None else unnormalize(image), imsize
        )
    return picture


def _images(dataset: Any) -> Iterator[torch.Tensor]:
    batches = isinstance(dataset, DataLoader)
    for item in dataset if batches else (dataset[index] for index in range(len(dataset))):
        image = item["input"] if isinstance(item, Mapping) else item[0] if isinstance(item, tuple | list) else item
        yield from image if batches else [image]


def _free_cell(cell: torch.Tensor, free: torch.Tensor) -> torch.Tensor:
    """Takes the free cell that is nearest to a cell, and returns its x and y."""
    open_cells = free.nonzero()
    nearest = open_cells[((open_cells - cell) ** 2).sum(1).argmin()]
    free[nearest[0], nearest[1]] = False
    return nearest


def _thumbnail(image: torch.Tensor, size: int) -> torch.Tensor:
    small = nn.functional.interpolate(image[None].float(), (size, size), mode="bilinear", antialias=True)[0]
    return (small.clamp(0, 1) * 255).round().to(torch.uint8).expand(3, -1, -1)
