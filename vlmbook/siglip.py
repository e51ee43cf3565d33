"""SigLIP: CLIP's two encoders, trained with a sigmoid for each pair in place of a softmax.

What differs from clip.py besides the loss: the picture is pooled by a learnt query that attends to
its tokens, not by a class token; in the text encoder all tokens see each other, padding included,
and the last one is the pool; a picture's pool is its embedding, without a map to a shared space;
and a bias is added to the scaled cosine, since nearly all pairs of a batch don't fit.

B pictures or texts, N image tokens, T text tokens, D width, h heads, E shared space.

Zhai et al. 2023. Book: clip/space.md, clip.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmbook import renaming
from vlmbook.encoders import Encoded, PatchStem, Prepare
from vlmbook.layers import ACTIVATIONS, Block, MultiHeadAttention, through, without_weights

EPSILON = 1e-6  # added to variances


@dataclass(frozen=True)
class Config:
    """Sizes of a SigLIP, both of whose encoders end in the shared space: E is D."""

    vocab_size: int
    size: int = 224  # pixels a side
    patch: int = 16
    width: int = 768
    hidden: int = 3072  # inside the MLPs
    depth: int = 12
    heads: int = 12
    max_tokens: int = 64  # and all texts have so many, padded
    activation: str = "gelu_tanh"

    def __post_init__(self) -> None:
        if self.size % self.patch:
            raise ValueError(f"size {self.size} is not a multiple of patch {self.patch}")

    @property
    def block(self) -> tuple[int, int, int, nn.Module, float]:
        """What a block is built with."""
        return self.width, self.heads, self.hidden, ACTIVATIONS[self.activation](), EPSILON


class AttentionPool(nn.Module):
    """One learnt query attends to all tokens; then an MLP. Lee et al. 2019, section 3.2."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, heads, hidden, activation, epsilon = config.block
        self.query = nn.Parameter(width**-0.5 * torch.randn(width))
        self.attention = MultiHeadAttention(width, heads)
        self.norm = nn.LayerNorm(width, epsilon)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), activation, nn.Linear(hidden, width))

    def forward(self, feats: Tensor) -> tuple[Tensor, Tensor | None]:
        """feats (B, N, D) to (B, D), and the weights (B, h, 1, N)."""
        x, weights = self.attention(self.query.expand(len(feats), 1, -1), feats)
        return (x + self.mlp(self.norm(x)))[:, 0], weights


class ImageTower(nn.Module):
    """A vision transformer without a class token."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.stem = PatchStem(config.patch, config.width)
        num_tokens = (config.size // config.patch) ** 2
        self.place = nn.Parameter(config.width**-0.5 * torch.randn(num_tokens, config.width))
        self.blocks = nn.ModuleList(Block(*config.block) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, EPSILON)
        self.pool = AttentionPool(config)

    def forward(self, pixels: Tensor) -> Encoded:
        """pixels (B, C, H, W), normalised. The last of the weights are the pool's, (B, h, 1, N)."""
        x = self.stem(pixels.to(self.place.dtype)) + self.place
        x, weights = through(self.blocks, x)
        x = self.norm(x)
        pooled, looked = self.pool(x)
        return Encoded(pooled, x, (*weights, looked))


class TextTower(nn.Module):
    """A transformer in which all tokens see each other, pooled at the last."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.token = nn.Embedding(config.vocab_size, config.width)
        self.place = nn.Embedding(config.max_tokens, config.width)
        for table in (self.token, self.place):
            nn.init.normal_(table.weight, std=0.02)
        self.blocks = nn.ModuleList(Block(*config.block) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, EPSILON)
        self.out = nn.Linear(config.width, config.width)

    def forward(self, ids: Tensor, mask: Tensor) -> Encoded:
        """ids and mask (B, T), True at what may be seen, where T is max_tokens.

        Raises ValueError for any other T: the text would be pooled at another place than in
        training.
        """
        if ids.shape[1] != self.place.num_embeddings:
            raise ValueError(
                f"texts of {ids.shape[1]} tokens; SigLIP pools at the last of"
                f" {self.place.num_embeddings}, so pad them to that, as its processor's batch()"
                " does"
            )
        x, weights = through(self.blocks, self.token(ids) + self.place.weight, mask[:, None])
        x = self.norm(x)
        return Encoded(self.out(x[:, -1]), x, weights)


class Siglip(nn.Module):
    """Two encoders, passed in built, that meet in a shared space of width E."""

    def __init__(self, image: ImageTower, text: TextTower, prepare: nn.Module) -> None:
        super().__init__()
        self.image, self.text, self.prepare = image, text, prepare
        self.log_scale = nn.Parameter(torch.tensor(10.0).log())
        self.bias = nn.Parameter(torch.tensor(-10.0))

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.bias.device

    @property
    def scale(self) -> Tensor:
        """The inverse temperature."""
        return self.log_scale.exp()

    @without_weights()
    def encode_image(self, pixels: Tensor) -> Tensor:
        """pixels (B, 3, H, W) in [0, 1], of any size, to image_emb (B, E) of length one."""
        pooled = self.image(self.prepare(pixels.to(self.device))).pooled
        return F.normalize(pooled.float(), dim=-1)

    @without_weights()
    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids and mask (B, T), on any device, to text_emb (B, E) of length one."""
        pooled = self.text(ids.to(self.device), mask.to(self.device)).pooled
        return F.normalize(pooled.float(), dim=-1)

    def log_odds(self, image_emb: Tensor, text_emb: Tensor) -> Tensor:
        """(B, B'): the logarithm of the odds that a picture (B, E) and a text (B', E) belong
        together, whatever the others are.
        """
        return self.scale * image_emb @ text_emb.T + self.bias


