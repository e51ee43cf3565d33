"""Tokens a second of a BLIP and a LLaVA that write: with the cache, without, and by transformers.

All have the same weights, of the sizes of blip-mini or llava-mini with a patch stem, and write the
same tokens. The end token is made impossible, so that each text has NUM_TOKENS.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import transformers
from torch import Tensor

from vlmbook import blip, generate, llava

NUM_TOKENS, VOCABULARY, SIZE, WIDTH, DEPTH, HEADS = 128, 832, 64, 192, 3, 6
BEGIN, END, IMAGE = 5, 3, 2
PROMPT = 16  # tokens of the question that a LLaVA is asked
REPEATS = 5


def blips() -> tuple[blip.Blip, transformers.BlipForConditionalGeneration]:
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


def llavas() -> tuple[llava.Llava, transformers.LlavaForConditionalGeneration]:
    """Ours and theirs, with the same weights."""
    sizes = llava.mini(VOCABULARY, "patch")
    image = {"hidden_size": sizes.image_width, "intermediate_size": 4 * sizes.image_width}
    image |= {"num_hidden_layers": sizes.image_depth, "num_attention_heads": sizes.image_heads}
    image |= {"image_size": SIZE, "patch_size": sizes.patch, "hidden_act": "gelu"}
    text = {"vocab_size": VOCABULARY, "hidden_size": sizes.text_width}
    text |= {"intermediate_size": sizes.text_hidden, "num_hidden_layers": sizes.text_depth}
    text |= {"num_attention_heads": sizes.text_heads, "num_key_value_heads": sizes.text_groups}
    text |= {"max_position_embeddings": sizes.max_tokens, "tie_word_embeddings": True}
    text |= {"bos_token_id": 1, "eos_token_id": END, "pad_token_id": 0}
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**image),
        text_config=transformers.LlamaConfig(**text),
        image_token_index=IMAGE,
        image_seq_length=sizes.image_tokens,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    theirs = transformers.LlavaForConditionalGeneration(config).eval()
    with torch.no_grad():
        for weight in theirs.parameters():  # far from 0, so that texts differ
            weight += 0.1 * torch.randn_like(weight)
    ours = llava.build(sizes)
    return llava.load_transformers(ours, theirs.state_dict()).eval(), theirs


def endless(step: generate.Step, never: Sequence[int] = (END, IMAGE)) -> generate.Step:
    """A decoder that never writes some tokens: the end, and a picture's place."""

    def longer(ids: Tensor, cache: Any) -> tuple[Tensor, Any]:
        logits, cache = step(ids, cache)
        logits[:, list(never)] = -1e4
        return logits, cache

    return longer


def anew(model: llava.Llava, feats: Tensor) -> generate.Step:
    """As without_cache, for a LLaVA."""

    def step(ids: Tensor, read: Any) -> tuple[Tensor, Any]:
        ids = ids if read is None else torch.cat([read, ids], 1)
        return model.text.next_logits(model.read(ids, feats).feats[:, -1]), ids

    return step


def captions(num: int, pair: tuple) -> dict[str, Callable[[], Tensor]]:
    """How num captions can be written by a BLIP."""
    ours, theirs = pair
    pixels, prompt = torch.rand(num, 3, SIZE, SIZE), torch.full((num, 1), BEGIN)
    normalised, feats = ours.prepare(pixels), ours.see(pixels).feats
    given = torch.cat([prompt, torch.full_like(prompt, END)], 1)
    return {
        "ours, with the cache": lambda: ours.write(prompt, feats, max_length=NUM_TOKENS).ids,
        "ours, without": lambda: (
            generate.greedy(without_cache(ours, feats), prompt, NUM_TOKENS, END, 0).ids
        ),
        "transformers, with its cache": lambda: theirs.generate(
            pixel_values=normalised,
            input_ids=given,
            max_new_tokens=NUM_TOKENS,
            do_sample=False,
            num_beams=1,
        )[:, 1:],
    }


def replies(num: int, pair: tuple) -> dict[str, Callable[[], Tensor]]:
    """How num questions about a picture each can be answered by a LLaVA, at length."""
    ours, theirs = pair
    pixels = torch.rand(num, 3, SIZE, SIZE)
    question = torch.randint(10, VOCABULARY, (num, PROMPT))
    places = torch.full((num, ours.config.image_tokens), IMAGE)
    prompt, normalised = torch.cat([places, question], 1), ours.prepare(pixels)

    def with_cache() -> Tensor:
        step = endless(ours.next_token(prompt, ours.see(pixels)))
        return generate.greedy(step, prompt, NUM_TOKENS, END, 0).ids

    def without() -> Tensor:
        step = endless(anew(ours, ours.see(pixels)))
        return generate.greedy(step, prompt, NUM_TOKENS, END, 0).ids

    return {
        "ours, with the cache": with_cache,
        "ours, without": without,
        "transformers, with its cache": lambda: theirs.generate(
            input_ids=prompt,
            pixel_values=normalised,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=NUM_TOKENS,
            suppress_tokens=[END, IMAGE],
            do_sample=False,
        )[:, prompt.shape[1] :],
    }


@torch.no_grad()
def run() -> list[dict]:
    """Rows for bench.py; ours and theirs take turns, so that a busy machine slows both."""
    rows = []
    for what, make, pair in (
        ("write captions", captions, blips()),
        ("write replies", replies, llavas()),
    ):
        for num in (1, 16):
            ways = make(num, pair)
            seconds: dict[str, list[float]] = {name: [] for name in ways}
            made = {name: way() for name, way in ways.items()}  # once to warm up
            if not all(torch.equal(ids, made["ours, without"]) for ids in made.values()):
                raise RuntimeError("the ways of writing don't write the same")
            for _ in range(REPEATS):
                for name, way in ways.items():
                    started = time.perf_counter()
                    way()
                    seconds[name].append(time.perf_counter() - started)
            threads = torch.get_num_threads()
            for name, taken in seconds.items():
                value = num * NUM_TOKENS / statistics.median(taken)
                about = f"{name}; {NUM_TOKENS} tokens, batch {num}, {threads} threads"
                rows.append({"name": what, "value": value, "unit": "tokens/s", "detail": about})
    return rows
