"""The exercises of the chapter on LLaVA, page by page. Book: llava.md and its pages."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vlmbook.exercises import Exercise, Mistake, Result, judge


def check(name: str, answer: Any) -> Result:
    """What is right or wrong with an answer to one of this chapter's exercises."""
    return judge(EXERCISES, name, answer)


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- llava.md -------------------------------------------------------------------------------------

RMS_NORM = Exercise(
    right=lambda x, w: w * x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt(),
    trials=lambda: [
        (_random(3, 8) + 1, _random(8, seed=1)),
        (5 * _random(2, 4, 6, seed=2) - 2, _random(6, seed=3)),
    ],
    mistakes=(
        Mistake(
            "LayerNorm",
            lambda x, w: w * F.layer_norm(x, x.shape[-1:], eps=1e-6),
            "the mean is taken off. RMSNorm leaves it in.",
        ),
        Mistake(
            "LayerNorm, by hand",
            lambda x, w: w * (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True),
            "the mean is taken off, and the size is measured from it. RMSNorm leaves it in.",
        ),
        Mistake(
            "the sum of squares",
            lambda x, w: w * x / (x.pow(2).sum(-1, keepdim=True) + 1e-6).sqrt(),
            "the squares are added up. Their mean is asked for.",
        ),
        Mistake(
            "no root",
            lambda x, w: w * x / (x.pow(2).mean(-1, keepdim=True) + 1e-6),
            "x is divided by the mean square, not by its root.",
        ),
        Mistake(
            "over all numbers",
            lambda x, w: w * x / (x.pow(2).mean() + 1e-6).sqrt(),
            "all vectors are divided by one number. Each has a size of its own.",
        ),
        Mistake(
            "no weight",
            lambda x, w: x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt(),
            "the weight is missing.",
        ),
    ),
)


def _put_in(x: Tensor, places: Tensor, tokens: Tensor) -> Tensor:
    x = x.clone()
    x[places] = tokens
    return x


def _at(num: int, *places: int) -> Tensor:
    found = torch.zeros(num, dtype=torch.bool)
    found[list(places)] = True
    return found


PUT_IN = Exercise(
    right=_put_in,
    trials=lambda: [
        (_random(6, 3), _at(6, 1, 2, 3), _random(3, 3, seed=1)),
        (_random(7, 2, seed=2), _at(7, 0, 4, 5), _random(3, 2, seed=3)),
    ],
    mistakes=(
        Mistake(
            "added",
            lambda x, p, t: _put_in(x, p, x[p] + t),
            "the picture is added to the placeholders. It should replace them.",
        ),
        Mistake(
            "in front",
            lambda x, p, t: torch.cat([t, x[~p]]),
            "the picture stands before everything. It should stand where the placeholders were.",
        ),
        Mistake(
            "backwards",
            lambda x, p, t: _put_in(x, p, t.flip(0)),
            "the picture's tokens are in the opposite order.",
        ),
        Mistake(
            "from the first place on",
            lambda x, p, t: torch.cat(
                [x[: int(p.int().argmax())], t, x[int(p.int().argmax()) + len(t) :]]
            ),
            "the tokens are put one after another from the first placeholder on. Each belongs to a"
            " placeholder, wherever that is.",
        ),
        Mistake(
            "the others",
            lambda x, p, t: torch.where(p[:, None], x, t.mean(0)),
            "what is not a placeholder is replaced, and the placeholders are kept.",
        ),
    ),
)

INSTRUCTED_LOSS = Exercise(
    right=lambda logits, ids, told: F.cross_entropy(logits[:-1][told[1:]], ids[1:][told[1:]]),
    trials=lambda: [
        (_random(6, 5), torch.tensor([0, 3, 1, 4, 2, 1]), _at(6, 3, 4)),
        (_random(8, 4, seed=1), torch.tensor([1, 0, 3, 2, 1, 3, 0, 2]), _at(8, 2, 5, 7)),
    ],
    mistakes=(
        Mistake(
            "not shifted",
            lambda logits, ids, told: F.cross_entropy(logits[told], ids[told]),
            "row t is asked for token t, which it has seen. It should be asked for token t + 1.",
        ),
        Mistake(
            "told is not shifted",
            lambda logits, ids, told: F.cross_entropy(logits[:-1][told[:-1]], ids[1:][told[:-1]]),
            "told is that of the row, not of the token that the row predicts.",
        ),
        Mistake(
            "everything",
            lambda logits, ids, told: F.cross_entropy(logits[:-1], ids[1:]),
            "all tokens count. Only what the assistant says should.",
        ),
        Mistake(
            "the others",
            lambda logits, ids, told: F.cross_entropy(logits[:-1][~told[1:]], ids[1:][~told[1:]]),
            "what the user says counts, and what the assistant says does not.",
        ),
        Mistake(
            "divided by all",
            lambda logits, ids, told: (
                F.cross_entropy(logits[:-1], ids[1:], reduction="none") * told[1:]
            ).mean(),
            "the sum is divided by the number of all tokens, not of those that count.",
        ),
        Mistake(
            "the sum",
            lambda logits, ids, told: F.cross_entropy(
                logits[:-1][told[1:]], ids[1:][told[1:]], reduction="sum"
            ),
            "this is the sum. The mean is asked for.",
        ),
    ),
)


