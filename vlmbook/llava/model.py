"""LLaVA: a frozen image encoder, a projector, and a language model that reads pictures as words.

B texts, P pictures, C H W channels and size of pixels, N image tokens, T text tokens, D width of
the language model, V vocabulary.

    llava.chat(pixels, [{"role": "user", "content": "What is left of the cube?"}], tokenizer)
    llava.answer(pixels, questions, tokenizer)  # list[Answer]

Liu et al. 2023. Book: llava.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vlmbook import generate
from vlmbook.decoder import Decoded, Decoder
from vlmbook.encoders import ImageEncoder, Prepare, stem
from vlmbook.generate import Answer
from vlmbook.layers import ACTIVATIONS, without_weights
from vlmbook.llava.config import Config
from vlmbook.tokenizer import Message, Tokenizer, parts_of

PARTS = ("image", "projector", "text")


class Batch(NamedTuple):
    """What a step of training sees: B conversations (B, T), padded at the right.

    told (B, T) is True at what the assistant says, which is to be learnt. pixels (P, 3, H, W) are
    the pictures in the order of their places in the conversations; none where nothing is seen.
    """

    ids: Tensor
    told: Tensor
    pixels: Tensor | None = None


def splice(x: Tensor, ids: Tensor, image: int, feats: Tensor) -> Tensor:
    """Put image tokens where the prompt keeps places for them.

    x (B, T, D) are the embeddings of ids (B, T), image is the id that keeps a place, and feats
    (P, N, D) are the tokens of all pictures, in order. Raises ValueError where their numbers
    differ.
    """
    places = ids == image
    num = int(places.sum())
    if num != feats.shape[0] * feats.shape[1]:
        raise ValueError(
            f"the prompt keeps {num} places for image tokens, and {feats.shape[0]} pictures have"
            f" {feats.shape[0] * feats.shape[1]}, {feats.shape[1]} each; write one placeholder for"
            " each picture"
        )
    return x.masked_scatter(places[..., None], feats.to(x.dtype))


class Llava(nn.Module):
    """An image encoder, a projector, and a decoder, passed in built.

    prepare makes of pixels what the image encoder takes.
    """

    def __init__(
        self,
        image: nn.Module,
        projector: nn.Module,
        text: Decoder,
        config: Config,
        prepare: nn.Module,
    ) -> None:
        super().__init__()
        self.image, self.projector, self.text = image, projector, text
        self.config, self.prepare = config, prepare

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.text.token.weight.device

    def learn(self, *parts: str) -> None:
        """Let training change these parts, of "image", "projector" and "text", and no others."""
        if unknown := set(parts) - set(PARTS):
            raise ValueError(
                f"part {unknown.pop()!r} does not exist; choose from {', '.join(PARTS)}"
            )
        for part in PARTS:
            getattr(self, part).requires_grad_(part in parts)

    def see(self, pixels: Tensor) -> Tensor:
        """pixels (P, 3, H, W) in [0, 1], of any size, to image tokens (P, N, D)."""
        seen = self.image(self.prepare(pixels.to(self.device)), self.config.layer).feats
        return self.projector(seen if self.config.keep_class else seen[:, 1:])

    def embed(self, ids: Tensor, feats: Tensor | None = None) -> Tensor:
        """ids (B, T) and the image tokens (P, N, D) of see() to what the decoder reads, (B, T, D).

        Raises ValueError where ids keep another number of places than there are image tokens.
        """
        x = self.text.token(ids)
        return splice(x, ids, self.config.image, x[:0] if feats is None else feats)

    def read(self, ids: Tensor, feats: Tensor | None = None, mask: Tensor | None = None) -> Decoded:
        """What the decoder makes of ids (B, T), with image tokens (P, N, D) in their places.

        mask (B, T) is True at text; padding at the right needs none.
        """
        return self.text(self.embed(ids, feats), mask)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits (n, V) for each of the n tokens that the assistant says, and those tokens (n,)."""
        feats = None if batch.pixels is None else self.see(batch.pixels)
        said = batch.told[:, 1:]
        # All places are predicted, and the others are left out after that: shapes that change in
        # every step would each be prepared anew, and kept.
        logits = self.text.next_logits(self.read(batch.ids, feats).feats[:, :-1])
        return logits[said], batch.ids[:, 1:][said]

    def next_token(self, prompt: Tensor, feats: Tensor | None = None) -> generate.Step:
        """The decoder, going on from prompts (B, S) padded at the left, as generate takes it."""
        known = prompt != self.config.pad
        padded = not bool(known.all())

        @without_weights()
        def step(ids: Tensor, cache: Any) -> tuple[Tensor, Any]:
            if cache is None:
                times = len(ids) // len(prompt)  # of each text, where several are tried
                x = self.embed(prompt, feats).repeat_interleave(times, 0)
                mask, memory = known.repeat_interleave(times, 0), None
            else:
                x = self.text.token(ids)
                mask, memory = torch.cat([cache[0], torch.ones_like(cache[0][:, :1])], 1), cache[1]
            out = self.text(x, mask if padded else None, memory)
            return self.text.next_logits(out.feats[:, -1]), (mask, out.memory)

        return step

    def prompts(
        self, conversations: Sequence[Sequence[Message]], tokenizer: Tokenizer, pictures: int
    ) -> Tensor:
        """Conversations as prompts (B, S), padded at the left, for the assistant to go on.

        A conversation without a place for a picture has one before all else. Raises ValueError
        where there are more or fewer places than pictures.
        """
        shown = [_with_picture(c) if pictures else c for c in conversations]
        num = sum(map(_places, shown))
        if num != pictures:
            raise ValueError(
                f"pictures: {pictures}, placeholders for them: {num}; write one part"
                " {'type': 'image'} for each picture"
            )
        rows = [tokenizer.chat(c, True, self.config.image_tokens).ids for c in shown]
        ids = torch.full((len(rows), max(map(len, rows))), self.config.pad)
        for row, own in zip(rows, ids, strict=True):
            own[len(own) - len(row) :] = row
        return ids.to(self.device)

    @torch.no_grad()
    def replies(
        self,
        pixels: Tensor | None,
        conversations: Sequence[Sequence[Message]],
        tokenizer: Tokenizer,
        decoding: str = "greedy",
        max_length: int = 64,
        **how: Any,
    ) -> list[Answer]:
        """What the assistant says next in each conversation about pictures (P, 3, H, W).

        decoding is "greedy", "beam" or "nucleus", and how its own settings; see generate. Raises
        ValueError for a conversation that leaves no room for max_length tokens.
        """
        if not conversations:
            return []
        step, prompt = self._begin(pixels, conversations, tokenizer, max_length)
        made = generate.decode(
            decoding, step, prompt, max_length, end=self.config.end, pad=self.config.pad, **how
        )
        return [
            Answer(tokenizer.decode(row), log_prob.exp().item())
            for row, log_prob in zip(made.ids, made.log_prob, strict=True)
        ]

    def chat(
        self, pixels: Tensor | None, messages: Sequence[Message], tokenizer: Tokenizer, **how: Any
    ) -> str:
        """What the assistant says next in one conversation; how is that of replies()."""
        return self.replies(pixels, [messages], tokenizer, **how)[0].text

    @torch.no_grad()
    def stream(
        self,
        pixels: Tensor | None,
        messages: Sequence[Message],
        tokenizer: Tokenizer,
        max_length: int = 64,
    ) -> Iterator[str]:
        """The same, greedily and piece by piece as it is made; the pieces together are the text."""
        step, prompt = self._begin(pixels, [messages], tokenizer, max_length)
        ids, told = [], ""
        for token, _ in generate.stream(step, prompt, max_length, self.config.end, self.config.pad):
            ids.append(token.item())
            text = tokenizer.decode(ids)
            if text.endswith("\ufffd"):  # the first bytes of a letter; the others are to come
                continue
            yield text[len(told) :]
            told = text
        if text != told:
            yield text[len(told) :]

    def answer(
        self, pixels: Tensor, questions: Sequence[str], tokenizer: Tokenizer, **how: Any
    ) -> list[Answer]:
        """Answer a question about each picture (B, 3, H, W), or several about one (1, 3, H, W)."""
        if len(pixels) not in (1, len(questions)):
            raise ValueError(
                f"{len(questions)} questions about {len(pixels)} pictures; pass one picture, or one"
                " for each question"
            )
        pixels = pixels.expand(len(questions), *pixels.shape[1:])
        asked = [[{"role": "user", "content": question}] for question in questions]
        return self.replies(pixels, asked, tokenizer, **{"max_length": 8, **how})

    @without_weights()
    def _begin(
        self,
        pixels: Tensor | None,
        conversations: Sequence[Sequence[Message]],
        tokenizer: Tokenizer,
        max_length: int,
    ) -> tuple[generate.Step, Tensor]:
        """The decoder, about to go on with conversations about pictures, and its prompts (B, S)."""
        prompt = self.prompts(conversations, tokenizer, 0 if pixels is None else len(pixels))
        if prompt.shape[1] + max_length > self.config.max_tokens:
            raise ValueError(
                f"a prompt of {prompt.shape[1]} tokens and {max_length} to make are more than the"
                f" {self.config.max_tokens} that this model reads; shorten the conversation, or"
                " lower max_length"
            )
        return self.next_token(prompt, None if pixels is None else self.see(pixels)), prompt


