"""One training loop, for a laptop, a GPU, or several processes under torchrun.

    settings = train.Settings(steps=1000, batch=64)
    history = train.fit(model, train.contrastive, batch, settings, folder="my-run")

batch(step, part) makes the rows `part` of a step's global batch, and must give the same for the
same arguments: then a run that was interrupted goes on as if nothing had happened, and two
processes see together what one would have seen.

B pairs of a step, b those of one process, K captions of each picture, T text tokens, E the shared
space. Book: clip.md.
"""

from __future__ import annotations

import json
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import TqdmWarning, tqdm

from vlmbook import folders
from vlmbook.losses import clip_loss

with warnings.catch_warnings():
    # In a notebook, accelerate's own bars, which are not used here, ask for ipywidgets.
    warnings.simplefilter("ignore", TqdmWarning)
    from accelerate import Accelerator
    from accelerate.utils import convert_to_fp32, send_to_device

SHARES = {"itc": 1.0, "itm": 1.0, "lm": 1.0, "vqa": 1.0}
PRECISIONS = ("fp32", "bf16")
PROGRESS = "progress.json"  # of a run's folder: how far it is; beside it what accelerate saves


class TrainingError(RuntimeError):
    """Training can't go on; the message says at which step, why, and what is kept."""


@dataclass(frozen=True)
class Settings:
    """How long, how fast and how precisely to train."""

    steps: int
    batch: int  # pairs in a step, of all processes together
    rate: float = 1e-3  # the highest learning rate
    warm_up: int = 50  # steps until it is reached; then it falls to 0 along a cosine
    weight_decay: float = 0.05  # of matrices; vectors and the scale have none
    clip: float = 1.0  # longest gradient
    precision: str = "fp32"  # "bf16" computes the model, not the loss, with 16 bits
    compile: bool = False  # torch.compile: slow to start, worth it on a GPU

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} {getattr(self, name)} must be more than 0")
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"precision {self.precision!r} does not exist; choose from {', '.join(PRECISIONS)}"
            )

    def rate_at(self, step: int) -> float:
        """The learning rate of a step."""
        risen = min(1.0, (step + 1) / max(1, self.warm_up))
        return self.rate * risen * (1 + math.cos(math.pi * step / self.steps)) / 2


@dataclass
class History:
    """What a run leaves: the loss of each step, and the seconds of training, pauses left out."""

    loss: list[float] = field(default_factory=list)
    seconds: float = 0.0


def fit(
    model: nn.Module,
    loss: Callable[[Callable, Any], Tensor],
    batch: Callable[[int, slice], Any],
    settings: Settings,
    folder: str | Path | None = None,
    keep_every: int = 500,
    watch: Callable[[int, nn.Module], None] | None = None,
) -> History:
    """Train a model where it is best done, and leave it there.

    loss(forward, batch) gives a scalar; forward is the model as this loop runs it, with 32-bit
    results. With a folder, everything is kept there every keep_every steps, and a folder that holds
    a run of the same settings is gone on with. watch(step, model) is called after each step, while
    the gradients are still there. Raises TrainingError where loss or gradient are no numbers,
    for a folder that holds anything else, and for processes that don't see each other.
    """
    accelerator = Accelerator()
    mine = _rows(accelerator, settings)
    compiled = torch.compile(model) if settings.compile else model
    prepared, optimizer = accelerator.prepare(compiled, _optimizer(model, settings))
    half = torch.autocast(
        accelerator.device.type, torch.bfloat16, enabled=settings.precision == "bf16"
    )

    def forward(*inputs: Any, **how: Any) -> Any:
        with half:
            return convert_to_fp32(prepared(*inputs, **how))

    history = _resumed(accelerator, folder, settings)
    model.train()
    optimizer.zero_grad()  # whatever was done with the model before
    with _progress(accelerator, settings, len(history.loss)) as bar:
        for step in range(len(history.loss), settings.steps):
            started = time.monotonic()
            for group in optimizer.param_groups:
                group["lr"] = settings.rate_at(step)
            given = send_to_device(batch(step, mine), accelerator.device)
            value = loss(forward, given)
            accelerator.backward(value)
            length = accelerator.clip_grad_norm_(prepared.parameters(), settings.clip)
            _check(step, value, length, folder)
            optimizer.step()
            if watch is not None:
                watch(step, model)
            optimizer.zero_grad()
            history.loss.append(accelerator.reduce(value.detach(), "mean").item())
            history.seconds += time.monotonic() - started
            bar.set_postfix(loss=f"{history.loss[-1]:.3f}", refresh=False)
            bar.update()
            if folder is not None and (len(history.loss) % keep_every == 0):
                _keep(accelerator, Path(folder), settings, history)
    if folder is not None:
        _keep(accelerator, Path(folder), settings, history)
    model.eval()
    return history


