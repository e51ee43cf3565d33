"""Every picture of the book: one look, readable on light and dark pages, in print and on a phone.

Figures have no background of their own and gray labels, so that they suit both themes. Functions
take tensors or arrays and return a matplotlib Figure; pages hand it to page.figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

GRAY = "#7d828a"  # readable on white and on black
COLORS = ("#3b82c4", "#e08a3c", "#4a9d6e", "#c25b7c", "#8a74c9", "#a8862f")

STYLE = {
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": GRAY,
    "axes.labelcolor": GRAY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": matplotlib.cycler(color=COLORS),
    "xtick.color": GRAY,
    "ytick.color": GRAY,
    "text.color": GRAY,
    "legend.frameon": False,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 10,
    "figure.dpi": 110,
    "savefig.dpi": 160,
}
matplotlib.rcParams.update(STYLE)

WIDTH = 7.2  # inches: the measure of a page


def pictures(
    images: Tensor | np.ndarray | Sequence,
    titles: Sequence[str] | None = None,
    columns: int = 4,
    width: float = WIDTH,
    cmap: str = "gray",
) -> Figure:
    """A grid of pictures, each (3, H, W) or (H, W) in [0, 1], with a short title over each if
    given.
    """
    images = [_channels_last(image) for image in images]
    if titles is not None and len(titles) != len(images):
        raise ValueError(f"{len(titles)} titles for {len(images)} pictures; give one for each")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    side = width / columns
    head = 0.26 if titles is not None else 0.0
    figure = plt.figure(figsize=(width, rows * (side + head)))
    axes = figure.subplots(rows, columns, squeeze=False)
    figure.subplots_adjust(0, 0, 1, 1 - head / (rows * (side + head)), 0.03, 0.03 + head / side)
    for ax in axes.flat:
        ax.set_axis_off()
    for k, (ax, image) in enumerate(zip(axes.flat, images, strict=False)):
        ax.imshow(image, cmap=cmap, vmin=0 if image.ndim == 3 else None, interpolation="nearest")
        if titles is not None:
            ax.set_title(titles[k], pad=3)
    return figure


def outlines(pixels: Tensor, masks: Tensor, names: Sequence[str] = ()) -> Figure:
    """One picture (3, H, W) with the outline of each mask (N, H, W), and each mask beside it."""
    figure = plt.figure(figsize=(WIDTH, WIDTH / (1 + len(masks)) * 1.1))
    axes = figure.subplots(1, 1 + len(masks))
    figure.subplots_adjust(0, 0, 1, 0.88, 0.04)
    image = _channels_last(pixels)
    axes[0].imshow(image)
    axes[0].set_title("picture", pad=3)
    for n, mask in enumerate(np.asarray(masks)):
        color = COLORS[n % len(COLORS)]
        axes[0].contour(mask, [0.5], colors=[color], linewidths=1.6)
        axes[n + 1].imshow(np.where(mask[..., None], image, 0.92 * np.ones_like(image)))
        axes[n + 1].set_title(names[n] if n < len(names) else str(n), pad=3, color=color)
    for ax in axes:
        ax.set_axis_off()
    return figure


def bars(
    groups: Mapping[str, Mapping[str, float]],
    ylabel: str,
    line: float | None = None,
    line_label: str = "",
) -> Figure:
    """Bars in groups: {group: {bar: value}}; a dashed line marks chance or a target."""
    figure = plt.figure(figsize=(WIDTH, 2.9), layout="constrained")
    ax = figure.subplots()
    names = list(next(iter(groups.values())))
    width = 0.8 / len(names)
    for k, name in enumerate(names):
        values = [group.get(name, np.nan) for group in groups.values()]
        x = np.arange(len(groups)) + (k - (len(names) - 1) / 2) * width
        ax.bar(x, values, width * 0.92, label=name)
    if line is not None:
        ax.axhline(line, color=GRAY, ls="--", lw=1, label=line_label or None)
    ax.set_xticks(range(len(groups)), list(groups))
    ax.set_ylabel(ylabel)
    if len(names) > 1 or line_label:
        ax.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def _channels_last(image: Tensor | np.ndarray) -> np.ndarray:
    image = np.asarray(image)
    if image.ndim == 3 and image.shape[0] == 3:
        image = image.transpose(1, 2, 0)
    if image.ndim not in (2, 3):
        raise ValueError(
            f"a picture of shape {image.shape} can't be drawn; pass (3, H, W) or (H, W)"
        )
    return image.clip(0, 1) if image.ndim == 3 else image
