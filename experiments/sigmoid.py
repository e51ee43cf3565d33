"""A sigmoid for each pair in place of a softmax over the batch: where it begins, and what it bears.

    python experiments/sigmoid.py [--smoke]

Symbolic CLIPs learn scenes of two objects with the sigmoid loss from several initial biases and
scales, and with both losses while a share of the captions belongs to other scenes, and in small
batches. Writes vlmbook/results/sigmoid.json. About twenty minutes on one core. Book:
clip/space.md.
"""

from __future__ import annotations

import functools
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


@functools.cache
def gallery() -> symbolic.Pairs:
    """The pairs that are searched."""
    return dual.told(retrieval.gallery(NUM_GALLERY, PRESET, num_objects=2, seed=7))


def hits(model: symbolic.DualEncoder) -> Tensor:
    """R@1 of each pair of the gallery, the mean of both directions."""
    return dual.hits(*dual.embed(model, gallery()))


def one(
    seed: int,
    settings: train.Settings,
    start: tuple[float | None, float] | None,
    wrong: float = 0.0,
    look: bool = False,
) -> dict:
    """A model with a sigmoid that begins at a bias and a scale, or, without them, a softmax.

    look adds R@1 every LOOK_EVERY steps and the first losses.
    """
    pairs = with_wrong(dual.training(PRESET, seed), wrong, seed)
    curve: list[float] = []

    def watch(step: int, model: symbolic.DualEncoder) -> None:
        if look and step % LOOK_EVERY == 0:
            curve.append(round(hits(model).mean().item(), 4))

    if start is None:
        model, history = dual.learn(pairs, seed, settings=settings, watch=watch)
    else:
        model = fresh(*start, seed)
        model, history = dual.learn(pairs, seed, sigmoid(model), settings, None, watch, model)
    record = {"R@1": dual.digits(hits(model))}
    if look:
        record |= {"curve": curve, "losses": [round(loss, 4) for loss in history[:100]]}
    return record


def runs(seed: int, settings: train.Settings) -> dict:
    """All that is trained with a seed."""
    few = replace(settings, batch=SMALL)
    best = STARTS["bias -10, scale 10"]
    make = functools.partial(one, seed)
    found = {n: functools.partial(make, settings, start, look=True) for n, start in STARTS.items()}
    for kind, start in (("softmax", None), ("sigmoid", best)):
        for share in WRONG:
            found[f"{kind}, {share} wrong"] = functools.partial(make, settings, start, share)
        found[f"{kind}, batch {SMALL}"] = functools.partial(make, few, start)
    return found


if __name__ == "__main__":
    dual.run("sigmoid", runs, 1000, gallery=NUM_GALLERY, look_every=LOOK_EVERY, wrong=WRONG)
