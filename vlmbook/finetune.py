"""A trained model, taught a reader's own pictures and captions in one command.

    python -m vlmbook.finetune my-folder --model clip-mini --out my-clip

The data are checked first, as a whole (own_data). A CLIP learns by its own loss, a BLIP to write
the captions. What learns is the last linear maps of a CLIP, which takes seconds since each picture
is looked at once; or low-rank changes to all layers (LoRA), which are added to the weights in the
end. So what is saved is an ordinary checkpoint. Book: applications/own_data.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmbook import (
    blip,
    checkpoint,
    clip,
    evaluate,
    images,
    losses,
    own_data,
    retrieval,
    tokenizer,
    train,
)
from vlmbook.encoders import prepare
from vlmbook.world.plates import is_hangul

WAYS = ("projections", "lora")
SETTINGS = {
    "projections": train.Settings(steps=400, batch=256, rate=2e-3, warm_up=40),
    "lora": train.Settings(steps=80, batch=64, rate=2e-3, warm_up=20),
}
RANK = 8
MAPS = ["query", "key", "value", "out", "mlp.0", "mlp.2"]  # what LoRA changes
SAVED = ("dataset_dict.json", "state.json")  # what datasets writes beside its data
FEW = 50  # pictures to test with
AT_ONCE = 200  # pictures looked at in one call


class Pairs(NamedTuple):
    """Some pictures, each with one of its captions: pixels (B, 3, H, W), ids and mask (B, T)."""

    pixels: Tensor
    ids: Tensor
    mask: Tensor


# Which pictures are in the part of a step, and a caption of each.
Drawn = Callable[[int, slice], tuple[list[int], list[str]]]


class Measured(NamedTuple):
    """How a model does on pictures that it did not learn from, one value for each query.

    For a CLIP: whether the picture of a caption is the first, or among the first ten, found; for a
    BLIP: the surprise at each caption, nats a token.
    """

    values: dict[str, np.ndarray]

    def __str__(self) -> str:
        return "; ".join(
            f"{name} {evaluate.mean(v) if len(v) > 1 else v[0]}" for name, v in self.values.items()
        )


def pixels_of(data: own_data.Data, rows: Sequence[int], size: int) -> Tensor:
    """Pictures as squares, (n, 3, size, size): scaled, and cut at the longer side."""
    return torch.stack([_square(images.open_rgb(data.pictures[row]), size) for row in rows])


def check(
    model: nn.Module,
    words: tokenizer.Tokenizer,
    data: own_data.Data,
    splits: Sequence[str] = ("train", "val"),
) -> None:
    """own_data.DataError for data that a model can't learn from, with all that is wrong."""
    places, wrong = model.text.place.num_embeddings, own_data.Report()
    for texts in data.captions:
        for text in texts:
            if (num := len(words.encode(text))) > places:
                wrong.add(
                    f"caption of more than the {places} tokens that the model reads",
                    f"{text[:40]}... ({num})",
                )
    for split in splits:
        if not data.rows(split):
            wrong.add("split without a picture", split)
    if wrong:
        raise own_data.DataError(f"this model can't learn from these data:\n{wrong}")


def tune(
    model: nn.Module,
    words: tokenizer.Tokenizer,
    data: own_data.Data,
    way: str = "projections",
    settings: train.Settings | None = None,
    seed: int = 0,
) -> train.History:
    """Train a model on the pictures of the split "train"; it is changed in place.

    Raises ValueError for a way that the model does not have, and for data that fail the check.
    """
    if way not in WAYS or (way == "projections" and not isinstance(model, clip.Clip)):
        known = WAYS if isinstance(model, clip.Clip) else WAYS[1:]
        raise ValueError(
            f"a {type(model).__name__} can't learn {way!r}; choose {' or '.join(known)}"
        )
    check(model, words, data, ("train",))
    settings = settings or SETTINGS[way]
    rows = data.rows("train")
    settings = replace(settings, batch=min(settings.batch, len(rows)))
    pixels = pixels_of(data, rows, _size(model))
    told = [data.captions[row] for row in rows]

    def drawn(step: int, part: slice) -> tuple[list[int], list[str]]:
        """Some pictures of a step, and a caption of each."""
        rng = random.Random(f"{seed}/{step}")
        some = rng.sample(range(len(rows)), settings.batch)
        texts = [rng.choice(told[n]) for n in some]
        return some[part], texts[part]

    torch.manual_seed(seed)
    learn = _projections if way == "projections" else _low_rank
    return learn(model, words, pixels, told, drawn, settings)


