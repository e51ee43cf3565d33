"""What a model is asked to account for: a score, and the attention on the way to it.

B pictures, N image tokens, T text tokens, h heads, Q and K tokens that look and are looked at.
All tokens of a model are numbered from 0 to L: first those of the image, then those of the text,
then, in a model that answers, those of the answer. A Layer says which of them look at which.

Book: attention/maps.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vlmbook.blip import HEADS, Blip
from vlmbook.clip import Clip
from vlmbook.encoders import Encoded
from vlmbook.grounded import Read
from vlmbook.llava import Llava
from vlmbook.tokenizer import PAD, Tokenizer

Word = int | Tensor  # a token's place, or (B, T) bool, the places of a word


class Layer(NamedTuple):
    """Weights (B, h, Q, K) of the tokens with numbers query (Q,) that look at those of key (K,)."""

    weights: Tensor
    query: Tensor
    key: Tensor


@dataclass
class Target:
    """A score of a batch, how to compute it, and where its tokens are.

    see(pixels) is what the model makes of pictures alone, and read(seen, erased) gives the scores
    (B,) and the layers in their order; erased (B, T) are text tokens that the model is not to see.
    rows (B, L) are the tokens that the score is read at, and lookers (B, L) those whose look at the
    picture is drawn. patches (N,) and text (T,) are numbers.
    """

    see: Callable[[Tensor], Any]
    read: Callable[[Any, Tensor | None], tuple[Tensor, list[Layer]]]
    pixels: Tensor
    rows: Tensor
    lookers: Tensor
    patches: Tensor
    text: Tensor
    mask: Tensor  # (B, T), True at text

    def run(self, pixels: Tensor | None = None) -> tuple[Tensor, list[Layer]]:
        """The scores (B,) and layers, for these pixels or others."""
        return self.read(self.see(self.pixels if pixels is None else pixels), None)

    @property
    def size(self) -> int:
        """L, the number of tokens."""
        return self.rows.shape[1]

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        side = round(len(self.patches) ** 0.5)
        if side**2 != len(self.patches):
            raise ValueError(
                f"{len(self.patches)} patches make no square grid; maps need a model of square"
                " pictures"
            )
        return side, side


def of_clip(model: Clip, pixels: Tensor, ids: Tensor, mask: Tensor) -> Target:
    """The cosine of pictures and texts, of all words together."""
    num_image, num_text = len(model.image.place), ids.shape[1]
    image = torch.arange(num_image)
    text = num_image + torch.arange(num_text)
    ends = (ids == model.text.end).int().argmax(1).cpu()
    rows = torch.zeros(len(ids), num_image + num_text, dtype=torch.bool)
    rows[:, 0] = True
    rows[torch.arange(len(ids)), num_image + ends] = True

    def see(pixels: Tensor) -> Encoded:
        return model.image(model.prepare(pixels))

    def read(seen: Encoded, erased: Tensor | None) -> tuple[Tensor, list[Layer]]:
        told = model.text(ids, shown(mask, erased))
        image_emb, text_emb = model.from_image(seen.pooled), model.from_text(told.pooled)
        layers = [Layer(w, image, image) for w in seen.weights]
        layers += [Layer(w, text, text) for w in told.weights]
        return torch.cosine_similarity(image_emb, text_emb), layers

    return Target(see, read, pixels, rows, rows, image[1:], text, mask)


def of_blip(
    model: Blip,
    pixels: Tensor,
    ids: Tensor,
    mask: Tensor,
    word: Word | None = None,
    head: str = "LM",
    language: str | Tensor = "en",
) -> Target:
    """How a head of BLIP judges pictures and texts.

    LM: log p of a word, given those before it, or of the whole text. ITM: the log odds that the
    text fits, and a word is whose look is drawn. ITC: the cosine.
    """
    if head not in HEADS:
        raise ValueError(f"head {head!r} does not exist; choose from {', '.join(HEADS)}")
    if head == "LM":
        _needs_language(model)
    num_image, (num_texts, num_text) = len(model.image.place), ids.shape
    image = torch.arange(num_image)
    text = num_image + torch.arange(num_text)
    places = text + 1 if head == "LM" else text  # a decoder reads token k one place after
    asked = word_mask(word, mask)  # it has predicted it; the last one it never reads
    rows = torch.zeros(num_texts, num_image + num_text + 1, dtype=torch.bool)
    lookers = rows.clone()
    if head == "LM":
        told = asked.clone()
        told[:, 0] = False  # the start token is not predicted
        rows[:, text] = lookers[:, text] = told
    else:
        rows[:, num_image] = True
        rows[:, 0] = head == "ITC"
        lookers[:, text] = asked
        if word is None:
            lookers = rows

    def read(seen: Encoded, erased: Tensor | None) -> tuple[Tensor, list[Layer]]:
        layers = [Layer(w, image, image) for w in seen.weights]
        if head == "LM":
            given = ids if erased is None else ids.masked_fill(erased, PAD)
            found = model.dictate(given, language, seen.feats)
            score = _log_p(model, found, ids, told)
        elif head == "ITM":
            found = model.read(ids, shown(mask, erased), seen.feats)
            score = model.matcher(found.feats[:, 0]).diff(dim=1)[:, 0]
        else:
            found = model.text(ids, "encode", shown(mask, erased))
            pooled = model.from_image(seen.feats[:, 0]), model.from_text(found.feats[:, 0])
            score = torch.cosine_similarity(*pooled)
        return score, layers + _reading(found, text, image)

    return Target(model.see, read, pixels, rows, lookers, image[1:], places, mask)


def of_answer(
    model: Blip,
    pixels: Tensor,
    ids: Tensor,
    mask: Tensor,
    answer: Tensor,
    language: str | Tensor = "en",
) -> Target:
    """BLIP's log p of an answer (B, A), tokens with their start and end, to a question (B, T)."""
    _needs_language(model)
    num_image, (num_texts, num_text) = len(model.image.place), ids.shape
    image = torch.arange(num_image)
    text = num_image + torch.arange(num_text)
    said = num_image + num_text + torch.arange(answer.shape[1])
    rows = torch.zeros(num_texts, num_image + num_text + len(said), dtype=torch.bool)
    lookers = rows.clone()
    told = answer != PAD
    told[:, 0] = False
    rows[:, said] = told.cpu()
    lookers[:, text] = mask.cpu()

    def read(seen: Encoded, erased: Tensor | None) -> tuple[Tensor, list[Layer]]:
        left = shown(mask, erased)
        asked = model.read(ids, left, seen.feats)
        found = model.dictate(answer, language, asked.feats, left)
        score = _log_p(model, found, answer, told)
        layers = [Layer(w, image, image) for w in seen.weights]
        return score, layers + _reading(asked, text, image) + _reading(found, said, text)

    return Target(model.see, read, pixels, rows, lookers, image[1:], text, mask)


