"""Maps equal their definitions and, with the same weights, those of transformers' models."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import transformers
from test_blip import BOOK, far_from_new, inputs, pair
from test_clip import twins as clips
from test_llava import pair as llavas
from torch import nn

from vlmbook import attribution, blip, clip, world
from vlmbook.attribution import Layer, Target
from vlmbook.attribution.theirs import of_transformers
from vlmbook.llava import load_transformers as load_llava


@pytest.fixture
def asked():
    """A model, three scenes with a caption each, and where its shape stands."""
    torch.manual_seed(0)
    sizes = {"image_width": 32, "image_depth": 2, "text_width": 32, "text_depth": 2, "shared": 16}
    sizes |= {"image_heads": 2, "text_heads": 2, "size": 24}
    small = blip.build(blip.Config(len(BOOK), **sizes)).eval()
    far_from_new(small)
    scenes = world.sample(3, "full", "test", seed=2, num_objects=3)
    texts = [f"a {s.objects[0].color} {s.objects[0].shape} on a table" for s in scenes]
    ids, mask = BOOK.batch(texts)
    where = attribution.find(BOOK, ids, [s.objects[0].shape for s in scenes])
    return small, world.render(scenes, 24).pixels, ids, mask, where


def targets(asked):
    model, pixels, ids, mask, where = asked
    answer, _ = BOOK.batch(["red", "no", "cube"])
    return {
        "LM": attribution.of_blip(model, pixels, ids, mask, where),
        "LM, all": attribution.of_blip(model, pixels, ids, mask),
        "ITM": attribution.of_blip(model, pixels, ids, mask, where, "ITM"),
        "ITC": attribution.of_blip(model, pixels, ids, mask, head="ITC"),
        "answer": attribution.of_answer(model, pixels, ids, mask, answer),
    }


KINDS = ("LM", "LM, all", "ITM", "ITC", "answer")


@torch.no_grad()
def test_scores_are_what_the_heads_say(asked):
    model, pixels, ids, mask, where = asked
    made = {name: target.run()[0] for name, target in targets(asked).items()}
    feats = model.see(pixels).feats
    for head, name in (("LM", "LM, all"), ("ITM", "ITM"), ("ITC", "ITC")):
        torch.testing.assert_close(made[name], model.score(head, ids, mask, feats))
    logits = model.decoder.next_logits(model.dictate(ids, "en", feats).feats)
    own = logits.log_softmax(-1).gather(2, ids[..., None])[..., 0]
    torch.testing.assert_close(made["LM"], (own * where).sum(1))
    answer, told = BOOK.batch(["red", "no", "cube"])
    read = model.read(ids, mask, feats).feats
    torch.testing.assert_close(made["answer"], model.log_prob(answer, told, read, "en", mask))


@torch.no_grad()
def test_attention_is_the_weights_of_a_layer_and_head_or_their_mean(asked):
    model, pixels, ids, mask, where = asked
    read = model.dictate(ids, "en", model.see(pixels).feats)
    target = targets(asked)["LM"]
    one = attribution.attention(target, 1, 0)
    mean = attribution.attention(target)
    for row, places in enumerate(where):
        at = places.nonzero()[:, 0]
        looks = read.looks[1][row, 0, at].mean(0)
        torch.testing.assert_close(one.grid[row].flatten(), looks[1:])
        looks = torch.stack([w[row, :, at].mean((0, 1)) for w in read.looks]).mean(0)
        torch.testing.assert_close(mean.grid[row].flatten(), looks[1:])
        # token k is read one place after it is predicted
        attended = read.weights[1][row, 0, at].mean(0)
        torch.testing.assert_close(one.tokens[row, :-1], attended[1:])
        assert one.tokens[row, at.max() :].max() == 0  # what comes later was not seen


@pytest.mark.parametrize("kind", ["LM", "ITC", "answer"])
def test_all_heads_at_once_are_each_of_them(asked, kind):
    target = targets(asked)[kind]
    found = attribution.heads(target)
    assert found.shape == (2, 2, 3, 3, 3)
    for layer in range(2):
        for head in range(2):
            one = attribution.attention(target, layer, head).grid
            torch.testing.assert_close(found[layer, head], one)


def by_hand(target: Target, scaled: bool = False):
    """Relevances token by token, in loops over the equations of Chefer et al. 2021b."""
    pixels = target.pixels.clone().requires_grad_()
    score, layers = target.run(pixels)
    grads = torch.autograd.grad(score.sum(), [a.weights for a in layers], allow_unused=True)
    found = []
    for row in range(len(pixels)):
        r = torch.eye(target.size, dtype=torch.float64)
        for (weights, query, key), grad in zip(layers, grads, strict=True):
            grad = torch.zeros_like(weights) if grad is None else grad
            step = (weights[row] * grad[row]).clamp(min=0).mean(0).double().detach()
            before = r.clone()
            own, other = torch.eye(len(query)).double(), before[key]
            if scaled and query is not key:
                own = square(before[query][:, query]).T
                other[:, key] = square(before[key][:, key])
            for n, q in enumerate(query):
                for m in range(len(query)):
                    for j in range(len(key)):
                        r[q] += own[n, m] * step[m, j] * other[j]
        r -= torch.eye(target.size)
        found.append(r[target.rows[row]].sum(0))
    found = torch.stack(found).float()
    return found[:, target.patches], found[:, target.text]


def square(r):
    """Equations 8 and 9: rows without the identity, scaled to one, and the identity."""
    rest = r - torch.eye(len(r))
    for row in rest:
        if row.sum() > 0:
            row /= row.sum()
    return rest + torch.eye(len(r))


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "scaled"])
@pytest.mark.parametrize("kind", KINDS)
def test_relevance_is_its_equations(asked, kind, scaled):
    target = targets(asked)[kind]
    grid, tokens = by_hand(target, scaled)
    found = attribution.relevance(target, scaled)
    torch.testing.assert_close(found.grid.flatten(1), grid, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(found.tokens, tokens, atol=1e-6, rtol=1e-4)
    assert found.grid.std() > 0
    if kind not in ("ITC",):
        other = attribution.relevance(target, not scaled)
        assert (other.grid - found.grid).abs().max() > 1e-2 * found.grid.abs().max()


def test_grad_cam_is_weights_times_positive_gradients(asked):
    target = targets(asked)["LM, all"]
    pixels = target.pixels.clone().requires_grad_()
    score, layers = target.run(pixels)
    looks = [a for a in layers if len(a.query) != len(a.key)]
    grads = torch.autograd.grad(score.sum(), [a.weights for a in looks])
    for layer in (0, 1):
        step = (looks[layer].weights * grads[layer].clamp(min=0)).mean(1).detach()
        for row, mask in enumerate(target.mask):
            told = mask.clone()
            told[0] = False
            expected = step[row, told].mean(0)[1:]
            found = attribution.grad_cam(target, layer).grid[row].flatten()
            torch.testing.assert_close(found, expected)
    last = attribution.grad_cam(target).grid
    torch.testing.assert_close(last, attribution.grad_cam(target, 1).grid)


@torch.no_grad()
def test_rollout_mixes_half_of_each_layer(asked):
    target = targets(asked)["ITM"]
    layers = target.run()[1]
    for row in range(3):
        made_of = torch.eye(target.size)
        for weights, query, key in layers:
            step = torch.eye(target.size)
            step[query] /= 2
            for n, q in enumerate(query):
                step[q, key] += weights[row, :, n].mean(0) / 2
            made_of = step @ made_of
        torch.testing.assert_close(made_of.sum(1), torch.ones(target.size))
        found = attribution.rollout(target)
        torch.testing.assert_close(found.grid[row].flatten(), made_of[10][target.patches])
        torch.testing.assert_close(found.tokens[row], made_of[10][target.text])


@torch.no_grad()
@pytest.mark.parametrize("side", [1, 2, 3])
def test_occlusion_is_what_a_painted_window_takes_away(asked, side):
    target = targets(asked)["ITM"]
    whole = target.run()[0]
    expected, covered = torch.zeros(3, 3, 3), torch.zeros(3, 3)
    for r in range(4 - side):
        for c in range(4 - side):
            painted = target.pixels.clone()
            for n, picture in enumerate(painted):
                for channel in picture:
                    channel[8 * r : 8 * (r + side), 8 * c : 8 * (c + side)] = channel.mean()
                fallen = whole[n] - target.run(painted)[0][n]
                expected[n, r : r + side, c : c + side] += fallen
            covered[r : r + side, c : c + side] += 1
    found = attribution.occlusion(target, side)
    torch.testing.assert_close(found.grid, expected / covered, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_an_occluded_token_is_one_that_was_never_there(asked):
    model, pixels, ids, mask, where = asked
    found = attribution.occlusion(targets(asked)["ITM"], 3).tokens
    feats = model.see(pixels).feats
    whole = model.score("ITM", ids, mask, feats)
    without = mask.clone()
    without[:, 3] = False
    torch.testing.assert_close(found[:, 3], whole - model.score("ITM", ids, without, feats))
    assert found[~mask].abs().sum() == 0 < found[mask].abs().min()
    lm = attribution.occlusion(targets(asked)["LM"], 3).tokens  # what comes after has no part
    for row, places in zip(lm, where, strict=True):
        at = places.nonzero()[:, 0]
        assert row[at.max() :].abs().max() == 0 < row[1 : at.min()].abs().min()


@pytest.mark.parametrize("method", attribution.METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_map_is_of_its_own_picture_and_text_alone(asked, method, kind):
    model, pixels, ids, mask, where = asked
    make = attribution.METHODS[method]
    found = make(targets(asked)[kind])
    assert found.grid.shape == (3, 3, 3) and found.tokens.shape == ids.shape
    assert torch.isfinite(found.grid).all() and torch.isfinite(found.tokens).all()
    mixed = torch.stack([pixels[0], pixels[2], pixels[1]])
    again = make(targets((model, mixed, ids, mask, where))[kind])
    torch.testing.assert_close(again.grid[0], found.grid[0], atol=1e-6, rtol=1e-3)
    assert (again.grid[1] - found.grid[1]).abs().max() > 1e-3 * found.grid[1].abs().max()


def planted(pixels, place):
    """A model whose score is the brightness of one patch, which it looks at through one token."""
    row, column = place
    image, text = torch.arange(16), torch.tensor([16])
    rows = torch.zeros(len(pixels), 17, dtype=torch.bool)
    rows[:, 16] = True

    def read(seen, erased):
        bright = F.avg_pool2d(seen.mean(1, keepdim=True), 8).flatten(1)  # (B, 16)
        scores = 4 * F.one_hot(torch.tensor(4 * row + column), 16).float()
        weights = scores.expand_as(bright).softmax(-1) + 0 * bright
        looks = weights[:, None, None]
        return (looks[:, 0, 0] * bright).sum(1), [Layer(looks, text, image)]

    mask = torch.ones(len(pixels), 1, dtype=torch.bool)
    return Target(lambda p: p, read, pixels, rows, rows, image, text, mask)


@pytest.mark.parametrize("method", attribution.METHODS)
def test_every_method_finds_what_was_planted(method):
    torch.manual_seed(0)
    pixels = 0.5 + 0.02 * torch.rand(2, 3, 32, 32)
    pixels[:, :, 8:16, 16:24] = 0.9
    how = {"side": 1} if method == "occlusion" else {}
    found = attribution.METHODS[method](planted(pixels, (1, 2)), **how).grid
    assert found.flatten(1).argmax(1).tolist() == [6, 6]
    mask = torch.zeros(2, 32, 32, dtype=torch.bool)
    mask[:, 8:16, 16:24] = True
    assert attribution.pointing(found, mask).all()


# --- transformers -----------------------------------------------------------------------------


@pytest.mark.parametrize("method", attribution.METHODS)
def test_maps_of_clip_equal_those_of_transformers(method):
    theirs, ours = clips()
    clip.load_transformers(ours, theirs.state_dict())
    pixels, (ids, mask) = torch.rand(3, 3, 24, 24), BOOK.batch(["a red cube", "구", "it is"])
    found = attribution.METHODS[method](attribution.of_clip(ours, pixels, ids, mask))
    if method == "occlusion":  # painted in another mean: of what is normalised
        pixels = ours.prepare(pixels)
        pixels = pixels.clone()
        found = attribution.METHODS[method](
            attribution.of_clip(without_prepare(ours), pixels, ids, mask)
        )
    else:
        pixels = ours.prepare(pixels)
    other = attribution.METHODS[method](of_transformers(theirs, pixels, ids, mask.long()))
    torch.testing.assert_close(other.grid, found.grid, atol=1e-5, rtol=1e-4)
    own = mask & (ids != PADDED)
    torch.testing.assert_close(other.tokens[own], found.tokens[own], atol=1e-5, rtol=1e-4)


PADDED = 0


def without_prepare(model):
    model.prepare = lambda pixels: pixels
    return model


@pytest.mark.parametrize("method", attribution.METHODS)
def test_maps_of_matching_equal_those_of_transformers(method):
    theirs, ours = pair("match")
    blip.load_transformers(ours, theirs.state_dict())
    _, normalised, ids, mask = inputs()
    ours.prepare = nn.Identity()
    word = torch.zeros_like(mask)
    word[:, 2] = True
    found = attribution.METHODS[method](
        attribution.of_blip(ours, normalised, ids, mask, word, "ITM")
    )
    other = attribution.METHODS[method](of_transformers(theirs, normalised, ids, mask.long(), word))
    torch.testing.assert_close(other.grid, found.grid, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(other.tokens, found.tokens, atol=1e-5, rtol=1e-4)
    assert found.grid.std() > 0


@pytest.mark.parametrize("method", attribution.METHODS)
def test_maps_of_captions_equal_those_of_transformers(method):
    theirs, ours = pair("caption")
    blip.load_transformers(ours, theirs.state_dict())
    _, normalised, ids, _ = inputs()
    ours.prepare = nn.Identity()
    given = torch.cat([ours.prompt("en", 3), ids[:, 1:]], 1)
    mask = torch.ones_like(ids, dtype=torch.bool)
    found = attribution.METHODS[method](attribution.of_blip(ours, normalised, ids, mask, 4))
    other = attribution.METHODS[method](of_transformers(theirs, normalised, given, word=5))
    torch.testing.assert_close(other.grid, found.grid, atol=1e-5, rtol=1e-4)
    if method != "occlusion":  # which erases a token by another one
        torch.testing.assert_close(other.tokens[:, 2:], found.tokens[:, 1:], atol=1e-5, rtol=1e-4)


def test_maps_of_answers_are_those_of_transformers():
    theirs, ours = pair("answer")
    blip.load_transformers(ours, theirs.state_dict())
    _, normalised, ids, mask = inputs()
    ours.prepare = nn.Identity()
    answer = torch.randint(6, 90, (3, 4))
    given = torch.cat([ours.prompt("en", 3), answer[:, 1:]], 1)
    one = of_transformers(theirs, normalised, ids, mask.long(), answer=given)
    two = attribution.of_answer(ours, normalised, ids, mask, answer)
    found, other = attribution.attention(two), attribution.attention(one)
    torch.testing.assert_close(other.grid, found.grid, atol=1e-5, rtol=1e-4)
    relevant = attribution.relevance(one).grid
    assert torch.isfinite(relevant).all() and relevant.std() > 0


@pytest.mark.parametrize("method", attribution.METHODS)
@pytest.mark.parametrize("how", [{}, {"layer": -1, "keep_class": True}], ids=str)
def test_maps_of_llava_equal_those_of_transformers(method, how):
    theirs, ours, words = llavas(**how)
    load_llava(ours, theirs.state_dict())
    talk = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what?"}]},
            {"role": "assistant", "content": "a red cube"}]  # fmt: skip
    ids = words.chat(talk, False, ours.config.image_tokens).ids.repeat(2, 1)
    word = attribution.find(words, ids, "red")
    normalised = torch.randn(2, 3, 32, 32)
    ours.prepare = nn.Identity()
    found = attribution.METHODS[method](attribution.of_llava(ours, normalised, ids, word))
    other = attribution.METHODS[method](of_transformers(theirs, normalised, ids, word=word))
    torch.testing.assert_close(other.grid, found.grid, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(other.tokens, found.tokens, atol=1e-5, rtol=1e-4)
    assert found.grid.std() > 0


def test_a_conversation_explained_keeps_places_for_one_picture():
    _, ours, words = llavas()
    ids = words.chat([{"role": "user", "content": "what?"}]).ids[None]
    with pytest.raises(ValueError, match=r"keeps \[0\] places .* should keep the 16 of one"):
        attribution.of_llava(ours, torch.rand(1, 3, 32, 32), ids, torch.ones_like(ids).bool())


def llava(strategy="default", layer=-2):
    torch.manual_seed(0)
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3}
    vision |= {"num_attention_heads": 4, "image_size": 24, "patch_size": 8, "projection_dim": 32}
    text = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "vocab_size": 60}
    text |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**vision),
        text_config=transformers.LlamaConfig(**text),
        image_token_index=59,
        vision_feature_select_strategy=strategy,
        vision_feature_layer=layer,
    )
    model = transformers.LlavaForConditionalGeneration(config).eval()
    with torch.no_grad():
        for weights in model.parameters():
            weights += 0.2 * torch.randn_like(weights)
    num = 9 + (strategy == "full")
    ids = torch.randint(4, 58, (2, num + 6))
    ids[:, 2 : 2 + num] = 59
    return model, torch.randn(2, 3, 24, 24), ids, num


@pytest.mark.parametrize(("strategy", "layer"), [("default", -2), ("full", -1), ("default", 1)])
def test_maps_of_llava_are_of_its_own_patches(strategy, layer):
    model, pixels, ids, num = llava(strategy, layer)
    target = of_transformers(model, pixels, ids, word=num + 4)
    with torch.no_grad():
        out = model(input_ids=ids, pixel_values=pixels, output_attentions=True)
    expected = out.logits[:, num + 3].log_softmax(-1)
    expected = expected.gather(1, ids[:, num + 4, None])[:, 0]
    torch.testing.assert_close(target.run()[0], expected, atol=1e-5, rtol=1e-5)
    found = attribution.attention(target, 1, 2)
    weights = out.attentions[1][:, 2, num + 3]
    first = 2 + (strategy == "full")
    torch.testing.assert_close(found.grid.flatten(1), weights[:, first : 2 + num])
    torch.testing.assert_close(found.tokens[:, num + 2 :], weights[:, num + 2 :])
    used = sum(a.query is target.read(pixels, None)[1][0].query for a in target.run()[1])
    for method in attribution.METHODS.values():
        made = method(target)
        assert made.grid.shape == (2, 3, 3) and torch.isfinite(made.grid).all()
        assert made.grid.std() > 0
    depth = {-2: 2, -1: 3, 1: 1}[layer]
    layers = target.run()[1]
    assert len(layers) == depth + 2, used
    grid, tokens = by_hand(target)
    made = attribution.relevance(target)
    torch.testing.assert_close(made.grid.flatten(1), grid, atol=1e-6, rtol=1e-4)


def test_fast_attention_is_replaced_and_kept_weights_are_asked_for(monkeypatch):
    model, pixels, ids, num = llava()
    model.set_attn_implementation("sdpa")
    grid = attribution.attention(of_transformers(model, pixels, ids, word=num + 4)).grid
    assert grid.std() > 0
    target = of_transformers(model, pixels, ids, word=num + 4)
    model.set_attn_implementation("sdpa")
    with pytest.raises(ValueError, match="kept no attention weights; load the model with attn_im"):
        attribution.attention(target)


# --- bad input --------------------------------------------------------------------------------


def test_words_are_found_by_their_pieces():
    texts = ["a red cube and a red cube", "빨간 정육면체와 구", "the red torus"]
    ids, _ = BOOK.batch(texts)
    found = attribution.find(BOOK, ids, ["red cube", "구", "torus"])
    for row, places, word in zip(ids, found, ("red cube", "구", "torus"), strict=True):
        assert BOOK.decode(row[places]) == word
    assert found[0].nonzero()[:, 0].tolist() == [2, 3]  # the first place
    assert attribution.find(BOOK, ids[[0, 2]], "red").sum(1).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, p, i, k: attribution.find(BOOK, i, "zebra"), "'zebra' is not in the text; it"),
        (lambda m, p, i, k: attribution.of_blip(m, p, i, k, 40), "token 40 is not in these texts"),
        (lambda m, p, i, k: attribution.of_blip(m, p, i, k, -1), "token -1 is not in these texts"),
        (
            lambda m, p, i, k: attribution.of_blip(m, p, i, k, k & ~k),
            "does not mark tokens of each",
        ),
        (lambda m, p, i, k: attribution.of_blip(m, p, i, k, head="VQA"), "head 'VQA' does not exi"),
        (
            lambda m, p, i, k: attribution.attention(attribution.of_blip(m, p, i, k, 2), layer=7),
            "layer 7 does not exist; choose from 0 to 1",
        ),
        (
            lambda m, p, i, k: attribution.attention(attribution.of_blip(m, p, i, k, 2), head=9),
            "head 9 does not exist; choose from 0 to 1",
        ),
        (
            lambda m, p, i, k: attribution.grad_cam(attribution.of_blip(m, p, i, k, 2), 2),
            "layer 2 does not exist",
        ),
        (
            lambda m, p, i, k: attribution.occlusion(attribution.of_blip(m, p, i, k), 9),
            "a window of 9 patches does not fit; choose from 1 to 3",
        ),
        (lambda m, p, i, k: of_transformers(m, p, i, k), "Blip is not among the models"),
    ],
)
def test_bad_input_is_refused(asked, call, message):
    model, pixels, ids, mask, _ = asked
    with pytest.raises(ValueError, match=message):
        call(model, pixels, ids, mask)


def test_a_grid_that_is_not_square_is_refused(asked):
    target = targets(asked)["LM"]
    target.patches = target.patches[:-1]
    with pytest.raises(ValueError, match="8 patches make no square grid"):
        attribution.attention(target)


def test_named_objects_are_unmistakable_and_seen(monkeypatch):
    large = attribution.items.LEAST * 5
    monkeypatch.setattr(attribution.items, "LEAST", large)
    seen = world.render(attribution.named(6, BOOK, seed=4).scenes).visible
    assert seen.sum((2, 3)).min() >= large
    monkeypatch.undo()
    for which in (0, 2):
        items = attribution.named(12, BOOK, seed=4, which=which)
        assert items.pixels.shape == (12, 3, 64, 64) and items.visible.shape == (12, 64, 64)
        for scene, seen, text, ids, word in zip(
            items.scenes, items.visible, items.texts, items.ids, items.word, strict=True
        ):
            thing = scene.objects[which]
            kinds = [(o.color, o.shape) for o in scene.objects]
            assert len(set(kinds)) == len(kinds) == 3
            assert seen.equal(world.render([scene]).visible[0, which]) and seen.sum() >= 20
            assert f"{thing.size} {thing.color} {thing.material} {thing.shape}" in text
            assert BOOK.decode(ids[word]) == f"{thing.color} {thing.shape}"
    one, other = (attribution.named(12, BOOK, seed=4, which=n).scenes for n in (0, 1))
    assert one == other != attribution.named(12, BOOK, seed=5).scenes
    with pytest.raises(ValueError, match="which 3 is no object of three; choose from 0 to 2"):
        attribution.named(2, BOOK, which=3)


def test_words_of_a_model_without_a_token_for_the_language_are_refused():
    config = blip.Config(**{**vars(blip.nano(len(BOOK), "patch")), "spoken": False})
    model = blip.build(config)
    ids, mask = BOOK.batch(["a red cube"])
    pixels = torch.rand(1, 3, 64, 64)
    with pytest.raises(ValueError, match="no token for a language, .* or the head ITM"):
        attribution.of_blip(model, pixels, ids, mask)
    with pytest.raises(ValueError, match="no token for a language"):
        attribution.of_answer(model, pixels, ids, mask, ids)
    assert attribution.of_blip(model, pixels, ids, mask, head="ITM").size
