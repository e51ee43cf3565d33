"""A recipe run today makes what is shipped, byte for byte, and writes nowhere else."""

import json
import os
import re
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import command
import numpy as np
import pytest
import safetensors.torch
import torch

from vlmbook import blip, checkpoint, evaluate, retrieval, tokenizer, train, world
from vlmbook.world.language import template_names
from vlmbook.world.language.facts import Thing

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


CLIP = ROOT / "recipes" / "clip_mini.py"
BOOK = tokenizer.load()


@pytest.fixture(scope="module")
def clip_mini():
    return runpy.run_path(str(CLIP))


@pytest.fixture(params=[0, 1], ids=["first", "second"])
def stage(clip_mini, request):
    """A stage of six pictures a step."""
    whole = clip_mini["STAGES"][request.param]
    return replace(whole, settings=train.Settings(steps=9, batch=6))


@pytest.fixture
def drawn(clip_mini, stage, monkeypatch):
    """Some rows of a step, and the scenes and what was said of them."""
    told = []

    def caption(scene, language, *arguments, say=world.caption, **dials):
        told.append((scene, language, say(scene, language, *arguments, **dials)))
        return told[-1][2]

    monkeypatch.setattr(world, "caption", caption)

    def draw(step, start, stop):
        told.clear()
        batch = clip_mini["batch"](step, slice(start, stop), stage, BOOK, "cpu")
        return batch, list(told)

    return draw


def test_a_step_is_the_same_in_pieces(drawn):
    (pixels, ids, mask), _ = drawn(3, 0, 6)
    parts = [drawn(3, *ends) for ends in ((0, 2), (2, 6))]
    assert torch.equal(torch.cat([part[0] for part, _ in parts]), pixels)
    for half in (0, 1):  # English, then Korean
        pieces = [part[1].chunk(2)[half] for part, _ in parts]
        rows = [BOOK.decode(row) for piece in pieces for row in piece]
        assert rows == [BOOK.decode(row) for row in ids.chunk(2)[half]]
    assert pixels.shape == (6, 3, 64, 64) and ids.shape == mask.shape and len(ids) == 12
    assert not torch.equal(drawn(4, 0, 6)[0][0], pixels)


def test_pictures_and_captions_of_a_step_belong_together_and_to_training(drawn, stage):
    seen, counts = set(), {}
    for step in range(8):
        (pixels, ids, _), told = drawn(step, 0, 6)
        scenes = [scene for scene, *_ in told[:6]]
        assert [scene for scene, *_ in told[6:]] == scenes
        assert [language for _, language, _ in told] == ["en"] * 6 + ["ko"] * 6
        assert [BOOK.decode(row) for row in ids] == [BOOK.decode(BOOK.encode(t)) for *_, t in told]
        assert torch.equal(world.render(scenes).pixels, pixels)
        preset, _ = stage.mix[step % 4]
        assert {(s.split, s.preset, s.seed) for s in scenes} == {("train", preset, stage.seed)}
        seen |= {scene.index for scene in scenes}
        counts[step] = {len(scene) for scene in scenes}
    assert seen == set(range(48))  # none twice
    alike = [{num} for _, num in stage.mix[:3]]
    assert [counts[step] for step in (0, 1, 2, 4, 5, 6)] == alike * 2
    assert counts[3] | counts[7] == {1, 2, 3}


def test_the_stages_share_no_scene(clip_mini):
    first, second = clip_mini["STAGES"]
    assert first.seed != second.seed
    assert {preset for preset, _ in first.mix} == {"full"}
    assert {preset for preset, _ in second.mix} == {"full", "standard"}


