"""The joints of fusion: what they may see, what they equal, and what a gate of 0 leaves alone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import nn

from vlmbook import fusion
from vlmbook.encoders import TextEncoder, causal_mask, prefix_mask
from vlmbook.layers import Block

WIDTH, HEADS = 24, 3


def joints() -> dict[str, nn.Module]:
    """Every joint of a text and a picture, with weights that are far from new."""
    torch.manual_seed(0)
    made = {
        "concatenation": fusion.Concatenation(WIDTH, 2, HEADS),
        "causal concatenation": fusion.Concatenation(WIDTH, 2, HEADS, causal=True),
        "cross-attention": fusion.CrossAttention(WIDTH, 2, HEADS),
        "gated": fusion.GatedCrossAttention([Block(WIDTH, HEADS) for _ in range(3)], WIDTH, HEADS),
    }
    return {name: far_from_new(joint) for name, joint in made.items()}


def learnt() -> dict[str, nn.Module]:
    """Every way to look with learnt tokens."""
    torch.manual_seed(0)
    made = {
        "query tokens": fusion.QueryTokens(4, WIDTH, 3, HEADS),
        "resampler": fusion.Resampler(4, WIDTH, 2, HEADS),
    }
    return {name: far_from_new(few) for name, few in made.items()}


@torch.no_grad()
def far_from_new(model: nn.Module) -> nn.Module:
    for weights in model.parameters():
        weights += 0.3 * torch.randn_like(weights)
    return model.eval()


@pytest.fixture
def given():
    """text (B, T, D), image (B, N, D) and masks that hide the last tokens of the second row."""
    torch.manual_seed(1)
    text, image = torch.randn(2, 5, WIDTH), torch.randn(2, 6, WIDTH)
    text_mask, image_mask = torch.ones(2, 5, dtype=torch.bool), torch.ones(2, 6, dtype=torch.bool)
    text_mask[1, 3:], image_mask[1, 4:] = False, False
    return text, image, text_mask, image_mask


@pytest.mark.parametrize("name", joints())
@torch.no_grad()
def test_hidden_tokens_make_no_difference_and_others_do(name, given):
    joint, (text, image, text_mask, image_mask) = joints()[name], given
    found = joint(text, image, text_mask, image_mask).feats
    noise = torch.randn_like(image[1])
    other = image.clone()
    other[1, 4:] = noise[4:]
    again = joint(text, other, text_mask, image_mask).feats
    torch.testing.assert_close(again, found, atol=1e-5, rtol=0)
    other[1, 3] = noise[3]
    assert (joint(text, other, text_mask, image_mask).feats - found)[1].abs().max() > 1e-3
    told = text.clone()
    told[1, 3:] = torch.randn(2, WIDTH)
    again = joint(told, image, text_mask, image_mask).feats
    torch.testing.assert_close(again[:, :3], found[:, :3], atol=1e-5, rtol=0)
    whole = joint(told, image, None, image_mask).feats  # without the mask it is seen
    before = joint(text, image, None, image_mask).feats
    assert (whole - before)[1].abs().max() > 1e-3


@pytest.mark.parametrize("name", joints())
@torch.no_grad()
def test_without_places_the_order_of_image_tokens_makes_no_difference(name, given):
    joint, (text, image, _, _) = joints()[name], given
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    found = joint(text, image).feats
    torch.testing.assert_close(joint(text, image[:, order]).feats, found, atol=1e-4, rtol=1e-4)
    assert (joint(text, image.flip(2)).feats - found).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["causal concatenation", "gated"])
@torch.no_grad()
def test_a_language_model_sees_no_later_word(name, given):
    joint, (text, image, _, _) = joints()[name], given
    how = {"causal": causal_mask(5)} if name == "gated" else {}
    found = joint(text, image, **how).feats
    other = text.clone()
    other[:, 3] = torch.randn(2, WIDTH)
    moved = (joint(other, image, **how).feats - found).abs().amax((0, 2))
    assert moved[:3].max() < 1e-5 and moved[3:].min() > 1e-3
    open_ = joint(other, image).feats - joint(text, image).feats
    if name == "gated":
        assert open_.abs().amax((0, 2))[:3].min() > 1e-3
    image = image.clone()
    image[:, -1] = torch.randn(2, WIDTH)
    assert (joint(text, image, **how).feats - found).abs().amax((0, 2)).min() > 1e-3


def test_a_prefix_sees_itself_and_the_rest_what_came_before():
    assert prefix_mask(2, 3).int().tolist() == [
        [1, 1, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 1, 1, 1],
    ]
    assert prefix_mask(0, 3).equal(causal_mask(3))


@torch.no_grad()
def test_a_causal_concatenation_is_a_transformer_under_the_prefix_mask(given):
    joint, (text, image, text_mask, image_mask) = joints()["causal concatenation"], given
    x, mask = torch.cat([image, text], 1), torch.cat([image_mask, text_mask], 1)
    for block in joint.blocks:
        x, _ = block(x, prefix_mask(6, 5)[None] & mask[:, None])
    found = joint(text, image, text_mask, image_mask)
    torch.testing.assert_close(found.feats, x[:, 6:])
    assert found.weights[0].shape == (2, HEADS, 11, 11)
    assert found.weights[0][:, :, :6, 6:].max() == 0 < found.weights[0][:, :, 6:, :4].min()


def language_model():
    torch.manual_seed(2)
    model = TextEncoder(50, 16, WIDTH, 3, HEADS, end=3)
    head = nn.Linear(WIDTH, 50)
    ids = torch.cat([torch.randint(4, 50, (2, 7)), torch.full((2, 1), 3)], 1)
    return model.eval(), head, ids


@pytest.mark.parametrize("every", [1, 2])
@torch.no_grad()
def test_with_closed_gates_the_logits_are_identical(every):
    model, head, ids = language_model()
    mask = torch.ones_like(ids, dtype=torch.bool)
    before = head(model(ids, mask).feats)
    joint = fusion.GatedCrossAttention(model.blocks, WIDTH, HEADS, image_width=10, every=every)
    assert len(joint.looks) == (3 if every == 1 else 2)

    def logits(image):
        x = model.token(ids) + model.place.weight[: ids.shape[1]]
        return head(model.norm(joint(x, image, mask, causal=causal_mask(ids.shape[1])).feats))

    image = torch.randn(2, 4, 10)
    assert torch.equal(logits(image), before)
    found = joint(torch.randn(2, 8, WIDTH), image)
    assert len(found.looks) == len(joint.looks) and len(found.weights) == 3
    joint.looks[-1].gates[0] = 0.1
    assert (logits(image) - before).abs().max() > 1e-3


def test_new_gates_learn_first_and_what_they_hold_back_later(given):
    text, image, _, _ = given
    joint = fusion.GatedCrossAttention([Block(WIDTH, HEADS)], WIDTH, HEADS)
    joint(text, image).feats.square().sum().backward()
    look = joint.looks[0]
    assert look.gates.grad.abs().min() > 1e-3
    assert look.look.query.weight.grad.abs().max() == 0 == look.mlp[0].weight.grad.abs().max()


@torch.no_grad()
def test_a_gate_is_the_tanh_of_its_number(given):
    text, image, _, mask = given
    look = far_from_new(fusion.GatedLook(WIDTH, HEADS))
    look.gates.copy_(torch.tensor([0.7, -1.3]))
    mixed, _ = look.look(look.norm1(text), image, mask[:, None])
    x = text + torch.tensor(0.7).tanh() * mixed
    x = x - torch.tensor(1.3).tanh() * look.mlp(look.norm2(x))
    torch.testing.assert_close(look(text, image, mask[:, None])[0], x)


@pytest.mark.parametrize("name", learnt())
@torch.no_grad()
def test_learnt_tokens_are_as_many_whatever_they_look_at(name, given):
    few, (_, image, _, mask) = learnt()[name], given
    found = few(image, mask)
    assert found.feats.shape == few(torch.randn(2, 1, WIDTH)).feats.shape == (2, 4, WIDTH)
    order = torch.tensor([3, 0, 2, 1, 4, 5])
    torch.testing.assert_close(few(image[:, order], mask).feats, found.feats, atol=1e-5, rtol=0)
    other = image.clone()
    other[1, 4:] = torch.randn(2, WIDTH)
    torch.testing.assert_close(few(other, mask).feats, found.feats, atol=1e-5, rtol=0)
    other[1, 1] = torch.randn(WIDTH)
    assert (few(other, mask).feats - found.feats)[1].abs().max() > 1e-3
    assert (found.feats[:, 0] - found.feats[:, 1]).abs().max() > 1e-3  # each has its own place
    total = found.looks[0].sum(-1) + (found.weights[0].sum(-1) if name == "resampler" else 0)
    torch.testing.assert_close(total, torch.ones(2, HEADS, 4))


# Our names and those of transformers' Blip2QFormerModel, piece by piece.
QFORMER = (
    ("norm.", "layernorm."),
    ("blocks.", "encoder.layer."),
    (".attention.encode.out.", ".attention.output.dense."),
    (".attention.encode.", ".attention.attention."),
    (".look.out.", ".crossattention.output.dense."),
    (".look.", ".crossattention.attention."),
    (".norm1.encode.", ".attention.output.LayerNorm."),
    (".norm2.", ".crossattention.output.LayerNorm."),
    (".norm3.", ".output_query.LayerNorm."),
    (".mlp.0.", ".intermediate_query.dense."),
    (".mlp.2.", ".output_query.dense."),
)


@torch.no_grad()
@pytest.mark.parametrize("every", [1, 2])
def test_query_tokens_are_the_q_former_of_transformers(every, given):
    config = transformers.Blip2QFormerConfig(
        vocab_size=30,
        hidden_size=WIDTH,
        num_hidden_layers=4,
        num_attention_heads=HEADS,
        intermediate_size=40,
        cross_attention_frequency=every,
        encoder_hidden_size=10,
    )
    torch.manual_seed(0)
    theirs = far_from_new(transformers.Blip2QFormerModel(config))
    ours = fusion.QueryTokens(4, WIDTH, 4, HEADS, 40, image_width=10, every=every).eval()
    state = theirs.state_dict()
    for name, weights in ours.named_parameters():
        if name == "queries":
            continue
        their_name = name
        for own, other in QFORMER:
            their_name = their_name.replace(own, other) if own in their_name else their_name
        weights.copy_(state.pop(their_name.removeprefix(".")))
    assert not [name for name in state if "embeddings" not in name]
    image, mask = torch.randn(2, 6, 10), given[3]
    expected = theirs(
        query_embeds=ours.queries.expand(2, -1, -1),
        encoder_hidden_states=image,
        encoder_attention_mask=mask.long(),
    ).last_hidden_state
    found = ours(image, mask)
    torch.testing.assert_close(found.feats, expected, atol=1e-5, rtol=1e-5)
    assert len(found.looks) == (4 if every == 1 else 2)
    assert (ours(image).feats - expected)[1].abs().max() > 1e-3


@torch.no_grad()
def test_a_resampler_looks_at_the_picture_and_at_itself(given):
    few, (_, image, _, mask) = learnt()["resampler"], given
    x = few.queries.expand(2, -1, -1)
    for block in few.blocks:
        own = block["norm"](x)
        both = torch.cat([block["norm_image"](image), own], 1)
        attention = block["attention"]
        q, k, v = (
            f(y).unflatten(2, (HEADS, -1)).transpose(1, 2)
            for f, y in ((attention.query, own), (attention.key, both), (attention.value, both))
        )
        seen = torch.cat([mask, torch.ones(2, 4, dtype=torch.bool)], 1)[:, None, None]
        mean = F.scaled_dot_product_attention(q, k, v, seen)
        x = x + attention.out(mean.transpose(1, 2).flatten(2))
        x = x + block["mlp"](x)
    torch.testing.assert_close(few(image, mask).feats, few.norm_out(x), atol=1e-5, rtol=1e-5)


def test_widths_that_make_no_sequence_are_refused(given):
    text, image, _, _ = given
    with pytest.raises(ValueError, match="width 24 and image tokens of width 20 make no sequence"):
        joints()["concatenation"](text, image[..., :20])


def test_a_resampler_takes_pictures_of_another_width(given):
    few = fusion.Resampler(4, WIDTH, 2, HEADS, image_width=10)
    assert few(torch.randn(2, 6, 10)).feats.shape == (2, 4, WIDTH)
