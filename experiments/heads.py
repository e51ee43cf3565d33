"""What ITC, ITM and the LM know after the same pairs, and what each gives the others.

    python experiments/heads.py [--smoke]

Symbolic BLIPs of two widths learn from scenes of two objects, with one, two or three of the
objectives, and ITM with negatives of three kinds: random, mined by ITC, and false captions with
exchanged colors. Every head answers the same items. Writes vlmbook/results/heads.json. About two
hours and a quarter on one core. Book: blip/heads.md.
"""

from __future__ import annotations

import functools
import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import binding
import dual
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmbook import blip, retrieval, symbolic, train, world
from vlmbook.world.language.facts import Thing, thing_of

PRESET = "standard"
WIDTHS = (64, 128)
TESTS = ("recolour", "exchange colors", "exchange places", "count", "absent")
PLACES, ABSENT = 0.3, 0.2  # so many captions tell a relation, so many what is absent
NUM_RERANKED = 16
NUM_MATCHED = 32  # pairs of a batch that ITM reads, each three times
NUM_PRIOR = 10  # scenes over which the probability of a text is averaged


class Run(NamedTuple):
    """What is trained; negatives of ITM are "mined", "random" or "false"."""

    tasks: tuple[str, ...]
    negatives: str = "mined"


RUNS = {
    "ITC": Run(("itc",)),
    "LM": Run(("lm",)),
    "ITC + LM": Run(("itc", "lm")),
    "ITC + ITM, random": Run(("itc", "itm"), "random"),
    "ITC + ITM, mined": Run(("itc", "itm")),
    "ITC + ITM, false": Run(("itc", "itm"), "false"),
    "ITC + ITM + LM": Run(("itc", "itm", "lm")),
}
WIDE = ("ITC", "LM", "ITC + ITM, mined", "ITC + ITM + LM")  # the others at the first width only


def absent(scene: world.Scene, seed: int) -> tuple[str, str]:
    """A caption of what is there and what is not, and a false one that denies what is there."""
    rng = random.Random(seed)
    told, denied = rng.sample([thing_of(o, ("color", "shape")) for o in scene.objects], 2)
    preset = world.PRESETS[scene.preset]
    other = denied
    while other.found(scene):
        other = Thing(rng.choice(preset.shapes), rng.choice(preset.colors))
    first = f"{world.phrase(told)} but no "
    return tuple(first + world.phrase(thing).split(" ", 1)[1] for thing in (other, denied))


def say(scene: world.Scene, seed: int) -> str:
    """A caption of training: two things, or how they stand, or that something is not there."""
    drawn = random.Random(f"say {seed}").random()
    if drawn < ABSENT:
        return absent(scene, seed)[0]
    return binding.plain(scene, seed, drawn < ABSENT + PLACES)


@functools.cache
def items(kind: str) -> list[tuple[world.Scene, str, str]]:
    """Test scenes with a true and a false caption each."""
    if kind != "absent":
        return binding.items(PRESET, kind)
    scenes = world.sample(2 * binding.NUM_TESTS, PRESET, "test", 7, num_objects=2)
    different = [s for s in scenes if len(set(retrieval.full_description(s))) == 2]
    return [(s, *absent(s, s.index)) for s in different[: binding.NUM_TESTS]]


def build(width: int, seed: int, max_tokens: int = 32) -> blip.Blip:
    """A BLIP whose eye is given the objects."""
    torch.manual_seed(seed)
    config = blip.Config(
        len(dual.WORDS), image_width=width, text_width=width, shared=width, max_tokens=max_tokens
    )
    return blip.Blip(symbolic.ObjectEncoder(width, 2, 4), *blip.texts(config), nn.Identity())


@functools.lru_cache(maxsize=1)
def examples(
    seed: int,
) -> tuple[Tensor, list[str], list[tuple[str, str] | None], Tensor]:
    """Objects (n, N, F), a caption each, a true and a false one where a scene has them, and what
    blip.Batch calls about, (n, 2).
    """
    scenes = world.sample(dual.NUM_TRAIN, PRESET, "train", seed, num_objects=2)
    seeds = [seed * dual.NUM_TRAIN + n for n in range(len(scenes))]
    texts = [say(*pair) for pair in zip(scenes, seeds, strict=True)]
    false = [
        binding.false_caption(scene, "exchange colors", n)
        for scene, n in zip(scenes, seeds, strict=True)
    ]
    shown = [repr(retrieval.full_description(scene)) for scene in scenes]
    about = [[zlib.crc32(s.encode()) for s in pair] for pair in zip(shown, texts, strict=True)]
    return symbolic.vectors(scenes)[0], texts, false, torch.tensor(about)


