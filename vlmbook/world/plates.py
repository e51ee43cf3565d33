"""Text plates: cards that stand on the table and carry a word.

The word is drawn with a font that matplotlib ships (found by its place on disk, matplotlib itself
is not imported); a Hangul word needs a Korean font on the system, and find_font says so when there
is none.

Book: appendix/world.md.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MIN_SIZE = 96  # pixels: the smallest picture in which a word can be read
TEXTURE = 64  # rows of a card's texture
MAX_WIDTH = 5.0  # a card is at most this many times as wide as it is high

# Where systems keep fonts with Hangul, and how those are named.
FONT_FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "/Library/Fonts",
    "/System/Library/Fonts",
    "C:/Windows/Fonts",
    "~/.fonts",
    "~/.local/share/fonts",
)
HANGUL_FONTS = (
    "NotoSansCJK-Bold.ttc",
    "NotoSansKR-Bold.otf",
    "NotoSansKR-Bold.ttf",
    "NanumGothicBold.ttf",
    "malgunbd.ttf",
    "AppleSDGothicNeo.ttc",
    "NotoSansCJK-Regular.ttc",
    "NanumGothic.ttf",
    "malgun.ttf",
)


def is_hangul(text: str) -> bool:
    """Whether a text holds a Hangul syllable."""
    return any("가" <= letter <= "힣" for letter in text)


@lru_cache
def latin_font() -> Path:
    """The bold sans-serif font inside matplotlib's own folder."""
    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            "text plates need the font that matplotlib ships; install matplotlib"
        )
    return Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"


@lru_cache
def hangul_font() -> Path | None:
    """A Korean font of this system, or None where it has none."""
    folders = [Path(f).expanduser() for f in FONT_FOLDERS]
    found = {
        p.name: p for f in folders if f.is_dir() for p in f.rglob("*") if p.name in HANGUL_FONTS
    }
    return next((found[name] for name in HANGUL_FONTS if name in found), None)


def find_font(text: str) -> Path:
    """The font file for a text; a FileNotFoundError says what to install when there is none."""
    if not is_hangul(text):
        return latin_font()
    path = hangul_font()
    if path is None:
        raise FileNotFoundError(
            f"plate text {text!r} needs a Korean font and this system has none;"
            " install Noto Sans CJK or Nanum Gothic"
        )
    return path


@lru_cache(maxsize=256)
def texture(text: str) -> np.ndarray:
    """The card as ink: (TEXTURE, W) float32 in [0, 1], 1 where the word is; W follows from the
    word.
    """
    # The simple layout: the other one is there only where a library of the system is.
    simple = ImageFont.Layout.BASIC
    font = ImageFont.truetype(str(find_font(text)), int(TEXTURE * 0.74), layout_engine=simple)
    left, top, right, bottom = font.getbbox(text)
    width = min(int(right - left + TEXTURE * 0.5), int(MAX_WIDTH * TEXTURE))
    card = Image.new("L", (width, TEXTURE), 0)
    # one baseline for all words: place by the height of capitals, not by the word's own box
    baseline = int(TEXTURE * 0.74)
    ImageDraw.Draw(card).text(
        ((width - (right - left)) / 2 - left, baseline), text, fill=255, font=font, anchor="ls"
    )
    ink = np.asarray(card, dtype=np.float32) / 255
    ink.setflags(write=False)
    return ink


def aspect(text: str) -> float:
    """How many times a card is wider than high."""
    return texture(text).shape[1] / TEXTURE
