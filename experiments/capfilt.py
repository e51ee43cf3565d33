"""CapFilt: cleaning the captions of a noisy web with a captioner and a filter of one's own.

    python experiments/capfilt.py [--smoke]

A symbolic BLIP, the teacher, learns from a web of which half of the captions have a known fault,
and from a few clean pairs. On the clean pairs it is then made a captioner, a filter, or both. New
models learn from what these leave, with the controls of the paper: longer training on the web as
it is, training that goes on instead of a new model, one model as captioner and filter. For
filtering by score, models learn from the best parts of the web and from random ones. Writes
vlmbook/results/capfilt.json. About an hour and a half on one core. Book: blip/capfilt.md.
"""

from __future__ import annotations

import copy
import functools
import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import dual
import heads
import torch
from torch import Tensor, nn

from vlmbook import blip, evaluate, retrieval, symbolic, train, world

PRESET = "standard"
RATES = {
    "mismatched": 0.15,
    "wrong_attribute": 0.12,
    "dropped_object": 0.08,
    "invented_object": 0.08,
    "generic": 0.07,
}
NUM_WEB, NUM_CLEAN = 2000, 50
WIDTH = 64
STEPS, BATCH, TUNED, TUNED_RATE = 600, 32, 100, 5e-4  # of training, and on the clean pairs after it
NUM_TESTS, NUM_GALLERY = 400, 300
NUM_LOOKED = 1000  # captions of the web that every head scores
PARTS = (0.25, 0.5, 0.75)  # of the web, kept by score
DRAWN = 0.5  # and by chance
KINDS = ("clean", *RATES)
DECODINGS = {"greedy": {}, "beam": {}, "nucleus": {"top_p": 0.9}}


class Data(NamedTuple):
    """Pairs to learn from: the scene of each, as a row of objects, and its text."""

    rows: Tensor  # (n,)
    ids: Tensor  # (n, T)
    mask: Tensor  # (n, T)


class Web(NamedTuple):
    """What a seed gives: scenes, the first NUM_WEB with noisy captions, the others clean."""

    scenes: list[world.Scene]
    objects: Tensor  # (n, N, F)
    shown: Tensor  # (n,) a number for each description
    texts: list[str]
    kinds: list[str]


@functools.lru_cache(maxsize=1)
def web(seed: int) -> Web:
    """Scenes of one to three objects with a caption each."""
    scenes = world.sample(NUM_WEB + NUM_CLEAN, PRESET, "train", seed, num_objects=(1, 3))
    rng = random.Random(seed)
    noisy = world.noisy_captions(scenes[:NUM_WEB], RATES, "en", rng)
    clean = [world.caption(scene, rng=rng) for scene in scenes[NUM_WEB:]]
    shown = [zlib.crc32(repr(retrieval.full_description(s)).encode()) for s in scenes]
    return Web(
        scenes,
        symbolic.vectors(scenes)[0],
        torch.tensor(shown),
        [n.text for n in noisy] + clean,
        [n.kind for n in noisy] + ["clean"] * NUM_CLEAN,
    )


def data(rows: Sequence[int], texts: Sequence[str]) -> Data:
    """Pairs of a row of the web and a text."""
    return Data(torch.tensor(rows), *dual.WORDS.batch(texts))


def both(*parts: Data) -> Data:
    """Several sets of pairs as one."""
    longest = max(p.ids.shape[1] for p in parts)
    ids, mask = (
        torch.cat([nn.functional.pad(p[k], (0, longest - p[k].shape[1])) for p in parts])
        for k in (1, 2)
    )
    return Data(torch.cat([p.rows for p in parts]), ids, mask)


def some_of(pairs: Data, which: Tensor) -> Data:
    """Some of the pairs, with no more padding than they need."""
    rows, ids, mask = (part[which] for part in pairs)
    longest = int(mask.sum(1).max()) if len(rows) else 0
    return Data(rows, ids[:, :longest], mask[:, :longest])


def learn(
    model: blip.Blip, given: Web, pairs: Data, tasks: Sequence[str], settings: train.Settings, seed
) -> blip.Blip:
    """The model, after the tasks on the pairs."""

    def batch(step: int, part: slice) -> blip.Batch:
        some = dual.rows_of(step, len(pairs.rows), settings.batch, seed)[part]
        rows, ids, mask = some_of(pairs, some)
        told = torch.tensor([zlib.crc32(row.numpy().tobytes()) for row in pairs.ids[some]])
        about = torch.stack([given.shown[rows], told], 1)
        language = torch.full((len(rows),), blip.LANGUAGES["en"])
        return blip.Batch(given.objects[rows], ids, mask, language, about)

    def loss(forward: Callable, batch: blip.Batch) -> Tensor:
        return train.multitask(forward, batch, dict.fromkeys(tasks, 1.0))

    train.fit(model.train(), loss, batch, replace(settings, precision="bf16"))
    return model.eval()


