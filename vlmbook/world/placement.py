"""Where things stand: positions drawn evenly over the table, none touching, each seen well enough.

Positions are uniform in view coordinates, so that where an object is in the picture does not depend
on where the camera stands. How much of an object is seen is estimated from ellipses around the
objects, on the safe side: tests compare it with the renderer's masks.

Book: appendix/world.md.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from vlmbook.world.layout import FIELD
from vlmbook.world.plates import aspect
from vlmbook.world.scene import Camera, Object, Plate, to_table, to_view
from vlmbook.world.shapes import GEOMETRY

HALF_RIGHT, HALF_NEAR = 1.62, 1.95  # the part of the table that is used, in view coordinates
GAP = 0.10  # table units between the sides of two objects
MIN_PIXELS = 24  # at 64 x 64: less than this can't be told apart
MIN_SHARE = 0.5  # of an object, at least, is seen
MAX_HIDDEN_BY_PLATE = 0.10  # of an object, at most, is behind a plate
NUM_TRIES = 60  # places tried for one object before all start again
NUM_STARTS = 60  # fresh starts before giving up

# Share of the ellipse around a shape that the shape fills, as seen from above at an angle.
FILL = {
    "sphere": 0.92,
    "cube": 0.62,
    "cylinder": 0.64,
    "cone": 0.50,
    "torus": 0.60,
    "pyramid": 0.42,
    "capsule": 0.42,
    "egg": 0.60,
}

# Points spread evenly over the unit disc (a sunflower), to measure how much of it is covered.
DISC = [
    (
        math.sqrt((k + 0.5) / 32) * math.cos(2.39996 * k),
        math.sqrt((k + 0.5) / 32) * math.sin(2.39996 * k),
    )
    for k in range(32)
]


class PlacementError(ValueError):
    """The objects do not fit on the table so that each can be seen."""


class Outline(NamedTuple):
    """The ellipse around a thing in the picture (in half pictures), how near it is, and the pixels
    it fills at 64 px.
    """

    u: float
    v: float
    width: float
    height: float
    near: float
    pixels: float


def place(
    objects: Sequence[Object], camera: Camera, rng: random.Random, fixed: Sequence[Object] = ()
) -> tuple[Object, ...]:
    """The objects at new positions, beside those that are fixed where they stand.

    Raises PlacementError when NUM_STARTS fresh starts have not found room for all.
    """
    for _ in range(NUM_STARTS):
        placed = list(fixed)
        for thing in objects:
            found = _find_room(thing, placed, camera, rng)
            if found is None:
                break
            placed.append(found)
        else:
            if all_seen(placed, (), camera):
                return tuple(placed[len(fixed) :])
    beside = f" beside {len(fixed)} others" if fixed else ""
    raise PlacementError(
        f"{len(objects)} objects could not be placed{beside} so that each is seen,"
        f" in {NUM_STARTS} tries; use fewer or smaller ones"
    )


def _find_room(
    thing: Object, others: Sequence[Object], camera: Camera, rng: random.Random
) -> Object | None:
    for _ in range(NUM_TRIES):
        right, near = rng.uniform(-HALF_RIGHT, HALF_RIGHT), rng.uniform(-HALF_NEAR, HALF_NEAR)
        candidate = replace(thing, position=to_table(right, near, camera.azimuth))
        if not any(touch(candidate, other) for other in others):
            return candidate
    return None


def place_plate(
    text: str, height: float, objects: Sequence[Object], camera: Camera, rng: random.Random
) -> Plate:
    """A plate with that text where it hides little and is not hidden.

    Raises PlacementError after a bounded search.
    """
    for _ in range(NUM_STARTS * 4):
        reach = max(0.1, HALF_RIGHT + 0.4 - height * aspect(text) / 2)
        right, near = rng.uniform(-reach, reach), rng.uniform(-HALF_NEAR, HALF_NEAR)
        plate = Plate(text, to_table(right, near, camera.azimuth), height)
        if not any(_stands_in(plate, o, camera) for o in objects) and all_seen(
            objects, (plate,), camera
        ):
            return plate
    raise PlacementError(
        f"a plate with {text!r} could not be placed beside {len(objects)} objects;"
        " use fewer objects or a smaller plate"
    )


def touch(a: Object, b: Object) -> bool:
    """Whether two objects stand closer than GAP."""
    return math.dist(a.position, b.position) < a.radius + b.radius + GAP


def _stands_in(plate: Plate, thing: Object, camera: Camera) -> bool:
    """Whether a plate cuts through an object."""
    (pr, pn), (tr, tn) = (
        to_view(plate.position, camera.azimuth),
        to_view(thing.position, camera.azimuth),
    )
    across = max(0.0, abs(pr - tr) - plate.height * aspect(plate.text) / 2)
    return math.hypot(across, pn - tn) < thing.radius + GAP / 2


def all_seen(objects: Sequence[Object], plates: Sequence[Plate], camera: Camera) -> bool:
    """Whether every object is seen well enough and every plate can be read."""
    outlines = [outline(o, camera) for o in objects]
    cards = [outline(p, camera) for p in plates]
    for one in outlines:
        share = 1 - hidden(one, outlines)
        # squared: what sticks out is often the thin part of a thing
        if share < MIN_SHARE or share**2 * one.pixels < MIN_PIXELS * 1.2:
            return False
        if cards and hidden(one, cards) > MAX_HIDDEN_BY_PLATE / 2:
            return False
    return not any(hidden(card, outlines) > 0 or abs(card.u) + card.width > 0.98 for card in cards)


def outline(thing: Object | Plate, camera: Camera) -> Outline:
    """The ellipse around a thing as the camera sees it (for a plate, one through its corners)."""
    if isinstance(thing, Plate):
        scale, foot, height = thing.height, aspect(thing.text) / 2 * 1.2, 1.2
        depth_of_foot, fill = 0.0, 1.0
    else:
        scale, foot, height = thing.radius, 1.0, GEOMETRY[thing.shape].height
        depth_of_foot, fill = 1.0, FILL[thing.shape]
    right, near = to_view(thing.position, camera.azimuth)
    sin, cos = math.sin(camera.elevation), math.cos(camera.elevation)
    middle = height * scale / 2
    depth = camera.distance - near * cos - (middle - 0.3) * sin
    zoom = 1 / (FIELD * depth)
    half_width = foot * scale * zoom
    half_height = (middle * cos + depth_of_foot * scale * sin) * zoom
    pixels = math.pi * half_width * half_height * 32 * 32 * fill
    return Outline(
        right * zoom,
        ((middle - 0.3) * cos - near * sin) * zoom,
        half_width,
        half_height,
        near,
        pixels,
    )


def hidden(one: Outline, others: Sequence[Outline]) -> float:
    """The share of an outline that lies behind nearer ones."""
    before = [
        o
        for o in others
        if o.near > one.near
        and abs(o.u - one.u) < o.width + one.width
        and abs(o.v - one.v) < o.height + one.height
    ]
    if not before:
        return 0.0
    points = [(one.u + x * one.width, one.v + y * one.height) for x, y in DISC]
    covered = sum(
        any(((u - o.u) / o.width) ** 2 + ((v - o.v) / o.height) ** 2 < 1 for o in before)
        for u, v in points
    )
    return covered / len(DISC)
