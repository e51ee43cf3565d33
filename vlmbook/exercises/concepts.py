"""The exercises of the chapter on concepts, page by page. Book: concepts.md and those under it."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vlmbook.encoders import patchify
from vlmbook.exercises import Exercise, Mistake, Result, judge
from vlmbook.losses import clip_loss


def check(name: str, answer: Any) -> Result:
    """What is right or wrong with an answer to one of this chapter's exercises."""
    return judge(EXERCISES, name, answer)


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- concepts.md: what multimodal data is ---------------------------------------------------------

BATCH_BYTES = Exercise(
    right=32 * 3 * 224 * 224 * 4,
    mistakes=(
        Mistake(
            "numbers, not bytes",
            32 * 3 * 224 * 224,
            "that is how many numbers there are. How many bytes does a float32 take?",
        ),
        Mistake(
            "one channel",
            32 * 224 * 224 * 4,
            "that is a batch of gray pictures. How many numbers has a pixel in color?",
        ),
        Mistake(
            "bits",
            32 * 3 * 224 * 224 * 32,
            "that counts bits. A byte has eight of them.",
        ),
    ),
)

CAPTION_BITS = Exercise(
    right=lambda fitting, total: math.log2(total / fitting),
    trials=lambda: [(1, 1024), (64, 1024), (3, 1000)],
    mistakes=(
        Mistake(
            "natural logarithm",
            lambda fitting, total: math.log(total / fitting),
            "these are nats. A bit halves the number of scenes: which logarithm counts halvings?",
        ),
        Mistake(
            "upside down",
            lambda fitting, total: math.log2(fitting / total),
            "it is negative: the share of scenes that fit is below one. A sentence that fits fewer"
            " scenes should score higher.",
        ),
        Mistake(
            "share, not bits",
            lambda fitting, total: fitting / total,
            "that is the share of scenes that fit. How often must 1 be halved to get there?",
        ),
    ),
)


def _false_negatives(fits: Tensor) -> Tensor:
    off = ~torch.eye(len(fits), dtype=torch.bool)
    return fits[off].float().mean()


def _truth() -> Tensor:
    fits = torch.rand(6, 6, generator=torch.Generator().manual_seed(1)) < 0.3
    return fits | torch.eye(6, dtype=torch.bool)


FALSE_NEGATIVES = Exercise(
    right=_false_negatives,
    trials=lambda: [(_truth(),)],
    mistakes=(
        Mistake(
            "diagonal counted",
            lambda fits: fits.float().mean(),
            "the diagonal is in it. There each scene meets its own caption: a true pair, and no"
            " false negative.",
        ),
        Mistake(
            "divided by all cells",
            lambda fits: (fits.sum() - len(fits)) / fits.numel(),
            "the count is right, but it is divided by all cells. The diagonal holds no pair that"
            " could be a false negative.",
        ),
        Mistake(
            "a count",
            lambda fits: fits.sum() - len(fits),
            "that is how many there are. Which share of the pairs off the diagonal is it?",
        ),
        Mistake(
            "the true negatives",
            lambda fits: 1 - _false_negatives(fits),
            "that is the share of pairs that do not fit, the true negatives.",
        ),
    ),
)

# --- concepts/processing.md -----------------------------------------------------------------------

NORMALIZE = Exercise(
    right=lambda pixels, mean, std: (pixels - mean[:, None, None]) / std[:, None, None],
    # Three pixels wide, so that a mean along the wrong axis gives a result and not an error.
    trials=lambda: [
        (_random(2, 3, 3, 3).abs(), torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.4]))
    ],
    mistakes=(
        Mistake(
            "not divided",
            lambda pixels, mean, std: pixels - mean[:, None, None],
            "the mean is gone, but the spread is as it was. Divide by std.",
        ),
        Mistake(
            "multiplied",
            lambda pixels, mean, std: (pixels - mean[:, None, None]) * std[:, None, None],
            "you multiply by std, so that a channel with little spread gets even less. Divide.",
        ),
        Mistake(
            "wrong axis",
            lambda pixels, mean, std: (pixels - mean) / std,
            "mean and std (3,) line up with the last axis, the width. Give them two more axes, so"
            " that they line up with the channels.",
        ),
        Mistake(
            "divided first",
            lambda pixels, mean, std: pixels / std[:, None, None] - mean[:, None, None],
            "you divide first, and then take away a mean in units that are no longer there.",
        ),
    ),
)


