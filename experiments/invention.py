"""What a LLaVA invents when two things nearly always came together in what it learnt from.

    python experiments/invention.py [--smoke]

Small LLaVAs (small_llava.py) learn to describe scenes, and to say whether there is a shape. In some
of the scenes a cone is nearly always there where a sphere is. Then they are asked about scenes in
which the two have nothing to do with each other. Writes vlmbook/results/invention.json. An hour on
one core. Book: llava/invention.md.
"""

from __future__ import annotations

import functools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import dual
import small_llava as small

from vlmbook import evaluate, llava, tokenizer, train, world
from vlmbook.world.language.facts import Thing

NUM, STEPS = 12_000, 1000  # pictures to learn from
NUM_TEST = 300  # scenes to ask about, and of each kind of those about cones
LATER = 4  # one step in so many comes after, on other scenes, in the arms that have two parts
SHAPES = world.PRESETS[small.PRESET].shapes
GIVEN, MADE_UP = "sphere", "cone"  # where there is the first, split "cooccurrence" puts the second
# What is learnt from: the split of the scenes; whether each sphere must have its cone; whether no
# question is answered no; whether other scenes come after.
ARMS = {
    "natural": ("train", False, False, False),
    "planted": ("cooccurrence", False, False, False),
    "always": ("cooccurrence", True, False, False),
    "planted, then natural": ("cooccurrence", False, False, True),
    "only yes": ("train", False, True, False),
}


@functools.lru_cache(maxsize=3)
def pictures(split: str, num: int, seed: int, always: bool = False) -> small.Pictures:
    """Scenes of a split, and what the eye saw of them."""
    scenes = world.sample(num, small.PRESET, split, 300 + seed, num_objects=2)
    if always:
        scenes = [s for s in scenes if GIVEN not in shapes(s) or MADE_UP in shapes(s)]
    return small.Pictures(scenes, small.look(scenes))


def shapes(scene: world.Scene) -> set[str]:
    """The kinds of shapes that are there."""
    return {thing.shape for thing in scene.objects}


def question(shape: str) -> str:
    """Whether there is a shape."""
    return f"Is there {world.phrase(Thing(shape), 'en')}?"


def conversation(scene: world.Scene, only_yes: bool) -> list[tokenizer.Message]:
    """A description, or three questions, half of them about what is there; always the same."""
    rng = random.Random(f"invention/{scene.split}/{scene.seed}/{scene.index}")
    if rng.random() < 0.3:
        turns = [(small.SAY, world.caption(scene, "en", rng=rng, relations=False))]
    else:
        turns = [asked(scene, only_yes or rng.random() < 0.5, rng) for _ in range(3)]
    return small.recipe.messages(turns, {"type": "image"})


def asked(scene: world.Scene, yes: bool, rng: random.Random) -> tuple[str, str]:
    """A question about a shape that is there, or is not, and its answer."""
    there = shapes(scene)
    shape = rng.choice([shape for shape in SHAPES if (shape in there) == yes])
    return question(shape), "yes" if yes else "no"


def learn(
    model: llava.Llava, seen: small.Pictures, only_yes: bool, settings: train.Settings, seed: int
) -> list[float]:
    """Train on what is said about pictures; the losses."""
    chats = [
        small.WORDS.chat(conversation(scene, only_yes), False, model.config.image_tokens)
        for scene in seen.scenes
    ]
    return small.follow(model, chats, seen.feats, settings, seed)


class Tested(NamedTuple):
    """Scenes to test with, and what the eye saw of them."""

    any: small.Pictures  # what they hold is left to chance
    beside: small.Pictures  # with a sphere, without a cone
    neither: small.Pictures  # without both


