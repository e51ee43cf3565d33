"""The book's machinery on a toy book: what runs again, what fails, and what the site holds."""

import ast
import re
import shutil
import sys
import textwrap
import time
from pathlib import Path

import nbformat
import pytest
from books import BUILD, CELL, ROOT, build, edit, only, page_text, small_book, start, write
from sphinx.pycode import ModuleAnalyzer

from website import check, device, execute, fingerprint, kernel
from website.build import site_digest
from website.pages import Page, PageError
from website.store import Store

REQUIREMENTS = "numpy==2.0.0\ntorch==2.0.0\nsympy==1.13\nipykernel==6.0\nruff==0.1\nsphinx==7.0\n"


@pytest.fixture
def toy(tmp_path):
    """Three pages with code over a package of five modules, and one page of prose."""
    files = {
        "_toc.yml": "format: jb-book\nroot: book/index\nchapters:\n"
        "  - file: book/numbers\n  - file: book/deep/tensors\n  - file: book/prose\n",
        "requirements.txt": REQUIREMENTS,
        "vlmbook/__init__.py": "",
        "vlmbook/one.py": "VALUE = 1\n",
        "vlmbook/two.py": "from vlmbook import one\nVALUE = one.VALUE + 1\n",
        "vlmbook/idle.py": "VALUE = 0\n",
        "vlmbook/sub/__init__.py": "",
        "vlmbook/sub/leaf.py": "import torch\nfrom .. import idle as unused\n",
        "vlmbook/weights/a/model.txt": "a",
        "vlmbook/weights/b/model.txt": "b",
        "vlmbook/results/r.json": "{}",
        "book/index.md": page_text("Index", "from vlmbook import one\nprint(one.VALUE)"),
        "book/numbers.md": page_text(
            "Numbers",
            "import numpy\nfrom vlmbook import two\nprint(two.VALUE)",
            front="depends: [vlmbook/weights/a, vlmbook/results/r.json]\n",
        ),
        "book/deep/tensors.md": page_text("Tensors", "from vlmbook.sub import leaf"),
        "book/prose.md": "# Prose\n\nNo code.\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf8")
    return tmp_path


def keys(root):
    return {p.name.split("/")[-1].removesuffix(".md"): k for p, k in execute.keys(root).items()}


