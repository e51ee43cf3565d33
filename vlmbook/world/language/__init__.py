"""Captions from scenes, and facts back from captions, in English and in Korean.

Each language is a module of words, templates and a parser; what is common to both is here: what a
caption tells of a scene, and the dials that change it. Book: appendix/world.md.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from vlmbook.world.balance import balanced_relations
from vlmbook.world.language import en, ko
from vlmbook.world.language.facts import Facts, Mention, Thing, thing_of
from vlmbook.world.scene import Scene
from vlmbook.world.vocabulary import ATTRIBUTES, PRESETS, one_of

LANGUAGES = {"en": en, "ko": ko}
STYLES = ("full", "partial", "counts")
COUNTS = ("exact", "vague")
VAGUE_FROM = 3  # so many or more are "several" when counts are vague
HELD_OUT = 5  # every fifth template is kept for template_holdout
MAX_BITS = 40


@dataclass(frozen=True)
class Caption:
    """A sentence, its template's name such as "en-07", and the facts that it states."""

    text: str
    language: str
    template: str
    facts: Facts


def caption(scene: Scene, language: str = "en", style: str = "full", rng=None, **dials) -> str:
    """One sentence about a scene; see describe for the dials."""
    return describe(scene, language, style, rng, **dials).text


def captions(
    scene: Scene, num: int = 5, language: str = "en", style: str = "full", rng=None, **dials
) -> list[str]:
    """Up to num different sentences about a scene; fewer where it has fewer to say."""
    rng = rng or _own_rng(scene, language)
    found: dict[str, None] = {}
    for _ in range(num * 8):
        if len(found) == num:
            break
        found[caption(scene, language, style, rng, **dials)] = None
    return list(found)


def describe(
    scene: Scene,
    language: str = "en",
    style: str = "full",
    rng: random.Random | None = None,
    *,
    completeness: float = 0.5,
    counts: str = "exact",
    negation: float = 0.0,
    nuisance_bits: int = 0,
    relations: bool = True,
    templates: str | None = None,
) -> Caption:
    """A caption with the facts that it states.

    style "full" names every attribute that varies in the scene's preset, "partial" keeps each with
    probability completeness, "counts" says only how many of each shape there are. counts "vague"
    says several from three on. negation is the probability of a true sentence about what is absent.
    nuisance_bits, 0 to 40, adds words of exactly that entropy that have nothing to do with the
    picture. templates is "seen", "held_out" or "all"; left out, a scene of split template_holdout
    has held-out ones and any other scene seen ones. Without an rng the scene always gets the same
    caption. Raises ValueError for a dial that can't be set so.
    """
    words = LANGUAGES[one_of(language, LANGUAGES, "language")]
    one_of(style, STYLES, "style")
    one_of(counts, COUNTS, "counts")
    for name, share in (("completeness", completeness), ("negation", negation)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} {share} is not a probability; choose from 0 to 1")
    if nuisance_bits not in range(MAX_BITS + 1):
        raise ValueError(
            f"nuisance_bits {nuisance_bits} is not a whole number from 0 to {MAX_BITS}"
        )
    rng = rng or _own_rng(scene, language)

    things = [_told(scene, i, style, completeness, rng) for i in range(len(scene))]
    pair = _pair(scene, things, rng) if relations else None
    pool = words.RELATIONAL if pair else words.LISTS
    number, template = _template(
        pool, 0 if pool is words.LISTS else len(words.LISTS), scene, templates, rng
    )

    slots, rest = {}, things
    if pair:
        a, relation, b = pair
        slots = {"a": things[a], "r": relation, "b": things[b]}
        if "{T}" not in template and "{T:" not in template:
            rest = [t for i, t in enumerate(things) if i not in (a, b)]
    mentions = _grouped(rest, counts, rng)
    facts = _facts(mentions, slots, template)
    text = words.fill(template, mentions, slots) if mentions or slots else _empty(words)
    if rng.random() < negation:
        absent = _absent(scene, rng)
        text += " " + words.absence(rng.choice(words.absences(text)), absent)
        facts = Facts(facts.mentions, facts.relations, (absent,))
    if nuisance_bits:
        text += " " + words.nuisance(nuisance_words(words, nuisance_bits, rng))
    return Caption(text, language, f"{language}-{number:02d}", facts)


def parse(text: str, language: str = "en") -> Facts:
    """The facts that a text states, read with the grammar that writes captions."""
    return LANGUAGES[one_of(language, LANGUAGES, "language")].parse(text)


def word(attribute: str, value: str, language: str = "en") -> str:
    """An attribute's value in words: word("color", "red", "ko") is 빨간."""
    words = LANGUAGES[one_of(language, LANGUAGES, "language")].WORDS
    return words[one_of(attribute, ATTRIBUTES, "attribute")][
        one_of(value, words[attribute], attribute)
    ]