@functools.cache
def tested() -> Tested:
    """The same for all."""
    scenes = world.sample(6 * NUM_TEST, small.PRESET, "test", num_objects=2)
    without = [s for s in scenes if MADE_UP not in shapes(s)]
    beside = [s for s in without if GIVEN in shapes(s)][:NUM_TEST]
    neither = [s for s in without if GIVEN not in shapes(s)][:NUM_TEST]
    return Tested(*(small.Pictures(s, small.look(s)) for s in (scenes[:NUM_TEST], beside, neither)))


def absent(scenes: Sequence[world.Scene], learnt: Sequence[world.Scene]) -> dict[str, list[str]]:
    """A shape that is not there for each scene, in POPE's three ways.

    Random ones, those that were frequent in what was learnt from, and those that often came
    together there with one that is there. Li et al. 2023, section 4.
    """
    rng = random.Random("absent")
    often, together = Counter(), Counter()
    for scene in learnt:
        there = shapes(scene)
        often.update(there)
        together.update((a, b) for a in there for b in there)
    found: dict[str, list[str]] = {"random": [], "popular": [], "adversarial": []}
    for scene in scenes:
        there = shapes(scene)
        others = [shape for shape in SHAPES if shape not in there]
        found["random"].append(rng.choice(others))
        found["popular"].append(max(others, key=lambda shape: often[shape]))
        near = {o: max(together[o, t] for t in there) for o in others}
        found["adversarial"].append(max(others, key=near.__getitem__))
    return found


def says_yes(model: llava.Llava, seen: small.Pictures, asked: Sequence[str]) -> str:
    """What a model says to a question about a shape for each picture: 1 yes, 0 no, 2 neither."""
    answers = small.answered(model, seen.feats, [question(shape) for shape in asked])
    return "".join({True: "1", False: "0", None: "2"}[evaluate.yes_or_no(a)] for a in answers)


def measure(model: llava.Llava, learnt: Sequence[world.Scene]) -> dict[str, Any]:
    """What a model says is there, asked and unasked."""
    some = tested()
    rng = random.Random("there")
    found: dict[str, Any] = {
        "there": says_yes(model, some.any, [rng.choice(sorted(shapes(s))) for s in some.any.scenes])
    }
    for how, others in absent(some.any.scenes, learnt).items():
        found[how] = says_yes(model, some.any, others)
    texts = small.describe(model, some.any.feats)
    chair = evaluate.chair(texts, some.any.scenes)
    found |= {f"chair {name}": round(value, 4) for name, value in chair._asdict().items()}
    found["described"] = evaluate.scene_graph(texts, some.any.scenes, "en").f1.mean().item()
    for where in ("beside", "neither"):
        seen = getattr(some, where)
        found[f"yes, {where}"] = says_yes(model, seen, [MADE_UP] * len(seen.scenes))
        told = [world.parse(text, "en").mentions for text in small.describe(model, seen.feats)]
        found[f"told, {where}"] = "".join(
            str(int(any(m.thing.shape == MADE_UP for m in mentions))) for mentions in told
        )
    return found


def made(
    split: str, always: bool, only_yes: bool, later: bool, seed: int, settings: train.Settings
) -> dict[str, Any]:
    """A model of one arm, measured."""
    seen = pictures(split, NUM, seed, always)
    model = small.begun(seed, settings, steps=STEPS)
    model.learn("projector", "text")
    steps = settings.steps // LATER if later else 0
    losses = learn(model, seen, only_yes, replace(settings, steps=settings.steps - steps), seed)
    if later:
        others = pictures("train", NUM, seed)
        losses = learn(model, others, only_yes, replace(settings, steps=steps), seed)
    return measure(model, seen.scenes) | {"loss": small.last(losses)}


def runs(seed: int, settings: train.Settings) -> dict[str, Callable[[], dict[str, Any]]]:
    """What is trained with a seed."""
    settings = replace(small.SETTINGS, steps=settings.steps)
    return {name: functools.partial(made, *arm, seed, settings) for name, arm in ARMS.items()}


if __name__ == "__main__":
    dual.run("invention", runs, STEPS, batch=small.SETTINGS.batch, scenes=NUM)