@torch.no_grad()
def measure(
    model: nn.Module, words: tokenizer.Tokenizer, data: own_data.Data, split: str = "val"
) -> Measured:
    """How a model does on the pictures of a split; ValueError if there is none in it."""
    rows = data.rows(split)
    if not rows:
        raise ValueError(f"no picture is in the split {split!r}; choose one that has some")
    pixels = pixels_of(data, rows, _size(model))
    whose = torch.tensor([n for n, row in enumerate(rows) for _ in data.captions[row]])
    told = [text for row in rows for text in data.captions[row]]
    model.eval()
    if isinstance(model, clip.Clip):
        return _recalls(model, words, pixels, told, whose)
    parts = torch.arange(len(told)).split(AT_ONCE)
    found = [
        _surprise(model, pixels[whose[p]], words, [told[n] for n in p.tolist()]) for p in parts
    ]
    return Measured({"surprise": torch.cat(found).numpy()})


def save(
    folder: str | Path,
    model: nn.Module,
    words: tokenizer.Tokenizer,
    config: clip.Config | blip.Config,
    run: dict,
) -> Path:
    """A checkpoint with its tokenizer; and, where transformers has such a model, one that it opens,
    in the folder's subfolder "transformers".
    """
    folder = checkpoint.save(folder, model, config, run)
    words.save(folder)
    if isinstance(config, clip.Config) and config.stem == "patch":
        clip.save_transformers(folder / "transformers", model, config)
        words.save(folder / "transformers")
    return folder


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m vlmbook.finetune", description="Train a model on your own pictures."
    )
    parser.add_argument(
        "data", help="a folder of pictures and a file of captions, or what datasets has saved"
    )
    parser.add_argument("--hub", action="store_true", help="data is a dataset's name on the hub")
    parser.add_argument("--model", default="clip-mini", help="a shipped model, or a checkpoint")
    parser.add_argument("--way", choices=WAYS, help="what learns; left out, what is quickest")
    parser.add_argument("--out", type=Path, default=Path("fine-tuned"), help="where to save it")
    parser.add_argument("--caption", help="the column of the captions, if it has another name")
    parser.add_argument("--picture", help="the same of a dataset's pictures")
    parser.add_argument("--steps", type=int, help="another number of steps")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    try:
        data = _data(given)
        model, words = checkpoint.load(given.model)
        check(model, words, data)
    except (own_data.DataError, checkpoint.CheckpointError) as error:
        raise SystemExit(f"{error}") from None
    if data.remarks:
        print(f"odd, and harmless:\n{data.remarks}")
    held_out = len(data.rows("val"))
    print(f"{len(data.rows('train'))} pictures to learn from, {held_out} to test with")
    if held_out < FEW:
        print(f"{held_out} are few to test with: see how wide the intervals are")
    way = given.way or WAYS[not isinstance(model, clip.Clip)]
    settings = SETTINGS[way]
    if given.steps:
        settings = replace(settings, steps=given.steps, warm_up=min(settings.warm_up, given.steps))
    before = measure(model, words, data)
    print(f"before: {before}")
    record = checkpoint.provenance([given.seed]) | {"from": given.model, "way": way}
    history = tune(model, words, data, way, settings, given.seed)
    after = measure(model, words, data)
    print(f"after:  {after}")
    record |= {"seconds": round(history.seconds), "before": str(before), "after": str(after)}
    save(given.out, model, words, checkpoint.config_of(given.model), record)
    print(json.dumps({"saved": str(given.out), "seconds": record["seconds"]}))


def _data(given: argparse.Namespace) -> own_data.Data:
    """What is to be learnt from: a folder, or a dataset of Hugging Face's library."""
    folder = Path(given.data)
    if not given.hub and not any((folder / name).is_file() for name in SAVED):
        return own_data.read(folder, given.caption)
    try:
        import datasets
    except ImportError:
        raise own_data.DataError("a dataset needs the library datasets; pip install it") from None
    try:
        found = (datasets.load_dataset if given.hub else datasets.load_from_disk)(given.data)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise own_data.DataError(f"the dataset {given.data} can't be loaded: {reason}") from None
    columns = {"picture": given.picture, "caption": given.caption}
    return own_data.from_dataset(found, **{key: name for key, name in columns.items() if name})


def _size(model: clip.Clip | blip.Blip) -> int:
    """The side of the pictures that a model looks at."""
    return model.size if isinstance(model, clip.Clip) else model.config.size


def _square(pixels: Tensor, size: int) -> Tensor:
    """(3, H, W) to (3, size, size), as a model would."""
    zero, one = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    return prepare(pixels[None], size, zero, one)[0]


