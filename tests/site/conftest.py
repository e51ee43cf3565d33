"""The built site, served as a host would, and a browser to look at it with."""

from pathlib import Path

import pytest
from books import ROOT

from website import browser

SITE = ROOT / "_build" / "site"
PAGES = sorted(path.relative_to(SITE).as_posix() for path in (SITE / "en").rglob("*.html"))
EXECUTED = [name for name in PAGES if "cost-line" in (SITE / name).read_text("utf8")]


def pytest_collection_modifyitems(items):
    """Everything here needs a built site: make test-site runs it, make test does not."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.site)


@pytest.fixture(scope="session")
def root():
    """The address of the served site."""
    assert PAGES, "there is no site to look at; run make book first"
    with browser.served(SITE) as address:
        yield address


@pytest.fixture(scope="session")
def chromium():
    with browser.chromium() as it:
        yield it


@pytest.fixture
def visit(chromium, root):
    """What opens a new window: visit(width, **options of Playwright)."""

    def start(width="desktop", **options):
        return browser.visit(chromium, root, width, **options)

    return start
