"""The exercises of the chapter on CLIP, page by page. Book: clip.md and those under it."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vlmbook.evaluate import class_embeddings, winoground
from vlmbook.exercises import Exercise, Mistake, Result, judge
from vlmbook.geometry import modality_gap
from vlmbook.losses import same_texts, siglip_loss
from vlmbook.retrieval import ranks


def check(name: str, answer: Any) -> Result:
    """What is right or wrong with an answer to one of this chapter's exercises."""
    return judge(EXERCISES, name, answer)


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(_random(*shape, seed=seed), dim=-1)


# --- clip.md --------------------------------------------------------------------------------------


def _zero_shot(image_emb: Tensor, class_emb: Tensor, scale: float) -> Tensor:
    scores = F.normalize(image_emb, dim=1) @ F.normalize(class_emb, dim=1).T
    return (scale * scores).softmax(1)


ZERO_SHOT = Exercise(
    right=_zero_shot,
    trials=lambda: [
        (3 * _random(4, 6), _random(5, 6, seed=1), 2.0),
        (_random(3, 6, seed=2), _random(3, 6, seed=3) * torch.tensor([[1.0], [5.0], [0.2]]), 8.0),
    ],
    mistakes=(
        Mistake(
            "lengths count",
            lambda x, y, s: (s * x @ y.T).softmax(1),
            "long vectors win more often than they should. Bring all of them to length one first.",
        ),
        Mistake(
            "only the pictures are normalised",
            lambda x, y, s: (s * F.normalize(x, dim=1) @ y.T).softmax(1),
            "the classes' vectors still have lengths of their own.",
        ),
        Mistake(
            "pictures compete",
            lambda x, y, s: _zero_shot(y, x, s).T,
            "each class divides one among the pictures. It is the classes that compete for a"
            " picture: along which axis does the softmax go?",
        ),
        Mistake(
            "no scale",
            lambda x, y, s: _zero_shot(x, y, 1.0),
            "cosines lie between -1 and 1, so this softmax is nearly flat. What is scale for?",
        ),
        Mistake(
            "temperature for scale",
            lambda x, y, s: _zero_shot(x, y, 1 / s),
            "scale is the inverse of the temperature already: multiply by it.",
        ),
        Mistake(
            "names, not probabilities",
            lambda x, y, s: _zero_shot(x, y, s).argmax(1),
            "that is the best class of each picture; its probabilities are asked for.",
        ),
    ),
)


def _ids() -> list[tuple]:
    rows = [[1, 7, 3, 0], [1, 8, 9, 3], [1, 7, 3, 0], [1, 9, 8, 3], [1, 7, 3, 0], [1, 8, 9, 3]]
    return [(torch.tensor(rows),), (torch.tensor(rows[:4]),)]


def _soft_targets(ids: Tensor) -> Tensor:
    same = same_texts(ids).float()
    return same / same.sum(1, keepdim=True)


SOFT_TARGETS = Exercise(
    right=_soft_targets,
    trials=_ids,
    mistakes=(
        Mistake(
            "the diagonal alone",
            lambda ids: torch.eye(len(ids)),
            "an equal caption elsewhere in the batch still counts as wrong.",
        ),
        Mistake(
            "not shared",
            lambda ids: same_texts(ids).float(),
            "a row adds up to how often its caption occurs. Targets are a distribution: 1 in all.",
        ),
        Mistake(
            "any token in common",
            lambda ids: F.normalize((ids[:, None] == ids[None]).any(-1).float(), p=1, dim=1),
            "captions that share one token count as equal. All of their tokens have to agree.",
        ),
        Mistake(
            "the same tokens, in any order",
            lambda ids: _soft_targets(ids.sort(dim=1).values),
            "captions with the same tokens in another order count as equal.",
        ),
        Mistake(
            "divided by the batch",
            lambda ids: same_texts(ids).float() / len(ids),
            "each row is divided by the size of the batch, not by how often its caption occurs.",
        ),
    ),
)

