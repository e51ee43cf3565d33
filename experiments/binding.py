"""Does a CLIP know which color belongs to which shape? The dial, the cure, and what it costs.

    python experiments/binding.py [--smoke]

Symbolic CLIPs (vlmbook.symbolic.DualEncoder) learn from scenes of two objects in worlds of 12, 48
and 480 kinds, and in the one of 48 also from larger batches and with false captions as additional
negatives. Each is then given the same tests. Writes vlmbook/results/binding.json. About twenty
minutes on one core. Book: clip/limits.md.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from dataclasses import replace

import dual
import torch
import torch.nn.functional as F
from torch import Tensor

from vlmbook import retrieval, symbolic, train, world

NUM_TESTS, NUM_GALLERY = 400, 300
TESTS = ("recolour", "exchange colors", "exchange places", "count", "shuffle")
NEGATIVES = ("none", "exchange colors", "shuffle")


def false_caption(scene: world.Scene, kind: str, seed: int) -> tuple[str, str] | None:
    """A caption and a false one of the same form, or None where the scene has none of this kind."""
    rng = random.Random(seed)
    relations = kind == "exchange places"
    said = world.describe(scene, rng=random.Random(seed), relations=relations)
    if kind == "shuffle":
        words = said.text.split()
        rng.shuffle(words)
        return (said.text, " ".join(words)) if " ".join(words) != said.text else None
    make = {
        "recolour": world.recolour,
        "exchange colors": world.swap_attributes,
        "exchange places": world.swap_relation,
        "count": world.change_count,
    }[kind]
    try:
        twin = make(scene, rng=rng)
    except world.TwinError:
        return None
    told = world.describe(twin, rng=random.Random(seed), relations=relations)
    if relations and not (said.facts.relations and told.facts.relations):
        return None
    return (said.text, told.text) if said.text != told.text else None


@functools.cache
def items(preset: str, kind: str) -> list[tuple[world.Scene, str, str]]:
    """Test scenes with a true and a false caption each."""
    found = []
    for scene in world.sample(8 * NUM_TESTS, preset, "test", 7, num_objects=2):
        texts = false_caption(scene, kind, scene.index)
        if texts is not None:
            found.append((scene, *texts))
        if len(found) == NUM_TESTS:
            break
    return found


@torch.no_grad()
def chosen(model: symbolic.DualEncoder, tests: Sequence[tuple[world.Scene, str, str]]) -> Tensor:
    """Whether the true caption scores strictly higher: (n,) bool."""
    scenes, true, false = zip(*tests, strict=True)
    scene_emb = model.encode_scene(*symbolic.vectors(scenes))
    scores = [(scene_emb * model.encode_text(*dual.WORDS.batch(t))).sum(1) for t in (true, false)]
    return scores[0] > scores[1]


@torch.no_grad()
def winoground(model: symbolic.DualEncoder, preset: str) -> Tensor:
    """Cosines (n, 2, 2) of scenes with exchanged colors and their captions."""
    pairs = []
    for scene, true, false in items(preset, "exchange colors"):
        twin = world.swap_attributes(scene, rng=random.Random(scene.index))
        pairs.append((scene, twin, true, false))
    first, second, true, false = zip(*pairs, strict=True)
    seen = torch.stack([model.encode_scene(*symbolic.vectors(s)) for s in (first, second)], 1)
    read = torch.stack([model.encode_text(*dual.WORDS.batch(t)) for t in (true, false)], 1)
    return seen @ read.transpose(1, 2)


def train_with(
    negatives: str, preset: str, seed: int, settings: train.Settings
) -> symbolic.DualEncoder:
    """A model; each scene that can have a false caption of the kind is shown one beside the others.

    The false captions are negatives for the scenes and have no scene of their own, as in NegCLIP.
    """
    relations = preset == "standard"  # so that exchanged places can be tested
    pairs = dual.training(preset, seed, relations=relations)
    if negatives == "none":
        return dual.learn(pairs, seed, settings=settings)[0]
    scenes = world.sample(dual.NUM_TRAIN, preset, "train", seed, num_objects=2)
    false = [false_caption(s, negatives, seed * dual.NUM_TRAIN + i) for i, s in enumerate(scenes)]
    ids, mask = dual.WORDS.batch([texts[1] if texts else "" for texts in false])
    has = torch.tensor([texts is not None for texts in false])
    torch.manual_seed(seed)
    model = symbolic.DualEncoder(symbolic.Config(len(dual.WORDS)))
    step = iter(range(settings.steps))

    def loss(scene_emb: Tensor, text_emb: Tensor, scale: Tensor, same: Tensor) -> Tensor:
        rows = dual.rows_of(next(step), len(has), settings.batch, seed)
        rows = rows[has[rows]]
        extra = scale * scene_emb @ model.encode_text(ids[rows], mask[rows]).T
        logits = scale * scene_emb @ text_emb.T
        targets = same.float() / same.sum(1, keepdim=True)
        none = extra.new_zeros(len(extra), extra.shape[1])
        by_scene = F.cross_entropy(torch.cat([logits, extra], 1), torch.cat([targets, none], 1))
        return (by_scene + F.cross_entropy(logits.T, targets)) / 2

    return dual.learn(pairs, seed, loss, settings, model=model)[0]


@functools.cache
def gallery(preset: str) -> list[world.Scene]:
    """As many different test scenes as the world has, up to NUM_GALLERY."""
    scenes = world.sample(2000, preset, "test", 7, num_objects=2)
    different = {retrieval.full_description(s): s for s in scenes}
    return list(different.values())[:NUM_GALLERY]


def graded(model: symbolic.DualEncoder, preset: str) -> dict:
    """What a model got right, a digit an item, by test; R@1 counts directions, 0 to 2.

    twins has the four cosines of each of Winoground's items.
    """
    kinds = TESTS if preset == "standard" else TESTS[:2]
    found = {kind: dual.digits(chosen(model, items(preset, kind))) for kind in kinds}
    pairs = dual.test_pairs(gallery(preset))
    twins = winoground(model, preset).flatten(1).tolist()
    return {
        **found,
        "R@1": dual.digits(dual.hits(*dual.embed(model, pairs))),
        "twins": [[round(x, 4) for x in four] for four in twins],
    }


RUNS = {  # preset, additional negatives, batch
    "tiny": ("tiny", "none", 64),
    "standard": ("standard", "none", 64),
    "full": ("full", "none", 64),
    "negatives exchange colors": ("standard", "exchange colors", 64),
    "negatives shuffle": ("standard", "shuffle", 64),
    "standard, batch 512": ("standard", "none", 512),
}


def runs(seed: int, settings: train.Settings) -> dict:
    """All that is trained with a seed."""

    def one(preset: str, negatives: str, batch: int) -> dict:
        how = replace(settings, batch=batch)
        return graded(train_with(negatives, preset, seed, how), preset)

    return {name: functools.partial(one, *how) for name, how in RUNS.items()}


if __name__ == "__main__":
    sizes = {preset: len(gallery(preset)) for preset in world.PRESETS}
    kinds = {preset: world.PRESETS[preset].num_kinds for preset in world.PRESETS}
    dual.run("binding", runs, gallery=sizes, kinds=kinds)
