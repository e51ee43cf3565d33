"""Intervals that hold the truth as often as they say, and verdicts that follow from them."""

import math
import re
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from scipy import stats

from vlmbook import evaluate
from vlmbook.evaluate import EXPECTATIONS, Estimate, Expectation, estimates

SHIPPED = EXPECTATIONS.read_text("utf8")
BIBLIOGRAPHY = Path(__file__).resolve().parent.parent / "book" / "references.bib"


def ends(estimate):
    return estimate.low, estimate.high


def resampled(*samples, level=0.95, num=3000):
    """The bootstrap's ends in a loop; of two samples, drawn apart, the means are subtracted."""
    rng = np.random.default_rng(7)
    found = []
    for _ in range(num):
        means = [s[rng.integers(len(s), size=len(s))].mean() for s in samples]
        found.append(means[0] - sum(means[1:]))
    return np.quantile(found, [(1 - level) / 2, (1 + level) / 2])


def answers(rng, num, shared):
    """Right and wrong (num,) of two models that find the same items hard, or each its own."""
    hard = rng.uniform(size=(2, num))
    a, b = (hard[0], hard[0] if shared else hard[1])
    noise = rng.normal(0, 0.1, (2, num))
    return ((a + noise[0]) < 0.65).astype(float), ((b + noise[1]) < 0.6).astype(float)


def wilson(hits, num, level):
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = hits / num
    center = share + z**2 / (2 * num)
    reach = z * math.sqrt(share * (1 - share) / num + z**2 / (4 * num**2))
    return [(center + sign * reach) / (1 + z**2 / num) for sign in (-1, 1)]


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize(("hits", "num"), [(0, 7), (1, 1), (5, 10), (37, 40), (40, 40), (610, 900)])
def test_accuracy_has_wilsons_interval(hits, num, level):
    found = evaluate.accuracy([True] * hits + [False] * (num - hits), level)
    assert found.value == hits / num and (found.num, found.level) == (num, level)
    assert ends(found) == pytest.approx(wilson(hits, num, level), abs=1e-12)


def test_accuracy_by_hand():
    z2 = 1.959964**2  # at 0 of n Wilson's interval is [0, z2 / (n + z2)], at n of n its mirror
    assert ends(evaluate.accuracy(np.zeros(20))) == pytest.approx((0, z2 / (20 + z2)), abs=1e-6)
    assert ends(evaluate.accuracy(torch.ones(20))) == pytest.approx((20 / (20 + z2), 1), abs=1e-6)
    assert ends(evaluate.accuracy([1, 0] * 5)) == pytest.approx((0.2366, 0.7634), abs=5e-5)


@pytest.mark.parametrize(("truth", "num"), [(0.98, 40), (0.7, 60)])
def test_accuracy_holds_the_truth_and_a_normal_interval_does_not(truth, num):
    outcomes = np.random.default_rng(0).random((2000, num)) < truth
    found = [evaluate.accuracy(row) for row in outcomes]
    assert np.mean([e.low <= truth <= e.high for e in found]) == pytest.approx(0.95, abs=0.02)
    share = outcomes.mean(1)
    reach = 1.96 * np.sqrt(share * (1 - share) / num)
    normal = np.mean(np.abs(share - truth) <= reach)
    assert normal < 0.65 if truth == 0.98 else normal > 0.92


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_mean_is_the_bootstrap_of_a_slow_loop(level):
    scores = np.random.default_rng(1).exponential(size=30)  # skewed, so that methods differ
    found = evaluate.mean(scores, level)
    error = scores.std() / math.sqrt(30)
    assert found.value == pytest.approx(scores.mean()) and (found.num, found.level) == (30, level)
    assert ends(found) == pytest.approx(resampled(scores, level=level), abs=0.15 * error)
    assert found.low < found.value - 0.8 * error and found.high > found.value + 0.8 * error


def test_the_bootstrap_depends_on_its_seed_and_hardly():
    scores = np.random.default_rng(1).exponential(size=30)
    error = scores.std() / math.sqrt(30)
    first, second = evaluate.mean(scores, seed=1), evaluate.mean(scores, seed=2)
    assert evaluate.mean(scores, seed=1) == first != second
    assert ends(first) == pytest.approx(ends(second), abs=0.1 * error)


