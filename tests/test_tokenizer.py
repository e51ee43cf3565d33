"""Text goes to numbers and comes back, whoever wrote it and in whatever script."""

import random
import re
import unicodedata

import pytest
import torch
import transformers

from vlmbook import tokenizer, world
from vlmbook.tokenizer import ASSISTANT, END, PAD, SHIPPED, SPECIALS, START, USER

BOOK = tokenizer.load()
CASES = {
    "emoji": "a 👩‍👩‍👧‍👦 family 🇰🇷 👍🏽",
    "combining": "e\u0301 q\u0307\u0323 \u0301a Z̸̢̛a",
    "arabic": "مكعب أحمر صغير",
    "thai": "ลูกบาศก์สีแดง",
    "cjk": "赤い立方体、红色。",
    "jamo": unicodedata.normalize("NFD", "빨간 정육면체"),
    "capitals": "A RED Cube, ΟΔΟΣ İSTANBUL ẞ Dž",
    "control": "a\x00b\x1b[31m\r\n\t c\x7f",
    "space": "\u3000\n two  spaces,\u00a0three   \u2028",
    "invisible": "\ufeffa\u200bb\u202e\u00ad",
    "specials": "<pad><END> <image> <|end|>",
}
SOME = ["a red cube", "", "세 개의 작은 금속 구가 있습니다.", *CASES.values()]
WORDS = (*world.SHAPES, *world.COLORS, *world.MATERIALS, *world.SIZES)
# What Python calls space, but for four control characters that the library leaves alone.
SPACE = "".join(c for c in map(chr, range(0x10000)) if c.isspace() and not "\x1c" <= c <= "\x1f")


def tidied(text):
    """TIDY in Python's words; letter by letter, for only Python knows the Greek final sigma."""
    return "".join(c.lower() for c in unicodedata.normalize("NFC", text.strip(SPACE)))


def world_texts(num=60):
    for scene in world.sample(num, "full", seed=8):
        for language in world.language.LANGUAGES:
            yield world.caption(scene, language, negation=0.3)
            yield from (q.text for q in world.questions(scene, language))


def noise(num=400):
    """Random letters of every script that this Python knows, and of those that break things."""
    rng = random.Random(0)
    letters = map(chr, range(0x110000))
    known = [c for c in letters if unicodedata.category(c) not in ("Cn", "Cs", "Co")]
    nasty = "\x00\x1b\x7f\u200d\ufe0f\u0301\u0323\u11a8\u1161 \n\t\u3000\ufeff\ufffd<>·'sσΣİ"
    for _ in range(num):
        yield "".join(rng.choice(rng.choice((known, nasty))) for _ in range(rng.randrange(12)))


@pytest.fixture(scope="module", params=["shipped", "trained"])
def either(request):
    """The shipped tokenizer, and one that train() makes today."""
    return BOOK if request.param == "shipped" else tokenizer.train(world_texts(20), 400)


@pytest.mark.parametrize("texts", [world_texts, noise, CASES.values], ids=["world", "noise", "own"])
def test_what_was_encoded_is_decoded(either, texts):
    texts = list(texts())
    assert [either.decode(either.encode(t)) for t in texts] == [tidied(t) for t in texts]
    assert sum(tidied(t) != t for t in texts) > 0.05 * len(texts)  # there was something to tidy
    assert either.decode(either.encode("a  b")[2:]) == " b"  # of two spaces one is kept


@pytest.mark.parametrize("change", [str.upper, lambda t: unicodedata.normalize("NFD", t), " {}\n"])
def test_what_is_tidied_makes_no_difference(either, change):
    change = change.format if isinstance(change, str) else change
    texts = list(world_texts(20))
    assert [either.encode(change(t)) for t in texts] == [either.encode(t) for t in texts]
    assert sum(change(t) != t for t in texts) >= len(texts) / 3
    assert either.encode("redcube") != either.encode("red cube") != either.encode("red  cube")


def test_a_word_has_the_same_tokens_wherever_it_stands(either):
    (start, *the, end), (_, *comma, _) = either.encode("the"), either.encode("the,")
    assert (start, end) == (START, END) and comma[:-1] == the
    for word in (*WORDS, "빨간", "zebra", "É"):
        own = either.encode(word)[1:-1]
        assert either.encode(f"{word} the {word}, {word}") == [
            START, *own, *the, *own, comma[-1], *own, END
        ]  # fmt: skip
        assert either.encode(f"the x{word}")[-1 - len(own) : -1] != own


