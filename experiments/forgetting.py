"""What a language model forgets when it learns to look, by how looking is put into it.

    python experiments/forgetting.py [--smoke]

Language models that have learnt to speak of scenes that they are told about (small_llava.py) learn
to speak of pictures: through a projector, or by cross-attention between their layers, behind gates
that are closed at first or open. Their own weights are frozen or learn along. Each is measured on
pictures, and on what it knew before: how much texts surprise it, and what it answers about scenes
that it is told about. Writes vlmbook/results/forgetting.json. An hour and a half on one core. Book:
llava/stages.md.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import dual
import small_llava as small
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmbook import fusion, generate, llava, tokenizer, train, world
from vlmbook.decoder import Decoder, angles
from vlmbook.encoders import causal_mask

NUM, OPEN = 12_000, 3.0  # conversations; what an open gate holds
NUM_TEXTS = 300
ARMS = {
    "projector, frozen": (None, False),
    "projector, learning": (None, True),
    "closed gates, frozen": (0.0, False),
    "closed gates, learning": (0.0, True),
    "open gates, frozen": (OPEN, False),
    "open gates, learning": (OPEN, True),
}


class Looking(nn.Module):
    """A decoder with a gated look at the picture before each of its layers; gate is what all gates
    hold at first, and an open one stays.
    """

    def __init__(self, text: Decoder, seen: small.Seen, width: int, gate: float) -> None:
        super().__init__()
        size = text.token.embedding_dim
        self.text, self.seen, self.project = text, seen, nn.Linear(width, size)
        self.looks = nn.ModuleList(fusion.GatedLook(size, 4, 2 * size) for _ in text.blocks)
        for look in self.looks:
            nn.init.constant_(look.gates, gate)
            look.gates.requires_grad_(gate == 0)

    def read(self, ids: Tensor, image: Tensor) -> Tensor:
        """ids (B, T) with the picture's tokens (B, N, D) in view, to feats (B, T, D)."""
        text, num = self.text, ids.shape[1]
        x = text.token(ids)
        turn, causal = angles(0, num, text.each, text.theta, x), causal_mask(num, x.device)[None]
        for block, look in zip(text.blocks, self.looks, strict=True):
            x, _ = look(x, image, None)
            x, _, _ = block(x, turn, causal)
        return text.norm(x)

    def see(self, feats: Tensor) -> Tensor:
        """What the eye saw, (B, N + 1, C), to the picture's tokens (B, N, D)."""
        return self.project(self.seen(feats, -1).feats[:, 1:])

    def forward(self, batch: llava.Batch) -> tuple[Tensor, Tensor]:
        """As Llava.forward; the conversations keep no places for pictures."""
        logits = self.text.next_logits(self.read(batch.ids, self.see(batch.pixels))[:, :-1])
        said = batch.told[:, 1:]
        return logits[said], batch.ids[:, 1:][said]

    @torch.no_grad()
    def answer(self, feats: Tensor, questions: list[str], words: tokenizer.Tokenizer) -> list[str]:
        """Short answers, one by one: nothing is kept from one token to the next."""
        answers = []
        for image, question in zip(self.see(feats).split(1), questions, strict=True):
            prompt = words.chat([{"role": "user", "content": question}]).ids[None]

            def step(ids: Tensor, read: Any, image: Tensor = image) -> tuple[Tensor, Any]:
                ids = ids if read is None else torch.cat([read, ids], 1)
                return self.text.next_logits(self.read(ids, image)[:, -1]), ids

            answers.append(words.decode(generate.greedy(step, prompt, 8).ids[0]))
        return answers


@functools.cache
def texts() -> list[Tensor]:
    """Conversations about scenes that are told, not seen, as the language models knew them."""
    scenes = world.sample(NUM_TEXTS, small.PRESET, "test", seed=2, num_objects=small.NUM_OBJECTS)
    return [chat.ids for chat in small.told_of(scenes)]


@torch.no_grad()
def surprise(text: Decoder) -> float:
    """Nats a token of those conversations, read by a language model alone."""
    total = num = 0.0
    for ids in texts():
        logits = text.next_logits(text(text.token(ids[None])).feats[0, :-1])
        total += F.cross_entropy(logits, ids[1:], reduction="sum").item()
        num += len(ids) - 1
    return total / num


@functools.cache
def told() -> list[Tensor]:
    """Prompts with a caption of a scene and a question about it, as they are asked of pictures."""
    prompts = []
    for scene, question in small.items():
        caption = world.caption(scene, "en", "full", random.Random(scene.index))
        content = [{"type": "text", "text": text} for text in (caption, question.text)]
        prompts.append(small.WORDS.chat([{"role": "user", "content": content}]).ids[None])
    return prompts


def answers_told(text: Decoder) -> str:
    """Which questions about scenes that it is told about a language model answers right, alone."""

    def step(ids: Tensor, read: Any) -> tuple[Tensor, Any]:
        ids = ids if read is None else torch.cat([read, ids], 1)
        return text.next_logits(text(text.token(ids)).feats[:, -1]), ids

    given = [small.WORDS.decode(generate.greedy(step, ids, 8).ids[0]) for ids in told()]
    return small.right(given)


def made(gate: float | None, learns: bool, seed: int, settings: train.Settings) -> dict[str, Any]:
    """A model of one arm, measured."""
    seen = small.pictures(seed)
    some = small.Pictures(seen.scenes[:NUM], seen.feats[:NUM])
    model = small.begun(seed, settings)
    before, told_before = surprise(model.text), answers_told(model.text)
    if gate is None:
        model.learn("projector", *(["text"] if learns else []))
        losses = small.learn(model, some, 0.0, settings, seed)
        answers = small.answers(model)
    else:
        looking = Looking(model.text, model.image, model.config.image_width, gate)
        looking.text.requires_grad_(learns)
        losses = small.learn(looking, some, 0.0, settings, seed, tokens=0)
        looking.eval()
        asked = [q.text for _, q in small.items()]
        answers = looking.answer(small.tested()[0], asked, small.WORDS)
    model.eval()
    return {
        "right": small.right(answers),
        "before": round(before, 4),
        "after": round(surprise(model.text), 4),
        "told before": told_before,
        "told after": answers_told(model.text),
        "loss": small.last(losses),
    }


def runs(seed: int, settings: train.Settings) -> dict[str, Callable[[], dict[str, Any]]]:
    """What is trained with a seed."""
    settings = replace(small.SETTINGS, steps=settings.steps)
    return {name: functools.partial(made, *arm, seed, settings) for name, arm in ARMS.items()}


if __name__ == "__main__":
    dual.run("forgetting", runs, small.SETTINGS.steps, **small.about())
