import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vlmbook import checkpoint, clip, search

ROOT = Path(__file__).parent.parent


def model(seed=0):
    torch.manual_seed(seed)
    return clip.build(clip.Config(20, image_width=16, text_width=16, shared=8)).eval()


def emb(num, width=8, seed=0):
    return F.normalize(
        torch.randn(num, width, generator=torch.Generator().manual_seed(seed)), dim=1
    )


def names(num, first=0):
    return [f"scene {n}" for n in range(first, first + num)]


@pytest.mark.parametrize("kind", search.KINDS)
def test_the_nearest_are_those_of_all_dot_products(kind):
    items, queries = emb(500), emb(20, seed=1)
    found = search.build(kind, items, names(500), model()).find(queries, 5, effort=500)
    wanted = (queries @ items.T).topk(5)
    assert np.array_equal(found.rows, wanted.indices.numpy())
    np.testing.assert_allclose(found.scores, wanted.values, atol=1e-5)


def test_more_effort_finds_more():
    items, queries = emb(3000, 16), emb(200, 16, seed=1)
    exact = search.build("flat", items, names(3000), model()).find(queries)
    for kind, efforts in (("ivf", (1, 4, 219)), ("hnsw", (10, 30, 3000))):
        index = search.build(kind, items, names(3000), model())
        shares = [search.agreement(index.find(queries, effort=e), exact).mean() for e in efforts]
        assert shares[0] < shares[1] < shares[2] and shares[0] < 0.95 and shares[2] > 0.999, kind


def test_agreement_is_the_share_that_was_found():
    found = search.Found(np.array([[1, 2], [3, -1], [7, 8]]), np.zeros((3, 2)))
    exact = search.Found(np.array([[2, 1], [3, 4], [5, 6]]), np.zeros((3, 2)))
    assert search.agreement(found, exact).tolist() == [1, 0.5, 0]


@pytest.mark.parametrize("kind", search.KINDS)
def test_it_is_kept_opened_and_added_to(kind, tmp_path):
    items, queries = emb(300), emb(9, seed=1)
    index = search.build(kind, items[:200], names(200), model())
    index.save(tmp_path / "index")
    again = search.load(tmp_path / "index", model())
    assert (len(again), again.names, again.kind) == (200, names(200), kind)
    before, after = index.find(queries, 7), again.find(queries, 7)
    assert np.array_equal(before.rows, after.rows) and np.array_equal(before.scores, after.scores)
    again.add(items[200:], names(100, 200))
    again.save(tmp_path / "index")
    whole = search.load(tmp_path / "index", model()).find(queries, 7, effort=300)
    assert np.array_equal(whole.rows, (queries @ items.T).topk(7).indices.numpy())


def test_another_model_does_not_get_it(tmp_path):
    search.build("flat", emb(5), names(5), model()).save(tmp_path / "index")
    other = model(1)
    with pytest.raises(search.SearchError, match="is an index of embeddings by model [0-9a-f]{12}"):
        search.load(tmp_path / "index", other)
    one = model()
    with torch.no_grad():
        next(one.parameters()).add_(1e-3)
    with pytest.raises(search.SearchError, match="open it with the model that made it"):
        search.load(tmp_path / "index", one)
    assert len(search.load(tmp_path / "index", model())) == 5


def test_a_fingerprint_is_of_the_weights_alone(tmp_path):
    one = model()
    assert checkpoint.fingerprint(one) == checkpoint.fingerprint(model().train())
    assert checkpoint.fingerprint(one) != checkpoint.fingerprint(model().half())
    assert checkpoint.fingerprint(one) != checkpoint.fingerprint(model(1))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "about.json").unlink(), "about.json is not there; .*holds no index"),
        (lambda f: (f / "about.json").write_text("{"), "about.json can't be read"),
        (lambda f: (f / "about.json").write_text("{}"), "about.json can't be read"),
        (
            lambda f: (f / "names.json").write_text("[]"),
            "names.json is not the file that was saved",
        ),
        (lambda f: (f / "index.faiss").write_bytes(b"x"), "index.faiss is not the file that was"),
        (lambda f: (f / "index.faiss").unlink(), "index.faiss is not there"),
    ],
)
def test_a_damaged_index_is_refused(spoil, message, tmp_path):
    folder = search.build("hnsw", emb(5), names(5), model()).save(tmp_path / "index")
    spoil(folder)
    with pytest.raises(search.SearchError, match=message):
        search.load(folder, model())


