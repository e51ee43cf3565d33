"""The place of the subject alone does not answer a question about a relation."""

import random

import pytest

from vlmbook.world import splits
from vlmbook.world.balance import balanced_relations
from vlmbook.world.placement import HALF_NEAR, HALF_RIGHT

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
    rng = random.Random(0)
    found = {"right": [], "front": []}
    for scene in splits.sample(6000, "full", "train", seed=21):
        for fact in relations(scene, rng):
            right, near = scene.view_position(fact[of])
            if fact[1] in ("left", "right"):
                found["right"].append((right / HALF_RIGHT, fact[1] == "right"))
            else:
                found["front"].append((near / HALF_NEAR, fact[1] == "front"))
    return found


@pytest.mark.parametrize("axis", ["right", "front"])
def test_the_place_of_the_subject_gives_no_more_than_55_percent(axis):
    facts = gathered(balanced_relations, of=0)[axis]
    assert len(facts) > 3000
    assert position_only(facts) <= 0.55


@pytest.mark.parametrize("axis", ["right", "front"])
def test_unbalanced_relations_are_given_away_by_it(axis):
    facts = gathered(lambda scene, rng: scene.relations(), of=0)[axis]
    assert position_only(facts) > 0.65


def test_balanced_relations_hold():
    rng = random.Random(0)
    for scene in splits.sample(200, "full"):
        kept = balanced_relations(scene, rng)
        assert set(kept) <= set(scene.relations())
