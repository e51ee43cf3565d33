"""Turn Sphinx's output into the site that is published: lighter, and with a page at its root."""

from __future__ import annotations

import html as html_text
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fontTools import subset
from PIL import Image

UNUSED = (
    "**/*.map",
    "**/fontawesome.js",  # the theme shows its icons with fonts; this shows them again
    "_static/*macros.html",  # the theme's templates
    "_sources/**/*.ipynb",
    ".buildinfo",
)
SCRIPT = r"\s*<(?:script|link)\b[^>]*{}[^>]*>(?:</script>)?"
FONTAWESOME = re.compile(SCRIPT.format(r"fontawesome\.js"))
SEARCH = re.compile(SCRIPT.format(r"(?:searchtools|language_data|searchindex)\.js"))
MATHJAX = re.compile(SCRIPT.format(r"mathjax/") + r"|\s*<script>window\.MathJax = [^<]*</script>")
OUTPUT = re.compile(r"[0-9a-f]{64}\.png")  # the name of a picture that a cell made
# What a screen reader would stumble over: toggles without a name, roles that are no longer used.
TOGGLE = re.compile(r">([^<]+)(</a>\s*<details[^>]*>\s*)<summary>")
ADVERT = re.compile(r'<div id="ethical-ad-placement"[^>]*>\s*</div>')  # an empty place for one
ROLES = re.compile(r' role="doc-biblioentry"| role="list"(?= class="citation-list")')
IMG = re.compile(r'<img\b([^>]*)\bsrc="([^"]+)"([^>]*)>')
ICON_RULE = re.compile(r"((?:\.fa-[a-z0-9-]+:before,?)+)\{content:\"([^\"]+)\"\}")
ICON_NAME = re.compile(r"\bfa-([a-z0-9-]+)")
CODE = re.compile(r"\\([ef][0-9a-f]{3})\b|([\ue000-\uf8ff])")  # escaped, or as it is
FACE = re.compile(r"url\(([^)]*/(fa-[a-z]+-\d+))\.woff2\) format\(\"woff2\"\),url\([^)]*\)[^}]*")


def tidy(html: Path) -> None:
    """Strip what no reader needs from one language's pages."""
    for pattern in UNUSED:
        for path in html.glob(pattern):
            path.unlink()
    renamed = compress_pictures(html / "_images")
    sizes: dict[Path, str] = {}
    for page in html.rglob("*.html"):
        text = ADVERT.sub("", FONTAWESOME.sub("", page.read_text("utf8")))
        # without scripts nobody would choose; with them, the first one chooses at once
        text = text.replace('data-theme="auto"', 'data-theme="light"', 1)
        if page != html / "search.html":
            text = SEARCH.sub("", text)
        if "math notranslate" not in text:
            text = MATHJAX.sub("", text)
        text = TOGGLE.sub(r'>\1\2<summary aria-label="\1: more">', ROLES.sub("", text))
        text = OUTPUT.sub(lambda match: renamed.get(match[0], match[0]), text)
        page.write_text(with_sizes(text, page.parent, sizes), "utf8")
    thin_icons(html)
    excerpts = html / "_static" / "searchtools.js"  # from a page's text, without its buttons
    script = excerpts.read_text("utf8").replace('[role="main"]', "article.bd-article")
    excerpts.write_text(script, "utf8")


def compress_pictures(folder: Path) -> dict[str, str]:
    """Keep what cells drew as WebP, without loss, where that is smaller; returns the new names."""

    def compress(path: Path) -> str:
        """The name of the smaller one of two files; the other is deleted."""
        other = path.with_suffix(".webp")
        with Image.open(path) as picture:
            picture.save(other, lossless=True, method=2, quality=50)
        smaller, larger = sorted((path, other), key=lambda it: it.stat().st_size)
        larger.unlink()
        return smaller.name

    made = [path for path in folder.glob("*.png") if OUTPUT.fullmatch(path.name)]
    with ThreadPoolExecutor() as pool:
        return dict(zip((path.name for path in made), pool.map(compress, made), strict=True))


def with_sizes(text: str, folder: Path, sizes: dict[Path, str]) -> str:
    """A page whose pictures say how large they are, so that nothing moves when they arrive."""

    def size(path: Path) -> str:
        if path not in sizes:
            sizes[path] = ""
            if path.is_file() and path.suffix != ".svg":
                with Image.open(path) as picture:
                    sizes[path] = f' width="{picture.width}" height="{picture.height}"'
        return sizes[path]

    def sized(match: re.Match) -> str:
        before, address, after = match.groups()
        if re.search(r"\b(?:width|height)=", before + after) or ":" in address:
            return match[0]
        shown = size((folder / html_text.unescape(address)).resolve())
        return f'<img{before}src="{address}"{shown}{after}>'

    return IMG.sub(sized, text)


def thin_icons(html: Path) -> None:
    """Keep of the icon fonts, and of their style sheet, the few icons that the site shows."""
    static = html / "_static"
    sheet = static / "styles" / "pydata-sphinx-theme.css"
    users = [*html.rglob("*.html"), *static.rglob("*.js")]
    names = {name for path in users for name in ICON_NAME.findall(path.read_text("utf8"))}

    def kept(rule: re.Match) -> str:
        return rule[0] if names & set(ICON_NAME.findall(rule[1])) else ""

    css = ICON_RULE.sub(kept, sheet.read_text("utf8"))
    sheets = [css, *(path.read_text("utf8") for path in static.rglob("*.css") if path != sheet)]
    found = {match for text in sheets for match in CODE.findall(text)}
    codes = {int(escaped, 16) if escaped else ord(plain) for escaped, plain in found}
    fonts = static / "vendor" / "fontawesome" / "webfonts"
    for font in sorted(fonts.glob("*.ttf")):
        options = subset.Options(flavor="woff", layout_features=[], notdef_outline=True)
        subsetter = subset.Subsetter(options)
        subsetter.populate(unicodes=codes)
        with subset.load_font(str(font), options) as full:
            subsetter.subset(full)
            subset.save_font(full, str(font.with_suffix(".woff")), options)
        font.unlink()
        font.with_suffix(".woff2").unlink()
    sheet.write_text(FACE.sub(r'url(\1.woff) format("woff")', css), "utf8")


def add_root(site: Path, templates: Path, title: str, address: str) -> None:
    """Write what lies above the languages: the root page, and the one for what is not there."""
    for name, template in (("index.html", "root.html"), ("404.html", "missing.html")):
        page = (templates / template).read_text("utf8")
        page = page.replace("{{ title }}", title).replace("{{ address }}", address)
        (site / name).write_text(page, "utf8")
    (site / ".nojekyll").touch()  # names with underscores are served as they are
