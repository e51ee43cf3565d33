"""BLIP: one model that matches pictures with texts, writes captions, and answers questions.

    model = blip.build(blip.nano(len(tokenizer)))
    model.caption(pixels, tokenizer, language="en", decoding="beam")  # list[str]
    model.answer(pixels, questions, tokenizer)                        # list[Answer]

config.py has the sizes, model.py the model, exchange.py the way to transformers and back.

Li et al. 2022. Book: blip.md.
"""

from vlmbook.blip.config import STEMS, Config, mini, nano
from vlmbook.blip.exchange import load_transformers, to_transformers
from vlmbook.blip.model import (
    HEADS,
    LANGUAGES,
    Answer,
    Batch,
    Blip,
    Outputs,
    build,
    texts,
)

__all__ = [
    "HEADS",
    "LANGUAGES",
    "STEMS",
    "Answer",
    "Batch",
    "Blip",
    "Config",
    "Outputs",
    "build",
    "load_transformers",
    "mini",
    "nano",
    "texts",
    "to_transformers",
]