def of_llava(
    model: Llava, pixels: Tensor, ids: Tensor, told: Tensor, mask: Tensor | None = None
) -> Target:
    """LLaVA's log p of those tokens of conversations (B, T) that told (B, T) marks.

    Each conversation keeps places for one picture, in all at the same place; mask (B, T) is True at
    text, left out where nothing is padded. A token is read off where the one before it stands.
    """
    mask = torch.ones_like(told) if mask is None else mask
    pictured = ids == model.config.image
    if not (pictured == pictured[:1]).all() or pictured[0].sum() != model.config.image_tokens:
        raise ValueError(
            f"a conversation keeps {pictured.sum(1).tolist()} places for image tokens; each should"
            f" keep the {model.config.image_tokens} of one picture, in all at the same place"
        )
    image = torch.arange(len(model.image.place))
    patches = image if model.config.keep_class else image[1:]
    places = len(image) + torch.arange(ids.shape[1])
    places[pictured[0].cpu()] = patches
    told = told & ~pictured
    told[:, 0] = False
    rows = torch.zeros(len(ids), len(image) + ids.shape[1], dtype=torch.bool)
    rows[:, places[:-1]] |= told[:, 1:].cpu()

    def see(pixels: Tensor) -> Encoded:
        return model.image(model.prepare(pixels), model.config.layer)

    def read(seen: Encoded, erased: Tensor | None) -> tuple[Tensor, list[Layer]]:
        feats = model.projector(seen.feats[:, -len(patches) :])
        out = model.read(ids, feats, shown(mask, erased))
        log_p = model.text.next_logits(out.feats[:, :-1]).float().log_softmax(-1)
        score = (log_p.gather(2, ids[:, 1:, None])[..., 0] * told[:, 1:]).sum(1)
        layers = [Layer(w, image, image) for w in seen.weights]
        return score, layers + [Layer(w, places, places) for w in out.weights]

    return Target(see, read, pixels, rows, rows, image[1:], places, mask)


