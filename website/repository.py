"""Where this book is published from, so that a fork's links open the fork."""

from __future__ import annotations

import os
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any


def url(config: dict[str, Any]) -> str:
    """The repository's address: the one whose workflow is running, else what _config.yml says."""
    if slug := os.environ.get("GITHUB_REPOSITORY"):
        return f"{os.environ.get('GITHUB_SERVER_URL', 'https://github.com')}/{slug}"
    return config["repository"]["url"].rstrip("/")


def slug(config: dict[str, Any]) -> str:
    """The repository's owner and name, as in owner/name."""
    return "/".join(url(config).split("/")[-2:])


def pages_url(config: dict[str, Any]) -> str:
    """Where GitHub Pages serves the site, or $BOOK_URL; without a slash at the end."""
    if address := os.environ.get("BOOK_URL"):
        return address.rstrip("/")
    owner, name = slug(config).lower().split("/")
    host = f"https://{owner}.github.io"
    return host if name == f"{owner}.github.io" else f"{host}/{name}"


def commit(root: Path, config: dict[str, Any]) -> str:
    """The commit that is published; the branch where there is no git repository."""
    return os.environ.get("GITHUB_SHA") or _head(root) or config["repository"]["branch"]


@lru_cache(maxsize=1)
def _head(root: Path) -> str | None:
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
