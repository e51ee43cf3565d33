"""What answers the battery: models, each in the way that it has, and what they are compared with.

    entrant = entrants.ENTRANTS["clip-mini"]()
    entrant.predict(battery.items("color", "ko"))   # list[Prediction]

To compare another model, write a class with those of see, fit, find, answer and describe that the
model can do; predict asks each item in the first way that there is. Book: comparison.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vlmbook import checkpoint, reader, retrieval, symbolic, world
from vlmbook.evaluate import battery
from vlmbook.evaluate.answers import exact_match
from vlmbook.evaluate.battery import Item
from vlmbook.evaluate.captions import scene_graph
from vlmbook.layers import without_weights
from vlmbook.tokenizer import Tokenizer
from vlmbook.world.questions import answer_text
from vlmbook.world.vocabulary import ATTRIBUTES

AT_ONCE = 200  # pictures, or pairs of a picture and a text, in one call; less for large models
RERANKED = 16  # of those that a quick head finds, so many are put in order by a slow one
DESCRIBE = {"en": "Describe the picture.", "ko": "그림을 설명해 주세요."}


Loaded = tuple[nn.Module, Tokenizer]  # as checkpoint.load gives them


class Prediction(NamedTuple):
    """What was said to an item, and how good that is, from 0 to 1."""

    item: str
    said: str
    score: float


class Entrant:
    """Something that answers items. P pictures, n pairs of a picture and a text."""

    name: str
    weights: str = ""  # checkpoint.fingerprint of them
    shipped: str = ""  # the checkpoint that they are of
    model: nn.Module | None = None
    size: int = 64  # of the pictures that it is shown, in pixels
    at_once: int = AT_ONCE

    def show(self, items: Sequence[Item]) -> Any:
        """What it is shown of items: pixels (P, 3, H, W)."""
        return battery.pixels(items, self.size)

    def see(self, pixels: Tensor) -> Tensor:
        """Pictures (P, 3, H, W) to what fit and find take, (P, ...)."""
        raise NotImplementedError

    def fit(self, seen: Tensor, texts: Sequence[str], language: str) -> Tensor:
        """How well each of n pictures that were seen fits its text, (n,); more is better."""
        raise NotImplementedError

    def find(self, seen: Tensor, texts: Sequence[str], language: str) -> tuple[Tensor, Tensor]:
        """How well pictures that were seen fit texts: for texts (T, P), for pictures (P, T)."""
        raise NotImplementedError

    def answer(self, pixels: Tensor, questions: Sequence[str], language: str) -> list[str]:
        """Answers to a question about each picture."""
        raise NotImplementedError

    def describe(self, pixels: Tensor, language: str) -> list[str]:
        """What is on each picture."""
        raise NotImplementedError

    def way(self, items: Sequence[Item]) -> str | None:
        """The method by which items of a skill are answered; None if there is none."""
        first = items[0]
        if first.way == "ask" and self._has("answer"):
            return "answer"
        if first.way in ("ask", "choose") and first.texts and self._has("fit"):
            return "fit"
        if first.way.startswith("find") and self._has("find"):
            return "find"
        return "describe" if first.way == "describe" and self._has("describe") else None

    def predict(self, items: Sequence[Item], all_items: Sequence[Item] = ()) -> list[Prediction]:
        """What it says to items of one skill and language; nothing, if it can't be asked them.

        Where something is looked for, it is among all_items, of which items are some.
        """
        way = self.way(items) if items else None
        return [] if way is None else getattr(self, f"_by_{way}")(items, all_items or items)

    def _has(self, method: str) -> bool:
        return getattr(type(self), method) is not getattr(Entrant, method)

    def _by_answer(self, items: Sequence[Item], _: Sequence[Item]) -> list[Prediction]:
        said = [
            text
            for part in _parts(items, self.at_once)
            for text in self.answer(self.show(part), [i.question for i in part], _language(part))
        ]
        right = exact_match(said, [item.answer for item in items])
        return _predictions(items, said, right)

    def _by_fit(self, items: Sequence[Item], _: Sequence[Item]) -> list[Prediction]:
        found = []
        for part in _parts(items, self.at_once):
            seen = self.see(self.show(part))
            rows = [n for n, item in enumerate(part) for _ in item.texts]
            texts = [text for item in part for text in item.texts]
            scores = torch.cat(
                [
                    self.fit(
                        seen[rows[n : n + self.at_once]],
                        texts[n : n + self.at_once],
                        _language(part),
                    )
                    for n in range(0, len(rows), self.at_once)
                ]
            )
            found += zip(part, scores.cpu().split([len(item.texts) for item in part]), strict=True)
        chosen = [int(own.argmax()) for _, own in found]
        # Where another text has the same score, nothing was chosen.
        right = [
            n == item.right and int((own == own[n]).sum()) == 1
            for n, (item, own) in zip(chosen, found, strict=True)
        ]
        said = [item.answers[n] if item.answers else str(n)
                for n, item in zip(chosen, items, strict=True)]  # fmt: skip
        return _predictions(items, said, right)

    def _by_find(self, items: Sequence[Item], all_items: Sequence[Item]) -> list[Prediction]:
        texts = [item.texts[0] for item in all_items]
        seen = torch.cat([self.see(self.show(part)) for part in _parts(all_items, self.at_once)])
        by_text, by_picture = self.find(seen, texts, _language(items))
        scores = (by_picture if items[0].way == "find text" else by_text).cpu()
        ranks = retrieval.ranks(scores)
        number = {item.id: n for n, item in enumerate(all_items)}
        rows = [number[item.id] for item in items]
        return _predictions(
            items, [all_items[int(scores[n].argmax())].id for n in rows], ranks[rows] == 1
        )

    def _by_describe(self, items: Sequence[Item], _: Sequence[Item]) -> list[Prediction]:
        said = [
            text
            for part in _parts(items, self.at_once)
            for text in self.describe(self.show(part), _language(part))
        ]
        graded = scene_graph(said, [item.scene for item in items], _language(items))
        return _predictions(items, said, graded.f1)


class Clip(Entrant):
    """A CLIP: the cosine of a picture and a text."""

    def __init__(self, name: str = "clip-mini", loaded: Loaded | None = None) -> None:
        self.name = self.shipped = name
        self.model, self.words = loaded or checkpoint.load(name)
        self.weights = checkpoint.fingerprint(self.model)

    def see(self, pixels: Tensor) -> Tensor:
        """(P, E)."""
        return self.model.encode_image(pixels)

    def read(self, texts: Sequence[str]) -> Tensor:
        """(n, E)."""
        parts = [texts[n : n + AT_ONCE] for n in range(0, len(texts), AT_ONCE)]
        return torch.cat([self.model.encode_text(*self.words.batch(part)) for part in parts])

    def fit(self, seen: Tensor, texts: Sequence[str], language: str) -> Tensor:
        """The cosines."""
        return (seen * self.read(texts)).sum(1)

    def find(self, seen: Tensor, texts: Sequence[str], language: str) -> tuple[Tensor, Tensor]:
        """All cosines."""
        scores = self.read(texts) @ seen.T
        return scores, scores.T


class BlipHead(Entrant):
    """A head of a BLIP that says how well a text fits: ITC, ITM or LM.

    ITM and LM look for things among the best of ITC, as BLIP does.
    """

    def __init__(self, head: str, name: str = "blip-mini", loaded: Loaded | None = None) -> None:
        self.name, self.shipped, self.head = f"{name}, {head}", name, head
        self.model, self.words = loaded or checkpoint.load(name)
        self.weights = checkpoint.fingerprint(self.model)

    @without_weights()
    def see(self, pixels: Tensor) -> Tensor:
        """(P, N + 1, D)."""
        return self.model.see(pixels).feats

    def fit(self, seen: Tensor, texts: Sequence[str], language: str) -> Tensor:
        """The head's score."""
        return self.model.score(self.head, *self.words.batch(texts), seen, language)

    def find(self, seen: Tensor, texts: Sequence[str], language: str) -> tuple[Tensor, Tensor]:
        """Cosines, of which the best are put in the order of the head."""
        parts = [texts[n : n + AT_ONCE] for n in range(0, len(texts), AT_ONCE)]
        text_emb = torch.cat([self.model.encode_text(*self.words.batch(part)) for part in parts])
        scores = text_emb @ self.model.embed_image(seen).T
        if self.head == "ITC":
            return scores, scores.T

        def judge(rows: Tensor, columns: Tensor) -> Tensor:
            return self.fit(seen[columns], [texts[n] for n in rows.tolist()], language)

        return (
            retrieval.rerank(scores, judge, RERANKED),
            retrieval.rerank(scores.T, lambda rows, columns: judge(columns, rows), RERANKED),
        )


