"""Numbers in rows and columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from vlmbook.plot.style import COLORS, GRAY, WIDTH, channels_last


def heatmaps(
    maps: Mapping[str, Tensor | np.ndarray],
    xlabel: str = "",
    ylabel: str = "",
    low: float | None = None,
    high: float | None = None,
    ticks: tuple[Sequence[str], Sequence[str]] | None = None,
    digits: int | None = None,
) -> Figure:
    """Matrices side by side under their titles, on one scale of colours.

    ticks names rows and columns; with digits, each number is written in its cell, and the figure is
    no larger than that needs, so that it can be read on a phone.
    """
    arrays = [np.asarray(m, dtype=float) for m in maps.values()]
    low = min(np.nanmin(a) for a in arrays) if low is None else low
    high = max(np.nanmax(a) for a in arrays) if high is None else high
    rows, columns = arrays[0].shape
    width, height = WIDTH, min(WIDTH / len(arrays) * rows / columns, WIDTH * 0.45)
    names = ticks or ((), ())
    if digits is not None:
        named = 0.085 * max(map(len, names[0]), default=0)
        width = min(WIDTH, named + 0.62 * columns * len(arrays) + 0.4)
        height = 0.34 * rows + 0.055 * max(map(len, names[1]), default=0)
    figure = plt.figure(figsize=(width, height + 0.7), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(arrays), sharey=ticks is not None))
    for ax, array, title in zip(axes, arrays, maps, strict=True):
        drawn = ax.imshow(array, cmap="Blues", vmin=low, vmax=high, interpolation="nearest",
                          aspect="equal" if digits is None else "auto")  # fmt: skip
        if digits is not None:
            _write(ax, array, digits, (low + high) / 2)
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
    if digits is None and set(np.unique(np.concatenate([a.ravel() for a in arrays]))) - {0.0, 1.0}:
        figure.colorbar(drawn, ax=axes, shrink=0.8, pad=0.02).outline.set_visible(False)
    return figure


def matrix(
    values: np.ndarray,
    margins: np.ndarray,
    rows: Mapping[str, Sequence[str]],
    columns: Mapping[str, Sequence[str]],
    floor: np.ndarray,
) -> Figure:
    """Shares (R, C) with the half-widths of their intervals, in groups of named rows and columns.

    A cell is the darker, the further its share is from the floor (R,) of its row on the way to 1.
    One whose interval holds the floor, or lies below it, is not filled; nan makes
    an empty place. The names of groups of columns stand above; groups of rows have none.
    """
    wanted = tuple(sum(map(len, groups.values())) for groups in (rows, columns))
    if not values.shape == margins.shape == wanted or floor.shape != wanted[:1]:
        raise ValueError(
            f"values {values.shape}, margins {margins.shape} and floor {floor.shape} for"
            f" {wanted[0]} rows and {wanted[1]} columns that are named; make them agree"
        )
    (y, below), (x, right) = _places(rows), _places(columns)
    named = 0.075 * max(len(name) for some in rows.values() for name in some)
    top = 0.06 * max(len(name) for some in columns.values() for name in some) + 0.3
    figure = plt.figure(figsize=(named + 0.46 * right, 0.4 * below + top), layout="constrained")
    ax = figure.subplots()
    for (r, c), value in np.ndenumerate(values):
        if not np.isfinite(value):
            continue
        above = np.isnan(floor[r]) or value - margins[r, c] > floor[r]
        low = np.nan_to_num(floor[r])
        part = (value - low) / (1 - low) if above else 0.0
        if above:
            color = plt.get_cmap("Blues")(0.08 + 0.82 * part)
            ax.add_patch(plt.Rectangle((x[c], y[r]), 0.96, 0.96, color=color, lw=0))
        ink = "white" if part > 0.55 else "#20242a" if above else GRAY
        ax.text(x[c] + 0.48, y[r] + 0.38, _share(value), ha="center", va="center", fontsize=9,
                color=ink)  # fmt: skip
        ax.text(x[c] + 0.48, y[r] + 0.75, f"\u00b1{_share(margins[r, c])}", ha="center",
                va="center", fontsize=5.5, color=ink)  # fmt: skip
    starts = iter(x)
    for name, some in columns.items():
        start, *_ = (next(starts) for _ in some)
        ax.text(start + len(some) / 2, -1.2 * top / 0.4 + 0.9, name, ha="center", va="bottom",
                fontsize=9, weight="bold")  # fmt: skip
    ax.set_xlim(0, right)
    ax.set_ylim(below, 0)
    ax.set_xticks(np.asarray(x) + 0.5, [n for some in columns.values() for n in some], rotation=60,
                  ha="left", rotation_mode="anchor", fontsize=9)  # fmt: skip
    ax.set_yticks(np.asarray(y) + 0.5, [n for some in rows.values() for n in some], fontsize=9)
    ax.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    ax.spines[:].set_visible(False)
    return figure


def _places(groups: Mapping[str, Sequence[str]]) -> tuple[list[float], float]:
    """Where each of the named things begins, groups being apart, and where the last ends."""
    places, at = [], 0.0
    for some in groups.values():
        places += [at + n for n in range(len(some))]
        at += len(some) + 0.35
    return places, at - 0.35


def _share(value: float) -> str:
    """A share with two digits and no zero before them."""
    told = f"{value:.2f}"
    return "1.0" if told == "1.00" else told.removeprefix("0")


def _write(ax: plt.Axes, array: np.ndarray, digits: int, middle: float) -> None:
    """Each number in its cell, white where the cell is dark; nan stays blank."""
    for (row, column), value in np.ndenumerate(array):
        if np.isfinite(value):
            ax.text(column, row, f"{value:.{digits}f}", ha="center", va="center", fontsize=9,
                    color="white" if value > middle else "#20242a")  # fmt: skip


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
        ax.imshow(channels_last(images[r]), extent=(-1.56, -0.6, r + 0.48, r - 0.48))
    ax.set_xlim(-1.6, columns - 0.5)
    ax.set_ylim(rows - 0.5, -0.5)
    ax.set_xticks(range(columns), texts, rotation=35, ha="left")
    ax.tick_params(top=True, bottom=False, labeltop=True, labelbottom=False, length=0)
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    return figure


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


def choices(
    chosen: Sequence[str], candidates: Sequence[Sequence[tuple[str, float]]], top: str = ""
) -> Figure:
    """What a decoder could have written at each step, a row a step, from the first down.

    candidates are (token, probability), of which the rest up to 1 is left blank; the chosen token
    is dark and in bold. Tokens too narrow for their name have none. top is a line over all.
    """
    if len(chosen) != len(candidates):
        raise ValueError(f"{len(chosen)} chosen tokens for candidates of {len(candidates)} steps")
    figure = plt.figure(figsize=(WIDTH, 0.29 * len(chosen) + 0.9), layout="constrained")
    ax = figure.subplots()
    for row, (token, offered) in enumerate(zip(chosen, candidates, strict=True)):
        left = 0.0
        for name, share in offered:
            own = name == token
            color, alpha = (COLORS[0], 1.0) if own else (GRAY, 0.3)
            ax.barh(row, share, 0.84, left, color=color, alpha=alpha, edgecolor="white", lw=0.6)
            if share > 0.016 * (len(name) + 1):
                color, weight = ("white", "bold") if own else (GRAY, "normal")
                ax.text(left + share / 2, row, name, ha="center", va="center", fontsize=8,
                        color=color, weight=weight)  # fmt: skip
            left += share
    ax.set_xlim(0, 1)
    ax.set_ylim(len(chosen) - 0.4, -0.6)
    ax.set_yticks(range(len(chosen)), chosen, fontsize=9)
    ax.set_xlabel("probability")
    ax.set_title(top)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    return figure
