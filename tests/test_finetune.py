import json
import random

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPModel

from vlmbook import blip, checkpoint, clip, finetune, own_data, tokenizer, train, world

WORDS = tokenizer.load()
LITTLE = train.Settings(steps=3, batch=4, rate=1e-3, warm_up=1)


@pytest.fixture(scope="module")
def scenes():
    return world.sample(12, "standard", "train", num_objects=(1, 2))


@pytest.fixture(scope="module")
def folder(scenes, tmp_path_factory):
    """Twelve pictures, of other sizes than a model has, with two captions each."""
    folder = tmp_path_factory.mktemp("data")
    rng = random.Random(0)
    pixels = (world.render(scenes, 80).pixels * 255).round().byte().permute(0, 2, 3, 1).numpy()
    with (folder / "metadata.jsonl").open("w", encoding="utf8") as lines:
        for n, scene in enumerate(scenes):
            Image.fromarray(np.ascontiguousarray(pixels[n][: 80 - n])).save(folder / f"{n}.png")
            texts = [world.caption(scene, language, rng=rng) for language in ("en", "ko")]
            row = {"file_name": f"{n}.png", "text": texts, "split": "val" if n > 8 else "train"}
            lines.write(json.dumps(row) + "\n")
    return folder


@pytest.fixture
def data(folder):
    return own_data.read(folder)


def small(kind, stem="conv"):
    torch.manual_seed(0)
    sizes = {"image_width": 16, "image_depth": 1, "text_width": 16, "text_depth": 1}
    if kind == "clip":
        config = clip.Config(len(WORDS), stem=stem, shared=8, **sizes)
        return clip.build(config).eval(), config
    config = blip.nano(len(WORDS))
    return blip.build(config).eval(), config


def changed(before, model):
    """Which weights are others than before."""
    now = model.state_dict()
    assert now.keys() == before.keys()
    return {name for name, value in before.items() if not torch.equal(value, now[name])}


def test_projections_change_the_last_maps_alone(data, small_training):
    model, _ = small("clip")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    finetune.tune(model, WORDS, data, "projections", LITTLE)
    assert changed(before, model) == {"from_image.weight", "from_text.weight", "log_scale"}


def test_what_the_projections_learn_is_what_the_whole_model_would(data, small_training):
    model, _ = small("clip")
    history = finetune.tune(model, WORDS, data, "projections", LITTLE)
    whole, _ = small("clip")
    for name, weights in whole.named_parameters():
        weights.requires_grad_(name in ("from_image.weight", "from_text.weight", "log_scale"))
    rows = data.rows("train")
    pixels = finetune.pixels_of(data, rows, whole.size)

    def batch(step, part):
        rng = random.Random(f"0/{step}")
        some = rng.sample(range(len(rows)), 4)
        texts = [rng.choice(data.captions[rows[n]]) for n in some]
        return pixels[some], *WORDS.batch(texts)

    torch.manual_seed(0)
    other = train.fit(whole, train.contrastive, batch, LITTLE)
    np.testing.assert_allclose(history.loss, other.loss, atol=1e-4)


@pytest.mark.parametrize("kind", ["clip", "blip"])
def test_lora_is_added_to_the_weights_and_can_be_saved(kind, data, tmp_path, small_training):
    model, config = small(kind)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    finetune.tune(model, WORDS, data, "lora", LITTLE)
    others = changed(before, model) - {"met"}
    assert others and all(
        name.removesuffix(".weight").endswith(tuple(finetune.MAPS)) for name in others
    )
    measured = finetune.measure(model, WORDS, data)
    again, words = checkpoint.load(finetune.save(tmp_path / "own", model, WORDS, config, {}))
    assert changed(model.state_dict(), again) == set()
    for name, values in finetune.measure(again, words, data).values.items():
        np.testing.assert_allclose(values, measured.values[name], atol=1e-5)


def test_a_model_with_a_patch_stem_opens_in_transformers(data, tmp_path):
    model, config = small("clip", "patch")
    folder = finetune.save(tmp_path / "own", model, WORDS, config, {}) / "transformers"
    theirs = CLIPModel.from_pretrained(folder)
    ids, mask = WORDS.batch(["a red cube", "파란 구"])
    pixels = torch.rand(2, 3, 64, 64)
    image, text, scale = model(pixels, ids, mask)
    found = theirs(input_ids=ids, attention_mask=mask.long(), pixel_values=model.prepare(pixels))
    torch.testing.assert_close(found.logits_per_image, scale * image @ text.T, atol=1e-4, rtol=1e-4)
    assert tokenizer.load(folder).encode("a red cube") == WORDS.encode("a red cube")


def test_a_clip_is_measured_by_all_pictures_that_a_caption_fits(data):
    model, _ = small("clip")
    same = own_data.Data(
        data.pictures, [["all the same"]] * len(data), ["val"] * len(data), data.remarks
    )
    assert finetune.measure(model, WORDS, same).values["R@1"].tolist() == [1.0] * 12
    own = finetune.measure(model, WORDS, data).values
    assert len(own["R@1"]) == 6 and own["R@10"].tolist() == [1.0] * 6  # of three pictures


