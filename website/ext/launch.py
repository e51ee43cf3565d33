"""Make the buttons above a page open and download its notebook, in the repository that publishes.

The theme links to the page's .md, which Colab cannot open; the site's build writes an .ipynb for
each page with code (website/notebooks.py) and publishes it on `notebook_branch`.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import quote

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

from website import repository
from website.execute import ROOT
from website.pages import load_config


def notebook_path(pagename: str) -> str:
    """Where a page's notebook lies in the published site."""
    return f"notebooks/{pagename.removeprefix('book/')}.ipynb"


def launch_urls(slug: str, commit: str, branch: str, path: str) -> dict[str, str]:
    """What opens a notebook, by the button's text.

    Binder's environment, binder/, is that of the commit which is published, with its package; the
    notebooks, which are on a branch of their own, are pulled into it.
    """
    name = slug.split("/")[1]
    pull = (
        f"git-pull?repo={quote(f'https://github.com/{slug}', safe='')}&branch={branch}"
        f"&urlpath={quote(f'lab/tree/{name}/{path}', safe='')}"
    )
    return {
        "Colab": f"https://colab.research.google.com/github/{slug}/blob/{branch}/{path}",
        "Binder": f"https://mybinder.org/v2/gh/{slug}/{commit}?urlpath={quote(pull, safe='')}",
    }


def set_repository(app: Sphinx, config: Config) -> None:
    """Let the theme's buttons lead to the repository that publishes."""
    config.html_theme_options["repository_url"] = repository.url(load_config(ROOT))


def set_buttons(
    app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None
) -> None:
    """Rewrite the launch and download buttons of one page."""
    path = notebook_path(pagename)
    config = load_config(ROOT)
    slug, commit = repository.slug(config), repository.commit(ROOT, config)
    urls = launch_urls(slug, commit, app.config.notebook_branch, path)
    up = "../" * len(PurePosixPath(pagename).parts)
    for group in context.get("header_buttons", ()):
        if group.get("label") == "launch-buttons":
            for button in group["buttons"]:
                button["url"] = urls[button["text"]]
        elif group.get("label") == "download-buttons":
            for button in group["buttons"]:
                if button["label"] == "download-notebook-button":
                    button["url"] = up + path


def setup(app: Sphinx) -> dict:
    """Come after the theme, which makes its buttons at priority 501."""
    app.add_config_value("notebook_branch", "notebooks", "html", types=[str])
    app.connect("config-inited", set_repository)
    app.connect("html-page-context", set_buttons, priority=900)
    return {"version": "1", "parallel_read_safe": True}
