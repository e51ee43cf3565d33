"""How a contrastive model gets better with its size and its training, whether a larger run can be
foretold, and what does not get better.

    python experiments/scaling.py [--smoke]

Symbolic CLIPs of four widths, each trained for four lengths, with as many scenes to draw from as
there are places in its batches, and one that is larger and trained for longer than any: what is
fitted to the others has to foretell it. Measured are the contrastive loss on scenes no two of which
have the same words in another order, and how often a caption is told from the same with one
attribute of two things exchanged. Writes vlmbook/results/scaling.json. Forty minutes on one core.
Book: comparison.md.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import dual
import torch

from vlmbook import losses, retrieval, symbolic, train, world

WIDTHS, STEPS = (8, 12, 16, 24), (250, 500, 1000, 2000)
LARGER = (32, 4000)
PRESET, NUM_OBJECTS, NUM_GALLERY, NUM_SWAPPED = "full", 2, 500, 500
SETTINGS = replace(dual.SETTINGS, steps=LARGER[1])


@functools.cache
def gallery() -> symbolic.Pairs:
    """Scenes that differ in the words that are said of them, and not in their order alone."""
    found: dict[tuple[str, ...], world.Scene] = {}
    for scene in retrieval.gallery(6 * NUM_GALLERY, PRESET, num_objects=NUM_OBJECTS):
        said = (word for kind in retrieval.full_description(scene) for word in kind)
        found.setdefault(tuple(sorted(said)), scene)
    return dual.told(list(found.values())[:NUM_GALLERY])


@functools.cache
def swapped() -> tuple[symbolic.Pairs, symbolic.Pairs]:
    """Scenes with their captions, and with those of scenes whose things have traded a color."""
    scenes = world.sample(4 * NUM_SWAPPED, PRESET, "test", 5, NUM_OBJECTS)
    pairs = ((scene, *scene.objects) for scene in scenes)
    differ = [scene for scene, a, b in pairs if a.color != b.color and a.shape != b.shape]
    own = differ[:NUM_SWAPPED]
    true, false = dual.told(own), dual.told([world.swap_attributes(scene) for scene in own])
    return true, true._replace(ids=false.ids, mask=false.mask)


@functools.lru_cache(maxsize=1)
def learnt(seed: int, steps: int) -> symbolic.Pairs:
    """What a seed's models learn from: a pair for each place in a batch of the longest run."""
    num = steps * SETTINGS.batch
    scenes = world.sample(num, PRESET, "train", 500 + seed, num_objects=NUM_OBJECTS)
    return dual.told(scenes, seed)


def made(width: int, seed: int, settings: train.Settings, longest: int) -> dict[str, Any]:
    """A model of one width, trained and measured."""
    torch.manual_seed(seed)
    model = symbolic.DualEncoder(replace(symbolic.Config(len(dual.WORDS)), width=width))
    pairs = learnt(seed, longest)
    first = symbolic.Pairs(*(of[: settings.steps * settings.batch] for of in pairs))
    model, _ = dual.learn(first, seed, settings=settings, model=model)
    scene_emb, text_emb = dual.embed(model.eval(), gallery())
    (scenes, true), (_, false) = (dual.embed(model, of) for of in swapped())
    return {
        "loss": round(float(losses.clip_loss(scene_emb, text_emb, model.scale.detach())), 6),
        "R@1": dual.digits(dual.hits(scene_emb, text_emb)),
        "swap": dual.digits((scenes * true).sum(1) > (scenes * false).sum(1)),
        "weights": sum(w.numel() for w in model.parameters()),
        "seen": settings.steps * settings.batch,
    }


def runs(seed: int, settings: train.Settings) -> dict[str, Callable[[], dict[str, Any]]]:
    """What is trained with a seed; settings may be those of a trial that is shorter."""
    longest = min(settings.steps, LARGER[1])
    grid = [(width, min(steps, longest)) for width in WIDTHS for steps in STEPS]
    return {
        f"{width}, {steps}": functools.partial(
            made, width, seed, replace(settings, steps=steps), longest
        )
        for width, steps in [*grid, (LARGER[0], longest)]
    }


if __name__ == "__main__":
    scenes = LARGER[1] * SETTINGS.batch
    dual.run("scaling", runs, LARGER[1], gallery=NUM_GALLERY, scenes=scenes)
