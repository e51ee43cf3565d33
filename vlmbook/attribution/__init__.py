"""Where a model looked, and whether that is so.

    where = attribution.find(tokenizer, ids, "cube")
    target = attribution.of_blip(model, pixels, ids, mask, where)   # which score is explained
    map = attribution.relevance(target)                             # grid (B, h, w), tokens (B, T)
    attribution.pointing(map.grid, visible)                         # (B,) bool: is it right?

target.py has the scores of models, theirs.py those of transformers' models, items.py pictures with
a named object, methods.py the maps, scores.py what they are worth, checks.py what they should not
survive.

Book: attention/maps.md.
"""

from vlmbook.attribution.checks import agreement, cascade, parts, randomised
from vlmbook.attribution.items import Named, named
from vlmbook.attribution.methods import (
    METHODS,
    Map,
    attention,
    grad_cam,
    heads,
    occlusion,
    relevance,
    rollout,
)
from vlmbook.attribution.scores import (
    average_precision,
    centre,
    curves,
    enlarged,
    mean_iou,
    near,
    pointing,
    specific,
)
from vlmbook.attribution.target import (
    Layer,
    Target,
    find,
    of_answer,
    of_blip,
    of_clip,
    of_llava,
)
from vlmbook.attribution.theirs import of_transformers

__all__ = [
    "METHODS",
    "Layer",
    "Map",
    "Named",
    "Target",
    "agreement",
    "attention",
    "average_precision",
    "cascade",
    "centre",
    "curves",
    "enlarged",
    "find",
    "grad_cam",
    "heads",
    "mean_iou",
    "named",
    "near",
    "occlusion",
    "of_answer",
    "of_blip",
    "of_clip",
    "of_llava",
    "of_transformers",
    "parts",
    "pointing",
    "randomised",
    "relevance",
    "rollout",
    "specific",
]
