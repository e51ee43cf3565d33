"""Each exercise knows the right answer and its usual mistakes, and stands on a page with both."""

import copy
import importlib
import pkgutil
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vlmbook import exercises
from vlmbook.exercises import Exercise, Mistake, judge

BOOK = Path(__file__).resolve().parent.parent / "book"
CHAPTERS = {
    found.name: importlib.import_module(f"vlmbook.exercises.{found.name}")
    for found in pkgutil.iter_modules(exercises.__path__)
}
ALL = [(chapter, name) for chapter, module in CHAPTERS.items() for name in module.EXERCISES]
each_exercise = pytest.mark.parametrize(("chapter", "name"), ALL)
DIRECTIVE = re.compile(
    r"^(?P<fence>:{3,}|`{3,})\{(?P<kind>exercise|solution)\}[ \t]*(?P<title>.*)\n"
    r"(?P<body>(?:.*\n)*?)(?P=fence)[ \t]*$",
    re.M,
)
PYTHON = re.compile(r"^```python\n((?:.*\n)*?)```$", re.M)


def labels(text):
    """The names of the exercises and the bodies of the solutions on a page."""
    found = [m.groupdict() for m in DIRECTIVE.finditer(text)]
    asked = [
        re.search(r"^:label: ex-(\S+)$", d["body"], re.M) for d in found if d["kind"] == "exercise"
    ]
    told = {
        d["title"].strip().removeprefix("ex-"): d["body"] for d in found if d["kind"] == "solution"
    }
    return [label and label[1] for label in asked], told


def off(answer):
    """An answer that is near another and gives other numbers."""

    def near(*arguments):
        given = answer(*arguments) if callable(answer) else answer
        return torch.as_tensor(given).double() * 1.01 + 0.01

    return near if callable(answer) else near()


def scribbling(answer):
    """The same answer, which leaves nothing of its arguments."""

    def scribble(*arguments):
        given = copy.deepcopy(answer(*arguments))
        for argument in arguments:
            if isinstance(argument, torch.Tensor):
                argument.zero_()
            elif isinstance(argument, list):
                argument.clear()
        return given

    return scribble if callable(answer) else answer


def test_chapters_are_found():
    assert "concepts" in CHAPTERS
    names = [name for _, name in ALL]
    assert len(names) == len(set(names))  # a label stands for one exercise of the book


@each_exercise
def test_the_right_answer_passes_and_each_mistake_is_recognised(chapter, name):
    module = CHAPTERS[chapter]
    exercise = module.EXERCISES[name]
    assert len({m.name for m in exercise.mistakes}) == len(exercise.mistakes) >= 2
    assert len({m.message for m in exercise.mistakes}) == len(exercise.mistakes)
    right = module.check(name, exercise.right)
    assert right.right and right.mistake == "" and repr(right) == "Right."
    assert not module.check(name, off(exercise.right)).right
    # In the reverse order too: no two mistakes give the same results.
    backwards = {name: replace(exercise, mistakes=exercise.mistakes[::-1])}
    for mistake in exercise.mistakes:
        for result in (module.check(name, mistake.answer), judge(backwards, name, mistake.answer)):
            assert (result.right, result.mistake) == (False, mistake.name)
            assert repr(result) == f"Not yet: {mistake.message}"
        near = module.check(name, off(mistake.answer))
        assert not near.right and near.mistake == ""


@each_exercise
def test_what_an_answer_does_to_its_arguments_does_no_harm(chapter, name):
    module = CHAPTERS[chapter]
    exercise = module.EXERCISES[name]
    assert module.check(name, scribbling(exercise.right)).right
    for mistake in exercise.mistakes:
        assert module.check(name, scribbling(mistake.answer)).mistake == mistake.name


@each_exercise
def test_messages_are_short_sentences(chapter, name):
    for mistake in CHAPTERS[chapter].EXERCISES[name].mistakes:
        sentences = re.split(r"(?<=[.?]) ", mistake.message)
        assert 1 <= len(sentences) <= 3, mistake.message
        assert all(len(s.split()) <= 24 and s[-1] in ".?" for s in sentences), mistake.message
        assert "  " not in mistake.message and "\n" not in mistake.message


@each_exercise
def test_the_solution_on_the_page_passes(chapter, name):
    pages = {path: labels(path.read_text("utf8")) for path in sorted(BOOK.rglob("*.md"))}
    page = [path for path, (asked, _) in pages.items() if name in asked]
    assert len(page) == 1, f"pages with an exercise labelled ex-{name}: {page}"
    told = pages[page[0]][1]
    assert name in told, f"{page[0]} has no solution ex-{name}"
    code = PYTHON.search(told[name])
    assert code, f"solution ex-{name} has no ```python block"
    namespace = {"__name__": "solution"}
    exec(compile(code[1], f"solution of ex-{name}", "exec"), namespace)
    answer = namespace.get(name.replace("-", "_"))
    assert answer is not None, f"solution ex-{name} defines no {name.replace('-', '_')}"
    assert callable(answer) == callable(CHAPTERS[chapter].EXERCISES[name].right)
    result = CHAPTERS[chapter].check(name, answer)
    assert result.right, result.message


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_each_exercise_of_a_chapter_has_a_check(chapter):
    pages = [BOOK / f"{chapter}.md", *sorted((BOOK / chapter).rglob("*.md"))]
    texts = {path: path.read_text("utf8") for path in pages}
    asked = {path: labels(text)[0] for path, text in texts.items() if "{code-cell}" in text}
    assert {path.name: n for path, names in asked.items() if not 3 <= (n := len(names)) <= 6} == {}
    assert sorted(sum(asked.values(), [])) == sorted(CHAPTERS[chapter].EXERCISES)


