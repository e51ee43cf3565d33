"""Checks for the exercises: each knows the usual mistakes, and says which one was made.

    >>> from vlmbook.exercises.concepts import check
    >>> check("cosine", my_cosine)
    Not yet: these are dot products of vectors whose lengths still count. ...

A mistake is not guessed from the text of an answer. It is written down here as a wrong answer, and
recognised because it gives the same results as the reader's on the exercise's trials. So a check
knows any way of writing the right answer, and any way of making a listed mistake.

Each chapter's exercises have a module here; their texts and solutions are on its pages.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

TOLERANCE = 1e-4  # relative and absolute; mistakes differ by far more


@dataclass(frozen=True)
class Mistake:
    """A usual wrong answer: its name, an answer that makes it, and what to say to who made it."""

    name: str
    answer: Any
    message: str


@dataclass(frozen=True)
class Exercise:
    """What is asked, as trials that a right answer passes.

    right is the right answer: a function, or a value where the exercise asks for one. A function
    is called with each of the trials, tuples of arguments.
    """

    right: Any
    mistakes: tuple[Mistake, ...]
    trials: Callable[[], list[tuple]] = lambda: [()]


@dataclass(frozen=True)
class Result:
    """Whether an answer is right; if not, the mistake that it makes, "" for none that is listed."""

    right: bool
    mistake: str
    message: str

    def __repr__(self) -> str:
        return self.message


class _Unfit(Exception):
    """The answer can't be compared: it fails, or gives something of another kind or shape."""


def judge(exercises: Mapping[str, Exercise], name: str, answer: Any) -> Result:
    """Compare an answer, a function or a value, with the right one and with the usual mistakes.

    Never raises for what the answer does: an error in it is told as a result. Raises ValueError for
    an exercise that does not exist.
    """
    if name not in exercises:
        raise ValueError(f"no exercise {name!r}; there are: {', '.join(sorted(exercises))}")
    exercise = exercises[name]
    if answer is None or answer is ...:
        return Result(False, "", "Not yet: there is no answer.")
    if callable(exercise.right) != callable(answer):
        wanted = "the function itself" if callable(exercise.right) else "the number, not a function"
        return Result(
            False, "", f"Not yet: pass {wanted}; this is of type {type(answer).__name__}."
        )
    trials = exercise.trials()
    wanted = _results(exercise.right, trials)
    try:
        given = _results(answer, trials)
        if _same(given, wanted):
            return Result(True, "", "Right.")
    except _Unfit as problem:
        return Result(False, "", f"Not yet: {problem}")
    for mistake in exercise.mistakes:
        if _same(given, _results(mistake.answer, trials)):
            return Result(False, mistake.name, f"Not yet: {mistake.message}")
    return Result(False, "", f"Not yet: {_difference(given, wanted)}")


def _results(answer: Any, trials: list[tuple]) -> list[Tensor]:
    """What an answer gives for each trial, as tensors; _Unfit tells why it gives none."""
    if not callable(answer):
        return [_tensor(answer)]
    results = []
    for trial in trials:
        try:
            given = answer(*copy.deepcopy(trial))  # it may change what it is given
        except Exception as error:  # whatever the reader's code raises
            said = f": {error}" if str(error) else "."
            raise _Unfit(f"your function raised {type(error).__name__}{said}") from None
        results.append(_tensor(given))
    return results


def _tensor(value: Any) -> Tensor:
    if value is None or value is ...:
        raise _Unfit("your function returns nothing.")
    try:
        return torch.as_tensor(value).detach().double()
    except Exception:  # torch raises several kinds
        kind = type(value).__name__
        raise _Unfit(f"the answer is of type {kind}, not a number or a tensor.") from None


def _same(given: list[Tensor], other: list[Tensor]) -> bool:
    return len(given) == len(other) and all(
        a.shape == b.shape and torch.allclose(a, b, TOLERANCE, TOLERANCE, equal_nan=True)
        for a, b in zip(given, other, strict=True)
    )


def _difference(given: list[Tensor], wanted: list[Tensor]) -> str:
    """Where an answer with no listed mistake first differs."""
    for a, b in zip(given, wanted, strict=True):
        if a.shape != b.shape:
            return f"the answer has shape {tuple(a.shape)}, and {tuple(b.shape)} is wanted."
        far = ~torch.isclose(a, b, TOLERANCE, TOLERANCE, equal_nan=True)
        if far.any():
            place = far.nonzero()[0].tolist()
            at = f" at {place}" if place else ""
            here, there = a[tuple(place)].item(), b[tuple(place)].item()
            return f"no mistake that I know; it is {here:.7g}{at} where {there:.7g} is right."
    return "no mistake that I know."
