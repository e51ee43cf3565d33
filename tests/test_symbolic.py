"""The world as vectors: they say what the scene says, and a small model learns from them."""

import math
import random
from dataclasses import replace

import pytest
import torch

from vlmbook import symbolic, tokenizer, world
from vlmbook.losses import clip_loss
from vlmbook.symbolic import WORDS, Config, DualEncoder, SceneEncoder, pairs, vectors

BOOK = tokenizer.load()
SMALL = Config(len(BOOK), width=32, depth=1, heads=4, shared=24)


pytestmark = pytest.mark.usefixtures("small_training")


@pytest.fixture(scope="module")
def scenes():
    return world.sample(40, "full", seed=3)


def read(row):
    """What a vector says: attributes by name, and (right, near)."""
    said, places = {}, row[: symbolic.NUM_WORDS].split([len(w) for w in WORDS.values()])
    for (attribute, words), part in zip(WORDS.items(), places, strict=True):
        assert sorted(part.tolist()) == [0.0] * (len(words) - 1) + [1.0]
        said[attribute] = words[int(part.argmax())]
    return said, (row[symbolic.NUM_WORDS :] * symbolic.REACH).tolist()


def test_vectors_say_what_the_scene_says(scenes):
    objects, present = vectors(scenes)
    most = max(map(len, scenes))
    assert objects.shape == (40, most, symbolic.NUM_FEATURES) and present.shape == (40, most)
    assert objects.dtype == torch.float32 and present.dtype == torch.bool
    for scene, rows, there in zip(scenes, objects, present, strict=True):
        assert there.tolist() == [n < len(scene) for n in range(most)]
        assert not rows[len(scene) :].any()
        for n, (thing, row) in enumerate(zip(scene.objects, rows, strict=False)):
            said, place = read(row)
            assert said == {a: getattr(thing, a) for a in WORDS}
            assert place == pytest.approx(scene.view_position(n), abs=1e-5)
    assert {w for words in WORDS.values() for w in words} == {
        *world.SHAPES, *world.COLORS, *world.MATERIALS, *world.SIZES
    }  # fmt: skip
    assert objects[..., symbolic.NUM_WORDS :].abs().max() < 1.5  # about as large as the words
    assert vectors([])[0].shape == (0, 0, symbolic.NUM_FEATURES)


def test_places_are_as_the_camera_sees_them(scenes):
    objects, _ = vectors(scenes)
    axis = {"right": (-2, 1), "left": (-2, -1), "front": (-1, 1), "behind": (-1, -1)}
    checked = 0
    for scene, rows in zip(scenes, objects, strict=True):
        for a, relation, b in scene.relations():
            column, sign = axis[relation]
            assert sign * (rows[a, column] - rows[b, column]) > 0
            checked += 1
    assert checked > 100
    turned = replace(scenes[0].camera, azimuth=scenes[0].camera.azimuth + math.pi / 2)
    turned = vectors([replace(scenes[0], camera=turned)])[0][0]
    torch.testing.assert_close(turned[:, -1], objects[0, : len(turned), -2])  # right came near


def test_the_order_of_objects_makes_no_difference(scenes):
    encoder = SceneEncoder(32, 2, 4)
    backwards = [s.with_objects(s.objects[::-1]) for s in scenes]
    there = encoder(*vectors(scenes))
    assert any(len(s) > 2 for s in scenes)
    torch.testing.assert_close(encoder(*vectors(backwards)), there, atol=1e-5, rtol=1e-5)
    swapped = [s.with_objects(_swap_places(s.objects)) for s in scenes if len(s) > 1]
    unlike = encoder(*vectors(swapped)) - there[[len(s) > 1 for s in scenes]]
    assert (unlike.abs().amax(1) > 1e-3).all()  # but who stands where does


def _swap_places(objects):
    a, b, *others = objects
    return replace(a, position=b.position), replace(b, position=a.position), *others


def test_padding_makes_no_difference(scenes):
    encoder, (objects, present) = SceneEncoder(32, 2, 4), vectors(scenes)
    there = encoder(objects, present)
    for n, scene in enumerate(scenes[:8]):
        torch.testing.assert_close(encoder(*vectors([scene]))[0], there[n], atol=1e-5, rtol=1e-5)
    noise = torch.where(present[..., None], objects, torch.randn_like(objects))
    assert torch.equal(encoder(noise, present), there)
    seen = encoder(noise, torch.ones_like(present)) - there
    assert (seen.abs().amax(1) > 1e-3)[~present.all(1)].all()