def test_captions_are_of_the_declared_mix(clip_mini, monkeypatch):
    asked = {"en": [], "ko": []}

    def caption(scene, language, style, rng, completeness, relations):
        asked[language].append((style == "partial", relations, completeness, rng.random()))
        return str(asked[language][-1])

    monkeypatch.setattr(world, "caption", caption)
    scenes = world.sample(400, "full", num_objects=1)
    said = {k: [clip_mini["caption"](scene, k) for scene in scenes] for k in asked}
    assert said["en"] == [clip_mini["caption"](scene, "en") for scene in scenes]
    english, korean = (np.array(asked[k][:400]) for k in asked)
    for found in (english, korean):
        some, relations, completeness, chance = found.T
        assert some.mean() == pytest.approx(clip_mini["PARTIAL"], abs=0.07)
        assert relations.mean() == pytest.approx(clip_mini["RELATIONS"], abs=0.07)
        assert set(completeness) == {clip_mini["COMPLETENESS"]}
        assert len(set(chance)) == 400 and abs(np.corrcoef(some, relations)[0, 1]) < 0.15
    for one, other in zip(english.T[:2], korean.T[:2], strict=True):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.15  # one language does not tell of the other


class Oracle:
    """Knows which texts are true of a picture, and takes the first picture for everything."""

    mean = torch.zeros(())

    def __init__(self):
        self.known, self.asked = {}, set()

    def embed(self, texts):
        emb = torch.zeros(4000)
        for text in texts:
            emb[self.known.setdefault(BOOK.decode(BOOK.encode(text)), len(self.known))] = 1
        return emb

    def encode_text(self, ids, mask):
        texts = [BOOK.decode(row) for row in ids]
        self.asked.update(texts)
        return torch.stack([self.embed([text]) for text in texts])

    def encode_image(self, scenes):
        emb = torch.stack([self.embed(true_of(scene)) for scene in scenes])
        emb[0] += 2 * (len(scenes) == 250)  # the first of two parts
        return emb


def true_of(scene):
    if len(scene) > 1:
        return [world.caption(scene, language, relations=False) for language in ("en", "ko")]
    named = {"color": scene.objects[0].color, "shape": scene.objects[0].shape}
    return world.prompts("en", **named) + world.prompts("ko", **named)


def test_clip_mini_is_measured_right(clip_mini, monkeypatch):
    monkeypatch.setattr(world, "render", lambda scenes, device: SimpleNamespace(pixels=scenes))
    found = clip_mini["measure"](oracle := Oracle(), BOOK, 260)
    for name, told in found.items():
        few = "text to image" in name  # all find the first picture, and one text means it
        assert told.startswith("0.004 [" if few else "1.000 ["), name
    assert len(found) == 6 and oracle.asked == set(oracle.known)


def test_options_shorten_a_recipe_and_say_where_it_is_kept(monkeypatch):
    whole = train.Settings(steps=250, batch=64, warm_up=20)

    def read(*options):
        monkeypatch.setattr(sys, "argv", ["recipe.py", *options])
        given = command.read("some-mini", ("conv", "patch"))
        return given.out, given.state, command.changed(whole, given, batch=16)

    shipped, build = checkpoint.SHIPPED / "some-mini", Path("_build")
    assert read() == (shipped, build / "some-mini-conv", whole)
    little = replace(whole, steps=2, batch=16, warm_up=5)
    kept = build / "some-mini-patch-smoke"  # apart from the whole run's, which goes on from its own
    tried = build / "some-mini-smoke"  # what is shipped stays
    assert read("--smoke", "--stem", "patch") == (tried, kept, little)
    where = ["--out", "here", "--state", "there"]
    own = replace(little, steps=3, batch=8)
    given = read("--smoke", "--steps", "3", "--batch", "8", *where)
    assert given == (Path("here"), Path("there"), own)
    whole = replace(whole, steps=50)
    assert read("--smoke")[2].steps == 1  # not none


