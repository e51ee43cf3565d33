"""Make the site: run stale pages, build, export the notebooks, check, and swap the result in.

python -m website.build [--jobs 2]

Nothing happens when no input has changed since the last success. After a failure everything but
the executed pages is made anew, so that a second build fails just the same; _build/site is
replaced as a whole, so that an interruption leaves the last good site, or none.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock, Timeout

from vlmbook import hub
from website import check, device, execute, notebooks, repository, tidy
from website.pages import PageError, load_config

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = ("GITHUB_REPOSITORY", "GITHUB_SERVER_URL", "BOOK_URL", "CUDA_VISIBLE_DEVICES")
SETTINGS += (hub.SETTING, hub.RECORD)


class BuildFailed(Exception):
    """The site could not be made; what is wrong has been printed."""


def inputs(root: Path) -> Iterator[Path]:
    """Every file that the site is made from."""
    yield from (root / name for name in ("_config.yml", "_toc.yml", "requirements.txt"))
    for folder in ("book", "vlmbook", "website"):
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


def site_digest(root: Path) -> str:
    """A digest of all that the site is made from."""
    digest = hashlib.sha256(sys.version.encode())
    for name in SETTINGS:
        digest.update(f"{name}={os.environ.get(name)}\n".encode())
    digest.update(repository.commit(root, load_config(root)).encode())
    digest.update(device.device_class().encode())
    for path in inputs(root):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def run_sphinx(root: Path, work: Path) -> None:
    """Build the pages into work/en, from nothing; any warning is a failure."""
    options = ["-b", "html", "-W", "--keep-going", "-n", "-q", "-c", str(root / "website")]
    command = [sys.executable, "-m", "sphinx", *options, "-d", str(work / "doctrees")]
    if subprocess.run([*command, str(root / "book"), str(work / "en")], cwd=root).returncode:
        if shutil.disk_usage(work).free < 2**20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(work))
        raise BuildFailed("the pages have warnings or errors (above)")


def build(root: Path, jobs: int) -> None:
    """Make the site of a tree; raises BuildFailed or ExecutionFailed."""
    keys = execute.run(root, jobs)
    for left in (root / "_build").glob("work-*"):  # by a build that was killed
        shutil.rmtree(left, ignore_errors=True)
    # a folder of its own: what a killed build has started may go on writing for a while
    work = Path(tempfile.mkdtemp(prefix="work-", dir=root / "_build"))
    (work / "site").mkdir()
    print("Building the pages ...", flush=True)
    run_sphinx(root, work)
    tidy.tidy(work / "en")
    (work / "en").rename(work / "site" / "en")
    notebooks.export(root, keys, work / "site")
    config = load_config(root)
    address = repository.pages_url(config)
    tidy.add_root(work / "site", root / "website" / "templates", config["title"], address)
    if found := check.problems(work / "site", root):
        raise BuildFailed("\n".join(found))
    swap(work / "site", root / "_build" / "site")
    shutil.rmtree(work)


def swap(new: Path, published: Path) -> None:
    """Put a finished site in the place of the last one."""
    old = published.with_name("site.old")
    shutil.rmtree(old, ignore_errors=True)
    if published.exists():
        published.rename(old)
    new.rename(published)
    shutil.rmtree(old, ignore_errors=True)


def build_if_needed(root: Path, jobs: int) -> int:
    """Build unless the last build succeeded from the same inputs; returns the exit code."""
    site, stamp = root / "_build" / "site", root / "_build" / "site.digest"
    started = time.monotonic()
    digest = site_digest(root)
    if site.is_dir() and stamp.is_file() and stamp.read_text() == digest:
        print(f"Nothing has changed: {site / 'index.html'}")
        return 0
    stamp.unlink(missing_ok=True)
    build(root, jobs)
    stamp.write_text(digest)
    print(f"Built in {time.monotonic() - started:.0f} s: {site / 'index.html'}")
    return 0


def main() -> int:
    """Build from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Build the book's site.")
    parser.add_argument("--jobs", type=int, default=2, help="pages to run at a time")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # kernels end with us
    try:  # once for the whole build, whose pages run in processes of their own
        os.environ[hub.SETTING] = "1" if hub.wanted(device.device_class() == "cuda") else "0"
    except ValueError as error:
        parser.error(str(error))
    os.environ[execute.STARTED] = datetime.now(timezone.utc).isoformat(timespec="seconds")
    try:
        (ROOT / "_build").mkdir(exist_ok=True)
        with lock(ROOT / "_build" / ".lock"):
            return build_if_needed(ROOT, arguments.jobs)
    except KeyboardInterrupt:
        print("\nInterrupted; the next build takes it up from here.", file=sys.stderr)
        return 130
    except (BuildFailed, execute.ExecutionFailed, PageError) as error:
        reason = str(error)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        reason = f"{error.strerror or error}{where}; mend that and run make book again"
    print(f"\nThe book was not built: {reason}", file=sys.stderr)
    return 1


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold a lock, after waiting for whoever holds it."""
    held = FileLock(path)
    try:
        held.acquire(timeout=0)
    except Timeout:
        print("Waiting for another build of this book ...", flush=True)
        held.acquire()
    try:
        yield
    finally:
        held.release()


if __name__ == "__main__":
    sys.exit(main())
