"""Answers, open ones and yes or no, by hand and against the formulas of their sources."""

import numpy as np
import pytest

from vlmbook import evaluate, world


@pytest.mark.parametrize(
    ("agree", "score"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)]
)
def test_ten_people(agree, score):
    people = ["red"] * agree + [f"other {n}" for n in range(10 - agree)]
    assert evaluate.vqa_accuracy("red", people) == pytest.approx(score)


@pytest.mark.parametrize(("num", "score"), [(1, 0), (2, 1 / 3), (3, 2 / 3), (4, 1), (10, 1)])
def test_one_answer_repeated(num, score):
    assert evaluate.vqa_accuracy("A red cube.", ["red cube"] * num) == pytest.approx(score)


def test_answers_in_common_form():
    assert evaluate.normalized("The Two cubes, and a sphere.") == "2 cubes and sphere"
    assert evaluate.normalized("None") == "0"
    found = evaluate.exact_match(["Two", "a cube", "blue"], ["2", "cube", "red"])
    assert found.tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("text", "strict", "lenient"),
    [
        ("Yes, there is.", True, True),
        ("No.", False, False),
        ("There is not one.", False, False),
        ("", None, True),
        ("A cube", None, True),
        ("yes and no", None, False),
        ("Yes. No.", None, True),
        ("Nothing", None, True),
    ],
)
def test_yes_or_no(text, strict, lenient):
    assert evaluate.yes_or_no(text) is strict
    assert evaluate.lenient_yes(text) is lenient


def test_yes_or_no_in_korean():
    assert [evaluate.yes_or_no(t, "ko") for t in ("네.", "아니요", "글쎄")] == [True, False, None]


def test_always_yes_has_two_thirds():
    found = evaluate.pope([True] * 10, [True] * 5 + [False] * 5)
    assert found == (0.5, 0.5, 1.0, pytest.approx(2 / 3), 1.0, 0.0)


def test_pope_by_hand():
    found = evaluate.pope([True, False, None, True, False], [True, True, True, False, False])
    assert found == (0.4, 0.5, pytest.approx(1 / 3), pytest.approx(0.4), 0.4, 0.2)
    assert evaluate.pope([False, None], [True, True]).f1 == 0
    assert evaluate.pope(np.array([True, False]), np.array([True, False])).accuracy == 1


def test_bad_input():
    with pytest.raises(ValueError, match="2 answers don't fit 1 truths"):
        evaluate.exact_match(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="no answers"):
        evaluate.pope([], [])
    with pytest.raises(ValueError, match="people is 'red'; pass a list"):
        evaluate.vqa_accuracy("red", "red")


def test_the_blind_one_knows_what_was_answered_before():
    def asked(text, answer, family="count", language="en"):
        return world.Question(text, answer, family, (), language)

    train = [asked("how many cubes?", a) for a in "1121"] + [asked("how many eggs?", "3")] * 5
    train += [asked("몇 개?", "2", language="ko")]
    test = [
        asked("how many cubes?", "?"),
        asked("how many cones?", "?"),
        asked("?", "?", "count", "ko"),
    ]
    assert evaluate.blind(train, test) == ["1", "3", "2"]
    torn = [asked("which?", answer) for answer in "3113"]
    assert evaluate.blind(torn, torn[:1]) == evaluate.blind(torn[::-1], torn[:1]) == ["3"]
    assert evaluate.blind(torn[1:] + torn[:1], torn[:1]) == ["1"]  # the first one met
    with pytest.raises(ValueError, match="no question of family 'exist' in 'en'; ask some"):
        evaluate.blind(train, [asked("is there?", "?", "exist")])
