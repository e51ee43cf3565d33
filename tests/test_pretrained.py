"""Checkpoints as they are published, in our classes: equal to transformers' own reading of them.

The contract with transformers: run with its lowest and its newest version by tests/contract.py.
"""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import accelerate
import numpy as np
import psutil
import pytest
import repositories
import skimage.data
import stand_in
import torch
import torch.nn.functional as F
import transformers
from PIL import Image
from theirs import features

from vlmbook.pretrained import CATALOGUE, HubError, configs, load, loading
from vlmbook.pretrained.loading import from_folder

NAMES = list(CATALOGUE)
CLIP, SIGLIP = "openai/clip-vit-base-patch32", "google/siglip-base-patch16-224"
CAPTION, ANSWER = "Salesforce/blip-image-captioning-base", "Salesforce/blip-vqa-base"
MATCH, LLAVA = "Salesforce/blip-itm-base-coco", "llava-hf/llava-1.5-7b-hf"
TEXTS = ["a photo of a cat", "Is there a red cube?"]
CLOSE = {"atol": 2e-5, "rtol": 1e-5}

pytestmark = pytest.mark.usefixtures("small_training")


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """The folder of a small repository of a kind, made once."""
    made = {}

    def give(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp("repository")
            repositories.make(made[name], name, num_shards=2 if name == LLAVA else 1)
        return made[name]

    return give


@pytest.fixture
def both(repository):
    """transformers' model of a repository, ours, and our processor."""

    def give(name):
        folder = repository(name)
        kind = json.loads((folder / "config.json").read_text("utf8"))["architectures"][0]
        theirs = getattr(transformers, kind).from_pretrained(folder, torch_dtype=torch.float32)
        return theirs.eval(), *from_folder(folder, CATALOGUE[name])

    return give


def photographs():
    return [Image.fromarray(skimage.data.chelsea()), Image.fromarray(skimage.data.astronaut())]


def tensor(picture):
    return torch.tensor(np.asarray(picture)).permute(2, 0, 1)[None] / 255


@pytest.mark.parametrize("name", [CLIP, SIGLIP])
@torch.no_grad()
def test_encoders_embed_as_theirs_do(both, name):
    theirs, ours, processor = both(name)
    ids, mask = processor.batch(TEXTS)
    pixels = torch.rand(2, 3, 32, 32)
    text = {"input_ids": ids} | ({"attention_mask": mask.long()} if name == CLIP else {})
    seen = ours.prepare(pixels)
    for one, other in (
        (ours.encode_image(pixels), theirs.get_image_features(pixel_values=seen)),
        (ours.encode_text(ids, mask), theirs.get_text_features(**text)),
    ):
        torch.testing.assert_close(one, F.normalize(features(other), dim=-1), **CLOSE)
        assert (one[0] - one[1]).abs().max() > 0.01


@torch.no_grad()
def test_captions_are_theirs(both):
    theirs, ours, processor = both(CAPTION)
    pixels = torch.rand(3, 3, 32, 32)
    said = theirs.generate(
        pixel_values=ours.prepare(pixels), max_new_tokens=8, num_beams=1, do_sample=False
    )
    expected = [processor.decode(row) for row in said]
    assert ours.caption(pixels, processor, max_length=8) == expected
    assert len(set(expected)) > 1
    with pytest.raises(ValueError, match="writes English alone, not 'ko'; pass 'en'"):
        ours.caption(pixels, processor, language="ko")


@torch.no_grad()
def test_log_probabilities_of_a_text_are_theirs(both):
    theirs, ours, processor = both(CAPTION)
    ids, mask = processor.batch([TEXTS[0], "a red cube"])
    pixels = torch.rand(2, 3, 32, 32)
    found = ours.log_prob(ids, mask, ours.see(pixels).feats)
    given = ids.clone()
    given[:, 0] = ours.config.begin
    out = theirs(ours.prepare(pixels), given, attention_mask=mask.long()).logits
    each = out[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
    torch.testing.assert_close(found, (each * mask[:, 1:]).sum(1), atol=1e-3, rtol=1e-5)


@torch.no_grad()
def test_matching_reads_the_token_that_training_read(both):
    theirs, ours, processor = both(MATCH)
    ids, mask = processor.batch(TEXTS)
    pixels = torch.rand(2, 3, 32, 32)
    given = ids.clone()
    given[:, 0] = CATALOGUE[MATCH].encode
    how = {"pixel_values": ours.prepare(pixels), "attention_mask": mask.long()}
    feats = ours.see(pixels).feats
    found = ours.match(ids, mask, feats)
    torch.testing.assert_close(found, theirs(input_ids=given, **how).itm_score, **CLOSE)
    without = theirs(input_ids=ids, **how).itm_score
    assert (found - without).abs().max() > 1e-3
    cosines = ours.encode_image(pixels) @ ours.encode_text(ids, mask).T
    expected = theirs(input_ids=ids, use_itm_head=False, **how).itm_score
    torch.testing.assert_close(cosines, expected, **CLOSE)


@torch.no_grad()
def test_answers_are_theirs(both):
    theirs, ours, processor = both(ANSWER)
    pixels = torch.rand(1, 3, 32, 32)
    for question in TEXTS:
        ids, _ = processor.batch([question])
        ids[:, 0] = CATALOGUE[ANSWER].encode
        said = theirs.generate(
            pixel_values=ours.prepare(pixels), input_ids=ids, max_new_tokens=8, num_beams=1
        )
        assert ours.answer(pixels, [question], processor)[0].text == processor.decode(said[0])


@torch.no_grad()
def test_a_llava_reads_and_replies_as_theirs_does(both, repository):
    theirs, ours, processor = both(LLAVA)
    pixels = torch.rand(1, 3, 32, 32)
    asked = [{"role": "user", "content": "Is there a red cube?"}]
    ids = ours.prompts([asked], processor, 1)
    assert (ids == 32000).sum() == 16 and ids[0, 0] == 1
    how = {"input_ids": ids, "pixel_values": ours.prepare(pixels)}
    logits = ours.text.next_logits(ours.read(ids, ours.see(pixels)).feats)
    torch.testing.assert_close(logits, theirs(**how).logits, atol=1e-4, rtol=1e-4)
    said = theirs.generate(**how, max_new_tokens=6, do_sample=False)[:, ids.shape[1] :]
    reply = ours.chat(pixels, asked, processor, max_length=6)
    assert reply == processor.decode(said[0]) and reply
    half, _ = from_folder(repository(LLAVA), CATALOGUE[LLAVA], dtype=torch.bfloat16)
    assert half.text.blocks[0].mlp.up.weight.dtype == torch.bfloat16
    near = half.text.next_logits(half.read(ids, half.see(pixels)).feats)
    assert torch.corrcoef(torch.stack([near.float().flatten(), logits.flatten()]))[0, 1] > 0.99


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_numbered_as_their_tokenizer_does(repository, name):
    _, processor = from_folder(repository(name), CATALOGUE[name])
    theirs = transformers.AutoTokenizer.from_pretrained(repository(name), padding_side="right")
    how = {"padding": "max_length", "max_length": 64} if name == SIGLIP else {"padding": True}
    expected = theirs(TEXTS, return_tensors="pt", **how)
    ids, mask = processor.batch(TEXTS)
    assert torch.equal(ids, expected["input_ids"]) and len(processor) == len(theirs)
    if name == SIGLIP:
        assert mask.all()
    else:
        assert torch.equal(mask, expected["attention_mask"].bool())
    assert "".join(TEXTS[0].split()) in "".join(processor.decode(ids[0]).split())
    assert "cat" in [piece.strip("·") for piece in processor.tokens(TEXTS[0])]
    assert processor.batch([])[0].shape[0] == 0
    with pytest.raises(ValueError, match="tokens, and 3 fit; shorten it"):
        processor.batch(TEXTS, 3)
    with pytest.raises(TypeError, match="batch takes a list of texts"):
        processor.batch(TEXTS[0])
    with pytest.raises(ValueError, match=f"id {len(processor)} is not in the vocabulary, 0 to"):
        processor.piece(len(processor))
    with pytest.raises(ValueError, match=r"ids of shape .* decode row by row"):
        processor.decode(ids)


def test_a_conversation_is_written_as_its_template_says(repository):
    _, processor = from_folder(repository(LLAVA), CATALOGUE[LLAVA])
    said = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "how many?"}]},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "yes?"},
    ]
    chat = processor.chat(said, image_tokens=5)
    text = "USER: <image>\nhow many? ASSISTANT: two USER: yes? ASSISTANT:"
    expected = processor.library(text)["input_ids"]
    place = expected.index(32000)
    expected[place : place + 1] = [32000] * 5
    assert chat.ids.tolist() == expected
    assert processor.decode(chat.ids[chat.told]) == "two"
    with pytest.raises(ValueError, match="'<image> again' holds <image>, which keeps a picture's"):
        processor.chat([{"role": "user", "content": "<image> again"}])
    with pytest.raises(ValueError, match="role 'system' does not exist"):
        processor.chat([{"role": "system", "content": "a"}])
    _, other = from_folder(repository(CLIP), CATALOGUE[CLIP])
    with pytest.raises(ValueError, match="this checkpoint holds no conversations"):
        other.chat(said)


