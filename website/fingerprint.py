"""One key per page over all that its outputs depend on, so that no stale output is ever shown.

The key covers the page's code cells with their metadata, the modules of vlmbook that they import
(transitively), the files named under `depends:` in the front matter, the versions of the packages
behind those imports, Python's minor version, the device class, whether the page runs alone, and
whether it loads real checkpoints. It leaves out the prose, so that writing costs nothing, and the
page's own name.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from vlmbook import hub
from website import device, imports, locked
from website.pages import Page, PageError

EXECUTOR = 1  # raise it when a change to the executor changes what pages produce


def digest_file(path: Path) -> str:
    """A file's digest; text has the same one with LF and with CRLF line ends."""
    content = path.read_bytes()
    if b"\0" not in content:
        content = content.replace(b"\r\n", b"\n")
    return hashlib.sha256(content).hexdigest()


def dependencies(page: Page) -> Iterator[Path]:
    """The files that a page's `depends:` names, folders opened up."""
    for name in page.depends:
        path = page.root / name
        if not path.exists():
            raise PageError(f"{page.name} depends on {name}, which does not exist")
        yield from sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def page_imports(page: Page) -> set[str]:
    """What the page's cells import; raises PageError where that cannot be told."""
    names: set[str] = set()
    for cell in page.code:
        try:
            found, dynamic = imports.imports(cell.source)
        except imports.ImportProblem as problem:
            raise PageError(f"{page.name}:{cell.line} cell {cell.number} {problem}") from problem
        if dynamic and not page.depends:
            raise PageError(
                f"{page.name}:{cell.line} cell {cell.number} imports or runs code by a name known "
                "only when it runs; write an import statement, or name the files under depends:"
            )
        names |= found
    return names


def inputs(page: Page, requirements: str) -> dict:
    """All that the key covers, in a form that can be compared and printed."""
    try:
        files, packages = imports.closure(page.root, page_imports(page))
    except imports.ImportProblem as problem:
        raise PageError(f"{page.name} uses vlmbook, but {problem}") from problem
    paths = [*files, *dependencies(page)]
    found = {
        "cells": [[cell.source, cell.metadata] for cell in page.code],
        "files": {path.relative_to(page.root).as_posix(): digest_file(path) for path in paths},
        "versions": locked.versions(requirements, packages),
        "python": list(sys.version_info[:2]),
        "device": device.device_class(),
        "alone": page.alone,
        "executor": EXECUTOR,
    }
    return found | ({"hub": hub.recording()} if page.at_hub else {})


def key(page: Page, requirements: str) -> str:
    """The page's key; requirements is the text of requirements.txt."""
    text = json.dumps(inputs(page, requirements), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