class BlipWriter(Entrant):
    """The decoder of a BLIP, which answers and describes."""

    def __init__(self, name: str = "blip-mini", loaded: Loaded | None = None) -> None:
        self.name, self.shipped = f"{name}, answers", name
        self.model, self.words = loaded or checkpoint.load(name)
        self.weights = checkpoint.fingerprint(self.model)

    def answer(self, pixels: Tensor, questions: Sequence[str], language: str) -> list[str]:
        """As it is asked on the pages."""
        return [a.text for a in self.model.answer(pixels, questions, self.words)]

    def describe(self, pixels: Tensor, language: str) -> list[str]:
        """Its most likely words, one after the other."""
        return self.model.caption(pixels, self.words, language)


class Llava(Entrant):
    """A LLaVA: answers, describes, and says how likely it finds a text as a description.

    suffix is put after each question, for one that else answers at length.
    """

    suffix: str = ""

    def __init__(self, name: str = "llava-mini", loaded: Loaded | None = None) -> None:
        self.name = self.shipped = name
        self.model, self.words = loaded or checkpoint.load(name)
        self.weights = checkpoint.fingerprint(self.model)

    @without_weights()
    def see(self, pixels: Tensor) -> Tensor:
        """(P, N, D)."""
        return self.model.see(pixels)

    @without_weights()
    def fit(self, seen: Tensor, texts: Sequence[str], language: str) -> Tensor:
        """log p(text | picture, a request for a description)."""
        asked = {"role": "user", "content": [{"type": "image"}, _said(DESCRIBE[language])]}
        said = [
            self.words.chat([asked, {"role": "assistant", "content": text}], False, seen.shape[1])
            for text in texts
        ]
        ids, told = (
            nn.utils.rnn.pad_sequence([s[k] for s in said], batch_first=True).to(self.model.device)
            for k in (0, 1)
        )
        feats, told = self.model.read(ids, seen).feats[:, :-1], told[:, 1:]
        logits = self.model.text.next_logits(feats[told]).float()  # (n, V), of what is said alone
        each = logits.log_softmax(1).gather(1, ids[:, 1:][told][:, None])[:, 0]
        row = torch.arange(len(ids), device=each.device)[:, None].expand_as(told)[told]
        return torch.zeros(len(ids), device=each.device).index_add(0, row, each)

    def answer(self, pixels: Tensor, questions: Sequence[str], language: str) -> list[str]:
        """One reply to each question."""
        asked = [question + self.suffix for question in questions]
        return [a.text for a in self.model.answer(pixels, asked, self.words)]

    def describe(self, pixels: Tensor, language: str) -> list[str]:
        """One reply to each request."""
        asked = [[{"role": "user", "content": DESCRIBE[language]}]] * len(pixels)
        return [a.text for a in self.model.replies(pixels, asked, self.words)]


