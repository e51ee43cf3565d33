"""Sizes of a BLIP.

Book: blip.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vlmbook.grounded import ROLES
from vlmbook.tokenizer import DECODE, ENCODE, END, PAD

STEMS = ("conv", "patch")


@dataclass(frozen=True)
class Config:
    """Sizes of a BLIP; nano() and mini() make the usual ones."""

    vocab_size: int
    size: int = 64  # pixels a side
    patch: int = 8
    stem: str = "conv"  # "patch" is the paper's; "conv" learns from fewer pictures
    crop: bool = True  # keep a picture's middle; or squeeze all of it, as the paper's code does
    norm_in: bool = False  # CLIP normalises before the first block; for an eye that comes from one
    image_width: int = 128
    image_depth: int = 2
    image_heads: int = 4
    text_width: int = 128
    text_depth: int = 2
    text_heads: int = 4
    max_tokens: int = 64
    shared: int = 128  # E
    hidden: int = 4  # times the width: what is inside the MLPs
    roles: tuple[str, ...] = ROLES  # of the text transformer: an encoder, a decoder, or both
    matches: bool = True  # with the heads for ITC and ITM
    tied: bool = True  # the decoder has all but its self-attention in common with the encoder
    encode: int | None = ENCODE  # put in place of <start> where a text is read with a picture
    begin: int = DECODE  # what a decoder begins with
    spoken: bool = True  # and then a token for the language; without, it writes English alone
    end: int = END
    pad: int = PAD

    def __post_init__(self) -> None:
        object.__setattr__(self, "roles", tuple(self.roles))  # JSON has lists
        if self.stem not in STEMS:
            raise ValueError(f"stem {self.stem!r} does not exist; choose from {', '.join(STEMS)}")
        if self.size % self.patch:
            raise ValueError(f"size {self.size} is not a multiple of patch {self.patch}")
        if not self.roles or not set(self.roles) <= set(ROLES):
            raise ValueError(f"roles {self.roles} should be one or both of {', '.join(ROLES)}")
        if self.matches and "encode" not in self.roles:
            raise ValueError("a model that matches needs the role 'encode'; or set matches=False")
        if set(self.roles) == set(ROLES) and self.image_width != self.text_width:
            raise ValueError(
                f"the decoder looks at pictures of width {self.image_width} and at questions of"
                f" width {self.text_width}; make both equal"
            )


def nano(vocab_size: int, stem: str = "conv") -> Config:
    """What a reader trains on a page: a text transformer of 1.8 million weights over the image
    encoder of clip-mini, which has 1.6 and is left as it is.

    Beginning with a new one, two minutes are enough to name colors and not shapes.
    """
    return replace(mini(vocab_size, stem), text_depth=2)


def mini(vocab_size: int, stem: str = "conv") -> Config:
    """About four million: trained for hours on a CPU or minutes on a GPU, and shipped.

    Its image encoder has the sizes of clip-mini's, and begins with its weights.
    """
    return Config(
        vocab_size,
        stem=stem,
        norm_in=True,
        image_width=192,
        image_depth=3,
        image_heads=6,
        text_width=192,
        text_depth=3,
        text_heads=6,
        shared=192,
    )
