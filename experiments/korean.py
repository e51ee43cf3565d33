"""Teaching Korean to a CLIP that knows English, from sentences alone, and how to cut the sentences.

    python experiments/korean.py [--smoke]

A Korean text encoder learns to give each sentence the place that clip-english's text encoder gives
to its English counterpart; no picture is seen. Then it searches clip-english's pictures. What is
varied: how many pairs of sentences there are, how Korean is cut into tokens, and, with some forms
of words kept out of training, whether a way of cutting gets along with forms that it has not seen;
and what becomes of a colour that no sentence names. Writes vlmbook/results/korean.json. Three hours
on one core. Book: applications/korean.md.
"""

from __future__ import annotations

import functools
import random
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import dual
import torch
from torch import Tensor, nn

from vlmbook import checkpoint, clip, encoders, retrieval, tokenizer, train, world
from vlmbook.world.language.facts import Thing

SETTINGS = train.Settings(steps=600, batch=64, rate=2e-3)
NUM_GALLERY = 1000
SIZES = (100, 300, 1000, 5000, 20_000)
NUM = 5000  # pairs, where something else is varied
PRESET, NUM_OBJECTS = "full", (1, 3)
VOCABULARY, LONGEST = 512, 256
UNKNOWN = tokenizer.IMAGE  # a special token that nothing else here uses
MISSING = "보라"  # purple: what some students never read of
PARTICLES = ("이", "가", "과", "와")  # of a subject, and for "and"; the last sound decides which


def bytes_of(text: str) -> list[str]:
    """The bytes of a text, as names."""
    return [f"{byte:02x}" for byte in text.encode("utf8")]


def letters_of(text: str) -> list[str]:
    """A text's letters: each syllable of Hangul is two or three."""
    return list(unicodedata.normalize("NFD", text))


CUTS: dict[str, Callable[[str], list[str]]] = {
    "words": str.split,
    "syllables": list,
    "letters": letters_of,
    "bytes": bytes_of,
}


def cut_by(how: str, sentences: Sequence[str]) -> Callable[[str], list[str]]:
    """A way to cut sentences into tokens; that of BPE is learnt from some."""
    if how == "bpe":
        learnt = tokenizer.train(sentences, VOCABULARY)
        return lambda text: learnt.tokens(text)[1:-1]
    return CUTS[how]