@pytest.fixture
def gone_on(monkeypatch, tmp_path, capsys, small_training):
    """Interrupts a recipe while it measures, and starts it again: the model and what is told of it.

    measuring is a function that it measures with, folders those that its stages are kept in.
    """
    out, kept = tmp_path / "out", tmp_path / "run"

    def start(script):
        little = ["--steps", "2", "--batch", "4", "--smoke", "--threads", "1"]
        where = ["--out", str(out), "--state", str(kept)]
        monkeypatch.setattr(sys, "argv", [str(script), *little, *where])
        runpy.run_path(str(script), run_name="__main__")

    def interrupt(*arguments, **how):
        raise KeyboardInterrupt

    def both(script, measuring, folders):
        monkeypatch.chdir(tmp_path)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(*measuring, interrupt)
            start(script)
        paths = [kept / folder / train.PROGRESS for folder in folders]
        before = [json.loads(path.read_text("utf8")) for path in paths]
        for path, progress in zip(paths, before, strict=True):
            path.write_text(json.dumps(progress | {"seconds": 1000.0}), "utf8")
        start(script)
        assert {path.name for path in tmp_path.iterdir()} == {"out", "run"}
        model, told = checkpoint.load(out)[0], checkpoint.run_of(out)
        assert json.loads(capsys.readouterr().out) == told
        assert told["seconds"] == 1000 * len(folders)  # nothing was trained again
        plans, losses = told.get("stages", [told.get("plan")]), told["loss"]
        if isinstance(plans, dict):  # stages with names
            plans, losses = plans.values(), list(losses.values())
        for progress, plan, loss in zip(before, plans, np.ravel(losses), strict=True):
            assert plan["settings"] == progress["settings"]
            assert plan["settings"]["precision"] == "bf16"
            assert loss == pytest.approx(sum(progress["loss"]) / 2, abs=1e-4)
        command = f"python recipes/{script.name} --steps 2 --batch 4 --smoke"
        assert told["command"].startswith(command) and told["processes"] == 1
        assert told["parameters"] == sum(weights.numel() for weights in model.parameters())
        last = safetensors.torch.load_file(kept / folders[-1] / "model.safetensors")
        for name, value in last.items():
            torch.testing.assert_close(model.state_dict()[name], value, atol=1e-3, rtol=1e-3)
        assert (out / "model.safetensors").stat().st_size < 2.1 * told["parameters"]
        return model, told

    return both


def test_clip_mini_goes_on_is_measured_and_saved(gone_on):
    _, told = gone_on(CLIP, (retrieval, "gallery"), ["stage-1", "stage-2"])
    assert (told["pictures"], told["seeds"]) == (16, [0, 0, 1])
    assert len(told["measured"]) == 6 and "R@1 of 100, text to image, ko" in told["measured"]


ENGLISH = ROOT / "recipes" / "clip_english.py"


def test_clip_english_goes_on_is_measured_and_saved(gone_on, tmp_path):
    _, told = gone_on(ENGLISH, (retrieval, "gallery"), [""])
    assert (told["pictures"], told["seeds"]) == (8, [0, 2])
    assert all(name.endswith(", en") for name in told["measured"]) and len(told["measured"]) == 3
    words = checkpoint.load(tmp_path / "out")[1]
    assert len(words) == 512
    assert len(words.encode("cube")) == 3 and len(words.encode("구")) > 4  # bytes, one by one


BLIP = ROOT / "recipes" / "blip_mini.py"


@pytest.fixture(scope="module")
def blip_mini():
    return runpy.run_path(str(BLIP))


@pytest.fixture
def plan(blip_mini):
    """The plan with six pictures a step."""
    return replace(blip_mini["PLAN"], settings=train.Settings(steps=9, batch=6))


def test_a_step_of_blip_mini_is_the_same_in_pieces(blip_mini, plan):
    def draw(step, start, stop):
        return blip_mini["batch"](step, slice(start, stop), plan, BOOK, "cpu")

    def texts(ids):
        return [BOOK.decode(row) for row in ids]

    whole, parts = draw(3, 0, 6), [draw(3, *ends) for ends in ((0, 2), (2, 6))]
    for name in ("pixels", "language", "about", "spoken"):
        pieces = [getattr(part, name) for part in parts]
        assert torch.equal(torch.cat(pieces), getattr(whole, name)), name
    for name in ("ids", "question", "answer"):
        pieces = [text for part in parts for text in texts(getattr(part, name))]
        assert pieces == texts(getattr(whole, name)), name
    rows = torch.cat([parts[0].picture, parts[1].picture + 2])
    assert torch.equal(rows, whole.picture)
    assert not torch.equal(draw(4, 0, 6).pixels[0], whole.pixels[0])


