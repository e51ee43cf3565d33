"""How good answers are, to open questions and to questions of yes or no.

Antol et al. 2015, Li et al. 2023 (POPE). Book: blip.md.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vlmbook import world

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
ARTICLES = ("a", "an", "the")
ENOUGH = 3  # people who agree with an answer make it right


def normalized(answer: str) -> str:
    """An English answer as VQA compares it: lower case, no punctuation or articles, digits.

    Its table of contractions is left out; no answer of the world has one.
    """
    found = re.findall(r"[\w':]+", answer.lower())
    digits = {word: str(n) for n, word in enumerate(NUMBERS)} | {"none": "0"}
    return " ".join(digits.get(word, word) for word in found if word not in ARTICLES)


def exact_match(answers: Sequence[str], truth: Sequence[str]) -> np.ndarray:
    """Which answers equal the true one when both are normalized: (n,) bool."""
    _same_length(answers, truth)
    return np.array(
        [normalized(a) == normalized(t) for a, t in zip(answers, truth, strict=True)], dtype=bool
    )


def vqa_accuracy(answer: str, people: Sequence[str]) -> float:
    """How well an answer agrees with those of people, usually ten, between 0 and 1.

    The mean over all people of min(1, others who gave this answer / 3): of ten, four who agree
    make it 1, three 0.9. Each person is left out once, so with a single answer it is always 0;
    repeat a single true answer ten times to get exact match.

    Antol et al. 2015, section 3, as in its published evaluation.
    """
    if isinstance(people, str) or not len(people):
        raise ValueError(f"people is {people!r}; pass a list of one answer or more")
    same = [normalized(answer) == normalized(other) for other in people]
    return float(np.mean([min(1.0, (sum(same) - own) / ENOUGH) for own in same]))


def blind(train: Sequence[world.Question], test: Sequence[world.Question]) -> list[str]:
    """What someone answers who reads questions and sees no picture.

    The most frequent answer that train gives to the same words, or to questions of the same family
    and language where it has not these words; the first one met where several are as frequent.
    """
    heard: dict[tuple[str, ...], Counter] = {}
    for asked in train:
        for key in ((asked.text,), (asked.family, asked.language)):
            heard.setdefault(key, Counter())[asked.answer] += 1
    found = []
    for asked in test:
        counts = heard.get((asked.text,)) or heard.get((asked.family, asked.language))
        if counts is None:
            raise ValueError(
                f"train has no question of family {asked.family!r} in {asked.language!r}; ask some"
            )
        found.append(counts.most_common(1)[0][0])
    return found


def yes_or_no(text: str, language: str = "en") -> bool | None:
    """What a text answers: True for yes, False for no, None where it is neither or both."""
    said = set(re.findall(r"\w+", text.lower()))
    yes, no = {"en": ({"yes"}, {"no", "not"}), "ko": ({"네", "예"}, {"아니요", "아니오"})}[language]
    found = bool(said & yes), bool(said & no)
    return found[0] if found[0] != found[1] else None


def lenient_yes(text: str) -> bool:
    """POPE's own reading of English: whatever has no "no" or "not" in its first sentence is a yes.

    So an empty text is a yes too. Li et al. 2023, published evaluation.
    """
    first = text.split(".")[0].replace(",", "")
    return not {"No", "no", "not"} & set(first.split(" "))


class YesNo(NamedTuple):
    """Shares over all items, with yes as what is to be found; unread ones count as wrong."""

    accuracy: float
    precision: float
    recall: float
    f1: float
    yes_rate: float
    unread: float


def pope(said: Sequence[bool | None], truth: Sequence[bool]) -> YesNo:
    """How well yes and no are given, as POPE reports it; None in said is an unread answer.

    Whoever always says yes has a recall of 1 and, in a balanced set, an F1 of 2/3: look at
    yes_rate first.

    Li et al. 2023, section 5.
    """
    _same_length(said, truth)
    said, truth = [None if s is None else bool(s) for s in said], [bool(t) for t in truth]
    right = sum(s is t for s, t in zip(said, truth, strict=True))
    hits = sum(s is True and t for s, t in zip(said, truth, strict=True))
    num, yes, true = len(said), sum(s is True for s in said), sum(truth)
    precision, recall = hits / max(1, yes), hits / max(1, true)
    both = precision + recall
    f1 = 2 * precision * recall / both if both else 0.0
    unread = sum(s is None for s in said) / num
    return YesNo(right / num, precision, recall, f1, yes / num, unread)


def _same_length(given: Sequence, truth: Sequence) -> None:
    if len(given) != len(truth):
        raise ValueError(f"{len(given)} answers don't fit {len(truth)} truths")
    if not len(given):
        raise ValueError("there are no answers; there is nothing to score")
