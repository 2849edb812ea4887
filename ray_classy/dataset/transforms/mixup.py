"""Mixup and CutMix of whole batches."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, Literal, NamedTuple

import torch

from ray_classy.dataset.transforms.classy_transform import ClassyTransform
from ray_classy.errors import ComponentError, DataError
from ray_classy.generic.util import map_tensors


class _Draw(NamedTuple):
    """The random choices for each of k units (a batch, a pair or a row), on the CPU.

    Attributes:
        lam: weight of a row's own target, shape (k,).
        blend: weight of a row's own pixels outside the box (1 for CutMix), shape (k,).
        boxes: top, bottom, left and right of the pasted box, empty for mixup, shape (k, 4), int64.
    """

    lam: torch.Tensor
    blend: torch.Tensor
    boxes: torch.Tensor


class MixupTransform(ClassyTransform):
    """Mixes each row of a batch with its partner in the reversed batch, inputs and targets alike.

    Mixup (arXiv:1710.09412) blends, x = lam x_i + (1 - lam) x_j with lam from Beta(alpha, alpha); CutMix
    (arXiv:1905.04899) pastes a box of the partner's pixels, of area 1 - lam. Targets become a float matrix
    lam y_i + (1 - lam) y_j. The middle row of an odd batch is its own partner. Random numbers come from
    torch's global CPU generator.

    Args:
        mixup_alpha: parameter of mixup's Beta distribution, at least 0; 0 disables mixup.
        num_classes: number of classes, needed when targets are class indices; of several targets by name. In a config
            it is by default that of the heads.
        cutmix_alpha: the same for CutMix.
        cutmix_minmax: (least, most) side of the box as a share of the image's side, both in [0, 1]; the sides are then
            uniform in that range, and `cutmix_alpha` is only compared with 0.
        mix_prob: probability of mixing at all, in [0, 1].
        switch_prob: probability of CutMix where both are enabled, in [0, 1].
        mode: one draw per "batch", per "pair" of partners, or per row ("elem").
        correct_lam: take lam from the box after it was clipped at the image's border.
        label_smoothing: class indices become 1 - s + s/C and s/C, s in [0, 1].
        ignore_index: a class index of rows without a label, which add nothing to the mixed targets. In a config it is
            by default that of the loss. Values per class that are equal to it stay so, also where their partner's are.

    Raises:
        ComponentError: an argument has an invalid value.
        DataError: (when called) the batch cannot be mixed.
    """

    def __init__(
        self,
        mixup_alpha: float,
        num_classes: int | dict[str, int] | None = None,
        cutmix_alpha: float = 0,
        cutmix_minmax: tuple[float, float] | None = None,
        mix_prob: float = 1.0,
        switch_prob: float = 0.5,
        mode: Literal["batch", "pair", "elem"] = "batch",
        correct_lam: bool = True,
        label_smoothing: float = 0.0,
        ignore_index: int = -100,
    ) -> None:
        for name, value in (("mix_prob", mix_prob), ("switch_prob", switch_prob), ("label_smoothing", label_smoothing)):
            if not isinstance(value, int | float) or not 0 <= value <= 1:
                raise ComponentError(f"{name} must lie in [0, 1], not {value!r}")
        alphas = (mixup_alpha, cutmix_alpha)
        if not all(isinstance(alpha, int | float) and alpha >= 0 for alpha in alphas):
            raise ComponentError(f"the alphas must be numbers of at least 0, not {mixup_alpha!r} and {cutmix_alpha!r}")
        if cutmix_minmax is not None:
            if len(cutmix_minmax) != 2 or not 0 <= cutmix_minmax[0] <= cutmix_minmax[1] <= 1:
                raise ComponentError(
                    f"cutmix_minmax must be two shares of the side, 0 <= least <= most <= 1, not {cutmix_minmax!r}"
                )
            cutmix_alpha = cutmix_alpha or 1.0
        if mixup_alpha == 0 and cutmix_alpha == 0:
            raise ComponentError("neither mixup nor cutmix is on: set alpha or cutmix_alpha above 0")
        if mode not in ("batch", "pair", "elem"):
            raise ComponentError(f"mode must be 'batch', 'pair' or 'elem', not {mode!r}")
        counts = list(num_classes.values()) if isinstance(num_classes, Mapping) else [num_classes]
        if any(count is not None and count < 1 for count in counts):
            raise ComponentError(f"num_classes must be at least 1, not {num_classes!r}")
        self.mixup_alpha = mixup_alpha
        self.num_classes = num_classes
        self.cutmix_alpha = cutmix_alpha
        self.cutmix_minmax = cutmix_minmax
        self.mix_prob = mix_prob
        self.switch_prob = switch_prob
        self.mode = mode
        self.correct_lam = correct_lam
        self.label_smoothing = label_smoothing
        self.ignore_index = ignore_index

    def __call__(self, sample: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Replaces `input` and `target` of a sample by mixed ones, and returns it.

        Args:
            sample: a batch. `input` is a tensor (N, C, H, W); of anything else (video, a dict of tensors), all
                tensors of 3 dimensions or more are blended, with one draw for the batch. `target` holds
                class indices (N,) or rows of class weights (N, C).
        """
        inputs, target = sample["input"], sample["target"]
        if isinstance(inputs, torch.Tensor) and inputs.ndim == 4:
            rows, (height, width) = inputs.shape[0], inputs.shape[-2:]
            if self.mode == "batch":
                draw = self._draw(1, height, width)
                mixed = _mix_all(inputs, draw)
            else:
                draw = self._draw(rows if self.mode == "elem" else (rows + 1) // 2, height, width)
                if self.mode == "pair":
                    row = torch.arange(rows)
                    pair = torch.minimum(row, rows - 1 - row)
                    draw = _Draw(draw.lam[pair], draw.blend[pair], draw.boxes[pair])
                mixed = _mix_rowwise(inputs, draw)
        else:
            if self.mixup_alpha == 0:
                raise DataError("mixup: cutmix needs inputs of shape (N, C, H, W); for others set mixup_alpha above 0")
            draw = self._draw(1)
            mixed = _blend_all(inputs, float(draw.lam[0]))
        sample["target"] = self._mix_target(target, draw.lam)
        sample["input"] = mixed
        return sample

    def _draw(self, units: int, height: int = 0, width: int = 0) -> _Draw:
        """Makes the random choices for each unit; without a height, plain mixup only."""
        mixes = torch.rand(units) < self.mix_prob
        if height == 0 or self.cutmix_alpha == 0:
            cuts = torch.zeros(units, dtype=torch.bool)
        elif self.mixup_alpha == 0:
            cuts = mixes
        else:
            cuts = mixes & (torch.rand(units) < self.switch_prob)
        lam = torch.ones(units, dtype=torch.float64)
        for alpha, chosen in ((self.mixup_alpha, mixes & ~cuts), (self.cutmix_alpha, cuts)):
            if bool(chosen.any()):
                drawn = torch.distributions.Beta(*torch.tensor([alpha, alpha], dtype=torch.float64)).sample((units,))
                lam = torch.where(chosen, drawn, lam)
        boxes = torch.zeros(units, 4, dtype=torch.int64)
        blend = torch.where(cuts, 1.0, lam)
        if bool(cuts.any()):
            edges, corrected = cutmix_bbox_and_lam(
                (height, width), lam, self.cutmix_minmax, self.correct_lam, count=units
            )
            boxes[cuts] = torch.stack(edges, dim=1)[cuts]
            lam = torch.where(cuts, corrected, lam)
        return _Draw(lam, blend, boxes)

    def _mix_target(self, target: Any, lam: torch.Tensor, name: str = "") -> Any:
        """Mixes targets (N,) or (N, C) to weights (N, C), or each of several; `lam` has shape (1,) or (N,)."""
        if isinstance(target, Mapping):
            return {key: self._mix_target(one, lam, key) for key, one in target.items()}
        if target.ndim == 1:
            classes = self.num_classes.get(name) if isinstance(self.num_classes, Mapping) else self.num_classes
            if classes is None:
                which = f"those of {name!r}" if name else "targets"
                raise ComponentError(f"mixup: {which} are class indices, so num_classes must be set")
            ignored = target == self.ignore_index
            weights = one_hot_smoothed(target.masked_fill(ignored, 0), classes, self.label_smoothing)
            return _mix_rows(weights.masked_fill_(ignored.unsqueeze(1), 0), lam)
        elif target.ndim == 2:
            weights = target if target.is_floating_point() else target.float()
        else:
            raise DataError(f"mixup: targets must have shape (N,) or (N, C), not {tuple(target.shape)}")
        unknown = (weights == self.ignore_index) | (weights.flip(0) == self.ignore_index)
        return _mix_rows(weights, lam).masked_fill(unknown, self.ignore_index)


def one_hot(
    x: torch.Tensor,
    num_classes: int,
    on_value: float = 1.0,
    off_value: float = 0.0,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """Returns a row for each class index: `on_value` at the index and `off_value` elsewhere, (N, num_classes), float32.

    Args:
        x: class indices (N,), in [0, num_classes).
        num_classes: the width of a row.
        on_value: the value at the index.
        off_value: the other values.
        device: of the result; that of `x` if None.
    """
    x = x.to(device) if device is not None else x
    # not torch's one_hot(), which waits for the device to find the largest index
    rows = torch.full((len(x), num_classes), off_value, dtype=torch.float32, device=x.device)
    return rows.scatter_(1, x.long().view(-1, 1), on_value)


def one_hot_smoothed(x: torch.Tensor, num_classes: int, smoothing: float) -> torch.Tensor:
    """Returns rows of 1 - s + s/C at each class index and s/C elsewhere; see `one_hot`."""
    off = smoothing / num_classes
    return one_hot(x, num_classes, 1 - smoothing + off, off)


def mixup_target(
    target: torch.Tensor, num_classes: int, lam: float | torch.Tensor = 1.0, smoothing: float = 0.0
) -> torch.Tensor:
    """Returns the targets of rows that are mixed with their partners in the reversed batch, (N, C).

    Args:
        target: class indices (N,), or weights per class (N, C).
        num_classes: the number of classes; of weights it is not asked for.
        lam: the weight of a row's own target: a number, or a tensor (1,) or (N,).
        smoothing: class indices become 1 - s + s/C and s/C; weights are not smoothed.
    """
    weights = one_hot_smoothed(target, num_classes, smoothing) if target.ndim == 1 else target.float()
    return _mix_rows(weights, torch.as_tensor(lam, dtype=torch.float32).reshape(-1))


def rand_bbox(
    img_shape: Sequence[int], lam: float | torch.Tensor, margin: float = 0.0, count: int = 1
) -> tuple[torch.Tensor, ...]:
    """Draws boxes of area 1 - lam around uniform centres, which are clipped at the border of the image.

    Args:
        img_shape: (..., H, W).
        lam: a number or a tensor (count,), in [0, 1].
        margin: keeps centres this share of a box's side away from the border.
        count: number of boxes.

    Returns:
        Top, bottom, left and right edges, int64 of shape (count,).
    """
    share = (1 - torch.as_tensor(lam, dtype=torch.float64)).sqrt().expand(count)
    edges = []
    for side in img_shape[-2:]:
        length = (side * share).long()
        free = (margin * length).long()
        centre = (free + torch.rand(count, dtype=torch.float64) * (side - 2 * free)).long()
        edges += [(centre - length // 2).clamp(0, side), (centre + length // 2).clamp(0, side)]
    return tuple(edges)


def rand_bbox_minmax(img_shape: Sequence[int], minmax: Sequence[float], count: int = 1) -> tuple[torch.Tensor, ...]:
    """Draws boxes whose sides are uniform in a range, anywhere in the image.

    Args:
        img_shape: (..., H, W).
        minmax: the least and the most side, as shares of the image's side.
        count: number of boxes.

    Returns:
        Top, bottom, left and right edges, int64 of shape (count,).
    """
    edges = []
    for side in img_shape[-2:]:
        position = torch.rand(count, dtype=torch.float64)
        least, most = (int(side * share) for share in minmax)
        length = torch.randint(least, most + 1, (count,))
        begin = (position * (side - length + 1)).long()
        edges += [begin, begin + length]
    return tuple(edges)


def cutmix_bbox_and_lam(
    img_shape: Sequence[int],
    lam: float | torch.Tensor,
    ratio_minmax: Sequence[float] | None = None,
    correct_lam: bool = True,
    count: int = 1,
) -> tuple[tuple[torch.Tensor, ...], float | torch.Tensor]:
    """Draws the boxes of CutMix and returns them with the weights of the rows' own targets.

    Args:
        img_shape: (..., H, W).
        lam: as for `rand_bbox`.
        ratio_minmax: as for `rand_bbox_minmax`, which then draws the boxes; None for boxes of area 1 - lam.
        correct_lam: compute lam from the clipped box; with `ratio_minmax` it always is.
        count: number of boxes.
    """
    if ratio_minmax is not None:
        edges = rand_bbox_minmax(img_shape, ratio_minmax, count)
    else:
        edges = rand_bbox(img_shape, lam, count=count)
    if correct_lam or ratio_minmax is not None:
        top, bottom, left, right = edges
        lam = 1 - ((bottom - top) * (right - left)).double() / (img_shape[-2] * img_shape[-1])
    return edges, lam


def _mix_rows(weights: torch.Tensor, lam: torch.Tensor) -> torch.Tensor:
    """Mixes rows (N, C) with those of the reversed batch; `lam` has shape (1,) or (N,)."""
    share = _moved(lam, weights).unsqueeze(1)
    return weights * share + weights.flip(0) * (1 - share)


def _moved(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Copies values from the CPU to the device and type of `like`, without waiting for the device."""
    return values.to(like.dtype).to(like.device, non_blocking=True)


def _as_float(images: torch.Tensor) -> torch.Tensor:
    return images if images.is_floating_point() else images.float()


def _mix_all(images: torch.Tensor, draw: _Draw) -> torch.Tensor:
    """Mixes all rows with the same choice."""
    images = _as_float(images)
    blend, (top, bottom, left, right) = float(draw.blend[0]), draw.boxes[0].tolist()
    if blend < 1:
        return torch.lerp(images.flip(0), images, blend)
    mixed = images.clone()
    mixed[..., top:bottom, left:right] = images[..., top:bottom, left:right].flip(0)
    return mixed


def _mix_rowwise(images: torch.Tensor, draw: _Draw) -> torch.Tensor:
    """Mixes each row with its own choice."""
    images = _as_float(images)
    height, width = images.shape[-2:]
    top, bottom, left, right = draw.boxes.to(images.device, non_blocking=True).unbind(1)
    y = torch.arange(height, device=images.device)
    x = torch.arange(width, device=images.device)
    in_rows = (y >= top[:, None]) & (y < bottom[:, None])
    in_columns = (x >= left[:, None]) & (x < right[:, None])
    inside = in_rows[:, None, :, None] & in_columns[:, None, None, :]
    partners = images.flip(0)
    blend = _moved(draw.blend, images).view(-1, 1, 1, 1)
    return torch.where(inside, partners, torch.lerp(partners, images, blend))


def _blend_all(inputs: Any, lam: float) -> Any:
    """Blends every tensor of 3 or more dimensions in nested dicts, lists and tuples."""
    blended = 0

    def blend(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal blended
        if tensor.ndim < 3:
            return tensor
        blended += 1
        return torch.lerp(_as_float(tensor.flip(0)), _as_float(tensor), lam)

    mixed = map_tensors(inputs, blend)
    if not blended:
        raise DataError("mixup: `input` holds no tensor of 3 dimensions or more that could be mixed")
    return mixed
