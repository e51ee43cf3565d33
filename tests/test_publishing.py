"""The workflows that publish: sound, careful with rights, and each script does what it says."""

import json
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import environment
import pytest
import yaml
from books import ROOT
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from workflows import WORKFLOWS, calls, files_of, load, run, script, scripts, steps, stub

from website import locked, repository
from website.ext import launch
from website.ext.search import SearchBoth

PINNED = re.compile(r"^[\w.-]+/[\w./-]+@[0-9a-f]{40}$")
MAY_WRITE = {
    ("publish.yml", "notebooks", "contents"),
    ("publish.yml", "deploy", "pages"),
    ("publish.yml", "deploy", "id-token"),
    ("weekly.yml", "tell", "issues"),
}


def test_there_are_three():
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "publish.yml", "weekly.yml"]
    assert len(scripts()) >= 12


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_a_workflow_has_few_rights_strict_shells_and_limits(path):
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    shell = workflow["defaults"]["run"]["shell"]
    assert "-euo pipefail" in shell
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 180, name
        written = {right for right, how in job.get("permissions", {}).items() if how == "write"}
        assert all((path.name, name, right) in MAY_WRITE for right in written), name


def test_actions_are_pinned_and_keep_no_token():
    lines = "\n".join(path.read_text("utf8") for path in WORKFLOWS)
    for _path, _job, step in steps():
        if "uses" in step:
            assert PINNED.match(step["uses"]), step["uses"]
            assert re.search(re.escape(step["uses"]) + r" # v\d+\.\d+\.\d+\n", lines)
        if "actions/checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False
    versions = re.findall(r"(\S+)@([0-9a-f]{40}) # (\S+)", lines)
    assert len({(name, commit, version) for name, commit, version in versions}) == len(
        {name for name, _commit, _version in versions}
    )  # one version of each


def test_scripts_take_values_from_the_environment():
    for path, job, step in scripts():
        assert "${{" not in step["run"], (path.name, job)


def test_the_targets_that_workflows_make_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf8"), re.M))
    made = {name for _p, _j, it in scripts() for name in re.findall(r"make ([a-z-]+)", it["run"])}
    assert {"book", "lint", "test", "test-site", "contract"} <= made <= targets


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_scripts_parse(path):
    for _path, job, step in scripts():
        if _path == path:
            done = subprocess.run(["bash", "-n"], input=step["run"], capture_output=True, text=True)
            assert done.returncode == 0, (job, done.stderr)


@pytest.fixture
def remote(tmp_path):
    """An empty repository to push to."""
    folder = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", folder], check=True)
    return folder


def test_notebooks_are_pushed_as_a_branch_without_history(tmp_path, remote):
    text = script("publish.yml", "notebooks", "git push")
    stub(tmp_path, "gh", "")
    for commit, name in (("a" * 40, "old"), ("b" * 40, "new")):
        shutil.rmtree(tmp_path / "published", ignore_errors=True)
        (tmp_path / "published/notebooks/deep").mkdir(parents=True)
        (tmp_path / f"published/notebooks/deep/{name}.ipynb").write_text("{}")
        done = run(text, tmp_path, REMOTE=str(remote), GITHUB_SHA=commit)
        assert done.returncode == 0, done.stderr
    assert files_of(remote, "notebooks") == ["notebooks/deep/new.ipynb"]
    log = ["git", "-C", remote, "log", "--format=%s", "notebooks"]
    said = subprocess.run(log, capture_output=True, text=True, check=True).stdout.split("\n")
    assert said == [f"The notebooks of {'b' * 40}", ""]
    assert calls(tmp_path) == ["gh auth setup-git"] * 2


def test_a_push_that_fails_fails_the_step(tmp_path):
    stub(tmp_path, "gh", "")
    (tmp_path / "published").mkdir()
    (tmp_path / "published/a.ipynb").write_text("{}")
    text = script("publish.yml", "notebooks", "git push")
    done = run(text, tmp_path, REMOTE=str(tmp_path / "nowhere.git"), GITHUB_SHA="a" * 40)
    assert done.returncode != 0


@pytest.mark.parametrize("has_gpu", [True, False])
def test_the_smaller_torch_is_taken_where_there_is_no_gpu(tmp_path, has_gpu):
    if has_gpu:
        stub(tmp_path, "nvidia-smi", "")
    elif shutil.which("nvidia-smi"):
        pytest.skip("this machine has a GPU")
    text = script("publish.yml", "build", "nvidia-smi")
    done = run(text, tmp_path, GITHUB_ENV=str(tmp_path / "env"))
    assert done.returncode == 0
    given = (tmp_path / "env").read_text() if (tmp_path / "env").exists() else ""
    assert ("download.pytorch.org/whl/cpu" in given) != has_gpu


def test_notebooks_run_in_the_image_of_colab(tmp_path):
    stub(tmp_path, "docker", "")
    text = script("weekly.yml", "colab", "docker run")
    image = "registry/image:latest"
    done = run(text, tmp_path, IMAGE=image)
    assert done.returncode == 0, done.stderr
    (called,) = calls(tmp_path)
    assert called.startswith("docker run --rm") and image in called
    mounted, command = f"--volume {tmp_path}:/book:ro", called.split(image)[1].split()
    assert mounted in called and "--entrypoint python3" in called
    path = Path(command[0]).relative_to("/book")
    assert (ROOT / path).is_file() and command[1:] == ["--colab", "/book/published/notebooks"]