def test_what_blip_mini_is_told_is_true_of_the_picture(blip_mini, plan):
    seen, languages = set(), []
    for step in range(8):
        given = blip_mini["batch"](step, slice(0, 6), plan, BOOK, "cpu")
        num = plan.num_objects[step % 4]
        scenes = world.sample(6, "full", "train", plan.seed, num_objects=num, start=6 * step)
        assert torch.equal(world.render(scenes).pixels, given.pixels)
        for ids, language, scene in zip(given.ids, given.language.tolist(), scenes, strict=True):
            spoken = {blip.LANGUAGES["en"]: "en", blip.LANGUAGES["ko"]: "ko"}[language]
            text = blip_mini["caption"](scene, spoken)
            assert BOOK.decode(ids) == BOOK.decode(BOOK.encode(text))
            assert not world.parse(text, spoken).errors(scene)
            languages.append(spoken)
        for n, scene in enumerate(scenes):
            asked = blip_mini["questions"](scene)
            own = given.picture == n
            told = [BOOK.decode(row) for row in given.question[own]]
            assert told == [BOOK.decode(BOOK.encode(q.text)) for q in asked]
            answers = [BOOK.decode(row) for row in given.answer[own]]
            assert answers == [BOOK.decode(BOOK.encode(q.answer)) for q in asked]
            assert {q.family for q in asked} <= set(blip_mini["FAMILIES"]) and 2 <= len(asked) <= 4
            spoken = {blip.LANGUAGES[q.language] for q in asked}
            assert set(given.spoken[own].tolist()) == spoken
            seen.add(scene.index)
    assert seen == set(range(48)) and languages.count("en") == languages.count("ko") == 24


def test_scenes_that_show_or_say_the_same_have_the_same_numbers(blip_mini):
    scene, other = world.sample(2, "full", num_objects=2)
    turned = scene.with_objects(scene.objects[::-1])
    about = blip_mini["about"]
    assert about(scene, "a")[0] == about(turned, "b")[0] != about(other, "a")[0]
    assert about(scene, "a")[1] == about(other, "a")[1] != about(scene, "b")[1]


class Knowing:
    """Says and answers what is true of each scene, reads pairs right, and takes ITC to be blind."""

    device = torch.device("cpu")

    def __init__(self, wrong=()):
        self.wrong, self.asked = wrong, {}

    def caption(self, scenes, tokenizer, language):
        return [world.caption(s, language) for s in scenes]

    def answer(self, scenes, questions, tokenizer):
        asked = [self.asked[pair] for pair in zip(scenes, questions, strict=True)]
        return [blip.Answer("?" if q.family in self.wrong else q.answer, 1.0) for q in asked]

    def see(self, scenes):
        numbers = torch.tensor([[float(s.index)] for s in scenes])
        return SimpleNamespace(feats=numbers)

    def embed_image(self, feats):
        return torch.ones(len(feats), 1)

    def encode_text(self, ids, mask):
        self.texts = [BOOK.decode(row) for row in ids]
        return torch.ones(len(ids), 1)

    def match(self, ids, mask, feats):
        fits = [
            self.told[BOOK.decode(row)] == index
            for row, index in zip(ids, feats[:, 0], strict=True)
        ]
        return torch.tensor([[0.0, float(fit)] for fit in fits])


def test_blip_mini_is_measured_right(blip_mini, monkeypatch):
    monkeypatch.setattr(world, "render", lambda scenes, device: SimpleNamespace(pixels=scenes))
    scenes = retrieval.gallery(16)
    model = Knowing(wrong=("count",))

    def balanced(*arguments, draw=world.balanced_questions):
        pairs = draw(*arguments)
        model.asked |= {(scene, q.text): q for scene, q in pairs}
        return pairs

    monkeypatch.setattr(world, "balanced_questions", balanced)
    texts = [world.caption(scene, relations=False) for scene in scenes]
    model.told = {BOOK.decode(BOOK.encode(t)): s.index for t, s in zip(texts, scenes, strict=True)}
    found = blip_mini["measure"](model, BOOK, 16)
    for language in ("en", "ko"):
        assert found[f"captions, scene-graph F1, {language}"].startswith("1.000 [")
        for family in blip_mini["FAMILIES"]:
            told = found[f"answers, {family}, {language}"]
            assert told.startswith("0.000 [" if family == "count" else "1.000 ["), (family, told)
        share = 1 - 1 / len(blip_mini["FAMILIES"])
        assert found[f"answers, {language}"].startswith(f"{share:.3f} [")
        assert 0.1 < float(found[f"answers without a picture, {language}"][:5]) < 0.6
    assert found["R@1 of 16, text to image, ITC, en"].startswith("0.000 [")  # all alike: all miss
    assert found["R@1 of 16, text to image, ITC, then ITM, en"].startswith("1.000 [")


