"""What is taken out of Sphinx's output, and what must stay."""

import shutil
from pathlib import Path

import numpy as np
import pydata_sphinx_theme
import pytest
from fontTools.ttLib import TTFont
from PIL import Image

from website import tidy

THEME = Path(pydata_sphinx_theme.__file__).parent / "theme/pydata_sphinx_theme/static"
SCRIPTS = """<html data-theme="auto"><head>
<script src="_static/searchtools.js"></script><script src="searchindex.js"></script>
<script>window.MathJax = {"loader": {}}</script>
<script defer="defer" src="_static/mathjax/startup.js?v=1"></script>
<script defer src="_static/scripts/fontawesome.js?digest=1"></script>
</head><body>"""
DRAWN = "0" * 64 + ".png"


@pytest.fixture
def html(tmp_path):
    """A page, the search page and a chapter called search, with the theme's own icons."""
    for name in ("styles", "vendor"):
        shutil.copytree(THEME / name, tmp_path / "_static" / name)
    (tmp_path / "_static/searchtools.js").write_text("querySelector('[role=\"main\"]')")
    (tmp_path / "_images").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (30, 40, 4), np.uint8)
    noise[..., 3] |= 1  # of what can't be seen, the colour is not kept
    noise[:, 20:] = 7  # so that WebP is the smaller one
    for name in (DRAWN, "logo.png"):
        Image.fromarray(noise).save(tmp_path / "_images" / name)
    pages = {
        "index.html": f'<i class="fa-solid fa-rocket"></i><img src="_images/{DRAWN}" alt="a">'
        f'<img src="data:image/png;base64,{"A" * 9000}" alt="b">',
        "search.html": "",
        "deep/search.html": '<img alt="l" src="../_images/logo.png">'
        '<div class="amsmath math notranslate nohighlight">x</div>',
    }
    for name, body in pages.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(SCRIPTS + body, "utf8")
    wanted = np.asarray(Image.open(tmp_path / "_images" / DRAWN))
    tidy.tidy(tmp_path)
    return tmp_path, wanted


def test_scripts_stay_where_they_are_of_use(html):
    texts = {name: (html[0] / name).read_text("utf8") for name in
             ("index.html", "search.html", "deep/search.html")}  # fmt: skip
    found = {name: ("searchindex" in it, "mathjax/" in it, "window.MathJax" in it)
             for name, it in texts.items()}  # fmt: skip
    assert found == {
        "index.html": (False, False, False),
        "search.html": (True, False, False),
        "deep/search.html": (False, True, True),
    }
    assert not any("fontawesome.js" in text for text in texts.values())
    assert all('data-theme="light"' in text for text in texts.values())


def test_pictures_are_smaller_and_say_how_large_they_are(html):
    folder, wanted = html
    text = (folder / "index.html").read_text("utf8")
    name = DRAWN.replace(".png", ".webp")
    assert f'src="_images/{name}" width="40" height="30"' in text
    assert np.array_equal(np.asarray(Image.open(folder / "_images" / name)), wanted)
    assert not (folder / "_images" / DRAWN).exists() and (folder / "_images/logo.png").exists()
    assert "base64,AAAA" in text and 'alt="b">' in text  # as it was
    assert 'width="40"' in (folder / "deep/search.html").read_text("utf8")


def test_icons_in_use_stay_and_others_go(html):
    static = html[0] / "_static"
    css = (static / "styles/pydata-sphinx-theme.css").read_text("utf8")
    assert ".fa-rocket:before" in css and ".fa-anchor:before" not in css
    fonts = static / "vendor/fontawesome/webfonts"
    assert {path.suffix for path in fonts.iterdir()} == {".woff"}
    codes = set(TTFont(fonts / "fa-solid-900.woff").getBestCmap())
    assert 0xF135 in codes and 0xF13D not in codes  # the rocket, and not the anchor
    assert 0xF0EB in codes  # a lightbulb, which the style sheet holds as a letter
    assert "woff2" not in css and css.count(".woff) format") == 3


def test_excerpts_are_of_the_page_itself(html):
    assert "article.bd-article" in (html[0] / "_static/searchtools.js").read_text("utf8")
