"""LLaVA: a frozen image encoder, a projector, and a language model that reads pictures as words.

    model = llava.build(llava.mini(len(tokenizer)))
    model.chat(pixels, [{"role": "user", "content": "Is there a cube?"}], tokenizer)  # str
    model.answer(pixels, questions, tokenizer)                                        # list[Answer]

config.py has the sizes, model.py the model, exchange.py the way to transformers and back.

Liu et al. 2023. Book: llava.md.
"""

from vlmbook.llava.config import PROJECTORS, STEMS, Config, mini, nano
from vlmbook.llava.exchange import load_transformers, to_transformers
from vlmbook.llava.model import Batch, Llava, build, splice

__all__ = [
    "PROJECTORS",
    "STEMS",
    "Batch",
    "Config",
    "Llava",
    "build",
    "load_transformers",
    "mini",
    "nano",
    "splice",
    "to_transformers",
]
