"""CLIP: an image encoder and a text encoder whose vectors of a pair point the same way.

B pictures or texts, C H W channels and size of pixels, N image tokens, T text tokens, D width,
E shared space.

Radford et al. 2021. Book: clip.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from vlmbook import renaming
from vlmbook.encoders import ImageEncoder, PatchStem, TextEncoder, prepare, stem
from vlmbook.layers import ACTIVATIONS, without_weights
from vlmbook.tokenizer import END, PAD, START

STEMS = ("conv", "patch")
MAX_SCALE = 100.0  # Radford et al. 2021, section 2.5: beyond, training becomes unstable


@dataclass(frozen=True)
class Config:
    """Sizes of a CLIP; nano() and mini() make the usual ones."""

    vocab_size: int
    size: int = 64  # pixels a side
    patch: int = 8
    stem: str = "conv"  # "patch" is the paper's; "conv" learns from fewer pictures
    image_width: int = 128
    image_depth: int = 2
    image_heads: int = 4
    text_width: int = 128
    text_depth: int = 2
    text_heads: int = 4
    max_tokens: int = 48
    shared: int = 128  # E
    hidden: int = 4  # times the width: what is inside the MLPs
    activation: str = "gelu"
    end: int = END  # where texts are pooled

    def __post_init__(self) -> None:
        if self.stem not in STEMS:
            raise ValueError(f"stem {self.stem!r} does not exist; choose from {', '.join(STEMS)}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation {self.activation!r} does not exist; choose from"
                f" {', '.join(ACTIVATIONS)}"
            )
        if self.size % self.patch:
            raise ValueError(f"size {self.size} is not a multiple of patch {self.patch}")


def nano(vocab_size: int, stem: str = "conv") -> Config:
    """About a million parameters: what a reader trains on a page."""
    return Config(vocab_size, stem=stem)


def mini(vocab_size: int, stem: str = "conv") -> Config:
    """About three million: trained for hours on a CPU or minutes on a GPU, and shipped."""
    return Config(
        vocab_size,
        stem=stem,
        image_width=192,
        image_depth=3,
        image_heads=6,
        text_width=192,
        text_depth=3,
        text_heads=6,
        shared=192,
    )


class Clip(nn.Module):
    """Two encoders, passed in built, that meet in a shared space of width E."""

    def __init__(
        self,
        image: ImageEncoder,
        text: TextEncoder,
        shared: int,
        size: int,
        mean: tuple[float, float, float] = (0.5, 0.5, 0.5),
        std: tuple[float, float, float] = (0.25, 0.25, 0.25),
    ) -> None:
        """size is the side of the pictures in pixels; mean and std those of its training set."""
        super().__init__()
        self.image, self.text, self.size = image, text, size
        image_width, text_width = image.norm_out.normalized_shape[0], text.norm.normalized_shape[0]
        self.from_image = nn.Linear(image_width, shared, bias=False)
        self.from_text = nn.Linear(text_width, shared, bias=False)
        for project in (self.from_image, self.from_text):
            nn.init.normal_(project.weight, std=project.in_features**-0.5)
        self.log_scale = nn.Parameter(torch.tensor(1 / 0.07).log())
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.mean.device

    @property
    def scale(self) -> Tensor:
        """The inverse temperature, at most MAX_SCALE; beyond that its gradient is 0."""
        return self.log_scale.exp().clamp(max=MAX_SCALE)

    def prepare(self, pixels: Tensor) -> Tensor:
        """pixels (B, 3, H, W) in [0, 1], of any size, as the image encoder takes them."""
        return prepare(pixels, self.size, self.mean, self.std)

    @without_weights()
    def encode_image(self, pixels: Tensor) -> Tensor:
        """pixels (B, 3, H, W) in [0, 1], of any size, to image_emb (B, E) of length one."""
        pooled = self.image(self.prepare(pixels)).pooled
        return F.normalize(self.from_image(pooled).float(), dim=-1)

    @without_weights()
    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids and mask (B, T), on any device, to text_emb (B, E) of length one."""
        ids, mask = ids.to(self.mean.device), mask.to(self.mean.device)
        return F.normalize(self.from_text(self.text(ids, mask).pooled).float(), dim=-1)

    def forward(self, pixels: Tensor, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Both embeddings of a batch of pairs, (B, E) each, and the scale."""
        return self.encode_image(pixels), self.encode_text(ids, mask), self.scale


def build(config: Config, **constants: Any) -> Clip:
    """A Clip with new weights; constants are the mean and std of Clip."""

    def how(width: int) -> dict[str, Any]:
        return {"hidden": config.hidden * width, "activation": ACTIVATIONS[config.activation]()}

    width = config.image_width
    image = ImageEncoder(
        stem(config.stem, config.patch, width, bias=False),
        (config.size // config.patch) ** 2,
        width,
        config.image_depth,
        config.image_heads,
        **how(width),
    )
    text = TextEncoder(
        config.vocab_size,
        config.max_tokens,
        config.text_width,
        config.text_depth,
        config.text_heads,
        config.end,
        **how(config.text_width),
    )
    return Clip(image, text, config.shared, config.size, **constants)


# Our names and those of transformers' CLIPModel, piece by piece.
NAMES = (
    ("image.stem.weight", "vision_model.embeddings.patch_embedding.weight"),
    ("image.class_token", "vision_model.embeddings.class_embedding"),
    ("image.place", "vision_model.embeddings.position_embedding.weight"),
    ("image.norm_in.", "vision_model.pre_layrnorm."),
    ("image.norm_out.", "vision_model.post_layernorm."),
    ("image.blocks.", "vision_model.encoder.layers."),
    ("text.token.", "text_model.embeddings.token_embedding."),
    ("text.place.", "text_model.embeddings.position_embedding."),
    ("text.norm.", "text_model.final_layer_norm."),
    ("text.blocks.", "text_model.encoder.layers."),
    *renaming.CLIP_BLOCK,
    ("from_image.", "visual_projection."),
    ("from_text.", "text_projection."),
    ("log_scale", "logit_scale"),
)
OURS_ALONE = ("mean", "std")  # transformers keeps them in its image processor
THEIRS_ALONE = "position_ids"  # counted numbers, which old versions saved


def to_transformers(model: Clip) -> dict[str, Tensor]:
    """The weights of a model with a patch stem, under the names of transformers' CLIPModel."""
    if not isinstance(model.image.stem, PatchStem):
        raise ValueError("a Clip with a conv stem has no twin in transformers; use stem='patch'")
    state = {k: v for k, v in model.state_dict().items() if k not in OURS_ALONE}
    patch = model.image.stem.patch
    state["image.stem.weight"] = state["image.stem.weight"].unflatten(1, (-1, patch, patch))
    return {renaming.theirs(name, NAMES): value for name, value in state.items()}


def save_transformers(folder: str | Path, model: Clip, config: Config) -> None:
    """Write a folder that transformers' CLIPModel.from_pretrained opens."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    shared = {"hidden_act": config.activation, "layer_norm_eps": 1e-5}

    def sizes(width: int, depth: int, heads: int) -> dict[str, Any]:
        sides = {"hidden_size": width, "intermediate_size": config.hidden * width}
        return shared | sides | {"num_hidden_layers": depth, "num_attention_heads": heads}

    seen = sizes(config.image_width, config.image_depth, config.image_heads)
    read = sizes(config.text_width, config.text_depth, config.text_heads)
    about = {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": config.shared,
        "vision_config": seen | {"image_size": config.size, "patch_size": config.patch},
        "text_config": read
        | {
            "vocab_size": config.vocab_size,
            "max_position_embeddings": config.max_tokens,
            "bos_token_id": START,
            "eos_token_id": config.end,
            "pad_token_id": PAD,
        },
    }
    (folder / "config.json").write_text(json.dumps(about, indent=1) + "\n", "utf8")
    state = {name: value.contiguous() for name, value in to_transformers(model).items()}
    save_file(state, folder / "model.safetensors", {"format": "pt"})


def load_transformers(
    model: Clip, state: Mapping[str, Tensor], place: renaming.Place | None = None
) -> Clip:
    """Fill a model with a patch stem with the weights of transformers' CLIPModel, all of them.

    place is that of renaming.fill. Raises ValueError that names the first weight that does not fit.
    """
    found = {k: v for k, v in state.items() if not k.endswith(THEIRS_ALONE)}
    found = {renaming.ours(name, NAMES): value for name, value in found.items()}
    if "image.stem.weight" in found:
        found["image.stem.weight"] = found["image.stem.weight"].flatten(1)
    found |= {name: model.state_dict()[name] for name in OURS_ALONE}
    renaming.fill(model, found, lambda name: renaming.theirs(name, NAMES), place)
    return model
