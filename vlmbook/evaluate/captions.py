"""How good a caption is: by the words that it shares with references, and by what it says.

A caption is compared with R references of the same picture. Words are what white space separates;
bring texts to a common form first (words()), and join Korean syllables by spaces for scores by
syllables. n pictures. BLEU, ROUGE-L and CIDEr-D are numerically those of the COCO caption
evaluation (Chen et al. 2015) on texts that are split in the same way.

Papineni et al. 2002, Lin 2004, Vedantam et al. 2015, Rohrbach et al. 2018 (CHAIR). Book: blip.md.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from vlmbook import world
from vlmbook.world.language import varying
from vlmbook.world.language.facts import Facts
from vlmbook.world.vocabulary import ATTRIBUTES

ORDERS = (1, 2, 3, 4)  # n-grams of so many words
BETA = 1.2  # ROUGE-L: how much more recall counts than precision
SIGMA = 6.0  # CIDEr-D: how many bigrams a caption may be longer or shorter
TINY, SMALL = 1e-15, 1e-9  # of the COCO evaluation, in place of divisions by zero


def words(text: str) -> str:
    """A text in lower case without punctuation, words one space apart."""
    return " ".join(re.findall(r"[\w']+", text.lower()))


def syllables(text: str) -> str:
    """A text in lower case without punctuation, characters one space apart: for Korean."""
    return " ".join(words(text).replace(" ", ""))


def bleu(captions: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, ...]:
    """BLEU-1 to BLEU-4 of all captions together, between 0 and 1.

    Each is the geometric mean of the shares of n-grams that are in a reference too, times a penalty
    where captions are shorter than those references that are nearest to them in length.

    Papineni et al. 2002, section 2.
    """
    _check(captions, references)
    right, made = dict.fromkeys(ORDERS, 0), dict.fromkeys(ORDERS, 0)
    length = wanted = 0
    for caption, refs in zip(captions, references, strict=True):
        size = len(caption.split())
        length += size
        wanted += min((abs(len(r.split()) - size), len(r.split())) for r in refs)[1]
        for order in ORDERS:
            own = _ngrams(caption, order)
            most = Counter()
            for ref in refs:
                most |= _ngrams(ref, order)
            right[order] += (own & most).total()
            made[order] += max(0, size - order + 1)
    shares = [(right[order] + TINY) / (made[order] + SMALL) for order in ORDERS]
    penalty = math.exp(min(0.0, 1 - (wanted + SMALL) / (length + TINY)))
    return tuple(math.prod(shares[:k]) ** (1 / k) * penalty for k in ORDERS)


def rouge_l(captions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """ROUGE-L of each caption, (n,), between 0 and 1.

    From the longest sequence of words, gaps allowed, that a caption shares with a reference.

    Lin 2004, section 3.1, with the best precision and the best recall among the references.
    """
    _check(captions, references)
    scores = []
    for caption, refs in zip(captions, references, strict=True):
        own = caption.split()
        shared = [(_longest(own, ref.split()), len(ref.split())) for ref in refs]
        precision = max(length / max(1, len(own)) for length, _ in shared)
        recall = max(length / max(1, size) for length, size in shared)
        below = recall + BETA**2 * precision
        scores.append((1 + BETA**2) * precision * recall / below if below else 0.0)
    return np.array(scores)


def cider_d(captions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """CIDEr-D of each caption, (n,), between 0 and 10.

    The cosine of n-grams weighted by how few pictures' references have them, counted no oftener
    than the reference does, and less where lengths differ. What all pictures' references have is
    worth nothing, so a single picture always scores 0, and a caption of fewer than four words can't
    reach 10. Papers print 100 times the mean over all pictures.

    Vedantam et al. 2015, section 4 (CIDEr-D: section 6).
    """
    _check(captions, references)
    seen = Counter()
    for refs in references:
        seen.update({gram for ref in refs for order in ORDERS for gram in _ngrams(ref, order)})
    scores = []
    for caption, refs in zip(captions, references, strict=True):
        grams = [_weighted(caption, order, seen, len(captions)) for order in ORDERS]
        total = 0.0
        for ref in refs:
            apart = max(0, len(caption.split()) - 1) - max(0, len(ref.split()) - 1)
            near = math.exp(-(apart**2) / (2 * SIGMA**2))
            for order, own in zip(ORDERS, grams, strict=True):
                other = _weighted(ref, order, seen, len(captions))
                length = math.hypot(*own.values()) * math.hypot(*other.values())
                if length:
                    shared = sum(
                        min(own[g], other[g]) * other[g] for g in own.keys() & other.keys()
                    )
                    total += near * shared / length
        scores.append(10 * total / len(ORDERS) / len(refs))
    return np.array(scores)


class SceneGraph(NamedTuple):
    """How much of what each caption says is so, and how much of what is so it says: (n,) each."""

    precision: np.ndarray
    recall: np.ndarray

    @property
    def f1(self) -> np.ndarray:
        """The harmonic mean of both, (n,); 0 where both are."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / np.where(total > 0, total, 1)


