"""The world as data: rendered once, whole or not at all, and readable by others."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset

from vlmbook import world
from vlmbook.world import dataset


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VLMBOOK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class First(IterableDataset):
    """The first thirty that each worker gives, so that both come to an end by themselves."""

    def __init__(self, stream):
        super().__init__()
        self.stream = stream

    def __iter__(self):
        return islice(self.stream, 30)


def keep(items):
    return items


def test_map_style_items_agree_with_the_renderer():
    data = world.SceneDataset(20, "full", "val", language="ko")
    scenes = world.sample(20, "full", "val")
    batch = next(iter(DataLoader(data, batch_size=8, shuffle=False, collate_fn=keep)))
    assert [item["scene"] for item in batch] == scenes[:8]
    assert torch.equal(torch.stack([i["pixels"] for i in batch]), world.render(scenes[:8]).pixels)
    assert [i["caption"] for i in batch] == [world.caption(s, "ko") for s in scenes[:8]]
    assert data[3]["index"] == 3 and len(data) == 20
    with pytest.raises(IndexError, match="no scene 20 among 20"):
        data[20]


def test_stream_workers_share_the_scenes():
    stream = world.SceneStream("tiny", seed=4, size=16)
    alone = [item["index"] for item, _ in zip(stream, range(70), strict=False)]
    assert alone == list(range(70))
    loader = DataLoader(
        First(stream),
        batch_size=10,
        num_workers=2,
        collate_fn=keep,
        multiprocessing_context="spawn",
    )
    shared = [item["index"] for batch in loader for item in batch]
    assert sorted(shared) == list(range(60))
    with pytest.raises(ValueError, match="split 'dev' does not exist"):
        world.SceneStream(split="dev")


def test_cached_renders_once(cache, monkeypatch):
    first = world.cached("val", 30, "full", 32)
    expected = world.render(first.scenes, 32)
    assert np.array_equal(first.uint8, expected.to_uint8().permute(0, 3, 1, 2).numpy())
    assert np.array_equal(first.visible, expected.visible.numpy())
    assert (first.pixels([1, 5]) - expected.pixels[[1, 5]]).abs().max() <= 0.5 / 255 + 1e-6

    monkeypatch.setattr(dataset, "render", lambda *a, **k: pytest.fail("rendered again"))
    again = world.cached("val", 30, "full", 32)
    assert isinstance(again.uint8, np.memmap) and np.array_equal(again.uint8, first.uint8)
    with pytest.raises(pytest.fail.Exception, match="rendered again"):
        world.cached("val", 30, "full", 32, seed=1)


def test_cached_notices_another_renderer(cache, monkeypatch):
    world.cached("val", 4, size=16)
    monkeypatch.setattr(dataset, "_source_hash", lambda: "other")
    world.cached("val", 4, size=16)
    assert len([f for f in cache.iterdir() if f.is_dir()]) == 2


def test_a_failed_rendering_leaves_nothing(cache, monkeypatch):
    def broken(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(dataset, "render", broken)
        with pytest.raises(KeyboardInterrupt):
            world.cached("val", 4, size=16)
    assert not [f for f in cache.iterdir() if f.is_dir()]
    assert len(world.cached("val", 4, size=16)) == 4


def test_a_killed_rendering_is_completed_by_the_next(cache):
    code = (
        "import time; from vlmbook.world import dataset\n"
        "whole = dataset.render\n"
        "def slow(*a, **k):\n"
        "    view = whole(*a, **k); print('one', flush=True); time.sleep(60); return view\n"
        "dataset.render = slow\n"
        "dataset.cached('val', 4, size=16)"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env=os.environ.copy()
    )
    assert writer.stdout.readline() == b"one\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    assert [f for f in cache.iterdir() if f.name.endswith(".partial")]
    assert len(world.cached("val", 4, size=16).uint8) == 4
    assert not [f for f in cache.iterdir() if f.name.endswith(".partial")]


def _ask(num):
    return world.cached("test", num, "full", 32).uint8.sum()


def test_two_at_once_do_no_harm(cache):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        sums = pool.map(_ask, [400, 400])
    assert sums[0] == sums[1] == world.cached("test", 400, "full", 32).uint8.sum()
    assert len([f for f in cache.iterdir() if f.is_dir()]) == 1


def opened(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_export_can_be_read_back(tmp_path):
    scenes = world.sample(12, "full", "test")
    folder = world.export(scenes, tmp_path / "set", size=48, num_captions=2)
    rows = world.load_exported(folder)
    assert [r.scene for r in rows] == scenes
    view = world.render(scenes, 48, supersample=2)
    for b, row in enumerate(rows):
        assert np.array_equal(opened(row.image), view.to_uint8()[b].numpy())
        mask = opened(row.mask)
        for n in range(len(scenes[b])):
            assert np.array_equal(mask == n + 1, view.visible[b, n].numpy())
        assert set(row.captions) == {"en", "ko"} and len(row.captions["en"]) == 2
    with pytest.raises(FileExistsError, match="exists already; choose a new folder"):
        world.export(scenes, folder)


def test_export_opens_as_a_hugging_face_dataset(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    scenes = world.sample(6, "full", "test")
    folder = world.export(scenes, tmp_path / "set", size=32)
    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(folder), split="train", cache_dir=str(tmp_path / "hf")
    )
    assert {"image", "mask", "captions_en", "captions_ko", "scene"} <= set(loaded.column_names)
    row = loaded[2]
    assert world.Scene.from_json(row["scene"]) == scenes[2]
    assert row["image"].size == row["mask"].size == (32, 32)
    assert row["captions_ko"] == world.captions(scenes[2], 1, "ko")


def test_an_interrupted_export_leaves_nothing(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(
            Image.Image, "save", lambda *a, **k: (_ for _ in ()).throw(OSError("disk full"))
        )
        with pytest.raises(OSError, match="disk full"):
            world.export(world.sample(3), tmp_path / "set", size=32)
    assert not [f for f in tmp_path.iterdir() if f.is_dir()]
    world.export(world.sample(3), tmp_path / "set", size=32)


def test_a_spoilt_export_names_the_line(tmp_path):
    folder = world.export(world.sample(3), tmp_path / "set", size=32)
    path = folder / "metadata.jsonl"
    lines = path.read_text("utf8").splitlines()
    row = json.loads(lines[1])
    row["scene"] = row["scene"].replace('"objects"', '"things"')
    path.write_text("\n".join([lines[0], json.dumps(row), lines[2]]), "utf8")
    with pytest.raises(ValueError, match="line 2: scene has a field 'things'"):
        world.load_exported(folder)
    with pytest.raises(FileNotFoundError, match="no metadata.jsonl"):
        world.load_exported(tmp_path)
