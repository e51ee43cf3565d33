"""A corrupted caption has the fault that its label names."""

import random
from collections import Counter

import pytest

from vlmbook.world import noise, splits
from vlmbook.world.language import parse

SOME = splits.sample(120, "full", num_objects=(2, 4), seed=6)


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("kind", noise.KINDS)
def test_labels_are_true(kind, language):
    rng = random.Random(0)
    for scene in SOME:
        noisy = noise.corrupt(scene, kind, language, rng, SOME)
        facts = parse(noisy.text, language)
        assert noisy.kind == kind
        false = bool(facts.errors(scene))
        assert false == (kind in ("mismatched", "wrong_attribute", "invented_object")), noisy.text
        told = sum(m.count for m in facts.mentions)
        expected = {"clean": 0, "dropped_object": -1, "invented_object": 1, "wrong_attribute": 0}
        if kind in expected:
            assert told == len(scene) + expected[kind], noisy.text
        if kind == "generic":
            assert told == 0


def test_rates():
    many = splits.sample(2000, "full", seed=7)
    rates = {"mismatched": 0.2, "generic": 0.1, "dropped_object": 0.15}
    kinds = Counter(n.kind for n in noise.noisy_captions(many, rates))
    assert kinds["clean"] / 2000 == pytest.approx(0.55, abs=0.04)
    assert kinds["generic"] / 2000 == pytest.approx(0.1, abs=0.03)
    assert kinds["mismatched"] + kinds["dropped_object"] == pytest.approx(700, abs=80)
    assert {n.kind for n in noise.noisy_captions(many[:50], {})} == {"clean"}


def test_repeatable():
    assert noise.noisy_captions(SOME, {"generic": 0.5}) == noise.noisy_captions(
        SOME, {"generic": 0.5}
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: noise.corrupt(SOME[0], "rude"), "kind 'rude' does not exist; choose from clean"),
        (lambda: noise.corrupt(SOME[0], "mismatched"), "pass others"),
        (
            lambda: noise.corrupt(splits.sample(1, num_objects=1)[0], "dropped_object"),
            "nothing can be dropped",
        ),
        (lambda: noise.noisy_captions(SOME, {"generic": 1.5}), "rate 1.5 of 'generic'"),
        (lambda: noise.noisy_captions(SOME, {"generic": 0.7, "mismatched": 0.6}), "add up to 1.30"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
