"""Every launch button of the built site leads to something that is published with it."""

import re
import subprocess
from html.parser import HTMLParser
from urllib.parse import parse_qs, unquote, urlsplit

import nbformat
import pytest
import workflows
import yaml
from books import ROOT
from conftest import EXECUTED, PAGES, SITE

from website import repository

CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))
SLUG, COMMIT = repository.slug(CONFIG), repository.commit(ROOT, CONFIG)


class Links(HTMLParser):
    """Where a page's links lead, by host."""

    def __init__(self, text):
        super().__init__()
        self.found = {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        address = dict(attrs).get("href") or ""
        if tag == "a":
            self.found.setdefault(urlsplit(address).netloc, set()).add(address)


def links(name, host):
    return Links((SITE / name).read_text("utf8")).found.get(host, set())


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The files of the branch that the publishing workflow pushes, pushed to a folder here."""
    folder = tmp_path_factory.mktemp("publish")
    remote = folder / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", remote], check=True)
    workflows.stub(folder, "gh", "")
    (folder / "published").mkdir()
    (folder / "published/notebooks").symlink_to(SITE / "notebooks")
    copy = (
        "cp -rL published/notebooks copy && rm published/notebooks && mv copy published/notebooks\n"
    )
    text = copy + workflows.script("publish.yml", "notebooks", "git push")
    done = workflows.run(text, folder, REMOTE=str(remote), GITHUB_SHA=COMMIT)
    assert done.returncode == 0, done.stderr
    return {"notebooks": set(workflows.files_of(remote, "notebooks"))}


def in_commit(path):
    """Whether a file is in the commit that the site is of."""
    command = ["git", "-C", ROOT, "cat-file", "-e", f"{COMMIT}:{path}"]
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.parametrize("name", EXECUTED)
def test_colab_opens_a_notebook_of_the_branch(published, name):
    (address,) = links(name, "colab.research.google.com")
    parts = urlsplit(address).path.split("/", 6)
    assert parts[1] == "github" and "/".join(parts[2:4]) == SLUG and parts[4] == "blob"
    assert unquote(parts[6]) in published[parts[5]]


@pytest.mark.parametrize("name", EXECUTED)
def test_binder_has_an_environment_and_pulls_the_notebook(published, name):
    (address,) = links(name, "mybinder.org")
    parts = urlsplit(address)
    assert parts.path == f"/v2/gh/{SLUG}/{COMMIT}"
    for path in ("binder/requirements.txt", "binder/postBuild", "pyproject.toml"):
        assert in_commit(path)
    (pull,) = parse_qs(parts.query)["urlpath"]
    asked = parse_qs(urlsplit(pull).query)
    assert asked["repo"] == [f"https://github.com/{SLUG}"]
    opens = asked["urlpath"][0].removeprefix(f"lab/tree/{SLUG.split('/')[1]}/")
    assert opens in published[asked["branch"][0]]


@pytest.mark.parametrize("name", EXECUTED)
def test_the_notebook_can_be_downloaded_and_installs_this_commit(name):
    here = [it for it in links(name, "") if it.endswith(".ipynb")]
    (path,) = {(SITE / name).parent.joinpath(it).resolve() for it in here}
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    if not any("vlmbook" in source for source in code):
        return
    assert code[0].count("%pip") == 1 and 'if "google.colab" in sys.modules' in code[0]
    extras, url, commit = re.search(
        r'%pip install -q "vlmbook(\S*) @ git\+(\S+)@(\w+)"', code[0]
    ).groups()
    assert url == repository.url(CONFIG) and commit == COMMIT
    admitted = (ROOT / "pyproject.toml").read_text("utf8")
    assert all(f"\n{extra} = [" in admitted for extra in extras.strip("[]").split(",") if extra)
    assert not any("pip install" in source for source in code[1:])


def test_pages_without_code_are_not_launched():
    for name in set(PAGES) - set(EXECUTED):
        assert not links(name, "colab.research.google.com") and not links(name, "mybinder.org")
    assert len(EXECUTED) > 30