@pytest.mark.parametrize("name", [CLIP, SIGLIP, CAPTION, ANSWER, LLAVA])
def test_pictures_are_prepared_as_their_processor_does(repository, name):
    """Theirs resizes bytes, one axis after the other, and ours numbers: they differ at edges."""
    ours, _ = from_folder(repository(name), CATALOGUE[name])
    about = json.loads((repository(name) / "preprocessor_config.json").read_text("utf8"))
    kind = about.get("image_processor_type", "CLIPImageProcessor")
    theirs = getattr(transformers, f"{kind}Pil", None) or getattr(transformers, kind)
    theirs = theirs.from_pretrained(repository(name))
    for picture in photographs():
        expected = theirs(picture, return_tensors="pt")["pixel_values"]
        found = ours.prepare(tensor(picture))
        off = (found - expected).abs() * torch.tensor(about["image_std"])[:, None, None] * 255
        assert off.max() < 6 and off.mean() < 0.5
        flipped = ours.prepare(tensor(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)))
        assert (flipped - expected).abs().mean() > 0.05


@pytest.mark.parametrize("name", NAMES)
def test_a_published_config_makes_a_model_of_the_published_size(tmp_path, name):
    about = stand_in.config_of(name)
    (tmp_path / "config.json").write_text(json.dumps(about), "utf8")
    published, theirs = CATALOGUE[name], configs.read(tmp_path)
    config = configs.of(published.kind, theirs, published.encode)
    with accelerate.init_empty_weights():
        model = loading.MODULES[published.kind].build(config)
    num = sum(weight.numel() for weight in model.parameters())
    # The temperature of ITC is not published, and a class token is a row of its own.
    assert num - getattr(config, "matches", False) == published.parameters
    num_bytes = published.num_bytes - published.parameters * (2 if published.kind == "llava" else 4)
    twice = {CAPTION: 23_442_432 * 4, ANSWER: 23_442_432 * 4}.get(name, 0)  # a tied head
    assert 0 < num_bytes - twice < 300_000  # names and places