def contrastive(forward: Callable, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """CLIP's loss on pixels (b, 3, H, W), ids and mask (K b, T): K captions of each picture.

    The first b texts belong to the pictures, so do the next b, and so on; the loss is the mean over
    the K. Each picture is compared with the texts of all processes.
    """
    image_emb, text_emb, scale = forward(*batch)
    sets = text_emb.split(len(image_emb))
    image_emb = together(image_emb)
    return sum(clip_loss(image_emb, together(texts), scale) for texts in sets) / len(sets)


def multitask(
    forward: Callable, batch: Any, shares: Mapping[str, float] = SHARES, **how: Any
) -> Tensor:
    """BLIP's losses on a blip.Batch: ITC + ITM + LM, and LM again on the answers to questions.

    shares weigh them; a task without one is left out. how goes to Blip.forward. ITC compares the
    pictures and captions of all processes, rows that say the same sharing their targets; ITM's
    negatives come from the process's own rows, as in BLIP's code. Over several processes, give a
    task that should not count a share of 0: no weight may be without a gradient.
    """
    out = forward(batch, tuple(shares), **how)
    parts = {}
    if "itc" in shares:
        about = together(out.about)
        same = (about[:, None] == about[None]).any(-1)
        parts["itc"] = clip_loss(together(out.image_emb), together(out.text_emb), out.scale, same)
    if "itm" in shares:
        fits = torch.arange(len(out.match), device=out.match.device) < len(out.match) // 3
        parts["itm"] = F.cross_entropy(out.match, fits.long())
    if "lm" in shares:
        parts["lm"] = _per_token(out.caption, out.said)
    if "vqa" in shares:
        parts["vqa"] = _per_token(out.answer, out.answered)
    return sum(shares[task] * part for task, part in parts.items())


def instructed(forward: Callable, batch: Any) -> Tensor:
    """LLaVA's loss on a llava.Batch: the next token, of what the assistant says alone."""
    return _per_token(*forward(batch))


def ahead(
    batch: Callable[[int, slice], Any], steps: int, workers: int = 0
) -> Callable[[int, slice], Any]:
    """batch, made by so many processes ahead of the steps that will ask for it; 0 for none.

    Worth it where a GPU would wait for scenes to be drawn.
    """
    if workers == 0:
        return batch
    made: dict[tuple[int, int], Iterator[tuple[int, Any]]] = {}

    def next_one(step: int, part: slice) -> Any:
        key = (part.start, part.stop)
        if key not in made:
            loader = DataLoader(
                _Steps(batch, part),
                batch_size=None,
                sampler=range(step, steps),
                num_workers=workers,
                prefetch_factor=4,
                worker_init_fn=_alone,
            )
            made[key] = iter(loader)
        found, given = next(made[key])
        if found != step:
            raise ValueError(f"step {step} is asked for after step {found - 1}; go on in order")
        return given

    return next_one


@dataclass
class _Steps(Dataset):
    """The batches of a process, as DataLoader takes them."""

    batch: Callable[[int, slice], Any]
    part: slice

    def __getitem__(self, step: int) -> tuple[int, Any]:
        return step, self.batch(step, self.part)


def _alone(worker: int) -> None:
    torch.set_num_threads(1)


def _per_token(logits: Tensor, ids: Tensor) -> Tensor:
    """Cross-entropy of logits (n, V) and ids (n,), over how many tokens a process has on average.

    Processes have different numbers of tokens; with this, the mean of what they find is the mean
    over all tokens.
    """
    count = together(torch.tensor([float(len(ids))], device=ids.device)).mean()
    return F.cross_entropy(logits, ids, reduction="sum") / count


def together(x: Tensor) -> Tensor:
    """x (b, ...) of all processes, one after another, (B, ...); gradients go back to all of them.

    What is computed from it is the same on every process. torchrun's processes average their
    gradients, so each is sent the sum of what all found.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return x
    return _Together.apply(x)


class _Together(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, grad: Tensor) -> Tensor:
        grad = grad.clone()
        torch.distributed.all_reduce(grad)
        return grad.chunk(torch.distributed.get_world_size())[torch.distributed.get_rank()]


def _rows(accelerator: Accelerator, settings: Settings) -> slice:
    """Which rows of the global batch this process makes."""
    num, started = accelerator.num_processes, int(os.environ.get("WORLD_SIZE", "1"))
    if num != started:  # each would do the same, and write over the other
        raise TrainingError(
            f"{started} processes were started, and accelerate sees {num}; on CPUs, start them with"
            " ACCELERATE_USE_CPU=1 in the environment"
        )
    size, left_over = divmod(settings.batch, num)
    if left_over:
        raise ValueError(
            f"batch {settings.batch} can't be shared among {num} processes; try {size * num or num}"
        )
    return slice(size * accelerator.process_index, size * (accelerator.process_index + 1))


def _optimizer(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    weights = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in weights if p.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in weights if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, settings.rate, betas=(0.9, 0.98), fused=True)


def _progress(accelerator: Accelerator, settings: Settings, done: int) -> tqdm:
    """A bar with loss, pairs a second and time left, of the first process alone."""
    shown = {} if accelerator.is_main_process else {"disable": True}
    return tqdm(
        total=settings.steps,
        initial=done,
        unit="pairs",
        unit_scale=settings.batch,
        mininterval=1,
        **shown,
    )


def _check(step: int, loss: Tensor, length: Tensor, folder: str | Path | None) -> None:
    """Stop before a bad gradient reaches the weights."""
    for what, value in (("loss", loss), ("gradient", length)):
        if not value.isfinite():
            kept = "nothing was kept, since no folder was given"
            if folder is not None:
                progress = Path(folder) / PROGRESS
                done = len(json.loads(progress.read_text())["loss"]) if progress.is_file() else 0
                kept = f"{folder} keeps step {done}" if done else f"{folder} keeps nothing yet"
            raise TrainingError(
                f"the {what} at step {step} is {value.item()}; {kept}; try a lower rate, or look"
                " for numbers in the batch that are not finite"
            )


def _keep(accelerator: Accelerator, folder: Path, settings: Settings, history: History) -> None:
    """Write all that is needed to go on; the folder is the last whole one at any moment."""
    if accelerator.is_main_process:
        folders.begin(folder)
    accelerator.wait_for_everyone()
    partial = folders.coming(folder)
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        progress = {"settings": asdict(settings), **asdict(history)}
        (partial / PROGRESS).write_text(json.dumps(progress), "utf8")
        folders.finish(folder)
    accelerator.wait_for_everyone()


def _resumed(accelerator: Accelerator, folder: str | Path | None, settings: Settings) -> History:
    """What was kept in a folder, loaded, or an empty history where nothing was."""
    if folder is None:
        return History()
    folder = Path(folder)
    if accelerator.is_main_process:
        folders.recover(folder)
    accelerator.wait_for_everyone()
    if not (folder / PROGRESS).is_file():
        if folder.exists() and any(folder.iterdir()):  # all of it would be removed
            raise TrainingError(f"{folder} holds something else than a run; pass another folder")
        return History()
    progress = json.loads((folder / PROGRESS).read_text("utf8"))
    before = progress.pop("settings")
    changed = [k for k, v in asdict(settings).items() if before.get(k) != v]
    if changed:
        told = ", ".join(f"{k} was {before.get(k)} and is {getattr(settings, k)}" for k in changed)
        raise TrainingError(
            f"{folder} holds a run of other settings ({told}); pass another folder, or remove it"
        )
    accelerator.load_state(str(folder))
    return History(**progress)
