"""Look at the built site: nothing from elsewhere, alt texts, links and notebooks that exist.

And nothing in it that tells of the machine which built it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from website import private

ELSEWHERE = re.compile(r"^\s*(?:https?:)?//", re.I)
CSS_LOAD = re.compile(r"""@import\s+(?:url\()?\s*["']?([^"')\s]+)|url\(\s*["']?([^"')\s]+)""", re.I)
LOADING_RELS = {
    "stylesheet",
    "icon",
    "preload",
    "prefetch",
    "preconnect",
    "dns-prefetch",
    "manifest",
}
LOADING = {"script": ["src"], "img": ["src", "srcset"], "source": ["src", "srcset"],
           "iframe": ["src"], "embed": ["src"], "object": ["data"], "audio": ["src"],
           "video": ["src", "poster"], "input": ["src"], "track": ["src"]}  # fmt: skip
TEXTS = (".html", ".ipynb", ".js", ".json", ".txt", ".md", ".css", ".svg", ".xml")
PATHLIKE = re.compile(r"\.(png|jpe?g|svg|gif|webp)$", re.I)
LAUNCH = re.compile(r"colab\.research\.google\.com/github/[^/]+/[^/]+/blob/[^/]+/(.+)")
LAUNCH_BINDER = re.compile(r"mybinder\.org/.*lab/tree/[^/]+/(.+\.ipynb)")


class Reader(HTMLParser):
    """What one page loads, links to, shows, and can be linked to."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.bare_images: list[str] = []
        self._style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag loads and links to."""
        values = {name: value or "" for name, value in attrs}
        self.ids.update(values[name] for name in ("id", "name") if name in values)
        for name in LOADING.get(tag, ()):
            parts = values.get(name, "").split(",") if name == "srcset" else [values.get(name)]
            self.loads += [part.split()[0] for part in parts if part]
        if tag == "link" and LOADING_RELS & set(values.get("rel", "").lower().split()):
            self.loads.append(values.get("href", ""))
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "img" and (
            "alt" not in values or PATHLIKE.search(values["alt"]) or not values["alt"].strip()
        ):
            self.bare_images.append(values.get("src", ""))
        self.loads += css_loads(values.get("style", ""))
        self._style = tag == "style"

    def handle_data(self, data: str) -> None:
        """Note what an inline style sheet loads."""
        if self._style:
            self.loads += css_loads(data)


def css_loads(text: str) -> list[str]:
    """The addresses that a style sheet loads."""
    return [a or b for a, b in CSS_LOAD.findall(text) if not (a or b).startswith("data:")]


def problems(site: Path, root: Path) -> list[str]:
    """All that is wrong with a site that was built from a tree, one sentence each."""
    pages = {}
    for path in sorted(site.rglob("*.html")):
        pages[path] = Reader()
        pages[path].feed(path.read_text("utf8"))
    found = [
        f"{path.relative_to(site)} {problem}"
        for path, page in pages.items()
        for problem in _page_problems(site, path, page, pages)
    ]
    for path in sorted(site.rglob("*.css")):
        found += [
            f"{path.relative_to(site)} loads {address} from elsewhere; serve it from the site"
            for address in css_loads(path.read_text("utf8"))
            if ELSEWHERE.match(address)
        ]
    tells = private.in_site(root)
    for path in sorted(site.rglob("*")):
        if path.suffix in TEXTS and (told := tells(path.read_text("utf8"))):
            found.append(f"{path.relative_to(site)} tells every reader {told}; take it out")
    return found


def _page_problems(
    site: Path, path: Path, page: Reader, pages: dict[Path, Reader]
) -> Iterator[str]:
    """What is wrong with one page."""
    for address in page.loads:
        if ELSEWHERE.match(address):
            yield f"loads {address} from elsewhere; serve it from the site"
        elif not address.startswith("data:") and not _target(path, address).is_file():
            yield f"loads {address}, which does not exist"
    for address in page.bare_images:
        yield f"shows {address} without alt text; say in :alt: what it shows"
    for address in page.links:
        plain = unquote(unquote(address))
        if launched := LAUNCH.search(plain) or LAUNCH_BINDER.search(plain):
            notebook = launched[1]
        else:
            yield from _link_problems(path, address, pages)
            continue
        if not (site / notebook).is_file():
            yield f"launches {notebook}, which does not exist"


def _link_problems(path: Path, address: str, pages: dict[Path, Reader]) -> Iterator[str]:
    """Whether a link inside the site leads nowhere."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return
    target = _target(path, address)
    if not target.is_file():
        yield f"links to {address}, which does not exist"
    elif target in pages and parts.fragment and unquote(parts.fragment) not in pages[target].ids:
        yield f"links to {address}, where there is no such place"


def _target(path: Path, address: str) -> Path:
    """The file that an address on a page means."""
    relative = unquote(urlsplit(address).path)
    target = (path.parent / relative).resolve() if relative else path
    return target / "index.html" if target.is_dir() else target