PATCHIFY = Exercise(
    right=patchify,
    trials=lambda: [(_random(2, 3, 4, 6), 2)],
    mistakes=(
        Mistake(
            "reshaped only",
            lambda pixels, patch: pixels.reshape(len(pixels), -1, pixels.shape[1] * patch**2),
            "a reshape alone keeps pixels in reading order, so a 'patch' is a piece of a row."
            " Split rows and columns into blocks first, then permute, then flatten.",
        ),
        Mistake(
            "columns first",
            lambda pixels, patch: (
                patchify(pixels.transpose(2, 3), patch)
                .unflatten(2, (pixels.shape[1], patch, patch))
                .transpose(3, 4)
                .flatten(2)
            ),
            "each patch is right, but they come column by column. The second patch should lie to"
            " the right of the first.",
        ),
        Mistake(
            "channels last",
            lambda pixels, patch: (
                patchify(pixels, patch)
                .unflatten(2, (pixels.shape[1], -1))
                .transpose(2, 3)
                .flatten(2)
            ),
            "the patches are in order, but inside one the channels come last. Here a patch is"
            " flattened as (C, P, P). Weights learnt with one order are useless with the other.",
        ),
    ),
)

PADDING_MASK = Exercise(
    right=lambda lengths, num_tokens: torch.arange(num_tokens) < lengths[:, None],
    trials=lambda: [(torch.tensor([3, 1, 5, 0]), 5)],
    mistakes=(
        Mistake(
            "inverted",
            lambda lengths, num_tokens: torch.arange(num_tokens) >= lengths[:, None],
            "it is upside down: True stands at the padding. In this book, True means 'may attend'.",
        ),
        Mistake(
            "one too many",
            lambda lengths, num_tokens: torch.arange(num_tokens) <= lengths[:, None],
            "one token too many: places are counted from 0, so a text of length 3 has 0, 1 and 2.",
        ),
        Mistake(
            "padded at the left",
            lambda lengths, num_tokens: torch.arange(num_tokens) >= num_tokens - lengths[:, None],
            "that is for padding at the left. Our batches are padded at the right.",
        ),
    ),
)


def _merge(ids: list[int], pair: tuple[int, int], new: int) -> list[int]:
    merged: list[int] = []
    for i in ids:
        if merged and (merged[-1], i) == pair:
            merged[-1] = new
        else:
            merged.append(i)
    return merged


def _merge_once(ids: list[int], pair: tuple[int, int], new: int) -> list[int]:
    for n in range(len(ids) - 1):
        if (ids[n], ids[n + 1]) == pair:
            return [*ids[:n], new, *ids[n + 2 :]]
    return ids


def _merge_overlapping(ids: list[int], pair: tuple[int, int], new: int) -> list[int]:
    hits = [n for n in range(len(ids) - 1) if (ids[n], ids[n + 1]) == pair]
    return [new if n in hits else i for n, i in enumerate(ids) if n - 1 not in hits or n in hits]


def _merge_either(ids: list[int], pair: tuple[int, int], new: int) -> list[int]:
    merged, n = [], 0
    while n < len(ids):
        if tuple(ids[n : n + 2]) in (pair, pair[::-1]):
            merged.append(new)
            n += 2
        else:
            merged.append(ids[n])
            n += 1
    return merged


MERGE = Exercise(
    right=_merge,
    trials=lambda: [
        ([5, 1, 2, 7, 1, 2, 2, 1, 9], (1, 2), 300),
        ([1, 1, 1, 4, 1, 1, 1, 1], (1, 1), 300),
    ],
    mistakes=(
        Mistake(
            "only the first",
            _merge_once,
            "only the first place is joined. A merge is done wherever the pair stands.",
        ),
        Mistake(
            "overlapping",
            _merge_overlapping,
            "in 1 1 1 the middle one is used twice. Once joined, a token is gone: go on after it.",
        ),
        Mistake(
            "either order",
            _merge_either,
            "you also join the pair the other way round; 'ab' and 'ba' are different pairs.",
        ),
    ),
)

# --- concepts/embeddings.md -----------------------------------------------------------------------


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T


