"""Text to numbers and back: one byte-level BPE vocabulary for English and Korean.

Text is tidied first (see TIDY), cut into words, and each word into the longest pieces that training
joined. The smallest pieces are the 256 bytes, so no text of any script is unknown: what training
never saw just takes more tokens. The work is done by the `tokenizers` library, and a saved folder
opens with transformers.AutoTokenizer too.

    tokenizer = load()
    ids, mask = tokenizer.batch(["a red cube", "빨간 정육면체"])  # (B, T) and (B, T)
    ids, told = tokenizer.chat([{"role": "user", "content": "Is there a cube?"}])

B texts, T tokens of the longest, V the size of the vocabulary.

Gage 1994, Sennrich et al. 2016, Radford et al. 2019. Book: concepts/processing.md.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tokenizers
import torch
from jinja2 import Template
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

# Their ids are their places here. Weights depend on them: append, never reorder. <end> is not 2,
# since transformers' CLIP takes an end token of number 2 for a mistake of old configurations.
SPECIALS = (
    "<pad>",  # fills a batch; never attended to
    "<start>",
    "<image>",  # stands where the image tokens go
    "<end>",  # where a causal text encoder pools
    "<encode>",  # in place of <start>: read the text with the picture
    "<decode>",  # in place of <start>: write a text about the picture
    "<en>",
    "<ko>",  # the language to write in
    "<user>",
    "<assistant>",  # who speaks in a conversation
)
PAD, START, IMAGE, END, ENCODE, DECODE, EN, KO, USER, ASSISTANT = range(len(SPECIALS))

# What is lost, and nothing else is: space around the text, whether Hangul came as syllables or as
# letters, and capitals.
TIDY = (normalizers.Strip(), normalizers.Lowercase(), normalizers.NFC())

SHIPPED = Path(__file__).parent / "weights" / "tokenizer"

ROLES, PARTS = ("user", "assistant"), ("text", "image")
# How a conversation is written, in jinja, as transformers' apply_chat_template reads it.
TEMPLATE = (
    "<start>{% for message in messages %}<{{ message.role }}>"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}"
    "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% if message.role == 'assistant' %}<end>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
Message = Mapping[str, Any]  # role, and content: a text, or parts of type "text" and "image"


class Chat(NamedTuple):
    """A conversation as ids (T,), and told (T,), True at what the assistant says."""

    ids: Tensor
    told: Tensor


class Tokenizer:
    """A trained vocabulary; train() makes one, load() opens one.

    template is that of conversations.
    """

    def __init__(self, library: tokenizers.Tokenizer, template: str = TEMPLATE) -> None:
        self.library, self.template = library, template
        self.library.encode_special_tokens = True  # "<end>" in somebody's text is five letters

    def __len__(self) -> int:
        """V, the number of tokens that there are."""
        return self.library.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """The ids of one text between <start> and <end>; an empty text has only these two."""
        return self._encode([text])[0].ids

    def tokens(self, text: str) -> list[str]:
        """The pieces that encode() numbers, to be read by people.

        Spaces are shown as ·, and bytes that are no letter by themselves as <E0>.
        """
        return [self.piece(i) for i in self.encode(text)]

    def piece(self, id: int) -> str:
        """One token, to be read by people."""
        self._check([id])
        if id < len(SPECIALS):
            return SPECIALS[id]
        data = bytes(_BYTES[letter] for letter in self.library.id_to_token(id))
        return "".join(_readable(data))

    def batch(self, texts: Sequence[str], max_tokens: int | None = None) -> tuple[Tensor, Tensor]:
        """ids (B, T) int64, padded at the right to the longest text, and mask (B, T), True at text.

        Raises ValueError for a text of more than max_tokens tokens.
        """
        if isinstance(texts, str):
            raise TypeError(f"batch takes a list of texts, not one text; pass [{texts[:40]!r}]")
        texts = list(texts)
        rows = [encoding.ids for encoding in self._encode(texts)]
        longest = max(map(len, rows), default=0)
        if max_tokens is not None and longest > max_tokens:
            text = texts[[len(row) for row in rows].index(longest)]
            raise ValueError(
                f"the text {text[:40]!r}... has {longest} tokens, and {max_tokens} fit; shorten it"
            )
        ids = torch.full((len(rows), longest), PAD)
        for row, own in zip(rows, ids, strict=True):
            own[: len(row)] = torch.tensor(row)
        return ids, ids != PAD

    def chat(self, messages: Sequence[Message], reply: bool = True, image_tokens: int = 1) -> Chat:
        """A conversation, written as the template says; with reply, the assistant is to speak next.

        The place of a picture is taken by so many image tokens. What people say can't become a
        special token, whatever it holds. Raises ValueError for a role or part that is not known.
        """
        said: list[tuple[str, bool]] = []  # what was said, and whether by the assistant

        def kept(text: str, role: str) -> str:
            said.append((text, role == "assistant"))
            return chr(_SAID + len(said) - 1)  # a letter of private use stands for it

        text = _written(self.template).render(
            messages=[_with(message, kept) for message in messages], add_generation_prompt=reply
        )
        rows, told, last = [], [], False
        for piece in filter(str.strip, _PIECES.split(text)):
            if piece in SPECIALS:
                own = [SPECIALS.index(piece)] * (image_tokens if piece == SPECIALS[IMAGE] else 1)
                by = last and own == [END]
            elif _SAID <= ord(piece[0]) < _SAID + len(said):
                what, by = said[ord(piece[0]) - _SAID]
                own = self.encode(what)[1:-1]
            else:
                own, by = self.encode(piece)[1:-1], False
            last = by
            rows += own
            told += [by] * len(own)
        return Chat(torch.tensor(rows), torch.tensor(told, dtype=torch.bool))

    def decode(self, ids: Iterable[int] | Tensor) -> str:
        """The text of some ids, without special tokens; bytes that are no text become U+FFFD."""
        if isinstance(ids, Tensor) and ids.dim() != 1:
            raise ValueError(f"ids of shape {tuple(ids.shape)} are no row (T,); decode row by row")
        ids = [int(i) for i in ids]
        self._check(ids)
        return self.library.decode(ids)

    def save(self, folder: str | Path) -> None:
        """Write tokenizer.json, and what transformers.AutoTokenizer reads beside it."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        roles = {"pad_token": PAD, "bos_token": START, "eos_token": END}
        about = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **{name: SPECIALS[i] for name, i in roles.items()},
            "additional_special_tokens": [
                special for i, special in enumerate(SPECIALS) if i not in roles.values()
            ],
            "add_prefix_space": True,  # which version 4 undoes where this file does not say so
            "clean_up_tokenization_spaces": False,
            "chat_template": self.template,
        }
        (folder / "tokenizer.json").write_text(self.library.to_str(pretty=True) + "\n", "utf8")
        (folder / "tokenizer_config.json").write_text(json.dumps(about, indent=1) + "\n", "utf8")

    def _check(self, ids: Sequence[int]) -> None:
        if wrong := [i for i in ids if not 0 <= i < len(self)]:
            raise ValueError(f"id {wrong[0]} is not in the vocabulary, 0 to {len(self) - 1}")

    def _encode(self, texts: Sequence[str]) -> list[tokenizers.Encoding]:
        for text in texts:
            if not isinstance(text, str):
                raise TypeError(f"{text!r} is not a text; pass a str")
        # A lone surrogate has no bytes; it becomes U+FFFD, as in a browser.
        whole = [t.encode("utf16", "surrogatepass").decode("utf16", "replace") for t in texts]
        return self.library.encode_batch(whole)