def scene_graph(
    captions: Sequence[str], scenes: Sequence[world.Scene], language: str = "en"
) -> SceneGraph:
    """Compare what captions say, read with the world's grammar, with the scenes that they are of.

    Each attribute of each thing is a fact; a caption's things are matched with the scene's objects
    so that most facts are right. Relations, and what a caption says is absent, are further facts
    for precision; no caption need tell them. A caption that says nothing has precision and recall
    0. Wording makes no difference.
    """
    _check_scenes(captions, scenes)
    precision, recall = [], []
    for caption, scene in zip(captions, scenes, strict=True):
        facts = world.parse(caption, language)
        things = facts.things
        agree = np.array(
            [
                [[getattr(t, a) == getattr(o, a) for a in ATTRIBUTES] for o in scene.objects]
                for t in things
            ]
        ).reshape(len(things), len(scene), len(ATTRIBUTES))
        matched = agree[linear_sum_assignment(agree.sum(2), maximize=True)]  # (pairs, attributes)
        others = [Facts(relations=(r,)) for r in facts.relations]
        others += [Facts(absent=(t,)) for t in facts.absent]
        said = sum(getattr(t, a) is not None for t in things for a in ATTRIBUTES) + len(others)
        true = matched.sum() + sum(not other.errors(scene) for other in others)
        told = varying(scene)
        right = matched[:, [a in told for a in ATTRIBUTES]].sum()
        precision.append(true / max(1, said))
        recall.append(right / max(1, len(told) * len(scene)))
    return SceneGraph(np.array(precision), np.array(recall))


class Chair(NamedTuple):
    """How much captions invent: a share of their mentions and of their sentences.

    recall is the share of a scene's kinds of shapes that they mention; a mute captioner invents
    nothing.
    """

    instance: float
    sentence: float
    recall: float


def chair(captions: Sequence[str], scenes: Sequence[world.Scene], language: str = "en") -> Chair:
    """CHAIR with shapes as the kinds of objects: a mention is invented if the scene has no such.

    Every mention counts, of however many things; those without a shape (a red object) do not.

    Rohrbach et al. 2018, section 3.
    """
    _check_scenes(captions, scenes)
    mentions = invented = sentences = found = there = 0
    for caption, scene in zip(captions, scenes, strict=True):
        facts = world.parse(caption, language)
        named = [m.thing.shape for m in facts.mentions if m.thing.shape is not None]
        shapes = {o.shape for o in scene.objects}
        wrong = sum(shape not in shapes for shape in named)
        mentions, invented, sentences = (
            mentions + len(named),
            invented + wrong,
            sentences + (wrong > 0),
        )
        found, there = found + len(shapes & set(named)), there + len(shapes)
    return Chair(invented / max(1, mentions), sentences / len(captions), found / max(1, there))


def _ngrams(text: str, order: int) -> Counter[tuple[str, ...]]:
    """How often each sequence of so many words occurs."""
    split = text.split()
    return Counter(tuple(split[i : i + order]) for i in range(len(split) - order + 1))


def _weighted(text: str, order: int, seen: Counter, num: int) -> dict[tuple[str, ...], float]:
    """n-grams with their counts times the logarithm of num over the pictures that have them."""
    return {
        gram: count * (math.log(num) - math.log(max(1, seen[gram])))
        for gram, count in _ngrams(text, order).items()
    }


def _longest(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for word in a:
        before = 0
        for j, other in enumerate(b, 1):
            before, row[j] = row[j], before + 1 if word == other else max(row[j], row[j - 1])
    return row[-1]


def _check_scenes(captions: Sequence[str], scenes: Sequence[world.Scene]) -> None:
    if len(captions) != len(scenes):
        raise ValueError(f"{len(captions)} captions don't fit {len(scenes)} scenes")
    if not len(captions):
        raise ValueError("there are no captions; there is nothing to score")


def _check(captions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if isinstance(captions, str) or len(captions) != len(references):
        raise ValueError(
            f"{len(references)} sets of references don't fit {len(captions)} captions; pass a list"
            " of captions and as many lists of references"
        )
    if not len(captions):
        raise ValueError("there are no captions; there is nothing to score")
    for number, refs in enumerate(references):
        if isinstance(refs, str) or not len(refs):
            raise ValueError(
                f"references[{number}] is {refs!r}; pass a list of one or more sentences"
            )