@pytest.mark.parametrize("browser", ["google-chrome", "chromium", ""])
def test_a_browser_is_brought_where_there_is_none(tmp_path, browser):
    text = script("publish.yml", "build", "playwright install")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for folder, name in ((tmp_path, browser), (tmp_path / ".venv", "playwright")):
        if name:
            stub(folder, name, "")
    done = run(text, tmp_path, PATH=f"{tmp_path / 'bin'}:{alone(tmp_path, 'bash', 'env')}")
    assert done.returncode == 0, done.stderr
    assert bool(calls(tmp_path)) == (not browser)


def alone(folder, *names):
    """A folder with a few of this machine's programs and nothing else."""
    path = folder / "few"
    path.mkdir(exist_ok=True)
    for name in names:
        (path / name).symlink_to(shutil.which(name))
    return path


RESULTS = {"NEWEST": "failure", "COLAB": "success", "BINDER": "skipped"}


@pytest.mark.parametrize("already", ["", "17"])
def test_one_issue_tells_of_failures(tmp_path, already):
    stub(tmp_path, "gh", f'if [ "$1 $2" = "issue list" ]; then echo "{already}"; fi')
    text = script("weekly.yml", "tell", "gh issue")
    done = run(text, tmp_path, RUN="https://example.org/run/3", **RESULTS)
    assert done.returncode == 0, done.stderr
    made, label = calls(tmp_path)[-1], calls(tmp_path)[0]
    assert label.startswith("gh label create weekly") and "https://example.org/run/3" in made
    assert "Newest dependencies: failure. Colab's image: success" in made
    start = "gh issue comment 17" if already else "gh issue create --title"
    assert made.startswith(start) and len(calls(tmp_path)) == 3


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_the_schema_of_workflows_is_kept(path):
    tool = Path(sys.executable).parent / "check-jsonschema"
    command = [tool, "--builtin-schema", "vendor.github-workflows", path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_scripts_pass_shellcheck(path, tmp_path):
    tool = Path(sys.executable).parent / "shellcheck"
    for _path, job, step in scripts():
        if _path == path:
            file = tmp_path / "step.sh"
            file.write_text("#!/usr/bin/env bash\nset -euo pipefail\n" + step["run"], "utf8")
            done = subprocess.run([tool, file], capture_output=True, text=True)
            assert done.returncode == 0, (job, done.stdout)


def test_no_known_weakness_is_in_the_workflows(tmp_path):
    tool = Path(sys.executable).parent / "zizmor"

    def look(folder):
        command = [tool, "--offline", "--no-progress", "--format", "json", folder]
        return json.loads(subprocess.run(command, capture_output=True, text=True).stdout)

    assert look(ROOT / ".github") == []
    weak = (ROOT / ".github/workflows/ci.yml").read_text("utf8").replace("contents: read", "{}")
    weak = re.sub(r"@[0-9a-f]{40}", "@main", weak)
    (tmp_path / ".github/workflows").mkdir(parents=True)
    (tmp_path / ".github/workflows/ci.yml").write_text(weak, "utf8")
    assert any(it["ident"] == "unpinned-uses" for it in look(tmp_path))


def pins(name):
    found = locked.PIN.findall((ROOT / name).read_text("utf8"))
    return {canonicalize_name(pin): version for pin, version in found}


def test_binder_has_the_versions_that_the_book_was_built_with():
    book, binder = pins("requirements.txt"), pins("binder/requirements.txt")
    assert {name: book.get(name) for name in binder} == binder | dict.fromkeys(
        ("jupyterlab", "nbgitpuller")  # what the notebooks are opened with
    )
    python = (ROOT / "binder/runtime.txt").read_text().strip()
    assert python == "python-3.11"


def test_the_pinned_versions_can_be_installed_with_any_python_that_the_readme_names():
    """A release may ask for Python 3.11.5 when Debian 12 has 3.11.2."""
    for name, version in pins("requirements.txt").items():
        if locked._installed(name) == version:
            wanted = SpecifierSet(metadata.metadata(name).get("Requires-Python", ""))
            refused = [it for it in ("3.11.0", "3.12.0", "3.13.0") if it not in wanted]
            assert not refused, f"{name} {version} needs Python {wanted}"


def test_the_lowest_versions_are_what_pyproject_admits():
    lowest = dict(pin.split("==") for pin in environment.lowest())
    assert {"torch", "numpy", "transformers", "pytest"} <= lowest.keys()
    pinned = pins("requirements.txt")
    for name, version in lowest.items():
        if canonicalize_name(name) in pinned:
            assert Version(version) <= Version(pinned[canonicalize_name(name)]), name
    assert environment.lowest(["torch"]) == [f"torch=={lowest['torch']}"]


def test_the_buttons_of_a_fork_open_the_fork(monkeypatch):
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))
    for name in ("GITHUB_REPOSITORY", "GITHUB_SERVER_URL", "BOOK_URL"):
        monkeypatch.delenv(name, raising=False)
    own = repository.slug(config)
    monkeypatch.setenv("GITHUB_REPOSITORY", "Someone/a-fork")
    assert repository.slug(config) == "Someone/a-fork" != own
    assert repository.pages_url(config) == "https://someone.github.io/a-fork"
    urls = launch.launch_urls("Someone/a-fork", "c0ffee", "notebooks", "notebooks/a/b.ipynb")
    start = "https://colab.research.google.com/github/Someone/a-fork/blob/notebooks/"
    assert urls["Colab"] == start + "notebooks/a/b.ipynb"
    assert urls["Binder"].startswith("https://mybinder.org/v2/gh/Someone/a-fork/c0ffee?urlpath=")


def test_korean_is_cut_into_pairs_and_english_into_words():
    split = SearchBoth({}).split
    assert split("CLIP의 온도는 0.07") == ["CLIP", "의", "온도", "도는", "0", "07"]
    assert split("red_cube, 빨간 정육면체") == ["red_cube", "빨간", "정육", "육면", "면체"]
