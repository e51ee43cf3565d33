"""How good, how sure, and whether that is what was expected."""

from vlmbook.evaluate.captions import (
    SceneGraph,
    bleu,
    cider_d,
    rouge_l,
    scene_graph,
    syllables,
    words,
)
from vlmbook.evaluate.choices import class_embeddings, majority, winoground
from vlmbook.evaluate.estimates import (
    EXPECTATIONS,
    LEVEL,
    Estimate,
    Expectation,
    Verdict,
    accuracy,
    expectation,
    mean,
    over_seeds,
    over_seeds_and_items,
    paired_difference,
    verdict,
)

__all__ = [
    "EXPECTATIONS",
    "LEVEL",
    "Estimate",
    "Expectation",
    "SceneGraph",
    "Verdict",
    "accuracy",
    "bleu",
    "cider_d",
    "class_embeddings",
    "expectation",
    "majority",
    "mean",
    "over_seeds",
    "over_seeds_and_items",
    "paired_difference",
    "rouge_l",
    "scene_graph",
    "syllables",
    "verdict",
    "winoground",
    "words",
]
