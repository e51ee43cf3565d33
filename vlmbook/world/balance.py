"""Relations that can't be told from where one of the two things stands in the picture.

What stands far left is left of nearly everything: a model that knows the place of one thing alone
would answer "is it left of the sphere?" without looking for the sphere. CLEVR (Johnson et al. 2017)
had this shortcut. Two things that are hardly further apart than the margin give little of it away:
at nearly every place, the other one is as often on this side as on that. Only at the very edges
does a place still tell. Book: appendix/world.md.
"""

from __future__ import annotations

from vlmbook.world.scene import MARGIN, Scene

REACH = 0.12  # table units: a relation counts as balanced when its gap is at most this above MARGIN


def balanced_relations(scene: Scene) -> list[tuple[int, str, int]]:
    """Those of scene.relations() whose two objects are about as close as the margin allows."""
    return [fact for fact in scene.relations() if _gap(scene, *fact) <= MARGIN + REACH]


def _gap(scene: Scene, a: int, relation: str, b: int) -> float:
    axis = 0 if relation in ("left", "right") else 1
    return abs(scene.view_position(a)[axis] - scene.view_position(b)[axis])
