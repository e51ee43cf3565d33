"""Pictures in which a text names one object of three, and where that object is.

B pictures, T text tokens, H and W of pixels. Book: attention/maps.md.
"""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from vlmbook import world
from vlmbook.attribution.target import find
from vlmbook.tokenizer import Tokenizer

LEAST = 20  # pixels of each object that must be visible


class Named(NamedTuple):
    """Pictures (B, 3, H, W), a text of each, and the object that it names.

    visible (B, H, W) is True where that object can be seen; ids and mask (B, T) are the texts, and
    word (B, T) marks color and shape in them.
    """

    scenes: list[world.Scene]
    pixels: Tensor
    visible: Tensor
    texts: list[str]
    ids: Tensor
    mask: Tensor
    word: Tensor


def named(
    num: int, tokenizer: Tokenizer, seed: int = 0, which: int = 0, split: str = "test"
) -> Named:
    """num scenes of three objects, no two of the same color and shape, none of them hidden.

    which, 0 to 2, is the object that the text names; other numbers, with the same seed, name
    another object of the same scenes.
    """
    if which not in range(3):
        raise ValueError(f"which {which} is no object of three; choose from 0 to 2")
    scenes, pixels, visible = [], [], []
    stream = (
        s
        for s in world.stream("full", split, seed, num_objects=3)
        if len({(o.color, o.shape) for o in s.objects}) == 3
    )
    while len(scenes) < num:
        some = list(islice(stream, 64))
        view = world.render(some)
        for scene, picture, seen in zip(some, view.pixels, view.visible, strict=True):
            if seen.sum((1, 2)).min() >= LEAST and len(scenes) < num:
                scenes.append(scene)
                pixels.append(picture)
                visible.append(seen[which])
    things = [scene.objects[which] for scene in scenes]
    texts = [f"a {o.size} {o.color} {o.material} {o.shape} on the table" for o in things]
    ids, mask = tokenizer.batch(texts)
    word = find(tokenizer, ids, [o.color for o in things])
    word |= find(tokenizer, ids, [o.shape for o in things])
    return Named(scenes, torch.stack(pixels), torch.stack(visible), texts, ids, mask, word)