LEAST_LOSS = Exercise(
    right=lambda ids: same_texts(ids).sum(1).float().log().mean(),
    trials=_ids,
    mistakes=(
        Mistake(
            "zero",
            lambda ids: 0.0,
            "that needs a probability of one for each of several equal captions. They have to"
            " share one.",
        ),
        Mistake(
            "a guess",
            lambda ids: math.log(len(ids)),
            "that is the loss of a model that can tell nothing apart. What can the best one do?",
        ),
        Mistake(
            "log of the mean",
            lambda ids: same_texts(ids).sum(1).float().mean().log(),
            "you take the logarithm of the mean; the loss is a mean of logarithms.",
        ),
        Mistake(
            "a mean over different captions",
            lambda ids: torch.unique(ids, dim=0, return_counts=True)[1].float().log().mean(),
            "each different caption counts once. The loss is a mean over the pairs of the batch, so"
            " a caption that occurs three times counts three times.",
        ),
        Mistake(
            "a sum",
            lambda ids: same_texts(ids).sum(1).float().log().sum(),
            "that is the sum over the batch; the loss is a mean.",
        ),
    ),
)


def _push(row: Tensor, own: int, temperature: float) -> Tensor:
    wrong = (row / temperature).softmax(0)
    wrong[own] = 0.0
    return wrong / wrong.sum()


def _push_alike(row: Tensor, own: int, temperature: float) -> Tensor:
    wrong = torch.ones_like(row)
    wrong[own] = 0.0
    return wrong / wrong.sum()


def _push_by_cosine(row: Tensor, own: int, temperature: float) -> Tensor:
    wrong = row.clone()
    wrong[own] = 0.0
    return wrong / wrong.sum()


PUSH = Exercise(
    right=_push,
    trials=lambda: [
        (torch.tensor([0.1, 0.3, 0.2, 0.25]), 1, 0.1),
        (torch.tensor([0.9, 0.3, 0.7, 0.1, 0.5]), 0, 0.5),
    ],
    mistakes=(
        Mistake(
            "its own among them",
            lambda row, own, t: (row / t).softmax(0),
            "its own caption has a share. That one is pulled; what is asked is who is pushed.",
        ),
        Mistake(
            "the force itself",
            lambda row, own, t: (row / t).softmax(0) * (torch.arange(len(row)) != own) / t,
            "that is the derivative, the force itself. Its share among the wrong captions is asked"
            " for.",
        ),
        Mistake(
            "they do not add up",
            lambda row, own, t: (row / t).softmax(0) * (torch.arange(len(row)) != own),
            "the shares of the wrong captions do not add up to one.",
        ),
        Mistake(
            "all alike",
            _push_alike,
            "all wrong captions are pushed with the same force. Derive the loss: which factor do"
            " you get for each?",
        ),
        Mistake(
            "in proportion to the cosine",
            _push_by_cosine,
            "the force does not grow with the cosine itself. Where does the exponential come in?",
        ),
        Mistake(
            "scale for temperature",
            lambda row, own, t: _push(row, own, 1 / t),
            "you multiply by the temperature. Low temperatures make a softmax sharper.",
        ),
    ),
)


# --- clip/measured.md -----------------------------------------------------------------------------

ENSEMBLE = Exercise(
    right=class_embeddings,
    trials=lambda: [
        (_random(3, 4, 6) * torch.tensor([1.0, 3.0, 0.3, 1.0])[:, None],),
        (_random(2, 1, 6, seed=1),),
    ],
    mistakes=(
        Mistake(
            "a mean of any length",
            lambda text_emb: F.normalize(text_emb, dim=-1).mean(1),
            "the mean of unit vectors is shorter than one, and shorter for classes whose prompts"
            " disagree. Bring it to length one.",
        ),
        Mistake(
            "long prompts count more",
            lambda text_emb: F.normalize(text_emb.mean(1), dim=-1),
            "prompts with longer vectors count for more in the mean. Normalise each of them first.",
        ),
        Mistake(
            "no normalising",
            lambda text_emb: text_emb.mean(1),
            "neither the prompts' vectors nor their mean has length one.",
        ),
        Mistake(
            "a mean over the classes",
            lambda text_emb: F.normalize(F.normalize(text_emb, dim=-1).mean(0), dim=-1),
            "that averages over the classes and leaves the prompts. Which axis is K?",
        ),
    ),
)


