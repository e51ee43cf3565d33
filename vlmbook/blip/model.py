"""BLIP: one model that matches pictures with texts, writes captions, and answers questions.

B pictures, C H W channels and size of pixels, N image tokens, T text tokens, S tokens of a prompt,
D width, E shared space, V vocabulary.

    blip.caption(pixels, tokenizer, language="en", decoding="beam")  # list[str]
    blip.answer(pixels, questions, tokenizer)                        # list[Answer]

Li et al. 2022. Book: blip.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmbook import generate
from vlmbook.blip.config import Config
from vlmbook.encoders import Encoded, ImageEncoder, Prepare, stem
from vlmbook.generate import Answer
from vlmbook.grounded import GroundedText, Read
from vlmbook.layers import without_weights
from vlmbook.losses import mined_negatives
from vlmbook.tokenizer import EN, KO, Tokenizer

MAX_SCALE = 100.0
LANGUAGES = {"en": EN, "ko": KO}
TASKS = ("itc", "itm", "lm", "vqa")
HEADS = ("ITC", "ITM", "LM")


class Batch(NamedTuple):
    """What a step of training sees: B pictures, a caption each, and Q questions about them.

    pixels (B, 3, H, W); ids and mask (B, T); language (B,), the token to write in. about (B, 2)
    are numbers of what is in the picture and of what the caption says: rows that agree in either
    are no negatives of each other. Questions (Q, T) with their answers (Q, T), where picture
    (Q,) is the row of the picture and spoken (Q,) the token of their language.
    """

    pixels: Tensor
    ids: Tensor
    mask: Tensor
    language: Tensor
    about: Tensor
    question: Tensor | None = None
    question_mask: Tensor | None = None
    answer: Tensor | None = None
    picture: Tensor | None = None
    spoken: Tensor | None = None


class Outputs(NamedTuple):
    """What the heads make of a Batch; None where a task was not asked for.

    image_emb, text_emb (B, E); scale; match (3 b, 2), the first b of which are pairs; caption and
    answer: logits (n, V) of the tokens in said and answered (n,).
    """

    image_emb: Tensor | None
    text_emb: Tensor | None
    scale: Tensor | None
    about: Tensor
    match: Tensor | None
    caption: Tensor | None
    said: Tensor | None
    answer: Tensor | None
    answered: Tensor | None


class Blip(nn.Module):
    """An image encoder and a text transformer in its roles, passed in built.

    writer is the decoder where it is another transformer. prepare makes of pixels what the
    image encoder takes.
    """

    def __init__(
        self,
        image: nn.Module,
        text: GroundedText,
        config: Config,
        writer: GroundedText | None,
        prepare: nn.Module,
    ) -> None:
        super().__init__()
        self.image, self.text, self.config, self.prepare = image, text, config, prepare
        self.writer = writer
        if config.matches:
            self.from_image = nn.Linear(config.image_width, config.shared)
            self.from_text = nn.Linear(config.text_width, config.shared)
            self.matcher = nn.Linear(config.text_width, 2)
            self.log_scale = nn.Parameter(torch.tensor(1 / 0.07).log())
        # Which tokens training has met: others are a reason to doubt an answer.
        self.register_buffer("met", torch.zeros(config.vocab_size, dtype=torch.bool))

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.met.device

    @property
    def scale(self) -> Tensor:
        """The inverse temperature, at most MAX_SCALE; beyond that its gradient is 0."""
        return self.log_scale.exp().clamp(max=MAX_SCALE)

    @property
    def decoder(self) -> GroundedText:
        """The transformer that writes."""
        return self.text if self.writer is None else self.writer

    def see(self, pixels: Tensor) -> Encoded:
        """pixels (B, 3, H, W) in [0, 1], of any size; texts look at the feats (B, N + 1, D)."""
        seen = self.image(self.prepare(pixels.to(self.device)))
        return Encoded(seen.pooled, self.image.norm_out(seen.feats), seen.weights)

    def embed_image(self, feats: Tensor) -> Tensor:
        """feats (B, N + 1, D) of see() to image_emb (B, E) of length one."""
        self._needs_heads()
        return F.normalize(self.from_image(feats[:, 0]).float(), dim=-1)

    @without_weights()
    def encode_image(self, pixels: Tensor) -> Tensor:
        """pixels (B, 3, H, W) in [0, 1], of any size, to image_emb (B, E) of length one."""
        return self.embed_image(self.see(pixels).feats)

    @without_weights()
    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids and mask (B, T), on any device, to text_emb (B, E) of length one."""
        self._needs_heads()
        feats = self.text(ids.to(self.device), "encode", mask.to(self.device)).feats
        return F.normalize(self.from_text(feats[:, 0]).float(), dim=-1)

    def read(self, ids: Tensor, mask: Tensor, feats: Tensor) -> Read:
        """Texts (B, T) read with pictures (B, N + 1, D) in view: the image-grounded encoder."""
        ids, mask = ids.to(self.device), mask.to(self.device)
        if self.config.encode is not None:
            ids = torch.cat([torch.full_like(ids[:, :1], self.config.encode), ids[:, 1:]], 1)
        return self.text(ids, "encode", mask, feats)

    @without_weights()
    def match(self, ids: Tensor, mask: Tensor, feats: Tensor) -> Tensor:
        """Logits (B, 2): row by row, the text does not fit the picture, and it does."""
        self._needs_heads()
        return self.matcher(self.read(ids, mask, feats).feats[:, 0])

    def write(
        self,
        prompt: Tensor,
        context: Tensor,
        context_mask: Tensor | None = None,
        decoding: str = "greedy",
        max_length: int = 48,
        **how: Any,
    ) -> generate.Generated:
        """Go on from a prompt (B, S), looking at a context (B, K, D): a picture or a question.

        decoding is "greedy", "beam" or "nucleus", and how its own settings; see generate.
        """
        most = self.config.max_tokens - prompt.shape[1]
        if not 1 <= max_length <= most:
            raise ValueError(
                f"max_length {max_length} is not from 1 to {most}, the places that are left"
            )
        special = {"end": self.config.end, "pad": self.config.pad}
        step = self.next_token(context, context_mask)
        start = prompt.to(self.device)
        return generate.decode(decoding, step, start, max_length, **special, **how)

    def next_token(self, context: Tensor, context_mask: Tensor | None = None) -> generate.Step:
        """The decoder, looking at a context (B, K, D), as generate's functions take it."""

        @without_weights()
        def step(ids: Tensor, memory: Any) -> tuple[Tensor, Any]:
            times = len(ids) // len(context)  # of each text, where several are tried
            mask = None if context_mask is None else context_mask.repeat_interleave(times, 0)
            seen = context.repeat_interleave(times, 0) if memory is None else None
            read = self.decoder(ids, "decode", None, seen, mask, memory)
            return self.decoder.next_logits(read.feats[:, -1]), read.memory

        return step

    def dictate(
        self,
        ids: Tensor,
        language: str | Tensor,
        context: Tensor,
        context_mask: Tensor | None = None,
    ) -> Read:
        """The decoder, given texts (B, T): its last T - 1 places predict the tokens from 1 on.

        It reads the prompt and then the texts without their start token and their last one. With a
        prompt of two tokens, place k predicts token k, which is itself read at place k + 1.
        """
        given = torch.cat([self.prompt(language, len(ids)), ids[:, 1:-1]], 1)
        return self.decoder(given, "decode", None, context, context_mask)

    @without_weights()
    def log_prob(
        self,
        ids: Tensor,
        mask: Tensor,
        context: Tensor,
        language: str | Tensor = "en",
        context_mask: Tensor | None = None,
    ) -> Tensor:
        """How probable the decoder finds texts (B, T): log p(text | context), (B,)."""
        ids, mask = ids.to(self.device), mask.to(self.device)
        logits, said, row = self._dictated(ids, mask, language, context, context_mask)
        each = -F.cross_entropy(logits.float(), said, reduction="none")
        return torch.zeros(len(ids), device=each.device).index_add(0, row, each)

    def score(
        self,
        head: str,
        ids: Tensor,
        mask: Tensor,
        feats: Tensor,
        language: str | Tensor = "en",
    ) -> Tensor:
        """How well a head finds that texts (B, T) fit pictures (B, N + 1, D), row by row, (B,).

        ITC gives a cosine, ITM the log odds that the text fits, LM log p(text | picture) of a
        decoder that was told the language; the others need not know it.
        """
        if head == "ITC":
            return (self.embed_image(feats) * self.encode_text(ids, mask)).sum(1)
        if head == "ITM":
            return self.match(ids, mask, feats).diff(dim=1)[:, 0]
        if head == "LM":
            return self.log_prob(ids, mask, feats, language)
        raise ValueError(f"head {head!r} does not exist; choose from {', '.join(HEADS)}")

    @torch.no_grad()
    def candidates(
        self, pixels: Tensor, tokenizer: Tokenizer, language: str = "en", most: int = 6
    ) -> tuple[list[str], list[list[tuple[str, float]]]]:
        """A greedy caption of one picture (1, 3, H, W), taken apart into its choices.

        Its tokens, and at each step the most likely ones with their probabilities, likeliest first.
        """
        if len(pixels) != 1:
            raise ValueError(f"candidates of one picture, not of {len(pixels)}; pass pixels[:1]")
        feats, prompt = self.see(pixels).feats, self.prompt(language, 1)
        made = self.write(prompt, feats).ids
        read = self.decoder(torch.cat([prompt, made[:, :-1]], 1), "decode", context=feats)
        last = read.feats[0, prompt.shape[1] - 1 :]  # from the end of the prompt on
        likely = self.decoder.next_logits(last).softmax(1).topk(most)

        def piece(token: Tensor) -> str:
            return tokenizer.piece(int(token)).strip("·")

        offered = [
            [(piece(token), p.item()) for p, token in zip(*step, strict=True)]
            for step in zip(*likely, strict=True)
        ]
        return [piece(token) for token in made[0]], offered

    @torch.no_grad()
    @without_weights()
    def caption(
        self,
        pixels: Tensor,
        tokenizer: Tokenizer,
        language: str = "en",
        decoding: str = "greedy",
        max_length: int = 48,
        **how: Any,
    ) -> list[str]:
        """Say what is in pictures (B, 3, H, W), in English ("en") or Korean ("ko")."""
        prompt = self.prompt(language, len(pixels))
        ids = self.write(prompt, self.see(pixels).feats, None, decoding, max_length, **how).ids
        return [tokenizer.decode(row) for row in ids]

    @torch.no_grad()
    @without_weights()
    def answer(
        self, pixels: Tensor, questions: Sequence[str], tokenizer: Tokenizer
    ) -> list[Answer]:
        """Answer a question about each picture (B, 3, H, W), or several about one (1, 3, H, W).

        A question with Hangul is answered in Korean, any other in English. Where training never met
        a part of the question, the answer has a note that says so.
        """
        if len(pixels) not in (1, len(questions)):
            raise ValueError(
                f"{len(questions)} questions about {len(pixels)} pictures; pass one picture, or one"
                " for each question"
            )
        if not questions:
            return []
        ids, mask = tokenizer.batch(questions, self.config.max_tokens)
        feats = self.see(pixels).feats.expand(len(questions), -1, -1)
        asked = self.read(ids, mask, feats).feats
        spoken = [LANGUAGES["ko" if _has_hangul(q) else "en"] for q in questions]
        prompt = self.prompt(torch.tensor(spoken), len(questions))
        made = self.write(prompt, asked, mask.to(self.device), max_length=8)
        return [
            Answer(tokenizer.decode(row), log_prob.exp().item(), self._doubt(own, tokenizer))
            for row, log_prob, own in zip(made.ids, made.log_prob, ids, strict=True)
        ]

    def prompt(self, language: str | Tensor, num: int) -> Tensor:
        """What a decoder begins num texts with: that it writes, and in which language, (num, 2).

        Where config.spoken is False, there is no token for the language: (num, 1).
        """
        if isinstance(language, str):
            if language not in LANGUAGES:
                raise ValueError(
                    f"language {language!r} does not exist; choose from {', '.join(LANGUAGES)}"
                )
            if not self.config.spoken and language != "en":
                raise ValueError(f"this model writes English alone, not {language!r}; pass 'en'")
            language = torch.tensor(LANGUAGES[language]).expand(num)
        language = language.to(self.device)
        told = [torch.full_like(language, self.config.begin), language]
        return torch.stack(told[: 1 + self.config.spoken], 1)

    def forward(
        self,
        batch: Batch,
        tasks: Sequence[str] = TASKS,
        mined: bool = True,
        matched: int | None = None,
    ) -> Outputs:
        """All heads on a batch, for training. The negatives of ITM are mined by ITC, or random.

        matched is the number of rows, from the first, whose pairs ITM sees; left out, all.
        """
        if self.training:
            self._meet(batch)
        feats = self.see(batch.pixels).feats
        image_emb = text_emb = scale = match = caption = said = answer = answered = None
        if "itc" in tasks or ("itm" in tasks and mined):
            image_emb, scale = self.embed_image(feats), self.scale
            text_emb = self.encode_text(batch.ids, batch.mask)
        if "itm" in tasks:
            rows = slice(matched)
            same = (batch.about[rows, None] == batch.about[None, rows]).any(-1)
            scores = torch.zeros_like(same, dtype=torch.float)
            if mined:
                scores = (scale * image_emb[rows] @ text_emb[rows].T).detach()
            match = self._match_all(batch.ids[rows], batch.mask[rows], feats[rows], scores, same)
        if "lm" in tasks:
            caption, said, _ = self._dictated(batch.ids, batch.mask, batch.language, feats)
        if "vqa" in tasks and batch.question is not None:
            asked = self.read(batch.question, batch.question_mask, feats[batch.picture]).feats
            answer, answered, _ = self._dictated(
                batch.answer,
                batch.answer != self.config.pad,
                batch.spoken,
                asked,
                batch.question_mask,
            )
        return Outputs(
            image_emb, text_emb, scale, batch.about, match, caption, said, answer, answered
        )

    def _meet(self, batch: Batch) -> None:
        """Note the tokens that training sees, those of all processes."""
        for ids in (batch.ids, batch.question, batch.answer):
            if ids is not None:
                self.met[ids.flatten()] = True
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            met = self.met.byte()
            torch.distributed.all_reduce(met, torch.distributed.ReduceOp.MAX)
            self.met.copy_(met)

    def _match_all(
        self, ids: Tensor, mask: Tensor, feats: Tensor, scores: Tensor, same: Tensor
    ) -> Tensor:
        """ITM's logits (3 b, 2) of b pairs, b pictures with a wrong text, b texts with a wrong
        picture.
        """
        text = mined_negatives(scores, same)
        picture = mined_negatives(scores.T, same)
        ids, mask = torch.cat([ids, ids[text], ids]), torch.cat([mask, mask[text], mask])
        return self.match(ids, mask, torch.cat([feats, feats, feats[picture]]))

    def _dictated(
        self,
        ids: Tensor,
        mask: Tensor,
        language: str | Tensor,
        context: Tensor,
        context_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The decoder's logits (n, V) for each of the n tokens of texts (B, T), given those before.

        With the tokens (n,), and the text (n,) that each belongs to.
        """
        feats = self.dictate(ids, language, context, context_mask).feats[:, 1 - ids.shape[1] :]
        told = mask[:, 1:]  # padding comes last, where no token of the text can see it
        row = torch.arange(len(ids), device=ids.device)[:, None].expand_as(told)[told]
        # All places are predicted, and padding is left out after that: shapes that change in every
        # step would each be prepared anew, and kept.
        return self.decoder.next_logits(feats)[told], ids[:, 1:][told], row

    def _needs_heads(self) -> None:
        if not self.config.matches:
            raise ValueError(
                "this model was built without the heads for matching; use one with matches=True"
            )

    def _doubt(self, ids: Tensor, tokenizer: Tokenizer) -> str:
        new = [i for i in ids[ids != self.config.pad].tolist() if not self.met[i]]
        if not new:
            return ""
        shown = ", ".join(repr(tokenizer.piece(i)) for i in dict.fromkeys(new))
        return f"training never met {shown}; doubt this answer"


def build(config: Config, **constants: Any) -> Blip:
    """A Blip with new weights; constants are the mean and std of Prepare."""
    width = config.image_width
    image = ImageEncoder(
        stem(config.stem, config.patch, width),
        (config.size // config.patch) ** 2,
        width,
        config.image_depth,
        config.image_heads,
        config.hidden * width,
        norm_in=config.norm_in,
    )
    return Blip(image, *texts(config), Prepare(config.size, crop=config.crop, **constants))


def texts(config: Config) -> tuple[GroundedText, Config, GroundedText | None]:
    """The text transformer of a config, the config itself, and a decoder of its own if not tied."""

    def transformer(*roles: str) -> GroundedText:
        return GroundedText(
            config.vocab_size,
            config.max_tokens,
            config.text_width,
            config.text_depth,
            config.text_heads,
            config.hidden * config.text_width,
            config.image_width,
            roles,
        )

    if config.tied or len(config.roles) == 1:
        return transformer(*config.roles), config, None
    return transformer("encode"), config, transformer("decode")


def _has_hangul(text: str) -> bool:
    return any("가" <= c <= "힣" or "ㄱ" <= c <= "ㆎ" or "ᄀ" <= c <= "ᇿ" for c in text)