def test_the_surprise_of_a_blip_is_that_of_its_tokens(data):
    model, _ = small("blip")
    found = finetune.measure(model, WORDS, data).values["surprise"]
    pixels = finetune.pixels_of(data, data.rows("val"), model.config.size)
    with torch.no_grad():
        feats = model.see(pixels).feats
        texts = [data.captions[row] for row in data.rows("val")]
        wanted = []
        for n, both in enumerate(texts):
            for language, text in zip(("en", "ko"), both, strict=True):
                ids, mask = WORDS.batch([text])
                told = model.log_prob(ids, mask, feats[n : n + 1], language)
                wanted.append(-told.item() / (ids.shape[1] - 1))
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_the_command_says_what_it_did(folder, tmp_path, capsys, small_training):
    model, config = small("clip")
    checkpoint.save(tmp_path / "mine", model, config, {})
    out = tmp_path / "out"
    finetune.main(
        [str(folder), "--model", str(tmp_path / "mine"), "--out", str(out), "--steps", "2"]
    )
    said = capsys.readouterr().out
    assert "9 pictures to learn from, 3 to test with" in said
    assert "3 are few to test with" in said
    assert "before: R@1 " in said and "after:  R@1 " in said
    run = checkpoint.run_of(out)
    assert run["from"] == str(tmp_path / "mine") and run["way"] == "projections"
    assert run["before"] in said and run["after"] in said
    assert len(checkpoint.load(out)[1]) == len(WORDS)


def test_what_can_not_be_done_is_said_before_anything_is_written(folder, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(SystemExit, match="has no captions; it needs one of"):
        finetune.main([str(tmp_path), "--out", str(out)])
    with pytest.raises(SystemExit, match="no-such-model"):
        finetune.main([str(folder), "--model", "no-such-model", "--out", str(out)])
    assert not out.exists()
    model, _ = small("blip")
    with pytest.raises(ValueError, match="a Blip can't learn 'projections'; choose lora"):
        finetune.tune(model, WORDS, own_data.read(folder), "projections")


def test_captions_that_are_too_long_and_empty_splits_are_told_before_training(data):
    model, _ = small("clip")
    places = model.text.place.num_embeddings
    long = "a cube " * places
    captions = [[long, *own] if n == 1 else own for n, own in enumerate(data.captions)]
    wrong = own_data.Data(data.pictures, captions, ["val"] * len(data), own_data.Report())
    with pytest.raises(own_data.DataError) as told:
        finetune.tune(model, WORDS, wrong)
    assert f"1 x caption of more than the {places} tokens" in str(told.value)
    assert long[:40] in str(told.value)
    assert "1 x split without a picture: train" in str(told.value)
    with pytest.raises(ValueError, match="no picture is in the split 'test'"):
        finetune.measure(model, WORDS, data, "test")


def test_a_single_picture_is_measured_without_an_interval(data):
    model, _ = small("clip")
    rows = data.rows("val")[:1]
    one = own_data.Data(
        [data.pictures[n] for n in rows], [["a red cube"]], ["val"], own_data.Report()
    )
    assert str(finetune.measure(model, WORDS, one)) == "R@1 1.0; R@10 1.0"


def test_the_command_takes_a_dataset_that_was_saved(folder, tmp_path, capsys, small_training):
    datasets = pytest.importorskip("datasets")
    data = own_data.read(folder)
    rows = {"photo": [str(p) for p in data.pictures], "title": [c[0] for c in data.captions]}
    features = {"photo": datasets.Image(), "title": datasets.Value("string")}
    saved = datasets.Dataset.from_dict(rows, datasets.Features(features))
    saved.train_test_split(0.25, seed=0).save_to_disk(tmp_path / "saved")
    model, config = small("clip")
    checkpoint.save(tmp_path / "mine", model, config, {})
    out = tmp_path / "out"
    given = [str(tmp_path / "saved"), "--model", str(tmp_path / "mine"), "--out", str(out)]
    with pytest.raises(SystemExit, match="12 x item without image and text"):
        finetune.main(given)
    assert not out.exists()
    finetune.main([*given, "--picture", "photo", "--caption", "title", "--steps", "2"])
    assert "8 pictures to learn from, 1 to test with" in capsys.readouterr().out
    assert out.is_dir()


def test_a_dataset_that_is_not_on_the_hub_is_said(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")

    def missing(name):
        raise FileNotFoundError(f"Dataset '{name}' doesn't exist on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", missing)
    with pytest.raises(SystemExit, match="the dataset no/such can't be loaded: Dataset 'no/such'"):
        finetune.main(["no/such", "--hub", "--out", str(tmp_path / "out")])
