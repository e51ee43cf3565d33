"""Whether a map is right, where the truth is known: the visible pixels of what was asked for.

B pictures, h and w rows and columns of patches, H and W of pixels. A grid (B, h, w) is scored
against masks (B, H, W) bool. Scores are one number for each picture, (B,).

Book: attention/maps.md.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score
from torch import Tensor


def pointing(grid: Tensor, mask: Tensor) -> Tensor:
    """Whether the enlarged map's highest pixel lies on the target, or within half a patch: bool.

    A flat map points nowhere, and misses. Zhang et al. 2018, section 4.2.
    """
    grid, mask = _checked(grid, mask)
    best = enlarged(grid, mask.shape[1:]).flatten(1).argmax(1)
    patch = min(mask.shape[1] // grid.shape[1], mask.shape[2] // grid.shape[2])
    hit = near(mask, patch / 2).flatten(1)[torch.arange(len(grid)), best]
    return hit & ~_flat(grid)


def near(mask: Tensor, distance: float) -> Tensor:
    """Pixels of masks (B, H, W), and all within a distance of one, in pixels."""
    reach = int(distance)
    steps = torch.arange(-reach, reach + 1)
    disk = (steps[:, None] ** 2 + steps[None] ** 2 <= distance**2).float()[None, None]
    return F.conv2d(mask[:, None].float(), disk, padding=reach)[:, 0] > 0


def mean_iou(grid: Tensor, mask: Tensor) -> Tensor:
    """Target and background against what lies above and below the map's mean: the two IoUs' mean.

    As Chefer et al. 2021a score segmentations. A flat map has nothing above its mean.
    """
    grid, mask = _checked(grid, mask)
    found = enlarged(grid, mask.shape[1:])
    above = (found > found.mean((1, 2), keepdim=True)) & ~_flat(grid)[:, None, None]
    return (_iou(above, mask) + _iou(~above, ~mask)) / 2


def average_precision(grid: Tensor, mask: Tensor) -> Tensor:
    """Area under precision and recall of the target's pixels, ranked by the map.

    A flat map has the share of pixels that the target covers.
    """
    grid, mask = _checked(grid, mask)
    found = enlarged(grid, mask.shape[1:]).flatten(1).numpy()
    truth = mask.flatten(1).numpy()
    pairs = zip(truth, found, strict=True)
    return torch.tensor([average_precision_score(t, f) if t.any() else np.nan for t, f in pairs])


def specific(grids: tuple[Tensor, Tensor], masks: tuple[Tensor, Tensor]) -> Tensor:
    """Whether, asked for one object, a map points to it, and asked for the other, to that: bool."""
    first, second = (pointing(grid, mask) for grid, mask in zip(grids, masks, strict=True))
    return first & second


def curves(
    score: Callable[[Tensor], Tensor], pixels: Tensor, grid: Tensor, steps: int = 8
) -> tuple[Tensor, Tensor]:
    """Scores (B, steps + 1) as patches are painted over, and as they appear, highest first.

    score(pixels) gives (B,); what is painted has the picture's mean colour. A good map falls fast
    in the first and rises fast in the second. Petsiuk et al. 2018, section 4.
    """
    mean = pixels.mean((2, 3), keepdim=True).expand_as(pixels)
    order = grid.flatten(1).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1).unflatten(1, grid.shape[1:])
    gone, come = [], []
    with torch.no_grad():
        for step in range(steps + 1):
            first = (rank < round(rank[0].numel() * step / steps)).float()[:, None]
            first = F.interpolate(first, pixels.shape[2:], mode="nearest").bool()
            gone.append(score(torch.where(first, mean, pixels)))
            come.append(score(torch.where(first, pixels, mean)))
    return torch.stack(gone, 1), torch.stack(come, 1)


def centre(num: int, grid: tuple[int, int]) -> Tensor:
    """A map that knows nothing but that photographers aim: a hill in the middle, (num, h, w)."""
    rows, columns = (torch.arange(n) - n / 2 for n in grid)  # the patch after the middle is on top
    hill = torch.exp(-(rows[:, None] ** 2 + columns[None] ** 2) / (grid[0] / 4) ** 2)
    return hill.expand(num, -1, -1).clone()


def enlarged(grid: Tensor, size: tuple[int, int]) -> Tensor:
    """A grid (B, h, w) at the size of the pixels, (B, H, W), linear between patches' middles."""
    return F.interpolate(grid[:, None].float(), size, mode="bilinear")[:, 0]


def _iou(a: Tensor, b: Tensor) -> Tensor:
    both, either = (a & b).sum((1, 2)), (a | b).sum((1, 2))
    return both / either.clamp(min=1)


def _flat(grid: Tensor) -> Tensor:
    return grid.amax((1, 2)) <= grid.amin((1, 2))


def _checked(grid: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    if grid.dim() != 3 or mask.dim() != 3 or len(grid) != len(mask):
        raise ValueError(
            f"a map of shape {tuple(grid.shape)} can't be scored against masks of shape"
            f" {tuple(mask.shape)}; pass (B, h, w) and (B, H, W)"
        )
    if not torch.isfinite(grid).all():
        raise ValueError("the map has numbers that are not finite; was the model trained well?")
    return grid.cpu(), mask.cpu().bool()
