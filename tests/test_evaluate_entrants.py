"""Each entrant is asked in the way that it has, and graded alike."""

import numpy as np
import pytest
import torch

from vlmbook import checkpoint, evaluate
from vlmbook.evaluate import battery, entrants
from vlmbook.evaluate.entrants import ENTRANTS, Entrant

NUM = 24


class Knowing(Entrant):
    """Looks nothing up in pictures, and everything in a table of what is true."""

    name = "knowing"

    def __init__(self, items):
        self.true = {item.texts[item.right] for item in items if item.texts}
        self.answers = {item.question: item.answer for item in items}

    def see(self, pixels):
        return pixels.flatten(1)[:, :1]

    def fit(self, seen, texts, language):
        assert len(seen) == len(texts)
        return torch.tensor([float(text in self.true) for text in texts])

    def find(self, seen, texts, language):
        scores = torch.eye(len(texts))
        return scores, scores.flip(0)  # finds each text, and no picture, but the middle one


class Talking(Entrant):
    name = "talking"

    def answer(self, pixels, questions, language):
        return ["Red."] * len(questions)

    def describe(self, pixels, language):
        return ["A red cube."] * len(pixels)


def test_each_is_asked_in_the_way_that_it_has():
    swap, color, describe, compare = (
        battery.items(s, "en", NUM) for s in ("swap", "color", "describe", "compare")
    )
    knowing, talking = Knowing(swap), Talking()
    assert [e.way(swap) for e in (knowing, talking)] == ["fit", None]
    assert [e.way(color) for e in (knowing, talking)] == ["fit", "answer"]
    assert [e.way(describe) for e in (knowing, talking)] == [None, "describe"]
    assert knowing.way(compare) is None  # there are no sentences for it
    assert talking.predict(swap) == []
    assert [p.score for p in knowing.predict(swap)] == [1.0] * NUM
    said = talking.predict(color)
    assert [p.item for p in said] == [item.id for item in color]
    assert [p.score for p in said] == [float(item.answer == "red") for item in color]


def test_whoever_finds_all_texts_alike_has_chosen_none():
    class Mute(Knowing):
        def fit(self, seen, texts, language):
            return torch.zeros(len(texts))

    items = battery.items("color", "ko", NUM)
    assert sum(p.score for p in Mute(items).predict(items)) == 0


