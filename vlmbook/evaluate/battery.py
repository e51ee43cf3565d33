"""One set of items that every model answers, so that models can be compared item by item.

    items = battery.items("color", "ko")     # 500 of them, always the same
    items[0].question, items[0].answer       # asked in words,
    items[0].texts, items[0].right           # or as a choice between sentences

A model is asked in the way that it has: one that writes gets the question, one that only says how
well a sentence fits gets the choice. Both languages ask about the same scenes. Book: comparison.md.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from vlmbook import retrieval, world
from vlmbook.world import plates
from vlmbook.world.language import en, ko
from vlmbook.world.language.facts import Mention, Thing
from vlmbook.world.questions import FAMILIES, Asked, answer_text, worded
from vlmbook.world.splits import PLATE_WORDS
from vlmbook.world.vocabulary import OPPOSITE, one_of

NUM = 500  # items of each skill and language
PRESET, LANGUAGES = "full", ("en", "ko")
FULL = world.PRESETS[PRESET]
YES_NO = (True, False)


@dataclass(frozen=True)
class Item:
    """Something that is asked of a model, with what is right.

    way says how. "ask": a question, its possible answers, and where there are any, texts that say
    the same as sentences; "choose": such texts alone; the one at right is true. "find text" and
    "find picture": the caption in texts is looked for by its picture, or the other way, among all
    items of the skill. "describe": nothing but the picture.
    """

    id: str
    skill: str
    language: str
    way: str
    scene: world.Scene
    question: str = ""
    answers: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    right: int = 0

    @property
    def answer(self) -> str:
        """What is right, in a word or two; empty where nothing is asked."""
        return self.answers[self.right] if self.answers else ""


@dataclass(frozen=True)
class Draft:
    """An item before it is put into words.

    asked is a question of a family, with the possible values of its answer; without one, texts has
    by language what to choose from, the true one first.
    """

    scene: world.Scene
    family: str = ""
    asked: Asked | None = None
    values: tuple[bool | int | str, ...] = ()
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


Drafts = Callable[[random.Random, int], Iterable[Draft]]


def items(skill: str, language: str = "en", num: int = NUM) -> list[Item]:
    """The items of a skill, always the same; in both languages about the same scenes.

    Raises ValueError for a skill or a language that does not exist.
    """
    one_of(skill, SKILLS, "skill")
    one_of(language, LANGUAGES, "language")
    return _all_worded(_drafted(skill, num), skill, language, SKILLS[skill].way)


def asked(
    skill: str,
    family: str,
    values: Sequence,
    language: str = "en",
    num: int = NUM,
    split: str = "test",
    num_objects: tuple[int, int] | None = (1, 3),
    wanted: Callable[[world.Scene, Asked], bool] = lambda scene, asked: True,
) -> list[Item]:
    """Items of a skill that the battery has not: questions of a family about scenes of a split.

    Each of the values is right as often as any other, or once less; wanted says which to keep.
    Raises ValueError for a family that does not exist.
    """
    one_of(family, FAMILIES, "family")
    drafts = _family(family, values, split, num_objects, wanted)(random.Random(skill), num)
    return _all_worded(drafts, skill, language, "ask")


@cache
def fingerprint() -> str:
    """The SHA-256 of all items: what was said to others can't be compared."""
    digest = hashlib.sha256()
    for skill in SKILLS:
        for language in LANGUAGES:
            for item in items(skill, language):
                told = (item.id, item.question, item.answers, item.texts, item.right)
                digest.update(f"{told} {item.scene.to_json()}".encode())
    return digest.hexdigest()


def pixels(some: Sequence[Item], size: int = 64) -> Tensor:
    """Pictures of items, (n, 3, H, W), as wide as said; 96 at least where something is to read."""
    scenes = [item.scene for item in some]
    if any(scene.plates for scene in scenes):
        size = max(size, plates.MIN_SIZE)
    parts = [scenes[n : n + 250] for n in range(0, len(scenes), 250)]
    return torch.cat([world.render(part, size).pixels for part in parts])


@lru_cache(maxsize=40)
def _drafted(skill: str, num: int) -> list[Draft]:
    return list(SKILLS[skill].drafts(random.Random(skill), num))


def _all_worded(drafts: Iterable[Draft], skill: str, language: str, way: str) -> list[Item]:
    return [
        _worded(f"{skill}/{language}/{n:04d}", skill, language, way, draft)
        for n, draft in enumerate(drafts)
    ]


