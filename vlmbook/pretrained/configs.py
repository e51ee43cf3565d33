"""What a repository's config.json says, as our configs say it.

transformers reads the file, since most leave out what is its default, and some of what they say
changed its name between versions 4 and 5. Book: appendix/checkpoints.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import transformers

from vlmbook import blip, clip, llava, siglip

ACTIVATIONS = {"gelu": "gelu", "quick_gelu": "quick_gelu", "gelu_pytorch_tanh": "gelu_tanh"}
TASKS = {
    "BlipForConditionalGeneration": {"roles": ("decode",), "matches": False},
    "BlipForImageTextRetrieval": {"roles": ("encode",)},
    "BlipForQuestionAnswering": {"tied": False, "matches": False},
}
LEGACY_END = 2  # which old configs of CLIP name, and transformers takes the highest id instead
BICUBIC = 3


def read(folder: Path) -> Any:
    """The config of a repository's folder, as transformers' class for it.

    Raises ValueError where it can't be read, or is not what that class takes.
    """
    try:
        return transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # each version has kinds of its own
        raise ValueError(f"config.json is not what transformers takes: {error}") from error


def of(kind: str, theirs: Any, encode: int | None = None) -> Any:
    """Our config of a kind of model: "clip", "siglip", "blip" or "llava".

    encode is that of of_blip. Raises ValueError for a model of another kind, or than our class is.
    """
    _need("model_type", {theirs.model_type}, {kind})
    if kind == "blip":
        return of_blip(theirs, encode)
    return {"clip": of_clip, "siglip": of_siglip, "llava": of_llava}[kind](theirs)


def of_clip(theirs: Any) -> clip.Config:
    """Sizes of a CLIPConfig."""
    image, text = theirs.vision_config, theirs.text_config
    _need("layer_norm_eps", {image.layer_norm_eps, text.layer_norm_eps}, {1e-5})
    _need("hidden_act", {image.hidden_act}, set(ACTIVATIONS), among=True)
    _need("hidden_act", {image.hidden_act}, {text.hidden_act})
    end = text.vocab_size - 1 if text.eos_token_id == LEGACY_END else text.eos_token_id
    return clip.Config(
        **_towers(image, text),
        shared=theirs.projection_dim,
        hidden=_times(image, text),
        activation=ACTIVATIONS[image.hidden_act],
        end=end,
    )


def of_siglip(theirs: Any) -> siglip.Config:
    """Sizes of a SiglipConfig, whose encoders have the same."""
    image, text = theirs.vision_config, theirs.text_config
    _need("layer_norm_eps", {image.layer_norm_eps, text.layer_norm_eps}, {siglip.EPSILON})
    _need("hidden_act", {image.hidden_act}, set(ACTIVATIONS), among=True)
    for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "hidden_act"):
        _need(name, {getattr(image, name)}, {getattr(text, name)})
    return siglip.Config(
        vocab_size=text.vocab_size,
        size=image.image_size,
        patch=image.patch_size,
        width=image.hidden_size,
        hidden=image.intermediate_size,
        depth=image.num_hidden_layers,
        heads=image.num_attention_heads,
        max_tokens=text.max_position_embeddings,
        activation=ACTIVATIONS[image.hidden_act],
    )


def of_blip(theirs: Any, encode: int | None = None) -> blip.Config:
    """Sizes of a BlipConfig, for the class that its field architectures names.

    encode is the token that is put in place of the first one of a text read with a picture.
    """
    image, text = theirs.vision_config, theirs.text_config
    _need("layer_norm_eps of pictures", {image.layer_norm_eps}, {1e-5})
    _need("layer_norm_eps of texts", {text.layer_norm_eps}, {1e-12})
    _need("hidden_act", {image.hidden_act, text.hidden_act}, {"gelu"})
    task = (theirs.architectures or ["none"])[0]
    _need("architectures", {task}, set(TASKS), among=True)
    return blip.Config(
        **_towers(image, text),
        crop=False,
        shared=theirs.image_text_hidden_size,
        hidden=_times(image, text),
        encode=encode,
        begin=text.bos_token_id,
        spoken=False,
        end=text.sep_token_id,
        pad=text.pad_token_id,
        **TASKS[task],
    )


def of_llava(theirs: Any) -> llava.Config:
    """Sizes of a LlavaConfig with CLIP's eye and a Llama."""
    image, text = theirs.vision_config, theirs.text_config
    _need("hidden_act of pictures", {image.hidden_act}, set(ACTIVATIONS), among=True)
    _need("model_type of texts", {text.model_type}, {"llama"})
    _need("hidden_act of texts", {text.hidden_act}, {"silu"})
    _need("layer_norm_eps of pictures", {image.layer_norm_eps}, {1e-5})
    _need("projector_hidden_act", {theirs.projector_hidden_act}, {"gelu"})
    _need(
        "vision_feature_select_strategy",
        {theirs.vision_feature_select_strategy},
        {"default", "full"},
        among=True,
    )
    return llava.Config(
        **_towers(image, text),
        image_hidden=_whole(image.intermediate_size, image.hidden_size),
        activation=ACTIVATIONS[image.hidden_act],
        layer=theirs.vision_feature_layer,
        keep_class=theirs.vision_feature_select_strategy == "full",
        text_groups=text.num_key_value_heads or text.num_attention_heads,
        text_hidden=text.intermediate_size,
        theta=_theta(text),
        epsilon=text.rms_norm_eps,
        tied=bool(theirs.tie_word_embeddings),
        image=image_token(theirs),
        end=text.eos_token_id,
        pad=_first(getattr(theirs, "pad_token_id", None), text.pad_token_id),
    )