def test_bootstraps_hold_the_truth(monkeypatch):
    monkeypatch.setattr(estimates, "RESAMPLES", 500)
    rng = np.random.default_rng(2)
    true_a, true_b = (s.mean() for s in answers(rng, 500_000, shared=True))
    held = []
    for _ in range(400):
        a, b = answers(rng, 50, shared=True)
        mean, paired = evaluate.mean(a), evaluate.paired_difference(a, b)
        held.append((mean.low <= true_a <= mean.high, paired.low <= true_a - true_b <= paired.high))
    assert np.mean(held, 0) == pytest.approx(0.94, abs=0.035)


def test_pairing_helps_where_the_same_items_are_hard():
    widths = {}
    for shared in (True, False):
        a, b = answers(np.random.default_rng(3), 400, shared)
        paired = evaluate.paired_difference(a, b)
        assert paired.value == pytest.approx(a.mean() - b.mean()) and paired.num == 400
        assert ends(paired) == pytest.approx(resampled(a - b), abs=0.15 * (a - b).std() / 20)
        low, high = resampled(a, b)
        widths[shared] = paired.width / (high - low)
    assert widths[True] < 0.7 and widths[False] == pytest.approx(1, abs=0.1)


def test_what_does_not_vary_has_no_width():
    assert ends(evaluate.paired_difference([1, 0, 1], [1, 0, 1])) == (0, 0)
    assert ends(evaluate.mean([0.1] * 3)) == (0.1, 0.1)  # no rounding either
    assert evaluate.paired_difference([1, 0, 1], [1, 0, 0]).width > 0


def test_over_seeds_is_students_interval():
    found = evaluate.over_seeds([1, 2, 3])
    reach = 4.302653 / math.sqrt(3)  # t with 2 degrees of freedom; the spread is 1
    assert (found.value, found.num) == (2, 3)
    assert ends(found) == pytest.approx((2 - reach, 2 + reach), abs=1e-6)
    values = np.random.default_rng(4).normal(0.7, 0.1, 6)
    expected = stats.t.interval(0.8, 5, loc=values.mean(), scale=stats.sem(values))
    assert ends(evaluate.over_seeds(values, 0.8)) == pytest.approx(expected)


def test_over_seeds_holds_the_mean_where_the_bootstrap_is_too_narrow(monkeypatch):
    monkeypatch.setattr(estimates, "RESAMPLES", 200)
    runs = np.random.default_rng(5).normal(0.7, 0.1, (600, 5))

    def held(method):
        return np.mean([e.low <= 0.7 <= e.high for e in map(method, runs)])

    assert held(evaluate.over_seeds) == pytest.approx(0.95, abs=0.025)
    assert held(evaluate.mean) < 0.88


def test_the_majority_by_hand():
    train, test = ["yes", "no", "yes"], ["no", "no", "yes", "no"]
    right = evaluate.majority(train, test)
    assert right.dtype == bool and right.tolist() == [False, False, True, False]
    assert evaluate.majority(test, test).tolist() == [True, True, False, True]


def test_a_class_is_the_direction_between_its_prompts():
    east, north, up = torch.eye(3)
    prompts = F.normalize(torch.stack([east, east + north, -north, up]), dim=1).unflatten(0, (2, 2))
    angle, half = math.pi / 8, math.sqrt(0.5)
    between = torch.tensor([[math.cos(angle), math.sin(angle), 0], [0, -half, half]])
    torch.testing.assert_close(evaluate.class_embeddings(prompts), between)
    longer = prompts * torch.tensor([[1.0, 20.0], [0.1, 3.0]])[..., None]  # none has more to say
    torch.testing.assert_close(evaluate.class_embeddings(longer), between)
    torch.testing.assert_close(evaluate.class_embeddings(prompts[:, :1]), prompts[:, 0])