def test_blip_mini_goes_on_is_measured_and_saved(gone_on):
    model, told = gone_on(BLIP, (evaluate, "scene_graph"), ["."])
    assert (told["pictures"], told["seeds"], told["eye"]) == (8, [0, 2], "clip-mini")
    assert len(told["measured"]) == 26 and told["parameters"] < 7e6
    eye = checkpoint.load("clip-mini")[0].image.state_dict()
    for name, value in model.image.state_dict().items():  # two steps take it nowhere else
        torch.testing.assert_close(value, eye[name], atol=0.01, rtol=0.05)


LLAVA = ROOT / "recipes" / "llava_mini.py"


@pytest.fixture(scope="module")
def llava_mini():
    return runpy.run_path(str(LLAVA))


def stage_of(llava_mini, name):
    """A stage with six scenes a step."""
    return replace(llava_mini["STAGES"][name], settings=train.Settings(steps=9, batch=6))


@pytest.mark.parametrize("name", ["text", "align", "instruct"])
def test_a_step_of_llava_mini_is_the_same_in_pieces(llava_mini, name):
    def draw(step, start, stop):
        given = llava_mini["batch"](step, slice(start, stop), stage_of(llava_mini, name), BOOK)
        rows = [ids[ids != tokenizer.PAD].tolist() for ids in given.ids]
        said = [t[i != tokenizer.PAD].tolist() for i, t in zip(given.ids, given.told, strict=True)]
        return rows, said, given.pixels

    whole, parts = draw(3, 0, 6), [draw(3, *ends) for ends in ((0, 2), (2, 6))]
    for n in (0, 1):
        assert whole[n] == [row for part in parts for row in part[n]]
    if name == "text":
        assert whole[2] is None and all(map(all, whole[1]))
        assert not any(tokenizer.IMAGE in row for row in whole[0])
    else:
        assert torch.equal(whole[2], torch.cat([part[2] for part in parts]))
        assert [row.count(tokenizer.IMAGE) for row in whole[0]] == [64] * 6
    assert draw(4, 0, 6)[0] != whole[0]


