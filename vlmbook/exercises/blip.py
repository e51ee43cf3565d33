"""The exercises of the chapter on BLIP, page by page. Book: blip.md and those under it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vlmbook.exercises import Exercise, Mistake, Result, judge
from vlmbook.losses import same_texts


def check(name: str, answer: Any) -> Result:
    """What is right or wrong with an answer to one of this chapter's exercises."""
    return judge(EXERCISES, name, answer)


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- blip.md --------------------------------------------------------------------------------------


def _caption_loss(logits: Tensor, ids: Tensor) -> Tensor:
    told = ids[:, 1:] != 0
    return F.cross_entropy(logits[:, :-1][told], ids[:, 1:][told])


def _each(logits: Tensor, ids: Tensor) -> Tensor:
    """-log p of each predicted token, (B, T - 1)."""
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none")


CAPTION_LOSS = Exercise(
    right=_caption_loss,
    trials=lambda: [
        (
            2 * _random(3, 6, 9),
            torch.tensor([[1, 4, 5, 6, 3, 0], [1, 7, 3, 0, 0, 0], [1, 8, 4, 5, 6, 3]]),
        ),
        (2 * _random(2, 4, 9, seed=1), torch.tensor([[1, 4, 3, 0], [1, 5, 6, 3]])),
    ],
    mistakes=(
        Mistake(
            "not shifted",
            lambda logits, ids: F.cross_entropy(logits.flatten(0, 1), ids.flatten()),
            "each place is compared with its own token, which it has just read. What does it"
            " predict?",
        ),
        Mistake(
            "not shifted, without padding",
            lambda logits, ids: F.cross_entropy(logits[ids != 0], ids[ids != 0]),
            "padding is left out, but each place is compared with its own token, not the next.",
        ),
        Mistake(
            "padding counts",
            lambda logits, ids: _each(logits, ids).mean(),
            "padding is predicted, too. Leave it out of the mean.",
        ),
        Mistake(
            "padding counts as nothing",
            lambda logits, ids: (_each(logits, ids) * (ids[:, 1:] != 0).flatten()).mean(),
            "padding costs nothing, but it is still counted in the number of tokens.",
        ),
        Mistake(
            "a mean of means",
            lambda logits, ids: torch.stack(
                [_caption_loss(a[None], b[None]) for a, b in zip(logits, ids, strict=True)]
            ).mean(),
            "each caption has its own mean first, so tokens of short ones count more.",
        ),
        Mistake(
            "a sum",
            lambda logits, ids: _caption_loss(logits, ids) * (ids[:, 1:] != 0).sum(),
            "that is the sum over all tokens. The mean does not grow with the batch.",
        ),
    ),
)


def _prefix_mask(num_tokens: int, num_prompt: int) -> Tensor:
    mask = torch.ones(num_tokens, num_tokens, dtype=torch.bool).tril()
    mask[:num_prompt, :num_prompt] = True
    return mask


PREFIX_MASK = Exercise(
    right=_prefix_mask,
    trials=lambda: [(6, 3), (5, 2), (4, 4)],
    mistakes=(
        Mistake(
            "causal",
            lambda t, p: torch.ones(t, t, dtype=torch.bool).tril(),
            "the tokens of the prompt don't see those of the prompt that come later.",
        ),
        Mistake(
            "everything",
            lambda t, p: torch.ones(t, t, dtype=torch.bool),
            "written tokens see what comes after them, so there is nothing left to guess.",
        ),
        Mistake(
            "not oneself",
            lambda t, p: _prefix_mask(t, p) & ~torch.eye(t, dtype=torch.bool),
            "no token may look at itself. It may: only the next one has to be guessed.",
        ),
        Mistake(
            "the other way round",
            lambda t, p: _prefix_mask(t, p).T,
            "rows and columns are exchanged: the row looks, the column is looked at.",
        ),
        Mistake(
            "the prompt reads on",
            lambda t, p: _prefix_mask(t, p) | (torch.arange(t) < p)[:, None],
            "the prompt sees what is written after it, and tells it to all who look at the prompt.",
        ),
        Mistake(
            "only the prompt",
            lambda t, p: (torch.arange(t) < p).expand(t, t).clone(),
            "written tokens don't see what was written before them, nor themselves.",
        ),
    ),
)