@pytest.mark.parametrize(
    ("value", "low", "high", "word", "no_effect"),
    [
        (0.3, 0.2, 0.4, "reproduced", False),
        (0.1, 0.05, 0.4, "reproduced", False),  # just the minimum
        (0.0999, 0.05, 0.4, "direction only", False),
        (0.05, 0.01, 0.09, "direction only", False),  # above 0, partly within the margin
        (0.01, 0.001, 0.0201, "direction only", False),  # just not within the margin
        (0.01, 0.001, 0.02, "not detectable", True),  # above 0, and too small to matter
        (0.0, -0.02, 0.02, "not detectable", True),
        (0.0, -0.0201, 0.02, "not detectable", False),  # unseen, and maybe large enough
        (0.3, 0.0, 0.6, "not detectable", False),  # touches 0
        (0.3, -0.1, 0.7, "not detectable", False),
        (-0.3, -0.6, 0.0, "not detectable", False),
        (-0.01, -0.02, -0.001, "not detectable", True),
        (-0.01, -0.0201, -0.001, "reversed", False),
        (-0.3, -0.4, -0.2, "reversed", False),
    ],
)
def test_verdict(value, low, high, word, no_effect):
    effect = Estimate(value, low, high, 50)
    found = evaluate.verdict(effect, Expectation("More helps.", minimum=0.1, margin=0.02))
    assert (found.word, found.no_effect, found.effect) == (word, no_effect, effect)
    told = f"{word}: {effect}" + (", within the margin" if no_effect else "")
    assert str(found) == told


def test_an_estimate_prints_its_interval():
    estimate = Estimate(0.75, 0.30064, 0.9544, 4)
    assert str(estimate) == f"{estimate}" == "0.750 [0.301, 0.954]"
    assert estimate.width == pytest.approx(0.65376)


def test_expectations_are_read(tmp_path):
    path = tmp_path / "expectations.yml"
    path.write_text("size:\n  claim: 큰 것이 낫다.\n  minimum: 0.1\n  margin: 0.02\n", "utf8")
    assert evaluate.expectation("size", path) == Expectation("큰 것이 낫다.", 0.1, 0.02, "")
    with pytest.raises(KeyError, match="no expectation 'color'; there are: size"):
        evaluate.expectation("color", path)
    path.write_text("size:\n  claim: Larger is better.\n  minimum: 0.1\n", "utf8")
    with pytest.raises(TypeError, match="margin"):
        evaluate.expectation("size", path)


@pytest.mark.parametrize("name", sorted(yaml.safe_load(SHIPPED)))
def test_each_expectation_of_the_book_can_be_judged(name):
    expected = evaluate.expectation(name)
    assert isinstance(expected.minimum, float) and isinstance(expected.margin, float)
    assert expected.minimum > expected.margin > 0
    assert expected.claim.endswith(".")
    assert f"{{{expected.source}," in BIBLIOGRAPHY.read_text("utf8")
    assert len(re.findall(f"^{name}:", SHIPPED, re.M)) == 1  # yaml would keep the last


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (evaluate.accuracy, ([],), "correct is empty; there is nothing to estimate from"),
        (evaluate.accuracy, ([[1, 0]],), r"correct has shape \(1, 2\); pass one number an item"),
        (evaluate.accuracy, (1,), r"correct has shape \(\); pass one number an item"),
        (evaluate.accuracy, ([1, math.nan],), "correct holds nan; leave such items out"),
        (evaluate.accuracy, ([0, 1, 0.5],), "correct holds 0.5; accuracy takes right .* mean"),
        (evaluate.accuracy, ([0, 1], 95), "level 95 is not between 0 and 1; 0.95 is usual"),
        (evaluate.accuracy, ([0, 1], 0), "level 0 is not between"),
        (evaluate.mean, ([],), "scores is empty"),
        (evaluate.mean, (np.ones((2, 3)),), r"scores has shape \(2, 3\)"),
        (evaluate.mean, ([0.2, -math.inf],), "scores holds -inf; leave such items out"),
        (evaluate.mean, ([0.2],), "one item says nothing about others; pass two or more"),
        (evaluate.mean, ([0.2, 0.3], 1), "level 1 is not between"),
        (
            evaluate.paired_difference,
            ([1, 0], [1]),
            "a has 2 items and b 1; pairing needs the same",
        ),
        (evaluate.paired_difference, ([1, 0], []), "b is empty"),
        (evaluate.paired_difference, ([1], [0]), "one item says nothing"),
        (evaluate.paired_difference, ([1, 0], [1, 1], 95), "level 95 is not between"),
        (evaluate.over_seeds, ([0.7],), "1 seed says nothing about others; run 5 or more"),
        (evaluate.over_seeds, ([],), "values is empty"),
        (evaluate.over_seeds, ([0.7, 0.8], 95), "level 95 is not between"),
        (evaluate.majority, ([], ["yes"]), "there are no answers to learn the most frequent"),
        (
            evaluate.class_embeddings,
            (torch.ones(4, 8),),
            r"text_emb has shape \(4, 8\); pass \(num_classes, K, E\), .* text_emb\[:, None\] for",
        ),
    ],
)
def test_what_is_refused(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)