ALL = {"index", "numbers", "tensors"}
CHANGES = {
    "a module used by two pages, one through another": (
        edit("vlmbook/one.py", "1", "2"),
        {"index", "numbers"},
    ),
    "a module used by one page": (edit("vlmbook/two.py", "+ 1", "+ 2"), {"numbers"}),
    "a comment in a module": (edit("vlmbook/two.py", "VALUE", "# why\nVALUE"), {"numbers"}),
    "a module used by a relative import": (edit("vlmbook/idle.py", "0", "9"), {"tensors"}),
    "a module that nothing uses": (write("vlmbook/new.py", "X = 1\n"), set()),
    "the package's own file": (write("vlmbook/__init__.py", "X = 1\n"), ALL),
    "a sub-package's own file": (write("vlmbook/sub/__init__.py", "X = 1\n"), {"tensors"}),
    "prose": (edit("book/index.md", "# Index", "# Index\n\nMore words."), set()),
    "a title": (edit("book/numbers.md", "# Numbers", "# Figures"), set()),
    "a page without code": (edit("book/prose.md", "No code.", "None."), set()),
    "a cell": (edit("book/index.md", "print(one.VALUE)", "print(one.VALUE + 1)"), {"index"}),
    "a comment in a cell": (edit("book/index.md", "print(", "# say\nprint("), {"index"}),
    "a tag": (edit("book/index.md", "ipython3\n", "ipython3\n:tags: [hide-input]\n\n"), {"index"}),
    "a cell more": (
        edit("book/deep/tensors.md", "# Tensors\n", "# Tensors\n" + CELL.format("1")),
        {"tensors"},
    ),
    "weights that a page names": (write("vlmbook/weights/a/model.txt", "z"), {"numbers"}),
    "a file more in a named folder": (write("vlmbook/weights/a/more.txt", "z"), {"numbers"}),
    "weights that no page names": (write("vlmbook/weights/b/model.txt", "z"), set()),
    "results that a page names": (write("vlmbook/results/r.json", "[]"), {"numbers"}),
    "a version that one page imports": (
        edit("requirements.txt", "numpy==2.0.0", "numpy==2.0.1"),
        {"numbers"},
    ),
    "a version imported through the package": (
        edit("requirements.txt", "torch==2.0.0", "torch==2.0.1"),
        {"tensors"},
    ),
    "a version that an import requires": (
        edit("requirements.txt", "sympy==1.13", "sympy==1.14"),
        {"tensors"},
    ),
    "the kernel's version": (edit("requirements.txt", "ipykernel==6.0", "ipykernel==6.1"), ALL),
    "a version that no page needs": (edit("requirements.txt", "ruff==0.1", "ruff==0.2"), set()),
    "line ends": (edit("vlmbook/two.py", "\n", "\r\n"), set()),
    "running alone": (edit("book/index.md", "---\n", "---\nalone: true\n"), {"index"}),
    "an import more": (
        edit("book/index.md", "import one", "import idle, one"),
        {"index"},
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_exactly_the_pages_that_depend_on_a_change_run_again(toy, change):
    make, expected = CHANGES[change]
    before = keys(toy)
    assert before.keys() == ALL
    make(toy)
    after = keys(toy)
    assert {name for name in ALL if before[name] != after[name]} == expected


def test_a_reverted_change_finds_the_old_outputs(toy):
    before = keys(toy)
    edit("vlmbook/one.py", "1", "2")(toy)
    edit("vlmbook/one.py", "2", "1")(toy)
    assert keys(toy) == before


def test_a_renamed_page_keeps_its_outputs(toy):
    before = keys(toy)
    (toy / "book/numbers.md").rename(toy / "book/figures.md")
    edit("_toc.yml", "book/numbers", "book/figures")(toy)
    assert keys(toy)["figures"] == before["numbers"]


def test_outputs_of_a_gpu_are_not_shown_for_a_cpu(toy, monkeypatch):
    before = keys(toy)
    monkeypatch.setattr(device, "device_class", lambda: "cuda")
    assert not set(before.values()) & set(keys(toy).values())


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("import importlib\nimportlib.import_module('vlmbook.' + 'one')", "import statement"),
        ("%run other.py", "not plain Python"),
        ("from vlmbook.one import *", r"imports \* from vlmbook.one"),
    ],
)
def test_imports_that_can_not_be_seen_are_refused(toy, cell, message, capsys):
    write("book/index.md", page_text("Index", cell))(toy)
    with pytest.raises(execute.ExecutionFailed):
        keys(toy)
    assert re.search(message, capsys.readouterr().err)


def test_a_missing_dependency_is_named(toy):
    page = Page(toy, "book/numbers.md")
    shutil.rmtree(toy / "vlmbook/weights/a")
    with pytest.raises(PageError, match="book/numbers.md depends on vlmbook/weights/a, which"):
        fingerprint.key(page, REQUIREMENTS)


def test_a_failure_is_reported_each_time_and_the_others_are_kept(toy, capsys):
    good = page_text("Good", "from vlmbook import one\nprint(one.VALUE)")
    only(toy, good=good, bad=page_text("Bad", "x = 1", "1 / 0"))
    for _ in range(2):  # a second build of the same tree fails just the same
        with pytest.raises(execute.ExecutionFailed, match="1 pages failed"):
            execute.run(toy)
        told = capsys.readouterr()
        assert "book/bad.md:15 (code cell 2) failed" in told.err and "ZeroDivisionError" in told.err
    assert "good" not in told.out  # it was kept, and not run again
    edit("book/bad.md", "1 / 0", "1 / 1")(toy)
    done = execute.run(toy)
    assert all(execute.store(toy).has(key) for key in done.values())
    run = execute.store(toy).load(done[Page(toy, "book/good.md")])
    assert run.cells[1].outputs[0].text == "1\n"
    cost = run.metadata["run"]
    assert cost["peak_bytes"] > 1e7 and cost["threads"] == 1 and cost["seconds"] >= 0


def test_reading_what_the_page_does_not_name_fails(toy, capsys):
    code = "from pathlib import Path\nimport vlmbook\n"
    code += "text = (Path(vlmbook.__file__).parent / 'results/r.json').read_text()"
    only(
        toy,
        reader=page_text("Reader", code),
        warns=page_text("W", "import sys\nprint(1, file=sys.stderr)"),
    )
    with pytest.raises(execute.ExecutionFailed, match="2 pages failed"):
        execute.run(toy)
    told = capsys.readouterr().err
    assert (
        "book/reader.md read vlmbook/results/r.json, which its front matter does not name" in told
    )
    assert "writes to stderr" in told