def _hardest(scores: Tensor, ids: Tensor) -> Tensor:
    return scores.masked_fill(same_texts(ids), float("-inf")).argmax(1)


HARDEST = Exercise(
    right=_hardest,
    trials=lambda: [
        (
            torch.tensor(
                [
                    [9.0, 7.0, 2.0, 9.5],
                    [8.0, 6.0, 4.0, 5.0],
                    [-1.0, -2.0, 9.0, -3.0],
                    [9.0, 3.0, 4.0, 8.0],
                ]
            ),
            torch.tensor([[1, 7, 3], [1, 8, 3], [1, 9, 3], [1, 7, 3]]),
        )
    ],
    mistakes=(
        Mistake(
            "its own",
            lambda scores, ids: scores.argmax(1),
            "some of these are the picture's own caption. What is asked for is a wrong one.",
        ),
        Mistake(
            "an equal one",
            lambda scores, ids: scores.masked_fill(torch.eye(len(ids)).bool(), -torch.inf).argmax(
                1
            ),
            "a caption equal to the picture's own stands elsewhere in the batch, and it is true.",
        ),
        Mistake(
            "of captions",
            lambda scores, ids: _hardest(scores.T, ids),
            "that is the hardest picture for each caption. Pictures are the rows.",
        ),
        Mistake(
            "the easiest",
            lambda scores, ids: scores.masked_fill(same_texts(ids), torch.inf).argmin(1),
            "these are the least similar captions, which teach the least.",
        ),
        Mistake(
            "zero for equal ones",
            lambda scores, ids: scores.masked_fill(same_texts(ids), 0.0).argmax(1),
            "a score of 0 is higher than a negative one. Put equal captions below everything.",
        ),
    ),
)

