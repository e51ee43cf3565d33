"""Relations chosen so that where the subject is in the picture does not give the answer away.

What stands far left is left of nearly everything: a model that knows only the place of the subject
could answer "is it left of the sphere?" without looking for the sphere. So of the relations that
hold, those that the subject's place makes likely are dropped in part, until both answers are
equally likely at every place. The first data set that was checked for this was CLEVR (Johnson et
al. 2017). Book: appendix/world.md.
"""

from __future__ import annotations

import random

from vlmbook.world.placement import HALF_NEAR, HALF_RIGHT
from vlmbook.world.scene import MARGIN, Scene


def balanced_relations(scene: Scene, rng: random.Random) -> list[tuple[int, str, int]]:
    """Some of scene.relations(): given the place of a, each is as likely as its opposite."""
    return [fact for fact in scene.relations() if rng.random() < keep(scene, *fact[:2])]


def keep(scene: Scene, a: int, relation: str) -> float:
    """The probability with which a relation of a is kept: chances of its opposite over its own, 1
    at most.
    """
    right, near = scene.view_position(a)
    # how far along the axis the subject stands in the direction of the relation, and the axis's end
    ahead, half = {
        "right": (right, HALF_RIGHT),
        "left": (-right, HALF_RIGHT),
        "front": (near, HALF_NEAR),
        "behind": (-near, HALF_NEAR),
    }[relation]
    this, opposite = half + ahead - MARGIN, half - ahead - MARGIN  # room for landmarks either side
    if this <= 0:
        return 1.0
    return min(1.0, max(0.0, opposite) / this)
