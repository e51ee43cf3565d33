"""From what a ray met to the light that comes back: rubber, metal, stripes, paper and the table.

Everything happens in the thing's own coordinates, which differ from the table's by a turn about the
vertical: heights and angles are the same in both. R rays, H of which met a thing.

Lambert for the diffuse part, Blinn for the highlight, and for metal a room made up for it: the
table below, a horizon, a bright sky, and a window where the lamp is. Book: appendix/world.md.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vlmbook.world.layout import Hits, Layout
from vlmbook.world.shapes import GEOMETRY, TINY

STRIPE_PERIOD, STRIPE_SHARE = 0.62, 0.36  # in object units, and how much of it is pale
CHECKER = 0.8  # side of the squares of a checkered table, in table units
INK = 0.02  # the light that a plate's letters send back

Vector = tuple[Tensor, Tensor, Tensor]


def shade(layout: Layout, hits: Hits, lit: Tensor, dim: Tensor) -> Tensor:
    """(3, R) amounts of light in [0, 1]; lit and dim (R,) say how the lamp and the sky reach each
    ray's first point.
    """
    color = _table(layout, hits.depth, lit, dim)
    if len(hits.ray):
        color[:, hits.ray] = _things(layout, hits, lit[hits.ray].float())
    return color.clamp(0, 1)


def _table(layout: Layout, depth: Tensor, lit: Tensor, dim: Tensor) -> Tensor:
    """The table under every ray, whether it is seen or not."""
    side = layout.side
    grid = (layout.num_scenes, side, side)
    across = (torch.arange(side, device=depth.device) * 2 + 1).float() / side - 1

    def per_scene(values: Tensor) -> Tensor:
        return values.view(-1, 1, 1)

    ambient, direct, _, _, contact, checker = (per_scene(c) for c in layout.shading.unbind(1))
    direct = direct * per_scene(layout.lamp_up)
    light = ambient * (1 - contact * dim.view(grid)) + direct * lit.view(grid)
    light = light * (
        1.02 - 0.09 * (across[:, None] ** 2 + across**2)
    )  # a little darker towards the corners
    if checker.any():
        light = light * (1 - 0.45 * checker * _squares(layout, depth.view(grid), across))
    return torch.stack([(light * per_scene(c)).flatten() for c in layout.floor.unbind(1)])


def _squares(layout: Layout, depth: Tensor, across: Tensor) -> Tensor:
    """1 on every other square of the table, else 0: (B, side, side)."""
    view = layout.view[:, :, None, None]
    x, z = (
        view[:, i]
        + depth * (view[:, 3 + i] + across * view[:, 6 + i] - across[:, None] * view[:, 9 + i])
        for i in (0, 2)
    )
    return ((x / CHECKER).floor() + (z / CHECKER).floor()) % 2


def _things(layout: Layout, hits: Hits, lit: Tensor) -> Tensor:
    """(3, H) light from the things that rays met."""
    normal = _normals(hits)
    lamp = tuple(layout.lamp[:, hits.thing])
    away = _unit(hits.direction)
    ambient, direct, gloss, sky, _, _ = layout.shading[layout.scene[hits.thing]].unbind(1)
    base = _base(layout, hits)
    metal = (layout.material[hits.thing] == 1) & (gloss > 0)

    facing = _dot(normal, lamp).clamp(min=0) * lit
    diffuse = ambient * (1 + sky * 0.3 * (normal[1] - 0.6)) + direct * facing * 1.15
    half = _unit(tuple(a - b for a, b in zip(lamp, away, strict=True)))
    shine = _dot(normal, half).clamp(min=0)
    shine = torch.where(facing > 0, shine, 0.0)

    rubber = base * diffuse + 0.05 * gloss * _power(shine, 4)
    mirrored = _room(layout, hits, normal, away, lamp)
    shiny = base * (0.30 * diffuse + 0.85 * mirrored) + 0.10 * mirrored**2 + 0.9 * _power(shine, 6)
    return torch.where(metal, shiny, rubber)


def _base(layout: Layout, hits: Hits) -> Tensor:
    """(3, H) the share of each colour of light that the surface sends back: its colour, its
    stripes, its word.
    """
    base = layout.color[:, hits.thing]
    x, y, _ = hits.point
    if (layout.material == 2).any():
        where = (x + y) / STRIPE_PERIOD
        pale = (layout.material[hits.thing] == 2) & (where - where.floor() < STRIPE_SHARE)
        base = torch.where(pale, 0.9 - 0.12 * (1 - base), base)
    for thing, ink in layout.ink.items():
        on = (hits.thing == thing).nonzero().squeeze(1)
        base[:, on] = base[:, on] + (INK - base[:, on]) * _sample(
            ink, x[on] / layout.width[thing], y[on]
        )
    return base


def _sample(ink: Tensor, across: Tensor, up: Tensor) -> Tensor:
    """The ink at points of a card, across in [-1, 1] and up in [0, 1], between the nearest four
    texels.
    """
    height, width = ink.shape
    column = ((across + 1) * width / 2 - 0.5).clamp(0, width - 1.001)
    row = ((1 - up) * height - 0.5).clamp(0, height - 1.001)
    i, j = row.long(), column.long()
    a, b = row - i, column - j
    top = ink[i, j] * (1 - b) + ink[i, j + 1] * b
    return top * (1 - a) + (ink[i + 1, j] * (1 - b) + ink[i + 1, j + 1] * b) * a


def _room(layout: Layout, hits: Hits, normal: Vector, away: Vector, lamp: Vector) -> Tensor:
    """(H,) how bright the room is in the direction that a mirror would show."""
    twice = 2 * _dot(away, normal)
    seen = tuple(d - twice * n for d, n in zip(away, normal, strict=True))
    up = seen[1] + 0.55 * (
        hits.point[1] - 1.0
    )  # the room is near: a flat side shows a part of it, not a point
    below = 0.12 - 0.55 * up.clamp(-1, 0)
    sky = 1.05 - 0.55 * up.clamp(0, 1)
    above = (up * 5 + 0.5).clamp(
        0, 1
    )  # dark just under the horizon, bright just over it: this is what says metal
    window = ((_dot(seen, lamp) - 0.75) * 6).clamp(0, 1)
    x, y, z = hits.point  # and a second, narrow window, which slides over flat sides too
    slit = (1 - 4.5 * (0.75 * (x - z) + 0.9 * (y - 0.85)).abs()).clamp(min=0) * (
        0.6 + 0.4 * up.clamp(-1, 1)
    )
    return below + (sky - below) * above + 0.9 * window + 1.6 * slit


def _normals(hits: Hits) -> Vector:
    """The outward directions at the points met, each (H,), of length 1."""
    parts = []
    for name, s in hits.spans:
        x, y, z = (v[s] for v in hits.point)
        if name == "plate":
            parts.append((torch.zeros_like(x), torch.full_like(x, 0.6), torch.full_like(x, 0.8)))
        else:
            parts.append(GEOMETRY[name].face(x, y, z))
    return _unit(tuple(torch.cat(c) for c in zip(*parts, strict=True)))


def _dot(a: Vector, b: Vector) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _unit(v: Vector) -> Vector:
    length = _dot(v, v).sqrt().clamp(min=TINY)
    return v[0] / length, v[1] / length, v[2] / length


def _power(x: Tensor, doublings: int) -> Tensor:
    """x to the power of 2 ** doublings, by multiplication alone."""
    for _ in range(doublings):
        x = x * x
    return x
