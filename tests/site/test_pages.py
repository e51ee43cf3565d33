"""Every page in a real browser: nothing amiss, nothing from elsewhere, readable for everybody."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from books import ROOT
from conftest import EXECUTED, PAGES, SITE

from website import browser, check

WCAG = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}
KB = 1000
RESIZED = 400  # ms: the theme looks anew at what scrolls some time after a change of width
UNSET = (
    "[...document.querySelectorAll('.math')].filter(m => !m.querySelector('mjx-container')).length"
)
OVERFLOW = "() => document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth"
FORMULA = re.compile(r'<span class="math notranslate nohighlight">(.*?)</span>')


def violations(page):
    """What axe-core says against a page, one line for each kind."""
    found = Axe().run(page, options=WCAG).response["violations"]
    return [
        f"{it['id']}: {it['nodes'][0]['html'][:150]} ({len(it['nodes'])} times)" for it in found
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_sound_at_all_widths(visit, name, scheme):
    with visit("phone", color_scheme=scheme) as it:
        it.page.add_init_script(browser.SHIFT)
        it.open(name)
        assert it.page.evaluate("document.documentElement.dataset.theme") == scheme
        assert it.page.evaluate(UNSET) == 0, "a formula was not set"
        everything, without_pictures = it.weight()
        assert everything <= 1000 * KB and 50 * KB < without_pictures <= 450 * KB
        assert it.page.evaluate("window.shift") < 0.1, "what has been read moves"
        for width in browser.WIDTHS:
            size = {"width": browser.WIDTHS[width], "height": browser.HEIGHTS[width]}
            it.page.set_viewport_size(size)
            it.page.wait_for_timeout(RESIZED)
            assert it.page.evaluate(OVERFLOW) <= 0, f"{width}: it scrolls sideways"
            complaints = list(it.complaints)  # axe itself loads style sheets from wrong places
            assert violations(it.page) == [], width
            it.complaints[:] = complaints
        assert it.complaints == []


def test_what_is_wrong_is_seen(visit):
    with visit("phone") as it:
        it.open("en/index.html")
        assert it.complaints == [] and violations(it.page) == []
        it.page.evaluate("""() => {
            document.body.insertAdjacentHTML("beforeend",
                '<img src="nowhere.png"><div style="width:2000px">wide</div>');
            document.body.appendChild(document.createElement("button"));
            console.error("a complaint");
            fetch("http://127.0.0.1:9/elsewhere").catch(() => {});
        }""")
        it.page.wait_for_timeout(300)
        assert it.page.evaluate(OVERFLOW) > 0
        said = "\n".join(it.complaints)
        for part in ("a complaint", "nowhere.png", "elsewhere, which is not of the site"):
            assert part in said
        assert any(line.startswith("button-name") for line in violations(it.page))


def test_every_link_and_anchor_has_its_target():
    assert check.problems(SITE, ROOT) == []
    assert len(PAGES) > 35


def test_the_root_leads_to_the_book(visit):
    with visit() as it:
        it.open("")
        it.page.wait_for_url("**/en/index.html")
        assert it.complaints == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_where_it_belongs(name):
    text = (SITE / name).read_text("utf8")
    address = re.search(r'<link rel="canonical" href="([^"]+)"', text)[1]
    assert address.startswith("https://") and address.endswith(name)
    if name not in ("en/search.html", "en/genindex.html"):
        assert f"<loc>{address}</loc>" in (SITE / "en/sitemap.xml").read_text("utf8")


# A word of each chapter, in both languages, and the page that it is to lead to.
WORDS = {
    "patchify": "en/concepts/processing.html",
    "InfoNCE": "en/clip.html",
    "captioner": "en/blip/capfilt.html",
    "rollout": "en/attention/maps.html",
    "projector": "en/llava.html",
    "HNSW": "en/applications/search.html",
    "McNemar": "en/comparison.html",
    "ray": "en/appendix/world.html",
    "정육면체": "en/index.html",
    "정육면체를": "en/index.html",  # with a particle that the page does not have there
    "임베딩": "en/appendix/glossary.html",
}


@pytest.mark.parametrize("word", WORDS)
def test_search_finds(visit, word):
    with visit() as it:
        it.open("en/index.html")
        it.page.keyboard.press("Control+k")
        it.page.keyboard.type(word)
        it.page.keyboard.press("Enter")
        it.page.wait_for_url("**/search.html?q=*")
        it.page.wait_for_selector("#search-results li a")
        it.page.wait_for_function("document.querySelector('.search-summary')?.innerText.trim()")
        links = it.page.eval_on_selector_all(
            "#search-results li a", "all => all.map(a => a.pathname)"
        )
        assert any(link.endswith(WORDS[word]) for link in links), links
        assert it.complaints == []


def test_search_says_when_there_is_nothing(visit):
    with visit() as it:
        it.open("en/search.html?q=xylophone")
        it.page.wait_for_function("document.querySelector('.search-summary')?.innerText.trim()")
        assert it.page.locator("#search-results li").count() == 0


REACHABLE = """() => [...document.querySelectorAll(
    'a[href], button, input, select, textarea, summary, [tabindex]:not([tabindex="-1"])')]
  .filter((it) => it.checkVisibility({ visibilityProperty: true, opacityProperty: true })
    && !it.disabled && it.tabIndex >= 0 && it.getClientRects().length && !it.closest('[inert]'))
  .map((it, at) => { it.dataset.stop = at; return it.outerHTML.slice(0, 120); })"""


@pytest.mark.parametrize("width", ["desktop", "phone"])
@pytest.mark.parametrize("name", ["en/index.html", "en/clip.html", "en/search.html"])
def test_the_keyboard_reaches_everything(visit, name, width):
    with visit(width) as it:
        it.open(name)
        wanted = it.page.evaluate(REACHABLE)
        assert len(wanted) > 5
        missed = dict(enumerate(wanted))
        for _ in range(3 * len(wanted) + 50):  # what scrolls is a stop, too
            it.page.keyboard.press("Tab")
            missed.pop(int(it.page.evaluate("document.activeElement.dataset.stop ?? -1")), None)
            if not missed:
                break
        assert missed == {}


def test_code_is_copied_and_the_theme_is_changed(visit):
    with visit(permissions=["clipboard-read", "clipboard-write"], color_scheme="light") as it:
        it.open("en/clip.html")
        first = it.page.locator("div.cell_input").first
        first.hover()
        first.locator("button.copybtn").click()
        copied = it.page.evaluate("navigator.clipboard.readText()")
        assert copied.strip() == first.locator("pre").inner_text().strip()
        it.page.locator("button.theme-switch-button").first.click()
        it.page.wait_for_function("document.documentElement.dataset.theme !== 'light'")


@pytest.mark.parametrize("name", ["en/index.html", "en/clip.html", "en/attention.html"])
def test_a_page_can_be_read_without_scripts(visit, name):
    source = (SITE / name).read_text("utf8")
    with visit("phone", java_script_enabled=False) as it:
        it.page.goto(it.root + name)
        text = it.page.locator("article.bd-article").inner_text()
        assert it.page.locator("article.bd-article h1").is_visible()
        for picture in it.page.locator("article.bd-article img").all():
            assert picture.is_visible()
        for formula in FORMULA.findall(source):
            assert re.sub(r"&\w+;|\s", "", formula)[:20] in re.sub(r"[<>&\s]", "", text)
        assert it.page.evaluate(OVERFLOW) <= 0
        assert [said for said in it.complaints if ".js" not in said] == []  # not asked for


def test_what_is_printed_is_the_page_alone(visit):
    with visit() as it:
        it.open("en/clip.html")
        parts = {
            part: it.page.locator(part).first
            for part in (".bd-sidebar-primary", ".bd-header-article", ".prev-next-footer")
        }
        assert all(part.is_visible() for part in parts.values())
        it.page.emulate_media(media="print")
        assert not any(part.is_visible() for part in parts.values())
        assert it.page.locator("#jb-print-docs-body h1").is_visible()  # the title, on paper
        assert it.page.locator("article.bd-article figure img").first.is_visible()


def test_pages_lead_on(visit):
    with visit() as it:
        it.open("en/clip.html")
        it.page.locator("a.right-next").click()
        it.page.wait_for_url("**/en/clip/measured.html")
        it.page.locator("a.left-prev").click()
        it.page.wait_for_url("**/en/clip.html")
        assert it.complaints == []


def test_the_front_page_fits_a_screen(visit):
    with visit() as it:
        it.open("en/index.html")
        bottoms = it.page.eval_on_selector_all(
            ".gallery .preview", "all => all.map(one => one.getBoundingClientRect().bottom)"
        )
        assert len(bottoms) == 8 and max(bottoms) <= browser.HEIGHTS["desktop"]


def test_every_page_with_code_is_in_the_status(visit):
    with visit() as it:
        it.open("en/appendix/status.html")
        rows = it.page.locator("table.page-status tbody tr")
        links = rows.locator("a").evaluate_all("all => all.map(a => a.pathname)")
        assert len(EXECUTED) > 30
        assert sorted(links) == sorted(f"{browser.PREFIX}{name}" for name in EXECUTED)
        assert all("GB" not in text and text.strip() for text in rows.all_inner_texts())