def train(texts: Iterable[str], vocab_size: int = 832) -> Tokenizer:
    """Learn which neighbours to join: from bytes, the most frequent pair first.

    vocab_size is V, with the special tokens and the 256 bytes. The same texts give the same
    vocabulary.
    """
    least = len(SPECIALS) + 256
    if vocab_size < least:
        raise ValueError(
            f"vocab_size {vocab_size} does not hold 256 bytes and {len(SPECIALS)} special tokens;"
            f" use {least} or more"
        )
    library = tokenizers.Tokenizer(models.BPE())
    library.normalizer = normalizers.Sequence(list(TIDY))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    # A word is one token whether it begins the text or not: training sees a space before both.
    library.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    library.train_from_iterator(texts, trainer)
    library.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", START), ("<end>", END)]
    )
    return Tokenizer(library)


def load(folder: str | Path = SHIPPED) -> Tokenizer:
    """The book's tokenizer, or one that was saved in a folder.

    Raises FileNotFoundError or ValueError where there is none, or one with other special tokens.
    """
    path = Path(folder) / "tokenizer.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no tokenizer.json; pass a folder that save() wrote")
    try:
        library = tokenizers.Tokenizer.from_str(path.read_text("utf8"))
    except Exception as error:  # the library raises plain Exception
        raise ValueError(f"{path} is not a tokenizer: {error}") from None
    found = tuple(library.id_to_token(i) for i in range(len(SPECIALS)))
    if found != SPECIALS:
        raise ValueError(f"{path} begins with {found[:3]}, not with the book's special tokens")
    about = Path(folder) / "tokenizer_config.json"
    own = json.loads(about.read_text("utf8")).get("chat_template") if about.is_file() else None
    return Tokenizer(library, own or TEMPLATE)


