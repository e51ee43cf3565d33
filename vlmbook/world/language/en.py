"""English: words, phrases and templates.

A template is a sentence with slots: {T} a list of things; {a} and {b} two things and {r} the
relation of a to b, with {rest} for the other things; {the_a}, {the_b} point back to things of {T}.
Book: appendix/world.md.
"""

from __future__ import annotations

import re

from vlmbook.world.language.facts import Facts, Mention, Thing
from vlmbook.world.vocabulary import COLORS, MATERIALS, SHAPES, SIZES

NOUNS = {s: s for s in SHAPES}
WORDS = {
    "shape": NOUNS,
    "color": {c: c for c in COLORS},
    "material": {m: m for m in MATERIALS},
    "size": {s: s for s in SIZES},
}
ANYTHING = "object"
PLURALS = {"torus": "tori", ANYTHING: "objects"} | {s: s + "s" for s in SHAPES if s != "torus"}
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
SEVERAL, MANY = "several", "many"
RELATIONS = {
    "left": "to the left of",
    "right": "to the right of",
    "front": "in front of",
    "behind": "behind",
}
YES, NO = "yes", "no"

LISTS = (
    "There {is} {T} on the table.",
    "On the table there {is} {T}.",
    "A picture of {T}.",
    "A photo of {T} on a table.",
    "The picture shows {T}.",
    "{T} on a table.",
    "You can see {T} here.",
    "We are looking at {T}.",
    "{T} can be seen on the table.",
    "An image with {T}.",
    "This scene contains {T}.",
    "Somebody has put {T} on a table.",
    "In this picture there {is} {T}.",
    "Here we have {T}.",
    "A rendering of {T}.",
    "A table with {T} on it.",
    "{T}, seen from above.",
    "The camera looks at {T}.",
)
RELATIONAL = (
    "There is {a} {r} {b}{rest}.",
    "{a} is {r} {b}{rest}.",
    "{r} {b} there is {a}{rest}.",
    "The picture shows {a} {r} {b}{rest}.",
    "{a} {r} {b}{rest}.",
    "You can see {a} {r} {b}{rest}.",
    "A photo of {a} {r} {b}{rest}.",
    "On the table, {a} stands {r} {b}{rest}.",
    "We see {a} that is {r} {b}{rest}.",
    "{T}; {the_a} is {r} {the_b}.",
    "There {is} {T}, and {the_a} is {r} {the_b}.",
    "In this picture, {a} is {r} {b}{rest}.",
    "{r} {b}, you can see {a}{rest}.",
    "A picture of {T}, with {the_a} {r} {the_b}.",
)
ABSENCES = ("There is no {x}.", "No {x} can be seen.", "It shows no {x}.")
GENERIC = ("A nice photo.", "A picture of some things.", "An image on the web.", "Look at this.")

REST = ", along with {T}"
AND = " and "

# Each holds a power of two of choices; the last one counts on.
NUISANCE = (
    (
        "Taken in {}",
        "Oslo Lima Cairo Quito Paris Delhi Tokyo Seoul Milan Accra Hanoi Sofia Riga Turin Perth "
        "Lagos",
    ),
    ("on a {}", "Monday Tuesday Wednesday Thursday Friday Saturday Sunday holiday"),
    ("by {}", "Mina Jun Sora Leo Ida Noah Ada Omar Yuna Ben Eva Tao Nora Raul Lena Kofi"),
    ("with a {} camera", "borrowed broken cheap rented used new heavy clever"),
    ("before {}", "lunch work school dinner"),
)
NUISANCE_NUMBER = "as number {}"
NUISANCE_STARTS = ("Taken",)


def noun_phrase(thing: Thing, count: int | None = 1, article: str = "a") -> str:
    """a small red metal cube; two red cubes; several cubes; with article "" just the bare noun."""
    noun = WORDS["shape"].get(thing.shape, ANYTHING)
    words = [WORDS[a][v] for a in ("size", "color", "material") if (v := getattr(thing, a))]
    if count != 1:
        quantity = SEVERAL if count is None else NUMBERS[count]
        return " ".join([quantity, *words, PLURALS[noun]])
    phrase = " ".join([*words, noun])
    if article == "a":
        return ("an " if phrase[0] in "aeiou" else "a ") + phrase
    return f"{article} {phrase}".strip()


