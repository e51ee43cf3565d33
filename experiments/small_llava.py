"""Small LLaVAs, trained many times over: what the experiments on them share.

The eye is that of clip-mini and frozen, so each picture is looked at once, and the models read what
it saw. A language model of llava.nano learns to speak of scenes that it is told about, as in the
recipe of llava-mini, before it sees any; the scenes are simpler, and what is said is English. A
seed decides weights, scenes, what is said about them, and their order; the scenes and questions of
the test are the same for all.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import dual
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmbook import checkpoint, evaluate, llava, tokenizer, train, world
from vlmbook.encoders import Encoded

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "recipes"))
import llava_mini as recipe  # noqa: E402

WORDS = dual.WORDS
NUM_PICTURES = 16_000
SETTINGS = train.Settings(steps=600, batch=32, rate=2e-3, warm_up=30, precision="bf16")
TEXT_STEPS = 1000
DESCRIBES = 0.3  # of the conversations
PRESET, NUM_OBJECTS = "standard", (1, 2)
ASKED = ("exist", "count", "query_shape", "query_color")
NUM_ASKED, NUM_DESCRIBED = 100, 150  # questions of each family, and pictures to describe
SAY = "Describe the picture."


class Seen(nn.Module):
    """In the place of an eye: hands on what it saw, (B, N + 1, C), as side x side patches.

    Neighbours are averaged where it saw more than that.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, feats: Tensor, layer: int) -> Encoded:
        """As ImageEncoder."""
        feats = feats.float()
        first, patches = feats[:, :1], feats[:, 1:]
        whole = round(patches.shape[1] ** 0.5)
        grid = patches.transpose(1, 2).unflatten(2, (whole, whole))
        pooled = F.adaptive_avg_pool2d(grid, self.side).flatten(2).transpose(1, 2)
        return Encoded(first[:, 0], torch.cat([first, pooled], 1), ())


@functools.cache
def eye() -> nn.Module:
    """clip-mini."""
    return checkpoint.load("clip-mini")[0]


@torch.no_grad()
def look(scenes: Sequence[world.Scene]) -> Tensor:
    """What the eye sees of scenes, (B, N + 1, C) float16."""
    parts = [scenes[i : i + 250] for i in range(0, len(scenes), 250)]
    clip = eye()
    return torch.cat(
        [clip.image(clip.prepare(world.render(p).pixels), -2).feats.half() for p in parts]
    )


class Pictures(NamedTuple):
    """Scenes and what the eye saw of them."""

    scenes: list[world.Scene]
    feats: Tensor


@functools.lru_cache(maxsize=1)
def pictures(seed: int) -> Pictures:
    """What a seed's models are trained with."""
    scenes = world.sample(NUM_PICTURES, PRESET, "train", 100 + seed, NUM_OBJECTS)
    return Pictures(scenes, look(scenes))