def phrase(thing: Thing, language: str = "en", count: int | None = 1) -> str:
    """A thing, described whole or in part, as a noun phrase."""
    return LANGUAGES[one_of(language, LANGUAGES, "language")].noun_phrase(thing, count)


def prompts(
    language: str = "en", which: str = "seen", count: int = 1, **attributes: str
) -> list[str]:
    """A thing, or count of them, in every template that lists things: sentences for a class.

    prompts(color="red", shape="cube") has "A picture of a red cube." and more. which is "seen",
    "held_out" or "all" templates.
    """
    words = LANGUAGES[one_of(language, LANGUAGES, "language")]
    for attribute, value in attributes.items():
        word(attribute, value, language)  # complains of what does not exist
    mention = Mention(Thing(**attributes), count)
    return [words.fill(template, [mention], {}) for _, template in _among(words.LISTS, which)]


def template_names(language: str = "en", which: str = "all") -> list[str]:
    """The names of a language's templates: "seen", "held_out" or "all" of them."""
    words = LANGUAGES[one_of(language, LANGUAGES, "language")]
    return [f"{language}-{n:02d}" for n, _ in _among([*words.LISTS, *words.RELATIONAL], which)]


def varying(scene: Scene) -> tuple[str, ...]:
    """The attributes that a full description of a scene names: those that vary in its preset."""
    return tuple(a for a in ATTRIBUTES if PRESETS[scene.preset].varies(a))


def _told(scene: Scene, i: int, style: str, completeness: float, rng: random.Random) -> Thing:
    said = varying(scene)
    if style == "counts":
        said = ("shape",)
    elif style == "partial":
        said = tuple(a for a in said if rng.random() < completeness)
    return thing_of(scene.objects[i], said)


def _pair(scene: Scene, things: list[Thing], rng: random.Random) -> tuple[int, str, int] | None:
    """A relation between two things that the caption can tell from all others, or None."""
    clear = [i for i, t in enumerate(things) if len(t.found(scene)) == 1]
    found = [(a, r, b) for a, r, b in balanced_relations(scene) if a in clear and b in clear]
    return rng.choice(found) if found else None


def _template(
    pool, first: int, scene: Scene, which: str | None, rng: random.Random
) -> tuple[int, str]:
    which = which or ("held_out" if scene.split == "template_holdout" else "seen")
    return rng.choice(_among(pool, which, first))


def _among(pool: Sequence[str], which: str, first: int = 0) -> list[tuple[int, str]]:
    """The "seen", "held_out" or "all" templates of a pool, with their numbers from first + 1 on."""
    one_of(which, ("seen", "held_out", "all"), "templates")
    numbered = enumerate(pool, first + 1)
    return [
        (n, t)
        for n, t in numbered
        if which == "all" or (n % HELD_OUT == 0) == (which == "held_out")
    ]


def _grouped(things: list[Thing], counts: str, rng: random.Random) -> list[Mention]:
    """Equal things counted together, in a random order."""
    groups = list(Counter(things).items())
    rng.shuffle(groups)
    return [Mention(t, None if counts == "vague" and n >= VAGUE_FROM else n) for t, n in groups]


def _facts(mentions: list[Mention], slots: dict, template: str) -> Facts:
    """What a filled template states, in the order in which its words come."""
    if not slots:
        return Facts(tuple(mentions))
    a, b = Mention(slots["a"]), Mention(slots["b"])
    relation = ((slots["a"], slots["r"], slots["b"]),)
    if "{T" in template:
        return Facts(tuple(mentions), relation)
    first, second = (a, b) if template.index("{a") < template.index("{b") else (b, a)
    return Facts((first, second, *mentions), relation)


def _empty(words) -> str:
    return words.GENERIC[0]


def _absent(scene: Scene, rng: random.Random) -> Thing:
    """Something that the preset has and the scene has not: a shape, a colour, or both together."""
    world = PRESETS[scene.preset]
    choices = [Thing(shape=s) for s in world.shapes] + [Thing(color=c) for c in world.colors]
    choices += [Thing(shape=s, color=c) for s in world.shapes for c in world.colors]
    rng.shuffle(choices)
    return next(t for t in choices if not t.found(scene))


def nuisance_words(words, bits: int, rng: random.Random) -> list[str]:
    """Phrases about nothing in the picture that carry exactly so many bits."""
    parts = []
    for form, choices in words.NUISANCE:
        choices = choices.split()
        take = min(bits, len(choices).bit_length() - 1)
        if take:
            parts.append(form.format(choices[rng.getrandbits(take)]))
            bits -= take
    return [*parts, words.NUISANCE_NUMBER.format(rng.getrandbits(bits))] if bits else parts


def _own_rng(scene: Scene, language: str) -> random.Random:
    return random.Random(f"{language}/{scene.preset}/{scene.split}/{scene.seed}/{scene.index}")
