"""Pictures side by side: grids, masks, patches, and what a search has found."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from vlmbook.plot.style import COLORS, GRAY, WIDTH, channels_last


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
    images = [channels_last(image) for image in images]
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
    image = channels_last(pixels)
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


def patches(pixels: Tensor, patch: int) -> Figure:
    """A picture (3, H, W), the same cut into patches, and the patches laid out in their order."""
    image = channels_last(pixels)
    rows, columns = image.shape[0] // patch, image.shape[1] // patch
    tiles = [
        image[r * patch : (r + 1) * patch, c * patch : (c + 1) * patch]
        for r in range(rows)
        for c in range(columns)
    ]
    figure = plt.figure(figsize=(WIDTH, WIDTH * 0.34))
    whole, cut, order = figure.subplots(1, 3)
    figure.subplots_adjust(0, 0, 1, 0.9, 0.05)
    whole.imshow(image)
    for ax, across, gap in ((cut, columns, max(1, patch // 6)), (order, columns, 0)):
        ax.imshow(_mosaic(tiles, across, gap, patch), interpolation="nearest")
    for n in range(rows * columns):
        order.text(
            (n % columns + 0.5) * patch, (n // columns + 0.5) * patch, str(n), color="white",
            ha="center", va="center", fontsize=7, bbox={"color": "#0008", "pad": 1, "lw": 0},
        )  # fmt: skip
    for ax, title in ((whole, "picture"), (cut, "patches"), (order, "their order")):
        ax.set_title(title, pad=3)
        ax.set_axis_off()
    return figure


def _mosaic(tiles: list[np.ndarray], columns: int, gap: int, patch: int) -> np.ndarray:
    """Tiles on a clear ground, gap pixels apart: (H, W, 4)."""
    rows, step = len(tiles) // columns, patch + gap
    canvas = np.zeros((rows * step - gap, columns * step - gap, 4))
    for n, tile in enumerate(tiles):
        top, left = n // columns * step, n % columns * step
        canvas[top : top + patch, left : left + patch, :3] = tile
        canvas[top : top + patch, left : left + patch, 3] = 1
    return canvas


def retrieved(
    queries: Sequence[str | Tensor], found: Sequence[Sequence], right: Sequence[Sequence[bool]]
) -> Figure:
    """A row for each query: its picture or short text, then what was found, the best first.

    found holds pictures, or short texts; right ones have a heavy frame, the others a thin, dashed
    one.
    """
    columns = max(map(len, found)) + 1
    figure = plt.figure(figsize=(WIDTH, WIDTH / columns * len(queries) * 1.06))
    axes = figure.subplots(len(queries), columns, squeeze=False)
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.99, 0.08, 0.08)
    for row, query, items, hits in zip(axes, queries, found, right, strict=True):
        for ax, item in zip(row, [query, *items], strict=False):
            _item(ax, item)
        for ax in row[len(items) + 1 :]:
            ax.set_axis_off()
        row[0].spines[:].set_visible(False)
        for ax, hit in zip(row[1:], hits, strict=False):
            ax.spines[:].set(
                visible=True,
                color=COLORS[0] if hit else GRAY,
                linewidth=4 if hit else 0.8,
                linestyle="-" if hit else (0, (4, 3)),
            )
    return figure


def _item(ax: plt.Axes, item: str | Tensor) -> None:
    """A picture, or a text that is broken into lines, without ticks."""
    ax.set_xticks([])
    ax.set_yticks([])
    if isinstance(item, str):
        ax.text(0.5, 0.5, textwrap.fill(item, 13), ha="center", va="center", fontsize=8,
                transform=ax.transAxes)  # fmt: skip
    else:
        ax.imshow(channels_last(item))
