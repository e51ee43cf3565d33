"""The exported notebooks run in the environment that Binder makes, within its memory."""

import hashlib
import os
import re
import shlex
import subprocess
import sys

import nbformat
import pytest
from books import ROOT
from conftest import SITE
from filelock import FileLock

# One of each kind that takes seconds; all of them with VLMBOOK_NOTEBOOKS=all, in some ten minutes.
QUICK = ("index", "concepts/families", "attention/fusion", "llava/stages", "appendix/checkpoints")
NAMES = sorted(
    path.relative_to(SITE / "notebooks").with_suffix("").as_posix()
    for path in (SITE / "notebooks").rglob("*.ipynb")
    if os.environ.get("VLMBOOK_NOTEBOOKS") == "all"
    or path.relative_to(SITE / "notebooks").with_suffix("").as_posix() in QUICK
)


def digest():
    """Changes with all that is installed."""
    paths = [ROOT / "pyproject.toml", *(ROOT / "binder").iterdir(), *(ROOT / "vlmbook").rglob("*")]
    files = [path for path in paths if path.is_file() and "__pycache__" not in path.parts]
    content = b"".join(path.read_bytes() for path in sorted(files))
    return hashlib.sha256(content + sys.version.encode()).hexdigest()


@pytest.fixture(scope="session")
def python(tmp_path_factory):
    """A Python with what binder/ installs and nothing else; kept while that stays the same."""
    folder = ROOT / "_build" / "binder"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = digest()
    done, python = folder / "installed.txt", folder / "venv" / "bin" / "python"
    with FileLock(folder / ".lock"):
        if not done.is_file() or done.read_text("utf8") != wanted:
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder / "venv"], check=True)
            pip = [python, "-m", "pip", "install", "-q", "--retries", "1"]
            subprocess.run([*pip, "-r", ROOT / "binder" / "requirements.txt"], check=True)
            tree = tmp_path_factory.mktemp("tree")  # postBuild leaves files where it runs
            copy = "git ls-files -z | xargs -0 cp --parents -t"
            subprocess.run(f"{copy} {shlex.quote(str(tree))}", shell=True, cwd=ROOT, check=True)
            env = {**os.environ, "PATH": f"{python.parent}:{os.environ['PATH']}"}
            post = ["bash", "binder/postBuild"]
            subprocess.run(post, cwd=tree, env=env, check=True, capture_output=True)
            done.write_text(wanted, "utf8")
    return python


def run(python, tmp_path, *arguments):
    """Run the script as in Binder: no folder of ours on the path, no setting of the build's."""
    env = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "TMPDIR")}
    command = [python, ROOT / "website" / "run_notebooks.py", *arguments]
    env |= {"HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_in_binders_environment(python, tmp_path, name):
    done = run(python, tmp_path, SITE / "notebooks" / f"{name}.ipynb")
    assert done.returncode == 0, done.stdout + done.stderr
    taken = float(re.search(r"ran in +[\d.]+ s, ([\d.]+) GB", done.stdout)[1])
    assert 0.05 < taken < 2


def test_a_notebook_that_fails_or_takes_too_much_is_told(python, tmp_path):
    cells = {"fails": "1 / 0", "large": "held = bytearray(2_100_000_000)", "fine": "import vlmbook"}
    for name, source in cells.items():
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
    done = run(python, tmp_path, tmp_path)
    assert done.returncode == 1 and "1 of 3 notebooks ran" in done.stdout, done.stdout
    assert "ZeroDivisionError" in done.stdout and "more than the 2 GB" in done.stdout
    (tmp_path / "empty").mkdir()
    empty = run(python, tmp_path, tmp_path / "empty")
    assert empty.returncode == 1 and "there are no notebooks in" in empty.stdout


def test_the_quick_ones_are_there():
    assert set(QUICK) <= set(NAMES)


def test_in_colab_the_first_cell_installs(python, tmp_path):
    """With the module that tells it that this is Colab, and a pip that only takes notes."""
    notebook = nbformat.read(SITE / "notebooks" / "concepts" / "families.ipynb", 4)
    setup = next(cell for cell in notebook.cells if cell.cell_type == "code")
    shown = nbformat.v4.new_code_cell("print('installs', asked)\nassert len(asked) == 1")
    fake = nbformat.v4.new_code_cell(
        "asked = []\nget_ipython().register_magic_function(asked.append, magic_name='pip')"
    )
    nbformat.write(nbformat.v4.new_notebook(cells=[fake, setup, shown]), tmp_path / "one.ipynb")
    (tmp_path / "google" / "colab").mkdir(parents=True)
    for name in ("google/__init__.py", "google/colab/__init__.py"):
        (tmp_path / name).write_text("")
    assert run(python, tmp_path, tmp_path / "one.ipynb").returncode == 1  # not in Colab: not asked
    env = {"PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    command = [python, ROOT / "website/run_notebooks.py", "--colab", tmp_path / "one.ipynb"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
