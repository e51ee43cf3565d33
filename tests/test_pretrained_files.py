"""Fetching from a hub that fails in every way it can: what is survived, and what is said."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import repositories
import stand_in
import torch
from huggingface_hub import constants

from vlmbook.hub import photographs
from vlmbook.pretrained import CATALOGUE, HubError, files, load, load_processor, loading

CLIP, LLAVA = "openai/clip-vit-base-patch32", "llava-hf/llava-1.5-7b-hf"
UNPINNED = "openai/clip-vit-base-patch16"
PINNED = CATALOGUE[CLIP].revision
BOTS = "b" * 40
WEIGHTS = "model.safetensors"

pytestmark = pytest.mark.usefixtures("small_training")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder with a small repository, one with a pickle in place of its weights, and a LLaVA."""
    here = tmp_path_factory.mktemp("repositories")
    repositories.make(here / "whole", CLIP)
    repositories.make(here / "llava", LLAVA, num_shards=3)
    (here / "pickle").mkdir()
    for path in (here / "whole").iterdir():
        if path.name != WEIGHTS:
            (here / "pickle" / path.name).symlink_to(path)
    (here / "pickle" / "pytorch_model.bin").write_bytes(b"not opened")
    return here


@pytest.fixture
def hub(monkeypatch, tmp_path, small):
    """A hub that has CLIP at its pinned revision, and an empty cache."""
    with stand_in.Hub() as made:
        made.repos[CLIP] = {PINNED: small / "whole"}
        made.take_over(monkeypatch, tmp_path / "cache")
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
        monkeypatch.setattr(time, "sleep", lambda seconds: None)  # before it tries again
        # What is served is smaller than what is published.
        monkeypatch.setattr(loading, "_check_memory", lambda *given: None)
        yield made


def halves():
    """Files of the cache that are no whole ones."""
    cache = Path(constants.HF_HUB_CACHE)
    found = [str(path) for path in cache.rglob("*") if "incomplete" in path.name]
    for link in cache.rglob("snapshots/*/*"):
        if not link.exists():
            found.append(str(link))
    return found


def fetched(told, name=CLIP):
    """Load, and give the model."""
    model, processor = load(name, "cpu", say=told.append)
    ids, mask = processor.batch(["a red cube"])
    if name != LLAVA:
        assert torch.isfinite(model.encode_text(ids, mask)).all()
    return model


def test_a_checkpoint_is_fetched_once_and_then_opened_without_the_hub(hub, monkeypatch):
    told = []
    first = fetched(told)
    size = sum(p.stat().st_size for p in hub.repos[CLIP][PINNED].iterdir())
    assert told[0].startswith(f"{CLIP} at b33cedf: {size / 1e6:.0f} MB to fetch, 605 MB of memory")
    assert hub.asked.count(WEIGHTS) == 1 and not halves()
    hub.repos.clear()
    num = len(hub.asked)
    second = fetched(told)
    assert "b33cedf: 0 MB to fetch" in told[1] and len(hub.asked) == num
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    third = fetched(told)
    for one in (second, third):
        same = zip(first.state_dict().values(), one.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in same)


def test_what_another_program_left_out_is_fetched(hub):
    fetched([])
    kept = Path(constants.HF_HUB_CACHE)
    for link in kept.rglob("snapshots/*/tokenizer_config.json"):
        link.resolve().unlink()
        link.unlink()
    hub.asked.clear()
    fetched([])
    assert hub.asked == ["tokenizer_config.json"]


def test_a_processor_alone_needs_no_weights(hub):
    told = []
    processor = load_processor(CLIP, told.append)
    assert processor.tokens("cat")[1] == "cat·" and WEIGHTS not in hub.asked
    assert told[0].endswith("MB to fetch, without weights")
    hub.asked.clear()
    load_processor(CLIP, told.append)
    assert hub.asked == [] and "b33cedf: 0 MB to fetch" in told[1]
    fetched([])
    assert hub.asked == [WEIGHTS]


