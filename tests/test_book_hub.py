"""The cells that pages run with a real checkpoint, run against the hub of the tests.

They run nowhere else without a network. The checkpoints are small and know nothing, and there are
fewer scenes, so what comes out means nothing; but it comes out.
"""

import ast
import json
from pathlib import Path

import pytest
import repositories
import stand_in

from vlmbook import hub, pretrained, world
from vlmbook.evaluate import battery
from vlmbook.pretrained import loading
from website.pages import book_pages

ROOT = Path(__file__).resolve().parent.parent
PAGES = [page for page in book_pages(ROOT) if any(cell.at_hub for cell in page.code)]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A hub that has all that can be loaded, and its cache."""
    here = tmp_path_factory.mktemp("published")
    with stand_in.Hub() as made:
        for name, about in pretrained.CATALOGUE.items():
            repositories.make(here / name, name, num_shards=2 if about.kind == "llava" else 1)
            made.repos[name] = {about.revision or stand_in.MAIN: here / name}
        yield made, here / "cache"


@pytest.fixture(autouse=True)
def small_world(monkeypatch, published, small_training):
    """Few scenes, and checkpoints of the tests' hub, on the CPU."""
    made, cache = published
    made.take_over(monkeypatch, cache)
    monkeypatch.setenv("VLMBOOK_HUB", "1")
    monkeypatch.delenv("VLMBOOK_HUB_RECORD", raising=False)
    monkeypatch.setattr(loading, "_check_memory", lambda *given: None)
    load, sample, items = pretrained.load, world.sample, battery.items
    monkeypatch.setattr(pretrained, "load", lambda name: load(name, "cpu"))
    monkeypatch.setattr(world, "sample", lambda num, *a, **k: sample(min(num, 6), *a, **k))
    monkeypatch.setattr(battery, "items", lambda skill: items(skill, "en", 20)[:5])
    monkeypatch.setattr(hub, "has_gpu", lambda: True)


def cells(page):
    """A page's imports, and the cells for the hub."""
    for cell in page.code:
        if cell.at_hub:
            yield cell.source
        else:
            yield "\n".join(
                ast.unparse(node)
                for node in ast.parse(cell.source).body
                if isinstance(node, ast.Import | ast.ImportFrom)
            )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_asks_of_a_checkpoint_can_be_asked(page, capsys):
    names: dict = {}
    for source in cells(page):
        exec(compile(source, page.name, "exec"), names)
    sections = [value for value in names.values() if isinstance(value, hub.Section)]
    assert len(sections) == 1 and sections[0].found
    json.dumps(sections[0].found)
    assert len(capsys.readouterr().out.splitlines()) > 3


def test_each_chapter_has_a_section():
    loaded = {}
    for page in PAGES:
        text = "".join(cell.source for cell in page.code if cell.at_hub)
        names = {name for name in pretrained.CATALOGUE if f'"{name}"' in text}
        loaded[page.name.removeprefix("book/").removesuffix(".md")] = names
    assert {name: set(of) for name, of in hub.SECTIONS.items()} == loaded
    chapters = {page.name.split("/")[1].removesuffix(".md") for page in PAGES}
    wanted = {"concepts", "clip", "blip", "attention", "llava", "applications", "comparison"}
    assert chapters == wanted
    for page in PAGES:
        assert "## With the real checkpoint\n" in page.text
        assert "*This cell loads published weights." in page.text
        names = [c.split('"')[1] for c in page.text.split("hub.Section(")[1:]]
        assert len(names) == 1
