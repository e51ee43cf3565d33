"""Captions that are wrong in a known way: what web data is suspected of, with the label that it
lacks.

The label is for evaluation only; nothing that trains may see it. Book: appendix/world.md.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vlmbook.world import language as lang
from vlmbook.world.scene import Object, Scene
from vlmbook.world.vocabulary import PRESETS, one_of

KINDS = ("clean", "mismatched", "wrong_attribute", "dropped_object", "invented_object", "generic")
NUM_TRIES = 50


@dataclass(frozen=True)
class Noisy:
    """A caption and the kind of its fault, "clean" if it has none."""

    text: str
    kind: str


def corrupt(
    scene: Scene,
    kind: str,
    language: str = "en",
    rng: random.Random | None = None,
    others: Sequence[Scene] = (),
) -> Noisy:
    """A caption of a scene with a fault of that kind; others are the scenes a mismatched one may
    tell of.

    Where the scene can't have the fault (nothing to drop from one object), ValueError says so.
    """
    one_of(kind, KINDS, "kind")
    words = lang.LANGUAGES[one_of(language, lang.LANGUAGES, "language")]
    rng = rng or random.Random(
        f"noise/{kind}/{scene.preset}/{scene.split}/{scene.seed}/{scene.index}"
    )
    if kind == "clean":
        return Noisy(lang.caption(scene, language, rng=rng), kind)
    if kind == "generic":
        return Noisy(rng.choice(words.GENERIC), kind)
    if kind == "mismatched" and not others:
        raise ValueError("a mismatched caption tells of another scene; pass others")
    if kind == "dropped_object" and len(scene) < 2:
        raise ValueError(
            f"nothing can be dropped from {len(scene)} objects; use a scene of two or more"
        )
    for _ in range(NUM_TRIES):
        told = _other_scene(scene, kind, rng, others)
        caption = lang.describe(told, language, rng=rng)
        if kind == "dropped_object" or caption.facts.errors(scene):
            return Noisy(caption.text, kind)
    raise ValueError(
        f"no caption of kind {kind!r} that is false of this scene was found; pass other scenes"
    )


def noisy_captions(
    scenes: Sequence[Scene],
    rates: Mapping[str, float],
    language: str = "en",
    rng: random.Random | None = None,
) -> list[Noisy]:
    """One caption a scene, faulty at the given rates: {"mismatched": 0.2, "generic": 0.1}; the rest
    is clean.

    A fault that a scene can't have is replaced by a mismatched caption.
    """
    for kind, rate in rates.items():
        one_of(kind, KINDS, "kind")
        if not 0 <= rate <= 1:
            raise ValueError(f"the rate {rate} of {kind!r} is not a share; choose from 0 to 1")
    total = sum(rate for kind, rate in rates.items() if kind != "clean")
    if total > 1 + 1e-9:
        raise ValueError(f"the rates add up to {total:.2f}; they may be 1 together at most")
    rng = rng or random.Random(0)
    faults = [k for k in rates if k != "clean"]
    weights = [rates[k] for k in faults] + [max(0.0, 1 - total)]
    kinds = rng.choices([*faults, "clean"], weights, k=len(scenes))
    kinds = [
        "mismatched" if k == "dropped_object" and len(s) < 2 else k
        for k, s in zip(kinds, scenes, strict=True)
    ]
    return [corrupt(s, k, language, rng, scenes) for s, k in zip(scenes, kinds, strict=True)]


def _other_scene(scene: Scene, kind: str, rng: random.Random, others: Sequence[Scene]) -> Scene:
    """The scene that the faulty caption tells the truth about; it need not be renderable."""
    if kind == "mismatched":
        return rng.choice(others)
    world, objects = PRESETS[scene.preset], list(scene.objects)
    if kind == "dropped_object":
        objects.pop(rng.randrange(len(objects)))
    elif kind == "wrong_attribute":
        i, attribute = rng.randrange(len(objects)), rng.choice(lang.varying(scene))
        other = [v for v in world.values(attribute) if v != getattr(objects[i], attribute)]
        objects[i] = replace(objects[i], **{attribute: rng.choice(other)})
    else:
        objects.append(
            Object(
                rng.choice(world.shapes),
                rng.choice(world.colors),
                world.materials[0],
                world.sizes[0],
            )
        )
    return scene.with_objects(tuple(objects))
