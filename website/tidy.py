"""Turn Sphinx's output into the site that is published: lighter, and with a page at its root."""

from __future__ import annotations

import re
from pathlib import Path

# The theme shows its icons with web fonts; this script, by far its largest file, does it again.
FONTAWESOME = re.compile(r"\s*<(script|link)\b[^>]*fontawesome\.js[^>]*>(</script>)?")
UNUSED = (
    "**/*.map",
    "**/fontawesome.js",
    "_static/*macros.html",  # the theme's templates
    "_sources/**/*.ipynb",
    ".buildinfo",
)


def tidy(html: Path) -> None:
    """Strip what no reader needs from one language's pages."""
    for page in html.rglob("*.html"):
        text = page.read_text("utf8")
        lighter = FONTAWESOME.sub("", text)
        if lighter != text:
            page.write_text(lighter, "utf8")
    for pattern in UNUSED:
        for path in html.glob(pattern):
            path.unlink()


def add_root(site: Path, template: Path, title: str) -> None:
    """Write the root page, which leads to the English one, and switch Jekyll off."""
    page = template.read_text("utf8").replace("{{ title }}", title)
    (site / "index.html").write_text(page, "utf8")
    (site / ".nojekyll").touch()
