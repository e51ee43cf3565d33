"""Pairs a second in training: Clip in our loop against transformers' CLIPModel in a plain one."""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor

from vlmbook import clip, tokenizer, train

BATCH, TOKENS, STEPS, ROUNDS = 64, 16, 8, 9
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def run() -> list[dict]:
    """Rows of name, value, unit and detail; the two take turns, so that both meet the same load."""
    rows = []
    settings = [("fp32", False), ("bf16", False)]
    if DEVICE == "cuda":
        settings += [("bf16", True)]
    for precision, compiled in settings:
        ours, theirs = _ours(precision, compiled), _theirs(precision, compiled)
        speeds = {"vlmbook": [], "transformers": []}
        for _ in range(ROUNDS):
            speeds["vlmbook"].append(ours())
            speeds["transformers"].append(theirs())
        how = f"{DEVICE}, {torch.get_num_threads()} threads, batch {BATCH}, {precision}"
        how += ", torch.compile" * compiled
        for name, found in speeds.items():
            value = statistics.median(found)
            rows.append(
                {"name": f"training, {name}", "value": value, "unit": "pairs/s", "detail": how}
            )
    return rows


def _batch() -> tuple[Tensor, Tensor, Tensor]:
    made = torch.Generator().manual_seed(0)
    ids = torch.randint(10, 800, (BATCH, TOKENS), generator=made)
    ids[:, 0], ids[:, -1] = tokenizer.START, tokenizer.END
    mask = torch.ones_like(ids, dtype=torch.bool)
    given = torch.rand(BATCH, 3, 64, 64, generator=made), ids, mask
    return tuple(part.to(DEVICE) for part in given)


def _ours(precision: str, compiled: bool):
    model = clip.build(clip.nano(832, "patch"))
    settings = train.Settings(STEPS, BATCH, precision=precision, compile=compiled)
    given = _batch()

    def speed() -> float:
        history = train.fit(model, train.contrastive, lambda step, part: given, settings)
        return STEPS * BATCH / history.seconds

    speed()  # warm up
    return speed


def _theirs(precision: str, compiled: bool):
    from transformers import CLIPConfig, CLIPModel

    config = clip.nano(832, "patch")
    common = {"num_attention_heads": config.image_heads, "hidden_act": "gelu"}
    sizes = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2}
    read = {"vocab_size": 832, "max_position_embeddings": config.max_tokens}
    read |= {"bos_token_id": tokenizer.START, "eos_token_id": tokenizer.END}
    read |= {"pad_token_id": tokenizer.PAD}
    model = CLIPModel(
        CLIPConfig(
            vision_config={**common, **sizes, "image_size": 64, "patch_size": 8},
            text_config={**common, **sizes, **read},
            projection_dim=config.shared,
        )
    ).to(DEVICE)
    model.train()
    run = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    pixels, ids, mask = _batch()

    def speed() -> float:
        started = time.monotonic()
        for _ in range(STEPS):
            with torch.autocast(DEVICE, torch.bfloat16, enabled=precision == "bf16"):
                loss = run(
                    input_ids=ids, pixel_values=pixels, attention_mask=mask, return_loss=True
                ).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            loss.item()
        return STEPS * BATCH / (time.monotonic() - started)

    speed()
    return speed