def learn(run: Run, width: int, seed: int, settings: train.Settings) -> blip.Blip:
    """A model, trained on scenes and captions that the seed decides."""
    model = build(width, seed)
    how = {"mined": run.negatives != "random", "matched": NUM_MATCHED}
    objects, texts, false, about = examples(seed)

    def batch(step: int, part: slice) -> tuple[blip.Batch, list[int]]:
        rows = dual.rows_of(step, len(texts), settings.batch, seed)[part].tolist()
        language = torch.full((len(rows),), blip.LANGUAGES["en"])
        ids, mask = dual.WORDS.batch([texts[row] for row in rows])
        return blip.Batch(objects[rows], ids, mask, language, about[rows]), rows

    def loss(forward: Callable, given: tuple[blip.Batch, list[int]]) -> Tensor:
        pairs, rows = given
        if run.negatives != "false":
            return train.multitask(forward, pairs, dict.fromkeys(run.tasks, 1.0), **how)
        told = [(n, false[row]) for n, row in enumerate(rows) if false[row]]
        return train.multitask(forward, pairs, {"itc": 1.0}) + _tell(model, pairs.pixels, told)

    train.fit(model, loss, batch, replace(settings, precision="bf16"))
    return model


def _tell(model: blip.Blip, objects: Tensor, told: list[tuple[int, tuple[str, str]]]) -> Tensor:
    """ITM's loss on true captions and on those with exchanged colors, of the same scenes."""
    rows = [n for n, _ in told]
    feats = model.see(objects[rows]).feats
    true, false = (dual.WORDS.batch([texts[k] for _, texts in told]) for k in (0, 1))
    logits = torch.cat([model.match(*true, feats), model.match(*false, feats)])
    return F.cross_entropy(logits, torch.tensor([1, 0]).repeat_interleave(len(rows)))


def judged(model: blip.Blip, head: str, scenes: Sequence[world.Scene], texts: Sequence[str]):
    """A head's score (n,) of each scene with its text."""
    feats = model.see(symbolic.vectors(scenes)[0]).feats
    return model.score(head, *dual.WORDS.batch(texts), feats)


def prior(model: blip.Blip, texts: Sequence[str]) -> Tensor:
    """log p(text) (n,): the decoder's probability, averaged over scenes that have nothing to do
    with it.
    """
    scenes = world.sample(NUM_PRIOR, PRESET, "val", 3, num_objects=2)
    found = [judged(model, "LM", [scene] * len(texts), texts) for scene in scenes]
    return torch.stack(found).logsumexp(0)


@torch.no_grad()
def graded(model: blip.Blip, tasks: Sequence[str]) -> dict[str, str]:
    """What each trained head got right, a digit an item, and R@1 with and without re-ranking."""
    found = {}
    for kind in TESTS:
        scenes, true, false = zip(*items(kind), strict=True)
        for head in [h for h in blip.HEADS if h.lower() in tasks]:
            scores = [judged(model, head, scenes, texts) for texts in (true, false)]
            found[f"{head}, {kind}"] = dual.digits(scores[0] > scores[1])
            if head == "LM":
                known = [s - prior(model, t) for s, t in zip(scores, (true, false), strict=True)]
                found[f"LM over prior, {kind}"] = dual.digits(known[0] > known[1])
    if "itc" not in tasks:
        return found
    scenes = binding.gallery(PRESET)
    texts = [binding.plain(s, s.index) for s in scenes]
    feats, (ids, mask) = model.see(symbolic.vectors(scenes)[0]).feats, dual.WORDS.batch(texts)
    scores = model.embed_image(feats) @ model.encode_text(ids, mask).T
    found["R@1"] = _hits(scores, scores.T)
    if "itm" in tasks:

        def judge(scene: Tensor, text: Tensor) -> Tensor:
            return model.score("ITM", ids[text], mask[text], feats[scene])

        again = (
            retrieval.rerank(scores, judge, NUM_RERANKED),
            retrieval.rerank(scores.T, lambda text, scene: judge(scene, text), NUM_RERANKED),
        )
        found["R@1, re-ranked"] = _hits(*again)
    return found


def _hits(to_text: Tensor, to_scene: Tensor) -> str:
    both = [retrieval.recall(retrieval.ranks(s)).float() for s in (to_text, to_scene)]
    return dual.digits((both[0] + both[1]) / 2)


def runs(seed: int, settings: train.Settings) -> dict[str, Callable[[], dict]]:
    """All that is trained with a seed."""

    def one(run: Run, width: int) -> dict:
        return graded(learn(run, width, seed, settings).eval(), run.tasks)

    return {
        f"{width}, {name}": functools.partial(one, run, width)
        for width in WIDTHS
        for name, run in RUNS.items()
        if width == WIDTHS[0] or name in WIDE
    }


if __name__ == "__main__":
    texts = {kind: [pair for _, *pair in items(kind)] for kind in TESTS}
    dual.run("heads", runs, gallery=len(binding.gallery(PRESET)), texts=texts)