def test_a_slow_cell_is_stopped(toy, monkeypatch, capsys):
    monkeypatch.setattr(kernel, "CELL_SECONDS", 1)
    monkeypatch.delenv("BOOK_SLOW", raising=False)
    only(toy, slow=page_text("Slow", "import time\ntime.sleep(20)"))
    started = time.monotonic()
    with pytest.raises(execute.ExecutionFailed):
        execute.run(toy)
    assert time.monotonic() - started < 12
    assert "took longer than 2 s" in capsys.readouterr().err


@pytest.mark.parametrize("built_for_gpus", [False, True])
def test_a_page_has_so_much_memory_beside_the_libraries_for_gpus(
    toy, monkeypatch, capsys, built_for_gpus
):
    monkeypatch.setattr(kernel, "PAGE_BYTES", 1e6)
    import_torch = f"""import sys
from types import SimpleNamespace
cuda = SimpleNamespace(is_built=lambda: {built_for_gpus})
sys.modules["torch"] = SimpleNamespace(backends=SimpleNamespace(cuda=cuda))"""
    only(toy, large=page_text("Large", import_torch))
    if built_for_gpus:
        execute.run(toy)
    else:
        with pytest.raises(execute.ExecutionFailed):
            execute.run(toy)
        assert "large.md took 0." in capsys.readouterr().err


HUB = "\n```{{code-cell}} ipython3\n:tags: [hub]\n\n{}\n```\n"


def test_a_cell_that_loads_a_checkpoint_may_take_longer_where_that_is_wanted(
    toy, monkeypatch, capsys
):
    monkeypatch.setattr(kernel, "CELL_SECONDS", 1)
    monkeypatch.setattr(kernel, "PAGE_SECONDS", 1)
    monkeypatch.delenv("BOOK_SLOW", raising=False)
    text = page_text("Real", "import time") + HUB.format("time.sleep(4)")
    only(toy, real=text)
    found = {}
    for setting in ("0", "1"):
        monkeypatch.setenv("VLMBOOK_HUB", setting)
        found[setting] = keys(toy)
    assert found["0"]["real"] != found["1"]["real"]
    execute.run(toy)  # wanted now
    monkeypatch.setenv("VLMBOOK_HUB", "0")
    with pytest.raises(execute.ExecutionFailed):
        execute.run(toy)
    assert re.search("longer than 2 s|over 2 s", capsys.readouterr().err)


def test_other_pages_keep_their_key_whatever_is_wanted(toy, monkeypatch):
    found = []
    for setting in ("0", "1"):
        monkeypatch.setenv("VLMBOOK_HUB", setting)
        found.append(keys(toy))
    assert found[0] == found[1]


def test_a_half_written_entry_is_never_found(tmp_path, monkeypatch):
    kept = Store(tmp_path)
    notebook = nbformat.v4.new_notebook(metadata={"run": {"seconds": 1.0}})

    def interrupted(self, target):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            kept.save("key", "book/a.md", notebook)
    assert not kept.has("key") and not list(tmp_path.glob(".*.tmp"))
    kept.save("key", "book/a.md", notebook)
    assert kept.has("key") and kept.seconds() == {"book/a.md": 1.0}


def test_the_site_is_built_and_broken_pages_fail_twice(tmp_path):
    book = small_book(tmp_path)
    done = build(book)
    assert done.returncode == 0, done.stdout + done.stderr
    site = book / "_build/site"
    front = (site / "en/index.html").read_text("utf8")
    assert "The answer is" in front and "42" in front
    assert re.search(r"Ran in [\d.]+ s, [\d.]+ GB, on a CPU", front)
    assert "someone/fork" in front and "url=en/index.html" in (site / "index.html").read_text()
    assert "def result" in re.sub("<[^>]+>", "", (site / "en/deep/b.html").read_text("utf8"))
    assert check.problems(site, book) == []
    notebook = nbformat.read(site / "notebooks/index.ipynb", 4)
    nbformat.validate(notebook)
    text = "\n".join(c.source for c in notebook.cells)
    assert "{glue" not in text and "{doc}" not in text and "The answer is 42" in text
    asked, answer, solved = notebook.cells[-3:]
    assert "Exercise: Add" in asked.source and answer.cell_type == "code"
    assert answer.source.endswith('# check("add", add)')
    assert solved.source.startswith("<details>") and "add = sum" in solved.source
    first = next(c for c in notebook.cells if c.cell_type == "code")
    assert 'if "google.colab" in sys.modules' in first.source
    assert '%pip install -q "vlmbook[search,datasets] @ git+' in first.source
    assert not any(c.get("outputs") for c in notebook.cells)

    assert "Nothing has changed" in build(book).stdout

    write("book/deep/b.md", "# Back\n\n{ref}`nowhere` {cite}`nobody`\n")(book)
    for _ in range(2):
        broken = build(book)
        assert broken.returncode == 1
        assert (
            "nowhere" in broken.stderr and "nobody" in broken.stderr and "b.md:3" in broken.stderr
        )
    assert (site / "index.html").is_file()  # the last good site is still there