def _rank_trials() -> list[tuple]:
    scores = torch.tensor([[0.9, 0.9, 0.1, 0.5], [0.2, 0.3, 0.3, 0.8], [0.5, 0.5, 0.5, 0.5]])
    relevant = torch.zeros(3, 4, dtype=torch.bool)
    relevant[0, [1, 3]] = relevant[1, [0, 2]] = relevant[2, 1] = True
    tied = torch.tensor([[0.7, 0.7, 0.9, 0.1]]), torch.tensor([[True, True, False, False]])
    return [(scores, relevant), (_random(3, 4, seed=5), relevant), tied]


def _by_order(scores: Tensor, relevant: Tensor) -> Tensor:
    order = scores.argsort(dim=1, descending=True, stable=True)
    return 1 + relevant.gather(1, order).int().argmax(1)


def _generous(scores: Tensor, relevant: Tensor) -> Tensor:
    best = scores.masked_fill(~relevant, -math.inf).amax(1, keepdim=True)
    return 1 + ((scores > best) & ~relevant).sum(1)


def _worst(scores: Tensor, relevant: Tensor) -> Tensor:
    worst = scores.masked_fill(~relevant, math.inf).amin(1, keepdim=True)
    return 1 + ((scores >= worst) & ~relevant).sum(1)


RANK = Exercise(
    right=ranks,
    trials=_rank_trials,
    mistakes=(
        Mistake(
            "ties are won",
            _generous,
            "a wrong item with the same score is ranked behind the right one. A model that gives"
            " the same score to all would be perfect.",
        ),
        Mistake(
            "ties go by order",
            _by_order,
            "among equal scores the order of the gallery decides. Sort nothing: count what stands"
            " before.",
        ),
        Mistake(
            "relevant items stand in the way",
            lambda scores, relevant: (
                scores >= scores.masked_fill(~relevant, -math.inf).amax(1, keepdim=True)
            ).sum(1),
            "another relevant item with the same score counts as one that stands before. Only"
            " irrelevant ones do.",
        ),
        Mistake(
            "counted from zero",
            lambda scores, relevant: ranks(scores, relevant) - 1,
            "the best place is called 1 here.",
        ),
        Mistake(
            "the last relevant item",
            _worst,
            "you look for the worst of the relevant items. It is enough to find one.",
        ),
    ),
)


def _honest(chosen_on: Tensor, reported_on: Tensor) -> Tensor:
    return reported_on[chosen_on.float().mean(1).argmax()].float().mean()


HONEST = Exercise(
    right=_honest,
    trials=lambda: [
        (_random(6, 50) > 0, _random(6, 40, seed=1) > 0),
        (_random(4, 30, seed=2) > -0.5, _random(4, 30, seed=6) > -0.5),
    ],
    mistakes=(
        Mistake(
            "chosen where it is reported",
            lambda chosen_on, reported_on: reported_on.float().mean(1).amax(),
            "the template is chosen by the very pictures that are reported. Its score holds the"
            " luck for which it was chosen.",
        ),
        Mistake(
            "reported where it was chosen",
            lambda chosen_on, reported_on: chosen_on.float().mean(1).amax(),
            "that is the score on the pictures by which it was chosen. Report the other ones.",
        ),
        Mistake(
            "the mean of all templates",
            lambda chosen_on, reported_on: reported_on.float().mean(),
            "that is what a template has on average; one is chosen.",
        ),
        Mistake(
            "all pictures together",
            lambda chosen_on, reported_on: (
                torch.cat([chosen_on, reported_on], 1).float().mean(1).amax()
            ),
            "the pictures that were used for choosing count in the score, too.",
        ),
    ),
)


# --- clip/space.md --------------------------------------------------------------------------------

GAP = Exercise(
    right=modality_gap,
    trials=lambda: [
        (_unit(5, 4), _unit(5, 4, seed=1)),
        (
            F.normalize(_random(7, 4, seed=2) + 1, dim=1),
            F.normalize(_random(7, 4, seed=3) - 1, dim=1),
        ),
    ],
    mistakes=(
        Mistake(
            "distance of partners",
            lambda x, y: (x - y).norm(dim=1).mean(),
            "that is the mean distance of partners. The gap is the distance of the two means.",
        ),
        Mistake(
            "squared",
            lambda x, y: (x.mean(0) - y.mean(0)).pow(2).sum(),
            "that is the squared distance.",
        ),
        Mistake(
            "signed",
            lambda x, y: (x.mean(0) - y.mean(0)).mean(),
            "differences of opposite sign cancel out. A distance is a length.",
        ),
        Mistake(
            "one minus the cosine",
            lambda x, y: 1 - F.cosine_similarity(x.mean(0), y.mean(0), dim=0),
            "the cosine forgets how long the means are.",
        ),
    ),
)


