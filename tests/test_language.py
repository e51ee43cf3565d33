"""Captions say only what is so, in both languages, and can be read back."""

import math
import random
import unicodedata
from collections import Counter

import pytest

from vlmbook.world import language as lang
from vlmbook.world import splits
from vlmbook.world.language import en, ko
from vlmbook.world.language.facts import Facts, Mention, Thing
from vlmbook.world.scene import Object, Scene
from vlmbook.world.vocabulary import ATTRIBUTES, PRESETS

LANGUAGES = ("en", "ko")


def scenes(num=150):
    for preset in PRESETS:
        yield from splits.sample(num, preset, seed=3)
    for split in ("count_ood", "template_holdout", "plates"):
        yield from splits.sample(num // 3, "full", split, seed=3)


def fits(thing, o):
    return all(getattr(thing, a) is None or getattr(thing, a) == getattr(o, a) for a in ATTRIBUTES)


def is_so(facts, scene):
    """Whether all that is stated holds, by slow loops over the scene's objects and positions."""
    for m in facts.mentions:
        if sum(fits(m.thing, o) for o in scene.objects) < (m.count or 2):
            return False
    for a, relation, b in facts.relations:
        axis, sign = {"left": (0, -1), "right": (0, 1), "front": (1, 1), "behind": (1, -1)}[
            relation
        ]
        gaps = [
            sign * (scene.view_position(i)[axis] - scene.view_position(j)[axis])
            for i, x in enumerate(scene.objects)
            for j, y in enumerate(scene.objects)
            if i != j and fits(a, x) and fits(b, y)
        ]
        if not gaps or max(gaps) < 0.35:
            return False
    return not any(fits(t, o) for t in facts.absent for o in scene.objects)


@pytest.mark.parametrize("language", LANGUAGES)
def test_captions_are_true_and_read_back(language):
    rng = random.Random(1)
    for scene in scenes():
        told = lang.describe(
            scene,
            language,
            rng.choice(lang.STYLES),
            rng,
            counts=rng.choice(lang.COUNTS),
            negation=0.3,
            nuisance_bits=rng.choice([0, 7, 40]),
            templates=rng.choice([None, "all"]),
        )
        assert lang.parse(told.text, language) == told.facts, told.text
        assert is_so(told.facts, scene), told.text
        assert told.facts.errors(scene) == []
        assert len(told.text.split()) >= 3
        assert unicodedata.is_normalized("NFC", told.text)


@pytest.mark.parametrize("language", LANGUAGES)
def test_captions_are_false_of_other_scenes(language):
    """The check above can fail: nearly every caption is wrong about another scene."""
    rng = random.Random(1)
    some = splits.sample(100, "full", num_objects=(2, 4))
    wrong = [
        not is_so(lang.describe(a, language, rng=rng).facts, b)
        for a, b in zip(some, some[1:], strict=False)
    ]
    assert sum(wrong) > 95
    told = lang.describe(some[0], language).facts
    assert told.errors(some[1])


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_full_caption_names_every_object_with_every_varying_attribute(language):
    for scene in scenes(60):
        told = lang.describe(scene, language, relations=False).facts
        assert sum(m.count for m in told.mentions) == len(scene)
        varying = {a for a in ATTRIBUTES if PRESETS[scene.preset].varies(a)}
        for m in told.mentions:
            assert {a for a in ATTRIBUTES if getattr(m.thing, a)} == varying


@pytest.mark.parametrize("language", LANGUAGES)
def test_templates(language):
    names, held_out = (set(lang.template_names(language, w)) for w in ("all", "held_out"))
    assert len(names) >= 30 and 4 <= len(held_out) <= len(names) // 3
    rng, some = random.Random(0), splits.sample(400, "full", num_objects=(2, 4))
    used = Counter(
        lang.describe(s, language, rng=rng, templates="all").template
        for s in some
        for _ in range(6)
    )
    assert set(used) == names
    seen = {lang.describe(s, language, rng=rng).template for s in some for _ in range(2)}
    assert not seen & held_out
    kept = splits.sample(60, "full", "template_holdout", num_objects=(2, 4))
    assert {lang.describe(s, language, rng=rng).template for s in kept} <= held_out


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_template_is_a_different_sentence(language):
    words = lang.LANGUAGES[language]
    assert len({*words.LISTS, *words.RELATIONAL}) == len(words.LISTS) + len(words.RELATIONAL)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_two_words_are_alike(language):
    words = [w for values in lang.LANGUAGES[language].WORDS.values() for w in values.values()]
    assert len(set(words)) == len(words)


def test_particles_fit_the_last_sound_of_every_word():
    """Checked against Unicode's own decomposition: a syllable with a final consonant has three
    parts.
    """
    nouns = [w for values in ko.WORDS.values() for w in values.values()]
    nouns += [*ko.ANSWERS.values(), *ko.RELATIONS.values(), ko.ANYTHING, "개", *ko.NUMBERS[1:]]
    forms = {"이": ("이", "가"), "을": ("을", "를"), "은": ("은", "는"), "과": ("과", "와")}
    for noun in nouns:
        parts = unicodedata.normalize("NFD", noun[-1])
        for particle, (closed, open_) in forms.items():
            assert ko.attach(noun, particle) == noun + (closed if len(parts) == 3 else open_)
        takes_ro = len(parts) == 2 or parts[-1] == "\u11af"  # a final ㄹ
        assert ko.attach(noun, "으로") == noun + ("로" if takes_ro else "으로")
    assert ko.attach("구", "이") == "구가" and ko.attach("원뿔", "으로") == "원뿔로"
    assert ko.attach("사각뿔", "을") == "사각뿔을" and ko.attach("도넛", "으로") == "도넛으로"


def test_sentences_as_a_reader_expects_them():
    red, blue = Thing("cube", "red"), Thing("sphere", "blue")
    things = [Mention(red, 2), Mention(blue)]
    assert en.fill("There {is} {T} on the table.", things, {}) == (
        "There are two red cubes and a blue sphere on the table."
    )
    assert (
        ko.fill("탁자 위에 {T:이} 있어요.", things, {})
        == "탁자 위에 빨간 정육면체 두 개와 파란 구가 있어요."
    )
    slots = {"a": red, "r": "left", "b": blue}
    assert (
        ko.fill("{b} {r}에 {a:이} 있어요{rest}.", [], slots)
        == "파란 구 왼쪽에 빨간 정육면체가 있어요."
    )
    assert (
        en.fill("{a} is {r} {b}{rest}.", [], slots) == "A red cube is to the left of a blue sphere."
    )
    assert en.noun_phrase(Thing("egg", "orange")) == "an orange egg"
    assert en.noun_phrase(Thing("torus"), 3) == "three tori"


@pytest.mark.parametrize("language", LANGUAGES)
def test_negation_is_said_as_often_as_asked(language):
    rng = random.Random(0)
    some = splits.sample(300, "full", num_objects=(1, 3))
    counts = [
        sum(bool(lang.describe(s, language, rng=rng, negation=p).facts.absent) for s in some)
        for p in (0, 0.4, 1)
    ]
    assert counts[0] == 0 and 90 < counts[1] < 150 and counts[2] == 300
    marks = (" no ", "No ", " not ", "without") if language == "en" else ("없", "않")
    plain = [lang.caption(s, language, rng=rng, templates="all") for s in some]
    assert not any(m in text for m in marks for text in plain)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("bits", [0, 1, 6, 11])
def test_nuisance_has_exactly_its_bits(language, bits):
    rng, words = random.Random(0), lang.LANGUAGES[language]
    draws = Counter(tuple(lang.nuisance_words(words, bits, rng)) for _ in range(60 * 2**bits))
    assert len(draws) == 2**bits
    entropy = -sum(n / draws.total() * math.log2(n / draws.total()) for n in draws.values())
    assert entropy == pytest.approx(bits, abs=0.02)


@pytest.mark.parametrize("language", LANGUAGES)
def test_vague_counts(language):
    scene = Scene(
        tuple(Object("cube", "red", position=(x, 0.0)) for x in (-1, 0, 1)), preset="standard"
    )
    exact = lang.describe(scene, language).facts.mentions
    vague = lang.describe(scene, language, counts="vague")
    assert [m.count for m in exact] == [3] and [m.count for m in vague.facts.mentions] == [None]
    assert ("several" if language == "en" else "여러") in vague.text.lower()
    two = scene.with_objects(scene.objects[:2])
    assert [m.count for m in lang.describe(two, language, counts="vague").facts.mentions] == [2]
    cube = Thing("cube", "red")
    assert lang.describe(scene, language).facts.things == (cube,) * 3
    assert vague.facts.things == (cube,) * 2  # "several" says no more


def test_completeness():
    rng, some = random.Random(0), splits.sample(200, "full", num_objects=1)

    def said(share):
        told = [
            lang.describe(s, "en", "partial", rng, completeness=share).facts.mentions[0].thing
            for s in some
        ]
        return sum(getattr(t, a) is not None for t in told for a in ATTRIBUTES) / (4 * len(told))

    assert said(0) == 0 and said(1) == 1 and said(0.5) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_same_scene_gets_the_same_words(language):
    scene, other = splits.sample(2, "full", num_objects=4)
    assert lang.caption(scene, language) == lang.caption(scene, language)
    assert lang.caption(scene, language) != lang.caption(other, language)
    five = lang.captions(scene, 5, language)
    assert len(set(five)) == 5 and five == lang.captions(scene, 5, language)


def test_what_can_not_be_read_is_said():
    assert lang.parse("A red wombat and a blue cube.").unread == ("red", "wombat")
    assert lang.parse("A red wombat and a blue cube.").mentions == (Mention(Thing("cube", "blue")),)
    assert lang.parse("빨간 코끼리가 있어요.", "ko").unread
    assert lang.parse("") == Facts()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: lang.caption(s, "fr"), "language 'fr' does not exist; choose from en, ko"),
        (
            lambda s: lang.caption(s, style="long"),
            "style 'long' does not exist; choose from full, partial",
        ),
        (lambda s: lang.caption(s, counts="some"), "counts 'some'"),
        (lambda s: lang.caption(s, negation=1.5), "negation 1.5 is not a probability"),
        (lambda s: lang.caption(s, nuisance_bits=41), "nuisance_bits 41"),
        (lambda s: lang.caption(s, templates="new"), "templates 'new'"),
        (lambda s: lang.word("color", "mauve"), "color 'mauve' does not exist"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(splits.sample(1)[0])


def speech_level(sentence):
    """How a Korean sentence ends: formal, plain or polite; None for a bare noun phrase."""
    for ending, level in (("니다", "formal"), ("다", "plain"), ("요", "polite")):
        if sentence.endswith(ending):
            return level
    return None


def test_korean_sentences_of_a_caption_keep_one_speech_level():
    rng, seen = random.Random(4), Counter()
    for scene in scenes():
        text = lang.caption(scene, "ko", rng=rng, negation=1.0, templates="all")
        first, *others = [speech_level(s) for s in text.rstrip(".").split(". ")]
        assert others and set(others) == {first or "polite"}, text
        seen[first] += 1
    assert min(seen.values()) > 10 and len(seen) == 4  # each level, and noun phrases


def test_english_says_a_and_an_where_they_belong():
    rng = random.Random(5)
    for scene in scenes():
        text = " ".join(lang.captions(scene, 4, "en", rng=rng, negation=0.5, nuisance_bits=20))
        words = text.replace(".", "").split()
        for article, word in zip(words, words[1:], strict=False):
            if article.lower() in ("a", "an"):
                vowel = word[0] in "aeiou" and word != "used"  # said as "yoozd"
                assert vowel == (article.lower() == "an"), (article, word)


@pytest.mark.parametrize("language", ["en", "ko"])
def test_prompts_are_a_class_in_every_template_that_lists(language):
    made = lang.prompts(language, color="red", shape="cube")
    assert len(made) == len(set(made)) >= 12
    for text in made:
        facts = lang.parse(text, language)
        (mention,) = facts.mentions
        thing = mention.thing
        assert (thing.shape, thing.color, thing.material, mention.count) == ("cube", "red", None, 1)
        assert not facts.unread and not facts.relations
    held_out = lang.prompts(language, "held_out", color="red", shape="cube")
    assert held_out and not set(held_out) & set(made)
    both = lang.prompts(language, "all", color="red", shape="cube")
    assert sorted(both) == sorted(made + held_out)
    three = [lang.parse(text, language).mentions[0] for text in lang.prompts(language, count=3)]
    assert {(m.count, m.thing.shape) for m in three} == {(3, None)}


def test_prompts_for_what_does_not_exist_are_refused():
    with pytest.raises(ValueError, match="color 'mauve' does not exist"):
        lang.prompts(color="mauve")
    with pytest.raises(ValueError, match="attribute 'weight' does not exist"):
        lang.prompts(weight="light")
    with pytest.raises(ValueError, match="templates 'some' does not exist"):
        lang.prompts(which="some")
