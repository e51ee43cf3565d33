"""Sphinx's configuration of the published site: _config.yml, and what its YAML cannot say."""

import sys
from functools import cache
from pathlib import Path

import pybtex.plugin
import yaml
from jupyter_book.config import get_final_config

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from website import repository  # noqa: E402
from website.pages import load_config  # noqa: E402

settings, _ = get_final_config(
    user_yaml=ROOT / "_config.yml",
    sourcedir=ROOT / "book",
    cli_config={"latex_individualpages": False},
    raise_on_invalid=True,
)
globals().update(settings)

# Otherwise each citation looks through all installed packages again.
pybtex.plugin.find_plugin = cache(pybtex.plugin.find_plugin)

# Both would load scripts from elsewhere.
extensions = [e for e in settings["extensions"] if e not in ("sphinx_thebe", "sphinx_comments")]

# The pages' folder is the source folder: /en/clip.html, not /en/book/clip.html.
toc = (ROOT / "_toc.yml").read_text("utf8").replace(" book/", " ")
external_toc_path = str(ROOT / "_build" / "toc.yml")
Path(external_toc_path).write_text(yaml.safe_dump(yaml.safe_load(toc), sort_keys=False), "utf8")
bibtex_bibfiles = [str(ROOT / name) for name in settings["bibtex_bibfiles"]]
html_static_path = [str(ROOT / "website" / "static")]
templates_path = [str(ROOT / "website" / "templates")]
html_favicon = str(ROOT / settings["html_favicon"])
html_theme_options = settings["html_theme_options"] | {"path_to_docs": "book"}

language = "en"
html_baseurl = f"{repository.pages_url(load_config(ROOT))}/{language}/"  # for canonical links
extensions.append("sphinx_sitemap")
sitemap_url_scheme = "{link}"
sitemap_excludes = ["search.html", "genindex.html"]