COSINE = Exercise(
    right=_cosine,
    trials=lambda: [(3 * _random(4, 8), _random(5, 8, seed=1))],
    mistakes=(
        Mistake(
            "not normalized",
            lambda a, b: a @ b.T,
            "these are dot products of vectors whose lengths still count. Divide each vector by"
            " its length first.",
        ),
        Mistake(
            "wrong axis",
            lambda a, b: F.normalize(a, dim=0) @ F.normalize(b, dim=0).T,
            "you have normalized over axis 0, which runs over the examples: each feature has"
            " length one now, and no vector has. Use the last axis.",
        ),
        Mistake(
            "one length for all",
            lambda a, b: (a / a.norm()) @ (b / b.norm()).T,
            "norm() without an axis is the length of the whole matrix, one number for all rows."
            " Each row needs its own: dim=-1, keepdim=True.",
        ),
        Mistake(
            "only one side",
            lambda a, b: F.normalize(a, dim=-1) @ b.T,
            "only the first argument is normalized. Normalize both.",
        ),
    ),
)


def _two_sides() -> tuple[Tensor, Tensor]:
    return F.normalize(_random(4, 8), dim=-1), F.normalize(_random(4, 8, seed=1), dim=-1)


CHOOSE_TEXT = Exercise(
    right=lambda image_emb, text_emb, temperature: (image_emb @ text_emb.T / temperature).softmax(
        1
    ),
    trials=lambda: [(*_two_sides(), 0.1)],
    mistakes=(
        Mistake(
            "wrong axis",
            lambda image_emb, text_emb, temperature: (image_emb @ text_emb.T / temperature).softmax(
                0
            ),
            "your columns add up to one: for each text you choose among the pictures. To choose"
            " among the texts for each picture, take the softmax along a row: dim=1.",
        ),
        Mistake(
            "temperature forgotten",
            lambda image_emb, text_emb, temperature: (image_emb @ text_emb.T).softmax(1),
            "the temperature is not used. Cosines lie between -1 and 1, so without it no softmax"
            " can be sharp.",
        ),
        Mistake(
            "multiplied by the temperature",
            lambda image_emb, text_emb, temperature: (image_emb @ text_emb.T * temperature).softmax(
                1
            ),
            "you multiply by the temperature. A low temperature should make the choice sharper:"
            " divide.",
        ),
        Mistake(
            "no softmax",
            lambda image_emb, text_emb, temperature: image_emb @ text_emb.T / temperature,
            "these are logits. A softmax turns a row of them into probabilities.",
        ),
    ),
)


def _recall(scores: Tensor, k: int, ties_hit: bool = False, limit: int = 0) -> Tensor:
    own = scores.diagonal()[:, None]
    ahead = (scores > own).sum(1) if ties_hit else (scores >= own).sum(1) - 1
    return (ahead < k + limit).float().mean()


def _scores() -> Tensor:
    return _random(12, 12, seed=3) + 0.6 * torch.eye(12)


def _tied() -> Tensor:
    return _random(12, 12, seed=5).round()


RECALL = Exercise(
    right=_recall,
    trials=lambda: [(_scores(), 1), (_scores(), 3), (_tied(), 3), (torch.zeros(4, 4), 1)],
    mistakes=(
        Mistake(
            "columns",
            lambda scores, k: _recall(scores.T, k),
            "you rank along the columns, which is the other direction: pictures for a text.",
        ),
        Mistake(
            "ties hit",
            lambda scores, k: _recall(scores, k, ties_hit=True),
            "a tie counts as found here. Then a model that scores everything alike is perfect."
            " Count how many others score as high or higher.",
        ),
        Mistake(
            "lowest first",
            lambda scores, k: _recall(-scores, k),
            "you rank from the lowest score up.",
        ),
        Mistake(
            "one too many",
            lambda scores, k: _recall(scores, k, limit=1),
            "that is recall at k + 1: with k others ahead, the right one is number k + 1.",
        ),
    ),
)


def _one_way(image_emb: Tensor, text_emb: Tensor, scale: float) -> Tensor:
    logits = scale * image_emb @ text_emb.T
    return F.cross_entropy(logits, torch.arange(len(logits)))