CACHE_COST = Exercise(
    right=lambda n, cache: sum(k if cache else k * k for k in range(1, n + 1)),
    trials=lambda: [(1, True), (5, True), (5, False), (40, True), (40, False)],
    mistakes=(
        Mistake(
            "one pair a step",
            lambda n, cache: n if cache else sum(k * k for k in range(1, n + 1)),
            "with a cache, one token looks in each step, but at all tokens that are there.",
        ),
        Mistake(
            "the last step alone",
            lambda n, cache: n if cache else n * n,
            "that is what the last step costs. All steps are asked for.",
        ),
        Mistake(
            "only new ones look",
            lambda n, cache: sum(range(1, n + 1)),
            "without a cache all tokens are read anew in each step, so all of them look.",
        ),
        Mistake(
            "half of it is masked",
            lambda n, cache: sum(k if cache else k * (k + 1) // 2 for k in range(1, n + 1)),
            "masked pairs are left out here. They are computed, and then hidden.",
        ),
        Mistake(
            "from nothing",
            lambda n, cache: sum(k if cache else k * k for k in range(n)),
            "the first step reads the prompt, so there is one token then, not none.",
        ),
    ),
)

# --- blip/captions.md -----------------------------------------------------------------------------


def _nucleus_set(probabilities: Tensor, p: float) -> Tensor:
    ordered, order = probabilities.sort(descending=True)
    kept = torch.zeros_like(probabilities, dtype=torch.bool)
    kept[order] = ordered.cumsum(0) - ordered < p
    return kept


def _reached(probabilities: Tensor, p: float) -> Tensor:
    """Tokens up to which the sum is at most p."""
    ordered, order = probabilities.sort(descending=True)
    kept = torch.zeros_like(probabilities, dtype=torch.bool)
    kept[order] = ordered.cumsum(0) <= p
    return kept


NUCLEUS_SET = Exercise(
    right=_nucleus_set,
    trials=lambda: [
        (torch.tensor([0.1, 0.5, 0.05, 0.35]), 0.8),
        (torch.tensor([0.1, 0.5, 0.05, 0.35]), 0.4),
        (torch.tensor([0.03, 0.3, 0.25, 0.22, 0.2]), 0.9),
    ],
    mistakes=(
        Mistake(
            "a threshold",
            lambda probabilities, p: probabilities >= p,
            "each probability is compared with p by itself. It is their sum that must reach p.",
        ),
        Mistake(
            "too few",
            _reached,
            "the token that brings the sum to p is left out, so what is kept has less than p.",
        ),
        Mistake(
            "in the order given",
            lambda probabilities, p: probabilities.cumsum(0) - probabilities < p,
            "the tokens are added up as they stand. The likeliest come first.",
        ),
        Mistake(
            "the least likely",
            lambda probabilities, p: ~_nucleus_set(probabilities, p),
            "that is the tail, which is to be cut off.",
        ),
        Mistake(
            "in sorted places",
            lambda probabilities, p: (
                probabilities.sort(descending=True).values.cumsum(0)
                - probabilities.sort(descending=True).values
                < p
            ),
            "these are places in the sorted list. Bring them back to the tokens' own places.",
        ),
    ),
)


def _grams(texts: list[str], order: int) -> list[list[tuple[str, ...]]]:
    split = [text.split() for text in texts]
    return [[tuple(w[i : i + order]) for i in range(len(w) - order + 1)] for w in split]


def _distinct(texts: list[str], order: int) -> float:
    grams = sum(_grams(texts, order), [])
    return len(set(grams)) / len(grams) if grams else 0.0


def _mean_distinct(texts: list[str], order: int) -> float:
    each = [len(set(g)) / len(g) if g else 0.0 for g in _grams(texts, order)]
    return sum(each) / len(each)


DISTINCT = Exercise(
    right=_distinct,
    trials=lambda: [
        (["a red cube and a red cube", "a red cube on a table"], 2),
        (["a red cube and a red cube", "a red cube on a table"], 1),
        (["red cube", "a red cube"], 3),
        (["cube"], 2),
    ],
    mistakes=(
        Mistake(
            "over all words",
            lambda texts, order: (
                len(set(sum(_grams(texts, order), []))) / len(" ".join(texts).split())
            ),
            "the number of different sequences is divided by that of words, not of sequences.",
        ),
        Mistake(
            "across texts",
            lambda texts, order: _distinct([" ".join(texts)], order),
            "the end of a text and the beginning of the next are taken for a sequence.",
        ),
        Mistake(
            "a mean of texts",
            _mean_distinct,
            "each text is measured by itself, so two equal ones count as varied as two others.",
        ),
        Mistake(
            "letters",
            lambda texts, order: _distinct([" ".join(t.replace(" ", "")) for t in texts], order),
            "these are sequences of letters. Words are what white space separates.",
        ),
    ),
)


def _best_beam(log_probs: list[float], lengths: list[int], penalty: float) -> int:
    scores = [p / n**penalty for p, n in zip(log_probs, lengths, strict=True)]
    return scores.index(max(scores))


def _first_most(scores: list[float]) -> int:
    return scores.index(max(scores))


BEST_BEAM = Exercise(
    right=_best_beam,
    trials=lambda: [
        ([-2.0, -2.6, -4.0], [3, 5, 20], 0.0),
        ([-2.0, -2.6, -4.0], [3, 5, 20], 1.0),
        ([-2.0, -2.6, -9.0], [3, 5, 8], 1.0),
        ([-2.0, -2.1, -9.0], [4, 5, 2], 0.5),
        ([-2.0, -3.8, -9.0], [2, 3, 4], 2.0),
        ([-2.0, -1.9], [1, 2], 1.0),
    ],
    mistakes=(
        Mistake(
            "no lengths",
            lambda p, n, penalty: _first_most(p),
            "lengths make no difference here. Divide by the length to the power of the penalty.",
        ),
        Mistake(
            "always the mean",
            lambda p, n, penalty: _best_beam(p, n, 1.0),
            "the penalty makes no difference here. It is the power of the length.",
        ),
        Mistake(
            "times the length",
            lambda p, n, penalty: _first_most([a * b**penalty for a, b in zip(p, n, strict=True)]),
            "multiplied by the length, a long text becomes worse, not better.",
        ),
        Mistake(
            "the worst",
            lambda p, n, penalty: _first_most([-a / b**penalty for a, b in zip(p, n, strict=True)]),
            "that is the least likely one. log p is negative: the highest is nearest to 0.",
        ),
        Mistake(
            "penalty times length",
            lambda p, n, penalty: _first_most(
                [a / (b * penalty or 1) for a, b in zip(p, n, strict=True)]
            ),
            "the penalty is the power of the length, not a factor: the factor changes nothing.",
        ),
    ),
)

Facts = tuple[float, float, float]


def _scores_of(right: float, told: float, true: float) -> Facts:
    precision, recall = right / told if told else 0.0, right / true if true else 0.0
    both = precision + recall
    return precision, recall, 2 * precision * recall / both if both else 0.0


def _fact_scores(told: list, true: list) -> Facts:
    return _scores_of((Counter(told) & Counter(true)).total(), len(told), len(true))


FACT_SCORES = Exercise(
    right=_fact_scores,
    trials=lambda: [
        (["red cube", "red cube", "blue cone"], ["red cube", "blue cone", "gray egg", "gray egg"]),
        (["red cube"], ["red cube", "red cube"]),
        ([], ["red cube"]),
        (["gray egg"], ["red cube"]),
    ],
    mistakes=(
        Mistake(
            "each counted once",
            lambda told, true: _scores_of(len({*told} & {*true}), len({*told}), len({*true})),
            "facts that occur twice are counted once. Two red cubes are two facts.",
        ),
        Mistake(
            "right as often as told",
            lambda told, true: _scores_of(sum(f in true for f in told), len(told), len(true)),
            "a fact that is told twice and true once is right once.",
        ),
        Mistake(
            "exchanged",
            lambda told, true: _fact_scores(true, told),
            "precision and recall are exchanged: precision is a share of what is told.",
        ),
        Mistake(
            "a mean",
            lambda told, true: (
                *(both := _fact_scores(told, true)[:2]),
                sum(both) / 2,
            ),
            "F1 is the harmonic mean. The plain one is a half for whoever has no recall at all.",
        ),
    ),
)

# --- blip/answers.md ------------------------------------------------------------------------------


def _ten_answers(answer: str, people: list[str]) -> float:
    same = [person == answer for person in people]
    return sum(min(1, (sum(same) - own) / 3) for own in same) / len(people)


TEN_ANSWERS = Exercise(
    right=_ten_answers,
    trials=lambda: [
        ("red", ["red"] * k + ["pink"] * (3 * (k == 2)) + ["orange"] * (10 - k - 3 * (k == 2)))
        for k in (0, 1, 2, 3, 4, 9)
    ],
    mistakes=(
        Mistake(
            "nobody left out",
            lambda answer, people: min(1, people.count(answer) / 3),
            "nobody is left out. Three of ten are then enough, and should not be.",
        ),
        Mistake(
            "no limit",
            lambda answer, people: (
                sum((people.count(answer) - (p == answer)) / 3 for p in people) / len(people)
            ),
            "more than three who agree give more than 1. Take the minimum before the mean.",
        ),
        Mistake(
            "all must agree",
            lambda answer, people: people.count(answer) / len(people),
            "that is the share of people who agree. Three others are enough for full marks.",
        ),
        Mistake(
            "always one less",
            lambda answer, people: min(1, max(0, people.count(answer) - 1) / 3),
            "one who agrees is always left out. Sometimes another is, who does not agree.",
        ),
    ),
)


def _first_most_frequent(answers: list[int]) -> int:
    return Counter(answers).most_common(1)[0][0]


def _blind_reader(train: list[tuple[str, int]], question: str) -> int:
    own = [answer for asked, answer in train if asked == question]
    return _first_most_frequent(own or [answer for _, answer in train])


_READ = [
    ("color of the cube", 4),
    ("color of the cube", 7),
    ("color of the cube", 7),
    ("how many", 2),
    ("how many", 4),
    ("how many", 2),
    ("color of the egg", 4),
    ("color of the egg", 5),
]

BLIND_READER = Exercise(
    right=_blind_reader,
    trials=lambda: [
        (_READ, question)
        for question in ("color of the cube", "how many", "color of the egg", "is there an egg")
    ],
    mistakes=(
        Mistake(
            "majority",
            lambda train, question: _first_most_frequent([answer for _, answer in train]),
            "the question makes no difference. Count the answers to this question alone.",
        ),
        Mistake(
            "the first",
            lambda train, question: next((a for q, a in train if q == question), train[0][1]),
            "that is the first answer to the question, not the most frequent one.",
        ),
        Mistake(
            "the last among equals",
            lambda train, question: _blind_reader(train[::-1], question),
            "among equally frequent answers, the first one in train is to be taken.",
        ),
    ),
)


def _selective(right: Tensor, probability: Tensor, share: float) -> Tensor:
    kept = probability.argsort(descending=True)[: round(share * len(right))]
    return right[kept].float().mean()


SELECTIVE = Exercise(
    right=_selective,
    trials=lambda: [
        (
            torch.tensor([1, 0, 1, 1, 0, 1, 0, 0]).bool(),
            torch.tensor([0.9, 0.4, 0.95, 0.6, 0.3, 0.5, 0.7, 0.35]),
            share,
        )
        for share in (0.25, 0.375, 0.5, 1.0)
    ],
    mistakes=(
        Mistake(
            "the least certain",
            lambda right, probability, share: _selective(right, -probability, share),
            "these are the least certain answers.",
        ),
        Mistake(
            "a threshold",
            lambda right, probability, share: right[probability >= share].float().mean(),
            "share is taken for a probability. It is how many of the answers are kept.",
        ),
        Mistake(
            "of all",
            lambda right, probability, share: _selective(right, probability, share) * share,
            "the right ones are divided by the number of all answers, not of those kept.",
        ),
        Mistake(
            "the first ones",
            lambda right, probability, share: right[: round(share * len(right))].float().mean(),
            "the first answers are kept, in the order given. Sort them by probability.",
        ),
    ),
)

# --- blip/heads.md --------------------------------------------------------------------------------

READINGS = Exercise(
    right=lambda texts, pictures, k: texts + pictures + texts * min(k, pictures),
    trials=lambda: [(1000, 1000, 8), (10, 300, 4), (20, 5, 16)],
    mistakes=(
        Mistake(
            "every pair",
            lambda texts, pictures, k: texts * pictures,
            "that is ITM for every pair. It reads only the best k pictures of each sentence.",
        ),
        Mistake(
            "the judge alone",
            lambda texts, pictures, k: texts * min(k, pictures),
            "the search itself is missing: pictures and sentences are encoded once.",
        ),
        Mistake(
            "pictures again",
            lambda texts, pictures, k: texts + pictures + 2 * texts * min(k, pictures),
            "the pictures are encoded again for the judge. Their features were kept.",
        ),
        Mistake(
            "more than there are",
            lambda texts, pictures, k: texts + pictures + texts * k,
            "if there are fewer than k pictures, no more than all of them can be read.",
        ),
        Mistake(
            "for each picture",
            lambda texts, pictures, k: texts + pictures + pictures * min(k, pictures),
            "k pictures are read for each sentence, not for each picture.",
        ),
    ),
)


def _rerank_one(scores: Tensor, judged: Tensor, k: int) -> Tensor:
    order = scores.argsort(descending=True)
    first = order[:k]
    return torch.cat([first[judged[first].argsort(descending=True)], order[k:]])


def _in_places(scores: Tensor, judged: Tensor, k: int) -> Tensor:
    order = scores.argsort(descending=True)
    return torch.cat([judged[order[:k]].argsort(descending=True), order[k:]])


RERANK_ONE = Exercise(
    right=_rerank_one,
    trials=lambda: [
        (
            torch.tensor([0.2, 0.9, 0.5, 0.8, 0.1, 0.4]),
            torch.tensor([0.3, -0.1, 0.05, 0.2, 0.95, -0.4]),
            k,
        )
        for k in (1, 3, 4)
    ],
    mistakes=(
        Mistake(
            "only the judge",
            lambda scores, judged, k: judged.argsort(descending=True),
            "the judge decides about all items. It should see the best k by scores only.",
        ),
        Mistake(
            "only the search",
            lambda scores, judged, k: scores.argsort(descending=True),
            "the judge is not asked.",
        ),
        Mistake(
            "places for items",
            _in_places,
            "the judge's order holds places among the k best, not the items that stand there.",
        ),
        Mistake(
            "the rest is judged too",
            lambda scores, judged, k: torch.cat(
                [
                    _rerank_one(scores, judged, k)[:k],
                    (rest := scores.argsort(descending=True)[k:])[
                        judged[rest].argsort(descending=True)
                    ],
                ]
            ),
            "the items behind the k best are put in the judge's order, too. They keep their own.",
        ),
        Mistake(
            "worst first",
            lambda scores, judged, k: _rerank_one(scores, -judged, k),
            "the judge's worst of the k best comes first.",
        ),
        Mistake(
            "a sum",
            lambda scores, judged, k: (scores + judged).argsort(descending=True),
            "the two scores are added up, though they have different units.",
        ),
    ),
)


def _best_caption(log_probs: Tensor) -> Tensor:
    return (log_probs - log_probs.logsumexp(0)).argmax(1)


BEST_CAPTION = Exercise(
    right=_best_caption,
    trials=lambda: [
        (
            torch.tensor(
                [
                    [-1.0, -3.0, -8.0, -9.0],
                    [-1.2, -9.0, -6.0, -4.5],
                    [-0.9, -9.0, -9.0, -0.7],
                    [-6.0, -9.0, -30.0, -7.0],
                ]
            ),
        ),
        (3 * _random(7, 5, seed=2),),
    ],
    mistakes=(
        Mistake(
            "no prior",
            lambda log_probs: log_probs.argmax(1),
            "the sentence's own weight is still in it. Subtract log p(w), a mean over pictures.",
        ),
        Mistake(
            "a mean of logarithms",
            lambda log_probs: (log_probs - log_probs.mean(0)).argmax(1),
            "p(w) is a mean of probabilities. This is the mean of their logarithms.",
        ),
        Mistake(
            "times the prior",
            lambda log_probs: (log_probs + log_probs.logsumexp(0)).argmax(1),
            "the prior is multiplied, not divided by.",
        ),
        Mistake(
            "the best picture",
            lambda log_probs: (log_probs - log_probs.logsumexp(0)).argmax(0),
            "that is the best picture for each caption.",
        ),
        Mistake(
            "divided logarithms",
            lambda log_probs: (log_probs / log_probs.logsumexp(0)).argmax(1),
            "logarithms are divided by each other. p / p(w) is a difference of logarithms.",
        ),
    ),
)

# --- blip/capfilt.md ------------------------------------------------------------------------------


def _area(good: Tensor, bad: Tensor, tie: float = 0.5) -> Tensor:
    above, equal = good[:, None] > bad[None], good[:, None] == bad[None]
    return (above + tie * equal).mean()


AREA = Exercise(
    right=_area,
    trials=lambda: [
        (torch.tensor([3.0, 2.0, 5.0]), torch.tensor([1.0, 2.0, 4.0, 0.5])),
        (torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.7, 2.0])),
    ],
    mistakes=(
        Mistake(
            "means",
            lambda good, bad: (good.mean() > bad.mean()).float(),
            "the means are compared. Compare each clean caption with each faulty one.",
        ),
        Mistake(
            "ties lost",
            lambda good, bad: _area(good, bad, 0.0),
            "a tie counts nothing here. It counts one half.",
        ),
        Mistake(
            "ties won",
            lambda good, bad: _area(good, bad, 1.0),
            "a tie counts as won here. It counts one half.",
        ),
        Mistake(
            "the wrong way",
            lambda good, bad: _area(bad, good),
            "that is the share in which the faulty one is higher.",
        ),
        Mistake(
            "a sum",
            lambda good, bad: _area(good, bad) * len(good) * len(bad),
            "the pairs are counted. Divide by how many there are.",
        ),
    ),
)


