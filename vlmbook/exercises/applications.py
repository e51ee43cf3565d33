"""The exercises of the chapter on applications, page by page. Book: applications.md, its pages."""

from __future__ import annotations

import itertools
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


# --- applications/search.md -----------------------------------------------------------------------


def _rows(*rows: list[int]) -> Tensor:
    return torch.tensor(rows)


def _found_share(found: Tensor, exact: Tensor) -> Tensor:
    return (exact[:, :, None] == found[:, None]).any(2).float().mean(1)


FOUND_SHARE = Exercise(
    right=_found_share,
    trials=lambda: [
        (_rows([3, 1, 7], [4, 9, 2], [5, 8, 6]), _rows([1, 3, 5], [4, 9, 2], [0, 7, 1])),
        (_rows([2, 2, 2, 0], [1, 4, 3, 0]), _rows([2, 5, 6, 7], [0, 1, 3, 9])),
    ],
    mistakes=(
        Mistake(
            "in order",
            lambda found, exact: (found == exact).float().mean(1),
            "a row counts only where it stands at the same place. The order does not matter.",
        ),
        Mistake(
            "of what was given",
            lambda found, exact: _found_share(exact, found),
            "this is the share of the given rows that are right, and a row that is given twice"
            " counts twice. Ask of the true ones.",
        ),
        Mistake(
            "all of them",
            lambda found, exact: (_found_share(found, exact) == 1).float(),
            "this asks whether all were found. Their share is asked for.",
        ),
        Mistake(
            "the first",
            lambda found, exact: (found == exact[:, :1]).any(1).float(),
            "this asks whether the very nearest was found.",
        ),
        Mistake(
            "one number",
            lambda found, exact: _found_share(found, exact).mean(),
            "this is the mean over the questions. One number for each is asked for.",
        ),
    ),
)


def _share(num: int, part: int, process: int, processes: int) -> list[int]:
    starts = range(0, num, part)[process::processes]
    return [n for start in starts for n in range(start, min(start + part, num))]