def test_several_files_of_weights_are_put_together(hub, small):
    hub.repos[LLAVA] = {CATALOGUE[LLAVA].revision: small / "llava"}
    model = fetched([], LLAVA)
    assert model.config.text_groups == 4 and len([n for n in hub.asked if "-of-" in n]) == 3
    whole, _ = loading.from_folder(small / "llava", CATALOGUE[LLAVA], dtype=torch.bfloat16)
    assert torch.equal(whole.text.head.weight, model.text.head.weight)


def test_a_connection_that_is_cut_is_taken_up_again(hub):
    hub.cut[WEIGHTS] = [50_000, 60_000]
    fetched([])
    assert [name for name in hub.asked if name.startswith(WEIGHTS)] == [
        WEIGHTS,
        f"{WEIGHTS}[50000:]",
        f"{WEIGHTS}[110000:]",
    ]
    assert not halves()


def test_a_connection_that_is_always_cut_is_given_up_and_leaves_nothing(hub):
    hub.cut[WEIGHTS] = [0] * 100
    with pytest.raises(HubError, match=r"model.safetensors of openai.* can't be fetched from http"):
        fetched([])
    assert not halves()
    hub.cut.clear()
    fetched([])  # and the next call is right


def test_a_wrong_checksum_is_noticed(hub):
    hub.wrong[WEIGHTS] = 1
    fetched([])
    assert hub.asked.count(WEIGHTS) == 2 and not halves()


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_a_checksum_that_stays_wrong_is_an_error_and_leaves_nothing(hub, name):
    hub.wrong[name] = 100
    with pytest.raises(HubError, match=f"{name} of {CLIP} arrived with another checksum than"):
        fetched([])
    assert not list(Path(constants.HF_HUB_CACHE).rglob(name)) and not halves()
    hub.wrong.clear()
    fetched([])


def test_without_the_pinned_revision_the_default_branch_is_taken_and_said(hub):
    hub.repos[CLIP] = {stand_in.MAIN: hub.repos[CLIP][PINNED]}
    told = []
    fetched(told)
    assert (
        f"{CLIP} at fffffff (revision b33cedf is not there any more, taking the default branch at"
        " fffffff): "
    ) in told[0]


def test_where_the_default_branch_has_a_pickle_the_bots_safetensors_are_taken(hub, small):
    hub.repos[UNPINNED] = {stand_in.MAIN: small / "pickle", BOTS: small / "whole"}
    hub.branches["refs/pr/7"] = BOTS
    hub.offers[UNPINNED] = [7]
    told = []
    fetched(told, UNPINNED)
    assert "the default branch has no safetensors, taking refs/pr/7 at bbbbbbb" in told[0]
    assert "pytorch_model.bin" not in hub.asked
    hub.repos.clear()
    fetched(told, UNPINNED)  # no revision is pinned; what is in the cache will do
    assert "at bbbbbbb (whatever is in the cache): 0 MB to fetch" in told[1]


def test_a_pickle_alone_is_refused(hub, small):
    hub.repos[CLIP] = {stand_in.MAIN: small / "pickle"}
    with pytest.raises(HubError, match="a pickle alone, which can run code .* convert it with"):
        fetched([])
    assert hub.asked == []


def test_what_is_not_there_is_said(hub, small, monkeypatch):
    hub.gone.add("vocab.json")
    with pytest.raises(HubError, match=r"vocab.json of .* is listed by the hub and can't be fetch"):
        fetched([])
    hub.repos.clear()
    with pytest.raises(HubError, match=f"the hub at {hub.address} has no {LLAVA}"):
        fetched([], LLAVA)
    hub.gone.clear()
    hub.repos[CLIP] = {PINNED: small / "whole"}
    hub.gated.add(CLIP)
    with pytest.raises(HubError, match="asks for its licence to be accepted"):
        fetched([])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="is not in the cache, and HF_HUB_OFFLINE forbids"):
        fetched([], LLAVA)


def test_without_a_network_the_cache_will_do_or_the_reason_is_said(hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        HubError, match="can't be fetched from http://127.0.0.1:9 .* is there a net"
    ):
        fetched([])
    monkeypatch.setattr(constants, "ENDPOINT", hub.address)
    hub.repos[CLIP] = {stand_in.MAIN: hub.repos[CLIP][PINNED]}
    fetched([])
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    told = []
    fetched(told)
    assert f"{CLIP} at fffffff (whatever is in the cache): 0 MB to fetch" in told[0]