def _recalls(
    model: clip.Clip, words: tokenizer.Tokenizer, pixels: Tensor, told: list[str], whose: Tensor
) -> Measured:
    image_emb = torch.cat([model.encode_image(some) for some in pixels.split(AT_ONCE)])
    text_emb = torch.cat(
        [
            model.encode_text(*words.batch(told[n : n + AT_ONCE]))
            for n in range(0, len(told), AT_ONCE)
        ]
    )
    same = torch.tensor([[a == b for b in told] for a in told])  # a caption may fit many pictures
    fits = (same.float() @ F.one_hot(whose, len(pixels)).float()) > 0  # (texts, pictures)
    ranks = retrieval.ranks(text_emb @ image_emb.T, fits)
    return Measured({f"R@{k}": retrieval.recall(ranks, k).double().numpy() for k in (1, 10)})


def _surprise(
    model: blip.Blip, pixels: Tensor, words: tokenizer.Tokenizer, texts: list[str]
) -> Tensor:
    ids, mask = words.batch(texts)
    log_prob = model.log_prob(ids, mask, model.see(pixels).feats, _spoken(words, ids))
    return -log_prob / (mask.sum(1) - 1)


def _spoken(words: tokenizer.Tokenizer, ids: Tensor) -> Tensor:
    """The token of the language of each text, (n,)."""
    hangul = [is_hangul(words.decode(row)) for row in ids]
    return torch.tensor([blip.LANGUAGES["ko" if own else "en"] for own in hangul])


class _Projections(nn.Module):
    """The last maps of a CLIP, over what its encoders made of pictures and texts."""

    def __init__(self, model: clip.Clip) -> None:
        super().__init__()
        self.from_image, self.from_text = model.from_image, model.from_text
        self.log_scale = model.log_scale

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """pooled (B, D) of both to their embeddings and the scale."""
        scale = self.log_scale.exp().clamp(max=clip.MAX_SCALE)
        return (
            F.normalize(self.from_image(image), dim=-1),
            F.normalize(self.from_text(text), dim=-1),
            scale,
        )


def _projections(
    model: clip.Clip,
    words: tokenizer.Tokenizer,
    pixels: Tensor,
    told: list[list[str]],
    drawn: Drawn,
    settings: train.Settings,
) -> train.History:
    """Each picture and each caption is encoded once, and then the last maps learn."""
    number = {text: n for n, text in enumerate(dict.fromkeys(itertools.chain(*told)))}
    texts = list(number)
    model.eval()
    with torch.no_grad():
        image = torch.cat([model.image(model.prepare(p)).pooled for p in pixels.split(AT_ONCE)])
        parts = [texts[n : n + AT_ONCE] for n in range(0, len(texts), AT_ONCE)]
        text = torch.cat([model.text(*words.batch(part)).pooled for part in parts])

    def batch(step: int, part: slice) -> tuple[Tensor, Tensor, Tensor]:
        some, said = drawn(step, part)
        which = torch.tensor([number[one] for one in said])
        return image[some], text[which], which

    def loss(forward: Callable, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        same = batch[2][:, None] == batch[2][None]
        return losses.clip_loss(*forward(*batch[:2]), same)

    return train.fit(_Projections(model), loss, batch, settings)


def _low_rank(
    model: nn.Module,
    words: tokenizer.Tokenizer,
    pixels: Tensor,
    told: list[list[str]],
    drawn: Drawn,
    settings: train.Settings,
) -> train.History:
    """All maps of the layers learn changes of rank RANK, which are added to them in the end."""
    try:
        import peft
    except ImportError:
        raise ModuleNotFoundError("LoRA needs the library peft; pip install peft") from None

    def batch(step: int, part: slice) -> Pairs:
        some, said = drawn(step, part)
        return Pairs(pixels[some], *words.batch(said))

    def clip_loss(forward: Callable, pairs: Pairs) -> Tensor:
        image_emb, text_emb, scale = forward(*pairs)
        return losses.clip_loss(image_emb, text_emb, scale, losses.same_texts(pairs.ids))

    def blip_loss(forward: Callable, pairs: Pairs) -> Tensor:
        about = torch.arange(len(pairs.ids))[:, None].expand(-1, 2)
        full = blip.Batch(*pairs, _spoken(words, pairs.ids), about)
        return train.multitask(forward, full, {"lm": 1.0})

    config = peft.LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=MAPS)
    tuned = peft.get_peft_model(model, config)
    value = clip_loss if isinstance(model, clip.Clip) else blip_loss
    history = train.fit(tuned, value, batch, settings)
    tuned.merge_and_unload()
    return history
