"""The eight shapes as geometry: where a ray first meets each, and which way its surface faces
there.

Object coordinates: the shape stands on y = 0 around the y axis, and no point is farther than 1 from
that axis. A ray is o + t d with d of any length, so that t keeps its meaning when the object is
scaled. Every function works on M rays at once, each coordinate a tensor of its own (M,), and uses
only + - * / and square roots, which round alike in every position of a tensor: this is why the same
scene gives the same bytes whatever the batch or the number of threads.

All shapes but the torus are convex: a ray is inside one between where it enters the last of its
parts and where it leaves the first, which leaves no cracks where the parts meet.

Book: appendix/world.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

FAR = 1e9  # the t of a ray that misses
TINY = 1e-9
CONTACT = 1.7  # how far from its axis a thing dims the table, in object units

SPHERE = 0.92  # radius
CUBE = 0.72  # half a side
CYLINDER, CYLINDER_HEIGHT = 0.74, 1.40
CONE, CONE_HEIGHT = 0.92, 1.78
TORUS, TUBE = 0.71, 0.26  # radius of the ring, of the tube
PYRAMID, PYRAMID_HEIGHT = 0.70, 1.62  # half a side of the base
CAPSULE, CAPSULE_HEIGHT = 0.50, 2.00
EGG, EGG_TOP = 0.70, 1.25  # radius and lower half, upper half


class Rays(NamedTuple):
    """M rays in object coordinates: origins and directions, each coordinate (M,)."""

    ox: Tensor
    oy: Tensor
    oz: Tensor
    dx: Tensor
    dy: Tensor
    dz: Tensor

    def at(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The points o + t d."""
        return self.ox + t * self.dx, self.oy + t * self.dy, self.oz + t * self.dz

    def take(self, rows: Tensor | slice) -> Rays:
        """Some of the rays."""
        return Rays(*(v[rows] for v in self))


Point = tuple[Tensor, Tensor, Tensor]