@pytest.mark.parametrize(
    ("name", "part", "change", "message"),
    [
        (CLIP, "vision_config", {"layer_norm_eps": 1e-3}, "layer_norm_eps is .*0.001.* another"),
        (CLIP, "text_config", {"hidden_act": "gelu"}, "hidden_act is quick_gelu"),
        (CLIP, "vision_config", {"hidden_size": 64}, "MLPs of pictures and texts differ"),
        (CLIP, None, {"projection_dim": 30}, r"another model: .*projection.* has shape \(24, 32\)"),
        (CLIP, "vision_config", {"intermediate_size": 100}, "intermediate_size 100 is not a"),
        (CAPTION, "text_config", {"hidden_act": "relu"}, "hidden_act is gelu, relu"),
        (CAPTION, None, {"architectures": ["BlipModel"]}, "architectures is BlipModel"),
        (SIGLIP, "text_config", {"num_hidden_layers": 3}, "num_hidden_layers is 2"),
        (CLIP, "vision_config", {"hidden_act": "silu"}, "hidden_act is silu, and our class knows"),
        (SIGLIP, None, {"model_type": "clip"}, "model_type is clip, and our class knows siglip"),
        (LLAVA, "text_config", {"model_type": "mistral"}, "model_type of texts is mistral"),
        (LLAVA, None, {"projector_hidden_act": "relu"}, "projector_hidden_act is relu"),
        (LLAVA, None, {"vision_feature_select_strategy": "cls"}, "strategy"),
    ],
)
def test_another_model_than_ours_is_refused(repository, tmp_path, name, part, change, message):
    folder = _changed(repository(name), tmp_path, "config.json", part, change)
    with pytest.raises(ValueError, match=message):
        from_folder(folder, CATALOGUE[name])