SHARE = Exercise(
    right=_share,
    trials=lambda: [(20, 4, 1, 2), (23, 5, 0, 2), (23, 5, 4, 5), (9, 3, 2, 3)],
    mistakes=(
        Mistake(
            "the first of each part",
            lambda num, part, process, processes: list(
                range(process * part, num, processes * part)
            ),
            "these are the first items of its parts. All items of its parts belong to it.",
        ),
        Mistake(
            "item by item",
            lambda num, part, process, processes: list(range(process, num, processes)),
            "the items are dealt out one by one. The parts should be.",
        ),
        Mistake(
            "in one piece",
            lambda num, part, process, processes: list(
                range(process * num // processes, (process + 1) * num // processes)
            ),
            "each process has one long piece. Parts are dealt out in turns.",
        ),
        Mistake(
            "beyond the end",
            lambda num, part, process, processes: [
                n
                for start in range(0, num, part)[process::processes]
                for n in range(start, start + part)
            ],
            "the last part goes beyond the last item.",
        ),
        Mistake(
            "whole parts",
            lambda num, part, process, processes: [
                n
                for start in range(0, num - part + 1, part)[process::processes]
                for n in range(start, start + part)
            ],
            "the last part, which is shorter, is left out.",
        ),
    ),
)


def _cells(query: Tensor, items: Tensor, means: Tensor, num: int, nearest: bool = True) -> Tensor:
    home = (items @ means.T).argmax(1)
    opened = (means @ query).topk(num, largest=nearest).indices
    return (items @ query).masked_fill(~torch.isin(home, opened), -torch.inf).argmax()


def _searched(seed: int, num: int) -> tuple[Tensor, Tensor, Tensor, int]:
    query, items, means = (_random(n, 6, seed=seed + k) for k, n in enumerate((1, 40, 6)))
    return F.normalize(query, dim=1)[0], F.normalize(items, dim=1), F.normalize(means, dim=1), num


CELLS = Exercise(
    right=_cells,
    trials=lambda: [_searched(seed, num) for num in (1, 2, 3) for seed in range(0, 60, 3)],
    mistakes=(
        Mistake(
            "all items",
            lambda query, items, means, num: (items @ query).argmax(),
            "this is the best of all items. Only those in the opened cells may be looked at.",
        ),
        Mistake(
            "one cell",
            lambda query, items, means, num: _cells(query, items, means, 1),
            "only one cell is opened, whatever num is.",
        ),
        Mistake(
            "the farthest cells",
            lambda query, items, means, num: _cells(query, items, means, num, False),
            "the cells that are farthest from the query are opened.",
        ),
    ),
)


# --- applications/korean.md -----------------------------------------------------------------------

TEACHING_LOSS = Exercise(
    right=lambda student, teacher: (student - teacher).square().sum(1).mean(),
    trials=lambda: [
        (_random(4, 6, seed=1), F.normalize(_random(4, 6, seed=2), dim=1)),
        (_random(7, 3, seed=3), F.normalize(_random(7, 3, seed=4), dim=1)),
    ],
    mistakes=(
        Mistake(
            "mean over all",
            lambda student, teacher: F.mse_loss(student, teacher),
            "this is the mean over the numbers of a vector as well. Add these up.",
        ),
        Mistake(
            "sum",
            lambda student, teacher: (student - teacher).square().sum(),
            "this is the sum over the sentences. Their mean is asked for.",
        ),
        Mistake(
            "not squared",
            lambda student, teacher: (student - teacher).norm(dim=1).mean(),
            "this is the mean distance. It is to be squared.",
        ),
        Mistake(
            "normalised",
            lambda student, teacher: (F.normalize(student, dim=1) - teacher).square().sum(1).mean(),
            "the student's vectors are brought to length one. They are compared as they are.",
        ),
        Mistake(
            "cosine",
            lambda student, teacher: 1 - F.cosine_similarity(student, teacher).mean(),
            "this looks at the direction alone. A squared distance is asked for.",
        ),
    ),
)


def _unknown(lessons: list[str], tests: list[str], once: bool = False) -> float:
    known = {word for text in lessons for word in text.split()}
    words: Any = [word for text in tests for word in text.split()]
    words = set(words) if once else words
    return sum(word not in known for word in words) / len(words)


UNKNOWN_SHARE = Exercise(
    right=_unknown,
    trials=lambda: [
        (["빨간 구가 있다", "파란 구와 원뿔"], ["빨간 구를 보다", "파란 원뿔 원뿔 구를 있다"]),
        (["a red cube", "a cone"], ["the cube", "a red cone and the cone"]),
        (["작은 달걀이 보입니다"], ["큰 달걀과 작은 달걀이", "달걀이 보입니다"]),
        (["구가 있다", "원뿔과 구를 보다"], ["구 원뿔 구가", "구가 구를"]),
    ],
    mistakes=(
        Mistake(
            "each word once",
            lambda lessons, tests: _unknown(lessons, tests, once=True),
            "each word counts once. It counts as often as it stands there.",
        ),
        Mistake(
            "known",
            lambda lessons, tests: 1 - _unknown(lessons, tests),
            "this is the share of known words.",
        ),
        Mistake(
            "the other way",
            lambda lessons, tests: _unknown(tests, lessons),
            "this is the share of words of the lessons that the tests do not have.",
        ),
        Mistake(
            "letters",
            lambda lessons, tests: _unknown(
                [" ".join(text) for text in lessons], [" ".join(text) for text in tests]
            ),
            "single letters are compared. Cut at the spaces.",
        ),
        Mistake(
            "part of a text",
            lambda lessons, tests: (
                sum(word not in " ".join(lessons) for t in tests for word in t.split())
                / sum(len(t.split()) for t in tests)
            ),
            "a word counts as known where it is part of another. Compare whole words.",
        ),
        Mistake(
            "sentences",
            lambda lessons, tests: (
                sum(_unknown(lessons, [text]) > 0 for text in tests) / len(tests)
            ),
            "this is the share of sentences with an unknown word. That of words is asked for.",
        ),
        Mistake(
            "a number",
            lambda lessons, tests: (
                _unknown(lessons, tests) * sum(len(text.split()) for text in tests)
            ),
            "this is how many words are unknown. Their share is asked for.",
        ),
    ),
)


def _letters(syllable: str) -> list[int]:
    code = ord(syllable) - 0xAC00
    return [code // (21 * 28), code // 28 % 21, code % 28]


LETTERS = Exercise(
    right=_letters,
    trials=lambda: [("구",), ("뿔",), ("달",), ("가",), ("힣",)],
    mistakes=(
        Mistake(
            "from 0",
            lambda syllable: [
                ord(syllable) // (21 * 28),
                ord(syllable) // 28 % 21,
                ord(syllable) % 28,
            ],
            "the syllables begin at AC00. Take that off first.",
        ),
        Mistake(
            "27 last consonants",
            lambda syllable: [
                (ord(syllable) - 0xAC00) // (21 * 27),
                (ord(syllable) - 0xAC00) // 27 % 21,
                (ord(syllable) - 0xAC00) % 27,
            ],
            "there are 27 last consonants, and none at all: 28 cases.",
        ),
        Mistake(
            "vowel and consonant",
            lambda syllable: [
                (ord(syllable) - 0xAC00) // (21 * 28),
                (ord(syllable) - 0xAC00) // 21 % 28,
                (ord(syllable) - 0xAC00) % 21,
            ],
            "the last factor is 28, that of the last consonant.",
        ),
        Mistake(
            "from behind",
            lambda syllable: _letters(syllable)[::-1],
            "the order is first consonant, vowel, last consonant.",
        ),
    ),
)


# --- applications/inspection.md -------------------------------------------------------------------


def _precision(found: float, false: float, rate: float) -> float:
    return rate * found / (rate * found + (1 - rate) * false)


PRECISION = Exercise(
    right=_precision,
    trials=lambda: [(0.9, 0.05, 0.01), (0.5, 0.001, 0.02), (0.99, 0.2, 0.4), (0.7, 0.3, 0.8)],
    mistakes=(
        Mistake(
            "half of them",
            lambda found, false, rate: found / (found + false),
            "this is so where every second tray has a defect. Weigh both shares by how many trays"
            " there are of each kind.",
        ),
        Mistake(
            "the other rate",
            lambda found, false, rate: _precision(found, false, 1 - rate),
            "the shares are weighed the wrong way round: rate is that of the defects.",
        ),
        Mistake(
            "only one weighed",
            lambda found, false, rate: rate * found / (rate * found + false),
            "false is a share of the good trays, and these are 1 - rate of all.",
        ),
        Mistake(
            "false alarms",
            lambda found, false, rate: 1 - _precision(found, false, rate),
            "this is the share of alarms that are wrong.",
        ),
        Mistake(
            "recall",
            lambda found, false, rate: found,
            "this is recall, the share of defects that are found.",
        ),
        Mistake(
            "all alarms",
            lambda found, false, rate: rate * found + (1 - rate) * false,
            "this is how many trays raise an alarm at all.",
        ),
    ),
)


def _patches() -> list[tuple[Tensor, Tensor]]:
    return [
        (F.normalize(_random(b, n, 5, seed=b), dim=2), F.normalize(_random(k, n, 5, seed=k), dim=2))
        for b, n, k in ((2, 6, 3), (4, 9, 1), (1, 4, 5))
    ]


def _anywhere(patches: Tensor, memory: Tensor) -> Tensor:
    return 1 - (patches @ memory.flatten(0, 1).T).amax(2)


NEAREST_GOOD = Exercise(
    right=_anywhere,
    trials=_patches,
    mistakes=(
        Mistake(
            "the same place",
            lambda patches, memory: 1 - torch.einsum("bnd,knd->bkn", patches, memory).amax(1),
            "each patch is compared with those of its own place alone. All places count here.",
        ),
        Mistake(
            "similarity",
            lambda patches, memory: 1 - _anywhere(patches, memory),
            "this is the similarity. A distance is 1 minus it.",
        ),
        Mistake(
            "the farthest",
            lambda patches, memory: 1 - (patches @ memory.flatten(0, 1).T).amin(2),
            "this is the distance from the farthest patch of the memory. The nearest is meant.",
        ),
        Mistake(
            "the mean",
            lambda patches, memory: 1 - (patches @ memory.flatten(0, 1).T).mean(2),
            "this is the mean distance from all patches. The nearest one is meant.",
        ),
        Mistake(
            "one picture",
            lambda patches, memory: 1 - (patches @ memory[0].T).amax(2),
            "only the first good picture is looked at.",
        ),
    ),
)


def _costs(good: Tensor, bad: Tensor, rate: float, miss: float) -> tuple[Tensor, Tensor]:
    every = torch.cat([good, bad])
    missed = (bad[None] < every[:, None]).float().mean(1)
    false = (good[None] >= every[:, None]).float().mean(1)
    return every, rate * missed * miss + (1 - rate) * false


def _threshold(good: Tensor, bad: Tensor, rate: float, miss: float) -> Tensor:
    every, cost = _costs(good, bad, rate, miss)
    return every[cost.argmin()]


def _pooled(good: Tensor, bad: Tensor, rate: float, miss: float) -> Tensor:
    every = torch.cat([good, bad])
    missed = (bad[None] < every[:, None]).float().sum(1)
    false = (good[None] >= every[:, None]).float().sum(1)
    return every[(missed * miss + false).argmin()]


THRESHOLD = Exercise(
    right=_threshold,
    trials=lambda: [
        (_random(40, seed=1), _random(15, seed=2) + 1.5, 0.05, 20.0),
        (_random(30, seed=3), _random(60, seed=4) + 1, 0.3, 2.0),
        (_random(25, seed=5), _random(25, seed=6) + 2, 0.01, 300.0),
    ],
    mistakes=(
        Mistake(
            "as collected",
            _pooled,
            "mistakes are counted as if good and spoilt trays came as often as they were collected."
            " Weigh the shares by rate and 1 - rate.",
        ),
        Mistake(
            "costs alike",
            lambda good, bad, rate, miss: _threshold(good, bad, rate, 1.0),
            "a miss counts as much as a false alarm. It costs miss.",
        ),
        Mistake(
            "the dearest",
            lambda good, bad, rate, miss: _costs(good, bad, rate, miss)[0][
                _costs(good, bad, rate, miss)[1].argmax()
            ],
            "this is the threshold that costs most.",
        ),
        Mistake(
            "the cost",
            lambda good, bad, rate, miss: _costs(good, bad, rate, miss)[1].min(),
            "this is what the best threshold costs. The threshold itself is asked for.",
        ),
        Mistake(
            "none missed",
            lambda good, bad, rate, miss: bad.min(),
            "this threshold misses nothing, whatever the false alarms cost.",
        ),
        Mistake(
            "no false alarm",
            lambda good, bad, rate, miss: good.max(),
            "this one has next to no false alarms, whatever the misses cost.",
        ),
    ),
)


# --- applications/own_data.md ---------------------------------------------------------------------


def _held_out(sessions: list[str], num: int, names: list[str] | None = None) -> list[int]:
    held: list[int] = []
    for name in names or sorted(set(sessions)):
        if len(held) >= num:
            break
        held += [n for n, own in enumerate(sessions) if own == name]
    return sorted(held)


WHOLE_SESSIONS = Exercise(
    right=_held_out,
    trials=lambda: [
        (["b", "a", "b", "c", "a", "c", "c", "b"], 3),
        (["may", "june", "may", "july", "june", "july", "april"], 3),
        (["x", "z", "y", "x", "y", "z", "x"], 4),
        (["q", "p", "p", "q", "r"], 2),
    ],
    mistakes=(
        Mistake(
            "cut",
            lambda sessions, num: sorted(
                sorted(range(len(sessions)), key=sessions.__getitem__)[:num]
            ),
            "a session is cut: some of its pictures are held out, and others are learnt from.",
        ),
        Mistake(
            "the first",
            lambda sessions, num: list(range(num)),
            "these are the first pictures, whatever their session.",
        ),
        Mistake(
            "one session",
            lambda sessions, num: _held_out(sessions, 1),
            "this stops after the first session, though there are fewer than num pictures.",
        ),
        Mistake(
            "one too many",
            lambda sessions, num: _held_out(sessions, num + 1),
            "this takes another session though there are num pictures already.",
        ),
        Mistake(
            "as they come",
            lambda sessions, num: _held_out(sessions, num, list(dict.fromkeys(sessions))),
            "the sessions are taken as they come. Take them in alphabetical order.",
        ),
        Mistake(
            "the others",
            lambda sessions, num: [
                n for n in range(len(sessions)) if n not in _held_out(sessions, num)
            ],
            "these are the pictures to learn from. Those to hold out are asked for.",
        ),
    ),
)


def _vectors(num: int, seed: int) -> Tensor:
    some = F.normalize(_random(num, 6, seed=seed), dim=1)
    copies = F.normalize(some[: num // 2] + 0.1 * _random(num // 2, 6, seed=seed + 1), dim=1)
    return torch.cat([some, copies, some[:1]])


def _alike(emb: Tensor, least: float, diagonal: int = 1) -> list[tuple[int, ...]]:
    return [tuple(pair) for pair in (emb @ emb.T >= least).triu(diagonal).nonzero().tolist()]


NEAR_COPIES = Exercise(
    right=_alike,
    trials=lambda: [(_vectors(5, 1), 0.9), (_vectors(8, 3), 0.95), (_vectors(6, 5), 0.5)],
    mistakes=(
        Mistake(
            "with itself",
            lambda emb, least: _alike(emb, least, 0),
            "each picture is a copy of itself here. Leave these pairs out.",
        ),
        Mistake(
            "both ways",
            lambda emb, least: [
                tuple(pair)
                for pair in (emb @ emb.T >= least).fill_diagonal_(False).nonzero().tolist()
            ],
            "each pair comes twice. Only those with a < b are asked for.",
        ),
        Mistake(
            "both ways, and with itself",
            lambda emb, least: [tuple(pair) for pair in (emb @ emb.T >= least).nonzero().tolist()],
            "each pair comes twice, and each picture with itself. Only a < b is asked for.",
        ),
        Mistake(
            "unlike",
            lambda emb, least: [
                tuple(pair) for pair in (emb @ emb.T < least).triu(1).nonzero().tolist()
            ],
            "these are the pairs that are not alike.",
        ),
        Mistake(
            "neighbours",
            lambda emb, least: [(a, b) for a, b in _alike(emb, least) if b == a + 1],
            "only pictures that follow each other are compared. Compare all with all.",
        ),
    ),
)


def _between(before: Tensor, after: Tensor, share: float) -> Tensor:
    return before + share * (after - before)


BETWEEN = Exercise(
    right=_between,
    trials=lambda: [
        (_random(2, 3, seed=1), _random(2, 3, seed=2), 0.3),
        (_random(4, seed=3), _random(4, seed=4), 0.8),
    ],
    mistakes=(
        Mistake(
            "the other way",
            lambda before, after, share: _between(after, before, share),
            "this begins at after. With a share of 0 the weights are to be as they were before.",
        ),
        Mistake(
            "half",
            lambda before, after, share: _between(before, after, 0.5),
            "this is half of the way, whatever the share.",
        ),
        Mistake(
            "added",
            lambda before, after, share: before + share * after,
            "the weights after are added to those before. Go towards them: by their difference.",
        ),
        Mistake(
            "only the way",
            lambda before, after, share: share * (after - before),
            "this is the way that is gone. Begin with the weights before.",
        ),
    ),
)


# --- applications/descriptions.md -----------------------------------------------------------------

Words = set[str]


def _agreement(thing: Words, draws: list[list[Words]]) -> float:
    return sum(any(thing <= other for other in told) for told in draws) / len(draws)


DRAWN = [
    [{"large", "red", "cube"}, {"green", "cone"}],
    [{"red", "cube"}, {"large", "green", "cone"}],
    [{"large", "red", "egg"}, {"large", "green", "cone"}],
    [{"large", "blue", "cube"}],
    [{"green", "cone"}, {"large", "green", "cone"}, {"red", "cube"}],
]

AGREEMENT = Exercise(
    right=_agreement,
    trials=lambda: [
        ({"red", "cube"}, DRAWN),
        ({"large", "green", "cone"}, DRAWN),
        ({"large"}, DRAWN[:3]),
        ({"cone"}, DRAWN),
    ],
    mistakes=(
        Mistake(
            "word for word",
            lambda thing, draws: sum(thing in told for told in draws) / len(draws),
            "a thing of which more is said agrees as well. At least these words are asked for.",
        ),
        Mistake(
            "a number",
            lambda thing, draws: sum(any(thing <= o for o in told) for told in draws),
            "this is how many agree. Their share is asked for.",
        ),
        Mistake(
            "things",
            lambda thing, draws: sum(thing <= o for told in draws for o in told) / len(draws),
            "a description that tells of two such things counts twice.",
        ),
        Mistake(
            "of all things",
            lambda thing, draws: (
                sum(thing <= o for told in draws for o in told) / sum(map(len, draws))
            ),
            "this is the share of things. That of descriptions is asked for.",
        ),
        Mistake(
            "less is said",
            lambda thing, draws: sum(any(o <= thing for o in told) for told in draws) / len(draws),
            "this asks whether the description says no more than the thing. Turn it round.",
        ),
    ),
)


def _sure_words(thing: Words, draws: list[list[Words]], need: float, short: bool = False) -> int:
    sizes = [
        num
        for num in range(1, len(thing) + 1)
        for some in itertools.combinations(sorted(thing), num)
        if _agreement(set(some), draws) >= need
    ]
    return (min if short else max)(sizes, default=0)


SURE_WORDS = Exercise(
    right=_sure_words,
    trials=lambda: [
        ({"large", "red", "cube"}, DRAWN, 0.6),
        ({"large", "green", "cone"}, DRAWN, 0.7),
        ({"large", "red", "cube"}, DRAWN, 0.2),
        ({"purple", "torus"}, DRAWN, 0.5),
    ],
    mistakes=(
        Mistake(
            "word by word",
            lambda thing, draws, need: sum(_agreement({word}, draws) >= need for word in thing),
            "each word is sure for itself. Whether they are so together is another question.",
        ),
        Mistake(
            "all or nothing",
            lambda thing, draws, need: len(thing) * (_agreement(thing, draws) >= need),
            "this leaves out the whole thing. Part of its words may be sure.",
        ),
        Mistake(
            "the smallest",
            lambda thing, draws, need: _sure_words(thing, draws, need, short=True),
            "this is the smallest set that is sure. The largest is asked for.",
        ),
        Mistake(
            "more than need",
            lambda thing, draws, need: _sure_words(thing, draws, need + 1e-9),
            "an agreement of exactly need is enough.",
        ),
    ),
)


def _keep(wrong: list[int], said: list[int], limit: float, factor: float = 1.96) -> list[int]:
    shares = [bad / n for bad, n in zip(wrong, said, strict=True)]
    return [
        k
        for k, (w, n) in enumerate(zip(shares, said, strict=True))
        if w + factor * (w * (1 - w) / n) ** 0.5 <= limit
    ]


def _fewest(wrong: list[int], said: list[int], limit: float, factor: float = 1.96) -> int:
    return min(_keep(wrong, said, limit, factor), default=len(wrong) - 1)


FEWEST = Exercise(
    right=_fewest,
    trials=lambda: [
        ([46, 30, 17, 9, 3, 1], [320, 318, 310, 300, 280, 250], 0.05),
        ([20, 12, 5, 4], [100, 95, 90, 80], 0.1),
        ([9, 8, 8], [40, 39, 35], 0.05),
        ([11, 9, 7, 4, 1], [200, 200, 200, 200, 200], 0.05),
        ([2, 1, 1], [400, 390, 380], 0.05),
    ],
    mistakes=(
        Mistake(
            "the share",
            lambda wrong, said, limit: _fewest(wrong, said, limit, 0.0),
            "the share itself is compared with the limit. The upper end of its interval should be.",
        ),
        Mistake(
            "the lower end",
            lambda wrong, said, limit: _fewest(wrong, said, limit, -1.96),
            "this is the lower end of the interval.",
        ),
        Mistake(
            "the last",
            lambda wrong, said, limit: max(_keep(wrong, said, limit), default=len(wrong) - 1),
            "this is the last that keeps to the limit. The first is asked for.",
        ),
        Mistake(
            "one standard error",
            lambda wrong, said, limit: _fewest(wrong, said, limit, 1.0),
            "the interval has 1.96 standard errors on each side.",
        ),
    ),
)


# --- applications/moderation.md -------------------------------------------------------------------


def _said(*seeds: int) -> list[tuple[Tensor, Tensor, int]]:
    """Probabilities, what is so, and a number of bins."""
    trials = []
    for seed in seeds:
        p = torch.rand(60, generator=torch.Generator().manual_seed(seed)) ** 2
        p[:3] = torch.tensor([0.0, 0.5, 1.0])
        trials.append((p, (_random(60, seed=seed + 9) > 0.4).long(), 4 + seed))
    return trials


def _calibration(
    p: Tensor, y: Tensor, num: int, weigh: bool = True, power: int = 1, sign: bool = False
) -> Tensor:
    which = (p * num).long().clamp(max=num - 1)
    parts = [which == b for b in which.unique()]
    gaps = torch.stack([y[part].float().mean() - p[part].mean() for part in parts])
    share = torch.stack([part.float().mean() for part in parts])
    gaps = gaps if sign else gaps.abs() ** power
    return (gaps * share).sum() if weigh else gaps.mean()


def _equal_numbers(p: Tensor, y: Tensor, num: int) -> Tensor:
    parts = torch.tensor_split(p.argsort(), num)
    gaps = [(y[part].float().mean() - p[part].mean()).abs() * len(part) for part in parts]
    return torch.stack(gaps).sum() / len(p)


CALIBRATION_ERROR = Exercise(
    right=_calibration,
    trials=lambda: _said(0, 1, 5),
    mistakes=(
        Mistake(
            "unweighted",
            lambda p, y, num: _calibration(p, y, num, weigh=False),
            "each bin counts alike. Weigh it by its share of the pictures.",
        ),
        Mistake(
            "squared",
            lambda p, y, num: _calibration(p, y, num, power=2),
            "the differences are squared. Take their absolute values.",
        ),
        Mistake(
            "no absolute value",
            lambda p, y, num: _calibration(p, y, num, sign=True),
            "too high and too low cancel each other. Take the absolute value in each bin.",
        ),
        Mistake(
            "bins of equal number",
            _equal_numbers,
            "these bins hold as many pictures each. They should be as wide as each other.",
        ),
        Mistake(
            "picture by picture",
            lambda p, y, num: (y - p).abs().mean(),
            "this compares each picture by itself. Compare the means of bins.",
        ),
    ),
)


def _suspicious(*seeds: int) -> list[tuple[Tensor, Tensor, float]]:
    """Scores, which of them are bad, and the share that may pass."""
    return [
        (_random(80, seed=n), _random(80, seed=n + 50) > 0.3, share)
        for n, share in zip(seeds, (0.05, 0.2, 0.1), strict=True)
    ]


def _promise(score: Tensor, bad: Tensor, share: float) -> Tensor:
    own = score[bad].sort().values
    return next(t for t in own.flip(0) if (own < t).float().mean() <= share)


PROMISE = Exercise(
    right=_promise,
    trials=lambda: _suspicious(1, 2, 3),
    mistakes=(
        Mistake(
            "of all",
            lambda score, bad, share: _promise(score, torch.ones_like(bad), share),
            "this counts all pictures. The promise is about the bad ones.",
        ),
        Mistake(
            "the good ones",
            lambda score, bad, share: _promise(score, ~bad, share),
            "this counts the harmless pictures. The promise is about the bad ones.",
        ),
        Mistake(
            "the lowest",
            lambda score, bad, share: score[bad].min(),
            "with this limit none passes, and more is held back than need be. Take the highest"
            " that keeps the promise.",
        ),
        Mistake(
            "the other end",
            lambda score, bad, share: _promise(-score, bad, share).neg(),
            "here most of the bad ones pass: those below the limit do.",
        ),
    ),
)


def _named(*seeds: int) -> list[tuple[Tensor, ...]]:
    """What is named without and with a plate, what is so, and what the plate says, of 4."""
    trials = []
    for seed in seeds:
        rng = torch.Generator().manual_seed(seed)
        own, told, other, luck, plate = (torch.randint(4, (40,), generator=rng) for _ in range(5))
        told = torch.where(told == own, (own + 1) % 4, told)
        before = torch.where(luck > 0, own, other)
        after = torch.where(plate > 1, told, torch.where(plate == 1, other, before))
        trials.append((before, after, own, told))
    return trials


def _success(before: Tensor, after: Tensor, own: Tensor, told: Tensor) -> Tensor:
    right = before == own
    return (after[right] == told[right]).float().mean()


SUCCESS = Exercise(
    right=_success,
    trials=lambda: _named(0, 1, 2),
    mistakes=(
        Mistake(
            "of all",
            lambda before, after, own, told: (after == told).float().mean(),
            "this is a share of all. What was wrong before needs no attack and does not count.",
        ),
        Mistake(
            "right ones over all",
            lambda before, after, own, told: ((before == own) & (after == told)).float().mean(),
            "the right ones are counted above the line and all below it. Divide by the right ones.",
        ),
        Mistake(
            "no longer right",
            lambda before, after, own, told: (
                (after[before == own] != own[before == own]).float().mean()
            ),
            "this counts every answer that is wrong now. Only those that the plate names count.",
        ),
        Mistake(
            "changed",
            lambda before, after, own, told: (before != after).float().mean(),
            "this counts every answer that changed.",
        ),
    ),
)


EXERCISES = {
    "found-share": FOUND_SHARE,
    "share": SHARE,
    "cells": CELLS,
    "teaching-loss": TEACHING_LOSS,
    "unknown-share": UNKNOWN_SHARE,
    "letters": LETTERS,
    "precision": PRECISION,
    "nearest-good": NEAREST_GOOD,
    "threshold": THRESHOLD,
    "whole-sessions": WHOLE_SESSIONS,
    "near-copies": NEAR_COPIES,
    "between": BETWEEN,
    "agreement": AGREEMENT,
    "sure-words": SURE_WORDS,
    "fewest": FEWEST,
    "calibration-error": CALIBRATION_ERROR,
    "promise": PROMISE,
    "success": SUCCESS,
}
