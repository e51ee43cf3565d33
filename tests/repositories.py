"""Repositories of a hub: configs, random weights under their published names, and vocabularies."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import sentencepiece
import tokenizers
import torch
import transformers
from safetensors.torch import save_file
from stand_in import config_of, preprocessor_of, smaller
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

SAID = (
    "a photo of cat dog red cube blue sphere is there what color how many the it two three no yes"
)
WORDS = SAID.split()
CHAT = (  # speakers in capitals; pictures come before all else that is said
    "{% for m in messages %}{{ m.role.upper() }}: "
    "{% for p in m.content if p.type == 'image' %}<image>\n{% endfor %}"
    "{% for p in m.content if p.type == 'text' %}"
    "{% if m.role == 'assistant' %}{% generation %}{{ p.text }} {% endgeneration %}"
    "{% else %}{{ p.text }} {% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
OLD_NAMES = (  # of a LLaVA's weights, as they are published
    ("model.vision_tower.", "vision_tower.vision_model."),
    ("model.language_model.", "language_model.model."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
    ("lm_head.", "language_model.lm_head."),
)


def make(folder: Path, name: str, full: bool = False, num_shards: int = 1) -> Any:
    """Write a repository, and give transformers' model of it, whose weights are the same."""
    folder.mkdir(parents=True, exist_ok=True)
    about = config_of(name) if full else smaller(name)
    size = about["vision_config"].get("image_size", 224)
    _json(folder / "config.json", about)
    _json(folder / "preprocessor_config.json", preprocessor_of(name, size))
    vocabulary(folder, name)
    torch.manual_seed(0)
    config = transformers.AutoConfig.from_pretrained(folder)
    model = getattr(transformers, about["architectures"][0])(config).eval()
    if hasattr(model, "text_decoder"):  # tied in what is published; version 4 does not tie it here
        head, body = model.text_decoder.cls.predictions, model.text_decoder.bert
        head.decoder.weight, head.decoder.bias = body.embeddings.word_embeddings.weight, head.bias
    with torch.no_grad():
        if not full:  # far from 0, so that what comes out differs
            for weight in model.parameters():
                weight += 0.1 * torch.randn_like(weight)
    _save(folder, _published(model, name), num_shards)
    return model


def _published(model: Any, name: str) -> dict[str, torch.Tensor]:
    """A model's weights as they are published, with the counted numbers that old versions saved."""
    state = {key: value.clone() for key, value in model.state_dict().items()}
    if name.startswith("llava"):
        for new, old in OLD_NAMES:
            state = {old + k[len(new) :] if k.startswith(new) else k: v for k, v in state.items()}
        state = {
            k.replace(".vision_model.vision_model.", ".vision_model."): v for k, v in state.items()
        }
        return {key: value.half() for key, value in state.items()}
    if name.startswith("openai"):
        state["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    return state


def _save(folder: Path, state: dict[str, torch.Tensor], num_shards: int) -> None:
    if num_shards == 1:
        save_file(state, folder / "model.safetensors", {"format": "pt"})
        return
    names, where = list(state), {}
    for n in range(num_shards):
        file = f"model-{n + 1:05}-of-{num_shards:05}.safetensors"
        own = {key: state[key] for key in names[n::num_shards]}
        save_file(own, folder / file, {"format": "pt"})
        where |= dict.fromkeys(own, file)
    _json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": where})


def vocabulary(folder: Path, name: str) -> None:
    """The files of a tokenizer of the published kind, whose special tokens have their ids."""
    if name.startswith("openai/"):
        _clip_words(folder)
    elif name.startswith("Salesforce/"):
        letters = [chr(n) for n in range(ord("a"), ord("z") + 1)]
        words = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
        words |= dict(enumerate([*WORDS, *letters, *(f"##{c}" for c in letters), "?", "."], 2000))
        lines = [words.get(n, f"[unused{n}]") for n in range(30522)]
        (folder / "vocab.txt").write_text("\n".join(lines) + "\n", "utf8")
        _json(
            folder / "tokenizer_config.json",
            {"tokenizer_class": "BertTokenizer", "do_lower_case": True},
        )
    elif name.startswith("google/"):
        _siglip_words(folder)
    else:
        _llama_words(folder)


def _clip_words(folder: Path) -> None:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    table = [*letters, *(f"{c}</w>" for c in letters)]
    merges, joined = [], set()
    for word in WORDS:
        left = word[0]
        for n, c in enumerate(word[1:], 1):
            right = c + "</w>" * (n == len(word) - 1)
            if left + right not in joined:
                merges.append((left, right))
                joined.add(left + right)
                table.append(left + right)
            left += right
    table = list(dict.fromkeys(table))
    table += [f"filler{n}" for n in range(len(table), 49406)]
    start, end = "<|startoftext|>", "<|endoftext|>"
    ids = {piece: n for n, piece in enumerate([*table, start, end])}
    _json(folder / "vocab.json", ids)
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf8")
    about = {"tokenizer_class": "CLIPTokenizer", "bos_token": start, "eos_token": end}
    about |= {"unk_token": end, "pad_token": end, "model_max_length": 77}
    _json(folder / "tokenizer_config.json", about)


def _siglip_words(folder: Path) -> None:
    made, text = io.BytesIO(), [" ".join(WORDS[n:] + WORDS[:n]) for n in range(len(WORDS))]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text * 4),
        model_writer=made,
        vocab_size=200,
        hard_vocab_limit=False,
        model_type="word",
        bos_id=-1,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        minloglevel=2,
    )
    (folder / "spiece.model").write_bytes(made.getvalue())
    about = {"tokenizer_class": "SiglipTokenizer", "pad_token": "</s>", "eos_token": "</s>"}
    about |= {"unk_token": "<unk>", "model_max_length": 64, "do_lower_case": True}
    _json(folder / "tokenizer_config.json", about)


def _llama_words(folder: Path) -> None:
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{n:02X}>" for n in range(256)), "▁"]
    ids, merges = {p: n for n, p in enumerate(pieces)}, []
    for letter in map(chr, range(33, 127)):
        ids.setdefault(letter, len(ids))
    for word in WORDS:
        left = "▁"
        for c in word:
            if left + c not in ids:
                merges.append((left, c))
                ids[left + c] = len(ids)
            left += c
    for n in range(len(ids), 32000):
        ids[f"filler{n}"] = n
    made = tokenizers.Tokenizer(
        models.BPE(ids, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    made.add_special_tokens(["<unk>", "<s>", "</s>", "<image>", "<pad>"])
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    made.save(str(folder / "tokenizer.json"))
    about = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>"}
    about |= {"unk_token": "<unk>", "pad_token": "<pad>", "add_bos_token": True, "legacy": False}
    _json(folder / "tokenizer_config.json", about)
    _json(folder / "chat_template.json", {"chat_template": CHAT})


def _json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), "utf8")
