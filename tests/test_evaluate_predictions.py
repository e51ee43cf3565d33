"""Stored predictions come back, are all there, and are what entrants say today."""

import random

import pytest
import torch

from vlmbook.evaluate import battery, entrants, predictions
from vlmbook.evaluate.entrants import ENTRANTS, Prediction

STORED = [name for name in ENTRANTS if predictions.path_of(name).is_file()]
SHARE = 100  # one item in so many is asked again


def test_what_was_said_comes_back(tmp_path):
    said = [Prediction("color/en/0001", "red", 1.0), Prediction("color/en/0000", "빨간색", 0.25)]
    path = predictions.save("a model, LM", said, {"weights": "abc"}, tmp_path)
    assert path.name == "a-model-LM.parquet"
    found = predictions.load("a model, LM", tmp_path)
    assert found.said == {"color/en/0000": "빨간색", "color/en/0001": "red"}
    assert found.of("color", "en").tolist() == [0.25, 1.0]
    assert found.of("color", "ko").shape == (0,)
    assert found.about == {"name": "a model, LM", "weights": "abc"}
    predictions.save("a model, LM", said[:1], {}, tmp_path)
    assert predictions.load("a model, LM", tmp_path).of("color", "en").tolist() == [1.0]
    assert [p.name for p in tmp_path.iterdir()] == ["a-model-LM.parquet"]


def test_missing_predictions_say_how_they_are_made(tmp_path):
    with pytest.raises(predictions.PredictionsError, match="comparison.py 'clip-mini'"):
        predictions.load("clip-mini", tmp_path)


def test_every_entrant_is_stored():
    assert list(ENTRANTS) == STORED


@pytest.mark.parametrize("name", STORED)
@torch.no_grad()
def test_a_hundredth_is_said_again(name):
    """Which hundredth is drawn anew each time; what was drawn is in the message."""
    stored, entrant = predictions.load(name), ENTRANTS[name]()
    assert stored.about["weights"] == entrant.weights
    assert stored.about["battery"] == battery.fingerprint()
    seed = random.randrange(10**6)
    rng, again = random.Random(seed), []
    for skill in battery.SKILLS:
        language = rng.choice(battery.LANGUAGES)
        items = battery.items(skill, language)
        way = entrant.way(items)
        told = stored.of(skill, language)
        assert len(told) == (len(items) if way else 0), (skill, language)
        if way and way != "find":  # looking for things takes all of them
            some = rng.sample(items, len(items) // SHARE)
            again += entrant.predict(some, items)
    differ = [p for p in again if p.said != stored.said[p.item]]
    for p in again:
        if p.said == stored.said[p.item]:
            assert p.score == pytest.approx(stored.scores[p.item], abs=1e-5), p
    # Another machine may round otherwise, and two answers be nearly as likely.
    assert len(differ) <= 1 + len(again) // 50, (seed, differ)
    assert len(again) >= 30


def test_entrants_say_nothing_where_they_are_not_asked():
    assert entrants.Chance().predict(battery.items("describe", "en", 4)) == []
