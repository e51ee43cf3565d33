"""transformers' CLIP as the tests need it, whichever version is installed.

Version 5 gives output objects where 4 gave tensors, and under the default attention (sdpa) neither
gives the weights; some releases drop them under eager attention, too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def features(out: Any) -> Tensor:
    """What get_image_features and get_text_features found, (B, E)."""
    return out if isinstance(out, Tensor) else out.pooler_output


@torch.no_grad()
def attentions(tower: nn.Module, **inputs: Tensor) -> list[Tensor]:
    """The weights (B, h, T, T) of each layer of a vision_model or text_model."""
    found = []

    def keep(module: nn.Module, given: Any, out: Any) -> None:
        found.append(out[1])

    tower.config._attn_implementation = "eager"
    hooks = [layer.self_attn.register_forward_hook(keep) for layer in tower.encoder.layers]
    try:
        tower(**inputs, output_attentions=True)
    finally:
        for hook in hooks:
            hook.remove()
    return found
