"""How good, how sure, and whether that is what was expected.

An Estimate is a number with the interval that the data leave open. A finding is written down as an
Expectation before it is measured (results/expectations.yml), and verdict() says what became of it.

n items, S seeds. Intervals are at 95 % unless another level is given.

Wilson 1927, Efron 1979. Book: concepts/evaluation.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import ArrayLike
from scipy import stats

LEVEL = 0.95
RESAMPLES = 10_000
EXPECTATIONS = Path(__file__).parent.parent / "results" / "expectations.yml"


@dataclass(frozen=True)
class Estimate:
    """A value with the ends of its interval, from num items or seeds."""

    value: float
    low: float
    high: float
    num: int
    level: float = LEVEL

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    @property
    def width(self) -> float:
        """How far apart the ends are."""
        return self.high - self.low


def accuracy(correct: ArrayLike, level: float = LEVEL) -> Estimate:
    """The share of correct items (n,) of zeros and ones, with Wilson's interval.

    The interval holds for items drawn one by one from the population that the claim is about.

    Wilson 1927.
    """
    correct = _scores(correct, "correct")
    if not np.isin(correct, (0, 1)).all():
        raise ValueError(
            f"correct holds {_strangest(correct)}; accuracy takes right (1) and wrong (0), mean"
            " takes any scores"
        )
    _check_level(level)
    test = stats.binomtest(int(correct.sum()), len(correct))
    low, high = test.proportion_ci(level, method="wilson")
    return Estimate(float(correct.mean()), float(low), float(high), len(correct), level)


def mean(scores: ArrayLike, level: float = LEVEL, seed: int = 0) -> Estimate:
    """The mean of scores (n,) of any kind, with the percentile bootstrap's interval.

    It is too narrow for fewer than about 30 items, and has no width where all scores are alike.

    Efron 1979.
    """
    return _bootstrap(_scores(scores, "scores"), level, seed)


def paired_difference(a: ArrayLike, b: ArrayLike, level: float = LEVEL, seed: int = 0) -> Estimate:
    """The mean of a - b over the same items (n,) each, with the paired bootstrap's interval.

    Items that are hard for both cancel out, so that the interval is narrower than the two
    accuracies' own ones suggest.
    """
    return _bootstrap(np.subtract(*_paired(a, b)), level, seed)


def sign_test(a: ArrayLike, b: ArrayLike) -> float:
    """How likely a and b, on the same items (n,), would differ so often one way if neither was
    better: p, two-sided and exact.

    Only items count on which they differ, and not by how much; of scores that are 0 or 1 it is the
    test of McNemar (1947).
    """
    differ = np.sign(np.subtract(*_paired(a, b)))
    num = int(np.count_nonzero(differ))
    return float(stats.binomtest(int((differ > 0).sum()), num).pvalue) if num else 1.0


def holm(p: ArrayLike) -> np.ndarray:
    """p (m,) of m tests made at once, each corrected for all: below 0.05, it is found with a chance
    of 0.05 at most that any is found for nothing.

    Holm 1979.
    """
    p = _scores(p, "p")
    order = p.argsort()
    found = np.empty_like(p)
    found[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return found


def over_seeds(values: ArrayLike, level: float = LEVEL) -> Estimate:
    """The mean of one value a seed, (S,), with Student's t interval: where the mean of all lies.

    Another single seed may well fall outside. Raises ValueError for a single seed, from which
    nothing can be said about others.
    """
    values = _scores(values, "values")
    _check_level(level)
    if len(values) < 2:
        raise ValueError(f"{len(values)} seed says nothing about others; run 5 or more")
    center, spread = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
    reach = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * spread
    return Estimate(center, center - reach, center + reach, len(values), level)


def over_seeds_and_items(scores: ArrayLike, level: float = LEVEL) -> Estimate:
    """The mean of scores (S, n) of S seeds on the same n items: what other seeds *and* other items
    might give.

    Seeds and items are taken as crossed random effects: the variances that they and their interplay
    leave in the mean are estimated apart (analysis of variance) and added up. The interval is
    Student's t with Satterthwaite's degrees of freedom, near S - 1 where seeds matter most. It has
    no width where all scores are alike.

    Satterthwaite 1946.
    """
    scores = np.asarray(scores, dtype=float)
    if scores.ndim != 2 or min(scores.shape) < 2 or not np.isfinite(scores).all():
        raise ValueError(
            f"scores of shape {scores.shape} can't be estimated both ways; pass finite numbers"
            " (S, n), of two seeds and two items or more"
        )
    _check_level(level)
    num_seeds, num_items = scores.shape
    by_seed, by_item = scores.mean(1), scores.mean(0)
    center = float(scores.mean())
    rest = scores - by_seed[:, None] - by_item + center
    parts = by_seed.var(ddof=1) / num_seeds, by_item.var(ddof=1) / num_items
    shared = (rest**2).sum() / ((num_seeds - 1) * (num_items - 1)) / (num_seeds * num_items)
    variance = max(sum(parts) - shared, *parts)  # the interplay is in both parts; count it once
    reach = 0.0
    if variance > 0:
        freedom = sum(parts) ** 2 / (
            parts[0] ** 2 / (num_seeds - 1) + parts[1] ** 2 / (num_items - 1)
        )
        reach = float(stats.t.ppf((1 + level) / 2, freedom)) * math.sqrt(variance)
    return Estimate(center, center - reach, center + reach, num_items, level)


def hierarchical_bootstrap(
    scores: Sequence[ArrayLike], level: float = LEVEL, seed: int = 0
) -> Estimate:
    """The mean over S seeds of the mean of each one's items, resampling seeds, then their items.

    scores holds S arrays, one a seed; seeds may have been asked different items, and different
    numbers of them. The percentile interval is too narrow below about eight seeds: give Student's
    (over_seeds) and every seed beside it. Raises ValueError for a single seed.

    Efron 1979; Davison and Hinkley 1997, section 3.8.
    """
    each = [_scores(own, f"seed {n}") for n, own in enumerate(scores)]
    _check_level(level)
    if len(each) < 2:
        raise ValueError(f"{len(each)} seed says nothing about others; run 5 or more")
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(each), size=(RESAMPLES, len(each)))
    total = np.zeros(RESAMPLES)
    for n, own in enumerate(each):
        times = (drawn == n).sum(1)
        row = np.repeat(np.arange(RESAMPLES), times)
        for some in np.array_split(row, max(1, len(row) * len(own) // 4_000_000)):
            picked = own[rng.integers(len(own), size=(len(some), len(own)))]
            np.add.at(total, some, picked.mean(1))
    low, high = np.quantile(total / len(each), [(1 - level) / 2, (1 + level) / 2])
    value = float(np.mean([own.mean() for own in each]))
    return Estimate(value, float(low), float(high), len(each), level)


@dataclass(frozen=True)
class Expectation:
    """What a finding should show, written down before it is measured.

    The effect is stated so that the expected direction is positive. minimum is the least effect
    that counts as the finding; within +- margin, effects count as none.
    """

    claim: str
    minimum: float
    margin: float
    source: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.margin < self.minimum:
            raise ValueError(
                f"margin {self.margin} and minimum {self.minimum} leave no room for a verdict;"
                " 0 < margin < minimum is needed"
            )


def expectation(name: str, path: Path = EXPECTATIONS) -> Expectation:
    """One entry of expectations.yml; KeyError lists those that there are."""
    known = yaml.safe_load(path.read_text("utf8"))
    if name not in known:
        raise KeyError(f"no expectation {name!r}; there are: {', '.join(sorted(known))}")
    return Expectation(**known[name])


@dataclass(frozen=True)
class Verdict:
    """What became of an expectation: "reproduced", "direction only", "not detectable", "reversed".

    no_effect is True where the interval lies within the margin: not merely unseen, but too small
    to matter.
    """

    word: str
    effect: Estimate
    no_effect: bool = False

    def __str__(self) -> str:
        return f"{self.word}: {self.effect}" + (", within the margin" if self.no_effect else "")


def verdict(effect: Estimate, expected: Expectation) -> Verdict:
    """Compare a measured effect with what was expected of it.

    reproduced      the interval lies above 0 and the effect is the minimum or more
    direction only  the interval lies above 0, the effect is smaller than the minimum
    not detectable  the interval holds 0, or lies within the margin around it
    reversed        the interval lies below 0
    """
    no_effect = -expected.margin <= effect.low and effect.high <= expected.margin
    if no_effect or effect.low <= 0 <= effect.high:
        word = "not detectable"
    elif effect.high < 0:
        word = "reversed"
    else:
        word = "reproduced" if effect.value >= expected.minimum else "direction only"
    return Verdict(word, effect, no_effect)


def _paired(a: ArrayLike, b: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    a, b = _scores(a, "a"), _scores(b, "b")
    if len(a) != len(b):
        raise ValueError(
            f"a has {len(a)} items and b {len(b)}; pairing needs the same items in the same order"
        )
    return a, b


def _bootstrap(scores: np.ndarray, level: float, seed: int) -> Estimate:
    """The mean of scores with a percentile interval over resampled items."""
    _check_level(level)
    if len(scores) < 2:
        raise ValueError("one item says nothing about others; pass two or more")
    if np.ptp(scores) == 0:  # every resample is the same
        value = float(scores[0])
        return Estimate(value, value, value, len(scores), level)
    found = stats.bootstrap(
        (scores,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=max(1, 4_000_000 // len(scores)),
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(float(scores.mean()), float(found.low), float(found.high), len(scores), level)


def _scores(values: ArrayLike, name: str) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.ndim != 1:
        raise ValueError(f"{name} has shape {values.shape}; pass one number an item, (n,)")
    if not len(values):
        raise ValueError(f"{name} is empty; there is nothing to estimate from")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds {_strangest(values)}; leave such items out, and say so")
    return values


def _strangest(values: np.ndarray) -> float:
    """The first value that is not 0, 1 or even finite, for a message."""
    bad = values[~np.isfinite(values)]
    return float(bad[0] if len(bad) else values[~np.isin(values, (0, 1))][0])


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level {level} is not between 0 and 1; 0.95 is usual")
