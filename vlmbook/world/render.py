"""Scenes to pixels: a ray caster in plain torch, the same code on a CPU and on a GPU.

Only the rays inside an object's projected bounds are tried against it, and all objects of one shape
are solved together, so the work is a few long vectors instead of a loop over pixels. A shadow is a
second ray from each seen point towards the lamp, tried inside the projected bounds of an object
together with its shadow.

B images, N objects in the fullest of them, K things (objects and text plates) in all, R rays in
all, M candidate pairs of a ray and a thing.

Whitted 1980 for the method, Hart 1996 for the torus. Book: appendix/world.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from vlmbook.world import plates
from vlmbook.world.layout import Hits, Layout, lay_out
from vlmbook.world.scene import Scene
from vlmbook.world.shading import shade
from vlmbook.world.shapes import CONTACT, FAR, GEOMETRY, TINY, Rays, hit_torus

MIN_SIZE, MAX_SIZE, MAX_SUPERSAMPLE = 16, 1024, 8
RAYS_AT_ONCE = (
    1 << 19
)  # one pass: few enough for the caches, many enough to hide the cost of a call


@dataclass(frozen=True)
class View:
    """What the camera sees of B scenes.

    pixels (B, 3, H, W) float32 in [0, 1]. visible and whole (B, N, H, W) bool: the pixels in which
    object n is seen, and those that it would fill if nothing stood before it; all False for n past
    the last object of a scene. depth (B, H, W) float32, in table units along the camera's axis.
    Masks and depth are read along one ray a pixel; colours are averages over all rays of a pixel.
    """

    pixels: Tensor
    visible: Tensor
    whole: Tensor
    depth: Tensor

    @property
    def boxes(self) -> Tensor:
        """(B, N, 4) int64 around each visible mask: left, top, right, bottom, the last two
        exclusive; 0 if unseen.
        """
        columns, rows = self.visible.any(2), self.visible.any(3)
        left, top = columns.int().argmax(-1), rows.int().argmax(-1)
        right = columns.shape[-1] - columns.flip(-1).int().argmax(-1)
        bottom = rows.shape[-1] - rows.flip(-1).int().argmax(-1)
        return torch.stack([left, top, right, bottom], -1) * columns.any(-1, keepdim=True)

    def to_uint8(self) -> Tensor:
        """(B, H, W, 3) uint8, as image files hold them."""
        return (self.pixels * 255 + 0.5).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def render(
    scenes: Scene | Sequence[Scene],
    size: int = 64,
    device: str | torch.device = "cpu",
    supersample: int = 1,
) -> View:
    """Render scenes at size x size pixels, with supersample x supersample rays a pixel.

    One ray a pixel is quick and good enough to train on; pictures for people want 3 or so. Raises
    ValueError for a size that cannot be had; scenes with text plates need 96 pixels or more.
    """
    scenes = [scenes] if isinstance(scenes, Scene) else list(scenes)
    _check(scenes, size, supersample)
    num_slots = max(len(s.objects) for s in scenes)
    step = max(1, RAYS_AT_ONCE // (size * supersample) ** 2)
    parts = [  # pixels, visible, whole, depth
        _render(scenes[i : i + step], num_slots, size, supersample, torch.device(device))
        for i in range(0, len(scenes), step)
    ]
    return View(*(torch.cat(field) for field in zip(*parts, strict=True)))


def _check(scenes: list[Scene], size: int, supersample: int) -> None:
    if not scenes:
        raise ValueError("there are no scenes to render; pass at least one")
    if isinstance(size, bool) or not isinstance(size, int) or not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError(
            f"size {size!r} is not a whole number of pixels from {MIN_SIZE} to {MAX_SIZE}"
        )
    if isinstance(supersample, bool) or supersample not in range(1, MAX_SUPERSAMPLE + 1):
        raise ValueError(
            f"supersample {supersample!r} is not a whole number from 1 to {MAX_SUPERSAMPLE}"
        )
    if size < plates.MIN_SIZE and any(s.plates for s in scenes):
        raise ValueError(
            f"size {size} is too small to read a text plate; use {plates.MIN_SIZE} or more"
        )


class Pairs(NamedTuple):
    """M candidate pairs in the order of things. ray (M,) flat index, thing (M,), u and v (M,) in
    the picture.

    spans gives, for each shape that occurs, its name and its stretch of pairs.
    """

    ray: Tensor
    thing: Tensor
    u: Tensor
    v: Tensor
    spans: list[tuple[str, slice]]


def _render(
    scenes: list[Scene], num_slots: int, size: int, supersample: int, device: torch.device
) -> tuple[Tensor, ...]:
    side = size * supersample
    layout = lay_out(scenes, num_slots, side, device)
    hits, visible, whole = _first_hits(layout)
    lit, dim = _light_reaching(layout, hits)
    color = shade(layout, hits, lit, dim)  # (3, R) amounts of light
    color = color.view(3, len(scenes), side, side).transpose(0, 1)
    middle = slice(supersample // 2, None, supersample)
    maps = (
        m[..., middle, middle].contiguous()
        for m in (visible, whole, hits.depth.view(-1, side, side))
    )
    return _average(color, supersample).sqrt(), *maps


def _average(x: Tensor, k: int) -> Tensor:
    """The mean over k x k blocks of the last two axes, added in a fixed order."""
    if k == 1:
        return x.contiguous()
    parts = [x[..., i::k, j::k] for i in range(k) for j in range(k)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total / (k * k)


def _pairs(layout: Layout, bounds: Tensor) -> Pairs:
    """All rays inside the bounds (4, K) int64: first column, first row, columns, rows."""
    side, device = layout.side, bounds.device
    left, top, width, height = bounds
    area = width * height
    thing = torch.repeat_interleave(area)
    ends = area.cumsum(0)
    nth = torch.arange(len(thing), device=device) - (ends - area)[thing]
    row = nth // width[thing]
    column = nth - row * width[thing] + left[thing]
    row = row + top[thing]
    ray = (layout.scene[thing] * side + row) * side + column
    u, v = (column * 2 + 1).float() / side - 1, 1 - (row * 2 + 1).float() / side
    return Pairs(ray, thing, u, v, _spans(layout, [0, *ends.tolist()]))


def _spans(layout: Layout, ends: list[int]) -> list[tuple[str, slice]]:
    """Stretches of pairs of one shape, from the ends of the stretches of things."""
    found = ((name, slice(ends[first], ends[last])) for name, first, last in layout.shapes)
    return [(name, span) for name, span in found if span.stop > span.start]


def _first_hits(layout: Layout) -> tuple[Hits, Tensor, Tensor]:
    """The first thing on each ray, and the masks (B, N, side, side) of what is seen and of all that
    is there.
    """
    pairs = _pairs(layout, layout.bounds)
    rays = _camera_rays(layout, pairs)
    near = [_hit(layout, name, rays.take(s), pairs.thing[s]) for name, s in pairs.spans]
    near = torch.cat(near) if near else pairs.u
    met = (near < FAR / 2).nonzero().squeeze(1)
    ray, thing, near = pairs.ray[met], pairs.thing[met], near[met]

    depth = near + layout.reach[thing]
    first = (
        layout.floor_depth.flatten()
        .repeat_interleave(layout.side)
        .scatter_reduce(0, ray, depth, "amin")
    )
    won = depth == first[ray]
    owner = torch.full(first.shape, -1, device=ray.device)
    owner.scatter_reduce_(
        0, ray[won], thing[won], "amax"
    )  # of two at the same depth, always the same one
    won = (won & (owner[ray] == thing)).nonzero().squeeze(1)

    masks = _mask(layout, ray[won], thing[won]), _mask(layout, ray, thing)
    ray, thing, rays = ray[won], thing[won], rays.take(met[won])
    ends = torch.bincount(thing, minlength=len(layout.scene)).cumsum(0).tolist()
    hits = Hits(first, owner, ray, thing, rays.at(near[won]), rays[3:], _spans(layout, [0, *ends]))
    return hits, *masks


def _camera_rays(layout: Layout, pairs: Pairs) -> Rays:
    """Camera rays in the coordinates of the thing they are tried on, moved near it to keep the
    digits.
    """
    table = layout.camera[:, pairs.thing]  # (12, M)
    origin, forward, right, up = table[0:3], table[3:6], table[6:9], table[9:12]
    direction = forward + pairs.u * right + pairs.v * up
    start = origin + layout.reach[pairs.thing] * direction
    return Rays(*start, *direction)


def _hit(layout: Layout, name: str, rays: Rays, thing: Tensor) -> Tensor:
    if name != "plate":
        return GEOMETRY[name].hit(rays)
    t = -rays.oz / torch.where(rays.dz.abs() < TINY, TINY, rays.dz)
    x, y, _ = rays.at(t)
    return torch.where((x.abs() <= layout.width[thing]) & (y >= 0) & (y <= 1), t, FAR)


def _mask(layout: Layout, ray: Tensor, thing: Tensor) -> Tensor:
    """(B, N, side, side) bool from pairs of ray and thing; plates have none."""
    rays_each, num_slots = layout.side**2, layout.num_slots
    mask = torch.zeros(
        layout.num_scenes, num_slots + 1, rays_each, dtype=torch.bool, device=ray.device
    )
    scene = layout.scene[thing]
    mask.view(-1)[ray + (scene * num_slots + layout.slot[thing]) * rays_each] = True
    return mask[:, :num_slots].unflatten(2, (layout.side, layout.side))


def _light_reaching(layout: Layout, hits: Hits) -> tuple[Tensor, Tensor]:
    """Whether the lamp reaches the first point on each ray (R,) bool, and how much its surroundings
    dim it (R,).
    """
    pairs = _pairs(layout, layout.shadow_bounds)
    on_floor = hits.owner < 0
    depth = hits.depth[pairs.ray]
    rays = _camera_rays(layout, pairs)
    x, y, z = rays.at(depth - layout.reach[pairs.thing])
    lit = torch.ones_like(on_floor)
    dim = torch.zeros_like(hits.depth)

    own = hits.owner[pairs.ray] == pairs.thing
    for name, s in pairs.spans:
        lamp = layout.lamp[:, pairs.thing[s]]
        start = (x[s], y[s], z[s])
        blocked = _blocks(layout, name, start, lamp, own[s], pairs.thing[s])
        lit[pairs.ray[s][blocked]] = False
        if name != "plate":
            dim.scatter_reduce_(
                0, pairs.ray[s], _contact(GEOMETRY[name].height / 2, x[s], z[s]), "amax"
            )
    return lit, torch.where(on_floor, dim, 0.0)


def _blocks(
    layout: Layout, name: str, start: tuple, lamp: Tensor, own: Tensor, thing: Tensor
) -> Tensor:
    """Whether a thing stands between the points (M,) and the lamp.

    A convex thing never shades its own lit side.
    """
    if name == "torus":
        normal = GEOMETRY[name].face(*start)
        length = (normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2).sqrt().clamp(min=TINY)
        start = tuple(
            p + torch.where(own, 0.03 * n / length, 0.0) for p, n in zip(start, normal, strict=True)
        )
        return hit_torus(Rays(*start, *lamp), start=0.0) < FAR / 2
    t = _hit(layout, name, Rays(*start, *lamp), thing)
    return (t > 1e-4) & (t < FAR / 2) & ~own


def _contact(middle: float, x: Tensor, z: Tensor) -> Tensor:
    """How much sky a ball at that height hides from points of the table around it, (M,); 0 from
    CONTACT on.
    """
    squared = x * x + z * z + middle * middle
    hidden = middle / (squared * squared.sqrt())
    return (0.55 * (hidden - middle / (CONTACT**2 + middle**2) ** 1.5)).clamp(0, 0.75)
