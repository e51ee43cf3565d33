"""Twins: a second scene that differs from the first in exactly one thing, under the same camera and
light.

A model that scores both alike has not used that thing. Each function returns a new scene whose
edits name the change, and raises TwinError where the change would be vacuous: where a full
description of the scene would stay the same.

Which objects change can be said; what is left out is the first choice that works, or a random one
when an rng is given.

Book: appendix/world.md.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TypeVar

from vlmbook.world.placement import PlacementError, all_seen, place, place_plate, touch
from vlmbook.world.scene import MAX_OBJECTS, Object, Scene
from vlmbook.world.vocabulary import ATTRIBUTES, PRESETS, one_of

Item = TypeVar("Item")


class TwinError(ValueError):
    """The scene has no twin of the kind asked for."""


def swap_attributes(
    scene: Scene,
    a: int | None = None,
    b: int | None = None,
    attribute: str = "color",
    rng: random.Random | None = None,
) -> Scene:
    """Two objects trade one attribute: of a red cube and a blue sphere, a blue cube and a red
    sphere.
    """
    one_of(attribute, ATTRIBUTES, "attribute")

    def swapped(pair: tuple[int, int]) -> Scene | None:
        first, second = (scene.objects[i] for i in pair)
        new = {
            pair[0]: replace(first, **{attribute: getattr(second, attribute)}),
            pair[1]: replace(second, **{attribute: getattr(first, attribute)}),
        }
        return _if_real(scene, new, f"swap {attribute}")

    return _first(
        _pairs(scene, a, b),
        swapped,
        rng,
        f"no two objects whose {attribute}s can be swapped visibly",
    )


def swap_relation(
    scene: Scene, a: int | None = None, b: int | None = None, rng: random.Random | None = None
) -> Scene:
    """Two different objects trade places, so that every relation between them is reversed."""

    def swapped(pair: tuple[int, int]) -> Scene | None:
        first, second = (scene.objects[i] for i in pair)
        if first.kind == second.kind or not any(
            {x, y} == set(pair) for x, _, y in scene.relations()
        ):
            return None
        objects = list(scene.objects)
        objects[pair[0]] = replace(first, position=second.position)
        objects[pair[1]] = replace(second, position=first.position)
        return (
            scene.with_objects(tuple(objects), "swap places") if _stands(scene, objects) else None
        )

    return _first(
        _pairs(scene, a, b), swapped, rng, "no two different objects that can trade places"
    )


def recolour(
    scene: Scene, i: int | None = None, color: str | None = None, rng: random.Random | None = None
) -> Scene:
    """One object gets another colour of the preset."""
    colors = (
        PRESETS[scene.preset].colors
        if color is None
        else (one_of(color, PRESETS[scene.preset].colors, "color"),)
    )

    def painted(choice: tuple[int, str]) -> Scene | None:
        k, new = choice
        if scene.objects[k].color == new:
            return None
        return _if_real(scene, {k: replace(scene.objects[k], color=new)}, "recolour")

    choices = [(k, c) for k in _indices(scene, i) for c in colors]
    return _first(choices, painted, rng, "no object that can get another color")


def add(scene: Scene, thing: Object | None = None, rng: random.Random | None = None) -> Scene:
    """One more object where there is room; a random one of the preset unless it is given (its
    position is ignored).
    """
    rng = rng or _own_rng(scene, "add")
    if len(scene) >= MAX_OBJECTS:
        raise TwinError(
            f"the scene has {len(scene)} objects, and no more than {MAX_OBJECTS} fit;"
            " add to another one"
        )
    if thing is None:
        world = PRESETS[scene.preset]
        words = {name: rng.choice(world.values(name)) for name in ATTRIBUTES}
        thing = Object(**words, rotation=round(rng.uniform(0, 6.2832), 4))
    try:
        objects = (*scene.objects, *place([thing], scene.camera, rng, fixed=scene.objects))
    except PlacementError as error:
        raise TwinError(f"there is no room for another object: {error}") from None
    if not all_seen(objects, scene.plates, scene.camera):
        raise TwinError(
            "another object would stand in the way of the plate; use a scene with fewer objects"
        )
    return scene.with_objects(objects, "add")


def remove(scene: Scene, i: int | None = None, rng: random.Random | None = None) -> Scene:
    """One object less."""

    def without(k: int) -> Scene:
        return scene.with_objects(scene.objects[:k] + scene.objects[k + 1 :], "remove")

    return _first(_indices(scene, i), without, rng, "nothing to remove")


def change_count(
    scene: Scene, by: int = 1, i: int | None = None, rng: random.Random | None = None
) -> Scene:
    """One more (by=1) or one fewer (by=-1) of a kind that is there: two red cubes become three, or
    one.
    """
    if by not in (1, -1):
        raise ValueError(
            f"by {by} is not 1 or -1; call change_count again to change a count by more"
        )

    def changed(k: int) -> Scene | None:
        if by == 1:
            try:
                twin = add(scene, scene.objects[k], rng)
            except TwinError:
                return None
        elif sum(o.kind == scene.objects[k].kind for o in scene.objects) < 2:
            return None
        else:
            twin = remove(scene, k)
        return replace(twin, edits=(*scene.edits, "change count"))

    wanted = "room for one more of a kind" if by == 1 else "two of a kind"
    return _first(_indices(scene, i), changed, rng, f"not {wanted}")


def relabel_plate(scene: Scene, text: str, plate: int = 0) -> Scene:
    """A text plate says something else; it stays where it is, and its width follows the word."""
    if plate not in range(len(scene.plates)):
        raise TwinError(
            f"the scene has {len(scene.plates)} text plates, so none is number {plate};"
            " add one first"
        )
    if scene.plates[plate].text == text:
        raise TwinError(f"the plate already says {text!r}; choose another word")
    plates = list(scene.plates)
    plates[plate] = replace(plates[plate], text=text)
    return replace(scene, plates=tuple(plates), edits=(*scene.edits, "relabel plate"))


def add_plate(
    scene: Scene, text: str, height: float = 0.5, rng: random.Random | None = None
) -> Scene:
    """A text plate where it hides little. Raises TwinError where there is no room."""
    rng = rng or _own_rng(scene, "add plate")
    try:
        plate = place_plate(text, height, scene.objects, scene.camera, rng)
    except PlacementError as error:
        raise TwinError(str(error)) from None
    return replace(scene, plates=(*scene.plates, plate), edits=(*scene.edits, "add plate"))


def _if_real(scene: Scene, new: dict[int, Object], edit: str) -> Scene | None:
    """The scene with some objects replaced, or None where a full description would not change."""
    objects = tuple(new.get(i, o) for i, o in enumerate(scene.objects))
    if sorted(o.kind for o in objects) == sorted(o.kind for o in scene.objects) or not _stands(
        scene, objects
    ):
        return None
    return scene.with_objects(objects, edit)


def _stands(scene: Scene, objects: Sequence[Object]) -> bool:
    """Whether no two objects touch and all are seen."""
    return not any(touch(a, b) for a, b in combinations(objects, 2)) and all_seen(
        objects, scene.plates, scene.camera
    )


def _indices(scene: Scene, i: int | None) -> list[int]:
    if i is None:
        return list(range(len(scene)))
    if i not in range(len(scene)):
        raise TwinError(
            f"the scene has {len(scene)} objects, so none is number {i};"
            f" choose from 0 to {len(scene) - 1}"
        )
    return [i]


def _pairs(scene: Scene, a: int | None, b: int | None) -> list[tuple[int, int]]:
    return [(x, y) for x in _indices(scene, a) for y in _indices(scene, b) if x != y]


def _first(choices: Iterable[Item], make, rng: random.Random | None, lacking: str) -> Scene:
    """What make gives for the first choice for which it gives something; in random order with an
    rng.
    """
    choices = list(choices)
    if rng is not None:
        rng.shuffle(choices)
    for choice in choices:
        twin = make(choice)
        if twin is not None:
            return twin
    raise TwinError(f"this scene has {lacking}; draw another scene")


def _own_rng(scene: Scene, edit: str) -> random.Random:
    return random.Random(
        f"{edit}/{scene.preset}/{scene.split}/{scene.seed}/{scene.index}/{len(scene.edits)}"
    )
