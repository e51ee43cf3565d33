"""Whatever goes wrong in one build, the next one is right."""

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from books import BUILD, build, edit, environment, only, page_text, small_book

from website import check, execute


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A small book, built in peace, and how long that took."""
    book = small_book(tmp_path_factory.mktemp("whole"))
    started = time.monotonic()
    assert build(book).returncode == 0
    return book, time.monotonic() - started


def files(book):
    """What a build has published."""
    site = book / "_build" / "site"
    return sorted(path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file())


def kernels(book):
    """The processes that run pages of this book."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(book) in process.environ().get("PYTHONPATH", "") and "ipykernel" in " ".join(
                process.cmdline()
            ):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def assert_right(book, whole):
    """Build once more, and compare with the book that was built in peace."""
    done = build(book)
    assert done.returncode == 0, done.stdout + done.stderr
    assert check.problems(book / "_build/site", book) == []
    assert files(book) == files(whole[0])
    assert "42" in (book / "_build/site/en/index.html").read_text("utf8")
    assert "Nothing has changed" in build(book).stdout


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("part", [0.15, 0.35, 0.55, 0.75, 0.95])
def test_a_build_that_was_killed(whole, tmp_path, part, how):
    book = small_book(tmp_path)
    with (tmp_path / "said").open("w") as said:  # a pipe would be held by what it has started
        process = subprocess.Popen(BUILD, cwd=book, env=environment(book), stdout=said, stderr=said)
        time.sleep(part * whole[1] * random.uniform(0.9, 1.1))
        process.send_signal(how)
        process.wait()
    edit("book/index.md", "The answer is", "Now the answer is")(book)  # before anything has settled
    assert_right(book, whole)
    assert "Now the answer is" in (book / "_build/site/en/index.html").read_text("utf8")
    deadline = time.monotonic() + 20
    while kernels(book) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert kernels(book) == []  # none runs on by itself


FULL = """
set -u
mkdir -p _build && mount -t tmpfs -o size=$2 tmpfs _build || exit 77
"$1" -m website.build; echo "first: $?"
mount -o remount,size=200m tmpfs _build # named, so that no option is taken over
"$1" -m website.build; echo "second: $?"
test -f _build/site/en/index.html && echo published
"""


@pytest.mark.parametrize("size", ["8k", "400k", "2m", "6m"])
def test_a_full_disk(tmp_path, size):
    book = small_book(tmp_path)
    if not shutil.which("unshare"):
        pytest.skip("a small disk of its own needs unshare")
    mapped = [] if os.geteuid() == 0 else ["--map-root-user"]
    command = ["unshare", "--mount", *mapped, "sh", "-c", FULL, "sh", BUILD[0], size]
    done = build(book, *command)
    if done.returncode == 77 or ("first:" not in done.stdout and "unshare:" in done.stderr):
        pytest.skip("this machine does not allow a small disk of one's own")
    assert "first: 1" in done.stdout, done.stdout + done.stderr
    assert "The book was not built: No space left on device" in done.stderr
    assert "second: 0" in done.stdout and "published" in done.stdout, done.stdout + done.stderr


DAMAGES = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "one bit": lambda content: content[:-40] + bytes([content[-40] ^ 1]) + content[-39:],
    "another's": lambda content: b'{"cells": []}',
    "noise": lambda content: random.Random(0).randbytes(5000),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_runs_again(whole, tmp_path, damage):
    book = small_book(tmp_path)
    shutil.copytree(whole[0] / "_build", book / "_build")
    (entry,) = (book / "_build/executed").glob("*.page")
    entry.write_bytes(DAMAGES[damage](entry.read_bytes()))
    (book / "_build/executed/seconds.json").write_bytes(b"{")
    edit("book/index.md", "The answer is", "So the answer is")(book)
    done = build(book)
    assert done.returncode == 0 and "book/index.md ran in" in done.stdout
    assert_right(book, whole)


def test_an_entry_that_is_whole_does_not_run_again(whole, tmp_path):
    book = small_book(tmp_path)
    shutil.copytree(whole[0] / "_build", book / "_build")
    edit("book/index.md", "The answer is", "So the answer is")(book)
    done = build(book)
    assert done.returncode == 0 and "book/index.md" not in done.stdout
    assert "So the answer is" in (book / "_build/site/en/index.html").read_text("utf8")
    status = [(it / "_build/site/en/deep/b.html").read_text("utf8") for it in (whole[0], book)]
    assert "For this build: 1; kept" in status[0]
    assert "For this build: 0; kept" in status[1]


def test_a_preview_of_what_no_page_has_made_is_named(whole, tmp_path):
    book = small_book(tmp_path)
    shutil.copytree(whole[0] / "_build", book / "_build")
    preview = "# Back\n\n:::{preview} ../index\n:figure: dots\n:alt: Dots.\n\nDots.\n:::\n"
    edit("book/deep/b.md", "# Back\n", preview)(book)
    done = build(book)
    assert done.returncode == 1
    assert "the page 'index' has glued no figure as 'dots'" in done.stderr


def test_a_page_that_hangs_is_stopped_and_named(tmp_path, monkeypatch):
    book = small_book(tmp_path)
    hangs = "import signal\nfor it in (signal.SIGINT, signal.SIGTERM):\n"
    hangs += "    signal.signal(it, signal.SIG_IGN)\nwhile True:\n    pass"
    only(book, hangs=page_text("Hangs", "print('so far')", hangs), good=page_text("Good", "1"))
    Path(book / "book/prose.md").write_text("# Prose\n", "utf8")
    monkeypatch.setenv("BOOK_SLOW", "0.1")
    started = time.monotonic()
    done = build(book)
    assert done.returncode == 1 and time.monotonic() - started < 30
    assert "book/hangs.md:15 (code cell 2) took longer than 6 s" in done.stderr
    assert "book/good.md ran in" in done.stdout and kernels(book) == []
    report = execute.reports(book) / "book/hangs"
    assert "took longer" in report.with_suffix(".txt").read_text("utf8")
    assert "so far" in report.with_suffix(".ipynb").read_text("utf8")
    edit("book/hangs.md", "while True", "while False")(book)
    assert build(book).returncode == 0
    assert not execute.reports(book).exists()