def _worded(id: str, skill: str, language: str, way: str, draft: Draft) -> Item:
    if draft.asked is None:
        texts = draft.texts.get(language, ())
        order = random.Random(id).sample(range(len(texts)), len(texts))
        right = order.index(0) if order else 0
        mixed = tuple(texts[n] for n in order)
        return Item(id, skill, language, way, draft.scene, texts=mixed, right=right)
    question = worded(draft.family, draft.asked, language).text
    answers = tuple(answer_text(value, language) for value in draft.values)
    texts = tuple(_statement(draft, value, language) for value in draft.values)
    right = draft.values.index(draft.asked.answer)
    return Item(id, skill, language, way, draft.scene, question, answers, texts * all(texts), right)


def _statement(draft: Draft, value: bool | int | str, language: str) -> str:
    """A sentence that says what an answer says; empty where the captions have no such sentence."""
    family, words = draft.family, {"en": en, "ko": ko}[language]
    thing = draft.asked.things[0] if draft.asked.things else None
    if family in ("exist", "negated_exist"):
        if value == (family == "exist"):
            return words.fill(words.LISTS[0], [Mention(thing)], {})
        text = words.fill(words.LISTS[0], [Mention(thing)], {})
        return words.absence(words.absences(text)[0], thing)
    if family == "count":
        return words.fill(words.LISTS[0], [Mention(thing, value)], {})
    if family == "relation":
        a, b = draft.asked.things
        relation = draft.asked.extra if value else OPPOSITE[draft.asked.extra]
        return words.fill(words.RELATIONAL[0], [], {"a": a, "r": relation, "b": b})
    if family.startswith("query_"):
        whole = replace(thing, **{family.removeprefix("query_"): value})
        return words.fill(words.LISTS[0], [Mention(whole)], {})
    return ""