def _left_over(noise: float, keeps_clean: float, keeps_faulty: float) -> float:
    faulty, clean = noise * keeps_faulty, (1 - noise) * keeps_clean
    return faulty / (faulty + clean) if faulty + clean else 0.0


LEFT_OVER = Exercise(
    right=_left_over,
    trials=lambda: [(0.5, 0.95, 0.2), (0.9, 0.95, 0.2), (0.2, 0.5, 0.5), (0.3, 0.0, 0.0)],
    mistakes=(
        Mistake(
            "of all",
            lambda noise, clean, faulty: noise * faulty,
            "that is a share of all captions. It is asked for among those that are kept.",
        ),
        Mistake(
            "as if half were faulty",
            lambda noise, clean, faulty: _left_over(0.5, clean, faulty),
            "how many captions are faulty makes no difference here. It should.",
        ),
        Mistake(
            "what is thrown out",
            lambda noise, clean, faulty: _left_over(noise, 1 - clean, 1 - faulty),
            "that is the share of faulty ones among those that are thrown out.",
        ),
        Mistake(
            "clean ones",
            lambda noise, clean, faulty: 1 - _left_over(noise, clean, faulty),
            "that is the share of clean ones among those that are kept.",
        ),
    ),
)


def _mixed_noise(web: Tensor, new: Tensor, keep_web: Tensor, keep_new: Tensor) -> Tensor:
    false = (web & keep_web).sum() + (new & keep_new).sum()
    return false / (keep_web.sum() + keep_new.sum())


