"""Words on cards: the right word, in a font that has it."""

import numpy as np
import pytest

from vlmbook.world import plates
from vlmbook.world.splits import PLATE_WORDS


def test_every_word_of_the_splits_has_ink_of_its_own():
    seen = {word: plates.texture(word).tobytes() for word in PLATE_WORDS}
    assert len(set(seen.values())) == len(PLATE_WORDS)
    for word in PLATE_WORDS:
        ink = plates.texture(word)
        assert 0.05 < ink.mean() < 0.4
        assert ink[:, 0].max() == ink[:, -1].max() == 0  # nothing is cut off at the sides
        assert ink[0].max() == ink[-1].max() == 0
        assert plates.aspect(word) == ink.shape[1] / plates.TEXTURE


def test_words_stand_on_one_baseline():
    lowest = {
        w: int(np.flatnonzero(plates.texture(w).max(1) > 0.5).max())
        for w in ("red", "blue", "cube")
    }
    assert len(set(lowest.values())) == 1
    assert int(np.flatnonzero(plates.texture("egg").max(1) > 0.5).max()) > lowest["red"]


def test_the_latin_font_needs_no_matplotlib_import():
    assert plates.latin_font().is_file()
    assert plates.find_font("cube") == plates.latin_font()


def test_hangul_needs_a_font_and_says_so(monkeypatch):
    monkeypatch.setattr(plates, "hangul_font", lambda: None)
    with pytest.raises(
        FileNotFoundError, match="'공' needs a Korean font and this system has none"
    ):
        plates.find_font("공")
    assert plates.is_hangul("빨강") and not plates.is_hangul("red")


def test_hangul_is_drawn_where_there_is_a_font():
    if plates.hangul_font() is None:
        with pytest.raises(FileNotFoundError):
            plates.texture("구")
    else:
        assert (plates.texture("구") != plates.texture("공")).any()
