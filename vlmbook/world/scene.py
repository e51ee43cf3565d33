"""A scene: objects on a table, with the light, the floor and the camera that show them.

The scene is the only source of truth. Pixels, masks, captions, questions and twins are all derived
from it, and it goes to JSON and back unchanged.

Table coordinates: x to the right, z towards the viewer, y up, in table units; the camera's azimuth
turns the viewer around the table. View coordinates are the same plane seen from the camera:
`right` grows to the right of the picture and `near` grows towards the viewer.

Book: appendix/world.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from vlmbook.world.vocabulary import (
    ATTRIBUTES,
    COLORS,
    FLOORS,
    LOUD_FLOORS,
    MATERIALS,
    PRESETS,
    RELATIONS,
    SHAPES,
    SIZES,
    one_of,
)

MARGIN = 0.35  # table units: closer than this along an axis, neither relation of that axis holds
MAX_OBJECTS = 12


@dataclass(frozen=True)
class Object:
    """One thing on the table.

    position is (x, z) in table units, rotation in radians about the vertical.
    """

    shape: str
    color: str
    material: str = "rubber"
    size: str = "large"
    position: tuple[float, float] = (0.0, 0.0)
    rotation: float = 0.0

    def __post_init__(self) -> None:
        one_of(self.shape, SHAPES, "shape")
        one_of(self.color, COLORS, "color")
        one_of(self.material, MATERIALS, "material")
        one_of(self.size, SIZES, "size")

    @property
    def radius(self) -> float:
        """Half the object's width, in table units."""
        return SIZES[self.size]

    @property
    def kind(self) -> tuple[str, str, str, str]:
        """(shape, color, material, size): what a full description names."""
        return self.shape, self.color, self.material, self.size


@dataclass(frozen=True)
class Light:
    """A distant lamp: azimuth (0 = from the viewer, positive = from the right) and elevation in
    radians.
    """

    azimuth: float = 0.6
    elevation: float = 0.9
    ambient: float = 0.42  # share of the light that shadows still receive, in [0, 1]


@dataclass(frozen=True)
class Camera:
    """Looks at the middle of the table: angles in radians, distance in table units."""

    azimuth: float = 0.0
    elevation: float = 0.66
    distance: float = 13.0


@dataclass(frozen=True)
class Plate:
    """A card that stands on the table, faces the camera and carries a word. Needs 96 px or more."""

    text: str
    position: tuple[float, float] = (0.0, 0.0)
    height: float = 0.5  # table units; the width follows from the text

    def __post_init__(self) -> None:
        if not 1 <= len(self.text) <= 8:
            raise ValueError(f"plate text {self.text!r} has {len(self.text)} letters; use 1 to 8")


