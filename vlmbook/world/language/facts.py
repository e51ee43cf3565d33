"""What a sentence says, apart from how it says it.

Facts are what captions are made from, what parsing gives back, and what grading compares with a
scene, so that no grade depends on the wording.
"""

from __future__ import annotations

from dataclasses import dataclass

from vlmbook.world.scene import Object, Scene
from vlmbook.world.vocabulary import ATTRIBUTES


@dataclass(frozen=True)
class Thing:
    """A description of an object, whole or in part: what is None is not said."""

    shape: str | None = None
    color: str | None = None
    material: str | None = None
    size: str | None = None

    def fits(self, thing: Object) -> bool:
        """Whether an object has everything that is said."""
        return all(getattr(self, a) in (None, getattr(thing, a)) for a in ATTRIBUTES)

    def found(self, scene: Scene) -> list[int]:
        """The objects of a scene that fit."""
        return [i for i, o in enumerate(scene.objects) if self.fits(o)]


@dataclass(frozen=True)
class Mention:
    """So many things of a kind; count is None for "several" or "many"."""

    thing: Thing
    count: int | None = 1

    @property
    def least(self) -> int:
        """How many there must be for it to be so."""
        return 2 if self.count is None else self.count


@dataclass(frozen=True)
class Facts:
    """What a caption states: what is there, (a, relation, b) between things, and what is not there.

    unread holds the words that a parse could not place; it is empty for a caption of the grammar.
    """

    mentions: tuple[Mention, ...] = ()
    relations: tuple[tuple[Thing, str, Thing], ...] = ()
    absent: tuple[Thing, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def things(self) -> tuple[Thing, ...]:
        """Each told thing as often as it is told; "several" and "many" are two at least."""
        return tuple(m.thing for m in self.mentions for _ in range(m.least))

    def errors(self, scene: Scene) -> list[str]:
        """What the facts say that is not so of the scene, a short sentence each; none if all is
        true.
        """
        wrong = [f"{m} is not there" for m in self.mentions if not _counted(m, scene)]
        for a, relation, b in self.relations:
            pairs = [(i, j) for i in a.found(scene) for j in b.found(scene) if i != j]
            if not any(scene.holds(i, relation, j) for i, j in pairs):
                wrong.append(f"{a} is not {relation} of {b}")
        return wrong + [f"{t} is there" for t in self.absent if t.found(scene)]


def _counted(mention: Mention, scene: Scene) -> bool:
    return len(mention.thing.found(scene)) >= mention.least


def thing_of(thing: Object, said: tuple[str, ...] = ATTRIBUTES) -> Thing:
    """The description of an object by some of its attributes."""
    return Thing(**{a: getattr(thing, a) for a in said})