class Chooser(Entrant):
    """A reader, which is told what is in a scene, and chooses among answers."""

    def __init__(self, joint: str, loaded: Loaded | None = None) -> None:
        self.name, self.shipped = f"reader, {joint}", f"reader-{joint.replace(' ', '-')}"
        self.model, self.words = loaded or checkpoint.load(self.shipped)
        self.weights = checkpoint.fingerprint(self.model)

    def show(self, items: Sequence[Item]) -> tuple[Tensor, Tensor]:
        """The things of the scenes, (P, N, F), and which are there, (P, N), in place of pixels."""
        return symbolic.vectors([item.scene for item in items])

    def answer(
        self, shown: tuple[Tensor, Tensor], questions: Sequence[str], language: str
    ) -> list[str]:
        """The likeliest answer."""
        return self.model.answer(*shown, questions, self.words)


class Blind(Entrant):
    """Someone who has read the questions and captions of training, and sees no picture."""

    name = "blind"

    def answer(self, pixels: Tensor, questions: Sequence[str], language: str) -> list[str]:
        """The most frequent answer that training had to the same words, or to all."""
        heard, ever = _read(language)[0]
        return [(heard.get(text) or ever).most_common(1)[0][0] for text in questions]

    def see(self, pixels: Tensor) -> Tensor:
        """(P, 0)."""
        return pixels.new_zeros(len(pixels), 0)

    def fit(self, seen: Tensor, texts: Sequence[str], language: str) -> Tensor:
        """How likely a text is by which word follows which, (n,)."""
        pairs, first = _read(language)[1:]

        def likely(text: str) -> float:
            words = ["", *text.split(), ""]
            return sum(
                np.log((pairs[a, b] + 0.1) / (first[a] + 0.1 * len(first)))
                for a, b in zip(words, words[1:], strict=False)
            )

        return torch.tensor([likely(text) for text in texts])