def test_what_llava_mini_is_told_is_true_of_the_scene(llava_mini):
    stage, kinds = stage_of(llava_mini, "instruct"), set()
    instructions = {text for pairs in llava_mini["DESCRIBE"].values() for text, _ in pairs}
    for scene in world.sample(150, "full", "train", 12, num_objects=(1, 3)):
        messages = llava_mini["conversation"](scene, stage.describes)
        assert messages == llava_mini["conversation"](scene, stage.describes)
        assert [m["role"] for m in messages] == ["user", "assistant"] * (len(messages) // 2)
        assert messages[0]["content"][0] == {"type": "image"}
        texts = [messages[0]["content"][1]["text"], *(m["content"] for m in messages[1:])]
        for question, answer in zip(texts[::2], texts[1::2], strict=True):
            language = "ko" if any("가" <= c <= "힣" for c in question) else "en"
            if question in instructions:
                kinds.add("describe")
                assert not world.parse(answer, language).errors(scene)
            elif "not there" in question or "없는 것은" in question:
                kinds.add("missing")
                assert answer in question
                there = {world.phrase(Thing(o.shape, o.color), language) for o in scene.objects}
                assert answer not in there and any(thing in question for thing in there)
            else:
                kinds.add("ask")
    assert kinds == {"describe", "missing", "ask"}


def test_told_alone_a_caption_stands_for_the_picture(llava_mini):
    stage = stage_of(llava_mini, "text")
    for scene in world.sample(20, "full", "train", 10, num_objects=(1, 3)):
        first = llava_mini["conversation"](scene, stage.describes, True)[0]["content"][0]["text"]
        language = "ko" if any("가" <= c <= "힣" for c in first) else "en"
        facts = world.parse(first, language)
        assert not facts.errors(scene) and len(facts.things) == len(scene)


def test_llava_mini_goes_on_is_saved_and_measured_again(gone_on, monkeypatch):
    model, told = gone_on(LLAVA, (evaluate, "scene_graph"), ["text", "align", "instruct"])
    assert (told["scenes"], told["eye"]) == (24, "clip-mini")
    assert told["seeds"] == [0, 10, 11, 12] and set(told["loss"]) == {"text", "align", "instruct"}
    assert len(told["measured"]) == 24 and told["parameters"] < 7e6
    eye = checkpoint.load("clip-mini")[0].image.state_dict()
    for name, value in model.image.state_dict().items():
        assert torch.equal(value, eye[name]), name  # frozen: not a bit has changed
    before = Path("out/model.safetensors").read_bytes()
    Path("out/run.json").write_text(json.dumps(told | {"measured": {}}), "utf8")
    monkeypatch.setattr(sys, "argv", [str(LLAVA), "--measure", "--smoke", "--out", "out"])
    runpy.run_path(str(LLAVA), run_name="__main__")
    assert Path("out/model.safetensors").read_bytes() == before
    again = json.loads(Path("out/run.json").read_text("utf8"))
    assert again.pop("measured_by").keys() == {"commit", "date"}
    assert again == told


READERS = ROOT / "recipes" / "readers.py"


@pytest.fixture(scope="module")
def readers():
    return runpy.run_path(str(READERS))


def test_what_readers_learn_from_is_true_balanced_and_in_both_languages(readers):
    num = 600
    objects, present, of, ids, mask, answers = readers["asked"](num)
    scenes = world.sample(num, "full", "train", 300, (1, 3))
    assert present.sum(1).tolist() == [len(scene) for scene in scenes]
    told = [BOOK.decode(row[own]) for row, own in zip(ids, mask, strict=True)]
    said = [readers["ANSWERS"][n] for n in answers.tolist()]
    groups, met = {}, 0
    for scene, text, answer in zip(of.tolist(), told, said, strict=True):
        assert ("가" <= max(text) <= "힣") == bool(
            scene % 2
        )  # every second scene is asked in Korean
        if "how many" in text.lower():
            groups.setdefault("count", []).append(answer)
        found = re.fullmatch(r"is there an? (\w+) (\w+)\?", text.lower())
        if found:
            there = any((o.color, o.shape) == found.groups() for o in scenes[scene].objects)
            assert answer == ("yes" if there else "no")
            met += 1
    assert met > 50
    frequent = np.unique(groups["count"], return_counts=True)[1]
    assert len(set(frequent)) == 1  # each number as often


def test_a_step_of_the_readers_is_the_same_in_pieces(readers):
    settings, data = train.Settings(steps=9, batch=6), readers["asked"](200)
    whole = readers["drawn"](2, slice(0, 6), settings, data)
    parts = [readers["drawn"](2, slice(*ends), settings, data) for ends in ((0, 2), (2, 6))]
    assert torch.equal(torch.cat([part[4] for part in parts]), whole[4])
    assert torch.equal(torch.cat([part[0] for part in parts]), whole[0])
    other = readers["drawn"](3, slice(0, 6), settings, data)
    assert not torch.equal(other[0], whole[0])


def test_a_reader_goes_on_and_is_saved_with_how_its_loss_fell(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    argv = [str(READERS), "--smoke", "--joint", "late", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", argv)
    runpy.run_path(str(READERS), run_name="__main__")
    folder = tmp_path / "out" / "reader-late"
    first = record(folder)
    assert [len(curve) for curve in first["curve"]] == [40]
    assert first["curve"][0][0] > first["curve"][0][-1]
    model, _ = checkpoint.load(folder)
    assert model.config.joint == "late" and first["parameters"] > 200_000
    progress = tmp_path / "_build" / "reader-late-smoke" / "progress.json"
    progress.write_text(json.dumps(json.loads(progress.read_text()) | {"seconds": 500.0}))
    runpy.run_path(str(READERS), run_name="__main__")
    assert record(folder)["seconds"] == 500  # nothing was trained again
