"""Every picture of the book: one look, readable on light and dark pages, in print and on a phone.

Figures have no background of their own and gray labels, so that they suit both themes. Functions
take tensors or arrays and return a matplotlib Figure; pages hand it to page.figure.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

if TYPE_CHECKING:
    from vlmbook.evaluate import Estimate

GRAY = "#7d828a"  # readable on white and on black
COLORS = ("#3b82c4", "#e08a3c", "#4a9d6e", "#c25b7c", "#8a74c9", "#a8862f")
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")  # beside colours, for who can't tell those apart

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


def heatmaps(
    maps: Mapping[str, Tensor | np.ndarray],
    xlabel: str = "",
    ylabel: str = "",
    low: float | None = None,
    high: float | None = None,
    ticks: tuple[Sequence[str], Sequence[str]] | None = None,
) -> Figure:
    """Matrices side by side under their titles, on one scale of colours; ticks names rows and
    columns.
    """
    arrays = [np.asarray(m, dtype=float) for m in maps.values()]
    low = min(a.min() for a in arrays) if low is None else low
    high = max(a.max() for a in arrays) if high is None else high
    rows, columns = arrays[0].shape
    height = WIDTH / len(arrays) * rows / columns
    figure = plt.figure(figsize=(WIDTH, min(height, WIDTH * 0.45) + 0.7), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(arrays), sharey=ticks is not None))
    for ax, array, title in zip(axes, arrays, maps, strict=True):
        drawn = ax.imshow(array, cmap="Blues", vmin=low, vmax=high, interpolation="nearest")
        ax.set_title(title)
        ax.set_xlabel(xlabel)
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
        if ticks is None:
            ax.set_xticks([])
            ax.set_yticks([])
        else:
            ax.set_yticks(range(rows), ticks[0])
            ax.set_xticks(range(columns), ticks[1], rotation=60, ha="right")
    axes[0].set_ylabel(ylabel)
    if set(np.unique(np.concatenate([a.ravel() for a in arrays]))) - {0.0, 1.0}:
        figure.colorbar(drawn, ax=axes, shrink=0.8, pad=0.02).outline.set_visible(False)
    return figure


def lines(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    xlabel: str,
    ylabel: str,
    line: float | None = None,
    line_label: str = "",
    log: str = "",
) -> Figure:
    """Curves {name: (x, y)}; the axes that log names, "x", "y" or "xy", are logarithmic.

    A dashed line marks a target.
    """
    figure = plt.figure(figsize=(WIDTH, 2.9), layout="constrained")
    ax = figure.subplots()
    for k, (name, (x, y)) in enumerate(curves.items()):
        x, y = np.asarray(x), np.asarray(y)
        color, mark = COLORS[k % len(COLORS)], MARKS[k % len(MARKS)] if len(x) < 20 else None
        ax.plot(x, y, lw=1.6, marker=mark, ms=3.5, color=color, label=name)
    if line is not None:
        ax.axhline(line, color=GRAY, ls="--", lw=1)
        ax.annotate(line_label, (0.01, line), (0, 3), ("axes fraction", "data"), "offset points")
    if "x" in log:
        ax.set_xscale("log")
    if "y" in log:
        ax.set_yscale("log")
    if len(curves) > 1:
        ax.legend()
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    return figure


def histograms(groups: Mapping[str, Tensor | np.ndarray], xlabel: str, bins: int = 60) -> Figure:
    """Several distributions over one axis, each filled to the same area."""
    figure = plt.figure(figsize=(WIDTH, 2.6), layout="constrained")
    ax = figure.subplots()
    arrays = [np.asarray(values).ravel() for values in groups.values()]
    edges = np.linspace(min(a.min() for a in arrays), max(a.max() for a in arrays), bins + 1)
    for k, (name, values) in enumerate(zip(groups, arrays, strict=True)):
        color = COLORS[k % len(COLORS)]
        ax.hist(values, edges, density=True, alpha=0.35, color=color, label=name)
        ax.hist(values, edges, density=True, histtype="step", color=color, lw=1.2)
    ax.set_xlabel(xlabel)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.legend()
    return figure


def intervals(
    estimates: Mapping[str, Estimate],
    xlabel: str,
    line: float | None = None,
    line_label: str = "",
    dots: Mapping[str, Sequence[float]] | None = None,
) -> Figure:
    """A row for each estimate: a point, its interval, and small dots for single seeds if given."""
    figure = plt.figure(figsize=(WIDTH, 0.34 * len(estimates) + 0.9), layout="constrained")
    ax = figure.subplots()
    for row, (name, e) in enumerate(estimates.items()):
        ax.plot([e.low, e.high], [row, row], color=COLORS[0], lw=3, alpha=0.45)
        ax.plot(e.value, row, "o", color=COLORS[0], ms=6)
        for value in (dots or {}).get(name, ()):
            ax.plot(value, row - 0.28, ".", color=COLORS[1], ms=5)
    if line is not None:
        ax.axvline(line, color=GRAY, ls="--", lw=1)
        ax.annotate(line_label, (line, 1), (4, -2), ("data", "axes fraction"), "offset points",
                    va="top")  # fmt: skip
    ax.set_yticks(range(len(estimates)), list(estimates))
    ax.set_ylim(len(estimates) - 0.5, -0.7)
    ax.set_xlabel(xlabel)
    return figure


def patches(pixels: Tensor, patch: int) -> Figure:
    """A picture (3, H, W), the same cut into patches, and the patches laid out in their order."""
    image = _channels_last(pixels)
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


def token_table(ids: Tensor, mask: Tensor) -> Figure:
    """A batch of ids (B, T) as a table: text in colour, padding pale."""
    rows, columns = ids.shape
    figure = plt.figure(figsize=(WIDTH, 0.36 * rows + 0.55), layout="constrained")
    ax = figure.subplots()
    for r in range(rows):
        for c in range(columns):
            color = COLORS[0] if mask[r, c] else GRAY
            box = plt.Rectangle((c + 0.04, r + 0.06), 0.92, 0.88, color=color, lw=0)
            box.set_alpha(0.28 if mask[r, c] else 0.1)
            ax.add_patch(box)
            ax.text(c + 0.5, r + 0.52, str(int(ids[r, c])), ha="center", va="center",
                    fontsize=8 if columns < 20 else 6.5, color=color)  # fmt: skip
    ax.set_xlim(0, columns)
    ax.set_ylim(rows, 0)
    ax.set_xticks([])
    ax.set_yticks([r + 0.5 for r in range(rows)], [f"text {r}" for r in range(rows)])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return figure


def circles(
    stages: Mapping[str, tuple[Tensor, Tensor]], labels: tuple[str, str] = ("image", "text")
) -> Figure:
    """Pairs of points (n, 2) on the unit circle, a circle for each stage, a line for each pair."""
    figure = plt.figure(figsize=(WIDTH, WIDTH / len(stages) + 0.35), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(stages)))
    turn = np.linspace(0, 2 * np.pi, 200)
    for ax, (title, sides) in zip(axes, stages.items(), strict=True):
        first, second = (np.asarray(side) for side in sides)
        ax.plot(np.cos(turn), np.sin(turn), color=GRAY, lw=0.8, alpha=0.6)
        for k, (a, b) in enumerate(zip(first, second, strict=True)):
            color = COLORS[k % len(COLORS)]
            ax.plot([a[0], b[0]], [a[1], b[1]], color=color, lw=1)
            ax.plot(*a, "o", color=color, ms=7)
            ax.plot(*b, "s", color=color, ms=7, mfc="none", mew=1.6)
        ax.set_title(title)
        ax.set_aspect("equal")
        ax.set_axis_off()
    marks = [
        plt.Line2D([], [], marker=m, color=GRAY, ls="", mfc=f, label=label)
        for m, f, label in (("o", GRAY, labels[0]), ("s", "none", labels[1]))
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=2)
    return figure


def similarity(
    images: Tensor | Sequence, texts: Sequence[str], scores: Tensor | np.ndarray, digits: int = 2
) -> Figure:
    """A table of scores (n, m), a picture before each of its rows, a text over each column.

    Each score is written in its cell, and the highest of a row in bold.
    """
    scores = np.asarray(scores, dtype=float)
    if scores.shape != (len(images), len(texts)):
        raise ValueError(
            f"scores of shape {scores.shape} for {len(images)} pictures and {len(texts)} texts;"
            " rows are pictures, columns texts"
        )
    rows, columns = scores.shape
    cell = WIDTH / (columns + 2.2)
    figure = plt.figure(figsize=(WIDTH, cell * rows + 1.5), layout="constrained")
    ax = figure.subplots()
    ax.imshow(scores, cmap="Blues", interpolation="nearest")
    middle = (scores.max() + scores.min()) / 2
    for r, row in enumerate(scores):
        for c, score in enumerate(row):
            ax.text(c, r, f"{score:.{digits}f}", ha="center", va="center", fontsize=9,
                    color="white" if score > middle else "#20242a",
                    weight="bold" if c == row.argmax() else "normal")  # fmt: skip
        ax.imshow(_channels_last(images[r]), extent=(-1.56, -0.6, r + 0.48, r - 0.48))
    ax.set_xlim(-1.6, columns - 0.5)
    ax.set_ylim(rows - 0.5, -0.5)
    ax.set_xticks(range(columns), texts, rotation=35, ha="left")
    ax.tick_params(top=True, bottom=False, labeltop=True, labelbottom=False, length=0)
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    return figure


def training(
    losses: Mapping[str, Sequence[float]],
    shares: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
    smooth: int = 20,
    line: float | None = None,
    line_label: str = "",
) -> Figure:
    """Loss against step, each run's own pale and its mean over smooth steps drawn, and, beside it,
    shares {name: (steps, values)} that were measured on the way.
    """
    figure = plt.figure(figsize=(WIDTH, 2.9), layout="constrained")
    left, *right = figure.subplots(1, 2 if shares else 1, squeeze=False)[0]
    for k, (name, values) in enumerate(losses.items()):
        values, color = np.asarray(values, dtype=float), COLORS[k % len(COLORS)]
        kernel = np.ones(min(smooth, len(values))) / min(smooth, len(values))
        means = np.convolve(values, kernel, mode="valid")
        left.plot(np.arange(len(values)), values, color=color, lw=0.5, alpha=0.3)
        left.plot(np.arange(len(means)) + len(values) - len(means), means, color=color, label=name)
    if line is not None:
        left.axhline(line, color=GRAY, ls="--", lw=1)
        left.annotate(line_label, (1, line), (0, 3), ("axes fraction", "data"), "offset points",
                      ha="right")  # fmt: skip
    left.set_xlabel("step")
    left.set_ylabel("loss")
    if len(losses) > 1:
        left.legend()
    for ax in right:
        for k, (name, (steps, values)) in enumerate(shares.items()):
            mark = MARKS[k % len(MARKS)]
            ax.plot(steps, values, color=COLORS[k % len(COLORS)], marker=mark, ms=3.5, label=name)
        ax.set_ylim(0, 1.02)
        ax.set_xlabel("step")
        ax.set_ylabel("share" if len(shares) > 1 else next(iter(shares)))
        if len(shares) > 1:
            ax.legend()
    return figure


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
        ax.imshow(_channels_last(item))


def embedding_map(
    groups: Mapping[str, Tensor | np.ndarray], pairs: tuple[str, str] | None = None
) -> Figure:
    """Points (n, 2) in groups, each with a colour and a mark of its own.

    pairs names two groups whose rows belong together; a thin line joins each pair.
    """
    figure = plt.figure(figsize=(WIDTH * 0.75, WIDTH * 0.6), layout="constrained")
    ax = figure.subplots()
    if pairs is not None:
        ends = np.stack([np.asarray(groups[name]) for name in pairs], axis=1)
        ax.plot(*ends.transpose(2, 1, 0), color=GRAY, lw=0.4, alpha=0.5, zorder=0)
    for k, (name, points) in enumerate(groups.items()):
        ax.scatter(*np.asarray(points).T, s=16, color=COLORS[k % len(COLORS)], alpha=0.8,
                   marker=MARKS[k % len(MARKS)], lw=0, label=name)  # fmt: skip
    ax.set_aspect("equal", "datalim")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
