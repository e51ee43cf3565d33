"""What a text tells of the machine that made it: a path, its user's or its own name, a token."""

from __future__ import annotations

import getpass
import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

A_TOKEN = "a token"  # which is never repeated
SECRET_NAME = re.compile(
    r"TOKEN(?!IZ|S)|SECRET|(?<!ASK)PASS(?!ENV)|CREDENTIAL|AUTH(?!OR|_SOCK)|_PAT$"
    r"|(?<!^)(?<!^OLD)PWD"  # not the shell's own PWD and OLDPWD, which are folders
    r"|(?:API|ACCESS|PRIVATE|SSH|SIGNING)_?KEY",
    re.I,
)
TOKEN = re.compile(
    r"\bhf_[A-Za-z0-9]{20,}"  # Hugging Face
    r"|\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_\w{30,}|\bglpat-[\w-]{20,}"
    r"|\bA[KS]IA[0-9A-Z]{16}\b|\bAIza[\w-]{30,}|\bsk-(?:proj-)?[A-Za-z0-9]{20,}"  # clouds
    r"|\bxox[abp]-[\w-]{10,}|\bnpm_[A-Za-z0-9]{30,}|\bpypi-[\w-]{40,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
WEB = re.compile(r"\bhttps?://[^\s\"'<>]+")  # an address there is nobody's folder
ROOTS = "home|Users|root|tmp|private|mnt|media|opt|usr|var|srv|workspace|nix|dev/shm|__w|content"
PATH = re.compile(
    rf"(?<![\w.~-])(?:~/|/(?:{ROOTS})/[\w.@-]+)|(?<!\w)[A-Z]:[\\/]+Users[\\/]+[\w.@-]+", re.I
)
SHARED = {"root", "user", "users", "runner", "ubuntu", "debian", "admin", "jovyan", "docker",
          "localhost", "build", "builder", "nobody", "github", "gitlab", "jenkins", "python",
          "laptop", "desktop", "server", "worker"}  # fmt: skip


def is_secret(name: str, value: str) -> bool:
    """Whether an environment variable holds something that nobody else should read."""
    hard_to_guess = len(value) >= 16 or any(letter.isdigit() for letter in value)
    return bool(SECRET_NAME.search(name)) and len(value) >= 8 and hard_to_guess


def _names() -> set[str]:
    """The user's name and the machine's, but for names that tell nothing."""
    names = {platform.node(), platform.node().split(".")[0]}
    with suppress(OSError, KeyError, ImportError):  # a user without a name
        names.add(getpass.getuser())
    return {name for name in names if len(name) > 2 and name.lower() not in SHARED}


def _any_of(words: set[str]) -> str:
    """A pattern for some words, the long ones first; for none, one that matches nothing."""
    return "|".join(map(re.escape, sorted(words, key=len, reverse=True))) or "(?!)"


def in_site(root: Path) -> Callable[[str], str | None]:
    """What says what a page of the site tells: a token, or one of this machine's own folders."""
    secrets = {value for name, value in os.environ.items() if is_secret(name, value)}
    token = re.compile(f"{TOKEN.pattern}|{_any_of(secrets)}")
    folders = {root, root.resolve(), Path.home(), Path(sys.prefix)}
    own = _any_of({str(folder) for folder in folders if len(folder.parts) > 1})
    path = re.compile(rf"(?<![\w.~-])(?:{own})(?![\w-])")

    def tells(text: str) -> str | None:
        if token.search(text):
            return A_TOKEN
        match = path.search(WEB.sub(" ", text))
        return f"the path {match[0]}" if match else None

    return tells


def in_output(root: Path) -> Callable[[str], str | None]:
    """What says what a cell's output tells: that, any path, and who and where made it.

    Names of less than six letters may be words; they count beside a slash or an at sign alone.
    """
    first, names = in_site(root), _names()
    temporary = re.compile(rf"(?<![\w.~-]){re.escape(tempfile.gettempdir())}(?![\w-])")
    rare = _any_of({name for name in names if len(name) >= 6})
    any_name = _any_of(names)
    name = re.compile(
        rf"(?<![\w.-])(?:{rare})(?![\w-])|(?<=[/\\@~])(?:{any_name})\b|\b(?:{any_name})(?=@)"
    )

    def tells(text: str) -> str | None:
        if told := first(text):
            return told
        text = WEB.sub(" ", text)
        if match := PATH.search(text) or temporary.search(text):
            return f"the path {match[0]}"
        match = name.search(text)
        return f"the name {match[0]}" if match else None

    return tells