def listed(phrases: list[str]) -> str:
    """a, b and c"""
    return AND.join([", ".join(phrases[:-1]), phrases[-1]] if len(phrases) > 1 else phrases)


def fill(template: str, things: list[Mention], slots: dict) -> str:
    """A template as a sentence.

    things go into {T}; slots has a, b (Thing) and r for relational ones.
    """
    phrases = listed([noun_phrase(m.thing, m.count) for m in things]) if things else ""
    values = {"T": phrases, "is": "is" if things and things[0].count == 1 else "are"}
    if slots:
        a, b = slots["a"], slots["b"]
        values |= {"a": noun_phrase(a), "b": noun_phrase(b), "r": RELATIONS[slots["r"]]}
        values |= {"the_a": noun_phrase(a, article="the"), "the_b": noun_phrase(b, article="the")}
        values["rest"] = REST.format(T=phrases) if things else ""
    text = template.format(**values)
    return text[0].upper() + text[1:]


def absences(text: str) -> tuple[str, ...]:
    """The ways to say what is absent, after any text."""
    return ABSENCES


def absence(template: str, thing: Thing) -> str:
    """There is no red cube."""
    return template.format(x=noun_phrase(thing, article=""))


def nuisance(parts: list[str]) -> str:
    """A sentence that has nothing to do with the picture."""
    text = ", ".join(parts)
    return text[0].upper() + text[1:] + "."


def _choice(words) -> str:
    return "|".join(sorted(words, key=len, reverse=True))


_SINGULAR = {plural: singular for singular, plural in PLURALS.items()}
_COUNTS = f"an?|the|no|{SEVERAL}|{MANY}|{_choice(NUMBERS[1:])}"
_PHRASE = re.compile(
    rf"(?:\b(?P<count>{_COUNTS})\s+)?(?:\b(?P<size>{_choice(SIZES)})\s+)?"
    rf"(?:\b(?P<color>{_choice(COLORS)})\s+)?(?:\b(?P<material>{_choice(MATERIALS)})\s+)?"
    rf"\b(?P<noun>{_choice([*SHAPES, *PLURALS.values(), ANYTHING])})\b"
)
_SIDES = {words: name for name, words in RELATIONS.items()}
_SIDE = re.compile(rf"\b({_choice(_SIDES)})\s*$")
_IDLE = re.compile(rf"^\s*(?:{'|'.join(NUISANCE_STARTS)})\b", re.I)
_FRAME = set(
    re.findall(
        r"[a-z]+", " ".join((*LISTS, *RELATIONAL, *ABSENCES, *GENERIC, REST, AND, *_SIDES)).lower()
    )
)


def parse(text: str) -> Facts:
    """The facts that an English text states; words that have no place in the grammar go into
    unread.
    """
    mentions, relations, absent, unread = [], [], [], []
    for sentence in re.findall(r"[^.]+", text.lower()):
        if _IDLE.match(sentence):
            continue
        end, pending, things = 0, None, []
        for match in _PHRASE.finditer(sentence):
            between = sentence[end : match.start()]
            thing, quantity = _thing(match), match["count"] or "a"
            unread += _strange(between)
            if quantity == "no":
                absent.append(thing)
            elif quantity != "the":
                mentions.append(Mention(thing, _count(quantity)))
            side = _SIDE.search(between)
            if pending:  # "behind b there is a"
                relations.append((thing, *pending))
                pending = None
            elif side and things:  # "a is behind b"
                relations.append((things[-1], _SIDES[side[1]], thing))
            elif side:
                pending = (_SIDES[side[1]], thing)
            things.append(thing)
            end = match.end()
        unread += _strange(sentence[end:])
    return Facts(tuple(mentions), tuple(relations), tuple(absent), tuple(unread))


def _thing(match: re.Match) -> Thing:
    noun = _SINGULAR.get(match["noun"], match["noun"])
    return Thing(
        None if noun == ANYTHING else noun, match["color"], match["material"], match["size"]
    )


def _count(quantity: str) -> int | None:
    if quantity in (SEVERAL, MANY):
        return None
    return NUMBERS.index(quantity) if quantity in NUMBERS else 1


def _strange(words: str) -> list[str]:
    return [w for w in re.findall(r"[a-z0-9']+", words) if w not in _FRAME]