def _angle(x: Tensor, first: float) -> Tensor:
    place = first + torch.arange(len(x))[:, None]
    return place * 10_000 ** -(torch.arange(0, x.shape[1], 2) / x.shape[1])


def _turned(x: Tensor, angle: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)


def _neighbours(x: Tensor, first: int) -> Tensor:
    order = torch.arange(x.shape[1]).unflatten(0, (-1, 2)).T.flatten()
    found = torch.empty_like(x)
    found[:, order] = _turned(x[:, order], _angle(x, first))
    return found


TURN = Exercise(
    right=lambda x, first: _turned(x, _angle(x, first)),
    trials=lambda: [(_random(4, 6), 0), (_random(3, 8, seed=1), 5)],
    mistakes=(
        Mistake(
            "always from 0",
            lambda x, first: _turned(x, _angle(x, 0)),
            "the first vector is taken to stand at place 0, wherever it stands.",
        ),
        Mistake(
            "from 1",
            lambda x, first: _turned(x, _angle(x, first + 1)),
            "each vector is turned by one place too many.",
        ),
        Mistake(
            "backwards",
            lambda x, first: _turned(x, -_angle(x, first)),
            "pairs turn the other way round. Look at the sign of the sines.",
        ),
        Mistake(
            "neighbours",
            _neighbours,
            "neighbouring numbers are a pair. Here number k and number k + d / 2 are; published"
            " models have both customs, and their weights can't be exchanged without care.",
        ),
        Mistake(
            "one speed",
            lambda x, first: _turned(x, first + torch.arange(len(x))[:, None].float()),
            "all pairs turn at the same speed.",
        ),
        Mistake(
            "half the speed",
            lambda x, first: _turned(
                x,
                (first + torch.arange(len(x))[:, None])
                * 10_000 ** -(torch.arange(x.shape[1] // 2) / x.shape[1]),
            ),
            "the exponent is k / d. It should be 2 k / d.",
        ),
    ),
)


# --- llava/conversation.md ------------------------------------------------------------------------

PICTURE_SHARE = Exercise(
    right=lambda weights, p: weights[:, -1, p].sum(-1).mean(),
    trials=lambda: [
        (_random(2, 5, 5).softmax(-1), _at(5, 1, 2)),
        (_random(3, 6, 6, seed=1).softmax(-1), _at(6, 0, 1, 2, 4)),
    ],
    mistakes=(
        Mistake(
            "the mean",
            lambda weights, p: weights[..., p].mean(),
            "this is the mean weight of an image token, over all tokens that look. What the last"
            " token puts on all of them together is asked for.",
        ),
        Mistake(
            "the mean, of the last token",
            lambda weights, p: weights[:, -1, p].mean(),
            "the weights of the image tokens are averaged. They should be added up.",
        ),
        Mistake(
            "all tokens look",
            lambda weights, p: weights[..., p].sum(-1).mean(),
            "all tokens that look are averaged. The last one is asked for.",
        ),
        Mistake(
            "looked at",
            lambda weights, p: weights[:, p, -1].sum(-1).mean(),
            "rows look and columns are looked at; you have taken what the picture puts on the last"
            " token.",
        ),
        Mistake(
            "heads added up",
            lambda weights, p: weights[:, -1, p].sum(),
            "the heads are added up. Their mean is asked for.",
        ),
        Mistake(
            "the text",
            lambda weights, p: weights[:, -1, ~p].sum(-1).mean(),
            "this is what the last token puts on the text.",
        ),
    ),
)


def _causal(p: Tensor) -> Tensor:
    return torch.ones(len(p), len(p), dtype=torch.bool).tril()


BLINDFOLD = Exercise(
    right=lambda p: _causal(p) & ~(~p[:, None] & p),
    trials=lambda: [(_at(6, 1, 2, 3),), (_at(5, 0, 3),)],
    mistakes=(
        Mistake(
            "nobody looks at the picture",
            lambda p: _causal(p) & ~p,
            "nobody may look at the picture, not even the picture itself.",
        ),
        Mistake(
            "the picture sees no text",
            lambda p: _causal(p) & (p[:, None] == p),
            "the picture may not look at text either. Only the other direction is to be cut.",
        ),
        Mistake(
            "the other way round",
            lambda p: _causal(p) & ~(p[:, None] & ~p),
            "the picture may not look at the text, and the text sees the picture.",
        ),
        Mistake("not causal", lambda p: ~(~p[:, None] & p), "tokens see what comes later."),
        Mistake("only causal", _causal, "the text still sees the picture."),
        Mistake(
            "False is allowed",
            lambda p: ~(_causal(p) & ~(~p[:, None] & p)),
            "the mask is turned around: True should mean that it may be looked at.",
        ),
    ),
)

NEWLY_READ = Exercise(
    right=lambda image, asked, said: [asked[0] + image] + [q + 1 for q in asked[1:]],
    trials=lambda: [(64, [9, 8, 12], [3, 2, 5]), (10, [4, 7], [6, 3])],
    mistakes=(
        Mistake(
            "answers are read again",
            lambda image, asked, said: (
                [asked[0] + image] + [q + a for q, a in zip(asked[1:], said, strict=False)]
            ),
            "the answers are read again. Each of their tokens but the last was read when the next"
            " one was written.",
        ),
        Mistake(
            "the last token is forgotten",
            lambda image, asked, said: [asked[0] + image, *asked[1:]],
            "the last token of an answer was written, and never read; it is still to be.",
        ),
        Mistake(
            "the picture each time",
            lambda image, asked, said: [asked[0] + image] + [q + 1 + image for q in asked[1:]],
            "the picture is read again with each question. Its keys and values are kept.",
        ),
        Mistake(
            "everything each time",
            lambda image, asked, said: [
                image + sum(asked[: n + 1]) + sum(said[:n]) for n in range(len(asked))
            ],
            "this is the whole prompt of each turn. What is kept need not be read again.",
        ),
        Mistake(
            "without the picture",
            lambda image, asked, said: [asked[0]] + [q + 1 for q in asked[1:]],
            "somebody has to read the picture once.",
        ),
    ),
)


# --- llava/stages.md ------------------------------------------------------------------------------


def _inside(low: float, high: float, margin: float) -> bool:
    return -margin <= low and high <= margin


EQUIVALENT = Exercise(
    right=_inside,
    trials=lambda: [
        (-0.01, 0.015, 0.02),
        (-0.05, 0.01, 0.02),
        (-0.01, 0.05, 0.02),
        (0.004, 0.012, 0.02),
        (-0.012, -0.004, 0.02),
        (0.03, 0.06, 0.02),
        (-0.09, -0.04, 0.02),
        (-0.03, 0.04, 0.02),
    ],
    mistakes=(
        Mistake(
            "nothing was found",
            lambda low, high, margin: low <= 0 <= high,
            "this asks whether the interval includes 0. A wide one does, and shows nothing.",
        ),
        Mistake(
            "both",
            lambda low, high, margin: low <= 0 <= high and _inside(low, high, margin),
            "it need not include 0. A difference that is there, and too small to matter, counts.",
        ),
        Mistake(
            "the middle",
            lambda low, high, margin: abs(low + high) / 2 <= margin,
            "this asks about the middle of the interval. All of it must lie within the margin.",
        ),
        Mistake(
            "one side",
            lambda low, high, margin: high <= margin,
            "an effect far below minus the margin is not equal, either.",
        ),
        Mistake(
            "narrow",
            lambda low, high, margin: high - low <= 2 * margin,
            "this asks whether the interval is narrow. It must also lie around 0.",
        ),
        Mistake(
            "it may matter",
            lambda low, high, margin: not _inside(low, high, margin),
            "this is the opposite.",
        ),
    ),
)


def _square(patches: Tensor) -> Tensor:
    side = round(len(patches) ** 0.5)
    return patches.T.unflatten(1, (side, side))[None]


def _rows(found: Tensor) -> Tensor:
    return found[0].flatten(1).T


FEWER = Exercise(
    right=lambda patches, side: _rows(F.adaptive_avg_pool2d(_square(patches), side)),
    trials=lambda: [(_random(16, 3), 2), (_random(36, 2, seed=1), 3), (_random(64, 2, seed=2), 4)],
    mistakes=(
        Mistake(
            "one after another",
            lambda patches, side: patches.unflatten(0, (side**2, -1)).mean(1),
            "patches that follow each other in the row are averaged. Those of a square should be.",
        ),
        Mistake(
            "columns first",
            lambda patches, side: _rows(
                F.adaptive_avg_pool2d(_square(patches), side).transpose(2, 3)
            ),
            "the means are right, and their order is column by column.",
        ),
        Mistake(
            "the largest",
            lambda patches, side: _rows(F.adaptive_max_pool2d(_square(patches), side)),
            "the largest number of each square is taken. The mean is asked for.",
        ),
        Mistake(
            "some are kept",
            lambda patches, side: _rows(
                _square(patches)[
                    ...,
                    :: round(len(patches) ** 0.5) // side,
                    :: round(len(patches) ** 0.5) // side,
                ]
            ),
            "one patch of each square is kept. The mean of all is asked for.",
        ),
        Mistake(
            "the sum",
            lambda patches, side: (
                _rows(F.adaptive_avg_pool2d(_square(patches), side)) * len(patches) / side**2
            ),
            "this is the sum of each square. The mean is asked for.",
        ),
    ),
)


def _seeds(difference: float, spread: float, factor: float = 2 * 2.8**2) -> int:
    return math.ceil(factor * (spread / difference) ** 2)


SEEDS = Exercise(
    right=_seeds,
    trials=lambda: [(0.01, 0.01), (0.02, 0.015), (0.005, 0.02), (0.07, 0.03)],
    mistakes=(
        Mistake(
            "one group",
            lambda difference, spread: _seeds(difference, spread, 2.8**2),
            "this is right for the spread of paired differences. Here seeds are not shared, and"
            " both means vary.",
        ),
        Mistake(
            "not squared",
            lambda difference, spread: math.ceil(2 * 2.8 * spread / difference),
            "half the difference needs four times the seeds; the quotient has to be squared.",
        ),
        Mistake(
            "a coin",
            lambda difference, spread: _seeds(difference, spread, 2 * 1.96**2),
            "with so many, the difference is found in one of two cases. Four of five are asked"
            " for: 1.96 + 0.84.",
        ),
        Mistake(
            "rounded down",
            lambda difference, spread: math.floor(2 * 2.8**2 * (spread / difference) ** 2),
            "this is rounded down. There are no parts of a seed, and fewer are too few.",
        ),
        Mistake(
            "upside down",
            lambda difference, spread: _seeds(spread, difference),
            "the larger the difference, the fewer seeds are needed.",
        ),
    ),
)


# --- llava/invention.md ---------------------------------------------------------------------------


def _made_up(told: list[list[str]], there: list[set[str]]) -> int:
    return sum(t not in s for ts, s in zip(told, there, strict=True) for t in ts)


INVENTED = Exercise(
    right=lambda told, there: _made_up(told, there) / sum(map(len, told)),
    trials=lambda: [
        ([["cube", "cone"], ["egg"], ["cube", "cube", "cone"]], [{"cube"}, {"egg"}, {"cone"}]),
        ([["torus"], [], ["cone", "egg"]], [{"cube", "torus"}, {"egg"}, {"cube", "cone"}]),
    ],
    mistakes=(
        Mistake(
            "descriptions",
            lambda told, there: (
                sum(any(t not in s for t in ts) for ts, s in zip(told, there, strict=True))
                / len(told)
            ),
            "this is the share of descriptions with something invented. The share of mentions is"
            " asked for.",
        ),
        Mistake(
            "each kind once",
            lambda told, there: (
                _made_up([sorted(set(ts)) for ts in told], there) / sum(len(set(t)) for t in told)
            ),
            "a kind counts once a description. Every mention should.",
        ),
        Mistake(
            "mean of descriptions",
            lambda told, there: (
                sum(
                    _made_up([ts], [s]) / max(1, len(ts)) for ts, s in zip(told, there, strict=True)
                )
                / len(told)
            ),
            "this is the mean of each description's share. All mentions should count alike.",
        ),
        Mistake(
            "of what is there",
            lambda told, there: _made_up(told, there) / sum(map(len, there)),
            "the number of what is there divides. The number of mentions should.",
        ),
        Mistake(
            "left out",
            lambda told, there: (
                sum(t not in ts for ts, s in zip(told, there, strict=True) for t in s)
                / sum(map(len, there))
            ),
            "this is the share of what is there that was not mentioned.",
        ),
        Mistake(
            "the right ones",
            lambda told, there: 1 - _made_up(told, there) / sum(map(len, told)),
            "this is the share of mentions that are true.",
        ),
    ),
)

ALWAYS_YES = Exercise(
    right=lambda share: 2 * share / (1 + share),
    trials=lambda: [(0.5,), (0.2,), (0.9,)],
    mistakes=(
        Mistake(
            "precision",
            lambda share: share,
            "this is the precision, and the accuracy. F1 also has the recall in it, which is 1.",
        ),
        Mistake(
            "the mean",
            lambda share: (1 + share) / 2,
            "this is the mean of precision and recall. F1 is their harmonic mean.",
        ),
        Mistake(
            "two thirds",
            lambda share: 2 / 3,
            "this is right only where half of the things are there. In general the share matters.",
        ),
        Mistake("recall", lambda share: 1.0, "this is the recall."),
        Mistake(
            "always no",
            lambda share: 0.0,
            "this is what always saying no has: it finds nothing of what is there.",
        ),
    ),
)


def _kinds(scenes: list[set[str]]) -> list[str]:
    return sorted(set().union(*scenes))


def _together(scenes: list[set[str]], there: set[str]) -> list[int]:
    """How often each kind came with one of those that are there, at most."""
    return [max(sum({kind, t} <= s for s in scenes) for t in there) for kind in _kinds(scenes)]


def _first(scenes: list[set[str]], there: set[str], scores: list[float]) -> int:
    """The place of the absent kind with the highest score."""
    absent = [n for n, kind in enumerate(_kinds(scenes)) if kind not in there]
    return max(absent, key=scores.__getitem__)


def _scenes(text: str) -> list[set[str]]:
    return [set(scene) for scene in text.split()]


TEMPTING = Exercise(
    right=lambda scenes, there: _first(scenes, there, _together(scenes, there)),
    trials=lambda: [
        (_scenes("ab ab ac cd ce c be"), {"a"}),
        (_scenes("ab ac ac db db db c c ce"), {"a", "e"}),
        (_scenes("ac ac bc bd bd bd ab ad ec ec"), {"a", "b"}),
        (_scenes("ac ac ac bc bd bd bd bd be be ae ae ae"), {"a", "b"}),
    ],
    mistakes=(
        Mistake(
            "popular",
            lambda scenes, there: _first(
                scenes, there, [sum(kind in s for s in scenes) for kind in _kinds(scenes)]
            ),
            "this is the kind that was there most often, whatever came with it: POPE's popular"
            " way.",
        ),
        Mistake(
            "what is there",
            lambda scenes, there: _first(scenes, set(), _together(scenes, there)),
            "this kind is there. One that is not is asked for.",
        ),
        Mistake(
            "the rarest",
            lambda scenes, there: _first(scenes, there, [-n for n in _together(scenes, there)]),
            "this is the kind that came least often with what is there.",
        ),
        Mistake(
            "added up",
            lambda scenes, there: _first(
                scenes,
                there,
                [sum({k, t} <= s for s in scenes for t in there) for k in _kinds(scenes)],
            ),
            "the numbers for all that is there are added up. The largest of them counts.",
        ),
    ),
)


# --- llava/tuning.md ------------------------------------------------------------------------------


def _changed(x: Tensor, w: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    return x @ w.T + scale * (x @ a.T) @ b.T


LORA = Exercise(
    right=lambda x, w, a, b, alpha: _changed(x, w, a, b, alpha / len(a)),
    trials=lambda: [
        (_random(3, 6), _random(4, 6, seed=1), _random(2, 6, seed=2), _random(4, 2, seed=3), 8),
        (_random(2, 5), _random(5, 5, seed=4), _random(3, 5, seed=5), _random(5, 3, seed=6), 4),
    ],
    mistakes=(
        Mistake(
            "not divided by the rank",
            lambda x, w, a, b, alpha: _changed(x, w, a, b, alpha),
            "the change is multiplied by alpha. It should be alpha / r.",
        ),
        Mistake(
            "not scaled",
            lambda x, w, a, b, alpha: _changed(x, w, a, b, 1),
            "the change is not scaled.",
        ),
        Mistake(
            "the change alone",
            lambda x, w, a, b, alpha: _changed(x, 0 * w, a, b, alpha / len(a)),
            "the map itself is missing; only its change is there.",
        ),
        Mistake(
            "no change",
            lambda x, w, a, b, alpha: x @ w.T,
            "this is the map without its change.",
        ),
        Mistake(
            "the map is scaled, too",
            lambda x, w, a, b, alpha: alpha / len(a) * _changed(x, w, a, b, 1),
            "the map is scaled along with its change.",
        ),
        Mistake(
            "divided by the width",
            lambda x, w, a, b, alpha: _changed(x, w, a, b, alpha / a.shape[1]),
            "the change is divided by the width n. It should be the rank r.",
        ),
    ),
)

MERGED = Exercise(
    right=lambda w, a, b, alpha: w + alpha / len(a) * b @ a,
    trials=lambda: [
        (_random(4, 6, seed=1), _random(2, 6, seed=2), _random(4, 2, seed=3), 8),
        (_random(5, 5, seed=4), _random(3, 5, seed=5), _random(5, 3, seed=6), 4),
    ],
    mistakes=(
        Mistake(
            "not divided by the rank",
            lambda w, a, b, alpha: w + alpha * b @ a,
            "the change is multiplied by alpha. It should be alpha / r.",
        ),
        Mistake("not scaled", lambda w, a, b, alpha: w + b @ a, "the change is not scaled."),
        Mistake(
            "the change alone",
            lambda w, a, b, alpha: alpha / len(a) * b @ a,
            "this is the change. The map with its change is asked for.",
        ),
        Mistake(
            "taken off",
            lambda w, a, b, alpha: w - alpha / len(a) * b @ a,
            "the change is taken off. That is how one gets the old weights back.",
        ),
        Mistake(
            "divided by the width",
            lambda w, a, b, alpha: w + alpha / a.shape[1] * b @ a,
            "the change is divided by the width n. It should be the rank r.",
        ),
    ),
)

LORA_WEIGHTS = Exercise(
    right=lambda shapes, r: sum(r * (m + n) for m, n in shapes) / sum(m * n for m, n in shapes),
    trials=lambda: [([(256, 256), (128, 256), (704, 256)], 8), ([(4096, 4096), (10, 20)], 4)],
    mistakes=(
        Mistake(
            "one matrix",
            lambda shapes, r: sum(r * m for m, n in shapes) / sum(m * n for m, n in shapes),
            "only B is counted. A has r n numbers.",
        ),
        Mistake(
            "the other matrix",
            lambda shapes, r: sum(r * n for m, n in shapes) / sum(m * n for m, n in shapes),
            "only A is counted. B has m r numbers.",
        ),
        Mistake(
            "mean of the maps",
            lambda shapes, r: sum(r * (m + n) / (m * n) for m, n in shapes) / len(shapes),
            "this is the mean of each map's share. Large maps should count for more.",
        ),
        Mistake(
            "the number",
            lambda shapes, r: sum(r * (m + n) for m, n in shapes),
            "this is how many are added. Their share is asked for.",
        ),
        Mistake(
            "of all",
            lambda shapes, r: (
                sum(r * (m + n) for m, n in shapes) / sum(m * n + r * (m + n) for m, n in shapes)
            ),
            "this is their share of all weights afterwards. It should be relative to the maps.",
        ),
    ),
)


EXERCISES = {
    "rms-norm": RMS_NORM,
    "put-in": PUT_IN,
    "instructed-loss": INSTRUCTED_LOSS,
    "turn": TURN,
    "picture-share": PICTURE_SHARE,
    "blindfold": BLINDFOLD,
    "newly-read": NEWLY_READ,
    "equivalent": EQUIVALENT,
    "fewer": FEWER,
    "seeds": SEEDS,
    "invented": INVENTED,
    "always-yes": ALWAYS_YES,
    "tempting": TEMPTING,
    "lora": LORA,
    "merged": MERGED,
    "lora-weights": LORA_WEIGHTS,
}
