"""Our CLIP is transformers' CLIP with the same weights, whichever way they go."""

import math

import pytest
import torch
import torch.nn.functional as F
from theirs import attentions, features

from vlmbook import clip, tokenizer, world
from vlmbook.losses import clip_loss

BOOK = tokenizer.load()


pytestmark = pytest.mark.usefixtures("small_training")


def twins(activation="quick_gelu", end=tokenizer.END):
    """transformers' model and ours, of the same odd sizes, with weights of their own."""
    from transformers import CLIPConfig, CLIPModel

    heads = {"num_attention_heads": 4, "hidden_act": activation}
    seen = {"hidden_size": 32, "intermediate_size": 96, "num_hidden_layers": 3, **heads}
    read = {"hidden_size": 24, "intermediate_size": 72, "num_hidden_layers": 2, **heads}
    read |= {"vocab_size": 832, "max_position_embeddings": 20, "eos_token_id": end}
    read |= {"bos_token_id": tokenizer.START, "pad_token_id": tokenizer.PAD}
    config = CLIPConfig(
        vision_config=seen | {"image_size": 24, "patch_size": 8},
        text_config=read,
        projection_dim=12,
    )
    ours = clip.Config(832, 24, 8, "patch", 32, 3, 4, 24, 2, 4, 20, 12, 3, activation, end)
    theirs = CLIPModel(config).eval()
    for weights in theirs.parameters():  # also those that begin at 0 or 1
        weights.data += 0.05 * torch.randn_like(weights)
    return theirs, clip.build(ours).eval()


def batch():
    texts = ["a red cube", "빨간 구와 파란 원뿔이 있어요.", "", "a green torus behind it"]
    return torch.rand(4, 3, 24, 24), *BOOK.batch(texts)