@pytest.mark.parametrize("attribute", WORDS)
def test_every_attribute_is_read(scenes, attribute):
    encoder, changed = SceneEncoder(32, 2, 4), []
    for scene in scenes:
        first, words = scene.objects[0], WORDS[attribute]
        other = words[words.index(getattr(first, attribute)) - 1]
        new = replace(first, **{attribute: other})
        changed.append(scene.with_objects((new, *scene.objects[1:])))
    moved = encoder(*vectors(changed)) - encoder(*vectors(scenes))
    assert (moved.abs().amax(1) > 1e-3).all()


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("dials", [{}, {"style": "counts"}, {"negation": 1.0}], ids=str)
def test_captions_are_those_of_the_world(scenes, language, dials):
    batch = pairs(scenes, BOOK, language, random.Random(5), **dials)
    rng = random.Random(5)
    texts = [world.caption(s, language, rng=rng, **dials).lower() for s in scenes]
    assert [BOOK.decode(row) for row in batch.ids] == texts
    assert torch.equal(batch.mask, batch.ids != tokenizer.PAD) and not batch.mask.all()
    objects, present = vectors(scenes)
    assert torch.equal(batch.objects, objects) and torch.equal(batch.present, present)
    own = pairs(scenes, BOOK, language, **dials)  # without an rng, each scene's own caption
    assert torch.equal(own.ids, pairs(scenes, BOOK, language, **dials).ids)
    assert own.ids.shape != batch.ids.shape or not torch.equal(own.ids, batch.ids)


def test_embeddings_have_length_one(scenes):
    model, batch = DualEncoder(SMALL), pairs(scenes, BOOK)
    for emb in model(batch):
        assert emb.shape == (40, SMALL.shared)
        torch.testing.assert_close(emb.norm(dim=1), torch.ones(40))
    scene_emb, text_emb = model(batch)
    assert torch.equal(model.encode_scene(batch.objects, batch.present), scene_emb)
    assert torch.equal(model.encode_text(batch.ids, batch.mask), text_emb)
    assert torch.pdist(scene_emb).min() > 0  # no two scenes are one point


@pytest.mark.parametrize(("start", "scale"), [(10.0, 10.0), (1.0, 1.0), (99.0, 99.0), (500.0, 100)])
def test_the_scale_is_at_most_100(start, scale):
    model = DualEncoder(replace(SMALL, scale=start))
    assert model.scale.item() == pytest.approx(scale, rel=1e-5)
    clip_loss(*model(pairs(world.sample(4), BOOK)), model.scale).backward()
    assert start > 100 or model.log_scale.grad != 0
    assert all(p.grad is not None for p in model.parameters())


def test_one_batch_is_learnt_by_heart():
    batch, model = pairs(world.sample(16, "full", seed=1), BOOK), DualEncoder(SMALL)
    assert len(set(map(tuple, batch.ids.tolist()))) == 16
    right = []
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(50):
        scene_emb, text_emb = model(batch)
        logits = scene_emb @ text_emb.T
        best = torch.cat([logits.argmax(0), logits.argmax(1)])
        right.append((best == torch.arange(16).repeat(2)).float().mean())
        optimizer.zero_grad()
        clip_loss(scene_emb, text_emb, model.scale).backward()
        optimizer.step()
    assert right[0] < 0.5 and min(right[-5:]) == 1.0


def some_questions(num=20, split="train"):
    return [(s, q) for s in world.sample(num, "full", split, 6) for q in world.questions(s)]


@pytest.mark.parametrize("split", ["train", "plates", "count_ood"])
def test_every_answer_of_the_world_is_there(split):
    asked = some_questions(60, split=split)
    batch = symbolic.questions(asked, BOOK)
    answers = [symbolic.ANSWERS[a] for a in batch.answers]
    assert answers == [q.answer for _, q in asked] and len(set(answers)) > 10
    assert [BOOK.decode(row) for row in batch.ids] == [q.text.lower() for _, q in asked]
    objects, present = vectors([s for s, _ in asked])
    assert torch.equal(batch.objects, objects) and torch.equal(batch.present, present)
    assert torch.equal(batch.mask, batch.ids != tokenizer.PAD)


def test_an_answer_depends_on_question_and_objects_but_the_blind_see_none():
    model, asked = symbolic.Answerer(len(BOOK), width=32, depth=2), some_questions()
    batch = symbolic.questions(asked, BOOK)
    logits, blind = model(batch), model(batch, blind=True)
    assert logits.shape == (len(asked), len(symbolic.ANSWERS))
    noise = torch.randn_like(batch.objects)
    padding = torch.where(batch.present[..., None], batch.objects, noise)
    assert torch.equal(model(batch._replace(objects=padding)), logits)
    assert torch.equal(model(batch._replace(objects=noise), blind=True), blind)
    for other in (model(batch._replace(objects=noise)), blind):
        assert ((other - logits).abs().amax(1) > 1e-4).all()
    for n in range(5):  # padded by nothing, as alone
        alone = symbolic.questions(asked[n : n + 1], BOOK)
        torch.testing.assert_close(model(alone)[0], logits[n], atol=1e-5, rtol=1e-5)
    others = torch.where(batch.mask, batch.ids.roll(1, 0), batch.ids)
    assert not torch.allclose(model(batch._replace(ids=others)), logits)
    logits.square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_what_can_not_be_answered_is_refused():
    scene = world.sample(1, "full", seed=2)[0]
    asked = [(scene, q) for q in world.questions(scene, "ko", families=["exist"])]
    with pytest.raises(ValueError, match="the answer '.*' is not among ANSWERS; ask in English"):
        symbolic.questions(asked, BOOK)
    model = symbolic.Answerer(len(BOOK), max_tokens=4, width=32)
    with pytest.raises(ValueError, match="tokens are more than the 4 that this model has places"):
        model(symbolic.questions(some_questions(3), BOOK))