def build(side: int = 4, **changes: int | str) -> llava.Llava:
    """A model that reads what the eye saw, as side x side tokens: the fewer, the faster."""
    config = llava.nano(len(WORDS))
    model = llava.build(replace(config, patch=config.size // side, **changes))
    model.image, model.prepare = Seen(side), nn.Identity()
    return model


@functools.lru_cache(maxsize=1)
def taught(seed: int, steps: int = TEXT_STEPS) -> dict[str, Tensor]:
    """A language model that has learnt to speak of scenes that it is told about: its weights."""
    torch.manual_seed(seed)
    model = build()
    model.learn("text")
    settings = replace(SETTINGS, steps=steps, batch=2 * SETTINGS.batch, rate=3e-3)

    def batch(step: int, part: slice) -> llava.Batch:
        rows = range(step * settings.batch, (step + 1) * settings.batch)[part]
        scenes = world.sample(len(rows), PRESET, "train", 200 + seed, NUM_OBJECTS, start=rows.start)
        ids = nn.utils.rnn.pad_sequence([c.ids for c in told_of(scenes)], batch_first=True)
        return llava.Batch(ids, ids != tokenizer.PAD)  # everything is to be learnt

    train.fit(model, train.instructed, batch, settings)
    return {name: value.clone() for name, value in model.text.state_dict().items()}


def text_steps(settings: train.Settings, steps: int = SETTINGS.steps) -> int:
    """How long a language model learns before it sees anything.

    settings may be those of a trial that is shorter than the steps of the experiment.
    """
    return max(1, settings.steps * TEXT_STEPS // steps)


def begun(
    seed: int,
    settings: train.Settings,
    side: int = 4,
    steps: int = SETTINGS.steps,
    **changes: int | str,
) -> llava.Llava:
    """A model that can speak and has not seen anything; side and changes as in build."""
    torch.manual_seed(seed)
    model = build(side, **changes)
    model.text.load_state_dict(taught(seed, text_steps(settings, steps)))
    return model


def told_of(scenes: Sequence[world.Scene]) -> list[tokenizer.Chat]:
    """A conversation about each of some scenes, with a caption in the place of a picture."""
    talks = [recipe.conversation(scene, DESCRIBES, True, ("en",)) for scene in scenes]
    return [WORDS.chat(talk, False) for talk in talks]


def told(scenes: Sequence[world.Scene], describes: float, tokens: int) -> list[tokenizer.Chat]:
    """A conversation about each of some scenes, with so many places for image tokens."""
    talks = [recipe.conversation(scene, describes, False, ("en",)) for scene in scenes]
    return [WORDS.chat(talk, False, tokens) for talk in talks]


def learn(
    model: nn.Module,
    seen: Pictures,
    describes: float,
    settings: train.Settings,
    seed: int,
    tokens: int | None = None,
) -> list[float]:
    """Train what may learn in a model on conversations about pictures; the losses.

    tokens are the places that a conversation keeps for a picture; left out, as a Llava needs them.
    """
    chats = told(seen.scenes, describes, model.config.image_tokens if tokens is None else tokens)
    return follow(model, chats, seen.feats, settings, seed)


def follow(
    model: nn.Module,
    chats: Sequence[tokenizer.Chat],
    feats: Tensor,
    settings: train.Settings,
    seed: int,
) -> list[float]:
    """Train what may learn in a model on conversations about what the eye saw; the losses."""

    def batch(step: int, part: slice) -> llava.Batch:
        rows = dual.rows_of(step, len(chats), settings.batch, seed)[part].tolist()
        ids, said = (
            nn.utils.rnn.pad_sequence(of, batch_first=True)
            for of in zip(*(chats[row] for row in rows), strict=True)
        )
        return llava.Batch(ids, said, feats[rows])

    return train.fit(model, train.instructed, batch, settings).loss


def last(losses: Sequence[float], num: int = 50) -> float:
    """The loss at the end of training, the mean over some steps."""
    return round(sum(losses[-num:]) / len(losses[-num:]), 4)


@functools.cache
def items() -> list[tuple[world.Scene, world.Question]]:
    """The test's questions, as many of each family, none of whose answers is frequent."""
    scenes = world.sample(3000, PRESET, "test", num_objects=NUM_OBJECTS)
    return [pair for f in ASKED for pair in world.balanced_questions(scenes, NUM_ASKED, f)]


def about() -> dict[str, int | list[str]]:
    """What a result says of how its models were trained, and of the questions."""
    families = [question.family for _, question in items()]
    return {"batch": SETTINGS.batch, "scenes": NUM_PICTURES, "families": families}


@functools.cache
def tested() -> tuple[Tensor, Tensor]:
    """What the eye sees of the scenes that are asked about, and of those to be described."""
    return look([scene for scene, _ in items()]), look(described())


@functools.cache
def described() -> list[world.Scene]:
    """Scenes to be described."""
    return world.sample(NUM_DESCRIBED, PRESET, "test", seed=1, num_objects=NUM_OBJECTS)


def answered(model: llava.Llava, feats: Tensor, questions: Sequence[str]) -> list[str]:
    """What a model answers to a question about each picture that the eye saw."""
    found = []
    for some in torch.arange(len(feats)).split(70):
        own = [questions[i] for i in some.tolist()]
        found += [a.text for a in model.answer(feats[some], own, WORDS)]
    return found


def answers(model: llava.Llava) -> list[str]:
    """What a model answers to the test's questions."""
    return answered(model, tested()[0], [question.text for _, question in items()])


def describe(model: llava.Llava, feats: Tensor) -> list[str]:
    """What a model says when it is to describe each picture that the eye saw."""
    say = [[{"role": "user", "content": SAY}]]
    return [
        reply.text
        for some in feats.split(50)
        for reply in model.replies(some, say * len(some), WORDS)
    ]


def right(given: Sequence[str]) -> str:
    """Which of the test's questions have the right answer, 1 or 0 each."""
    hits = evaluate.exact_match(given, [question.answer for _, question in items()])
    return "".join(str(int(hit)) for hit in hits)


def measure(model: llava.Llava) -> dict[str, str | list[float]]:
    """Which of the test's questions are answered right, and the F1 of descriptions."""
    f1 = evaluate.scene_graph(describe(model, tested()[1]), described(), "en").f1
    return {
        "right": right(answers(model)),
        "described": [round(float(v), 3) for v in f1],
    }