def test_texts_are_looked_for_by_pictures_and_the_other_way():
    items = battery.items("find picture", "en", NUM + 1)
    found = Knowing(items).predict(items)
    assert [p.score for p in found] == [1.0] * (NUM + 1)
    assert [p.said for p in found] == [item.id for item in items]
    items = battery.items("find text", "en", NUM + 1)
    found = Knowing(items).predict(items)
    assert [n for n, p in enumerate(found) if p.score] == [NUM // 2]
    some = Knowing(items).predict(items[10:14], items)
    assert some == found[10:14]


def test_what_is_described_is_graded_by_its_facts():
    items = battery.items("describe", "en", NUM)
    graded = evaluate.scene_graph(["A red cube."] * NUM, [i.scene for i in items]).f1
    np.testing.assert_allclose([p.score for p in Talking().predict(items)], graded)


def test_baselines():
    items = battery.items("count", "en", 30)
    assert {p.score for p in entrants.Chance().predict(items)} == {1 / 3}
    constant = entrants.Constant().predict(items)
    assert len({p.said for p in constant}) == 1
    assert sum(p.score for p in constant) == 10
    assert entrants.Chance().predict(battery.items("describe", "en", NUM)) == []
    swap = battery.items("swap", "en", NUM)
    assert {p.score for p in entrants.Chance().predict(swap)} == {0.5}
    found = battery.items("find text", "en", NUM)
    assert {p.score for p in entrants.Chance().predict(found)} == {1 / NUM}


@pytest.mark.parametrize("language", battery.LANGUAGES)
def test_a_bag_knows_what_is_there_and_not_whose(language):
    bag = entrants.Bag()
    items = battery.items("color", language, NUM)
    for item, found in zip(items, bag.predict(items), strict=True):
        colors = [o.color for o in item.scene.objects]
        asked = battery.items("color", "en", NUM)[items.index(item)].answer
        assert found.score == pytest.approx(colors.count(asked) / len(colors))
    assert bag.predict(battery.items("exist", language, NUM)) == []


@pytest.mark.parametrize("language", battery.LANGUAGES)
def test_the_blind_one_knows_sentences_and_no_pictures(language):
    blind = entrants.Blind()
    order = blind.predict(battery.items("order", language, NUM))
    assert np.mean([p.score for p in order]) > 0.9
    for skill in ("color", "exist"):
        items = battery.items(skill, language, NUM)
        shown = {item.id: p.said for item, p in zip(items, blind.predict(items), strict=True)}
        other = [
            battery.Item(**{**vars(item), "scene": items[0].scene}) for item in items
        ]  # of other pictures
        assert {p.item: p.said for p in blind.predict(other)} == shown


def test_a_reader_is_told_the_scene_and_shown_no_picture(monkeypatch):
    entrant = ENTRANTS["reader, concatenation"]()
    items = battery.items("color", "ko", NUM)
    monkeypatch.setattr(battery, "pixels", None)
    said = entrant.predict(items)
    assert np.mean([p.score for p in said]) > 0.5
    assert entrant.shipped == "reader-concatenation"
    assert entrant.weights == checkpoint.fingerprint(checkpoint.load(entrant.shipped)[0])
    assert entrant.predict(battery.items("swap", "en", NUM)) == []


@pytest.mark.parametrize("name", [n for n in ENTRANTS if n not in entrants.BASELINES])
@torch.no_grad()
def test_models_are_better_than_guesses_where_they_should_be(name):
    entrant = ENTRANTS[name]()
    items = battery.items("color", "ko", 60)
    assert np.mean([p.score for p in entrant.predict(items)]) > 0.35  # by chance 0.1
    assert len(entrant.weights) == 64


@torch.no_grad()
def test_llava_says_how_likely_it_finds_a_text():
    entrant = entrants.Llava()
    items = battery.items("swap", "en", 3)
    seen = entrant.see(battery.pixels(items))
    texts = [item.texts[0] for item in items]
    together = entrant.fit(seen, texts, "en")
    for n, text in enumerate(texts):
        prompt = entrant.model.prompts(
            [[{"role": "user", "content": entrants.DESCRIBE["en"]}]], entrant.words, 1
        )
        total, ids = 0.0, entrant.words.encode(text)[1:]  # without the start, with the end
        for token in ids:
            read = entrant.model.read(prompt, seen[n : n + 1])
            logits = entrant.model.text.next_logits(read.feats[:, -1])
            total += float(logits.log_softmax(1)[0, token])
            prompt = torch.cat([prompt, torch.tensor([[token]])], 1)
        assert float(together[n]) == pytest.approx(total, abs=1e-3)


@torch.no_grad()
def test_a_slow_head_puts_in_order_what_a_quick_one_found():
    items = battery.items("find picture", "en", NUM)
    quick, slow = entrants.BlipHead("ITC"), entrants.BlipHead("ITM")
    seen = quick.see(battery.pixels(items))
    texts = [item.texts[0] for item in items]
    scores, turned = quick.find(seen, texts, "en")
    assert torch.equal(scores.T, turned)
    ordered, _ = slow.find(seen, texts, "en")
    best = scores.topk(entrants.RERANKED).indices
    assert torch.equal(ordered.topk(entrants.RERANKED).indices.sort(1)[0], best.sort(1)[0])
    own = slow.fit(seen[best[0]], [texts[0]] * entrants.RERANKED, "en")
    torch.testing.assert_close(ordered[0, best[0]], own, atol=1e-4, rtol=1e-4)
    assert checkpoint.fingerprint(quick.model) == slow.weights
