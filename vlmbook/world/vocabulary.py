"""The words of the world: which shapes, colours, materials and sizes there are.

Book: appendix/world.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

SHAPES = ("sphere", "cube", "cylinder", "cone", "torus", "pyramid", "capsule", "egg")

# Base colours as sRGB in [0, 1]. After shading, the mean colours of any two stay a CIE Delta E
# of 20 or more apart (tests/test_render.py measures it).
COLORS = {
    "red": (0.80, 0.08, 0.08),
    "green": (0.12, 0.55, 0.16),
    "blue": (0.12, 0.22, 0.86),
    "yellow": (0.96, 0.86, 0.12),
    "purple": (0.48, 0.12, 0.68),
    "cyan": (0.18, 0.78, 0.84),
    "brown": (0.47, 0.24, 0.06),
    "gray": (0.50, 0.50, 0.50),
    "orange": (0.98, 0.48, 0.05),
    "pink": (0.98, 0.52, 0.72),
}

MATERIALS = ("rubber", "metal", "striped")

# Radius in table units: no part of an object is farther than this from its vertical axis.
SIZES = {"large": 0.52, "small": 0.36}

RELATIONS = ("left", "right", "front", "behind")
OPPOSITE = {"left": "right", "right": "left", "front": "behind", "behind": "front"}

# Neutral floors are for every split; the two loud ones are for render_ood only. sRGB.
FLOORS = {
    "linen": (0.80, 0.78, 0.74),
    "stone": (0.70, 0.71, 0.73),
    "sand": (0.78, 0.74, 0.66),
    "slate": (0.58, 0.60, 0.63),
}
LOUD_FLOORS = {"teal": (0.30, 0.50, 0.50), "checker": (0.88, 0.86, 0.84)}

ATTRIBUTES = ("shape", "color", "material", "size")


@dataclass(frozen=True)
class Preset:
    """How much of the vocabulary a world uses; what has one value is never named in a caption."""

    name: str
    shapes: tuple[str, ...]
    colors: tuple[str, ...]
    materials: tuple[str, ...]
    sizes: tuple[str, ...]

    @property
    def num_kinds(self) -> int:
        """How many different objects the preset can describe."""
        return len(self.shapes) * len(self.colors) * len(self.materials) * len(self.sizes)

    def values(self, attribute: str) -> tuple[str, ...]:
        """The words of one attribute: "shape", "color", "material" or "size"."""
        one_of(attribute, ATTRIBUTES, "attribute")
        return getattr(self, attribute + "s")

    def varies(self, attribute: str) -> bool:
        """Whether an attribute has more than one value, so that naming it says something."""
        return len(self.values(attribute)) > 1


PRESETS = {
    "tiny": Preset("tiny", SHAPES[:3], tuple(COLORS)[:4], MATERIALS[:1], ("large",)),
    "standard": Preset("standard", SHAPES[:6], tuple(COLORS)[:8], MATERIALS[:1], ("large",)),
    "full": Preset("full", SHAPES, tuple(COLORS), MATERIALS, tuple(SIZES)),
}


def one_of(value: str, known: Iterable[str], what: str) -> str:
    """Return value if it is known; otherwise raise a ValueError that lists what is."""
    known = tuple(known)
    if value not in known:
        raise ValueError(f"{what} {value!r} does not exist; choose from {', '.join(known)}")
    return value
