"""A BLIP's weights under the names of transformers' three BLIP classes, and back.

    task       class                          what of ours it has
    "caption"  BlipForConditionalGeneration   the decoder
    "match"    BlipForImageTextRetrieval      the encoder, and the heads for ITC and ITM
    "answer"   BlipForQuestionAnswering       an encoder, and a decoder that shares nothing with it

Book: blip.md.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vlmbook import renaming
from vlmbook.blip.model import Blip
from vlmbook.encoders import PatchStem

PARTS = {
    "caption": {"decode": "text_decoder.bert"},
    "match": {"encode": "text_encoder"},
    "answer": {"encode": "text_encoder", "decode": "text_decoder.bert"},
}
# Our names and theirs, piece by piece.
IMAGE = (
    ("stem.", "embeddings.patch_embedding."),
    ("class_token", "embeddings.class_embedding"),
    ("place", "embeddings.position_embedding"),
    ("norm_out.", "post_layernorm."),
    ("blocks.", "encoder.layers."),
    (".norm1.", ".layer_norm1."),
    (".norm2.", ".layer_norm2."),
    (".attention.qkv.", ".self_attn.qkv."),
    (".attention.out.", ".self_attn.projection."),
    (".mlp.0.", ".mlp.fc1."),
    (".mlp.2.", ".mlp.fc2."),
)
BLOCK = (
    ("attention.query.", "attention.self.query."),
    ("attention.key.", "attention.self.key."),
    ("attention.value.", "attention.self.value."),
    ("attention.out.", "attention.output.dense."),
    ("norm1.", "attention.output.LayerNorm."),
    ("look.out.", "crossattention.output.dense."),
    ("look.", "crossattention.self."),
    ("norm2.", "crossattention.output.LayerNorm."),
    ("mlp.0.", "intermediate.dense."),
    ("mlp.2.", "output.dense."),
    ("norm3.", "output.LayerNorm."),
)
AROUND = (
    ("token.", "embeddings.word_embeddings."),
    ("place.", "embeddings.position_embeddings."),
    ("norm.", "embeddings.LayerNorm."),
)
HEADS = (("from_image.", "vision_proj."), ("from_text.", "text_proj."), ("matcher.", "itm_head."))
WRITING = (
    ("head.0.", "text_decoder.cls.predictions.transform.dense."),
    ("head.2.", "text_decoder.cls.predictions.transform.LayerNorm."),
    ("bias", "text_decoder.cls.predictions.bias"),
)
OURS_ALONE = ("prepare.", "log_scale", "met")
THEIRS_ALONE = "position_ids"  # counted numbers, which old versions saved
PREDICTIONS = "text_decoder.cls.predictions"
TIED = {  # saved twice
    f"{PREDICTIONS}.decoder.weight": "text_decoder.bert.embeddings.word_embeddings.weight",
    f"{PREDICTIONS}.decoder.bias": f"{PREDICTIONS}.bias",
}


def to_transformers(model: Blip, task: str) -> dict[str, Tensor]:
    """The weights of a model with a patch stem, under the names of the class for a task."""
    state = _fused(model)
    found = {their: state[our] for their, our in _names(model, task).items()}
    return found | {copy: found[name] for copy, name in TIED.items() if name in found}


def load_transformers(
    model: Blip, state: Mapping[str, Tensor], place: renaming.Place | None = None
) -> Blip:
    """Fill a model with a patch stem with the weights of one of the three classes, all of them.

    Its config must describe that class: roles, matches, and tied=False for "answer". What
    transformers' classes don't have stays as it was: mean, std and the scale of ITC. All tokens
    count as met, since nothing tells which were. place is that of renaming.fill. Raises ValueError
    that names the first weight that does not fit.
    """
    roles = model.config.roles
    task = "answer" if len(roles) == 2 else "match" if "encode" in roles else "caption"
    if task == "answer" and (model.writer is None or model.config.matches):
        raise ValueError(
            "no class of transformers has a decoder that shares weights with an encoder, or heads"
            " for matching beside a decoder; build the model with tied=False and matches=False"
        )
    for copy, name in TIED.items():
        if copy in state and name in state and not torch.equal(state[copy], state[name]):
            raise ValueError(f"{copy} is not {name} again, as in BLIP; tie them first")
    names, kept = _names(model, task), _fused(model)
    given = {
        names.get(their, their): value
        for their, value in state.items()
        if their not in TIED and not their.endswith(THEIRS_ALONE)
    }
    given |= {name: kept[name] for name in kept if name.startswith(OURS_ALONE)}
    given["met"] = torch.ones_like(kept["met"])
    if "log_scale" in kept and kept["log_scale"].is_meta:  # a model without values of its own yet
        given["log_scale"] = torch.tensor(1 / 0.07).log()
    back = {our: their for their, our in names.items()}
    renaming.fill(model, _unfused(given), lambda name: back.get(name, name), place)
    return model


def _names(model: Blip, task: str) -> dict[str, str]:
    """Their names of a model's weights, the three maps of an image block's attention being one.

    Of a tied model, a weight may have two.
    """
    if task not in PARTS:
        raise ValueError(f"task {task!r} does not exist; choose from {', '.join(PARTS)}")
    if not isinstance(model.image.stem, PatchStem) or model.config.norm_in:
        raise ValueError(
            "a Blip with a conv stem or a first norm has no twin in transformers; use"
            " stem='patch' and norm_in=False"
        )
    if missing := set(PARTS[task]) - set(model.config.roles):
        raise ValueError(f"task {task!r} needs the role {missing.pop()!r}, which this model lacks")
    found = {}
    for name in _fused(model):
        if name.startswith("image."):
            their = renaming.theirs(name.removeprefix("image."), IMAGE)
            found[f"vision_model.{their}"] = name
        elif task == "match" and name.startswith(tuple(our for our, _ in HEADS)):
            found[_first(name, HEADS)] = name
        elif name.startswith(("text.", "writer.")):
            for role, prefix in PARTS[task].items():
                own = "writer." if role == "decode" and model.writer is not None else "text."
                if name.startswith(own) and (their := _text_name(name, role, prefix)):
                    found[their] = name
    return found


def _text_name(name: str, role: str, prefix: str) -> str | None:
    """What they call one of the transformer's weights in a role, None where it has no part."""
    _, name = name.split(".", 1)
    if name.startswith(("head.", "bias")):
        return _first(name, WRITING) if role == "decode" else None
    if not name.startswith("blocks."):
        return f"{prefix}.{_first(name, AROUND)}"
    _, number, part = name.split(".", 2)
    pieces = part.split(".")
    if pieces[0] in ("attention", "norm1"):
        if pieces.pop(1) != role:
            return None
        part = ".".join(pieces)
    return f"{prefix}.encoder.layer.{number}.{_first(part, BLOCK)}"


