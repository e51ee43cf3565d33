"""A sigmoid for each pair in place of a softmax over the batch: where it begins, and what it bears.

    python experiments/sigmoid.py [--smoke]

Symbolic CLIPs learn scenes of two objects with the sigmoid loss from several initial biases and
scales, and with both losses while a share of the captions belongs to other scenes, and in small
batches. Writes vlmbook/results/sigmoid.json. About twenty minutes on one core. Book:
clip/measured.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import dual
import torch
from torch import Tensor, nn

from vlmbook import losses, retrieval, symbolic, train

PRESET, NUM_GALLERY, LOOK_EVERY = "full", 300, 25
STARTS = {  # bias, scale; None: there is no bias
    "bias -10, scale 10": (-10.0, 10.0),
    "bias 0, scale 10": (0.0, 10.0),
    "no bias, scale 10": (None, 10.0),
    "bias -10, scale 1": (-10.0, 1.0),
    "bias 0, scale 1": (0.0, 1.0),
}
WRONG = (0.0, 0.25, 0.5, 0.75)
SMALL = 8


def fresh(bias: float | None, scale: float, seed: int) -> symbolic.DualEncoder:
    """A model with a learnt bias, unless that is None."""
    torch.manual_seed(seed)
    model = symbolic.DualEncoder(symbolic.Config(len(dual.WORDS), scale=scale))
    if bias is not None:
        model.bias = nn.Parameter(torch.tensor(bias))
    return model


def sigmoid(model: symbolic.DualEncoder) -> dual.Loss:
    """SigLIP's loss with the model's own bias."""

    def loss(scene_emb: Tensor, text_emb: Tensor, scale: Tensor, same: Tensor) -> Tensor:
        return losses.siglip_loss(scene_emb, text_emb, scale, getattr(model, "bias", 0.0), same)

    return loss


def with_wrong(pairs: symbolic.Pairs, share: float, seed: int) -> symbolic.Pairs:
    """A share of the captions goes to other scenes, in a circle among themselves."""
    order = torch.randperm(len(pairs.ids), generator=torch.Generator().manual_seed(seed))
    rows = order[: round(share * len(order))]
    ids, mask = pairs.ids.clone(), pairs.mask.clone()
    ids[rows], mask[rows] = pairs.ids[rows.roll(1)], pairs.mask[rows.roll(1)]
    return pairs._replace(ids=ids, mask=mask)


def train_one(
    pairs: symbolic.Pairs,
    start: tuple[float | None, float] | None,
    seed: int,
    settings: train.Settings,
    watch: Callable | None = None,
) -> tuple[symbolic.DualEncoder, list[float]]:
    """A model with a sigmoid that begins at a bias and a scale, or, without them, a softmax."""
    if start is None:
        return dual.learn(pairs, seed, settings=settings)
    model = fresh(*start, seed)
    return dual.learn(pairs, seed, sigmoid(model), settings, watch=watch, model=model)


def measure(seeds: Sequence[int], settings: train.Settings, smoke: bool) -> dict:
    """All models of all seeds."""
    test = dual.test_pairs(retrieval.gallery(NUM_GALLERY, PRESET, num_objects=2, seed=7))
    best = STARTS["bias -10, scale 10"]
    few = replace(settings, batch=SMALL)
    final, curves, first = ({name: [] for name in STARTS} for _ in range(3))

    def hits(model: symbolic.DualEncoder) -> Tensor:
        return dual.hits(*dual.embed(model, test))

    for seed in seeds:
        pairs = dual.training(PRESET, seed)
        wrong = {share: with_wrong(pairs, share, seed) for share in WRONG[: 2 if smoke else None]}
        runs = {name: (pairs, start, settings) for name, start in STARTS.items()}
        for kind, start in (("softmax", None), ("sigmoid", best)):
            runs |= {f"{kind}, {p} wrong": (given, start, settings) for p, given in wrong.items()}
            runs[f"{kind}, batch {SMALL}"] = (pairs, start, few)
        for name, (given, start, how) in runs.items():
            curve: list[float] = []

            def watch(step: int, model: symbolic.DualEncoder, curve: list[float] = curve) -> None:
                if step % LOOK_EVERY == 0:
                    curve.append(round(hits(model).mean().item(), 4))

            looked = watch if name in STARTS else None
            model, history = train_one(given, start, seed, how, looked)
            if name in STARTS:
                curves[name].append(curve)
                first[name].append([round(loss, 4) for loss in history[:100]])
            final.setdefault(name, []).append(dual.digits(hits(model)))
            print(seed, name, round(hits(model).mean().item(), 3), flush=True)
    return {
        "num_gallery": NUM_GALLERY,
        "look_every": LOOK_EVERY,
        "wrong": WRONG,
        "final": final,
        "curves": curves,
        "losses": first,
    }


if __name__ == "__main__":
    dual.run("sigmoid", measure, steps=1000)