@dataclass(frozen=True)
class Scene:
    """What is on the table and how it is seen, with where the scene came from.

    shading is "lit" or "flat"; hue turns every hue by that many degrees (both for render_ood).
    edits names the changes that made a twin, in order; it is empty for a sampled scene.
    """

    objects: tuple[Object, ...]
    light: Light = Light()
    camera: Camera = Camera()
    floor: str = "linen"
    plates: tuple[Plate, ...] = ()
    shading: str = "lit"
    hue: float = 0.0
    preset: str = "full"
    split: str = "train"
    seed: int = 0
    index: int = 0
    edits: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        one_of(self.preset, PRESETS, "preset")
        one_of(self.floor, (*FLOORS, *LOUD_FLOORS), "floor")
        one_of(self.shading, ("lit", "flat"), "shading")
        if len(self.objects) > MAX_OBJECTS:
            raise ValueError(
                f"{len(self.objects)} objects are too many for the table; at most {MAX_OBJECTS} fit"
            )

    def __len__(self) -> int:
        return len(self.objects)

    def with_objects(self, objects: tuple[Object, ...], edit: str = "") -> Scene:
        """The same view of other objects; edit, when given, is added to the scene's history."""
        return replace(self, objects=tuple(objects), edits=self.edits + ((edit,) if edit else ()))

    def view_position(self, i: int) -> tuple[float, float]:
        """(right, near) of object i as the camera sees the table, in table units."""
        return to_view(self.objects[i].position, self.camera.azimuth)

    def holds(self, a: int, relation: str, b: int) -> bool:
        """Whether object a is left of, right of, in front of or behind object b, by the margin or
        more.
        """
        one_of(relation, RELATIONS, "relation")
        (right_a, near_a), (right_b, near_b) = self.view_position(a), self.view_position(b)
        gap = {
            "left": right_b - right_a,
            "right": right_a - right_b,
            "front": near_a - near_b,
            "behind": near_b - near_a,
        }[relation]
        return gap >= MARGIN

    def relations(self) -> list[tuple[int, str, int]]:
        """Every (a, relation, b) that holds, in the order of a, b and RELATIONS."""
        n = range(len(self.objects))
        return [(a, r, b) for a in n for b in n if a != b for r in RELATIONS if self.holds(a, r, b)]

    def find(self, **wanted: str) -> list[int]:
        """The objects that have all the given attributes: scene.find(color="red", shape="cube")."""
        for attribute in wanted:
            one_of(attribute, ATTRIBUTES, "attribute")
        return [
            i
            for i, o in enumerate(self.objects)
            if all(getattr(o, k) == v for k, v in wanted.items())
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, as JSON holds them."""
        return json.loads(json.dumps(asdict(self)))

    def to_json(self) -> str:
        """One line of JSON; Scene.from_json gives an equal scene back."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Scene:
        """The scene that to_dict wrote; a ValueError names the field that is not right."""
        return _read(cls, data, "scene")

    @classmethod
    def from_json(cls, text: str) -> Scene:
        """The scene that to_json wrote; a ValueError names the field that is not right."""
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"this is not JSON ({error}); a scene comes from Scene.to_json()"
            ) from None
        return cls.from_dict(data)


def to_view(position: tuple[float, float], azimuth: float) -> tuple[float, float]:
    """Table (x, z) to view (right, near) for a camera at that azimuth."""
    (x, z), c, s = position, math.cos(azimuth), math.sin(azimuth)
    return c * x - s * z, s * x + c * z


def to_table(right: float, near: float, azimuth: float) -> tuple[float, float]:
    """View (right, near) to table (x, z): the inverse of to_view."""
    c, s = math.cos(azimuth), math.sin(azimuth)
    return c * right + s * near, -s * right + c * near


# How each field is read back from JSON. The types are few, so a table says more than introspection.
_NESTED = {"light": Light, "camera": Camera}
_LISTS = {"objects": Object, "plates": Plate}
_NUMBERS = {"rotation", "azimuth", "elevation", "ambient", "distance", "height", "hue"}
_COUNTS = {"seed", "index"}


def _read(cls: type, data: Any, where: str) -> Any:
    """Build the dataclass cls from parsed JSON, naming the field in every complaint."""
    if not isinstance(data, Mapping):
        raise ValueError(f"{where} should be an object with fields, not {data!r}")
    names = [f.name for f in fields(cls)]
    if unknown := [name for name in data if name not in names]:
        raise ValueError(
            f"{where} has a field {unknown[0]!r} that does not exist;"
            f" it may have {', '.join(names)}"
        )
    required = {Scene: ["objects"], Object: ["shape", "color"], Plate: ["text"]}.get(cls, [])
    if missing := [name for name in required if name not in data]:
        raise ValueError(f"{where} lacks its field {missing[0]!r}")
    values = {name: _value(name, value, f"{where}.{name}") for name, value in data.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _value(name: str, value: Any, where: str) -> Any:
    if name in _NESTED:
        return _read(_NESTED[name], value, where)
    if name in _LISTS or name == "edits":
        if not isinstance(value, list | tuple):
            raise ValueError(f"{where} should be a list, not {value!r}")
        if name == "edits":
            return tuple(_text(v, f"{where}[{i}]") for i, v in enumerate(value))
        return tuple(_read(_LISTS[name], v, f"{where}[{i}]") for i, v in enumerate(value))
    if name == "position":
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise ValueError(f"{where} should be two numbers, x and z, not {value!r}")
        return tuple(_number(v, f"{where}[{i}]") for i, v in enumerate(value))
    if name in _NUMBERS:
        return _number(value, where)
    if name in _COUNTS:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{where} should be a whole number, not {value!r}")
        return value
    return _text(value, where)


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{where} should be a finite number, not {value!r}")
    return float(value)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{where} should be a text, not {value!r}")
    return value