CONTRASTIVE_LOSS = Exercise(
    right=clip_loss,
    trials=lambda: [(*_two_sides(), 5.0), (*_two_sides(), 1.0)],
    mistakes=(
        Mistake(
            "pictures only",
            _one_way,
            "only the rows are there: each picture picks its text. Let each text pick too, with"
            " the matrix transposed.",
        ),
        Mistake(
            "texts only",
            lambda image_emb, text_emb, scale: _one_way(text_emb, image_emb, scale),
            "only the columns are there: each text picks its picture. Let each picture pick too.",
        ),
        Mistake(
            "sum of both",
            lambda image_emb, text_emb, scale: 2 * clip_loss(image_emb, text_emb, scale),
            "that is the sum of both directions. The gradient points the same way, but the loss"
            " is no longer log B when all logits are equal.",
        ),
        Mistake(
            "scale forgotten",
            lambda image_emb, text_emb, scale: clip_loss(image_emb, text_emb, 1.0),
            "the scale is not used.",
        ),
        Mistake(
            "divided by the scale",
            lambda image_emb, text_emb, scale: clip_loss(image_emb, text_emb, 1 / scale),
            "you divide by the scale. It is one over the temperature already: multiply.",
        ),
        Mistake(
            "every target 0",
            lambda image_emb, text_emb, scale: F.cross_entropy(
                scale * image_emb @ text_emb.T, torch.zeros(len(image_emb), dtype=torch.long)
            ),
            "every target is 0. Row i's own text is number i: torch.arange.",
        ),
    ),
)

# --- concepts/families.md -------------------------------------------------------------------------

PASSES = Exercise(
    right=lambda num_images, num_texts: [num_images + num_texts, num_images * num_texts],
    trials=lambda: [(1000, 5000), (3, 2)],
    mistakes=(
        Mistake(
            "swapped",
            lambda num_images, num_texts: [num_images * num_texts, num_images + num_texts],
            "the two are swapped. Which family can compute a vector before it knows its partner?",
        ),
        Mistake(
            "both by pairs",
            lambda num_images, num_texts: [num_images * num_texts] * 2,
            "a dual encoder needs each picture and each text once; comparing vectors is no pass.",
        ),
        Mistake(
            "both by items",
            lambda num_images, num_texts: [num_images + num_texts] * 2,
            "a fusion encoder reads a picture and a text together, so each pair is a pass.",
        ),
    ),
)


def _rerank(dual: Tensor, fused: Tensor, k: int) -> Tensor:
    short = dual.topk(k, dim=1).indices
    return short.gather(1, fused.gather(1, short).argmax(1, keepdim=True))[:, 0]


RERANK = Exercise(
    right=_rerank,
    trials=lambda: [(_random(8, 20, seed=7), _random(8, 20, seed=8), 4)],
    mistakes=(
        Mistake(
            "everything fused",
            lambda dual, fused, k: fused.argmax(1),
            "you look at the fusion encoder's scores of all texts. They may be computed for the"
            " short list only, the k best by the dual encoder.",
        ),
        Mistake(
            "nothing fused",
            lambda dual, fused, k: dual.argmax(1),
            "this is the dual encoder's own choice: the fusion encoder changes nothing.",
        ),
        Mistake(
            "place in the short list",
            lambda dual, fused, k: fused.gather(1, dual.topk(k, dim=1).indices).argmax(1),
            "these are places in the short list, 0 to k - 1. Which text stands there?",
        ),
        Mistake(
            "worst on the list",
            lambda dual, fused, k: _rerank(-dual, fused, k),
            "your short list holds the k worst.",
        ),
    ),
)

