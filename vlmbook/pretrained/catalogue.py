"""The published checkpoints that fit our classes: where each is, and how large.

Book: appendix/checkpoints.md.
"""

from __future__ import annotations

from dataclasses import dataclass

ENCODE = 30523  # BLIP's [ENC], which its published vocabularies lack: the last row of its table


@dataclass(frozen=True)
class Published:
    """One repository of the hub.

    kind is "clip", "siglip", "blip" or "llava". revision is the commit that is asked for first,
    one that has its weights as safetensors; None where no such commit is known.
    """

    name: str
    kind: str
    parameters: int  # each weight once
    num_bytes: int  # of the safetensors
    revision: str | None
    licence: str
    encode: int | None = None  # put in place of the first token of a text read with a picture

    @property
    def dtype(self) -> str:
        """The type of its weights, unless they are held in four bits."""
        return "bfloat16" if self.kind == "llava" else "float32"


CATALOGUE = {
    one.name: one
    for one in (
        # The main branches of four of them have pickles alone. The hub's bot wrote safetensors
        # beside them, in pull requests that nobody merged: these commits are theirs, but for two,
        # which are looked for.
        Published(
            "openai/clip-vit-base-patch32",
            "clip",
            151_277_313,
            605_157_884,
            "b33cedfd0df4e43b8238760678fcc89e1a0d38b3",
            "MIT (the code's)",
        ),
        Published(
            "openai/clip-vit-base-patch16",
            "clip",
            149_620_737,
            598_530_000,
            None,
            "MIT (the code's)",
        ),
        Published(
            "openai/clip-vit-large-patch14",
            "clip",
            427_616_513,
            1_710_540_580,
            "32bd64288804d66eefd0ccbe215aa642df71cc41",
            "MIT (the code's)",
        ),
        Published(
            "google/siglip-base-patch16-224",
            "siglip",
            203_155_970,
            812_672_320,
            "7fd15f0689c79d79e38b1c2e2e2370a7bf2761ed",
            "Apache-2.0",
        ),
        Published(
            "Salesforce/blip-image-captioning-base",
            "blip",
            223_971_644,
            989_760_000,
            None,
            "BSD-3-Clause",
        ),
        Published(
            "Salesforce/blip-vqa-base",
            "blip",
            361_230_140,
            1_538_800_584,
            "787b3d35d57e49572baabd22884b3d5a05acf072",
            "BSD-3-Clause",
            ENCODE,
        ),
        Published(
            "Salesforce/blip-itm-base-coco",
            "blip",
            223_744_258,
            895_070_000,
            "98cf803d8586e8e8b3ec527885ac50c422d514ae",
            "BSD-3-Clause",
            ENCODE,
        ),
        Published(
            "llava-hf/llava-1.5-7b-hf",
            "llava",
            7_063_427_072,
            14_126_950_000,
            "b234b804b114d9e37bb655e11cbbb5f5e971b7a9",
            "Llama 2 Community",
        ),
    )
}
