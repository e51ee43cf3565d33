"""A section of a page with a real checkpoint: when it runs, and when its record is shown."""

import json

import pytest
import stand_in
import torch

from vlmbook import hub, world
from vlmbook.hub import Section, embed, photographs, wanted
from vlmbook.pretrained import HubError


@pytest.fixture(autouse=True)
def unset(monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "RECORDS", tmp_path)
    for name in ("VLMBOOK_HUB", "VLMBOOK_HUB_RECORD"):
        monkeypatch.delenv(name, raising=False)


FOUND = {"score": 0.5, "said": ["고양이"]}


def ask():
    print("openai/clip at 1234567: 0 MB to fetch")
    return FOUND


def forbidden():
    raise AssertionError("it ran")


def test_the_setting_decides(monkeypatch):
    for setting, expected in (("0", False), ("1", True)):
        monkeypatch.setenv("VLMBOOK_HUB", setting)
        assert wanted() is expected
    monkeypatch.setenv("VLMBOOK_HUB", "yes")
    with pytest.raises(ValueError, match="VLMBOOK_HUB is 'yes'; set it to one of 0, 1, auto"):
        wanted()


def test_left_alone_nothing_is_loaded(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with stand_in.Hub() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.address)
        assert not wanted()


def test_auto_takes_a_gpu_and_a_hub_that_answers(monkeypatch):
    monkeypatch.setenv("VLMBOOK_HUB", "auto")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with stand_in.Hub() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.address)
        for gpu in (False, True):
            monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
            assert wanted() is wanted(gpu) is gpu
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert not wanted(gpu=True)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    for nowhere in ("http://127.0.0.1:9", "no address"):
        monkeypatch.setenv("HF_ENDPOINT", nowhere)
        assert not wanted(gpu=True)


def test_what_ran_is_kept_only_if_asked_and_shown_where_it_does_not_run(
    monkeypatch, tmp_path, capsys
):
    section = Section("clip").run(forbidden)
    assert not section and section.found is None
    assert capsys.readouterr().out == "not run (VLMBOOK_HUB is 0), and there is no record\n"

    monkeypatch.setenv("VLMBOOK_HUB", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Section("clip").run(ask).found == FOUND and not list(tmp_path.iterdir())
    assert capsys.readouterr().out.startswith("ran here, on ")

    monkeypatch.setenv("VLMBOOK_HUB_RECORD", "1")
    ran = Section("clip").run(ask)
    text = (tmp_path / "clip.json").read_text("utf8")
    assert "고양이" in text and json.loads(text)["found"] == FOUND
    capsys.readouterr()

    monkeypatch.setenv("VLMBOOK_HUB", "0")
    shown = Section("clip").run(forbidden)
    assert shown and shown.found == FOUND and shown.about == ran.about
    said = capsys.readouterr().out
    first = f"recorded on {ran.about['date']}, on {ran.about['device']}\n"
    assert said == first + "    openai/clip at 1234567: 0 MB to fetch\n"
    assert dict(shown.items()) == FOUND and shown.about["transformers"]


def test_a_checkpoint_that_cannot_be_had_is_said_and_the_record_shown(
    monkeypatch, tmp_path, capsys
):
    def fail():
        raise HubError("the disk was full")

    monkeypatch.setenv("VLMBOOK_HUB", "1")
    assert not Section("clip").run(fail)
    assert capsys.readouterr().out == "not run (the disk was full), and there is no record\n"
    (tmp_path / "clip.json").write_text('{"date": "d", "device": "e", "found": {"a": 1}}', "utf8")
    assert Section("clip").run(fail).found == {"a": 1}
    assert capsys.readouterr().out == "recorded on d, on e\n"
    with pytest.raises(ZeroDivisionError):  # a mistake of the page is one
        Section("clip").run(lambda: 1 / 0)


class Halves(torch.nn.Module):
    """Embeds a picture as its mean color, and a text as its number."""

    def encode_image(self, pixels):
        assert len(pixels) <= 100
        return pixels.mean((2, 3))

    def encode_text(self, ids, mask):
        return ids.float()

    def batch(self, texts):
        return torch.tensor([[len(text)] for text in texts]), None


def test_scenes_and_texts_are_embedded_in_parts():
    scenes, texts = world.sample(3, "tiny") * 40, ["a" * n for n in range(130)]
    image, text = embed(Halves(), Halves(), scenes, texts, 16)
    assert image.shape == (120, 3) and text[:, 0].tolist() == list(range(130))
    assert [len(of) for of in embed(Halves(), Halves(), [], ["a"])] == [0, 1]
    torch.testing.assert_close(image[3:6], world.render(scenes[:3], 16).pixels.mean((2, 3)))


def test_what_needs_a_gpu_does_not_run_without(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("VLMBOOK_HUB", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not Section("llava").run(forbidden, gpu=True)
    assert capsys.readouterr().out == "not run (it needs a GPU), and there is no record\n"


def test_photographs_are_pixels():
    shown = photographs()
    assert list(shown) == ["a cat", "an astronaut", "a cup of coffee", "a rocket"]
    for pixels in shown.values():
        assert pixels.shape[:2] == (1, 3) and 0 <= pixels.min() < pixels.max() <= 1
