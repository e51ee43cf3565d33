"""What the temperature of the contrastive loss does to the space that is learnt.

    python experiments/temperature.py [--smoke]

Symbolic CLIPs learn scenes of one and two objects with seven fixed temperatures and with a learnt
one. Of each: retrieval, a linear probe with two labelled scenes a class, how evenly points are
spread, how alike scenes of one class are, how far apart the two modalities are, and what moving one
of them onto the other does. Writes vlmbook/results/temperature.json. About twenty minutes on one
core. Book: clip/measured.md.
"""

from __future__ import annotations

from collections.abc import Sequence

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
def probe(model: symbolic.DualEncoder, seed: int) -> float:
    """Accuracy of logistic regression with PER_CLASS labelled scenes of each class."""
    scenes, label = singles("train", 4000, 1000 + seed)
    shown: dict[int, list[int]] = {}
    for i, kind in enumerate(label):
        shown.setdefault(kind, []).append(i)
    rows = [i for found in shown.values() for i in found[:PER_CLASS]]
    learner = LogisticRegression(C=10.0, max_iter=2000)
    emb = model.encode_scene(*symbolic.vectors([scenes[i] for i in rows]))
    learner.fit(emb.numpy(), [label[i] for i in rows])
    scenes, label = singles("test", NUM_TEST, 7)
    return float(learner.score(model.encode_scene(*symbolic.vectors(scenes)).numpy(), label))


def moved(text_emb: Tensor, scene_emb: Tensor) -> Tensor:
    """The texts, with their mean brought to that of the scenes, of length one again."""
    return F.normalize(text_emb - text_emb.mean(0) + scene_emb.mean(0), dim=-1)


@torch.no_grad()
def described(model: symbolic.DualEncoder, seed: int, scenes: list[world.Scene]) -> dict:
    """All figures of one model."""
    scene_emb, text_emb = dual.embed(model, dual.test_pairs(scenes))
    alone, label = singles("test", NUM_TEST, 7)
    alone_emb = model.encode_scene(*symbolic.vectors(alone))
    return {
        "R@1": dual.digits(dual.hits(scene_emb, text_emb)),
        "R@1 moved": dual.digits(dual.hits(scene_emb, moved(text_emb, scene_emb))),
        "probe": probe(model, seed),
        "uniformity": geometry.uniformity(scene_emb),
        "alignment": geometry.alignment(scene_emb, text_emb),
        "tolerance": geometry.tolerance(alone_emb, label),
        "gap": geometry.modality_gap(scene_emb, text_emb),
        "relative gap": geometry.relative_gap(scene_emb, text_emb),
        "scale": model.scale.item(),
    }


def measure(seeds: Sequence[int], settings: train.Settings, smoke: bool) -> dict:
    """All models of all seeds."""
    scenes = retrieval.gallery(NUM_GALLERY, PRESET, num_objects=2, seed=7)
    found: dict[str, dict[str, list]] = {}

    def keep(name: str, model: symbolic.DualEncoder, seed: int) -> None:
        for key, value in described(model, seed, scenes).items():
            found.setdefault(name, {}).setdefault(key, []).append(value)
        shown = {k: v[-1] for k, v in found[name].items() if not k.startswith("R@1")}
        print(seed, name, {k: round(v, 3) for k, v in shown.items()}, flush=True)

    for seed in seeds:
        torch.manual_seed(seed)
        keep("untrained", symbolic.DualEncoder(symbolic.Config(len(dual.WORDS))), seed)
        full = dual.training(PRESET, seed, (1, 2))
        half = dual.training(PRESET, seed, (1, 2), style="partial", completeness=0.5)
        runs = {str(t): (full, 1 / t) for t in TEMPERATURES[: 2 if smoke else None]}
        runs |= {"learnt": (full, None), "learnt, half told": (half, None)}
        runs |= {"0.01, half told": (half, 100.0)}
        for name, (pairs, scale) in runs.items():
            keep(name, dual.learn(pairs, seed, settings=settings, scale=scale)[0], seed)
    return {"temperatures": TEMPERATURES, "num_gallery": NUM_GALLERY, "models": found}


if __name__ == "__main__":
    dual.run("temperature", measure, steps=1000)
