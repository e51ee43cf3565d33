"""What a page costs its reader: bytes over the wire, time to the first paint, what moves later."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator

from bench_book import ROOT

sys.path.insert(0, str(ROOT))
from website import browser  # noqa: E402

SITE = ROOT / "_build" / "site"
SLOWER = 4  # than this machine's processor
RUNS = 2
PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


def look(window: browser.Visit, name: str) -> tuple[int, int, float, float]:
    """All bytes, those without pictures, milliseconds to the first paint, and the layout shift."""
    session = window.page.context.new_cdp_session(window.page)
    session.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
    window.page.add_init_script(browser.SHIFT)
    window.open(name)
    window.page.wait_for_timeout(300)
    return *window.weight(), window.page.evaluate(PAINT), window.page.evaluate("window.shift")


def run() -> Iterator[dict]:
    """A row for each measure: the median page, and the worst one with its name."""
    names = sorted(path.relative_to(SITE).as_posix() for path in (SITE / "en").rglob("*.html"))
    if not names:
        raise SystemExit("there is no site to look at; run make book first")
    found: dict[str, list] = {}
    with browser.served(SITE) as root, browser.chromium() as chromium:
        for name in names:
            runs = []
            for width in ("phone", "desktop"):
                for _ in range(RUNS):
                    with browser.visit(chromium, root, width) as window:
                        runs.append(look(window, name))
            everything, texts, paints, shifts = zip(*runs, strict=True)
            paint = statistics.median(paints)
            found[name] = [max(everything) / 1000, max(texts) / 1000, paint / 1000, max(shifts)]
    measures = {
        "page, with figures": "kB",
        "page, without figures": "kB",
        "first contentful paint": "s",
        "layout shift": "",
    }
    for at, (measure, unit) in enumerate(measures.items()):
        values = {name: row[at] for name, row in found.items()}
        worst = max(values, key=values.get)
        middle = statistics.median(values.values())
        detail = f"the worst of {len(names)}, {worst}; median {middle:.2f}"
        detail += f"; processor slowed {SLOWER} times" if unit == "s" else ""
        yield {"name": measure, "value": values[worst], "unit": unit, "detail": detail}
