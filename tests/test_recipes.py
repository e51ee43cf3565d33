"""A recipe run today makes what is shipped, byte for byte, and writes nowhere else."""

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from vlmbook import tokenizer, world
from vlmbook.world.language import template_names

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "tokenizer.py"


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """The folder that the whole recipe wrote, run as a person runs it but from elsewhere."""
    here, out = tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("out")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", str(RECIPE), "--out", str(out)]
    subprocess.run(command, cwd=here, env=env, check=True, capture_output=True)
    assert not list(here.iterdir())
    return out


@pytest.fixture
def smoke(monkeypatch, tmp_path):
    """Runs the recipe here in little, with a shipped folder that may be spoilt."""
    shipped = tmp_path / "shipped"
    monkeypatch.setattr(tokenizer, "SHIPPED", shipped)
    monkeypatch.chdir(tmp_path)

    def run(*options):
        monkeypatch.setattr(sys, "argv", [str(RECIPE), "--smoke", *map(str, options)])
        return runpy.run_path(str(RECIPE), run_name="__main__")

    return run


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_the_shipped_tokenizer_is_what_its_recipe_makes(full, name):
    assert (full / name).read_bytes() == (tokenizer.SHIPPED / name).read_bytes()


def record(folder):
    return json.loads((folder / "run.json").read_text("utf8"))


def test_the_record_tells_of_the_run(full):
    made, shipped = record(full), record(tokenizer.SHIPPED)
    for key in ("command", "seed", "texts", "characters", "vocab_size"):
        assert made[key] == shipped[key], key
    assert made.keys() == shipped.keys()
    assert made["vocab_size"] == len(tokenizer.load(full))


def test_smoke_writes_to_out_only(smoke, tmp_path, full):
    smoke("--out", tmp_path / "out")
    assert [f.name for f in tmp_path.iterdir()] == ["out"]
    names = {"tokenizer.json", "tokenizer_config.json", "run.json"}
    assert {f.name for f in (tmp_path / "out").iterdir()} == names
    text = "a red cube, 빨간 정육면체"
    made = tokenizer.load(tmp_path / "out")
    assert made.decode(made.encode(text)) == text
    little = record(tmp_path / "out")
    assert little["command"].endswith("--smoke") and little["texts"] < record(full)["texts"] / 20
    smoke()  # the default is the shipped folder, and the test would see it
    assert {f.name for f in tmp_path.iterdir()} == {"out", "shipped"}


def test_nothing_but_training_is_read(monkeypatch):
    read = []
    describe = world.describe

    def caption(scene, language="en", style="full", rng=None, **dials):
        said = describe(scene, language, style, rng, **dials)
        read.append((scene, said))
        return said.text

    monkeypatch.setattr(world, "caption", caption)
    texts = list(runpy.run_path(str(RECIPE))["corpus"](0.05))
    assert {scene.split for scene, _ in read} == {"train"}
    assert {scene.preset for scene, _ in read} == {"standard", "full"}
    for language in ("en", "ko"):
        used = {said.template for _, said in read if said.language == language}
        assert used == set(template_names(language, "seen"))
        assert used < set(template_names(language, "all"))
    korean = sum(bool(re.search("[가-힣]", t)) for t in texts)
    assert len(texts) / 4 < korean < len(texts) * 3 / 4
    assert {said.text for _, said in read} < set(texts)  # and questions with their answers