def crossed(rng, num_seeds, num_items, seeds, items, rest):
    """Scores whose true mean is 0: each seed, each item, and each pair of them adds something."""
    a, b = rng.normal(0, seeds, (num_seeds, 1)), rng.normal(0, items, (1, num_items))
    return a + b + rng.normal(0, rest, (num_seeds, num_items))


@pytest.mark.parametrize("spreads", [(0.3, 1.0, 1.0), (1.0, 1.0, 0.5), (0.02, 1.0, 0.3)])
def test_seeds_and_items_together_hold_the_truth(spreads):
    rng, inside, of_items = np.random.default_rng(1), 0, 0
    for _ in range(1500):
        scores = crossed(rng, 5, 60, *spreads)
        found = evaluate.over_seeds_and_items(scores)
        inside += found.low <= 0 <= found.high
        mean, spread = scores.mean(), scores.mean(0).std(ddof=1) / 60**0.5
        of_items += abs(mean) <= 1.96 * spread
    assert 0.93 < inside / 1500 < 0.985
    if spreads[0] > 0.1:  # leaving out the seeds breaks the promise
        assert of_items / 1500 < 0.85


def test_where_only_seeds_or_only_items_differ_it_is_the_interval_of_those():
    rng = np.random.default_rng(2)
    seeds, items = rng.normal(0, 1, (6, 1)), rng.normal(0, 1, (1, 400))
    found = evaluate.over_seeds_and_items(seeds + np.zeros((1, 400)))
    assert ends(found) == pytest.approx(ends(evaluate.over_seeds(seeds[:, 0])))
    found = evaluate.over_seeds_and_items(items + np.zeros((6, 1)))
    assert ends(found) == pytest.approx(ends(evaluate.mean(items[0])), abs=0.01)
    assert found.num == 400 and found.value == pytest.approx(items.mean())
    narrow = evaluate.over_seeds_and_items(items + np.zeros((6, 1)), level=0.5)
    assert narrow.width < found.width / 2
    assert evaluate.over_seeds_and_items(np.ones((3, 4))).width == 0


@pytest.mark.parametrize(
    "scores", [[1.0, 0.0], [[1.0, 0.0]], [[1.0], [0.0]], [[1.0, 0.0], [np.nan, 1]]]
)
def test_seeds_and_items_need_two_of_each(scores):
    with pytest.raises(ValueError, match="can't be estimated both ways; pass finite numbers"):
        evaluate.over_seeds_and_items(scores)


def test_winoground_scores_want_each_choice():
    items = torch.tensor(
        [
            [[0.9, 0.1], [0.2, 0.8]],  # all four right
            [[0.5, 0.4], [0.6, 0.7]],  # each picture chooses right, caption 0 does not
            [[0.5, 0.6], [0.4, 0.7]],  # each caption chooses right, picture 0 does not
            [[0.3, 0.3], [0.1, 0.5]],  # a tie chooses nothing
            [[0.1, 0.9], [0.8, 0.2]],
        ]
    )
    text, image, group = evaluate.winoground(items)
    assert text.tolist() == [True, True, False, False, False]
    assert image.tolist() == [True, False, True, True, False]
    assert group.tolist() == [True, False, False, False, False]
    guesses = evaluate.winoground(torch.rand(40_000, 2, 2, generator=torch.Generator()))
    for guess, chance in zip(guesses, (1 / 4, 1 / 4, 1 / 6), strict=True):
        assert guess.float().mean().item() == pytest.approx(chance, abs=0.01)
    with pytest.raises(ValueError, match=r"shape \(3, 2\) are not \(n, 2, 2\)"):
        evaluate.winoground(torch.zeros(3, 2))


