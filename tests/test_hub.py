"""A section of a page with a real checkpoint: when it runs, and when its record is shown."""

import json

import pytest
import stand_in
import torch

from vlmbook.hub import Section, photographs, wanted


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    for name in ("VLMBOOK_HUB", "VLMBOOK_HUB_RECORD"):
        monkeypatch.delenv(name, raising=False)


def ask():
    return {"score": 0.5, "said": ["고양이"]}


def forbidden():
    raise AssertionError("it ran")


def test_the_setting_decides(monkeypatch):
    for setting, expected in (("0", False), ("1", True)):
        monkeypatch.setenv("VLMBOOK_HUB", setting)
        assert wanted() is expected
    monkeypatch.setenv("VLMBOOK_HUB", "yes")
    with pytest.raises(ValueError, match="VLMBOOK_HUB is 'yes'; set it to one of 0, 1, auto"):
        wanted()


def test_left_alone_it_takes_a_gpu_and_a_hub_that_answers(monkeypatch):
    with stand_in.Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        for gpu in (False, True):
            monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
            assert wanted() is wanted(gpu) is gpu
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert not wanted(gpu=True)


def test_what_ran_is_kept_only_if_asked_and_shown_where_it_does_not_run(
    monkeypatch, tmp_path, capsys
):
    section = Section("clip").run(forbidden, tmp_path)
    assert not section and section.found is None
    assert capsys.readouterr().out == "not run: VLMBOOK_HUB=auto, and there is no record\n"

    monkeypatch.setenv("VLMBOOK_HUB", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Section("clip").run(ask, tmp_path).found == ask() and not list(tmp_path.iterdir())
    assert capsys.readouterr().out.startswith("ran here, on ")

    monkeypatch.setenv("VLMBOOK_HUB_RECORD", "1")
    ran = Section("clip").run(ask, tmp_path)
    text = (tmp_path / "clip.json").read_text("utf8")
    assert "고양이" in text and json.loads(text)["found"] == ask()
    capsys.readouterr()

    monkeypatch.setenv("VLMBOOK_HUB", "0")
    shown = Section("clip").run(forbidden, tmp_path)
    assert shown and shown.found == ask() and shown.about == ran.about
    said = capsys.readouterr().out
    assert said == f"recorded on {ran.about['date']}, on {ran.about['device']}\n"


def test_what_needs_a_gpu_does_not_run_without(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("VLMBOOK_HUB", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not Section("llava").run(forbidden, tmp_path, gpu=True)
    assert capsys.readouterr().out == "not run: it needs a GPU, and there is no record\n"


def test_photographs_are_pixels():
    shown = photographs()
    assert list(shown) == ["a cat", "an astronaut", "a cup of coffee", "a rocket"]
    for pixels in shown.values():
        assert pixels.shape[:2] == (1, 3) and 0 <= pixels.min() < pixels.max() <= 1
