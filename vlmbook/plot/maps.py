"""Where a model looks: tokens against tokens, and maps over pictures.

Every figure carries a note: what the map scores, and what its control does.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from vlmbook.plot.style import COLORS, GRAY, WIDTH, channels_last

DARK = "#20242a"
HEAT = "inferno"


def attention_matrix(
    weights: Tensor | np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str] | Tensor,
    note: str,
) -> Figure:
    """Weights (Q, K) with the tokens that look as rows, and those that are looked at as columns.

    columns are tokens, or the patches (K, 3, P, P) of a picture.
    """
    weights = np.asarray(weights, dtype=float)
    if weights.shape != (len(rows), len(columns)):
        raise ValueError(
            f"weights of shape {weights.shape} for {len(rows)} rows and {len(columns)} columns"
        )
    pictured = isinstance(columns, Tensor)
    cell = min(0.42, (WIDTH - 1.6) / len(columns))
    height = max(0.3, cell) * len(rows) + (cell if pictured else 0.9) + 0.7
    figure = plt.figure(figsize=(WIDTH, height), layout="constrained")
    ax = figure.subplots()
    ax.imshow(weights, cmap="Blues", vmin=0, aspect="auto", interpolation="nearest")
    if len(columns) <= 16:
        for (r, c), value in np.ndenumerate(weights):
            color = "white" if value > weights.max() / 2 else DARK
            ax.text(c, r, f"{value:.2f}".lstrip("0"), ha="center", va="center", fontsize=8,
                    color=color)  # fmt: skip
    ax.set_yticks(range(len(rows)), rows)
    if pictured:
        for n, patch in enumerate(columns):
            ax.imshow(channels_last(patch), extent=(n - 0.46, n + 0.46, -0.6, -1.5), aspect="auto")
        ax.set_ylim(len(rows) - 0.5, -1.6)
        ax.set_xlim(-0.5, len(columns) - 0.5)
        ax.set_xticks([])
    else:
        ax.set_xticks(range(len(columns)), columns, rotation=60, ha="right")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    figure.supxlabel(note, fontsize=9, color=GRAY)
    return figure


def maps(
    pixels: Tensor,
    grids: Tensor,
    titles: Sequence[str],
    note: str,
    masks: Tensor | None = None,
    columns: int = 4,
) -> Figure:
    """Pictures (n, 3, H, W) under their maps (n, h, w), a short title over each, a note below.

    Each map is scaled to its own highest and lowest value, a cross marks the highest, and a flat
    one is drawn as no map, and said to be flat. masks (n, H, W) outline what was asked for. One
    picture (1, 3, H, W) serves all maps, and is shown before them.
    """
    if len(titles) != len(grids) or len(pixels) not in (1, len(grids)):
        raise ValueError(
            f"{len(grids)} maps, {len(titles)} titles and {len(pixels)} pictures; pass a title for"
            " each map, and a picture for each or one for all"
        )
    alone = len(pixels) == 1
    columns = min(columns, len(grids) + alone)
    lines = -(-(len(grids) + alone) // columns)
    side = WIDTH / max(columns, 3)
    note = textwrap.fill(note, int(14 * side * columns))
    below = 0.22 + 0.16 * len(note.splitlines())
    figure = plt.figure(figsize=(side * columns, (side + 0.05) * lines + below))
    axes = figure.subplots(lines, columns, squeeze=False)
    bottom = below / figure.get_figheight()
    figure.subplots_adjust(0.005, bottom, 0.995, 1 - 0.24 / figure.get_figheight(), 0.04, 0.2)
    for ax in axes.flat:
        ax.axis("off")
    if alone:
        axes.flat[0].imshow(channels_last(pixels[0]))
        axes.flat[0].set_title("picture", pad=3, fontsize=9)
    for n, (ax, grid, title) in enumerate(zip(axes.flat[alone:], grids, titles, strict=False)):
        image = channels_last(pixels[n % len(pixels)])
        flat = _draw(ax, image, torch.as_tensor(grid).float())
        ax.set_title(f"{title} (flat)" if flat else title, pad=3, fontsize=9)
        if masks is not None:
            ax.contour(np.asarray(masks[n % len(masks)]), [0.5], colors=["white"], linewidths=1.4)
    figure.text(0.5, 0.1 / figure.get_figheight(), note, ha="center", fontsize=9, color=GRAY)
    return figure


def _draw(ax: plt.Axes, image: np.ndarray, grid: Tensor) -> bool:
    """A picture in gray under its map in colour; whether the map is flat."""
    gray = image.mean(-1, keepdims=True).repeat(3, -1)
    low, high = grid.min(), grid.max()
    if high <= low:
        ax.imshow(gray)
        return True
    heat = F.interpolate(((grid - low) / (high - low))[None, None], image.shape[:2],
                         mode="bilinear")[0, 0].numpy()  # fmt: skip
    color = plt.get_cmap(HEAT)(0.15 + 0.85 * heat)[..., :3]
    share = (0.15 + 0.65 * heat)[..., None]
    ax.imshow((1 - share) * gray + share * color)
    row, column = divmod(int(heat.argmax()), heat.shape[1])
    ax.plot(column, row, "x", ms=8, mew=2.2, color=COLORS[0])
    return False