def build(config: Config, **constants: tuple[float, float, float]) -> Siglip:
    """A Siglip with new weights; constants are the mean and std of its pictures."""
    prepare = Prepare(config.size, **{"std": (0.5, 0.5, 0.5), **constants}, crop=False)
    return Siglip(ImageTower(config), TextTower(config), prepare)


# Our names and those of transformers' SiglipModel, piece by piece.
NAMES = (
    ("image.stem.", "vision_model.embeddings.patch_embedding."),
    ("image.place", "vision_model.embeddings.position_embedding.weight"),
    ("image.norm.", "vision_model.post_layernorm."),
    ("image.pool.query", "vision_model.head.probe"),
    ("image.pool.attention.out.", "vision_model.head.attention.out_proj."),
    ("image.pool.attention.qkv.", "vision_model.head.attention.in_proj_"),
    ("image.pool.norm.", "vision_model.head.layernorm."),
    ("image.pool.mlp.0.", "vision_model.head.mlp.fc1."),
    ("image.pool.mlp.2.", "vision_model.head.mlp.fc2."),
    ("image.blocks.", "vision_model.encoder.layers."),
    ("text.token.", "text_model.embeddings.token_embedding."),
    ("text.place.", "text_model.embeddings.position_embedding."),
    ("text.norm.", "text_model.final_layer_norm."),
    ("text.out.", "text_model.head."),
    ("text.blocks.", "text_model.encoder.layers."),
    *renaming.CLIP_BLOCK,
    ("log_scale", "logit_scale"),
)
BIAS = ("bias", "logit_bias")  # by itself: every map has a bias
OURS_ALONE = ("prepare.mean", "prepare.std")  # transformers keeps them in its image processor
THEIRS_ALONE = "position_ids"  # counted numbers, which old versions saved
POOL = "image.pool.attention."


def to_transformers(model: Siglip) -> dict[str, Tensor]:
    """A model's weights under the names of transformers' SiglipModel."""
    state = {k: v for k, v in model.state_dict().items() if k not in OURS_ALONE}
    patch = model.image.stem.patch
    state["image.stem.weight"] = state["image.stem.weight"].unflatten(1, (-1, patch, patch))
    state["image.pool.query"] = state["image.pool.query"][None, None]
    for kind in ("weight", "bias"):
        three = [state.pop(f"{POOL}{part}.{kind}") for part in ("query", "key", "value")]
        state[f"{POOL}qkv.{kind}"] = torch.cat(three)
    for name in ("log_scale", "bias"):
        state[name] = state[name][None]
    return {_theirs(name): value for name, value in state.items()}


def load_transformers(
    model: Siglip, state: Mapping[str, Tensor], place: renaming.Place | None = None
) -> Siglip:
    """Fill a model with the weights of transformers' SiglipModel, all of them.

    place is that of renaming.fill. Raises ValueError that names the first weight that does not fit.
    """
    found = {}
    for name, value in state.items():
        if not name.endswith(THEIRS_ALONE):
            found[BIAS[0] if name == BIAS[1] else renaming.ours(name, NAMES)] = value
    for name, shape in (("image.pool.query", (-1,)), ("log_scale", ()), ("bias", ())):
        if name in found:
            found[name] = found[name].reshape(shape)
    if "image.stem.weight" in found:
        found["image.stem.weight"] = found["image.stem.weight"].flatten(1)
    for kind in ("weight", "bias"):
        if f"{POOL}qkv.{kind}" in found:
            three = found.pop(f"{POOL}qkv.{kind}").chunk(3)
            names = (f"{POOL}{part}.{kind}" for part in ("query", "key", "value"))
            found |= dict(zip(names, three, strict=True))
    found |= {name: model.state_dict()[name] for name in OURS_ALONE}
    renaming.fill(model, found, _theirs, place)
    return model


def _theirs(name: str) -> str:
    return BIAS[1] if name == BIAS[0] else renaming.theirs(name, NAMES)
