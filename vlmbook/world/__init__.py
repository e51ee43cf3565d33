"""A small rendered world whose truth is known: scenes, pictures, captions, questions and twins.

    scenes = world.sample(64, preset="standard", split="train", seed=0)
    view = world.render(scenes, size=64)
    world.caption(scenes[0], language="ko")

Book: appendix/world.md.
"""

from vlmbook.world.dataset import SceneDataset, SceneStream, cached, export, load_exported
from vlmbook.world.language import caption, captions, describe, parse, phrase, prompts, word
from vlmbook.world.noise import corrupt, noisy_captions
from vlmbook.world.placement import PlacementError
from vlmbook.world.questions import FAMILIES, Question, balanced_questions, questions
from vlmbook.world.render import View, render
from vlmbook.world.scene import Camera, Light, Object, Plate, Scene
from vlmbook.world.splits import SPLITS, sample, stream
from vlmbook.world.twins import (
    TwinError,
    add,
    add_plate,
    change_count,
    recolour,
    relabel_plate,
    remove,
    swap_attributes,
    swap_relation,
)
from vlmbook.world.vocabulary import COLORS, MATERIALS, PRESETS, RELATIONS, SHAPES, SIZES

__all__ = [
    "FAMILIES",
    "COLORS",
    "MATERIALS",
    "PRESETS",
    "RELATIONS",
    "SHAPES",
    "SIZES",
    "SPLITS",
    "Camera",
    "Light",
    "Object",
    "PlacementError",
    "Plate",
    "Question",
    "Scene",
    "SceneDataset",
    "SceneStream",
    "TwinError",
    "View",
    "add",
    "add_plate",
    "balanced_questions",
    "cached",
    "caption",
    "captions",
    "change_count",
    "corrupt",
    "describe",
    "export",
    "load_exported",
    "noisy_captions",
    "parse",
    "phrase",
    "prompts",
    "questions",
    "recolour",
    "relabel_plate",
    "remove",
    "render",
    "sample",
    "stream",
    "swap_attributes",
    "swap_relation",
    "word",
]