def test_a_killed_build_is_completed_and_two_at_once_do_no_harm(tmp_path):
    book = small_book(tmp_path)
    edit("book/index.md", "41 + 1)", "41 + 1)\nimport time\ntime.sleep(2)")(book)
    killed = start(book, *BUILD)
    while "book/index.md ..." not in killed.stdout.readline():
        pass
    killed.kill()
    killed.communicate()
    assert not (book / "_build/site").exists()
    both = [start(book, *BUILD) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("Waiting for another build" in text for text in said) == 1
    assert sum("ran in" in text for text in said) == 1
    assert check.problems(book / "_build/site", book) == []
    assert not list((book / "_build").glob("work-*"))


def test_jupyter_book_builds_it_too(tmp_path):
    book = small_book(tmp_path)
    made = build(book, Path(sys.executable).parent / "jupyter-book", "build", ".", "-W", "-n")
    assert made.returncode == 0, made.stdout + made.stderr
    assert "42" in (book / "_build/html/book/index.html").read_text("utf8")


QUOTE = re.compile(r"```\{literalinclude\} (\S+)\n:pyobject: (\S+)\n:lines: (\d+)-(\d*)\n")
PAGES = sorted(ROOT.glob("book/**/*.md"))


def quoted(page: Path):
    """The lines that a page quotes from inside a function: from, to, and the text."""
    for path, name, first, last in QUOTE.findall(page.read_text("utf8")):
        source = (page.parent / path).resolve()
        _, start, end = ModuleAnalyzer.for_file(str(source), "").find_tags()[name]
        lines = source.read_text("utf8").splitlines()[start - 1 : end]
        yield name, "\n".join(lines[int(first) - 1 : int(last) if last else None])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_quoted_lines_are_whole_statements(page):
    for name, text in quoted(page):
        assert text.splitlines()[0].strip() and text.splitlines()[-1].strip(), name
        ast.parse("def quoted():\n" + textwrap.indent(textwrap.dedent(text), "    "))
        assert not text.lstrip().startswith("return"), f"{name}: the lines before are missing"


def test_binder_has_what_the_package_and_its_pages_need():
    tomllib = pytest.importorskip("tomllib")  # from Python 3.11 on
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]
    needed = project["dependencies"] + ["scikit-image", "transformers", "peft"]
    given = (ROOT / "binder" / "requirements.txt").read_text("utf8").splitlines()
    name = re.compile(r"[\w-]+")
    assert {name.match(n)[0] for n in needed} <= {m[0] for g in given if (m := name.match(g))}


def test_enough_is_quoted():
    assert sum(len(list(quoted(page))) for page in PAGES) >= 5


def test_check_finds_what_is_wrong(tmp_path):
    write(
        "en/a.html",
        '<html><head><script src="https://cdn.example/x.js"></script></head>'
        '<body><img src="x.png" alt=""><a href="b.html">b</a><a href="#no">no</a></body></html>',
    )(tmp_path)
    write("en/s.css", "@import url(//fonts.example/f.css);")(tmp_path)
    found = "\n".join(check.problems(tmp_path, tmp_path))
    for part in ("https://cdn.example/x.js", "//fonts.example/f.css", "alt text", "b.html", "#no"):
        assert part in found, part


def test_the_site_is_made_again_where_checkpoints_are_wanted(monkeypatch):
    found = {}
    for setting in ("0", "1", "0"):
        monkeypatch.setenv("VLMBOOK_HUB", setting)
        digest = site_digest(ROOT)
        assert found.setdefault(setting, digest) == digest
    assert found["0"] != found["1"]