def _mean_noise(web: Tensor, new: Tensor, keep_web: Tensor, keep_new: Tensor) -> Tensor:
    return ((web & keep_web).sum() / keep_web.sum() + (new & keep_new).sum() / keep_new.sum()) / 2


MIXED_NOISE = Exercise(
    right=_mixed_noise,
    trials=lambda: [
        (
            torch.tensor([1, 0, 1, 0, 1, 1, 0]).bool(),
            torch.tensor([0, 0, 1, 0, 1, 1, 0]).bool(),
            torch.tensor([0, 1, 1, 0, 1, 0, 0]).bool(),
            torch.tensor([1, 1, 1, 1, 0, 0, 1]).bool(),
        )
    ],
    mistakes=(
        Mistake(
            "a mean of shares",
            _mean_noise,
            "the two shares count alike, however many captions each source has left.",
        ),
        Mistake(
            "of all pictures",
            lambda web, new, keep_web, keep_new: (
                ((web & keep_web).sum() + (new & keep_new).sum()) / (2 * len(web))
            ),
            "divided by all captions. Divide by those that are kept.",
        ),
        Mistake(
            "without a filter",
            lambda web, new, keep_web, keep_new: (web.sum() + new.sum()) / (2 * len(web)),
            "the filter is not used.",
        ),
        Mistake(
            "one a picture",
            lambda web, new, keep_web, keep_new: (
                ((web & keep_web) | (new & keep_new)).sum() / (keep_web | keep_new).sum()
            ),
            "pictures are counted. A picture may have two captions in the set.",
        ),
        Mistake(
            "what is thrown out",
            lambda web, new, keep_web, keep_new: _mixed_noise(web, new, ~keep_web, ~keep_new),
            "that is the noise among the captions that are thrown out.",
        ),
    ),
)

EXERCISES = {
    "caption-loss": CAPTION_LOSS,
    "prefix-mask": PREFIX_MASK,
    "hardest": HARDEST,
    "cache-cost": CACHE_COST,
    "nucleus-set": NUCLEUS_SET,
    "distinct": DISTINCT,
    "best-beam": BEST_BEAM,
    "fact-scores": FACT_SCORES,
    "ten-answers": TEN_ANSWERS,
    "blind-reader": BLIND_READER,
    "selective": SELECTIVE,
    "readings": READINGS,
    "rerank-one": RERANK_ONE,
    "best-caption": BEST_CAPTION,
    "area": AREA,
    "left-over": LEFT_OVER,
    "mixed-noise": MIXED_NOISE,
}
