"""Questions about scenes, with answers that are true and can't be guessed.

Each call draws at most one question of each family. Yes and no are drawn first and the question is
made to fit, so both are equally likely; other families are made even over a set of scenes by
balanced_questions. Book: appendix/world.md.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from vlmbook.world import language as lang
from vlmbook.world.balance import balanced_relations
from vlmbook.world.language import en, ko
from vlmbook.world.language.facts import Thing, thing_of
from vlmbook.world.scene import Scene
from vlmbook.world.vocabulary import ATTRIBUTES, OPPOSITE, PRESETS, one_of

CAP = 1.1  # no answer of a balanced set is more frequent than this times the least frequent one


@dataclass(frozen=True)
class Question:
    """text and answer in a language; objects are the indices of those that it is about."""

    text: str
    answer: str
    family: str
    objects: tuple[int, ...]
    language: str = "en"


@dataclass(frozen=True)
class Asked:
    """A question before it is put into words: the things it names, and the answer as a value."""

    things: tuple[Thing, ...]
    answer: bool | int | str
    objects: tuple[int, ...]
    extra: str = ""


def questions(
    scene: Scene,
    language: str = "en",
    rng: random.Random | None = None,
    families: Sequence[str] | None = None,
) -> list[Question]:
    """One question of each family that the scene allows; the same ones each time without an rng."""
    one_of(language, lang.LANGUAGES, "language")
    for family in families or ():
        one_of(family, FAMILIES, "family")
    rng = rng or random.Random(f"ask/{scene.preset}/{scene.split}/{scene.seed}/{scene.index}")
    found = ((f, FAMILIES[f](scene, rng)) for f in families or FAMILIES)
    return [worded(family, asked, language) for family, asked in found if asked is not None]


def balanced_questions(
    scenes: Iterable[Scene],
    num: int,
    family: str,
    language: str = "en",
    rng: random.Random | None = None,
) -> list[tuple[Scene, Question]]:
    """num questions of a family, in which no answer is more than CAP times as frequent as another.

    Answers that fewer than one question in 40 has are left out. Raises ValueError when the scenes
    do
    not hold so many; pass more of them.
    """
    rng = rng or random.Random(0)
    by_answer: dict[str, list[tuple[Scene, Question]]] = {}
    for scene in scenes:
        for q in questions(scene, language, rng, [family]):
            by_answer.setdefault(q.answer, []).append((scene, q))
    total = sum(map(len, by_answer.values()))
    kept = {a: qs for a, qs in by_answer.items() if len(qs) * 40 >= total}
    each, over = divmod(num, len(kept)) if kept else (0, 0)
    if not kept or any(len(qs) < each + 1 for qs in kept.values()):
        most = min((len(qs) for qs in kept.values()), default=0) * len(kept)
        raise ValueError(
            f"these scenes hold {most} balanced questions of family {family!r}, not {num};"
            " pass more"
        )
    chosen = [
        pair for k, qs in enumerate(kept.values()) for pair in rng.sample(qs, each + (k < over))
    ]
    rng.shuffle(chosen)
    return chosen


def _clear(scene: Scene, i: int, without: str | None = None) -> Thing | None:
    """The shortest description that fits object i alone, never using one attribute; None if there
    is none.
    """
    said: tuple[str, ...] = ()
    for attribute in ("shape", "color", "material", "size"):
        if attribute == without or not PRESETS[scene.preset].varies(attribute):
            continue
        said += (attribute,)
        thing = thing_of(scene.objects[i], said)
        if thing.found(scene) == [i]:
            return thing
    return None


def _clear_objects(scene: Scene, without: str | None = None) -> list[tuple[int, Thing]]:
    found = ((i, _clear(scene, i, without)) for i in range(len(scene)))
    return [(i, thing) for i, thing in found if thing is not None]


def _exist(scene: Scene, rng: random.Random) -> Asked | None:
    """A colour and a shape: of something there, or nearly (one of the two is there, so both must be
    looked at).
    """
    if not scene.objects:
        return None
    there = rng.choice(scene.objects)
    answer = rng.random() < 0.5
    if answer:
        thing = Thing(there.shape, there.color)
        return Asked((thing,), True, tuple(thing.found(scene)))
    world = PRESETS[scene.preset]
    near = [Thing(there.shape, c) for c in world.colors] + [
        Thing(s, there.color) for s in world.shapes
    ]
    absent = [t for t in near if not t.found(scene)]
    return Asked((rng.choice(absent),), False, ()) if absent else None


def _negated_exist(scene: Scene, rng: random.Random) -> Asked | None:
    asked = _exist(scene, rng)
    return asked and Asked(asked.things, not asked.answer, asked.objects)


def _count(scene: Scene, rng: random.Random) -> Asked | None:
    """How many of a shape, of a colour, or in all: the answer is drawn first."""
    world = PRESETS[scene.preset]
    things = (
        [Thing()] + [Thing(shape=s) for s in world.shapes] + [Thing(color=c) for c in world.colors]
    )
    answers: dict[int, list[Thing]] = {}
    for thing in things:
        answers.setdefault(len(thing.found(scene)), []).append(thing)
    wanted = rng.choice(sorted(answers))
    thing = rng.choice(answers[wanted])
    return Asked((thing,), wanted, tuple(thing.found(scene)))


def _query(attribute: str) -> Callable[[Scene, random.Random], Asked | None]:
    def ask(scene: Scene, rng: random.Random) -> Asked | None:
        clear = _clear_objects(scene, without=attribute)
        if not clear or not PRESETS[scene.preset].varies(attribute):
            return None
        i, thing = rng.choice(clear)
        return Asked((thing,), getattr(scene.objects[i], attribute), (i,))

    return ask


def _compare(scene: Scene, rng: random.Random) -> Asked | None:
    """Have two things the same colour, material or size? Neither is told in the question."""
    wanted = rng.random() < 0.5
    choices = []
    for attribute in ("color", "material", "size"):
        if not PRESETS[scene.preset].varies(attribute):
            continue
        clear = _clear_objects(scene, without=attribute)
        for i, a in clear:
            for j, b in clear:
                same = getattr(scene.objects[i], attribute) == getattr(scene.objects[j], attribute)
                if i != j and same == wanted:
                    choices.append(Asked((a, b), wanted, (i, j), attribute))
    return rng.choice(choices) if choices else None


def _relation(scene: Scene, rng: random.Random) -> Asked | None:
    """Is a left of b? Asked only where one of the two holds by the margin; see balance."""
    clear = dict(_clear_objects(scene))
    holding = [f for f in balanced_relations(scene) if f[0] in clear and f[2] in clear]
    if not holding:
        return None
    a, relation, b = rng.choice(holding)
    answer = rng.random() < 0.5
    asked = relation if answer else OPPOSITE[relation]
    return Asked((clear[a], clear[b]), answer, (a, b), asked)


def _read_text(scene: Scene, rng: random.Random) -> Asked | None:
    return Asked((), rng.choice(scene.plates).text, ()) if scene.plates else None


FAMILIES: dict[str, Callable[[Scene, random.Random], Asked | None]] = {
    "exist": _exist,
    "negated_exist": _negated_exist,
    "count": _count,
    **{f"query_{a}": _query(a) for a in ATTRIBUTES},
    "compare": _compare,
    "relation": _relation,
    "read_text": _read_text,
}


def worded(family: str, asked: Asked, language: str) -> Question:
    """A question of a family, put into words."""
    text = (_english if language == "en" else _korean)(family, asked)
    return Question(text, answer_text(asked.answer, language), family, asked.objects, language)


def answer_text(value: bool | int | str, language: str) -> str:
    """An answer in words: yes or no, a number in digits, a colour, shape, material or size as a
    noun.
    """
    words = lang.LANGUAGES[one_of(language, lang.LANGUAGES, "language")]
    if isinstance(value, bool):
        return words.YES if value else words.NO
    if isinstance(value, int):
        return str(value)
    if language == "ko" and value in ko.ANSWERS:
        return ko.ANSWERS[value]
    return next((w[value] for w in words.WORDS.values() if value in w), value)


def _english(family: str, asked: Asked) -> str:
    the = [en.noun_phrase(t, article="the") for t in asked.things]
    if family == "exist":
        return f"Is there {en.noun_phrase(asked.things[0])}?"
    if family == "negated_exist":
        return f"Is it true that there is no {en.noun_phrase(asked.things[0], article='')}?"
    if family == "count":
        return f"How many {en.noun_phrase(asked.things[0], 2).removeprefix('two ')} are there?"
    if family == "compare":
        return f"Do {the[0]} and {the[1]} have the same {asked.extra}?"
    if family == "relation":
        return f"Is {the[0]} {en.RELATIONS[asked.extra]} {the[1]}?"
    if family == "read_text":
        return "What does the sign say?"
    attribute = family.removeprefix("query_")
    if attribute == "material":
        return f"What is {the[0]} made of?"
    return f"What {attribute} is {the[0]}?"


_KOREAN = {"shape": "모양", "color": "색", "material": "재질", "size": "크기"}


def _korean(family: str, asked: Asked) -> str:
    things = [ko.noun_phrase(t) for t in asked.things]
    if family == "exist":
        return f"{ko.attach(things[0], '이')} 있나요?"
    if family == "negated_exist":
        return f"{ko.attach(things[0], '이')} 없다는 말이 맞나요?"
    if family == "count":
        return f"{ko.attach(things[0], '은')} 모두 몇 개인가요?"
    if family == "compare":
        attribute = ko.attach(_KOREAN[asked.extra], "이")
        return f"{ko.attach(things[0], '과')} {things[1]}의 {attribute} 같나요?"
    if family == "relation":
        return f"{ko.attach(things[0], '은')} {things[1]} {ko.RELATIONS[asked.extra]}에 있나요?"
    if family == "read_text":
        return "표지판에 뭐라고 쓰여 있나요?"
    attribute = family.removeprefix("query_")
    if attribute in ("color", "shape"):
        return f"{ko.attach(things[0], '은')} 무슨 {_KOREAN[attribute]}인가요?"
    ending = "어떤가요" if attribute == "size" else "무엇인가요"
    return f"{things[0]}의 {ko.attach(_KOREAN[attribute], '은')} {ending}?"


def blind_accuracy(asked: Sequence[Question]) -> float:
    """How often the most frequent answer to each question text is right: what is known without
    looking.
    """
    by_text: dict[str, Counter] = {}
    for q in asked:
        by_text.setdefault(q.text, Counter())[q.answer] += 1
    return sum(max(c.values()) for c in by_text.values()) / len(asked)
