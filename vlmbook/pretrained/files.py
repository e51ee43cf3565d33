"""From a repository of the hub to a folder of files that are whole, or one sentence that says why
not.

huggingface_hub fetches, keeps, and goes on where a connection was cut; it compares sizes, and not
what is in the files, which is done here. Book: appendix/checkpoints.md.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import (
    EntryNotFoundError,
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARDS, PICKLES = "model-*-of-*.safetensors", "pytorch_model*.bin"
SMALL = (
    "config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "chat_template.json",
    "chat_template.jinja",
)
NEEDED = ("config.json", "preprocessor_config.json", "tokenizer_config.json")
BOT = "SFconvertbot"  # the hub's, which offers safetensors where there is a pickle
# Any of these holds the words.
WORDS = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "tokenizer.model")
ATTEMPTS, PAUSE = 4, 2.0  # seconds


class HubError(RuntimeError):
    """A checkpoint can't be had; the message says why, and what to do."""


@dataclass(frozen=True)
class File:
    """One file of a repository; digest is its SHA-256, or, of a file that git holds itself, git's
    own SHA-1.
    """

    name: str
    num_bytes: int
    digest: str


@dataclass(frozen=True)
class Found:
    """What is to be fetched: a repository at a commit, and a note where that is not the one that
    was asked for.
    """

    repo: str
    commit: str
    files: tuple[File, ...]
    note: str = ""

    @property
    def missing(self) -> int:
        """Bytes that are not in the cache yet."""
        kept = _cache(self.repo) / "blobs"
        return sum(f.num_bytes for f in self.files if not (kept / f.digest).is_file())


def kept(
    repo: str, revision: str | None, exactly: bool = True, weights: bool = True
) -> Path | None:
    """The folder of a commit whose files are all in the cache; None where they are not.

    Its name is the commit's. Unless exactly, or where no revision is known, any other commit will
    do, the latest first; without weights, one that lacks these.
    """
    snapshots = _cache(repo) / "snapshots"
    commits = [snapshots / revision] if revision else []
    if not exactly or not revision:
        commits += sorted(snapshots.glob("*"), key=lambda one: -one.stat().st_mtime)
    for folder in commits:
        if _is_whole(folder, weights):
            return folder
    return None


def find(repo: str, revision: str | None, weights: bool = True) -> Found:
    """Ask the hub for a commit with safetensors: the revision, else the default branch, else the
    pull request in which the hub's bot offers them.

    What is found are these and the small files beside them, or without weights the latter alone.
    Raises HubError.
    """
    api, notes, pickles = huggingface_hub.HfApi(), [], False
    for wanted in _revisions(api, repo, revision):
        info = _asked(api, repo, wanted)
        if info is None:
            notes.append(f"revision {_short(wanted)} is not there any more")
            continue
        files = {one.rfilename: one for one in info.siblings or []}
        tensors = _weights(files)
        lacks = [name for name in NEEDED if name not in files]
        if tensors and not lacks:
            names = [name for name in SMALL if name in files] + (tensors if weights else [])
            made = tuple(File(name, files[name].size, _digest(files[name])) for name in names)
            if wanted != revision:
                notes.append(f"taking {wanted or 'the default branch'} at {_short(info.sha)}")
            return Found(repo, info.sha, made, ", ".join(notes))
        pickles = pickles or bool(fnmatch.filter(files, PICKLES))
        where = _short(wanted) if wanted else "the default branch"
        notes.append(f"{where} has no {'safetensors' if not tensors else lacks[0]}")
    if pickles:
        raise HubError(
            f"{repo} has its weights as a pickle alone, which can run code when it is opened, so it"
            " is not: convert it with https://huggingface.co/spaces/safetensors/convert"
        )
    raise HubError(f"{repo} holds no checkpoint ({', '.join(notes)}); is its name right?")


def _asked(api: huggingface_hub.HfApi, repo: str, revision: str | None) -> Any:
    """What the hub says of a repository, None where it has no such revision; asked again if it
    does not answer.
    """
    problem = None
    for _ in range(ATTEMPTS):
        try:
            return api.model_info(repo, revision=revision, files_metadata=True, timeout=30)
        except RevisionNotFoundError:
            return None
        except Exception as error:  # of whichever library huggingface_hub speaks HTTP with
            problem = error
            if _is_final(error):
                break
            time.sleep(PAUSE)
    raise _explained(problem, repo) from problem


def fetch(found: Found) -> Path:
    """The folder with all files, each whole and equal to what the hub says that it has.

    What was fetched before is not fetched again. Raises HubError, and leaves no part of a file.
    """
    folder = None
    for file in found.files:
        path = _whole(found, file)
        folder = path.parent if file.name == "config.json" else folder
    return folder