def test_what_does_not_fit_is_refused_and_nothing_is_added():
    index = search.build("flat", emb(5), names(5), model())
    for given, called, message in (
        (emb(2, 9), names(2, 5), r"shape \(2, 9\) don't fit; \(n, 8\) is needed"),
        (emb(2)[0], names(1, 5), r"shape \(8,\) don't fit"),
        (3 * emb(2), names(2, 5), "embedding [01] has length 3, and 1 is needed"),
        (emb(2), names(1, 5), "2 embeddings come with 1 names"),
        (emb(2), names(2, 4), "'scene 4' would be the name of two items; leave out"),
        (emb(2), ["new", "new"], "'new' would be the name of two items; leave out"),
        (emb(3), names(3, 3), r"'scene 3' would be .* \(and 1 more would\); leave out"),
    ):
        with pytest.raises(ValueError, match=message):
            index.add(given, called)
    assert len(index) == index.inner.ntotal == 5
    with pytest.raises(ValueError, match="k 6 is not a number of items, 1 to 5"):
        index.find(emb(1), 6)
    with pytest.raises(ValueError, match="no index 'tree'; there are: flat, ivf, hnsw"):
        search.build("tree", emb(5), names(5), model())
    with pytest.raises(ValueError, match="5 items can't fill 9 cells"):
        search.build("ivf", emb(5), names(5), model())


def test_parts_are_made_once_and_gone_on_with(tmp_path):
    items, seen = emb(25), []

    def look(rows, stop_at=99):
        if rows.start >= stop_at:
            raise KeyboardInterrupt
        seen.extend(rows)
        return items[rows]

    with pytest.raises(KeyboardInterrupt):
        search.embed(lambda rows: look(rows, 14), 25, tmp_path, model(), part=7)
    assert seen == list(range(14))
    found = search.embed(look, 25, tmp_path, model(), part=7)
    assert seen == list(range(25)) and found.dtype == np.float16
    np.testing.assert_allclose(found, items, atol=1e-3)
    assert np.array_equal(search.embed(look, 25, tmp_path, model(), part=7), found)
    assert seen == list(range(25))
    for num, of in ((26, model()), (25, model(1))):
        with pytest.raises(search.SearchError, match="holds parts of something else"):
            search.embed(look, num, tmp_path, of, part=7)


TWO = """
import sys, torch
from pathlib import Path
from accelerate import PartialState
sys.path[:0] = sys.argv[2:]
from test_search import emb, model
from vlmbook import search
seen = []
def look(rows):
    seen.extend(rows)
    return emb(25)[rows]
found = search.embed(look, 25, sys.argv[1] + "/parts", model(), part=4)
state = PartialState()
Path(sys.argv[1], f"{state.process_index} of {state.num_processes}").write_text(
    repr((seen, found.tolist())))
"""


def test_processes_that_do_not_know_of_each_other_stop(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(search.SearchError, match="2 processes were started, and accelerate sees 1"):
        search.embed(lambda rows: emb(25)[rows], 25, tmp_path, model())
    assert not list(tmp_path.iterdir())


def test_two_processes_make_every_item_exactly_once(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(TWO)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
    ]
    arguments = ["29731", script, tmp_path, ROOT, ROOT / "tests"]
    subprocess.run(
        [*command, *map(str, arguments)],
        check=True,
        capture_output=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    told = [eval((tmp_path / f"{n} of 2").read_text()) for n in (0, 1)]
    assert sorted(told[0][0] + told[1][0]) == list(range(25))
    assert min(len(seen) for seen, _ in told) >= 8  # both had a share
    assert told[0][1] == told[1][1] == emb(25).half().tolist()
    assert json.loads((tmp_path / "parts" / "about.json").read_text())["num"] == 25