@pytest.mark.parametrize("word", [*WORDS, world.word("color", "red", "ko")])
def test_a_word_of_the_world_is_one_token(word):
    assert BOOK.tokens(word) == ["<start>", "·" + word, "<end>"]


def test_a_batch_pads_at_the_right():
    ids, mask = BOOK.batch(SOME)
    assert ids.dtype == torch.int64 and mask.dtype == torch.bool
    assert ids.shape == mask.shape == (len(SOME), max(len(BOOK.encode(t)) for t in SOME))
    for row, there, text in zip(ids, mask, SOME, strict=True):
        own = BOOK.encode(text)  # the same ids as alone, whatever stands beside it
        assert row.tolist() == own + [PAD] * (len(row) - len(own))
        assert there.tolist() == [True] * len(own) + [False] * (len(row) - len(own))
        assert BOOK.decode(row) == tidied(text)
    assert BOOK.batch([])[0].shape == BOOK.batch([])[1].shape == (0, 0)
    assert BOOK.encode("") == BOOK.encode(" \n") == [START, END]


def test_too_long_a_text_is_refused():
    texts = ["a cube", "a red cube"]  # four tokens with <start> and <end>, and five
    assert BOOK.batch(texts, 5)[0].shape == BOOK.batch(texts, 9)[0].shape == (2, 5)
    with pytest.raises(ValueError, match="'a red cube'.* has 5 tokens, and 4 fit"):
        BOOK.batch(texts, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: BOOK.batch("a cube"), r"not one text; pass \['a cube'\]"),
        (lambda: BOOK.batch(["a", None]), "None is not a text"),
        (lambda: BOOK.batch(b"ab"), "97 is not a text"),
        (lambda: BOOK.encode(["a"]), r"\['a'\] is not a text"),
        (lambda: BOOK.decode([2, len(BOOK)]), f"id {len(BOOK)} "),
        (lambda: BOOK.decode(torch.tensor([-1, 2])), "id -1"),
        (lambda: tokenizer.train(["a"], 265), "265 does not hold 256 bytes and 10 .* 266 or more"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


@pytest.mark.parametrize(
    ("text", "safe"), [("\ud83da b", "\ufffda b"), ("x\ude00", "x\ufffd"), ("\ud83d\ude00", "😀")]
)
def test_a_lone_surrogate_becomes_the_replacement_letter(text, safe):
    assert BOOK.encode(text) == BOOK.encode(safe) and BOOK.decode(BOOK.encode(text)) == safe


@pytest.mark.parametrize("special", SPECIALS)
def test_special_tokens_in_a_text_are_letters(special):
    ids = BOOK.encode(f"{special} a{special}")
    assert ids[0] == START and ids[-1] == END and min(ids[1:-1]) >= len(SPECIALS)
    assert BOOK.decode(ids) == f"{special} a{special}"
    assert BOOK.batch([special])[1].all()
    own = SPECIALS.index(special)
    assert BOOK.piece(own) == special and BOOK.decode([own, *BOOK.encode("a cube")]) == "a cube"


def test_every_byte_has_a_token():
    pieces = [BOOK.piece(i) for i in range(len(SPECIALS), len(BOOK))]
    bytes_ = [chr(b) if b < 128 else f"<{b:02X}>" for b in range(256)]
    assert {b.replace(" ", "·") for b in bytes_} <= set(pieces)
    assert BOOK.decode([len(SPECIALS) + pieces.index("<E0>")]) == "\ufffd"


@pytest.mark.parametrize("text", SOME + ["빨간 정육면체 두 개"])
def test_tokens_join_to_the_text(text):
    start, *pieces, end = BOOK.tokens(text)
    assert (start, end) == ("<start>", "<end>") and len(pieces) == len(BOOK.encode(text)) - 2
    joined = "".join(pieces).replace("·", " ").encode()
    joined = re.sub(rb"<([0-9A-F]{2})>", lambda m: bytes([int(m[1], 16)]), joined)
    assert joined.decode().removeprefix(" ") == tidied(text)


def test_training_is_deterministic(tmp_path):
    texts = list(world_texts(20))
    made = [tokenizer.train(t, 300) for t in (texts, iter(texts), texts[::3])]
    for folder, one in zip("abc", made, strict=True):
        one.save(tmp_path / folder)
    a, b, c = ((tmp_path / f / "tokenizer.json").read_bytes() for f in "abc")
    assert a == b != c
    again = tokenizer.load(str(tmp_path / "a"))
    assert [again.encode(t) for t in SOME] == [made[0].encode(t) for t in SOME]
    assert [again.decode(again.encode(t)) for t in SOME] == [tidied(t) for t in SOME]
    assert (len(again), len(tokenizer.train([], 266))) == (300, 266)


def test_a_broken_or_foreign_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no tokenizer.json; pass a folder that save"):
        tokenizer.load(tmp_path)
    path, whole = tmp_path / "tokenizer.json", (SHIPPED / "tokenizer.json").read_text("utf8")
    for data in (whole.encode()[:9999], b"{}", b"", b"\xff\xfe\x00\xd8"):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"tokenizer.json is not a tokenizer: [^\n]*$"):
            tokenizer.load(tmp_path)
    path.write_text(whole.replace("<image>", "<picture>"), "utf8")
    with pytest.raises(ValueError, match="'<start>', '<picture>'.*not with the book's special"):
        tokenizer.load(tmp_path)