def _siglip(image_emb: Tensor, text_emb: Tensor, scale: float, bias: float) -> Tensor:
    return siglip_loss(image_emb, text_emb, scale, bias)


def _signs(num: int) -> Tensor:
    return 2 * torch.eye(num) - 1


SIGMOID = Exercise(
    right=_siglip,
    trials=lambda: [
        (_unit(4, 6), _unit(4, 6, seed=1), 10.0, -10.0),
        (_unit(3, 6, seed=2), _unit(3, 6, seed=3), 5.0, -1.0),
    ],
    mistakes=(
        Mistake(
            "a mean over all cells",
            lambda x, y, s, b: _siglip(x, y, s, b) / len(x),
            "you average over the texts as well. The loss is the sum over the texts of a picture,"
            " averaged over the pictures.",
        ),
        Mistake(
            "the pairs alone",
            lambda x, y, s, b: -F.logsigmoid((s * x @ y.T + b).diagonal()).mean(),
            "only the pairs that fit are asked. Without the others, a large bias solves it.",
        ),
        Mistake(
            "the bias outside of the sign",
            lambda x, y, s, b: -F.logsigmoid(_signs(len(x)) * (s * x @ y.T) + b).sum(1).mean(),
            "the sign turns the whole logit round, the bias included.",
        ),
        Mistake(
            "no bias",
            lambda x, y, s, b: _siglip(x, y, s, 0.0),
            "the bias is left out.",
        ),
        Mistake(
            "signs the wrong way round",
            lambda x, y, s, b: -F.logsigmoid(-_signs(len(x)) * (s * x @ y.T + b)).sum(1).mean(),
            "you punish the pairs that fit.",
        ),
    ),
)

FIRST_LOSS = Exercise(
    right=64 * math.log(2),
    mistakes=(
        Mistake(
            "one cell",
            math.log(2),
            "that is one cell. How many does a picture have in a batch of 64?",
        ),
        Mistake(
            "all cells",
            64 * 64 * math.log(2),
            "that is the sum over the pictures too; the loss is their mean.",
        ),
        Mistake(
            "a softmax",
            math.log(64),
            "that is where a softmax begins. Here every cell is a yes-or-no question.",
        ),
        Mistake(
            "one half of them",
            64 * 0.5,
            "a probability of one half is not the loss; its negative logarithm is.",
        ),
    ),
)


# --- clip/limits.md -------------------------------------------------------------------------------


def _group(scores: Tensor) -> Tensor:
    return winoground(scores)[2].float().mean()


WINOGROUND = Exercise(
    right=_group,
    trials=lambda: [
        (
            torch.tensor(
                [
                    [[0.9, 0.1], [0.2, 0.8]],
                    [[0.5, 0.4], [0.6, 0.7]],
                    [[0.3, 0.3], [0.1, 0.5]],
                    [[0.5, 0.2], [0.3, 0.4]],
                    [[0.9, 0.8], [0.5, 0.6]],
                ]
            ),
        ),
        (_random(40, 2, 2),),
    ],  # fmt: skip
    mistakes=(
        Mistake(
            "text score",
            lambda scores: winoground(scores)[0].float().mean(),
            "each picture chooses its caption; each caption must choose its picture, too.",
        ),
        Mistake(
            "image score",
            lambda scores: winoground(scores)[1].float().mean(),
            "each caption chooses its picture; each picture must choose its caption, too.",
        ),
        Mistake(
            "either",
            lambda scores: (winoground(scores)[0] | winoground(scores)[1]).float().mean(),
            "one of the two is enough for you. The group score wants both.",
        ),
        Mistake(
            "the sum of the right against the sum of the wrong",
            lambda scores: (
                (scores[:, 0, 0] + scores[:, 1, 1] > scores[:, 0, 1] + scores[:, 1, 0])
                .float()
                .mean()
            ),
            "two large scores can make up for a wrong choice. All four comparisons have to hold.",
        ),
        Mistake(
            "a product of the two",
            lambda scores: (
                winoground(scores)[0].float().mean() * winoground(scores)[1].float().mean()
            ),
            "both have to hold for the same item; a product of the two shares is something else.",
        ),
    ),
)


