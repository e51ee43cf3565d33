"""load(): a published checkpoint as one of our models, with its processor.

Book: appendix/checkpoints.md.
"""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import accelerate
import psutil
import safetensors.torch
import torch
from huggingface_hub import constants
from torch import Tensor, nn

from vlmbook import blip, clip, llava, siglip
from vlmbook.pretrained import configs, files
from vlmbook.pretrained.catalogue import CATALOGUE, Published
from vlmbook.pretrained.files import HubError
from vlmbook.pretrained.processor import Processor

MODULES: dict[str, Any] = {"clip": clip, "siglip": siglip, "blip": blip, "llava": llava}
FOUR_BITS = 0.69  # bytes a weight: nine in ten take half a byte and their part of a scale
ROOM = 1.1  # times a model's size: what the memory should have free before


def load(
    name: str,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    four_bit: bool | None = None,
    say: Callable[[str], None] = print,
) -> tuple[nn.Module, Processor]:
    """A published checkpoint as our model, ready to be used, and its processor.

    name is one of CATALOGUE. Left out, device is a GPU where there is one, and dtype float32, or
    bfloat16 for LLaVA. four_bit holds the language model of a LLaVA in four bits a weight, by
    bitsandbytes; left out, wherever that is installed and there is a GPU. say is told beforehand
    what will be fetched and held. Raises HubError where the files can't be fetched, belong to
    another model, or don't fit on the disk or in the memory.
    """
    published = _published(name)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    _check_device(device)
    packed = _packed(published, device, four_bit)
    dtype = dtype or _dtype(published, device)
    size = int(published.parameters * (FOUR_BITS if packed else dtype.itemsize))
    there, found = _sought(published)
    missing = found.missing if found else 0
    say(f"{_called(published, there, found)}: {_shown(missing)} to fetch, {_shown(size)} of memory")
    _check_memory(name, size, device)
    _check_disk(name, missing)
    with _in_one_sentence(name):
        folder = there or files.fetch(found)
        return from_folder(folder, published, device, dtype, packed)


def load_processor(name: str, say: Callable[[str], None] = print) -> Processor:
    """The processor alone, without the model: of a checkpoint only the small files are fetched.

    Raises HubError as load() does.
    """
    published = _published(name)
    there, found = _sought(published, weights=False)
    missing = found.missing if found else 0
    say(f"{_called(published, there, found)}: {_shown(missing)} to fetch, without weights")
    _check_disk(name, missing)
    with _in_one_sentence(name):
        folder = there or files.fetch(found)
        theirs = configs.read(folder)
        config = configs.of(published.kind, theirs, published.encode)
        return _processor(folder, published, theirs, config)


def from_folder(
    folder: Path,
    published: Published,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    packed: bool = False,
) -> tuple[nn.Module, Processor]:
    """The same, from files in a folder.

    Raises ValueError where they are another model than our class is.
    """
    theirs = configs.read(folder)
    config = configs.of(published.kind, theirs, published.encode)
    crop = getattr(config, "crop", published.kind != "siglip")
    normalised = configs.normalisation(folder, config.size, crop)
    ours = MODULES[published.kind]
    with accelerate.init_empty_weights(include_buffers=False):
        model = ours.build(config, **normalised)
    trained = {name for name, _ in model.named_parameters()}
    to_pack = _inner_maps(model) if packed else []

    def place(name: str, value: Tensor) -> Tensor:
        if name.removesuffix(".weight") in to_pack:
            return value  # packed below, one by one
        return value.to(device, dtype if name in trained else value.dtype, copy=True)

    ours.load_transformers(model, _weights(folder), place)
    for name in to_pack:
        _pack(model, name, device, dtype)
    return model.eval(), _processor(folder, published, theirs, config)


def _published(name: str) -> Published:
    if name not in CATALOGUE:
        raise HubError(f"{name!r} is not among what can be loaded: {', '.join(CATALOGUE)}")
    return CATALOGUE[name]


def _processor(folder: Path, published: Published, theirs: Any, config: Any) -> Processor:
    image = configs.image_token(theirs) if published.kind == "llava" else None
    return Processor(folder, config.max_tokens, published.kind == "siglip", image)


def _sought(published: Published, weights: bool = True) -> tuple[Path | None, files.Found | None]:
    """A folder of the cache, or what the hub has: the pinned commit if it is in the cache, else
    what the hub answers, else any commit that is in the cache.
    """
    name, revision = published.name, published.revision
    there = files.kept(name, revision, weights=weights)
    if there is not None:
        return there, None
    error: Exception = HubError(
        f"{name} is not in the cache, and HF_HUB_OFFLINE forbids to fetch it; unset it once"
    )
    if not constants.HF_HUB_OFFLINE:
        try:
            return None, files.find(name, revision, weights)
        except HubError as failed:
            error = failed
    there = files.kept(name, revision, exactly=False, weights=weights)
    if there is None:
        raise error
    return there, None