@pytest.mark.parametrize(
    ("change", "message"),
    [({"resample": 2}, "resample is 2"), ({"crop_size": 48}, "the size of pictures is 48")],
)
def test_pictures_prepared_in_another_way_are_refused(repository, tmp_path, change, message):
    folder = _changed(repository(CLIP), tmp_path, "preprocessor_config.json", None, change)
    with pytest.raises(ValueError, match=message):
        from_folder(folder, CATALOGUE[CLIP])


def _changed(folder, to, file, part, change):
    for path in folder.iterdir():
        (to / path.name).symlink_to(path)
    about = json.loads((folder / file).read_text("utf8"))
    (about if part is None else about[part]).update(change)
    (to / file).unlink()
    (to / file).write_text(json.dumps(about), "utf8")
    return to


def test_what_would_not_fit_is_refused_before_anything_is_asked(monkeypatch):
    def fail(*given):
        raise AssertionError("the hub was asked")

    found = SimpleNamespace(repo=CLIP, commit="a" * 40, note="", missing=10**12)
    monkeypatch.setattr(loading.files, "kept", lambda *given, **how: None)
    monkeypatch.setattr(loading.files, "find", lambda *given: found)
    monkeypatch.setattr(loading.files, "fetch", fail)
    told = []
    with pytest.raises(HubError, match="needs 1000.0 GB of disk, and .* are free .*nothing was"):
        load(CLIP, "cpu", say=told.append)
    assert told == [f"{CLIP} at aaaaaaa: 1000.0 GB to fetch, 605 MB of memory"]
    little = SimpleNamespace(available=10**8)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    with pytest.raises(HubError, match="needs 666 MB of memory on cpu, and 100 MB are free"):
        load(CLIP, "cpu", say=told.append)
    with pytest.raises(HubError, match="'gpt-4' is not among what can be loaded: openai/clip"):
        load("gpt-4")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(HubError, match="torch finds no GPU here"):
        load(CLIP, "cuda")


def test_four_bits_are_for_language_models_and_need_their_library(monkeypatch):
    with pytest.raises(HubError, match="not held in four bits; only LLaVA's"):
        load(CLIP, "cpu", four_bit=True)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(HubError, match="pip install bitsandbytes, or four_bit=False"):
        load(LLAVA, "cpu", four_bit=True)


@pytest.mark.filterwarnings("ignore:_check_is_size")  # which older versions of the library call
@torch.no_grad()
def test_a_llava_in_four_bits_says_nearly_the_same(repository):
    pytest.importorskip("bitsandbytes")
    whole, processor = from_folder(repository(LLAVA), CATALOGUE[LLAVA])
    packed, _ = from_folder(repository(LLAVA), CATALOGUE[LLAVA], packed=True)
    assert packed.text.blocks[1].mlp.up.weight.dtype == torch.uint8
    pixels = torch.rand(1, 3, 32, 32)
    ids = whole.prompts([[{"role": "user", "content": TEXTS[1]}]], processor, 1)
    logits = [
        one.text.next_logits(one.read(ids, one.see(pixels)).feats).flatten().float()
        for one in (whole, packed)
    ]
    assert 0.8 < torch.corrcoef(torch.stack(logits))[0, 1] < 0.99999


@torch.no_grad()
def test_what_a_captioner_could_have_said_stands_at_its_place(both):
    _, ours, processor = both(CAPTION)
    pieces, offered = ours.candidates(torch.rand(1, 3, 32, 32), processor)
    assert len(pieces) == len(offered)
    assert [likely[0][0] for likely in offered] == pieces  # greedy took the likeliest
