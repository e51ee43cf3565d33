"""Run the pages that are stale, side by side; every failure is reported, every success kept.

python -m website.execute [--check] [--jobs 2]
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import time
from pathlib import Path

import nbformat
from filelock import FileLock

from website import device, fingerprint, kernel
from website.pages import Page, PageError, book_pages
from website.store import Store, write_atomically

ROOT = Path(__file__).resolve().parent.parent
STARTED = "VLMBOOK_BUILD_STARTED"  # when the build began that is going on


class ExecutionFailed(Exception):
    """Pages failed; each has been reported already."""


def store(root: Path) -> Store:
    """Where a tree keeps its executed pages."""
    return Store(root / "_build" / "executed")


def reports(root: Path) -> Path:
    """Where a tree keeps what its pages said when they failed."""
    return root / "_build" / "reports"


def report(page: Page, failure: kernel.PageFailed) -> None:
    """Keep what a page said when it failed, and what it had printed by then."""
    base = reports(page.root) / page.name.removesuffix(".md")
    write_atomically(base.with_suffix(".txt"), f"{failure}\n")
    if failure.notebook is not None:
        write_atomically(base.with_suffix(".ipynb"), nbformat.writes(failure.notebook))


def keys(root: Path) -> dict[Page, str]:
    """The key of each page that has code; raises ExecutionFailed after naming all bad pages."""
    requirements = (root / "requirements.txt").read_text("utf8")
    found, failures = {}, []
    for page in book_pages(root):
        try:
            if page.code:
                found[page] = fingerprint.key(page, requirements)
        except PageError as error:
            failures.append(str(error))
    _raise(failures)
    return found


def run(root: Path, jobs: int = 2, check: bool = False) -> dict[Page, str]:
    """Bring every page up to date and return the pages' keys.

    jobs pages run at a time, longest first, with one thread each; after them, one by one with all
    cores, those that say `alone: true`. With check nothing runs, and a stale page is a failure.
    What a page that failed said and printed is kept in _build/reports.
    """
    kept = store(root)
    kept.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(kept.folder / ".lock"):
        wanted = keys(root)
        stale = {page: key for page, key in wanted.items() if not kept.has(key)}
        if stale:
            print(f"{len(stale)} of {len(wanted)} pages with code are to run", flush=True)
        if check:
            _raise([f"{page.name} is stale; run it with: make book" for page in stale])
            return wanted
        shutil.rmtree(reports(root), ignore_errors=True)
        if stale:
            _raise(asyncio.run(_run_all(stale, kept, jobs)))
        kept.prune()
    return wanted


def _raise(failures: list[str]) -> None:
    """Report failures, if there are any, and raise."""
    for failure in failures:
        print(f"\nFAILED {failure}", file=sys.stderr)
    if failures:
        raise ExecutionFailed(f"{len(failures)} pages failed")


async def _run_all(stale: dict[Page, str], kept: Store, jobs: int) -> list[str]:
    """Run pages, keep those that succeed, and return what the others say."""
    seconds = kept.seconds()
    order = sorted(stale, key=lambda page: -seconds.get(page.name, float("inf")))
    slots = asyncio.Semaphore(jobs)
    failures: list[str] = []

    async def run_one(page: Page, threads: int) -> None:
        async with slots:
            print(f"  {page.name} ...", flush=True)
            started = time.monotonic()
            try:
                notebook = await kernel.run(page, threads)
            except kernel.PageFailed as error:
                failures.append(str(error))
                report(page, error)
                print(f"  {page.name} FAILED", flush=True)
                return
            kept.save(stale[page], page.name, notebook)
            print(f"  {page.name} ran in {time.monotonic() - started:.1f} s", flush=True)

    await asyncio.gather(*(run_one(page, 1) for page in order if not page.alone))
    for page in order:
        if page.alone:
            await run_one(page, device.num_cores())
    return failures


def main() -> int:
    """Run from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Run the book's stale pages.")
    parser.add_argument("--jobs", type=int, default=2, help="pages at a time")
    parser.add_argument("--check", action="store_true", help="fail on a stale page, run nothing")
    arguments = parser.parse_args()
    try:
        run(ROOT, arguments.jobs, arguments.check)
    except (ExecutionFailed, PageError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