def _byte_letters() -> Iterator[tuple[str, int]]:
    """The letter by which byte-level BPE writes each byte: itself where it can be printed."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    yield from ((chr(b), b) for b in printable)
    yield from ((chr(256 + n), b) for n, b in enumerate(others))


_BYTES = dict(_byte_letters())


def _readable(data: bytes) -> Iterator[str]:
    """Bytes as text where they are text, and as <E0> where not."""
    while data:
        for length in range(min(4, len(data)), 0, -1):
            try:
                letter = data[:length].decode("utf8")
            except UnicodeDecodeError:
                continue
            yield letter.replace(" ", "·")
            break
        else:
            length = 1
            yield f"<{data[0]:02X}>"
        data = data[length:]


_SAID = 0xF0000  # the first letter of a plane of private use
_PIECES = re.compile("(" + "|".join(map(re.escape, SPECIALS)) + "|[\U000f0000-\U000ffffd])")


@functools.cache
def _written(template: str) -> Template:
    """A template, ready to be filled, under the settings that transformers uses."""
    return ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(template)


def parts_of(message: Message) -> list[Mapping[str, Any]]:
    """What a message holds, as parts; a text alone is one part.

    Raises ValueError for a role or a type of part that is not known, and for what is no text.
    """
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise ValueError(f"role {role!r} does not exist; choose from {', '.join(ROLES)}")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list | tuple):
        raise ValueError(f"content {content!r} is neither a text nor a list of parts")
    for part in content:
        if part.get("type") not in PARTS:
            raise ValueError(
                f"a part of type {part.get('type')!r} is not known; choose from {', '.join(PARTS)}"
            )
        if part["type"] == "text" and not isinstance(part.get("text"), str):
            raise ValueError(f"{part.get('text')!r} is not a text; pass a str")
    return list(content)


def _with(message: Message, kept: Callable[[str, str], str]) -> dict[str, Any]:
    """A message whose texts are replaced by what kept gives for them."""
    role, parts = message.get("role"), parts_of(message)
    parts = [
        {**part, "text": kept(part["text"], role)} if part["type"] == "text" else part
        for part in parts
    ]
    is_text = isinstance(message["content"], str)
    return {"role": role, "content": parts[0]["text"] if is_text else parts}
