"""Scenes as arrays: what each object needs to know about its camera, its lamp and its place in the
picture.

All of this is one short row for each object, worked out in double precision on the CPU before a
single ray is cast.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vlmbook.world import plates
from vlmbook.world.scene import Object, Plate, Scene
from vlmbook.world.shapes import CONTACT, FAR, GEOMETRY, SHAPES
from vlmbook.world.vocabulary import COLORS, FLOORS, LOUD_FLOORS, MATERIALS

FIELD = 0.186  # half the picture's width at a distance of 1
LOOK_AT = 0.30  # height of the point that the camera looks at, in table units
PLATE_COLOR = (0.97, 0.96, 0.93)


class Hits(NamedTuple):
    """The first thing on each ray: depth (R,) float and owner (R,) int64, the thing or -1 for the
    table.

    Then one entry for each ray that met a thing, in the order of things: ray, thing, and in the
    thing's
    coordinates the point and the ray's direction; spans gives, for each
    shape that occurs, its name and its stretch of entries.
    """

    depth: Tensor
    owner: Tensor
    ray: Tensor
    thing: Tensor
    point: tuple[Tensor, Tensor, Tensor]
    direction: tuple[Tensor, Tensor, Tensor]
    spans: list[tuple[str, slice]]


@dataclass(frozen=True)
class Layout:
    """B scenes and their K things (objects and text plates), sorted by shape.

    side is the number of rays along an edge of a picture. Per thing: scene and slot (K,) int64 say
    which picture and which mask is its own (plates have the slot past the last); bounds and
    shadow_bounds (4, K) int64 are the first column, first row, columns and rows of rays to try;
    camera (12, K) is the camera's position, forward, right and up, and lamp (3, K) the direction of
    the lamp, in the thing's own coordinates; reach (K,) the depth of its middle; width (K,) half a
    plate's width; color (3, K) linear; material (K,) int64; ink the words of the plates, by thing.
    shapes lists (name, first thing, end). Per scene: floor (B, 3) linear, floor_depth (B, side) by
    row, view (B, 12) like camera but on the table, lamp_up (B,) and shading (B, 6) as in _shading.
    """

    num_scenes: int
    num_slots: int
    side: int
    shapes: list[tuple[str, int, int]]
    ink: dict[int, Tensor]
    scene: Tensor
    slot: Tensor
    bounds: Tensor
    shadow_bounds: Tensor
    camera: Tensor
    lamp: Tensor
    reach: Tensor
    width: Tensor
    color: Tensor
    material: Tensor
    floor: Tensor
    floor_depth: Tensor
    view: Tensor
    lamp_up: Tensor
    shading: Tensor


def lay_out(scenes: Sequence[Scene], num_slots: int, side: int, device: torch.device) -> Layout:
    """Everything that the ray caster needs to know of the scenes, on the device."""
    things = [
        (b, n, o) for b, s in enumerate(scenes) for n, o in enumerate((*s.objects, *s.plates))
    ]
    things.sort(key=lambda thing: SHAPES.index(_shape(thing[2])))
    names = [_shape(o) for *_, o in things]
    scene = np.array([b for b, *_ in things], dtype=np.int64)
    view = np.array([_view(s) for s in scenes])
    lamp = np.array([_lamp(s) for s in scenes])
    place = np.array([_place(o, scenes[b].camera.azimuth) for b, _, o in things]).reshape(-1, 6).T

    arrays = {
        "scene": scene,
        "slot": np.array(
            [num_slots if isinstance(o, Plate) else n for _, n, o in things], dtype=np.int64
        ),
        "color": np.array([_color(o, scenes[b].hue) for b, _, o in things]).reshape(-1, 3).T,
        "material": np.array([_material(o) for *_, o in things], dtype=np.int64),
        "width": place[5],
        "floor": np.array([linear((FLOORS | LOUD_FLOORS)[s.floor]) for s in scenes]),
        "floor_depth": _floor_depth(view, side),
        "view": view,
        "lamp_up": lamp[:, 1],
        "shading": np.array([_shading(s) for s in scenes]),
        **_frames(place, view[scene].T, lamp[scene].T),
        **_all_bounds(place, view[scene].T, lamp[scene].T, side),
    }
    return Layout(
        num_scenes=len(scenes),
        num_slots=num_slots,
        side=side,
        shapes=[(s, names.index(s), names.index(s) + names.count(s)) for s in SHAPES if s in names],
        ink={
            k: torch.tensor(plates.texture(o.text), device=device)
            for k, (*_, o) in enumerate(things)
            if isinstance(o, Plate)
        },
        **{name: _send(array, device) for name, array in arrays.items()},
    )


def _send(array: np.ndarray, device: torch.device) -> Tensor:
    kind = np.float32 if array.dtype.kind == "f" else np.int64
    return torch.from_numpy(np.ascontiguousarray(array, dtype=kind)).to(device)


def _shape(thing: Object | Plate) -> str:
    return "plate" if isinstance(thing, Plate) else thing.shape


def _material(thing: Object | Plate) -> int:
    return 0 if isinstance(thing, Plate) else MATERIALS.index(thing.material)


def _view(scene: Scene) -> list[float]:
    """The camera on the table: position, forward, right and up; the last two span half the picture
    at depth 1.
    """
    camera = scene.camera
    ca, sa, ce, se = (
        f(a) for a in (camera.azimuth, camera.elevation) for f in (math.cos, math.sin)
    )
    away = (sa * ce, se, ca * ce)
    position = [a * camera.distance for a in away]
    position[1] += LOOK_AT
    right = [FIELD * ca, 0.0, -FIELD * sa]
    up = [-FIELD * sa * se, FIELD * ce, -FIELD * ca * se]
    return [*position, *(-a for a in away), *right, *up]


def _lamp(scene: Scene) -> list[float]:
    """The direction towards the lamp, of length 1."""
    angle, elevation = scene.camera.azimuth + scene.light.azimuth, scene.light.elevation
    return [
        math.sin(angle) * math.cos(elevation),
        math.sin(elevation),
        math.cos(angle) * math.cos(elevation),
    ]


def _place(thing: Object | Plate, azimuth: float) -> tuple[float, ...]:
    """x, z, scale, rotation, height and half width, the last two in units of the scale."""
    if isinstance(thing, Plate):
        return *thing.position, thing.height, azimuth, 1.0, plates.aspect(thing.text) / 2
    return *thing.position, thing.radius, thing.rotation, GEOMETRY[thing.shape].height, 0.0


def _frames(place: np.ndarray, view: np.ndarray, lamp: np.ndarray) -> dict[str, np.ndarray]:
    """The camera and the lamp in each thing's own coordinates, and the depth of its middle."""
    x, z, scale, rotation, height, _ = place
    cos, sin = np.cos(rotation), np.sin(rotation)

    def turned(v: np.ndarray) -> np.ndarray:
        return np.stack([cos * v[0] - sin * v[2], v[1], sin * v[0] + cos * v[2]])

    foot = np.stack([x, np.zeros_like(x), z])
    middle = np.stack([x, height * scale / 2, z])
    camera = (
        np.concatenate([turned(view[0:3] - foot), *(turned(view[i : i + 3]) for i in (3, 6, 9))])
        / scale
    )
    return {
        "camera": camera,
        "lamp": turned(lamp),
        "reach": ((middle - view[0:3]) * view[3:6]).sum(0),
    }