def _negclip(image_emb: Tensor, text_emb: Tensor, false_emb: Tensor, scale: float) -> Tensor:
    logits = scale * image_emb @ text_emb.T
    wide = torch.cat([logits, scale * image_emb @ false_emb.T], dim=1)
    own = torch.arange(len(logits))
    return (F.cross_entropy(wide, own) + F.cross_entropy(logits.T, own)) / 2


def _own_false_alone(x: Tensor, y: Tensor, false: Tensor, scale: float) -> Tensor:
    logits = scale * x @ y.T
    wide = torch.cat([logits, scale * (x * false).sum(1, keepdim=True)], dim=1)
    own = torch.arange(len(logits))
    return (F.cross_entropy(wide, own) + F.cross_entropy(logits.T, own)) / 2


def _false_have_pictures(x: Tensor, y: Tensor, false: Tensor, scale: float) -> Tensor:
    logits = scale * x @ torch.cat([y, false]).T
    own = torch.arange(len(x))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own.repeat(2))) / 2


NEGCLIP = Exercise(
    right=_negclip,
    trials=lambda: [
        (_unit(4, 6), _unit(4, 6, seed=1), _unit(4, 6, seed=2), 5.0),
        (_unit(3, 6, seed=3), _unit(3, 6, seed=4), _unit(3, 6, seed=5), 10.0),
    ],
    mistakes=(
        Mistake(
            "no false captions",
            lambda x, y, false, s: _negclip(x, y, false[:0], s),
            "the false captions are not used.",
        ),
        Mistake(
            "the own false caption alone",
            _own_false_alone,
            "each picture sees its own false caption only. Those of the others are wrong for it,"
            " too.",
        ),
        Mistake(
            "false captions look for pictures",
            _false_have_pictures,
            "the false captions choose a picture, and are taught to choose one that they do not"
            " describe. They have no picture.",
        ),
        Mistake(
            "pictures alone",
            lambda x, y, false, s: F.cross_entropy(
                s * x @ torch.cat([y, false]).T, torch.arange(len(x))
            ),
            "the captions choose nothing. The loss has two halves.",
        ),
    ),
)

TWO_WAY = Exercise(
    right=lambda true, false: (true > false).float().mean(),
    trials=lambda: [
        (torch.tensor([0.5, 0.2, 0.7, 0.3, 0.3]), torch.tensor([0.4, 0.2, 0.9, 0.3, 0.1])),
        (_random(30), _random(30, seed=1)),
        (torch.ones(4), torch.ones(4)),
    ],
    mistakes=(
        Mistake(
            "ties are won",
            lambda true, false: (true >= false).float().mean(),
            "equality counts as right. A model that gives all captions the same score would be"
            " perfect.",
        ),
        Mistake(
            "ties are half won",
            lambda true, false: ((true > false).float() + 0.5 * (true == false)).mean(),
            "that is fair to a guess, and still pays for having no opinion. A tie is a miss here.",
        ),
        Mistake(
            "means are compared",
            lambda true, false: (true.mean() > false.mean()).float(),
            "you compare the means of all items; each item is a comparison of its own.",
        ),
        Mistake(
            "upside down",
            lambda true, false: (false > true).float().mean(),
            "that is the share in which the false caption wins.",
        ),
        Mistake(
            "any true caption against any false one",
            lambda true, false: (true[:, None] > false[None]).float().mean(),
            "captions of different pictures are compared with each other.",
        ),
    ),
)

EXERCISES = {
    "zero-shot": ZERO_SHOT,
    "soft-targets": SOFT_TARGETS,
    "least-loss": LEAST_LOSS,
    "push": PUSH,
    "ensemble": ENSEMBLE,
    "rank": RANK,
    "honest": HONEST,
    "gap": GAP,
    "sigmoid": SIGMOID,
    "first-loss": FIRST_LOSS,
    "winoground": WINOGROUND,
    "negclip": NEGCLIP,
    "two-way": TWO_WAY,
}
