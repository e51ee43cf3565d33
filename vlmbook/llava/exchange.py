"""A LLaVA's weights under the names of transformers' LlavaForConditionalGeneration, and back.

Book: llava.md.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vlmbook import renaming
from vlmbook.encoders import PatchStem
from vlmbook.llava.model import Llava

# Our names and theirs, piece by piece.
IMAGE = (
    ("image.stem.weight", "model.vision_tower.embeddings.patch_embedding.weight"),
    ("image.class_token", "model.vision_tower.embeddings.class_embedding"),
    ("image.place", "model.vision_tower.embeddings.position_embedding.weight"),
    ("image.norm_in.", "model.vision_tower.pre_layrnorm."),
    ("image.norm_out.", "model.vision_tower.post_layernorm."),
    ("image.blocks.", "model.vision_tower.encoder.layers."),
    *renaming.CLIP_BLOCK,
)
TEXT = (
    ("projector.0.", "model.multi_modal_projector.linear_1."),
    ("projector.2.", "model.multi_modal_projector.linear_2."),
    ("text.token.", "model.language_model.embed_tokens."),
    ("text.norm.", "model.language_model.norm."),
    ("text.head.", "lm_head."),
    ("text.blocks.", "model.language_model.layers."),
    (".norm1.", ".input_layernorm."),
    (".norm2.", ".post_attention_layernorm."),
    (".attention.query.", ".self_attn.q_proj."),
    (".attention.key.", ".self_attn.k_proj."),
    (".attention.value.", ".self_attn.v_proj."),
    (".attention.out.", ".self_attn.o_proj."),
    (".mlp.gate.", ".mlp.gate_proj."),
    (".mlp.up.", ".mlp.up_proj."),
    (".mlp.down.", ".mlp.down_proj."),
)
# Where older versions, and the files that they saved, have the same parts.
OLD = (
    ("vision_tower.vision_model.", "model.vision_tower."),
    ("language_model.model.", "model.language_model."),
    ("language_model.lm_head.", "lm_head."),
    ("multi_modal_projector.", "model.multi_modal_projector."),
)
TOWER, DEEPER = "vision_tower.", "vision_tower.vision_model."  # a level of its own in version 4
OURS_ALONE = ("prepare.",)
THEIRS_ALONE = ("position_ids", "rotary_emb.inv_freq")  # counted numbers, which old versions saved
HEAD, TOKENS = "lm_head.weight", "model.language_model.embed_tokens.weight"


def to_transformers(model: Llava, version: int = 5) -> dict[str, Tensor]:
    """The weights of a model with a patch stem and an MLP as projector, under the names of a
    version: 4, from 4.52 on, or 5.
    """
    _has_twin(model)
    state = {k: v for k, v in model.state_dict().items() if not k.startswith(OURS_ALONE)}
    patch = model.image.stem.patch
    state["image.stem.weight"] = state["image.stem.weight"].unflatten(1, (-1, patch, patch))
    found = {_theirs(name): value for name, value in state.items()}
    if version < 5:
        found = {name.replace(TOWER, DEEPER): value for name, value in found.items()}
    return {HEAD: found[TOKENS]} | found  # a tied head is saved twice


def load_transformers(
    model: Llava, state: Mapping[str, Tensor], place: renaming.Place | None = None
) -> Llava:
    """Fill a model with a patch stem and an MLP as projector with their weights, all of them.

    place is that of renaming.fill. Raises ValueError that names the first weight that does not fit.
    """
    _has_twin(model)
    found = {}
    for name, value in state.items():
        if name.endswith(THEIRS_ALONE):
            continue
        name = next((new + name[len(old) :] for old, new in OLD if name.startswith(old)), name)
        found[_ours(name.replace(DEEPER, TOWER))] = value
    if model.config.tied:
        found.pop("text.head.weight", None)
    if "image.stem.weight" in found:
        found["image.stem.weight"] = found["image.stem.weight"].flatten(1)
    found |= {k: v for k, v in model.state_dict().items() if k.startswith(OURS_ALONE)}
    renaming.fill(model, found, _theirs, place)
    return model


def _has_twin(model: Llava) -> None:
    if not isinstance(model.image.stem, PatchStem) or model.config.projector != "mlp":
        raise ValueError(
            "a Llava with a conv stem or a linear projector has no twin in transformers; use"
            " stem='patch' and projector='mlp'"
        )


def _theirs(name: str) -> str:
    return renaming.theirs(name, IMAGE if name.startswith("image.") else TEXT)


def _ours(name: str) -> str:
    return renaming.ours(name, IMAGE if name.startswith("model.vision_tower.") else TEXT)
