"""Questions have true answers that can't be guessed."""

import random
from collections import Counter

import pytest

from vlmbook.world import splits
from vlmbook.world.language import en, ko
from vlmbook.world.questions import (
    CAP,
    FAMILIES,
    balanced_questions,
    blind_accuracy,
    questions,
)
from vlmbook.world.vocabulary import PRESETS

SOME = [s for preset in PRESETS for s in splits.sample(250, preset, "test", seed=2)]


def answered(q, scene):
    """The answer to an English question, from its text alone and slow loops over the scene."""
    text = q.text.rstrip("?")
    things = mentioned(text)
    found = [[i for i, o in enumerate(scene.objects) if t.fits(o)] for t in things]
    yes = {True: "yes", False: "no"}
    if q.family == "exist":
        return yes[bool(found[0])]
    if q.family == "negated_exist":
        return yes[not found[0]]
    if q.family == "count":
        return str(len(found[0]))
    if q.family == "read_text":
        return scene.plates[0].text
    assert all(len(f) == 1 for f in found), q.text  # what a question points to must be one thing
    first = scene.objects[found[0][0]]
    if q.family == "compare":
        attribute = text.split()[-1]
        return yes[getattr(first, attribute) == getattr(scene.objects[found[1][0]], attribute)]
    if q.family == "relation":
        words = {
            "to the left of": "left",
            "to the right of": "right",
            "in front of": "front",
            "behind": "behind",
        }
        relation = next(v for k, v in words.items() if k in text)
        holds = scene.holds(found[0][0], relation, found[1][0])
        opposite = {"left": "right", "right": "left", "front": "behind", "behind": "front"}[
            relation
        ]
        assert holds != scene.holds(found[0][0], opposite, found[1][0])  # decided by the margin
        return yes[holds]
    return getattr(first, q.family.removeprefix("query_"))


def mentioned(text):
    return [en._thing(m) for m in en._PHRASE.finditer(text.lower())]


def test_every_answer_is_right():
    rng, checked = random.Random(0), Counter()
    for scene in SOME + splits.sample(100, "full", "plates"):
        for q in questions(scene, "en", rng):
            assert q.answer == answered(q, scene), (q, scene.to_json())
            checked[q.family] += 1
    assert set(checked) == set(FAMILIES) and min(checked.values()) >= 50


def test_korean_asks_the_same_and_answers_in_korean():
    back = {w: v for values in ko.WORDS.values() for v, w in values.items()} | {
        w: v for v, w in ko.ANSWERS.items()
    }
    back |= {"네": "yes", "아니요": "no"}
    for scene in SOME[::3]:
        pairs = zip(questions(scene, "en"), questions(scene, "ko"), strict=True)
        for english, korean in pairs:
            assert (english.family, english.objects) == (korean.family, korean.objects)
            assert back.get(korean.answer, korean.answer) == english.answer
            assert korean.text.endswith("?") and not any("a" <= c <= "z" for c in korean.text)


def test_fixed_attributes_are_not_asked_for():
    for scene in SOME[:250]:
        assert not {"query_material", "query_size"} & {q.family for q in questions(scene)}


@pytest.mark.parametrize("family", ["exist", "negated_exist", "compare", "relation"])
def test_yes_and_no_are_equally_frequent(family):
    rng = random.Random(1)
    many = splits.sample(1500, "full", "train", seed=4)
    answers = Counter(q.answer for s in many for q in questions(s, "en", rng, [family]))
    assert answers.keys() == {"yes", "no"}
    assert 0.44 < answers["yes"] / answers.total() < 0.56


@pytest.mark.parametrize(
    "family", ["query_color", "query_shape", "query_material", "count", "relation"]
)
def test_balanced_sets_are_balanced(family):
    many = splits.sample(2500, "full", "train", seed=4)
    chosen = balanced_questions(many, 200, family)
    answers = Counter(q.answer for _, q in chosen)
    assert answers.total() == 200
    assert max(answers.values()) <= CAP * min(answers.values()) + 1
    assert all(q.family == family for _, q in chosen)


def test_a_blind_model_learns_little():
    """The majority answer to each question text, counted on the same questions, so flattered."""
    rng = random.Random(1)
    many = splits.sample(3000, "standard", "train", seed=4)
    exist = [q for s in many for q in questions(s, "en", rng, ["exist"])]
    assert len({q.text for q in exist}) < len(exist) / 20
    assert blind_accuracy(exist) < 0.58


def test_the_same_scene_is_asked_the_same():
    assert questions(SOME[0]) == questions(SOME[0])
    drawn = {
        q.text
        for k in range(20)
        for q in questions(SOME[-1], rng=random.Random(k), families=["count"])
    }
    assert len(drawn) > 3


def test_bad_input():
    with pytest.raises(ValueError, match="language 'fr' does not exist"):
        questions(SOME[0], "fr")
    with pytest.raises(ValueError, match="family 'why' does not exist; choose from exist"):
        questions(SOME[0], families=["why"])
    with pytest.raises(
        ValueError, match="balanced questions of family 'relation', not 1000; pass more"
    ):
        balanced_questions(SOME[:50], 1000, "relation")