PROMPT_LENGTH = Exercise(
    right=lambda size, patch, num_words: (size // patch) ** 2 + num_words,
    trials=lambda: [(336, 14, 40), (64, 8, 12)],
    mistakes=(
        Mistake(
            "one side",
            lambda size, patch, num_words: size // patch + num_words,
            "that is one row of patches. A picture has as many rows as columns.",
        ),
        Mistake(
            "class token kept",
            lambda size, patch, num_words: (size // patch) ** 2 + 1 + num_words,
            "one too many: LLaVA leaves the class token out.",
        ),
        Mistake(
            "one token a picture",
            lambda size, patch, num_words: 1 + num_words,
            "the picture is not one token: each of its patches becomes one.",
        ),
    ),
)

# --- concepts/evaluation.md -----------------------------------------------------------------------

HALF_WIDTH = Exercise(
    right=lambda share, num: 1.96 * math.sqrt(share * (1 - share) / num),
    trials=lambda: [(0.5, 100), (0.9, 400)],
    mistakes=(
        Mistake(
            "one standard error",
            lambda share, num: math.sqrt(share * (1 - share) / num),
            "that is one standard error, which holds two thirds of the cases. For 95 % take 1.96.",
        ),
        Mistake(
            "no root",
            lambda share, num: 1.96 * share * (1 - share) / num,
            "that has a variance in it. The spread is its square root.",
        ),
        Mistake(
            "items forgotten",
            lambda share, num: 1.96 * math.sqrt(share * (1 - share)),
            "that is the spread of single items. A mean of num items spreads less.",
        ),
        Mistake(
            "full width",
            lambda share, num: 2 * 1.96 * math.sqrt(share * (1 - share) / num),
            "that is the whole width. Half of it stands on either side.",
        ),
    ),
)


def _majority(train: list[int], test: list[int]) -> float:
    top = max(set(train), key=train.count)
    return sum(answer == top for answer in test) / len(test)


MAJORITY = Exercise(
    right=_majority,
    trials=lambda: [([1, 1, 1, 2, 2, 3], [1, 2, 2, 2, 3, 3, 1, 3])],
    mistakes=(
        Mistake(
            "looked at the test",
            lambda train, test: _majority(test, test),
            "you take the test set's most frequent answer. A baseline may not look at the answers"
            " that it is graded by.",
        ),
        Mistake(
            "graded on train",
            lambda train, test: _majority(train, train),
            "that is the accuracy on train. Grade the answer on test.",
        ),
        Mistake(
            "uniform guess",
            lambda train, test: 1 / len(set(train)),
            "that is chance. The majority baseline always gives one and the same answer.",
        ),
    ),
)

RESAMPLED = Exercise(
    right=lambda a, b, picks: (a[picks] - b[picks]).mean(1),
    trials=lambda: [
        (
            (_random(12) > 0).float(),
            (_random(12, seed=1) > 0).float(),
            torch.randint(12, (5, 12), generator=torch.Generator().manual_seed(2)),
        )
    ],
    mistakes=(
        Mistake(
            "b as it was",
            lambda a, b, picks: a[picks].mean(1) - b.mean(),
            "only a is resampled. A pair stays together: use the same picks for b.",
        ),
        Mistake(
            "not resampled",
            lambda a, b, picks: (a - b).mean().expand(len(picks)),
            "all values are the difference of the original items. Use picks, a row for each"
            " resample.",
        ),
        Mistake(
            "wrong axis",
            lambda a, b, picks: (a[picks] - b[picks]).mean(0),
            "you have averaged over the resamples. Average over the items of each: axis 1.",
        ),
        Mistake(
            "wrong sign",
            lambda a, b, picks: (b[picks] - a[picks]).mean(1),
            "this is b minus a.",
        ),
    ),
)

LEAKED = Exercise(
    right=lambda train, test: sum(group in set(train) for group in test) / len(test),
    trials=lambda: [([1, 1, 1, 1, 2, 3, 3], [3, 3, 3, 3, 4, 4, 5])],
    mistakes=(
        Mistake(
            "groups, not items",
            lambda train, test: len(set(train) & set(test)) / len(set(test)),
            "you count groups once each. A group with many items does more harm: count items.",
        ),
        Mistake(
            "of train",
            lambda train, test: sum(group in set(test) for group in train) / len(train),
            "that is the share of train that occurs in test. It is the test that must be clean.",
        ),
        Mistake(
            "the clean ones",
            lambda train, test: sum(group not in set(train) for group in test) / len(test),
            "that is the share that has not leaked.",
        ),
    ),
)

EXERCISES = {
    "batch-bytes": BATCH_BYTES,
    "caption-bits": CAPTION_BITS,
    "false-negatives": FALSE_NEGATIVES,
    "normalize": NORMALIZE,
    "patchify": PATCHIFY,
    "padding-mask": PADDING_MASK,
    "merge": MERGE,
    "cosine": COSINE,
    "choose-text": CHOOSE_TEXT,
    "recall": RECALL,
    "contrastive-loss": CONTRASTIVE_LOSS,
    "passes": PASSES,
    "rerank": RERANK,
    "prompt-length": PROMPT_LENGTH,
    "half-width": HALF_WIDTH,
    "majority": MAJORITY,
    "resampled": RESAMPLED,
    "leaked": LEAKED,
}