def _all_bounds(
    place: np.ndarray, view: np.ndarray, lamp: np.ndarray, side: int
) -> dict[str, np.ndarray]:
    """The rays that can meet a thing, and those whose first point it can shade: boxes around
    projected corners.
    """
    x, z, scale, _, height, width = place
    plate = width > 0
    right, near = (
        view[6:9] / FIELD,
        np.stack([-view[3], 0 * x, -view[5]]) / np.hypot(view[3], view[5]),
    )
    foot = np.stack([x, np.zeros_like(x), z])
    rise = np.stack([np.zeros_like(x), height * scale, np.zeros_like(x)])

    def square(radius: float) -> list[np.ndarray]:
        along = np.where(plate, width, radius) * scale
        across = np.where(plate, 0.0, radius) * scale
        return [foot + a * along * right + b * across * near for a in (-1, 1) for b in (-1, 1)]

    body = square(1.0) + [corner + rise for corner in square(1.0)]
    fall = lamp * (rise[1] / lamp[1])
    shadow = body + [corner + rise - fall for corner in square(1.0)] + square(CONTACT)
    return {"bounds": _box(body, view, side), "shadow_bounds": _box(shadow, view, side)}


def _box(corners: list[np.ndarray], view: np.ndarray, side: int) -> np.ndarray:
    """The smallest box of rays around projected corners: first column, first row, columns, rows."""
    from_camera = np.stack(corners) - view[None, 0:3]
    depth = (from_camera * view[None, 3:6]).sum(1)
    u = (from_camera * view[None, 6:9]).sum(1) / (depth * FIELD**2)
    v = (from_camera * view[None, 9:12]).sum(1) / (depth * FIELD**2)
    ranges = []
    for low, high in ((u.min(0), u.max(0)), (-v.max(0), -v.min(0))):
        first = np.clip(np.ceil(((low + 1) * side - 1) / 2 - 1e-6), 0, side)
        last = np.clip(np.floor(((high + 1) * side - 1) / 2 + 1e-6), -1, side - 1)
        ranges.append((first, np.maximum(last - first + 1, 0)))
    (left, columns), (top, rows) = ranges
    return np.stack([left, top, columns, rows]).astype(np.int64)


def _floor_depth(view: np.ndarray, side: int) -> np.ndarray:
    """(B, side): the depth of the table along the rays of each row."""
    v = 1 - (2 * np.arange(side) + 1) / side
    falling = view[:, 4:5] + v * view[:, 10:11]
    return np.where(falling < -1e-3, -view[:, 1:2] / np.minimum(falling, -1e-3), FAR)


def linear(rgb: Sequence[float]) -> list[float]:
    """Display values to amounts of light; the picture takes the square root at the end."""
    return [channel**2 for channel in rgb]


def _color(thing: Object | Plate, hue: float) -> list[float]:
    if isinstance(thing, Plate):
        return linear(PLATE_COLOR)
    rgb = COLORS[thing.color]
    if hue:
        h, lightness, saturation = colorsys.rgb_to_hls(*rgb)
        rgb = colorsys.hls_to_rgb((h + hue / 360) % 1, lightness, saturation)
    return linear(rgb)


def _shading(scene: Scene) -> list[float]:
    """Ambient light, the lamp's light, gloss, how much the sky's side is brighter, contact shade,
    checker.
    """
    checker = float(scene.floor == "checker")
    if scene.shading == "flat":
        return [1.0, 0.0, 0.0, 0.0, 0.0, checker]
    return [scene.light.ambient, 1.0 - scene.light.ambient, 1.0, 1.0, 1.0, checker]