def _first(name: str, names: renaming.Names) -> str:
    our, their = next(pair for pair in names if name.startswith(pair[0]))
    return their + name.removeprefix(our)


def _fused(model: Blip) -> dict[str, Tensor]:
    """A model's weights, in the shapes that transformers has."""
    state = dict(model.state_dict())
    for name in [n for n in state if n.startswith("image.blocks.") and ".attention.query." in n]:
        three = [name.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
        state[name.replace(".query.", ".qkv.")] = torch.cat([state.pop(n) for n in three])
    state["image.class_token"] = state["image.class_token"][None, None]
    state["image.place"] = state["image.place"][None]
    patch = getattr(model.image.stem, "patch", None)
    if patch is not None:
        state["image.stem.weight"] = state["image.stem.weight"].unflatten(1, (-1, patch, patch))
    return state


def _unfused(state: dict[str, Tensor]) -> dict[str, Tensor]:
    state = dict(state)
    for name in [n for n in state if ".qkv." in n]:
        three = state.pop(name).chunk(3)
        for part, value in zip(("query", "key", "value"), three, strict=True):
            state[name.replace(".qkv.", f".{part}.")] = value
    for name in ("image.class_token", "image.place"):
        if name in state:
            state[name] = state[name].flatten(0, -2).squeeze(0)
    if "image.stem.weight" in state:
        state["image.stem.weight"] = state["image.stem.weight"].flatten(1)
    return state