def image_token(theirs: Any) -> int:
    """The id that keeps a picture's place; version 4 called it an index."""
    return _first(
        getattr(theirs, "image_token_id", None), getattr(theirs, "image_token_index", None)
    )


def normalisation(folder: Path, size: int, crop: bool) -> dict[str, tuple[float, ...]]:
    """The mean and std of preprocessor_config.json, whose other steps must be ours.

    Raises ValueError where pictures would come out in another size, or resized in another way.
    """
    about = json.loads((folder / "preprocessor_config.json").read_text("utf8"))
    _need("resample", {about.get("resample", BICUBIC)}, {BICUBIC})
    sides = about.get("crop_size" if crop else "size", size)
    sides = set(sides.values()) if isinstance(sides, dict) else {sides}
    _need("the size of pictures", sides, {size})
    return {"mean": tuple(about["image_mean"]), "std": tuple(about["image_std"])}


def _towers(image: Any, text: Any) -> dict[str, Any]:
    """The sizes that all configs but SigLIP's have, of an image encoder and of what reads text."""
    return {
        "vocab_size": text.vocab_size,
        "size": image.image_size,
        "patch": image.patch_size,
        "stem": "patch",
        "image_width": image.hidden_size,
        "image_depth": image.num_hidden_layers,
        "image_heads": image.num_attention_heads,
        "text_width": text.hidden_size,
        "text_depth": text.num_hidden_layers,
        "text_heads": text.num_attention_heads,
        "max_tokens": text.max_position_embeddings,
    }


def _theta(text: Any) -> float:
    """How slowly the slowest rotary position turns; version 5 keeps it among other settings."""
    settings = getattr(text, "rope_parameters", None) or {}
    kind = settings.get("rope_type", "default")
    _need("rope_type", {kind}, {"default"})
    return float(settings.get("rope_theta") or getattr(text, "rope_theta", None) or 10_000.0)


def _times(*parts: Any) -> int:
    """How many times as wide MLPs are inside, the same in all parts."""
    found = {_whole(part.intermediate_size, part.hidden_size) for part in parts}
    if len(found) > 1:
        raise ValueError(f"the MLPs of pictures and texts differ: {found} times the width")
    return found.pop()


def _whole(hidden: int, width: int) -> int:
    if hidden % width:
        raise ValueError(f"intermediate_size {hidden} is not a multiple of hidden_size {width}")
    return hidden // width


def _first(*values: Any) -> Any:
    found = [value for value in values if value is not None]
    if not found:
        raise ValueError("config.json names no id for padding or for a picture's place")
    return found[0]


def _need(name: str, found: set, wanted: set, among: bool = False) -> None:
    """Refuse a checkpoint that our class is not; among: one of several will do."""
    if not (found <= wanted if among else found == wanted):
        shown, known = (", ".join(map(str, sorted(one, key=str))) for one in (found, wanted))
        raise ValueError(f"{name} is {shown}, and our class knows {known}; it is another model")