class Vocabulary:
    """Numbers for the tokens of some sentences, and one for all others."""

    def __init__(self, how: str, sentences: Sequence[str]) -> None:
        self.cut = cut_by(how, sentences)
        seen = sorted({token for text in sentences for token in self.cut(text)})
        first = len(tokenizer.SPECIALS)
        self.number = {token: first + n for n, token in enumerate(seen)}

    def __len__(self) -> int:
        return len(tokenizer.SPECIALS) + len(self.number)

    def encode(self, text: str) -> Tensor:
        """(T,), between a start and an end."""
        own = [self.number.get(token, UNKNOWN) for token in self.cut(text)]
        return torch.tensor([tokenizer.START, *own, tokenizer.END])

    def batch(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """ids (B, T) and mask (B, T)."""
        ids = nn.utils.rnn.pad_sequence([self.encode(text) for text in texts], batch_first=True)
        return ids, ids != tokenizer.PAD


class Student(nn.Module):
    """A text encoder, and the map into the teacher's space."""

    def __init__(self, vocab_size: int, shared: int, width: int = 128) -> None:
        super().__init__()
        self.text = encoders.TextEncoder(vocab_size, LONGEST, width, 2, 4, tokenizer.END)
        self.into = nn.Linear(width, shared)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(B, T) to (B, E), not normalised."""
        return self.into(self.text(ids, mask).pooled)


class Sentences(NamedTuple):
    """The same said twice."""

    english: list[str]
    korean: list[str]


class Test(NamedTuple):
    """What is searched: pictures' embeddings (G, E), and a Korean and an English text of each."""

    image_emb: Tensor
    korean: list[str]
    english: list[str]


@functools.cache
def teacher() -> tuple[clip.Clip, tokenizer.Tokenizer]:
    """The model that knows English."""
    return checkpoint.load("clip-english")


@torch.no_grad()
def read(texts: Sequence[str]) -> Tensor:
    """Where the teacher puts texts, (n, E); those that it has too few places for are cut off."""
    model, words = teacher()
    places = model.text.place.num_embeddings
    parts = []
    for n in range(0, len(texts), 500):
        ids = words.batch(texts[n : n + 500])[0][:, :places]
        ids[(ids != tokenizer.END).all(1), -1] = tokenizer.END
        parts.append(model.encode_text(ids, ids != tokenizer.PAD))
    return torch.cat(parts)


@functools.cache
@torch.no_grad()
def tested() -> Test:
    """The test, the same for all."""
    scenes = retrieval.gallery(NUM_GALLERY)
    model, _ = teacher()
    parts = [scenes[n : n + 250] for n in range(0, len(scenes), 250)]
    image_emb = torch.cat([model.encode_image(world.render(part).pixels) for part in parts])
    texts = [[world.caption(s, of, relations=False) for s in scenes] for of in ("ko", "en")]
    return Test(image_emb, *texts)


def sentences(num: int, seed: int, wanted: Callable[[str], bool] = lambda text: True) -> Sentences:
    """So many pairs whose Korean sentence is wanted."""
    rng, found = random.Random(f"korean/{seed}"), Sentences([], [])
    scenes = world.stream(PRESET, "train", 300 + seed, NUM_OBJECTS)
    while len(found.korean) < num:
        scene = next(scenes)
        korean, english = (
            world.caption(scene, of, rng=rng, relations=False) for of in ("ko", "en")
        )
        if wanted(korean):
            found.english.append(english)
            found.korean.append(korean)
    return found


@functools.cache
def kept_out(seed: int) -> frozenset[str]:
    """Of the name of each shape one form, a particle attached, that some students never read."""
    seen = {word.strip(".,") for text in sentences(2000, seed).korean for word in text.split()}
    names = [world.phrase(Thing(shape), "ko") for shape in world.PRESETS[PRESET].shapes]
    rng = random.Random(seed)
    return frozenset(
        rng.choice([name + p for p in PARTICLES if name + p in seen]) for name in names
    )


def has_form(text: str, forms: frozenset[str]) -> bool:
    """Whether a sentence has one of some forms."""
    return any(word.strip(".,") in forms for word in text.split())


def nouns_whole(words: Vocabulary, text: str, forms: frozenset[str]) -> bool:
    """Whether of each of some forms that a sentence has the noun is one token that was met."""
    own = [word.strip(".,") for word in text.split()]
    first = [(form[:-1], words.cut(form)[0]) for form in own if form in forms]
    return all(token.strip("·") == noun and token in words.number for noun, token in first)


def taught(
    pairs: Sentences, how: str, seed: int, settings: train.Settings
) -> tuple[Student, Vocabulary, list[float]]:
    """A student that has learnt from some pairs, its vocabulary, and the losses."""
    words, target = Vocabulary(how, pairs.korean), read(pairs.english)
    rows = [words.encode(text) for text in pairs.korean]
    torch.manual_seed(seed)
    student = Student(len(words), target.shape[1])

    def batch(step: int, part: slice) -> tuple[Tensor, Tensor]:
        some = dual.rows_of(step, len(rows), settings.batch, seed)[part]
        return nn.utils.rnn.pad_sequence([rows[n] for n in some], batch_first=True), target[some]

    def loss(forward: Callable, batch: tuple[Tensor, Tensor]) -> Tensor:
        ids, to = batch
        return (forward(ids, ids != tokenizer.PAD) - to).square().sum(1).mean()

    return student, words, train.fit(student, loss, batch, settings).loss


def ranks(text_emb: Tensor) -> dict[str, str]:
    """Which pictures are found first, and which among the first ten, by texts' embeddings."""
    rank = retrieval.ranks(nn.functional.normalize(text_emb, dim=1) @ tested().image_emb.T)
    return {f"found at {k}": dual.digits(retrieval.recall(rank, k)) for k in (1, 10)}


@torch.no_grad()
def made(
    num: int,
    how: str,
    wanted: Callable[[str], bool],
    seed: int,
    settings: train.Settings,
    forms: frozenset[str] | None = None,
) -> dict[str, Any]:
    """A student of one arm, measured; with forms, whether they keep their nouns whole."""
    with torch.enable_grad():
        student, words, losses = taught(sentences(num, seed, wanted), how, seed, settings)
    texts = tested().korean
    emb = torch.cat([student(*words.batch(texts[n : n + 250])) for n in range(0, len(texts), 250)])
    unknown = [UNKNOWN in words.encode(text) for text in texts]
    found = ranks(emb)
    if forms is not None:
        kept = [nouns_whole(words, text, forms) for text in texts]
        found["whole"] = dual.digits(torch.tensor(kept))
    return found | {
        "tokens": round(sum(len(words.encode(text)) for text in texts) / len(texts), 2),
        "vocabulary": len(words),
        "unknown": dual.digits(torch.tensor(unknown)),
        "wanted": dual.digits(torch.tensor([wanted(text) for text in texts])),
        "loss": round(sum(losses[-50:]) / len(losses[-50:]), 4),
    }


def runs(seed: int, settings: train.Settings) -> dict[str, Callable[[], dict[str, Any]]]:
    """What is trained with a seed."""
    settings = replace(SETTINGS, steps=settings.steps)
    forms = kept_out(seed)
    arms = {f"{num} pairs": (num, "bpe", lambda text: True) for num in SIZES}
    arms |= {
        f"{how}, forms kept out": (NUM, how, lambda text: not has_form(text, forms))
        for how in ("bpe", *CUTS)
    }
    arms["bpe, no purple"] = (NUM, "bpe", lambda text: MISSING not in text)
    made_so = {name: functools.partial(made, *arm, seed, settings) for name, arm in arms.items()}
    first = "bpe, forms kept out"
    made_so[first] = functools.partial(made, *arms[first], seed, settings, forms)
    if seed == 0:
        made_so |= {
            f"teacher, {of}": lambda texts=texts: ranks(read(texts))
            for of, texts in (("English", tested().english), ("Korean", tested().korean))
        }
    return made_so


if __name__ == "__main__":
    dual.run("korean", runs, SETTINGS.steps, batch=SETTINGS.batch, gallery=NUM_GALLERY)