def build(config: Config, **constants: Any) -> Llava:
    """A Llava with new weights; constants are the mean and std of Prepare."""
    width = config.image_width
    image = ImageEncoder(
        stem(config.stem, config.patch, width, bias=False),
        (config.size // config.patch) ** 2,
        width,
        config.image_depth,
        config.image_heads,
        config.image_hidden * width,
        ACTIVATIONS[config.activation](),
    )
    projector: nn.Module = nn.Linear(width, config.text_width)
    if config.projector == "mlp":
        second = nn.Linear(config.text_width, config.text_width)
        projector = nn.Sequential(projector, nn.GELU(), second)
    text = Decoder(
        config.vocab_size,
        config.max_tokens,
        config.text_width,
        config.text_depth,
        config.text_heads,
        config.text_groups,
        config.text_hidden,
        config.theta,
        config.epsilon,
        config.tied,
    )
    return Llava(image, projector, text, config, Prepare(config.size, **constants))


def _places(messages: Sequence[Message]) -> int:
    """How many pictures a conversation speaks of."""
    return sum(part["type"] == "image" for message in messages for part in parts_of(message))


def _with_picture(messages: Sequence[Message]) -> Sequence[Message]:
    """A conversation with a place for a picture before what is said first, where it has none."""
    if not messages or _places(messages):
        return messages
    first, *others = messages
    return [{**first, "content": [{"type": "image"}, *parts_of(first)]}, *others]