class Bag(Entrant):
    """Knows what is there and not whose it is: names a thing's own at random, whichever is meant.

    Not one guess, but what guesses are worth on average.
    """

    name = "bag"

    def way(self, items: Sequence[Item]) -> str | None:
        """Only where something of a thing is to be named."""
        return "bag" if items[0].skill in battery.NAMED else None

    def _by_bag(self, items: Sequence[Item], _: Sequence[Item]) -> list[Prediction]:
        scores = [
            np.mean(
                [item.answer in _words_of(thing, item.language) for thing in item.scene.objects]
            )
            for item in items
        ]
        return _predictions(items, [""] * len(items), scores)


class Constant(Entrant):
    """The answer that is most often right among the items themselves, whatever is asked."""

    name = "majority"

    def way(self, items: Sequence[Item]) -> str | None:
        """Only where there are answers."""
        return "constant" if items[0].answers else None

    def _by_constant(self, items: Sequence[Item], all_items: Sequence[Item]) -> list[Prediction]:
        said = Counter(item.answer for item in all_items).most_common(1)[0][0]
        return _predictions(items, [said] * len(items), [i.answer == said for i in items])


class Chance(Entrant):
    """A guess among what may be said: not one guess, but what guesses are worth on average."""

    name = "chance"

    def way(self, items: Sequence[Item]) -> str | None:
        """Only where there is a number of things to choose from."""
        return None if items[0].way == "describe" else "chance"

    def _by_chance(self, items: Sequence[Item], all_items: Sequence[Item]) -> list[Prediction]:
        among = [
            len(all_items) if item.way.startswith("find") else len(item.texts or item.answers)
            for item in items
        ]
        return _predictions(items, [""] * len(items), [1 / num for num in among])


ENTRANTS: dict[str, Callable[[], Entrant]] = {
    "clip-mini": Clip,
    **{f"blip-mini, {head}": lambda head=head: BlipHead(head) for head in ("ITC", "ITM", "LM")},
    "blip-mini, answers": BlipWriter,
    "llava-mini": Llava,
    **{f"reader, {joint}": lambda joint=joint: Chooser(joint) for joint in reader.JOINTS},
    "bag": Bag,
    "blind": Blind,
    "majority": Constant,
    "chance": Chance,
}
BASELINES = ("bag", "blind", "majority", "chance")


@cache
def _read(language: str) -> tuple[tuple[dict[str, Counter], Counter], Counter, Counter]:
    """Answers of training, by question and in all, and which words of captions follow which."""
    scenes = world.sample(3000, battery.PRESET, "train", 75, (1, 3))
    heard: dict[str, Counter] = {}
    for asked in (q for scene in scenes for q in world.questions(scene, language)):
        heard.setdefault(asked.text, Counter())[asked.answer] += 1
    pairs: Counter = Counter()
    first: Counter = Counter()
    for scene in scenes:
        words = ["", *world.caption(scene, language).split(), ""]
        pairs.update(zip(words, words[1:], strict=False))
        first.update(words[:-1])
    return (heard, sum(heard.values(), Counter())), pairs, first


def _words_of(thing: world.Object, language: str) -> set[str]:
    """What a thing's attributes are called as answers."""
    return {answer_text(getattr(thing, attribute), language) for attribute in ATTRIBUTES}


def _said(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _language(items: Sequence[Item]) -> str:
    return items[0].language


def _parts(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    return [items[n : n + size] for n in range(0, len(items), size)]


def _predictions(
    items: Sequence[Item], said: Sequence[str], scores: Sequence[float] | np.ndarray | Tensor
) -> list[Prediction]:
    return [
        Prediction(item.id, text, float(score))
        for item, text, score in zip(items, said, scores, strict=True)
    ]