def test_the_hierarchical_bootstrap_covers_what_other_seeds_and_items_give():
    rng, covered, narrow = np.random.default_rng(0), [], []
    for trial in range(60):
        seeds = 0.3 + 0.1 * rng.standard_normal(12)  # the truth is 0.3
        scores = [own + 0.5 * rng.standard_normal(rng.integers(20, 40)) for own in seeds]
        found = evaluate.hierarchical_bootstrap(scores, seed=trial)
        covered.append(found.low < 0.3 < found.high)
        items = evaluate.mean(np.concatenate(scores))
        narrow.append(items.width < found.width)
        assert found.value == pytest.approx(np.mean([own.mean() for own in scores]))
    assert 0.85 <= np.mean(covered) < 1 and np.mean(narrow) > 0.8
    assert evaluate.hierarchical_bootstrap(scores, seed=trial) == found
    assert evaluate.hierarchical_bootstrap(scores, seed=trial + 1) != found
    # By its definition, slowly, for one small case.
    scores, means = [np.array([0.0, 1.0, 1.0]), np.array([0.0, 0.0, 0.0, 4.0])], []
    for _ in range(20_000):
        some = [scores[k] for k in rng.integers(2, size=2)]
        means.append(np.mean([rng.choice(own, len(own)).mean() for own in some]))
    found = evaluate.hierarchical_bootstrap(scores)
    assert found.low == pytest.approx(np.quantile(means, 0.025), abs=0.03)
    assert found.high == pytest.approx(np.quantile(means, 0.975), abs=0.03)
    half = evaluate.hierarchical_bootstrap(scores, level=0.5)
    assert half.width < 0.7 * found.width
    with pytest.raises(ValueError, match="level 95 is not between 0 and 1"):
        evaluate.hierarchical_bootstrap(scores, level=95)
    with pytest.raises(ValueError, match="1 seed says nothing about others; run 5 or more"):
        evaluate.hierarchical_bootstrap(scores[:1])
    with pytest.raises(ValueError, match="seed 1 is empty"):
        evaluate.hierarchical_bootstrap([scores[0], []])


def test_the_sign_test_counts_items_on_which_two_differ():
    a = np.array([1, 1, 1, 1, 1, 1, 0, 0, 0.5, 0.7])
    b = np.array([0, 0, 0, 0, 0, 0, 1, 0, 0.5, 0.2])
    # 7 of 8 one way: by a coin, that or more lopsided has 2 (8 + 1) of 256 ways.
    assert evaluate.sign_test(a, b) == pytest.approx(18 / 256)
    assert evaluate.sign_test(b, a) == pytest.approx(18 / 256)
    assert evaluate.sign_test(a, a) == 1.0
    rng = np.random.default_rng(0)
    found = [evaluate.sign_test(*rng.integers(2, size=(2, 100))) for _ in range(400)]
    assert np.mean(np.array(found) < 0.05) <= 0.07  # seldom, where there is nothing
    with pytest.raises(ValueError, match="a has 10 items and b 1"):
        evaluate.sign_test(a, b[:1])


def test_holm_corrects_for_all_tests_made():
    p = np.array([0.04, 0.001, 0.03, 0.6, 0.012])
    np.testing.assert_allclose(evaluate.holm(p), [0.09, 0.005, 0.09, 0.6, 0.048])
    assert evaluate.holm([0.7, 0.8]).tolist() == [1.0, 1.0]
    assert evaluate.holm([0.03]).tolist() == [0.03]
    rng = np.random.default_rng(1)
    none = [evaluate.holm(rng.random(20)).min() < 0.05 for _ in range(2000)]
    assert 0.035 < np.mean(none) < 0.065  # any at all, of twenty that are nothing
    assert np.all(evaluate.holm(p) <= np.minimum(1, len(p) * p))