def _roots(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The roots of a t^2 + 2 b t + c, smaller first for a > 0, and whether there are any."""
    disc = b * b - a * c
    root = disc.clamp(min=0).sqrt()
    return (-b - root) / a, (-b + root) / a, disc > 0


def _slab(o: Tensor, d: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Where a ray enters and leaves low <= coordinate <= high."""
    inv = 1 / torch.where(d.abs() < TINY, TINY, d)
    t0, t1 = (low - o) * inv, (high - o) * inv
    return torch.minimum(t0, t1), torch.maximum(t0, t1)


def _ball(r: Rays, y: Tensor | float, radius: float, stretch: float = 1.0) -> tuple[Tensor, Tensor]:
    """Where a ray enters a ball around (0, y, 0), stretched upwards by a factor; and whether it
    does.
    """
    oy, dy = (r.oy - y) / stretch, r.dy / stretch
    a = r.dx * r.dx + dy * dy + r.dz * r.dz
    b = r.ox * r.dx + oy * dy + r.oz * r.dz
    c = r.ox * r.ox + oy * oy + r.oz * r.oz - radius * radius
    near, _, hit = _roots(a, b, c)
    return near, hit


def _pipe(r: Rays, radius: float) -> tuple[Tensor, Tensor, Tensor]:
    """Where a ray enters and leaves an endless upright cylinder; and whether it meets it."""
    a = (r.dx * r.dx + r.dz * r.dz).clamp(min=TINY)
    return _roots(a, r.ox * r.dx + r.oz * r.dz, r.ox * r.ox + r.oz * r.oz - radius * radius)


def _between(enter: Tensor, leave: Tensor, *more: Tensor) -> Tensor:
    hit = enter < leave
    for condition in more:
        hit = hit & condition
    return torch.where(hit, enter, FAR)


def hit_sphere(r: Rays) -> Tensor:
    near, hit = _ball(r, SPHERE, SPHERE)
    return torch.where(hit, near, FAR)


def hit_cube(r: Rays) -> Tensor:
    x0, x1 = _slab(r.ox, r.dx, -CUBE, CUBE)
    y0, y1 = _slab(r.oy, r.dy, 0.0, 2 * CUBE)
    z0, z1 = _slab(r.oz, r.dz, -CUBE, CUBE)
    return _between(
        torch.maximum(torch.maximum(x0, y0), z0), torch.minimum(torch.minimum(x1, y1), z1)
    )


def hit_cylinder(r: Rays) -> Tensor:
    t0, t1, hit = _pipe(r, CYLINDER)
    y0, y1 = _slab(r.oy, r.dy, 0.0, CYLINDER_HEIGHT)
    return _between(torch.maximum(t0, y0), torch.minimum(t1, y1), hit)


def hit_cone(r: Rays) -> Tensor:
    k = (CONE / CONE_HEIGHT) ** 2
    oy = r.oy - CONE_HEIGHT
    a = r.dx * r.dx + r.dz * r.dz - k * r.dy * r.dy
    a = torch.where(a.abs() < TINY, TINY, a)
    b = r.ox * r.dx + r.oz * r.dz - k * oy * r.dy
    c = r.ox * r.ox + r.oz * r.oz - k * oy * oy
    t0, t1, hit = _roots(a, b, c)
    best = torch.full_like(t0, FAR)
    for t in (t0, t1):  # the double cone's other half and what lies under the table do not count
        y = r.oy + t * r.dy
        best = torch.where(hit & (y >= 0) & (y <= CONE_HEIGHT), torch.minimum(best, t), best)
    return best


def hit_pyramid(r: Rays) -> Tensor:
    enter, leave = _slab(r.oy, r.dy, 0.0, PYRAMID_HEIGHT)
    for o, d in ((r.ox, r.dx), (r.oz, r.dz)):
        for side in (1.0, -1.0):  # inside: side * h * x + s * y <= s * h
            gap = PYRAMID * (PYRAMID_HEIGHT - r.oy) - side * PYRAMID_HEIGHT * o
            rate = side * PYRAMID_HEIGHT * d + PYRAMID * r.dy
            t = gap / torch.where(rate.abs() < TINY, TINY, rate)
            enter = torch.where(rate < 0, torch.maximum(enter, t), enter)
            leave = torch.where(rate > 0, torch.minimum(leave, t), leave)
    return _between(enter, leave)


def hit_capsule(r: Rays) -> Tensor:
    t, _, hit = _pipe(r, CAPSULE)
    y = r.oy + t * r.dy
    low, high = CAPSULE, CAPSULE_HEIGHT - CAPSULE
    cap, cap_hit = _ball(r, torch.where(y < low, low, high), CAPSULE)
    on_side = (y >= low) & (y <= high)
    return torch.where(hit & on_side, t, torch.where(hit & cap_hit, cap, FAR))


def hit_egg(r: Rays) -> Tensor:
    top, top_hit = _ball(r, EGG, EGG, EGG_TOP / EGG)
    low, low_hit = _ball(r, EGG, EGG)
    in_top = top_hit & (r.oy + top * r.dy >= EGG)
    in_low = low_hit & (r.oy + low * r.dy <= EGG + 1e-4)
    return torch.where(in_top, top, torch.where(in_low, low, FAR))


def hit_torus(r: Rays, start: float = -FAR, num_steps: int = 40) -> Tensor:
    """Sphere tracing from t = start on (Hart 1996): step by the distance to the surface until it is
    small.
    """
    t, inside = _ball(r, TUBE, TORUS + TUBE + 1e-3)
    y0, y1 = _slab(r.oy, r.dy, 0.0, 2 * TUBE)
    result = torch.full_like(t, FAR)
    live = (inside & (y1 > t)).nonzero().squeeze(1)
    r, t, end = r.take(live), torch.maximum(t, y0)[live].clamp(min=start), y1[live]
    length = (r.dx * r.dx + r.dy * r.dy + r.dz * r.dz).sqrt()
    for step in range(num_steps):
        x, y, z = r.at(t)
        gap = torus_distance(x, y, z)
        found = gap < 1e-3
        done = found | (t > end)
        if step % 4 == 3 and len(live):  # stop the rays that have arrived or passed
            result[live[found]] = t[found]
            keep = (~done).nonzero().squeeze(1)
            live, r, t, end, length, gap = (
                live[keep],
                r.take(keep),
                t[keep],
                end[keep],
                length[keep],
                gap[keep],
            )
            t = t + gap / length
        else:
            t = torch.where(done, t, t + gap / length)
    return result


def torus_distance(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Distance from a point to the torus, in object units."""
    ring, height = (x * x + z * z).sqrt() - TORUS, y - TUBE
    return (ring * ring + height * height).sqrt() - TUBE


def face_sphere(x: Tensor, y: Tensor, z: Tensor) -> Point:
    return x, y - SPHERE, z


def face_cube(x: Tensor, y: Tensor, z: Tensor) -> Point:
    y = y - CUBE
    largest = torch.maximum(torch.maximum(x.abs(), y.abs()), z.abs())
    return tuple(torch.where(v.abs() == largest, v.sign(), 0.0) for v in (x, y, z))


def face_cylinder(x: Tensor, y: Tensor, z: Tensor) -> Point:
    top = y > CYLINDER_HEIGHT - 1e-3
    return torch.where(top, 0.0, x), top.to(x.dtype), torch.where(top, 0.0, z)


def face_cone(x: Tensor, y: Tensor, z: Tensor) -> Point:
    return x, (CONE_HEIGHT - y) * (CONE / CONE_HEIGHT) ** 2, z


def face_pyramid(x: Tensor, y: Tensor, z: Tensor) -> Point:
    on_x = x.abs() > z.abs()
    up = torch.full_like(x, PYRAMID / PYRAMID_HEIGHT)
    return torch.where(on_x, x.sign(), 0.0), up, torch.where(on_x, 0.0, z.sign())


def face_capsule(x: Tensor, y: Tensor, z: Tensor) -> Point:
    return x, y - y.clamp(CAPSULE, CAPSULE_HEIGHT - CAPSULE), z


def face_egg(x: Tensor, y: Tensor, z: Tensor) -> Point:
    y = y - EGG
    return x, torch.where(y > 0, y * (EGG / EGG_TOP) ** 2, y), z


def face_torus(x: Tensor, y: Tensor, z: Tensor) -> Point:
    ring = (x * x + z * z).sqrt().clamp(min=TINY)
    pull = 1 - TORUS / ring
    return x * pull, y - TUBE, z * pull


class Shape(NamedTuple):
    """hit(rays) gives the first t or FAR; face(x, y, z) the outward normal, of any length."""

    height: float
    hit: Callable[[Rays], Tensor]
    face: Callable[[Tensor, Tensor, Tensor], Point]


GEOMETRY = {
    "sphere": Shape(2 * SPHERE, hit_sphere, face_sphere),
    "cube": Shape(2 * CUBE, hit_cube, face_cube),
    "cylinder": Shape(CYLINDER_HEIGHT, hit_cylinder, face_cylinder),
    "cone": Shape(CONE_HEIGHT, hit_cone, face_cone),
    "torus": Shape(2 * TUBE, hit_torus, face_torus),
    "pyramid": Shape(PYRAMID_HEIGHT, hit_pyramid, face_pyramid),
    "capsule": Shape(CAPSULE_HEIGHT, hit_capsule, face_capsule),
    "egg": Shape(EGG + EGG_TOP, hit_egg, face_egg),
}

SHAPES = (*GEOMETRY, "plate")  # the order in which the renderer sorts what it draws