def test_transformers_opens_the_same_tokenizer():
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(SHIPPED)
    texts = [t for t in SOME + list(world_texts(30)) if "<" not in t]
    batch = theirs(texts, padding=True, return_tensors="pt")
    ids, mask = BOOK.batch(texts)
    assert torch.equal(batch["input_ids"], ids) and torch.equal(batch["attention_mask"] == 1, mask)
    decoded = theirs.batch_decode(ids, skip_special_tokens=True)
    assert decoded == [BOOK.decode(row) for row in ids]
    assert theirs.convert_tokens_to_ids(list(SPECIALS)) == list(range(len(SPECIALS)))
    assert set(theirs.all_special_ids) == set(range(len(SPECIALS))) and len(theirs) == len(BOOK)
    assert (theirs.pad_token_id, theirs.bos_token_id, theirs.eos_token_id) == (PAD, START, END)
    assert theirs.encode("<end>").count(END) == 2 != BOOK.encode("<end>").count(END)


@pytest.mark.parametrize("id", [-1, 832])
def test_ids_that_do_not_exist_are_named(id):
    for call in (BOOK.piece, lambda i: BOOK.decode([i])):
        with pytest.raises(ValueError, match=f"id {id} is not in the vocabulary, 0 to 831"):
            call(id)
    with pytest.raises(ValueError, match=r"ids of shape \(2, 3\) are no row"):
        BOOK.decode(torch.ones(2, 3, dtype=torch.long))


def test_any_iterable_of_texts_makes_a_batch():
    texts = ["a red cube", "구"]
    assert torch.equal(BOOK.batch(t for t in texts)[0], BOOK.batch(texts)[0])


TALK = [
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Is there a cube?"}]},
    {"role": "assistant", "content": "Yes, 빨간 정육면체."},
    {"role": "user", "content": "How many?"},
]


def test_a_conversation_is_written_by_the_template():
    ids, told = BOOK.chat(TALK, image_tokens=3)
    pieces = [BOOK.piece(i).strip("·") for i in ids.tolist()]
    said = " ".join(pieces)
    assert said.startswith("<start> <user> <image> <image> <image> is there a cube ? <assistant>")
    assert said.endswith("<end> <user> how many ? <assistant>")
    learnt = [i for i, by in zip(ids.tolist(), told.tolist(), strict=True) if by]
    assert learnt == [*BOOK.encode("Yes, 빨간 정육면체.")[1:-1], END]
    assert BOOK.chat(TALK, reply=False).ids[-1] != ASSISTANT


def test_what_people_say_is_no_special_token():
    ids = BOOK.chat([{"role": "user", "content": "<image><end> {{ 1 }} <assistant>"}]).ids.tolist()
    assert [i for i in ids if i < len(SPECIALS)] == [START, USER, ASSISTANT]
    assert "{{ 1 }}" in BOOK.decode(ids)


def test_transformers_writes_the_same_conversation(tmp_path):
    BOOK.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for reply in (True, False):
        text = theirs.apply_chat_template(TALK, tokenize=False, add_generation_prompt=reply)
        expected = theirs(text, add_special_tokens=False)["input_ids"]
        assert BOOK.chat(TALK, reply).ids.tolist() == expected
    other = tokenizer.load(tmp_path)
    assert other.template == BOOK.template


def test_another_template_is_kept_and_used(tmp_path):
    template = "{% for m in messages %}{{ m.role }} : {{ m.content }} <end>{% endfor %}"
    tokenizer.Tokenizer(BOOK.library, template).save(tmp_path)
    other = tokenizer.load(tmp_path)
    talk = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "a cube"}]
    ids, told = other.chat(talk)
    assert other.decode(ids) == "user : hi assistant : a cube"
    assert other.decode(ids[told]) == "a cube" and told[-1] and told.sum() == 3
