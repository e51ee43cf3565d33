"""Our classes beside those of transformers, at the sizes that are published, with random weights.

Both hold the same tensors. Times are taken in turns in one process, and the fastest of several
counts, since whatever else a machine does only slows it. Memory is the peak of a process of its own
for each, above what it had before the model. Of a LLaVA a machine without a GPU gets some layers of
each part, all of them as wide as they are published.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import accelerate
import psutil
import torch
import transformers
from bench_generate import endless
from torch import Tensor, nn

from vlmbook import generate
from vlmbook.layers import without_weights
from vlmbook.pretrained import CATALOGUE, configs, loading

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import repositories  # noqa: E402 (beside the tests, which use it most)
import stand_in  # noqa: E402

from website.guard import peak_bytes  # noqa: E402

CLIP, SIGLIP = "openai/clip-vit-base-patch32", "google/siglip-base-patch16-224"
BLIP, LLAVA = "Salesforce/blip-image-captioning-base", "llava-hf/llava-1.5-7b-hf"
REPEATS, NUM_TOKENS = {1: 5, 16: 3}, 16  # by batch
LAYERS = {1: (24, 2), 16: (2, 1)}  # of a LLaVA's two parts, by batch, without a GPU
GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")


class Case(NamedTuple):
    """A task: what ours does and what theirs does."""

    name: str
    ours: Callable[[], Any]
    theirs: Callable[[], Any]


def pair(name: str, batch: int) -> tuple[nn.Module, nn.Module]:
    """Ours and theirs, holding the same tensors."""
    about = stand_in.config_of(name)
    if name == LLAVA and not GPU:
        image, text = LAYERS[batch]
        about["vision_config"]["num_hidden_layers"] = image
        about["text_config"]["num_hidden_layers"] = text
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(about), "utf8")
        config = configs.read(Path(folder))
    torch.manual_seed(0)
    theirs = getattr(transformers, about["architectures"][0])(config).eval()
    dtype = torch.bfloat16 if GPU and name == LLAVA else torch.float32
    theirs = theirs.to(DEVICE, dtype)
    kind = CATALOGUE[name].kind
    if kind == "blip":
        head = theirs.text_decoder.cls.predictions
        head.decoder.weight = theirs.text_decoder.bert.embeddings.word_embeddings.weight
        head.bias.data[config.text_config.sep_token_id] = -1e4  # a text never ends
    with accelerate.init_empty_weights(include_buffers=False):
        ours = loading.MODULES[kind].build(configs.of(kind, config))

    def place(part: str, value: Tensor) -> Tensor:
        return value.to(DEVICE)

    loading.MODULES[kind].load_transformers(ours, theirs.state_dict(), place)
    return ours.eval(), theirs


def cases(name: str, batch: int) -> Iterator[Case]:
    """The tasks of a checkpoint, each for a batch."""
    ours, theirs = pair(name, batch)
    size = ours.config.size if hasattr(ours, "config") else 224
    pixels = torch.rand(batch, 3, size, size, device=DEVICE)
    seen = ours.prepare(pixels)
    if name in (CLIP, SIGLIP):
        num = ours.text.place.num_embeddings
        ids = torch.randint(2, 400, (batch, num), device=DEVICE)
        ids[:, -1] = ours.text.token.num_embeddings - 1
        mask = torch.ones_like(ids, dtype=torch.bool)
        yield Case(
            "embed pictures",
            lambda: ours.encode_image(pixels),
            lambda: theirs.get_image_features(pixel_values=seen),
        )
        yield Case(
            "embed texts",
            lambda: ours.encode_text(ids, mask),
            lambda: theirs.get_text_features(input_ids=ids),
        )
    elif name == BLIP:
        yield from _captions(ours, theirs, pixels, seen)
    else:
        yield from _replies(ours, theirs, pixels, seen)


def _captions(ours: Any, theirs: Any, pixels: Tensor, seen: Tensor) -> Iterator[Case]:
    start = ours.prompt("en", len(pixels))
    given = torch.cat([start, torch.full_like(start, ours.config.end)], 1)

    def write(name: str, length: int) -> Case:
        @without_weights()
        def own() -> Tensor:
            return ours.write(start, ours.see(pixels).feats, max_length=length).ids

        how = {"max_new_tokens": length, "do_sample": False, "num_beams": 1}
        return Case(name, own, lambda: theirs.generate(pixel_values=seen, input_ids=given, **how))

    yield write("see, write 1 token", 1)
    yield write(f"see, write {NUM_TOKENS} tokens", NUM_TOKENS)


def _replies(ours: Any, theirs: Any, pixels: Tensor, seen: Tensor) -> Iterator[Case]:
    config = ours.config
    places = torch.full((len(pixels), config.image_tokens), config.image, device=DEVICE)
    asked = torch.randint(5, 400, (len(pixels), 20), device=DEVICE)
    prompt = torch.cat([places, asked], 1)
    given = {"input_ids": prompt, "attention_mask": torch.ones_like(prompt)}
    given |= {"pixel_values": seen.to(theirs.dtype)}

    def write(name: str, length: int) -> Case:
        @without_weights()
        def own() -> Tensor:
            step = endless(ours.next_token(prompt, ours.see(pixels)), [config.end, config.image])
            return generate.greedy(step, prompt, length, config.end, config.pad).ids

        how = {"max_new_tokens": length, "do_sample": False}
        how |= {"suppress_tokens": [config.end, config.image]}
        return Case(name, own, lambda: theirs.generate(**given, **how))

    yield write("read a picture, write 1 token", 1)
    yield write(f"read a picture, write {NUM_TOKENS} tokens", NUM_TOKENS)


@torch.no_grad()
def times(name: str, batch: int) -> list[dict]:
    """Seconds of ours over those of theirs, for each task."""
    rows = []
    for case in cases(name, batch):
        seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
        for turn in range(REPEATS[batch] + 1):
            for way, work in (("ours", case.ours), ("theirs", case.theirs)):
                started = time.perf_counter()
                work()
                if GPU:
                    torch.cuda.synchronize()
                if turn:  # the first warms up
                    seconds[way].append(time.perf_counter() - started)
        ours, theirs = (min(seconds[way]) for way in ("ours", "theirs"))
        about = f"{_called(name, batch)}; ours {1000 * ours:.0f} ms, theirs {1000 * theirs:.0f} ms"
        rows.append(_row(f"{case.name}, time", ours / theirs, "x theirs", about))
    return rows


def memory(name: str, batch: int) -> list[dict]:
    """Peak memory of ours over that of theirs, model included, in whichever task has more."""
    found = {}
    for way in ("ours", "theirs"):
        found[way] = _measured("peak", name, str(batch), way)
    about = ", ".join(f"{way} {value / 1e9:.2f} GB" for way, value in found.items())
    ratio = found["ours"] / found["theirs"]
    return [_row("all tasks, peak memory", ratio, "x theirs", f"{_called(name, batch)}; {about}")]


def loading_memory() -> list[dict]:
    """Memory that loading takes above the model, over the size of the file."""
    with tempfile.TemporaryDirectory() as folder:
        repositories.make(Path(folder), CLIP, full=True)
        size = (Path(folder) / "model.safetensors").stat().st_size
        above = _measured("load", folder)
    about = f"{CLIP}, a file of {size / 1e6:.0f} MB"
    return [_row("load, memory above the model", above / size, "x the file", about)]


def run() -> Iterator[dict]:
    """Rows for bench.py, as they are measured."""
    yield from loading_memory()
    for name in (CLIP, SIGLIP, BLIP, LLAVA):
        for batch in REPEATS:
            yield from times(name, batch)
            yield from memory(name, batch)


def _row(name: str, value: float, unit: str, detail: str) -> dict:
    return {"name": name, "value": value, "unit": unit, "detail": detail}


def _called(name: str, batch: int) -> str:
    where = torch.cuda.get_device_name() if GPU else f"CPU, {torch.get_num_threads()} threads"
    layers = "" if GPU or name != LLAVA else " with {} + {} layers".format(*LAYERS[batch])
    return f"{name.split('/')[1]}{layers}, batch {batch}, {where}"


def _measured(*how: str) -> float:
    """What a process of its own measures."""
    command = [sys.executable, __file__, *how]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return float(done.stdout.split()[-1])


def _held() -> int:
    """Bytes that this process holds, or on a GPU its tensors."""
    gc.collect()
    return torch.cuda.memory_allocated() if GPU else psutil.Process().memory_info().rss


def _peak(work: Callable[[], Any]) -> int:
    """The most that is held while something works."""
    if GPU:
        torch.cuda.reset_peak_memory_stats()
        work()
        return torch.cuda.max_memory_allocated()
    Path("/proc/self/clear_refs").write_text("5", "utf8")  # Linux begins to count anew
    work()
    return peak_bytes()


@torch.no_grad()
def _peak_of(name: str, batch: int, way: str) -> int:
    """The most memory that one way takes for its tasks, with its model."""
    before = _held()
    return max(_peak(getattr(case, way)) for case in cases(name, batch)) - before


def _above_the_model(folder: Path) -> int:
    """What loading takes beyond the model that stays; libraries were loaded before."""
    with tempfile.TemporaryDirectory() as small:
        repositories.make(Path(small), CLIP)
        loading.from_folder(Path(small), CATALOGUE[CLIP])
    before, made = _held(), []
    peak = _peak(lambda: made.extend(loading.from_folder(folder, CATALOGUE[CLIP])))
    return peak - before - sum(weight.nbytes for weight in made[0].state_dict().values())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("peak", "load"))
    parser.add_argument("given", nargs="+")
    asked = parser.parse_args()
    if asked.what == "load":
        print(_above_the_model(Path(asked.given[0])))
    else:
        print(_peak_of(asked.given[0], int(asked.given[1]), asked.given[2]))