def _even(drafts: Iterable[Draft], values: Sequence, rng: random.Random, num: int) -> list[Draft]:
    """So many drafts, each answer as often as any other, or once less."""
    each = -(-num // len(values))
    kept: dict = {value: [] for value in values}
    for draft in drafts:
        own = kept.get(draft.asked.answer)
        if own is not None and len(own) < each:
            own.append(draft)
            if all(len(some) == each for some in kept.values()):
                break
    rows = [draft for row in zip(*kept.values(), strict=True) for draft in row][:num]
    rng.shuffle(rows)
    return rows


def _family(
    family: str,
    values: Sequence,
    split: str = "test",
    num_objects: tuple[int, int] | None = (1, 3),
    wanted: Callable[[world.Scene, Asked], bool] = lambda scene, asked: True,
    seed: int = 70,
) -> Drafts:
    """Questions of a family about scenes of a split, with even answers."""

    def drafts(rng: random.Random, num: int) -> list[Draft]:
        def drawn() -> Iterator[Draft]:
            for scene in world.stream(PRESET, split, seed, num_objects):
                asked = FAMILIES[family](scene, rng)
                if asked is not None and wanted(scene, asked):
                    yield Draft(scene, family, asked, tuple(values))

        return _even(drawn(), values, rng, num)

    return drafts


def _novel(scene: world.Scene, asked: Asked) -> bool:
    """Whether it is about one of the two shapes that have other colours in CoGenT-A."""
    return scene.objects[asked.objects[0]].shape in ("cube", "cylinder")


def _kinds(rng: random.Random, num: int) -> list[Draft]:
    """Whether there is a thing of some shape, as POPE asks of what is drawn at random."""

    def drawn() -> Iterator[Draft]:
        for scene in world.stream(PRESET, "test", 71, (1, 3)):
            there = {o.shape for o in scene.objects}
            answer = rng.random() < 0.5
            shape = rng.choice([s for s in FULL.shapes if (s in there) == answer])
            asked = Asked((Thing(shape),), answer, tuple(Thing(shape).found(scene)))
            yield Draft(scene, "exist", asked, YES_NO)

    return _even(drawn(), YES_NO, rng, num)


def _many(rng: random.Random, num: int) -> list[Draft]:
    """How many things there are, where there are more than any model has met."""
    drawn = (
        Draft(s, "count", Asked((Thing(),), len(s), tuple(range(len(s)))), tuple(range(1, 9)))
        for s in world.stream(PRESET, "count_ood", 70)
    )
    return _even(drawn, (6, 7, 8), rng, num)


def _strange(rng: random.Random, num: int) -> list[Draft]:
    """Colours and shapes under other lamps and on other tables."""
    parts = [
        _family(f"query_{a}", FULL.values(a), "render_ood", seed=70 + k)(
            rng, num // 2 + k * (num % 2)
        )
        for k, a in enumerate(("color", "shape"))
    ]
    return [draft for part in parts for draft in part]


def _told(scene: world.Scene, language: str, seed: str) -> str:
    return world.caption(scene, language, rng=random.Random(seed), relations=False)


def _swapped(rng: random.Random, num: int) -> Iterator[Draft]:
    """A caption, and the same with the colours of two things exchanged."""
    for scene in _distinct(num):
        seed, twin = str(rng.random()), world.swap_attributes(scene)
        texts = {of: (_told(scene, of, seed), _told(twin, of, seed)) for of in LANGUAGES}
        yield Draft(scene, texts=texts)


def _shuffled(rng: random.Random, num: int) -> Iterator[Draft]:
    """A caption, and the same words in another order."""
    for scene in _distinct(num):
        texts = {}
        for of in LANGUAGES:
            text = _told(scene, of, str(rng.random()))
            words, other = text.split(), text
            while other == text:
                rng.shuffle(words)
                other = " ".join(words)
            texts[of] = (text, other)
        yield Draft(scene, texts=texts)


def _distinct(num: int) -> Iterator[world.Scene]:
    """Scenes of two things that differ in colour and in shape."""
    found = 0
    for scene in world.stream(PRESET, "test", 72, 2):
        a, b = scene.objects
        if a.color != b.color and a.shape != b.shape:
            yield scene
            found += 1
        if found == num:
            return


def _gallery(rng: random.Random, num: int) -> Iterator[Draft]:
    """Scenes no two of which a caption leaves alike, each with one."""
    for scene in retrieval.gallery(num, PRESET, seed=73):
        seed = str(rng.random())
        yield Draft(scene, texts={of: (_told(scene, of, seed),) for of in LANGUAGES})


def _pictures(rng: random.Random, num: int) -> Iterator[Draft]:
    """Scenes to be described."""
    for scene in world.sample(num, PRESET, "test", 74, (1, 3)):
        yield Draft(scene)


class Skill(NamedTuple):
    """How it is asked for, where the items come from, and in a few words what they ask."""

    way: str
    drafts: Drafts
    about: str


SKILLS: dict[str, Skill] = {
    attribute: Skill(
        "ask",
        _family(f"query_{attribute}", FULL.values(attribute)),
        f"the {attribute} of one of up to three things",
    )
    for attribute in ("color", "shape", "material", "size")
}
SKILLS |= {
    "exist": Skill(
        "ask", _family("exist", YES_NO), "whether a thing of a colour and shape is there"
    ),
    "hallucination": Skill("ask", _kinds, "whether a shape is there; half are not (POPE, random)"),
    "negation": Skill(
        "ask", _family("negated_exist", YES_NO), "whether it is true that one is not"
    ),
    "count": Skill("ask", _family("count", (1, 2, 3)), "how many there are, one to three"),
    "many": Skill("ask", _many, "the same where there are six to eight, more than was ever learnt"),
    "compare": Skill(
        "ask", _family("compare", YES_NO, num_objects=(2, 3)), "whether two things have the same"
    ),
    "relation": Skill(
        "ask", _family("relation", YES_NO, num_objects=(2, 3)), "which of two things is where"
    ),
    "novel pairs": Skill(
        "ask",
        _family("query_color", FULL.colors, "cogent_b", (2, 3), _novel),
        "colours of cubes and cylinders that CoGenT-A never shows",
    ),
    "strange look": Skill("ask", _strange, "colours and shapes under other lamps, on other tables"),
    "reading": Skill(
        "ask", _family("read_text", PLATE_WORDS, "plates", None), "the word on a plate"
    ),
    "swap": Skill("choose", _swapped, "a caption, or the same with two colours exchanged"),
    "order": Skill("choose", _shuffled, "a caption, or its words in another order"),
    "find text": Skill("find text", _gallery, "a picture's caption among all"),
    "find picture": Skill("find picture", _gallery, "a caption's picture among all"),
    "describe": Skill("describe", _pictures, "what is said without being asked, by scene-graph F1"),
}
# Of these, the answer is an attribute of a thing that the question describes.
NAMED = ("color", "shape", "material", "size", "novel pairs", "strange look")
