"""Models on disk: a folder with config.json, model.safetensors and run.json.

    checkpoint.save("my-clip", model, config, run={"command": "...", "seed": 0})
    model, tokenizer = checkpoint.load("my-clip")

A folder appears whole or not at all. Loading is strict: the weights must be the very bytes whose
SHA-256 config.json records, and fill the model exactly. Book: clip.md.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from vlmbook import blip, clip, folders, llava, reader, tokenizer

SHIPPED = Path(__file__).parent / "weights"
# What config.json calls a model, and how it is made.
KINDS = {
    "clip": (clip.Config, clip.build),
    "blip": (blip.Config, blip.build),
    "llava": (llava.Config, llava.build),
    "reader": (reader.Config, reader.build),
}
FILES = ("config.json", "model.safetensors", "run.json")


class CheckpointError(ValueError):
    """A folder that holds no model that can be trusted; the message names the file and why."""


def save(
    folder: str | Path,
    model: nn.Module,
    config: Any,
    run: Mapping[str, Any],
    half: bool = False,
) -> Path:
    """Write a model, in the place of what the folder held before.

    config is the dataclass that built the model; run says how it was trained: command, commit,
    device, seconds, seeds, data seen, final metrics. half stores float16, at half the size.
    """
    folder = Path(folder)
    kind = next((kind for kind, (made_by, _) in KINDS.items() if isinstance(config, made_by)), None)
    if kind is None:
        raise CheckpointError(
            f"a {type(config).__name__} builds no model known here; known are {', '.join(KINDS)}"
        )
    state = {name: _stored(value, half) for name, value in model.state_dict().items()}
    weights = safetensors.torch.save(state)
    about = {"kind": kind, "sha256": hashlib.sha256(weights).hexdigest(), **asdict(config)}
    partial = folders.begin(folder)
    (partial / "model.safetensors").write_bytes(weights)
    (partial / "config.json").write_text(json.dumps(about, indent=1) + "\n", "utf8")
    (partial / "run.json").write_text(json.dumps(dict(run), indent=1) + "\n", "utf8")
    for path in folder.iterdir() if folder.exists() else ():
        if path.name not in FILES:  # a model card, a tokenizer
            (shutil.copytree if path.is_dir() else shutil.copy2)(path, partial / path.name)
    folders.finish(folder)
    return folder


def load(name: str | Path) -> tuple[nn.Module, tokenizer.Tokenizer]:
    """A model, ready to be used, and its tokenizer.

    name is that of a shipped model, such as "clip-mini", or a folder that save() wrote. A
    tokenizer.json beside the weights comes before the book's. Raises CheckpointError, before any
    weight is used, for a file that is missing, damaged, or not the one that was recorded.
    """
    folder = _folder(name)
    about = _json(folder / "config.json")
    kind, digest = about.pop("kind", None), about.pop("sha256", None)
    if kind not in KINDS:
        raise CheckpointError(
            f"{folder / 'config.json'} is of kind {kind!r}; known are {', '.join(KINDS)}"
        )
    path = folder / "model.safetensors"
    weights = _bytes(path)
    if hashlib.sha256(weights).hexdigest() != digest:
        raise CheckpointError(
            f"{path} is not the file that config.json records (its SHA-256 differs): it was cut"
            " off or altered; fetch or make it again"
        )
    made_by, build = KINDS[kind]
    try:
        model = build(made_by(**about))
        model.load_state_dict(safetensors.torch.load(weights))
    except (TypeError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{folder} can't be loaded: {reason}") from None
    own = folder if (folder / "tokenizer.json").is_file() else tokenizer.SHIPPED
    return model.eval(), tokenizer.load(own)


def config_of(name: str | Path) -> Any:
    """The config that a model was built with."""
    about = _json(_folder(name) / "config.json")
    made_by, _ = KINDS[about.pop("kind")]
    del about["sha256"]
    return made_by(**about)


def run_of(name: str | Path) -> dict[str, Any]:
    """How a model was trained: its run.json."""
    return _json(_folder(name) / "run.json")


def fingerprint(model: nn.Module) -> str:
    """The SHA-256 of a model's weights, whatever file they came from: equal for equal models."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def provenance(seeds: Sequence[int]) -> dict[str, Any]:
    """Where what is made now comes from: the fields that every run.json and result begins with."""
    script = Path(sys.argv[0])
    here = Path(__file__).parent.parent
    name = script.resolve().relative_to(here) if script.resolve().is_relative_to(here) else script
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    else:
        device = f"{platform.machine()}, CPU, {torch.get_num_threads()} threads"
    return {
        "command": shlex.join(["python", str(name), *sys.argv[1:]]),
        "commit": _commit(here),
        "date": datetime.date.today().isoformat(),
        "device": device,
        "torch": torch.__version__.split("+")[0],
        "seeds": list(seeds),
    }


def _commit(folder: Path) -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    try:
        found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git on this machine
        return "unknown"
    return found.stdout.strip() if found.returncode == 0 else "unknown"


def _folder(name: str | Path) -> Path:
    """The folder of a shipped model, or the folder itself."""
    for folder in (SHIPPED / name, Path(name)):
        if (folder / "config.json").is_file():
            return folder
    shipped = sorted(path.parent.name for path in SHIPPED.glob("*/config.json"))
    raise CheckpointError(
        f"{str(name)!r} is neither a shipped model ({', '.join(shipped) or 'none yet'}) nor a"
        " folder with a config.json; pass a folder that checkpoint.save wrote"
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_bytes(path))
    except ValueError as error:
        raise CheckpointError(f"{path} is no JSON ({error})") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} should hold an object with fields, not {found!r:.40}")
    return found


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} can't be read ({error.strerror})") from None


def _stored(value: Tensor, half: bool) -> Tensor:
    value = value.detach().cpu().contiguous()
    return value.half() if half and value.is_floating_point() else value
