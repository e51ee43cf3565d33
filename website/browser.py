"""Look at the built site as a reader's browser does: served, compressed, under a sub-path."""

from __future__ import annotations

import gzip
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from playwright.sync_api import Browser, Page, sync_playwright

PREFIX = "/some/where/"  # as a project's pages lie below its owner's
WIDTHS = {"phone": 390, "tablet": 820, "desktop": 1280}
HEIGHTS = {"phone": 844, "tablet": 1180, "desktop": 800}
NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
FLAGS = ("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")  # fmt: skip
TEXTS = {".html", ".css", ".js", ".json", ".svg", ".xml", ".txt", ".ipynb"}
SHIFT = """
window.shift = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""  # adds up what moves, by itself, after it was shown
PICTURES = {".png", ".webp", ".jpg", ".jpeg", ".gif"}


@cache
def _compressed(path: Path) -> bytes:
    """A file as it goes over the wire: text is compressed, all else as it is."""
    content = path.read_bytes()
    return gzip.compress(content, mtime=0) if path.suffix in TEXTS else content


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves the site below PREFIX, and nothing else."""

    def do_GET(self) -> None:
        """Answer, compressed, or with 404."""
        asked = unquote(urlsplit(self.path).path)
        path = (Path(self.directory) / asked.removeprefix(PREFIX).lstrip("/")).resolve()
        if path.is_dir():
            path /= "index.html"
        inside = asked.startswith(PREFIX) and path.is_relative_to(Path(self.directory).resolve())
        if not inside or not path.is_file():
            self.send_error(404)
            return
        body = _compressed(path)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Length", str(len(body)))
        if path.suffix in TEXTS:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def served(site: Path) -> Iterator[str]:
    """Serve a site on this machine alone; gives the address of its root, with a slash."""

    def handler(*arguments: object) -> _Handler:
        return _Handler(*arguments, directory=str(site))

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{PREFIX}"
    finally:
        server.shutdown()
        server.server_close()


def executable() -> str | None:
    """The browser of this machine, or None for the one that Playwright has installed."""
    named = os.environ.get("CHROMIUM")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium that asks nobody for anything."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """What a browser met on the pages that it was sent to."""

    page: Page
    root: str
    complaints: list[str] = field(default_factory=list)
    files: dict[str, int] = field(default_factory=dict)  # address -> bytes over the wire

    def __post_init__(self) -> None:
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.complaints.append(f"script error: {error}"))
        self.page.on("request", self._on_request)
        self.page.on("requestfailed", lambda it: self.complaints.append(f"failed: {it.url}"))
        self.page.on("response", self._on_response)

    def open(self, name: str) -> None:
        """Go to a page of the site, and wait until it is quiet and its formulas are set."""
        self.page.goto(self.root + name)
        self.page.wait_for_load_state("networkidle")
        self.page.evaluate("() => window.MathJax?.startup?.promise")

    def weight(self) -> tuple[int, int]:
        """The bytes of all that came over the wire, and of all but pictures."""
        texts = [size for name, size in self.files.items() if Path(name).suffix not in PICTURES]
        return sum(self.files.values()), sum(texts)

    def _on_console(self, message: object) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def _on_request(self, request: object) -> None:
        if not request.url.startswith((self.root, "data:", "blob:")):
            self.complaints.append(f"asks for {request.url}, which is not of the site")

    def _on_response(self, response: object) -> None:
        if response.status >= 400:
            self.complaints.append(f"{response.status}: {response.url}")
        self.files[urlsplit(response.url).path] = int(response.headers.get("content-length", 0))


@contextmanager
def visit(
    browser: Browser, root: str, width: str = "desktop", **options: object
) -> Iterator[Visit]:
    """A new reader, with an empty cache, at one of WIDTHS; options are Playwright's."""
    size = {"width": WIDTHS[width], "height": HEIGHTS[width]}
    context = browser.new_context(viewport=size, **options)
    try:
        yield Visit(context.new_page(), root)
    finally:
        context.close()
