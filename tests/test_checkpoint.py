"""A checkpoint comes back as it was saved, or not at all."""

import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vlmbook import checkpoint, clip, tokenizer
from vlmbook.checkpoint import CheckpointError

CONFIG = clip.Config(832, image_width=32, text_width=32, image_depth=1, text_depth=1, shared=16)
RUN = {"command": "python recipes/none.py", "seed": 0}


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    model = clip.build(CONFIG, mean=(0.4, 0.5, 0.6)).eval()
    return model, checkpoint.save(tmp_path / "model", model, CONFIG, RUN)


def says(model):
    """What a model makes of one batch."""
    torch.manual_seed(1)
    with torch.no_grad():
        return torch.cat(model(torch.rand(2, 3, 64, 64), *tokenizer.load().batch(["a", "구"]))[:2])


def test_what_was_saved_comes_back(saved):
    model, folder = saved
    again, words = checkpoint.load(folder)
    assert torch.equal(says(again), says(model)) and not again.training
    assert torch.equal(again.mean, model.mean)
    assert len(words) == 832 and checkpoint.run_of(str(folder)) == RUN
    assert sorted(p.name for p in folder.parent.iterdir()) == ["model"]  # nothing is left over
    assert sorted(p.name for p in folder.iterdir()) == sorted(checkpoint.FILES)


def test_halves_take_half_the_bytes_and_come_back_whole(saved):
    model, folder = saved
    half = checkpoint.save(folder.with_name("half"), model, CONFIG, RUN, half=True)
    size = [(f / "model.safetensors").stat().st_size for f in (half, folder)]
    assert size[0] < 0.6 * size[1]
    again, _ = checkpoint.load(half)
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    torch.testing.assert_close(says(again), says(model), atol=2e-3, rtol=0)
    assert not torch.equal(says(again), says(model))


def test_saving_again_keeps_what_else_is_there(saved):
    model, folder = saved
    (folder / "README.md").write_text("a model card")
    tokenizer.train(["a b a b a b"], 266).save(folder)
    with torch.no_grad():
        model.log_scale += 1
    checkpoint.save(folder, model, CONFIG, RUN | {"seed": 1})
    again, words = checkpoint.load(folder)
    assert torch.equal(again.log_scale, model.log_scale)
    assert (folder / "README.md").read_text() == "a model card"
    assert len(words) == 266 and checkpoint.run_of(folder)["seed"] == 1


def test_an_interrupted_save_leaves_the_last_good_one(saved, monkeypatch):
    model, folder = saved
    before = says(model)

    def killed(self, *arguments, **how):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", killed)
        with torch.no_grad():
            model.log_scale += 1
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(folder, model, CONFIG, RUN)
    assert torch.equal(says(checkpoint.load(folder)[0]), before)
    (folder.with_name(".model.old") / "x").mkdir(parents=True)
    checkpoint.save(folder, model, CONFIG, RUN)  # what is left over is no obstacle
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


def test_a_writer_killed_between_two_renamings_loses_nothing(saved, monkeypatch):
    model, folder = saved
    (folder / "README.md").write_text("a card")
    rename = Path.rename

    def killed(self, target):
        if self.name == ".model.partial":
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(folder, model, CONFIG, RUN)
    assert not folder.exists()
    checkpoint.save(folder, model, CONFIG, RUN)
    assert (folder / "README.md").read_text() == "a card"


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def altered(path):
    data = bytearray(path.read_bytes())
    data[-7] ^= 1
    path.write_bytes(data)


def said(path, **fields):
    about = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({k: v for k, v in about.items() if v is not None}))


DAMAGE = {
    "cut off": (lambda f: cut(f / "model.safetensors", 5000), "model.safetensors is not the file"),
    "empty": (lambda f: cut(f / "model.safetensors", 0), "model.safetensors is not the file"),
    "one bit": (lambda f: altered(f / "model.safetensors"), "SHA-256 differs.*fetch or make it"),
    "no checksum": (lambda f: said(f / "config.json", sha256=None), "SHA-256 differs"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "safetensors can't be read .No"),
    "no config": (
        lambda f: (f / "config.json").unlink(),
        "neither a shipped model .* nor a folder",
    ),
    "half a config": (lambda f: cut(f / "config.json", 40), "config.json is no JSON"),
    "a list": (lambda f: (f / "config.json").write_text("[1]"), "should hold an object"),
    "kind": (lambda f: said(f / "config.json", kind="clap"), "kind 'clap'; known are clip"),
    "field": (lambda f: said(f / "config.json", color=1), "can't be loaded: .*'color'"),
    "size": (lambda f: said(f / "config.json", shared=17), "can't be loaded: .*size mismatch"),
    "depth": (lambda f: said(f / "config.json", text_depth=2), "can't be loaded: .*Missing key"),
    "value": (lambda f: said(f / "config.json", stem="x"), "can't be loaded: stem 'x' does not"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_told_in_a_sentence_before_any_weight_is_used(saved, damage):
    spoil, message = DAMAGE[damage]
    spoil(saved[1])
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoint.load(saved[1])
    assert "\n" not in str(caught.value) and str(saved[1]) in str(caught.value)
    assert caught.value.__cause__ is None


def test_names_that_are_not_there():
    with pytest.raises(CheckpointError, match="'clip-maxi' is neither a shipped model"):
        checkpoint.load("clip-maxi")
    with pytest.raises(CheckpointError, match="a dict builds no model known here; known are clip"):
        checkpoint.save("x", torch.nn.Linear(1, 1), {}, RUN)


def test_provenance_says_how_to_do_it_again(monkeypatch, tmp_path):
    script = checkpoint.SHIPPED.parents[1] / "recipes" / "clip_mini.py"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(script), "--out", "my clip"])
    told = checkpoint.provenance([3, 4])
    assert told["command"] == "python recipes/clip_mini.py --out 'my clip'"  # wherever it stands
    monkeypatch.chdir(script.parent)
    monkeypatch.setattr(sys, "argv", [script.name])
    assert checkpoint.provenance([])["command"] == "python recipes/clip_mini.py"
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "mine.py")])
    assert checkpoint.provenance([])["command"] == f"python {tmp_path}/mine.py"
    assert told["seeds"] == [3, 4] and json.loads(json.dumps(told)) == told
    assert told["date"] == datetime.date.today().isoformat()
    assert torch.__version__.startswith(told["torch"]) and "+" not in told["torch"]
    threads = f"CPU, {torch.get_num_threads()} threads"
    assert torch.cuda.is_available() or told["device"].endswith(threads)


def test_provenance_knows_the_commit_where_there_is_one(monkeypatch, tmp_path):
    def git(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        done = ["git", "-C", str(tmp_path), *who, *arguments]
        return subprocess.run(done, check=True, capture_output=True, text=True).stdout.strip()

    for name in [name for name in os.environ if name.startswith("GIT_")]:  # of a hook, say
        monkeypatch.delenv(name)
    monkeypatch.setattr(checkpoint, "__file__", str(tmp_path / "vlmbook" / "checkpoint.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert checkpoint.provenance([])["commit"] == "unknown"  # no repository
    git("init", "-q")
    assert checkpoint.provenance([])["commit"] == "unknown"  # nothing committed
    git("commit", "-q", "--allow-empty", "-m", "one")
    commit = checkpoint.provenance([])["commit"]
    assert len(commit) >= 7 and git("rev-parse", "HEAD").startswith(commit)
    monkeypatch.setenv("PATH", "")
    assert checkpoint.provenance([])["commit"] == "unknown"  # no git