def _called(published: Published, there: Path | None, found: files.Found | None) -> str:
    """A repository, its commit, and what is to be said of that."""
    if found is not None:
        return f"{found.repo} at {found.commit[:7]}" + (f" ({found.note})" if found.note else "")
    other = "" if there.name == published.revision else " (whatever is in the cache)"
    return f"{published.name} at {there.name[:7]}{other}"


@contextmanager
def _in_one_sentence(name: str) -> Iterator[None]:
    """Whatever is wrong with files becomes one sentence."""
    try:
        yield
    except HubError:
        raise
    except Exception as error:  # the libraries that read files have kinds of their own
        reason = " ".join(str(error).split())[:300]
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise HubError(f"the files of {name} can't be used: {kind}{reason}") from error


def _weights(folder: Path) -> Mapping[str, Tensor]:
    """All weights of a folder, mapped into memory and read when they are used."""
    found: dict[str, Tensor] = {}
    for name in files.names_of_weights(folder):
        found |= safetensors.torch.load_file(folder / name)
    return found


def _packed(published: Published, device: torch.device, four_bit: bool | None) -> bool:
    able = importlib.util.find_spec("bitsandbytes") is not None
    if four_bit is None:
        return published.kind == "llava" and able and device.type == "cuda"
    if four_bit and published.kind != "llava":
        raise HubError(f"{published.name} is not held in four bits; only LLaVA's language model is")
    if four_bit and not able:
        raise HubError("four bits need bitsandbytes: pip install bitsandbytes, or four_bit=False")
    return four_bit


def _inner_maps(model: llava.Llava) -> list[str]:
    """The names of the maps inside the blocks of the language model."""
    parts = model.text.blocks.named_modules(prefix="text.blocks")
    return [name for name, part in parts if isinstance(part, nn.Linear)]


def _pack(model: nn.Module, name: str, device: torch.device, dtype: torch.dtype) -> None:
    """Replace a map by one that holds its weights in four bits. Dettmers et al. 2023."""
    import bitsandbytes

    holder, _, leaf = name.rpartition(".")
    old = model.get_submodule(name)
    how = {"bias": False, "compute_dtype": dtype, "quant_type": "nf4", "device": "meta"}
    new = bitsandbytes.nn.Linear4bit(old.in_features, old.out_features, **how)
    weight = old.weight.data.to(dtype, copy=True)
    new.weight = bitsandbytes.nn.Params4bit(weight, requires_grad=False, quant_type="nf4")
    setattr(model.get_submodule(holder), leaf, new.to(device))


def _dtype(published: Published, device: torch.device) -> torch.dtype:
    """That of the catalogue; where a GPU is too old for bfloat16, float16."""
    dtype = getattr(torch, published.dtype)
    old = device.type == "cuda" and torch.cuda.get_device_capability(device)[0] < 8
    return torch.float16 if dtype == torch.bfloat16 and old else dtype


def _check_device(device: torch.device) -> None:
    if device.type == "cuda" and not torch.cuda.is_available():
        raise HubError("torch finds no GPU here, so device 'cuda' can't be used; leave it out")


def _check_memory(name: str, size: int, device: torch.device) -> None:
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()  # what torch has kept of former models is free, too
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = min(psutil.virtual_memory().available, _left_to_the_container())
    if free < ROOM * size:
        raise HubError(
            f"{name} needs {_shown(int(ROOM * size))} of memory on {device}, and"
            f" {_shown(free)} are free; nothing was fetched or opened: close other programs, or"
            " take a smaller checkpoint"
        )


def _left_to_the_container() -> float:
    """Bytes that a container on Linux may still take; without a limit, no end of them."""
    group = Path("/sys/fs/cgroup")
    try:
        most = int((group / "memory.max").read_text("utf8"))
        return most - int((group / "memory.current").read_text("utf8"))
    except (OSError, ValueError):
        return float("inf")


def _check_disk(name: str, missing: int) -> None:
    place = Path(constants.HF_HUB_CACHE)
    while not place.is_dir() and place != place.parent:
        place = place.parent
    free = psutil.disk_usage(str(place)).free
    if free < missing:
        raise HubError(
            f"{name} needs {_shown(missing)} of disk, and {_shown(free)} are free where the cache"
            " is; nothing was fetched: free some space, or set HF_HOME to a larger disk"
        )


def _shown(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"
