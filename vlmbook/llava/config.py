"""Sizes of a LLaVA.

Book: llava.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vlmbook.layers import ACTIVATIONS
from vlmbook.tokenizer import END, IMAGE, PAD

STEMS = ("conv", "patch")
PROJECTORS = ("linear", "mlp")


@dataclass(frozen=True)
class Config:
    """Sizes of a LLaVA; nano() and mini() make the usual ones."""

    vocab_size: int
    size: int = 64  # pixels a side
    patch: int = 8
    stem: str = "conv"  # "patch" is the paper's; "conv" learns from fewer pictures
    image_width: int = 128
    image_depth: int = 2
    image_heads: int = 4
    image_hidden: int = 4  # times the width: what is inside the image encoder's MLPs
    activation: str = "gelu"  # in the image encoder
    layer: int = -2  # whose feats the language model reads: -1 the last, -2 the one before it
    keep_class: bool = False  # with the class token in front of the patches
    projector: str = "mlp"  # or "linear", that of the first LLaVA
    text_width: int = 128
    text_depth: int = 3
    text_heads: int = 4
    text_groups: int = 2  # heads that share keys and values are one group
    text_hidden: int = 352  # inside the language model's MLPs
    max_tokens: int = 384
    theta: float = 10_000.0  # of the rotary positions
    epsilon: float = 1e-6  # of RMSNorm
    tied: bool = True  # the head has the weights of the embeddings
    image: int = IMAGE  # stands where an image token goes
    end: int = END
    pad: int = PAD

    def __post_init__(self) -> None:
        for name, choices in (
            ("stem", STEMS),
            ("projector", PROJECTORS),
            ("activation", tuple(ACTIVATIONS)),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} {getattr(self, name)!r} does not exist; choose from"
                    f" {', '.join(choices)}"
                )
        if self.size % self.patch:
            raise ValueError(f"size {self.size} is not a multiple of patch {self.patch}")

    @property
    def image_tokens(self) -> int:
        """N, how many tokens a picture takes in the prompt."""
        return (self.size // self.patch) ** 2 + self.keep_class


def nano(vocab_size: int, stem: str = "conv") -> Config:
    """What a reader trains on a page: a language model of 0.7 million weights behind the image
    encoder of clip-mini, which has 1.6 and is left as it is.
    """
    return replace(
        mini(vocab_size, stem),
        text_width=128,
        text_depth=3,
        text_heads=4,
        text_groups=2,
        text_hidden=352,
    )


def mini(vocab_size: int, stem: str = "conv") -> Config:
    """About six million, 1.6 of them the image encoder of clip-mini: trained in minutes on a GPU,
    and shipped.
    """
    return Config(
        vocab_size,
        stem=stem,
        image_width=192,
        image_depth=3,
        image_heads=6,
        text_width=256,
        text_depth=6,
        text_heads=8,
        text_groups=4,
        text_hidden=640,
    )
