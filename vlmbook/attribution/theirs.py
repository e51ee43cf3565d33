"""The same targets for models of the transformers library, whose weights are caught on the way.

B pictures, N image tokens, T text tokens. The library's fast attention keeps no weights, and which
classes hand them out has changed between versions: so the model is asked for its eager attention,
and a hook on each attention layer takes the weights.

Book: attention/maps.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vlmbook.attribution.target import Layer, Target, Word, shown, word_mask


def of_transformers(
    model: nn.Module,
    pixel_values: Tensor,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    word: Word | None = None,
    answer: Tensor | None = None,
) -> Target:
    """A score of a CLIP, BLIP or LLaVA model of transformers, with inputs as its processor makes
    them.

    CLIPModel: the cosine. BlipForImageTextRetrieval: the log odds that the text fits, and a word is
    whose look is drawn. BlipForConditionalGeneration and LlavaForConditionalGeneration: log p of a
    word, given what comes before it. BlipForQuestionAnswering: log p of an answer (B, A), tokens
    that begin with what the decoder begins with. The model is put into its eager attention,
    and keeps the weights, from then on.
    """
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    make = KINDS.get(type(model).__name__)
    if make is None:
        raise ValueError(
            f"{type(model).__name__} is not among the models that can be explained; choose from"
            f" {', '.join(KINDS)}"
        )
    model.set_attn_implementation("eager")
    for part in model.modules():
        if hasattr(part, "config"):  # version 4 keeps weights only where the config asks for them
            part.config.output_attentions = True
    more = {} if answer is None else {"answer": answer}
    return make(model, pixel_values, input_ids, mask.bool(), word, **more)


def _clip(model: nn.Module, pixels: Tensor, ids: Tensor, mask: Tensor, word: Word | None) -> Target:
    if word is not None:
        raise ValueError("CLIP compares whole texts; leave word out, or pass a text of that word")
    image, text = _numbers(model.config.vision_config, ids)
    end = model.config.text_config.eos_token_id
    # Old configurations have a wrong end token, and the library then takes the highest id.
    ends = (ids if end == 2 else (ids == end).int()).argmax(1)
    rows = _rows(ids, len(image) + len(text))
    rows[:, 0] = True
    rows[torch.arange(len(ids)), text[0] + ends] = True

    def read(pixels: Tensor, erased: Tensor | None) -> tuple[Tensor, list[Layer]]:
        with _caught(model) as caught:
            out = model(
                input_ids=ids, pixel_values=pixels, attention_mask=shown(mask, erased).long()
            )
        score = torch.cosine_similarity(out.image_embeds, out.text_embeds)
        return score, _layers(caught, {"vision_model": (image, image), "text_model": (text, text)})

    return Target(_same, read, pixels, rows, rows, image[1:], text, mask)


def _judge(
    model: nn.Module, pixels: Tensor, ids: Tensor, mask: Tensor, word: Word | None
) -> Target:
    image, text = _numbers(model.config.vision_config, ids)
    rows = _rows(ids, len(image) + len(text))
    rows[:, text[0]] = True
    lookers = rows
    if word is not None:
        lookers = torch.zeros_like(rows)
        lookers[:, text] = word_mask(word, mask)

    def read(pixels: Tensor, erased: Tensor | None) -> tuple[Tensor, list[Layer]]:
        with _caught(model) as caught:
            out = model(ids, pixels, attention_mask=shown(mask, erased).long())
        places = {"vision_model": (image, image)} | _grounded("text_encoder", image, text)
        return out.itm_score.diff(dim=1)[:, 0], _layers(caught, places)

    return Target(_same, read, pixels, rows, lookers, image[1:], text, mask)


def _writer(
    model: nn.Module, pixels: Tensor, ids: Tensor, mask: Tensor, word: Word | None
) -> Target:
    image, text = _numbers(model.config.vision_config, ids)
    told = word_mask(word, mask).clone()
    told[:, 0] = False
    rows = _rows(ids, len(image) + len(text))
    rows[:, text[:-1]] = told[:, 1:]  # a word is read off where the token before it stands

    def read(pixels: Tensor, erased: Tensor | None) -> tuple[Tensor, list[Layer]]:
        with _caught(model) as caught:
            out = model(pixels, ids, attention_mask=shown(mask, erased).long())
        places = {"vision_model": (image, image)} | _grounded("text_decoder", image, text)
        return _log_p(out.logits, ids, told), _layers(caught, places)

    return Target(_same, read, pixels, rows, rows, image[1:], text, mask)


def _answerer(
    model: nn.Module,
    pixels: Tensor,
    ids: Tensor,
    mask: Tensor,
    word: Word | None,
    answer: Tensor,
) -> Target:
    image, text = _numbers(model.config.vision_config, ids)
    said = int(text[-1]) + 1 + torch.arange(answer.shape[1])
    pad = model.config.text_config.pad_token_id
    told = answer != pad
    told[:, 0] = False
    rows = _rows(ids, int(said[-1]) + 1)
    rows[:, said[:-1]] = told[:, 1:]
    lookers = torch.zeros_like(rows)
    lookers[:, text] = word_mask(word, mask)

    def read(pixels: Tensor, erased: Tensor | None) -> tuple[Tensor, list[Layer]]:
        left = shown(mask, erased).long()
        with _caught(model) as caught:
            out = model.vision_model(pixel_values=pixels)
            seen = out.last_hidden_state
            asked = model.text_encoder(
                input_ids=ids, attention_mask=left, encoder_hidden_states=seen
            )[0]
            logits = model.text_decoder(
                input_ids=answer, encoder_hidden_states=asked, encoder_attention_mask=left
            ).logits
        places = {"vision_model": (image, image)} | _grounded("text_encoder", image, text)
        places |= _grounded("text_decoder", text, said)
        return _log_p(logits, answer, told), _layers(caught, places)

    return Target(_same, read, pixels, rows, lookers, image[1:], text, mask)


def _llava(
    model: nn.Module, pixels: Tensor, ids: Tensor, mask: Tensor, word: Word | None
) -> Target:
    config = model.config
    image, text = _numbers(config.vision_config, ids)
    token = getattr(config, "image_token_id", None) or config.image_token_index
    pictured = ids == token
    if not (pictured == pictured[:1]).all():
        raise ValueError("the pictures stand at different places of the texts; explain them apart")
    with_class = config.vision_feature_select_strategy == "full"
    patches = image if with_class else image[1:]
    places = text.clone()
    places[pictured[0]] = patches
    told = word_mask(word, mask).clone()
    told[:, 0] = False
    told &= ~pictured
    rows = _rows(ids, len(image) + len(text))
    rows[:, places[:-1]] |= told[:, 1:]
    layer = config.vision_feature_layer
    depth = config.vision_config.num_hidden_layers
    used = layer if layer >= 0 else depth + 1 + layer  # layers that the features have passed

    def read(pixels: Tensor, erased: Tensor | None) -> tuple[Tensor, list[Layer]]:
        with _caught(model) as caught:
            out = model(
                input_ids=ids, pixel_values=pixels, attention_mask=shown(mask, erased).long()
            )
        looks = {"vision_tower": (image, image), "language_model": (places, places)}
        layers = _layers(caught, looks)
        vision = [a for a in layers if a.query is image]
        return _log_p(out.logits, ids, told), vision[:used] + layers[len(vision) :]

    return Target(_same, read, pixels, rows, rows, image[1:], places, mask)


KINDS: dict[str, Callable[..., Target]] = {
    "CLIPModel": _clip,
    "BlipForImageTextRetrieval": _judge,
    "BlipForConditionalGeneration": _writer,
    "BlipForQuestionAnswering": _answerer,
    "LlavaForConditionalGeneration": _llava,
}


@contextmanager
def _caught(model: nn.Module) -> Iterator[list[tuple[str, Tensor]]]:
    """The weights of all attention layers that run meanwhile, with the layers' names, in order."""
    caught: list[tuple[str, Tensor]] = []

    def keep(name: str) -> Callable:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not isinstance(output, tuple) or len(output) < 2 or output[1] is None:
                raise ValueError(
                    f"{name} kept no attention weights; load the model with"
                    " attn_implementation='eager'"
                )
            caught.append((name, output[1]))

        return hook

    hooks = [
        module.register_forward_hook(keep(name))
        for name, module in model.named_modules()
        if type(module).__name__.endswith("Attention")
        and not any(type(m).__name__.endswith("Attention") for m in list(module.modules())[1:])
    ]
    try:
        yield caught
    finally:
        for hook in hooks:
            hook.remove()


def _layers(
    caught: list[tuple[str, Tensor]], places: dict[str, tuple[Tensor, Tensor]]
) -> list[Layer]:
    """Weights with the numbers of their tokens, by the first part of a name that occurs."""
    layers = []
    for name, weights in caught:
        for part, (query, key) in places.items():
            if all(p in name for p in part.split("*")):
                layers.append(Layer(weights, query, key))
                break
    return layers


def _grounded(name: str, image: Tensor, text: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Where the tokens of a BLIP text model are, which looks at an image or at a question."""
    return {f"{name}*crossattention": (text, image), name: (text, text)}


def _numbers(vision: Any, ids: Tensor) -> tuple[Tensor, Tensor]:
    num_image = (vision.image_size // vision.patch_size) ** 2 + 1
    return torch.arange(num_image), num_image + torch.arange(ids.shape[1])


def _rows(ids: Tensor, size: int) -> Tensor:
    return torch.zeros(len(ids), size, dtype=torch.bool)


def _same(pixels: Tensor) -> Tensor:
    return pixels


def _log_p(logits: Tensor, ids: Tensor, told: Tensor) -> Tensor:
    """log p (B,) of the told tokens, each read off one place before it."""
    log_p = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
    return (log_p * told[:, 1:]).sum(1)
