"""Tokens a second of a BLIP that writes: with the cache, without it, and by transformers.

All have the same weights, of the sizes of blip-mini with a patch stem, and write the same tokens.
The end token is made impossible, so that each text has NUM_TOKENS.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import Tensor

from vlmbook import blip, generate

NUM_TOKENS, VOCABULARY, SIZE, WIDTH, DEPTH, HEADS = 128, 832, 64, 192, 3, 6
BEGIN, END = 5, 3
REPEATS = 5


def pair() -> tuple[blip.Blip, transformers.BlipForConditionalGeneration]:
    """Ours and theirs, with the same weights."""
    text = {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH}
    text |= {"num_hidden_layers": DEPTH, "num_attention_heads": HEADS, "projection_dim": WIDTH}
    text |= {"max_position_embeddings": NUM_TOKENS + 2, "bos_token_id": BEGIN, "pad_token_id": 0}
    text |= {"sep_token_id": END, "eos_token_id": END}
    image = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": DEPTH}
    image |= {"num_attention_heads": HEADS, "image_size": SIZE, "patch_size": 8}
    config = transformers.BlipConfig(text_config=text, vision_config=image)
    torch.manual_seed(0)
    theirs = transformers.BlipForConditionalGeneration(config).eval()
    for weight in theirs.parameters():  # far from 0, so that texts differ
        weight.data += 0.1 * torch.randn_like(weight)
    theirs.text_decoder.cls.predictions.bias.data[END] = -1e4
    sizes = {"image_width": WIDTH, "image_depth": DEPTH, "image_heads": HEADS, "text_width": WIDTH}
    sizes |= {"text_depth": DEPTH, "text_heads": HEADS, "max_tokens": NUM_TOKENS + 2}
    ours = blip.build(
        blip.Config(
            VOCABULARY,
            stem="patch",
            roles=("decode",),
            matches=False,
            encode=None,
            begin=BEGIN,
            end=END,
            pad=0,
            **sizes,
        )
    )
    return blip.load_transformers(ours, theirs.state_dict()).eval(), theirs


def without_cache(model: blip.Blip, feats: Tensor) -> generate.Step:
    """A decoder that reads everything anew for each token; what it keeps is what it has read."""

    def step(ids: Tensor, read: Any) -> tuple[Tensor, Any]:
        ids = ids if read is None else torch.cat([read, ids], 1)
        last = model.decoder(ids, "decode", None, feats).feats[:, -1]
        return model.decoder.next_logits(last), ids

    return step


@torch.no_grad()
def run() -> list[dict]:
    """Rows for bench.py; ours and theirs take turns, so that a busy machine slows both."""
    ours, theirs = pair()
    rows = []
    for num in (1, 16):
        pixels = torch.rand(num, 3, SIZE, SIZE)
        normalised, prompt = ours.prepare(pixels), torch.full((num, 1), BEGIN)
        feats = ours.see(pixels).feats
        ways: dict[str, Callable[[], Tensor]] = {
            "ours, with the cache": lambda p=prompt, f=feats: (
                ours.write(p, f, max_length=NUM_TOKENS).ids
            ),
            "ours, without": lambda p=prompt, f=feats: (
                generate.greedy(without_cache(ours, f), p, NUM_TOKENS, END, 0).ids
            ),
            "transformers, with its cache": lambda n=normalised, p=prompt: theirs.generate(
                pixel_values=n,
                input_ids=torch.cat([p, torch.full_like(p, END)], 1),
                max_new_tokens=NUM_TOKENS,
                do_sample=False,
                num_beams=1,
            )[:, 1:],
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        made = {name: way() for name, way in ways.items()}  # once to warm up
        if not all(torch.equal(ids, made["ours, without"]) for ids in made.values()):
            raise RuntimeError("the ways of writing don't write the same")
        for _ in range(REPEATS):
            for name, way in ways.items():
                started = time.perf_counter()
                way()
                seconds[name].append(time.perf_counter() - started)
        for name, taken in seconds.items():
            value = num * NUM_TOKENS / statistics.median(taken)
            about = f"{name}; {NUM_TOKENS} tokens, batch {num}, {torch.get_num_threads()} threads"
            rows.append(
                {"name": "write captions", "value": value, "unit": "tokens/s", "detail": about}
            )
    return rows