@torch.no_grad()
def judged(model: blip.Blip, head: str, given: Web, pairs: Data) -> Tensor:
    """A head's score (n,) of each pair: a cosine, log odds, or log p of a token on average."""
    found = []
    for some in torch.arange(len(pairs.rows)).split(500):
        rows, ids, mask = some_of(pairs, some)
        scores = model.score(head, ids, mask, model.see(given.objects[rows]).feats)
        found.append(scores / mask.sum(1) if head == "LM" else scores)
    return torch.cat(found)


def written(model: blip.Blip, objects: Tensor, decoding: str, seed: int = 0) -> list[str]:
    """A caption for each row of objects."""
    torch.manual_seed(seed)
    how = DECODINGS[decoding]
    return [
        text
        for part in objects.split(500)
        for text in model.caption(part, dual.WORDS, decoding=decoding, max_length=60, **how)
    ]


@functools.cache
def tests() -> tuple[list[world.Scene], list[world.Scene], Data]:
    """Scenes to be captioned, scenes to be searched, and a clean caption of each of these."""
    scenes = world.sample(NUM_TESTS, PRESET, "test", 7, num_objects=(1, 3))
    searched = retrieval.gallery(NUM_GALLERY, PRESET, "test", (1, 3))
    texts = [world.caption(s, rng=random.Random(s.index), relations=False) for s in searched]
    return scenes, searched, data(range(NUM_GALLERY), texts)


@torch.no_grad()
def graded(model: blip.Blip) -> dict[str, list | str]:
    """R@1 of each item of the gallery, F1 of each test caption, and mean precision and recall."""
    scenes, searched, told = tests()
    feats = model.see(symbolic.vectors(searched)[0]).feats
    hits = dual.hits(model.embed_image(feats), model.encode_text(told.ids, told.mask))
    graph = evaluate.scene_graph(written(model, symbolic.vectors(scenes)[0], "greedy"), scenes)
    return {
        "R@1": dual.digits(hits),
        "F1": _short(graph.f1),
        "precision": float(graph.precision.mean()),
        "recall": float(graph.recall.mean()),
    }


def _short(values) -> list[float]:
    return [round(float(v), 3) for v in values]