def _whole(found: Found, file: File) -> Path:
    """One file, fetched again where it was cut off or is not what it should be."""
    blob, problem = _cache(found.repo) / "blobs" / file.digest, None
    fresh = not blob.is_file()
    for _ in range(ATTEMPTS):
        try:
            path = Path(
                huggingface_hub.hf_hub_download(found.repo, file.name, revision=found.commit)
            )
        except Exception as error:  # of whichever library huggingface_hub speaks HTTP with
            problem = error
            if _is_final(error):
                break
            time.sleep(PAUSE)
            continue
        if not fresh or _digest_of(path, file) == file.digest:
            return path
        problem = HubError(
            f"{file.name} of {found.repo} arrived with another checksum than the hub names; it was"
            " removed: try again, and if that does not help, tell those who run"
            f" {constants.ENDPOINT}"
        )
        held = path.resolve()  # behind the link of the snapshot
        path.unlink()
        if held.is_relative_to(_cache(found.repo).resolve()):  # and not shared with others
            held.unlink(missing_ok=True)
        blob.unlink(missing_ok=True)
    blob.with_name(f"{file.digest}.incomplete").unlink(missing_ok=True)  # kept by version 0
    raise _explained(problem, found.repo, file.name) from problem


def _revisions(api: huggingface_hub.HfApi, repo: str, revision: str | None) -> Iterator[str | None]:
    """What to ask for, one after another; None is the default branch."""
    if revision:
        yield revision
    yield None
    try:
        offers = list(api.get_repo_discussions(repo, author=BOT, discussion_type="pull_request"))
    except Exception:  # a hub without discussions has no offers
        return
    for one in offers:
        if "safetensors" in one.title:
            yield f"refs/pr/{one.num}"


def _weights(files: dict[str, Any]) -> list[str]:
    """The names of the weights among files, none where there are no safetensors."""
    if WHOLE in files:
        return [WHOLE]
    shards = sorted(fnmatch.filter(files, SHARDS))
    return [INDEX, *shards] if INDEX in files and shards else []


def _is_whole(folder: Path, weights: bool) -> bool:
    """Whether a folder of the cache has all that a model needs; weights are fetched last."""
    if not all((folder / name).is_file() for name in NEEDED):
        return False
    if not any((folder / name).is_file() for name in WORDS):
        return False
    if not weights:
        return True
    return all((folder / name).is_file() for name in names_of_weights(folder))


def names_of_weights(folder: Path) -> list[str]:
    """The files that a folder's weights are in, as its index says if it has one."""
    try:
        about = json.loads((folder / INDEX).read_text("utf8"))
        return sorted(set(about["weight_map"].values()))
    except (OSError, ValueError, KeyError):
        return [WHOLE]


def _cache(repo: str) -> Path:
    """Where huggingface_hub keeps a repository."""
    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model")


def _digest(sibling: Any) -> str:
    return sibling.lfs["sha256"] if sibling.lfs else sibling.blob_id


def _digest_of(path: Path, file: File) -> str:
    """A file's digest, of the kind that the hub names for it."""
    if len(file.digest) == 64:
        with path.open("rb") as opened:
            return _hashed(opened, hashlib.sha256())
    start = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as opened:
        return _hashed(opened, start)


def _hashed(opened: Any, digest: Any) -> str:
    while part := opened.read(1 << 22):
        digest.update(part)
    return digest.hexdigest()


def _is_final(error: Exception) -> bool:
    """Whether asking again won't change it."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status in (401, 403, 404) or _is_gone(error) or "No space left" in str(error)


def _is_gone(error: Exception) -> bool:
    """Whether the hub answered that it has no such file, which asking again won't change."""
    return isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError)


def _short(revision: str) -> str:
    return revision if "/" in revision else revision[:7]


def _explained(error: Exception, repo: str, name: str = "") -> HubError:
    """The same in one sentence, with what to do."""
    what = f"{name} of {repo}" if name else repo
    if isinstance(error, HubError):
        return error
    if isinstance(error, GatedRepoError):
        return HubError(f"{repo} asks for its licence to be accepted, on its page at the hub first")
    if isinstance(error, RepositoryNotFoundError):
        return HubError(f"the hub at {constants.ENDPOINT} has no {repo}, or shows it to few alone")
    if _is_gone(error):
        return HubError(f"{what} is listed by the hub and can't be fetched; try again later")
    if "No space left" in str(error):
        return HubError(f"the disk was full before {what} was fetched; free some space first")
    reason = " ".join(str(error).split())[:160]
    return HubError(
        f"{what} can't be fetched from {constants.ENDPOINT} ({type(error).__name__}: {reason});"
        " is there a network? HF_HUB_OFFLINE=1 uses what is in the cache"
    )
