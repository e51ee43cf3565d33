"""The place of one thing alone says little about a relation between two."""

import pytest

from vlmbook.world import splits
from vlmbook.world.balance import balanced_relations
from vlmbook.world.placement import HALF_NEAR, HALF_RIGHT
from vlmbook.world.scene import Scene

BINS = 12


def position_only(facts):
    """Accuracy of the best answer for each place of the subject, learnt on half, measured on the
    other.

    facts are (place along the axis in [-1, 1], which of the two relations holds).
    """
    half = len(facts) // 2
    votes = [[0, 0] for _ in range(BINS)]
    for place, answer in facts[:half]:
        votes[min(BINS - 1, int((place + 1) / 2 * BINS))][answer] += 1
    best = [v[1] > v[0] for v in votes]
    return sum(best[min(BINS - 1, int((p + 1) / 2 * BINS))] == a for p, a in facts[half:]) / (
        len(facts) - half
    )


def gathered(relations, of):
    """Facts for both axes: the place of the subject (of=0) or of the landmark (of=2)."""
    found = {"right": [], "front": []}
    for scene in splits.sample(12000, "full", "train", seed=21):
        for fact in relations(scene):
            right, near = scene.view_position(fact[of])
            if fact[1] in ("left", "right"):
                found["right"].append((right / HALF_RIGHT, fact[1] == "right"))
            else:
                found["front"].append((near / HALF_NEAR, fact[1] == "front"))
    return found


@pytest.mark.parametrize("of", [0, 2], ids=["subject", "landmark"])
def test_the_place_of_one_thing_says_little(of):
    for facts in gathered(balanced_relations, of).values():
        assert len(facts) > 2500
        assert 0.5 < position_only(facts) < 0.6


@pytest.mark.parametrize("of", [0, 2], ids=["subject", "landmark"])
def test_of_all_relations_it_gives_most_away(of):
    for facts in gathered(Scene.relations, of).values():
        assert position_only(facts) > 0.68


def test_balanced_relations_hold_and_come_in_pairs():
    for scene in splits.sample(300, "full"):
        kept = balanced_relations(scene)
        assert set(kept) <= set(scene.relations())
        assert {(b, a) for a, _, b in kept} == {(a, b) for a, _, b in kept}
