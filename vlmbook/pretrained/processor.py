"""A repository's own tokenizer, with the methods of ours.

transformers opens it, whichever of its classes it is, and under version 4 as under 5. Pictures need
no processor: the models resize and normalise what they are given. Book: appendix/checkpoints.md.

B texts, T tokens of the longest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
import transformers
from torch import Tensor

from vlmbook.tokenizer import Chat, Message, parts_of

MARKS = {"▁": "·", "Ġ": "·"}  # how tokenizers write a space


class Processor:
    """Text to numbers and back, as one checkpoint learnt them.

    max_tokens is how many tokens its model can read. padded: all texts are padded to that, and the
    padding counts as text, as SigLIP was trained. image is the id of a picture's place.
    """

    def __init__(
        self, folder: Path, max_tokens: int, padded: bool = False, image: int | None = None
    ) -> None:
        self.library = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        self.max_tokens, self.padded, self.image = max_tokens, padded, image
        self.template = _template(folder) or self.library.chat_template

    def __len__(self) -> int:
        """How many tokens there are."""
        return len(self.library)

    def encode(self, text: str) -> list[int]:
        """The ids of one text, with the special tokens around it."""
        return self.library(text)["input_ids"]

    def tokens(self, text: str) -> list[str]:
        """The pieces that encode() numbers, to be read by people; spaces are shown as ·."""
        return [self.piece(i) for i in self.encode(text)]

    def piece(self, id: int) -> str:
        """One token, to be read by people."""
        if not 0 <= id < len(self):
            raise ValueError(f"id {id} is not in the vocabulary, 0 to {len(self) - 1}")
        piece = self.library.convert_ids_to_tokens(int(id))
        for mark, shown in MARKS.items():
            piece = piece.replace(mark, shown)
        return piece.replace("</w>", "·")

    def batch(self, texts: Sequence[str], max_tokens: int | None = None) -> tuple[Tensor, Tensor]:
        """ids (B, T) int64, padded at the right to the longest text, and mask (B, T), True at text.

        Raises ValueError for a text of more tokens than fit.
        """
        if isinstance(texts, str):
            raise TypeError(f"batch takes a list of texts, not one text; pass [{texts[:40]!r}]")
        most = min(max_tokens or self.max_tokens, self.max_tokens)
        rows = [self.encode(text) for text in texts]
        longest = max(map(len, rows), default=0)
        if longest > most:
            text = texts[[len(row) for row in rows].index(longest)]
            raise ValueError(
                f"the text {text[:40]!r}... has {longest} tokens, and {most} fit; shorten it"
            )
        num = self.max_tokens if self.padded else longest
        pad = self.library.pad_token_id
        ids = torch.tensor([row + [pad] * (num - len(row)) for row in rows], dtype=torch.long)
        lengths = torch.tensor([num if self.padded else len(row) for row in rows])
        return ids, torch.arange(num) < lengths[:, None]

    def chat(self, messages: Sequence[Message], reply: bool = True, image_tokens: int = 1) -> Chat:
        """A conversation, written as the checkpoint's template says; with reply, the assistant is
        to speak next.

        The place of a picture is taken by so many image tokens. Raises ValueError for a role or
        part that is not known, and for a text that holds the token of a picture's place.
        """
        if self.template is None or self.image is None:
            raise ValueError(
                "this checkpoint holds no conversations; ask it with caption or answer"
            )
        shown = [{"role": m["role"], "content": parts_of(m)} for m in messages]
        place = self.library.convert_ids_to_tokens(self.image)
        for part in (part for message in shown for part in message["content"]):
            if part["type"] == "text" and place in part["text"]:
                raise ValueError(
                    f"the text {part['text'][:40]!r} holds {place}, which keeps a picture's place;"
                    " write a part {'type': 'image'} instead"
                )
        told = self.library.apply_chat_template(
            shown,
            chat_template=self.template,
            add_generation_prompt=reply,
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask="{% generation %}" in self.template,
        )
        ids, said = list(told["input_ids"]), told.get("assistant_masks")
        said = list(said or [0] * len(ids))
        first = self.library.bos_token_id
        if first is not None and ids[:1] != [first]:  # which templates leave to the tokenizer
            ids, said = [first, *ids], [0, *said]
        ids, said = torch.tensor(ids), torch.tensor(said).bool()
        times = torch.where(ids == self.image, image_tokens, 1)
        return Chat(ids.repeat_interleave(times), said.repeat_interleave(times))

    def decode(self, ids: Iterable[int] | Tensor) -> str:
        """The text of some ids, without special tokens."""
        if isinstance(ids, Tensor) and ids.dim() != 1:
            raise ValueError(f"ids of shape {tuple(ids.shape)} are no row (T,); decode row by row")
        return self.library.decode([int(i) for i in ids], skip_special_tokens=True).strip()


def _template(folder: Path) -> str | None:
    """The template of conversations that lies beside a tokenizer, in either of its files."""
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text("utf8")
    if (folder / "chat_template.json").is_file():
        return json.loads((folder / "chat_template.json").read_text("utf8"))["chat_template"]
    return None
