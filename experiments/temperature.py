"""What the temperature of the contrastive loss does to the space that is learnt.

    python experiments/temperature.py [--smoke]

Symbolic CLIPs learn scenes of one and two objects with seven fixed temperatures and with a learnt
one. Of each: retrieval, a linear probe with two labelled scenes a class, how evenly points are
spread, how alike scenes of one class are, how far apart the two modalities are, and what moving one
of them onto the other does. Writes vlmbook/results/temperature.json. About twenty minutes on one
core. Book: clip/space.md.
"""

from __future__ import annotations

import functools

import dual
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from vlmbook import geometry, retrieval, symbolic, train, world

PRESET = "full"
TEMPERATURES = (0.01, 0.03, 0.07, 0.1, 0.2, 0.3, 1.0)
NUM_GALLERY, PER_CLASS, NUM_TEST = 500, 2, 2000


def singles(split: str, num: int, seed: int) -> tuple[list[world.Scene], list[int]]:
    """Scenes of one object, and the number of its class: which color and shape it has."""
    scenes = world.sample(num, PRESET, split, seed, num_objects=1)
    preset = world.PRESETS[PRESET]
    kinds = [(color, shape) for color in preset.colors for shape in preset.shapes]
    return scenes, [kinds.index((s.objects[0].color, s.objects[0].shape)) for s in scenes]


@torch.no_grad()
def probe(model: symbolic.DualEncoder, seed: int, test_emb: Tensor, test_label: list[int]) -> float:
    """Accuracy of logistic regression with PER_CLASS labelled scenes of each class."""
    scenes, label = singles("train", 4000, 1000 + seed)
    shown: dict[int, list[int]] = {}
    for i, kind in enumerate(label):
        shown.setdefault(kind, []).append(i)
    rows = [i for found in shown.values() for i in found[:PER_CLASS]]
    learner = LogisticRegression(C=10.0, max_iter=2000)
    emb = model.encode_scene(*symbolic.vectors([scenes[i] for i in rows]))
    learner.fit(emb.numpy(), [label[i] for i in rows])
    return float(learner.score(test_emb.numpy(), test_label))


def moved(text_emb: Tensor, scene_emb: Tensor) -> Tensor:
    """The texts, with their mean brought to that of the scenes, of length one again."""
    return F.normalize(text_emb - text_emb.mean(0) + scene_emb.mean(0), dim=-1)


@functools.cache
def gallery() -> symbolic.Pairs:
    """The pairs that are searched."""
    return dual.told(retrieval.gallery(NUM_GALLERY, PRESET, num_objects=2, seed=7))


@torch.no_grad()
def described(model: symbolic.DualEncoder, seed: int) -> dict:
    """All figures of one model."""
    scene_emb, text_emb = dual.embed(model, gallery())
    alone, label = singles("test", NUM_TEST, 7)
    alone_emb = model.encode_scene(*symbolic.vectors(alone))
    return {
        "R@1": dual.digits(dual.hits(scene_emb, text_emb)),
        "R@1 moved": dual.digits(dual.hits(scene_emb, moved(text_emb, scene_emb))),
        "probe": probe(model, seed, alone_emb, label),
        "uniformity": geometry.uniformity(scene_emb),
        "alignment": geometry.alignment(scene_emb, text_emb),
        "tolerance": geometry.tolerance(alone_emb, label),
        "gap": geometry.modality_gap(scene_emb, text_emb),
        "relative gap": geometry.relative_gap(scene_emb, text_emb),
        "scale": model.scale.item(),
    }


def runs(seed: int, settings: train.Settings) -> dict:
    """All that is trained with a seed."""

    def untrained() -> dict:
        torch.manual_seed(seed)
        return described(symbolic.DualEncoder(symbolic.Config(len(dual.WORDS))), seed)

    def one(half: bool, scale: float | None) -> dict:
        told = {"style": "partial", "completeness": 0.5} if half else {}
        pairs = dual.training(PRESET, seed, (1, 2), **told)
        return described(dual.learn(pairs, seed, settings=settings, scale=scale)[0], seed)

    return {
        "untrained": untrained,
        **{str(t): functools.partial(one, False, 1 / t) for t in TEMPERATURES},
        "learnt": functools.partial(one, False, None),
        "learnt, half told": functools.partial(one, True, None),
        "0.01, half told": functools.partial(one, True, 100.0),
    }


if __name__ == "__main__":
    dual.run("temperature", runs, 1000, temperatures=TEMPERATURES, gallery=NUM_GALLERY)