def shown(mask: Tensor, erased: Tensor | None) -> Tensor:
    """The tokens (B, T) of a text that a model sees when some are erased."""
    return mask if erased is None else mask & ~erased


def word_mask(word: Word | None, mask: Tensor) -> Tensor:
    """(B, T) bool: where a word stands; all of the text where none is named."""
    if word is None:
        return mask
    if isinstance(word, Tensor) and word.dtype == torch.bool:
        if word.shape != mask.shape or not word.any(1).all():
            raise ValueError(
                f"a word of shape {tuple(word.shape)} does not mark tokens of each text"
                f" {tuple(mask.shape)}; make it with find()"
            )
        return word
    longest = int(mask.sum(1).min())
    if not 0 <= int(word) < longest:
        raise ValueError(f"token {int(word)} is not in these texts; choose from 0 to {longest - 1}")
    return torch.zeros_like(mask).index_fill(
        1, mask.new_tensor([int(word)], dtype=torch.long), True
    )


def find(tokenizer: Tokenizer, ids: Tensor, words: str | Sequence[str]) -> Tensor:
    """Where a word, or one for each text, stands in ids (B, T): (B, T) bool.

    Of a word that occurs twice, the first place. Raises ValueError that lists the text's words.
    """
    if isinstance(words, str):
        words = [words] * len(ids)
    found = torch.zeros_like(ids, dtype=torch.bool)
    for row, word, places in zip(ids, words, found, strict=True):
        places[_places(tokenizer, row, word)] = True
    return found


def _places(tokenizer: Tokenizer, ids: Tensor, word: str) -> list[int]:
    wanted = tokenizer.encode(word)[1:-1]
    row = ids.tolist()
    for start in range(len(row) - len(wanted) + 1):
        if wanted and row[start : start + len(wanted)] == wanted:
            return list(range(start, start + len(wanted)))
    there = tokenizer.decode(ids)
    raise ValueError(f"{word!r} is not in the text; it has {', '.join(there.split())}")


def _needs_language(model: Blip) -> None:
    """The places below are those of a prompt with a token for the language."""
    if not model.config.spoken:
        raise ValueError(
            "this model's prompt has no token for a language, and its words stand elsewhere;"
            " explain transformers' class with of_transformers(), or the head ITM"
        )


def _log_p(model: Blip, dictated: Read, ids: Tensor, told: Tensor) -> Tensor:
    """log p (B,) of those tokens of texts (B, T) that told (B, T) marks."""
    log_p = model.decoder.next_logits(dictated.feats).float().log_softmax(-1)
    return (log_p.gather(2, ids[..., None])[..., 0] * told).sum(1)


def _reading(read: Read, own: Tensor, context: Tensor) -> list[Layer]:
    """The layers of a grounded text: each attends to itself, and then looks, if it looks at all."""
    looks = read.looks or [None] * len(read.weights)
    layers = []
    for weights, looked in zip(read.weights, looks, strict=True):
        layers.append(Layer(weights, own, own))
        if looked is not None:
            layers.append(Layer(looked, own, context))
    return layers
