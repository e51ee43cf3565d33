"""Ranks that can be counted by hand, and galleries in which a description means one scene."""

import re
from dataclasses import replace

import pytest
import torch

from vlmbook import retrieval, world
from vlmbook.world.vocabulary import ATTRIBUTES

SCORES = torch.tensor(
    [
        [0.9, 0.1, 0.3],
        [0.8, 0.2, 0.7],
        [0.4, 0.6, 0.5],
    ]
)


def test_ranks_by_hand():
    assert retrieval.ranks(SCORES).tolist() == [1, 3, 2]
    assert retrieval.ranks(SCORES.T).tolist() == [1, 2, 2]  # columns look for rows
    assert retrieval.ranks(-SCORES).tolist() == [3, 1, 2]


def test_a_tie_is_a_miss():
    assert retrieval.ranks(torch.ones(4, 4)).tolist() == [4, 4, 4, 4]
    scores = torch.tensor([[0.5, 0.5, 0.1]])
    assert retrieval.ranks(scores, torch.tensor([[True, False, False]])).tolist() == [2]
    both = torch.tensor([[True, True, False]])  # what ties is relevant too
    assert retrieval.ranks(scores, both).tolist() == [1]


def test_the_first_of_several_relevant_items_counts():
    relevant = torch.tensor([[0, 1, 1, 0], [1, 0, 0, 1], [0, 1, 0, 0], [1, 1, 1, 1]]).bool()
    scores = torch.tensor([[4.0, 3, 2, 1]] * 3 + [[-1.0, -2, -3, -4]])
    assert retrieval.ranks(scores, relevant).tolist() == [2, 1, 2, 1]
    assert retrieval.ranks(scores[:2], relevant[:2]).tolist() == [2, 1]  # fewer queries than items


def test_recall_by_hand():
    ranks = torch.tensor([1, 3, 2])
    assert retrieval.recall(ranks).tolist() == [True, False, False]
    assert retrieval.recall(ranks, 2).tolist() == [True, False, True]
    assert retrieval.recall(ranks, 3).all()


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (retrieval.ranks, (SCORES[:2],), r"shape \(2, 3\) don't pair .*; pass relevant \(Q, G\)"),
        (retrieval.ranks, (SCORES[0],), r"scores of shape \(3,\) don't pair"),
        (retrieval.ranks, (SCORES, torch.eye(3) > 1), "query 0 has no relevant item; leave it out"),
        (
            retrieval.ranks,
            (SCORES, torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0]]).bool()),
            "query 1 has no relevant item",
        ),
        (
            retrieval.ranks,
            (SCORES, torch.ones(3, 1).bool()),
            r"relevant has shape \(3, 1\), and scores \(3, 3\)",
        ),
        (retrieval.ranks, (SCORES / 0,), "scores hold numbers that are not finite"),
        (retrieval.ranks, (SCORES.log().log(),), "scores hold numbers that are not finite"),
        (retrieval.recall, (SCORES, 0), "k 0 is not a number of items; use 1 or more"),
    ],
)
def test_what_is_refused(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_a_full_description_tells_each_attribute_and_no_order(attribute):
    one = world.Object("cube", "red", "rubber", "large", (0.3, 0.0))
    two = world.Object("cone", "blue", "metal", "small", (-0.3, 0.1), rotation=1.0)
    told = retrieval.full_description(world.Scene((one, two)))
    moved = replace(one, position=two.position), replace(two, position=one.position)
    assert retrieval.full_description(world.Scene(moved[::-1], floor="slate")) == told
    values = world.PRESETS["full"].values(attribute)
    other = next(value for value in values if value != getattr(one, attribute))
    changed = replace(one, **{attribute: other})
    assert retrieval.full_description(world.Scene((changed, two))) != told
    assert len(retrieval.full_description(world.Scene((one, moved[0], two)))) == 3  # twins count


def pairs(scenes):
    """What decides about the split of a scene of two things or more."""
    return {tuple(sorted((o.color, o.shape) for o in scene.objects)) for scene in scenes}


def test_a_gallery_is_of_scenes_that_differ_and_were_not_trained_on():
    made = retrieval.gallery(40, "tiny", seed=1)
    assert len({retrieval.full_description(scene) for scene in made}) == len(made) == 40
    assert {(s.split, s.preset, s.seed) for s in made} == {("test", "tiny", 1)}
    assert {len(scene) for scene in made} == {2, 3}
    drawn = world.sample(60, "tiny", "test", 1, (2, 3))
    assert len({retrieval.full_description(scene) for scene in drawn}) < 50  # doubles do occur
    train = pairs(world.sample(300, "tiny", "train", num_objects=(2, 3)))
    assert not pairs(made) & train
    assert pairs(retrieval.gallery(40, "tiny", "train", 2)) & train


def test_a_gallery_is_the_same_however_it_is_drawn(monkeypatch):
    made = retrieval.gallery(60, "standard", num_objects=2)
    assert made[:20] == retrieval.gallery(20, "standard", num_objects=2)
    monkeypatch.setattr(retrieval, "DRAWN_AT_ONCE", 20)
    assert retrieval.gallery(60, "standard", num_objects=2) == made
    assert retrieval.gallery(60, "standard", num_objects=2, seed=1) != made


def test_more_than_there_is_is_refused_with_what_there_is():
    message = r"split 'val' of preset 'tiny' has about (\d+) different descriptions of 2 objects"
    with pytest.raises(ValueError, match=message + ", not 900; ask for fewer") as caught:
        retrieval.gallery(900, "tiny", "val", num_objects=2)
    num = int(re.search(message, str(caught.value)).group(1))
    assert len(retrieval.gallery(num, "tiny", "val", num_objects=2)) == num > 5


def test_the_first_k_are_put_in_the_order_of_the_judge_and_the_rest_stays_behind():
    torch.manual_seed(0)
    scores, truth = torch.randn(7, 20), torch.randn(7, 20)
    asked = []

    def judge(rows, columns):
        asked.extend(zip(rows.tolist(), columns.tolist(), strict=True))
        return truth[rows, columns]

    found = retrieval.rerank(scores, judge, 5)
    for q in range(7):
        before, after = (table[q].argsort(descending=True).tolist() for table in (scores, found))
        assert after[:5] == sorted(before[:5], key=lambda item: -truth[q, item])
        assert after[5:] == before[5:]
        assert sorted(item for query, item in asked if query == q) == sorted(before[:5])
    everything = retrieval.rerank(scores, judge, 20)
    assert torch.equal(everything.argsort(1), truth.argsort(1))
    for k in (0, 21):
        with pytest.raises(ValueError, match=f"k {k} is not a number of items, 1 to 20"):
            retrieval.rerank(scores, judge, k)


def test_what_the_first_search_can_not_tell_from_the_first_k_stays_behind_them():
    found = retrieval.rerank(torch.ones(3, 6), lambda rows, columns: torch.zeros(len(rows)), 2)
    assert ((found == 0).sum(1) == 2).all() and ((found < 0).sum(1) == 4).all()