class Teachers:
    """The teacher of a seed and what is made of it; each is trained when it is first asked for."""

    def __init__(self, seed: int, settings: train.Settings) -> None:
        self.seed, self.settings, self.given = seed, settings, web(seed)
        self.web = data(range(NUM_WEB), self.given.texts[:NUM_WEB])
        self.clean = data(range(NUM_WEB, NUM_WEB + NUM_CLEAN), self.given.texts[NUM_WEB:])
        self.kind = self.given.kinds[:NUM_WEB]

    def learn(self, pairs: Data | None, tasks: Sequence[str] = ("itc", "lm"), times: int = 1):
        """A new model, trained on pairs and the clean ones."""
        pairs = self.clean if pairs is None else both(pairs, self.clean)
        settings = replace(self.settings, steps=times * self.settings.steps)
        model = heads.build(WIDTH, self.seed, max_tokens=256)
        return learn(model, self.given, pairs, tasks, settings, self.seed)

    @functools.cached_property
    def teacher(self) -> blip.Blip:
        return self.learn(self.web, ("itc", "itm", "lm"))

    @functools.cached_property
    def taught_by_web(self) -> blip.Blip:
        return self.learn(self.web)

    def tuned(self, *tasks: str) -> blip.Blip:
        """The teacher, after some tasks on the clean pairs."""
        steps = min(TUNED, self.settings.steps)
        settings = replace(self.settings, steps=steps, rate=TUNED_RATE)
        return learn(
            copy.deepcopy(self.teacher), self.given, self.clean, tasks, settings, self.seed
        )

    @functools.cached_property
    def filter(self) -> blip.Blip:
        return self.tuned("itc", "itm")

    @functools.cached_property
    def captioner(self) -> blip.Blip:
        return self.tuned("lm")

    @functools.cached_property
    def shared(self) -> blip.Blip:
        return self.tuned("itc", "itm", "lm")

    def synthetic(self, model: blip.Blip) -> Data:
        """A caption for each scene of the web, drawn from a nucleus."""
        texts = written(model, self.given.objects[:NUM_WEB], "nucleus", self.seed)
        return data(range(NUM_WEB), texts)

    def kept(self, pairs: Data, model: blip.Blip) -> Data:
        """The pairs that a filter takes for fitting."""
        return some_of(pairs, judged(model, "ITM", self.given, pairs) > 0)

    def best(self, part: float) -> Data:
        """The part of the web with the highest similarity."""
        scores = judged(self.filter, "ITC", self.given, self.web)
        return some_of(self.web, scores.topk(round(part * NUM_WEB)).indices)

    def drawn(self, part: float) -> Data:
        """A random part of the web."""
        order = torch.randperm(NUM_WEB, generator=torch.Generator().manual_seed(self.seed))
        return some_of(self.web, order[: round(part * NUM_WEB)])

    def truth(self) -> Data:
        """What is clean in the web: no filter can do better."""
        return some_of(self.web, torch.tensor([kind == "clean" for kind in self.kind]))

    def capfilt(self, filter_: blip.Blip, captioner: blip.Blip) -> Data:
        """What a filter leaves of the web and of a captioner's texts."""
        synthetic = self.kept(self.synthetic(captioner), filter_)
        return both(self.kept(self.web, filter_), synthetic)

    def looked_at(self) -> dict:
        """Scores of the web's captions by kind, and what captioners write and filters throw out."""
        num, given = NUM_LOOKED, self.given
        found: dict = {"kinds": "".join(str(KINDS.index(kind)) for kind in self.kind[:num])}
        looked = Data(*(part[:num] for part in self.web))
        for name, model in (("teacher", self.teacher), ("filter", self.filter)):
            for head in blip.HEADS:
                found[f"{name}, {head}"] = _short(judged(model, head, given, looked))
        writers = {decoding: (self.captioner, self.filter, decoding) for decoding in DECODINGS}
        writers["shared"] = (self.shared, self.shared, "nucleus")
        for name, (captioner, filter_, decoding) in writers.items():
            texts = written(captioner, given.objects[:num], decoding, self.seed)
            graph = evaluate.scene_graph(texts, given.scenes[:num])
            out = judged(filter_, "ITM", given, data(range(num), texts)) <= 0
            found |= {
                f"{name}, precision": _short(graph.precision),
                f"{name}, recall": _short(graph.recall),
                f"{name}, thrown out": dual.digits(out),
                f"{name}, different": len(set(texts)),
            }
        return found


@functools.lru_cache(maxsize=1)
def teachers(seed: int, settings: train.Settings) -> Teachers:
    """The teachers of a seed, for all its runs."""
    return Teachers(seed, settings)


def runs(seed: int, settings: train.Settings) -> dict[str, Callable[[], dict]]:
    """All that is trained with a seed."""

    def goes_on(t: Teachers) -> blip.Blip:
        pairs, model = t.capfilt(t.filter, t.captioner), copy.deepcopy(t.taught_by_web)
        return learn(model, t.given, both(pairs, t.clean), ("itc", "lm"), t.settings, seed + 100)

    students = {
        "clean pairs alone": lambda t: t.learn(None),
        "web": lambda t: t.taught_by_web,
        "web, twice as long": lambda t: t.learn(t.web, times=2),
        "F": lambda t: t.learn(t.kept(t.web, t.filter)),
        "C": lambda t: t.learn(both(t.web, t.synthetic(t.captioner))),
        "C + F": lambda t: t.learn(t.capfilt(t.filter, t.captioner)),
        "C + F, shared": lambda t: t.learn(t.capfilt(t.shared, t.shared)),
        "C + F, goes on": goes_on,
        "truth": lambda t: t.learn(t.truth()),
    }
    for part in PARTS:
        students[f"best {part:.0%}"] = lambda t, part=part: t.learn(t.best(part))
    students[f"random {DRAWN:.0%}"] = lambda t: t.learn(t.drawn(DRAWN))

    settings = replace(settings, batch=BATCH)

    def one(make: Callable[[Teachers], blip.Blip]) -> dict:
        return graded(make(teachers(seed, settings)))

    looked = {"looked at": lambda: teachers(seed, settings).looked_at()}
    return looked | {name: functools.partial(one, make) for name, make in students.items()}


if __name__ == "__main__":
    about = {"rates": RATES, "scenes": NUM_WEB, "clean": NUM_CLEAN, "batch": BATCH}
    dual.run("capfilt", runs, STEPS, **about)