def compare(theirs, ours):
    pixels, ids, mask = batch()
    image, text, _ = ours(pixels, ids, mask)
    seen, read = (ours.prepare(pixels), {"input_ids": ids, "attention_mask": mask.long()})
    for one, other in (
        (image, features(theirs.get_image_features(pixel_values=seen))),
        (text, features(theirs.get_text_features(**read))),
    ):
        torch.testing.assert_close(one, F.normalize(other, dim=-1), atol=1e-5, rtol=0)
    out = theirs(pixel_values=seen, **read, return_loss=True)
    scale = ours.log_scale.exp()
    logits = scale * image @ text.T
    torch.testing.assert_close(logits, out.logits_per_image, atol=1e-5 * scale.item(), rtol=1e-5)
    torch.testing.assert_close(clip_loss(image, text, scale), out.loss, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_with_their_weights_ours_says_the_same(activation):
    theirs, ours = twins(activation)
    compare(theirs, clip.load_transformers(ours, theirs.state_dict()))


def test_their_attention_weights_are_ours():
    theirs, ours = twins()
    clip.load_transformers(ours, theirs.state_dict())
    pixels, ids, mask = batch()
    seen = ours.prepare(pixels)
    image = attentions(theirs.vision_model, pixel_values=seen)
    text = attentions(theirs.text_model, input_ids=ids, attention_mask=mask.long())
    assert len(image) == 3 and len(text) == 2
    read = mask[:, None, :, None]  # what padding looks at is nobody's business
    for one, other in zip(ours.image(seen).weights, image, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    for one, other in zip(ours.text(ids, mask).weights, text, strict=True):
        torch.testing.assert_close(one * read, other * read, atol=1e-5, rtol=0)


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_with_our_weights_theirs_says_the_same(activation):
    theirs, ours = twins(activation)
    theirs.load_state_dict(clip.to_transformers(ours))
    compare(theirs, ours)


def test_another_activation_does_not_say_the_same():
    theirs, _ = twins("gelu")
    _, ours = twins("quick_gelu")
    with pytest.raises(AssertionError, match="not close"):
        compare(theirs, clip.load_transformers(ours, theirs.state_dict()))


def test_weights_survive_the_way_there_and_back():
    theirs, ours = twins()
    state = theirs.state_dict()
    back = clip.to_transformers(clip.load_transformers(ours, state))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)
    old = state | {"text_model.embeddings.position_ids": torch.arange(20)[None]}
    clip.load_transformers(ours, old)  # old files hold these
    del state["visual_projection.weight"]
    with pytest.raises(ValueError, match="another model: visual_projection.weight is missing"):
        clip.load_transformers(ours, state)
    with pytest.raises(ValueError, match="conv stem has no twin in transformers; use stem='patch'"):
        clip.to_transformers(clip.build(clip.nano(832)))


@pytest.mark.parametrize("stem", clip.STEMS)
def test_embeddings_have_length_one_and_the_weights_are_returned(stem):
    model = clip.build(clip.nano(len(BOOK), stem))
    pixels, ids, mask = batch()
    image, text, _ = model(pixels, ids, mask)
    for emb in (image, text):
        assert emb.shape == (4, 128)
        torch.testing.assert_close(emb.norm(dim=1), torch.ones(4))
    seen = model.image(model.prepare(pixels))
    assert seen.feats.shape == (4, 65, 128) and len(seen.weights) == 2
    for weights in (*seen.weights, *model.text(ids, mask).weights):
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    assert 0.6e6 < sum(p.numel() for p in model.parameters()) < 1.2e6
    assert model.scale.item() == pytest.approx(1 / 0.07, rel=1e-5)
    model.log_scale.data += 10
    assert model.scale.item() == 100


def test_a_text_is_pooled_at_its_end_and_sees_no_further():
    model = clip.build(clip.nano(len(BOOK)))
    ids, mask = BOOK.batch(["a red cube", "a red cube to the left of a blue sphere"])
    emb = model.encode_text(ids, mask)
    alone = model.encode_text(*BOOK.batch(["a red cube"]))
    torch.testing.assert_close(alone[0], emb[0], atol=1e-5, rtol=0)
    later = torch.where(mask, ids, 77)  # what stands behind the end
    torch.testing.assert_close(model.encode_text(later, torch.ones_like(mask)), emb)
    earlier = ids.clone()
    earlier[:, 2] = 77
    assert (model.encode_text(earlier, mask) - emb).abs().amax(1).min() > 1e-3
    with pytest.raises(ValueError, match="no end token .id 3., where this encoder pools"):
        model.encode_text(ids[:, :4], mask[:, :4])


def test_pictures_of_any_size_are_made_to_fit():
    model = clip.build(clip.nano(832))
    pixels = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(model.prepare(pixels), (pixels - 0.5) / 0.25)
    wide = torch.zeros(1, 3, 128, 256)
    wide[..., 64:192] = 1.0  # the middle is kept, the sides are not
    made = model.prepare(wide)
    assert made.shape == (1, 3, 64, 64)
    torch.testing.assert_close(made[..., 2:-2], torch.full((1, 3, 64, 60), 2.0))
    assert model.prepare(torch.rand(1, 3, 500, 33)).shape == (1, 3, 64, 64)
    assert model.encode_image(torch.rand(1, 3, 31, 77)).shape == (1, 128)
    with pytest.raises(ValueError, match=r"shape \(3, 64, 64\) are no batch .*pixels\[None\]"):
        model.encode_image(pixels[0])


def test_one_batch_is_learnt_by_heart():
    scenes = world.sample(12, "full", seed=1, num_objects=2)
    pixels = world.render(scenes, 64).pixels
    ids, mask = BOOK.batch([world.caption(s) for s in scenes])
    model = clip.build(clip.nano(len(BOOK)))
    optimizer = torch.optim.AdamW(model.parameters(), 5e-4)
    losses = []
    for _ in range(45):
        loss = clip_loss(*model(pixels, ids, mask))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.8 * math.log(12) and losses[-1] < 0.1
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"stem": "resnet"}, "stem 'resnet' does not exist; choose from conv, patch"),
        ({"activation": "relu"}, "activation 'relu' does not exist; choose from gelu, quick_gelu"),
        ({"size": 60}, "size 60 is not a multiple of patch 8"),
        ({"patch": 7, "size": 63}, "patch 7 is not a power of two"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(how, message):
    with pytest.raises(ValueError, match=message):
        clip.build(clip.Config(832, **how))