def test_a_hub_that_is_busy_is_asked_again(hub):
    hub.busy = 2
    fetched([])
    hub.repos[LLAVA], hub.busy = hub.repos[CLIP], 100
    with pytest.raises(HubError, match="can't be fetched from .*503"):
        fetched([], LLAVA)
    assert hub.busy > 50  # it gave up in time


def test_a_checkpoint_without_words_is_fetched_again(hub):
    fetched([])
    for link in Path(constants.HF_HUB_CACHE).rglob("snapshots/*/*"):
        if link.name in ("vocab.json", "merges.txt"):
            link.resolve().unlink()
            link.unlink()
    hub.asked.clear()
    fetched([])
    assert sorted(hub.asked) == ["merges.txt", "vocab.json"]


def test_a_checkpoint_that_lacks_a_file_is_refused_before_it_is_fetched(hub, small, tmp_path):
    for path in (small / "whole").iterdir():
        if path.name != "preprocessor_config.json":
            (tmp_path / path.name).symlink_to(path)
    hub.repos[CLIP] = {PINNED: tmp_path, stand_in.MAIN: tmp_path}
    with pytest.raises(HubError, match="no checkpoint .b33cedf has no preprocessor_config.json"):
        fetched([])
    assert hub.asked == []


def test_a_file_that_is_no_checkpoint_is_an_error_that_says_so(hub, small, tmp_path):
    for path in (small / "whole").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / WEIGHTS).write_bytes(b"\x08\0\0\0\0\0\0\0{}garbage")
    hub.repos[CLIP] = {PINNED: tmp_path}
    with pytest.raises(HubError, match=f"the files of {CLIP} can't be used: "):
        fetched([])


def test_the_hubs_own_switches_lead_the_way(hub, tmp_path):
    """In a process of its own, where nothing but the environment says where the hub is."""
    code = (
        "from vlmbook import pretrained as p, images\n"
        f"model, processor = p.load({CLIP!r}, 'cpu')\n"
        "print(tuple(model.encode_text(*processor.batch(['a red cube'])).shape))\n"
    )
    environment = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home")}
    environment |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "(1, 24)" and "b33cedf: " in run.stdout
    assert list((tmp_path / "home").rglob(f"snapshots/{PINNED}/{WEIGHTS}"))


@pytest.mark.slow
def test_a_checkpoint_of_the_published_size_is_fetched_and_loaded(hub, monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000_000)
    repositories.make(tmp_path / "large", CLIP, full=True)
    hub.repos[CLIP] = {PINNED: tmp_path / "large"}
    hub.cut[WEIGHTS] = [200_000_000]
    told = []
    model = fetched(told)
    assert sum(weight.numel() for weight in model.parameters()) == CATALOGUE[CLIP].parameters
    size = (tmp_path / "large" / WEIGHTS).stat().st_size
    assert size == pytest.approx(CATALOGUE[CLIP].num_bytes, rel=0.001)
    assert any(name.startswith(f"{WEIGHTS}[") for name in hub.asked)  # taken up where it was cut


@pytest.mark.network
@pytest.mark.parametrize("name", [one for one in CATALOGUE if one != LLAVA])
def test_what_is_published_is_what_the_catalogue_says(name):
    model, processor = load(name, "cpu")
    num = sum(weight.numel() for weight in model.parameters())
    assert abs(num - CATALOGUE[name].parameters) <= 1
    there = files.kept(name, CATALOGUE[name].revision)
    size = sum((there / one).stat().st_size for one in files.names_of_weights(there))
    assert size == pytest.approx(CATALOGUE[name].num_bytes, rel=0.001)
    if CATALOGUE[name].kind in ("clip", "siglip"):
        shown = photographs()
        text_emb = model.encode_text(*processor.batch([f"a photo of {of}" for of in shown]))
        for n, pixels in enumerate(shown.values()):
            assert (model.encode_image(pixels) @ text_emb.T).argmax() == n
