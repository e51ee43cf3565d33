"""Does a CLIP know which color belongs to which shape? The dial, the cure, and what it costs.

    python experiments/binding.py [--smoke]

Symbolic CLIPs (vlmbook.symbolic.DualEncoder) learn from scenes of two objects in worlds of 12, 48
and 480 kinds, and in the one of 48 also from larger batches, for longer, with false captions as
additional negatives, and with captions in the world's many templates instead of a single form. Each
is then given the same tests. Writes vlmbook/results/binding.json. About an hour and a half on one
core. Book: clip/limits.md.
"""

from __future__ import annotations

import functools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import dual
import torch
import torch.nn.functional as F
from torch import Tensor

from vlmbook import retrieval, symbolic, train, world
from vlmbook.world.language.en import RELATIONS
from vlmbook.world.language.facts import thing_of

NUM_TESTS, NUM_GALLERY = 400, 300
TESTS = ("recolour", "exchange colors", "exchange places", "count", "shuffle")
NAMED = {"full": ("size", "color", "material", "shape")}  # what captions of a preset name
PLACES = 0.3  # so many captions of training tell a relation

Say = Callable[[world.Scene, int, bool], str]
Encode = Callable[[Sequence[world.Scene]], Tensor]  # to (n, E)
EncodeText = Callable[[Tensor, Tensor], Tensor]  # ids and mask (n, T) to (n, E)


def plain(scene: world.Scene, seed: int, places: bool = False) -> str:
    """A caption of one form: "a red cube and a blue sphere", or with a relation in place of "and".

    The seed decides the order.
    """
    rng = random.Random(seed)
    things = [thing_of(o, NAMED.get(scene.preset, ("color", "shape"))) for o in scene.objects]
    if places and (known := scene.relations()):
        a, relation, b = rng.choice(known)
        return f"{world.phrase(things[a])} {RELATIONS[relation]} {world.phrase(things[b])}"
    groups = list(Counter(things).items())
    rng.shuffle(groups)
    return " and ".join(world.phrase(thing, count=num) for thing, num in groups)


def templated(scene: world.Scene, seed: int, places: bool = False) -> str:
    """A caption in one of the world's templates."""
    return world.caption(scene, rng=random.Random(seed), relations=places)


def false_caption(
    scene: world.Scene, kind: str, seed: int, say: Say = plain
) -> tuple[str, str] | None:
    """A caption and a false one of the same form, or None where the scene has none of this kind."""
    rng = random.Random(seed)
    if kind == "exchange places":
        return _opposite(plain(scene, seed, True))
    true = say(scene, seed, False)
    if kind == "shuffle":
        words = true.split()
        rng.shuffle(words)
        false = " ".join(words)
    else:
        make = {
            "recolour": world.recolour,
            "exchange colors": world.swap_attributes,
            "count": world.change_count,
        }[kind]
        try:
            false = say(make(scene, rng=rng), seed, False)
        except world.TwinError:
            return None
    return (true, false) if true != false else None


def _opposite(true: str) -> tuple[str, str] | None:
    """A caption with a relation, and the same with the two things exchanged."""
    for words in RELATIONS.values():
        first, found, second = true.partition(f" {words} ")
        if found and first != second:
            return true, f"{second} {words} {first}"
    return None


@functools.cache
def items(preset: str, kind: str, say: Say = plain) -> list[tuple[world.Scene, str, str]]:
    """Test scenes with a true and a false caption each."""
    found = []
    for scene in world.sample(8 * NUM_TESTS, preset, "test", 7, num_objects=2):
        texts = false_caption(scene, kind, scene.index, say)
        if texts is not None:
            found.append((scene, *texts))
        if len(found) == NUM_TESTS:
            break
    return found


def of_objects(model: symbolic.DualEncoder) -> Encode:
    """How a symbolic model encodes scenes."""
    return lambda scenes: model.encode_scene(*symbolic.vectors(scenes))


@torch.no_grad()
def chosen(
    encode: Encode, encode_text: EncodeText, tests: Sequence[tuple[world.Scene, str, str]]
) -> Tensor:
    """Whether the true caption scores strictly higher: (n,) bool."""
    scenes, true, false = zip(*tests, strict=True)
    scene_emb = encode(scenes)
    scores = [(scene_emb * encode_text(*dual.WORDS.batch(t))).sum(1) for t in (true, false)]
    return scores[0] > scores[1]


@torch.no_grad()
def winoground(model: symbolic.DualEncoder, preset: str, say: Say = plain) -> Tensor:
    """Cosines (n, 2, 2) of scenes with exchanged colors and their captions."""
    pairs = []
    for scene, true, false in items(preset, "exchange colors", say):
        twin = world.swap_attributes(scene, rng=random.Random(scene.index))
        pairs.append((scene, twin, true, false))
    first, second, true, false = zip(*pairs, strict=True)
    seen = torch.stack([of_objects(model)(s) for s in (first, second)], 1)
    read = torch.stack([model.encode_text(*dual.WORDS.batch(t)) for t in (true, false)], 1)
    return seen @ read.transpose(1, 2)