def test_directives_are_read_whatever_their_fence():
    page = """
:::{exercise} One
:label: ex-one
Text.
:::
````{exercise}
:label: ex-two-b
````
:::{exercise} Without a label
:class: dropdown
:::
::::{solution} ex-one
:class: dropdown
:::{note}
A note.
:::
```python
one = 1
```
::::
"""
    asked, told = labels(page)
    assert asked == ["one", "two-b", None] and list(told) == ["one"]
    assert PYTHON.search(told["one"])[1] == "one = 1\n"


DOUBLE = Exercise(
    right=lambda x: 2 * x,
    trials=lambda: [(torch.tensor(3.0),), (torch.tensor([3.0, 4.0, 5.0]),)],
    mistakes=(
        Mistake("squared", lambda x: x**2, "that is the square."),
        Mistake("halved", lambda x: x / 2, "that is half of it."),
    ),
)
COUNT = Exercise(right=4_000_000, mistakes=(Mistake("half", 2_000_000, "that is half of it."),))
TOY = {"double": DOUBLE, "count": COUNT}


def fails(x):
    raise KeyError("color")


def wrong_at(place, error):
    def wrong(x):
        return 2 * x + (error * (torch.arange(len(x)) >= place) if x.ndim else 0)

    return wrong


@pytest.mark.parametrize(
    ("name", "answer", "message"),
    [
        ("double", fails, "your function raised KeyError: 'color'"),
        ("double", lambda: 1, "your function raised TypeError: .*0 positional arguments but 1"),
        ("double", lambda x: None, "your function returns nothing"),
        ("double", lambda x: ..., "your function returns nothing"),
        ("count", None, "there is no answer"),
        ("double", lambda x: 2 * x.mean(), r"the answer has shape \(\), and \(3,\) is wanted"),
        ("double", lambda x: 2 * x[None], r"the answer has shape \(1,\), and \(\) is wanted"),
        ("double", lambda x: "six", "the answer is of type str, not a number or a tensor"),
        ("count", {"count": 4}, "the answer is of type dict, not a number or a tensor"),
        ("count", "4000000", "the answer is of type str"),
        ("double", lambda x: 2 * x * torch.nan, "no mistake that I know; it is nan where 6 is"),
        ("double", torch.tensor(6.0), "pass the function itself; this is of type Tensor"),
        ("double", 6, "pass the function itself; this is of type int"),
        ("double", wrong_at(2, 5.5), r"no mistake .*; it is 15.5 at \[2\] where 10 is right"),
        ("double", wrong_at(1, torch.arange(3)), r"no mistake .*; it is 9 at \[1\] where"),
        ("count", 3, "no mistake that I know; it is 3 where .* is right"),
        ("double", None, "there is no answer"),
    ],
)
def test_what_is_said_of_an_answer(name, answer, message):
    result = judge(TOY, name, answer)
    assert not result.right and result.mistake == ""
    assert re.match(f"Not yet: ({message})", repr(result)), repr(result)


def test_the_place_told_is_where_the_answers_differ():
    toy = {"large": Exercise(right=[4_123_456.0, 1.0], mistakes=COUNT.mistakes)}
    told = judge(toy, "large", [4_124_321.0, 2.0]).message
    numbers = re.search(r"it is (\S+) at \[0\] where (\S+) is right", told).groups()
    assert [float(n) for n in numbers] == pytest.approx([4_124_321, 4_123_456], rel=1e-5)
    # The first is near enough here, though it is further off than the second.
    assert judge(toy, "large", [4_123_465.0, 2.0]).message.endswith("2 at [1] where 1 is right.")


@pytest.mark.parametrize(
    "answer",
    [
        lambda x: x + x,
        lambda x: x.mul_(2),
        lambda x: x.numpy() * 2,
        lambda x: (2 * x).tolist(),
        lambda x: (2 * x).int(),
        lambda x: x.double() * 2,
        lambda x: 2.00001 * x,
    ],
)
def test_the_same_numbers_of_any_kind_are_right(answer):
    assert judge(TOY, "double", answer).right
    for count in (4_000_000, 4e6, np.int64(4_000_000), np.float32(4e6), torch.tensor(4_000_000)):
        assert judge(TOY, "count", count).right


def test_a_mistake_is_recognised_by_its_results_and_not_when_they_differ():
    assert judge(TOY, "double", lambda x: (x * x).double().numpy()).mistake == "squared"
    assert judge(TOY, "double", lambda x: x.pow_(2)).mistake == "squared"
    assert judge(TOY, "count", np.float64(2e6)).mistake == "half"
    assert judge(TOY, "double", lambda x: x**2 + 0.01).mistake == ""
    assert judge(TOY, "double", lambda x: x**2 if x.ndim else x).mistake == ""
    assert judge(TOY, "double", lambda x: x**2 if x.ndim else 2 * x).mistake == ""


def test_recall_does_not_leave_ties_to_the_sort():
    def sorting(scores, k):
        best = scores.argsort(1, descending=True)[:, :k]
        return (best == torch.arange(len(scores))[:, None]).any(1).float().mean()

    assert not CHAPTERS["concepts"].check("recall", sorting).right


def test_an_unknown_exercise_lists_those_there_are():
    with pytest.raises(ValueError, match="no exercise 'tripple'; there are: count, double"):
        judge(TOY, "tripple", lambda x: 3 * x)