def examples(
    preset: str, seed: int, say: Say = plain
) -> tuple[list[world.Scene], list[int], list[str]]:
    """Scenes of training, the seeds of their captions, and the captions."""
    scenes = world.sample(dual.NUM_TRAIN, preset, "train", seed, num_objects=2)
    seeds = [seed * dual.NUM_TRAIN + i for i in range(len(scenes))]
    rng = random.Random(seed)
    texts = [say(s, n, rng.random() < PLACES) for s, n in zip(scenes, seeds, strict=True)]
    return scenes, seeds, texts


def train_with(
    negatives: str, preset: str, seed: int, settings: train.Settings, say: Say = plain
) -> symbolic.DualEncoder:
    """A model; each scene that can have a false caption of the kind is shown one beside the others.

    The false captions are negatives for the scenes and have no scene of their own, as in NegCLIP.
    """
    scenes, seeds, true = examples(preset, seed, say)
    pairs = symbolic.Pairs(*symbolic.vectors(scenes), *dual.WORDS.batch(true))
    if negatives == "none":
        return dual.learn(pairs, seed, settings=settings)[0]
    false = [false_caption(s, negatives, n, say) for s, n in zip(scenes, seeds, strict=True)]
    ids, mask = dual.WORDS.batch([texts[1] if texts else "" for texts in false])
    has = torch.tensor([texts is not None for texts in false])
    torch.manual_seed(seed)
    model = symbolic.DualEncoder(symbolic.Config(len(dual.WORDS)))
    step = iter(range(settings.steps))

    def loss(scene_emb: Tensor, text_emb: Tensor, scale: Tensor, same: Tensor) -> Tensor:
        rows = dual.rows_of(next(step), len(has), settings.batch, seed)
        rows = rows[has[rows]]
        longest = int(mask[rows].sum(1).max())
        false_emb = model.encode_text(ids[rows, :longest], mask[rows, :longest])
        logits = scale * scene_emb @ text_emb.T
        wide = torch.cat([logits, scale * scene_emb @ false_emb.T], 1)
        own = torch.arange(len(logits))
        return (F.cross_entropy(wide, own) + F.cross_entropy(logits.T, own)) / 2

    return dual.learn(pairs, seed, loss, settings, model=model)[0]


@functools.cache
def gallery(preset: str) -> list[world.Scene]:
    """As many different test scenes as the world has, up to NUM_GALLERY."""
    scenes = world.sample(2000, preset, "test", 7, num_objects=2)
    different = {retrieval.full_description(s): s for s in scenes}
    return list(different.values())[:NUM_GALLERY]


@torch.no_grad()
def right(
    encode: Encode,
    encode_text: EncodeText,
    preset: str,
    say: Say = plain,
    tests: Sequence[str] = TESTS,
) -> dict[str, str]:
    """What was right, a digit an item, by test; R@1 counts directions, 0 to 2."""
    found = {
        kind: dual.digits(chosen(encode, encode_text, items(preset, kind, say))) for kind in tests
    }
    scenes = gallery(preset)
    texts = [say(s, s.index, False) for s in scenes]
    found["R@1"] = dual.digits(dual.hits(encode(scenes), encode_text(*dual.WORDS.batch(texts))))
    return found


def graded(model: symbolic.DualEncoder, preset: str, say: Say = plain) -> dict:
    """What a model got right, and in twins the four cosines of each of Winoground's items."""
    twins = winoground(model, preset, say).flatten(1).tolist()
    return {
        **right(of_objects(model), model.encode_text, preset, say),
        "twins": [[round(x, 4) for x in four] for four in twins],
    }


class Run(NamedTuple):
    """One kind of training; times is how often the usual number of steps."""

    preset: str = "standard"
    negatives: str = "none"
    batch: int = 64
    say: Say = plain
    times: int = 1


RUNS = {
    "tiny": Run("tiny"),
    "standard": Run(),
    "full": Run("full"),
    "negatives exchange colors": Run(negatives="exchange colors"),
    "negatives shuffle": Run(negatives="shuffle"),
    "templates": Run(say=templated),
    "templates, negatives exchange colors": Run(negatives="exchange colors", say=templated),
    "standard, batch 512": Run(batch=512),
    "standard, 8 times the steps": Run(times=8),  # as many pairs as in batches of 512
}


def runs(seed: int, settings: train.Settings) -> dict:
    """All that is trained with a seed."""

    def one(run: Run) -> dict:
        how = replace(settings, batch=run.batch, steps=run.times * settings.steps)
        model = train_with(run.negatives, run.preset, seed, how, run.say)
        return graded(model, run.preset, run.say)

    return {name: functools.partial(one, run) for name, run in RUNS.items()}


if __name__ == "__main__":
    sizes = {preset: len(gallery(preset)) for preset in world.PRESETS}
    kinds = {preset: world.PRESETS[preset].num_kinds for preset in world.PRESETS}
    texts = {kind: [pair for _, *pair in items("standard", kind)] for kind in TESTS}
    dual.run("binding", runs, gallery=sizes, kinds=kinds, texts=texts)
