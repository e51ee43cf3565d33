"""The decoder: turned positions, grouped heads, and reading in pieces."""

import pytest
import torch
import torch.nn.functional as F

from vlmbook.decoder import (
    Decoder,
    GroupedAttention,
    SwiGLU,
    angles,
    grouped_attention,
    rotate,
)
from vlmbook.layers import attention, without_weights

SIZES = {"vocab_size": 50, "max_tokens": 32, "width": 24, "depth": 2, "heads": 6, "groups": 2}


def decoder(**changes):
    torch.manual_seed(0)
    model = Decoder(**{**SIZES, "hidden": 40, **changes}).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.3 * torch.randn_like(value))
    return model


def test_turning_keeps_lengths_and_tells_only_distances():
    query, key = torch.randn(2, 1, 1, 1, 8)
    at = {n: angles(n, 1, 8, 100.0, query) for n in (0, 3, 5, 8, 20, 23)}
    for turn in at.values():
        torch.testing.assert_close(rotate(query, turn).norm(), query.norm())

    def score(place, other):
        return (rotate(query, at[place]) * rotate(key, at[other])).sum()

    torch.testing.assert_close(score(3, 0), score(8, 5))
    torch.testing.assert_close(score(3, 0), score(23, 20), atol=1e-5, rtol=1e-4)
    assert abs(score(3, 0) - score(5, 0)) > 1e-3


def test_pairs_turn_from_one_radian_a_place_down():
    cos, sin = angles(0, 4, 6, 1000.0, torch.zeros(1))
    speeds = torch.tensor([1.0, 0.1, 0.01]).repeat(2)
    place = torch.arange(4.0)[:, None]
    torch.testing.assert_close(cos, (place * speeds).cos())
    torch.testing.assert_close(sin, (place * speeds).sin())
    one = torch.tensor([1.0, 0, 0, 0, 0, 0]).view(1, 1, 1, 6)
    turned = rotate(one, (cos[1:2], sin[1:2]))[0, 0, 0]
    expected = torch.tensor([1.0, 0, 0, 0, 0, 0]) * cos[1, 0]
    expected[3] = sin[1, 0]  # its partner is half the width away
    torch.testing.assert_close(turned, expected)


def test_a_groups_heads_share_keys_and_values():
    """One group with as many heads equals attention whose keys and values are repeated."""
    layer, x = GroupedAttention(24, 6, 2), torch.randn(2, 5, 24)
    turn = angles(0, 5, 4, 10_000.0, x)
    causal = torch.ones(5, 5, dtype=torch.bool).tril()[None]
    out, weights, (key, value) = layer(x, turn, causal)
    assert weights.shape == (2, 6, 5, 5) and key.shape == value.shape == (2, 2, 5, 4)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 6, 5))
    query = rotate(layer.query(x).view(2, 5, 6, 4).transpose(1, 2), turn)
    keys = rotate(layer.key(x).view(2, 5, 2, 4).transpose(1, 2), turn)
    values = layer.value(x).view(2, 5, 2, 4).transpose(1, 2)
    parts = [
        F.scaled_dot_product_attention(
            query[:, h], keys[:, h // 3], values[:, h // 3], is_causal=True
        )
        for h in range(6)
    ]
    torch.testing.assert_close(out, layer.out(torch.cat(parts, -1)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_grouped_attention_is_attention_with_keys_repeated(masked):
    query, (key, value) = torch.randn(2, 6, 5, 4), torch.randn(2, 2, 3, 7, 4).unbind()
    key.requires_grad_()
    mask = torch.rand(2, 5, 7) < 0.6 if masked else None
    if masked:
        mask[0, 1] = False  # one that may look at nothing
    query, key, value = query, key[:, :2], value[:, :2]
    mean, weights = grouped_attention(query, key, value, mask)
    repeated = [x.repeat_interleave(3, 1) for x in (key, value)]
    expected = attention(query, *repeated, None if mask is None else mask[:, None])
    torch.testing.assert_close(mean, expected[0])
    torch.testing.assert_close(weights, expected[1])
    assert torch.autograd.grad(mean.sum(), weights)[0].abs().sum() > 0  # it is on the way
    with torch.no_grad(), without_weights():
        alone, none = grouped_attention(query, key, value, mask)
    torch.testing.assert_close(alone, mean)
    assert none is None


def test_the_gate_decides_what_passes():
    mlp, x = SwiGLU(4, 8), torch.randn(3, 4)
    with torch.no_grad():
        mlp.gate.weight.zero_()
    assert torch.equal(mlp(x), torch.zeros(3, 4))


@torch.no_grad()
def test_a_text_read_in_pieces_is_the_same():
    model = decoder()
    x = model.token(torch.randint(50, (3, 9)))
    whole = model(x)
    memory, parts = None, []
    for piece in x.split([4, 1, 1, 3], 1):
        out = model(piece, None, memory)
        memory = out.memory
        parts.append(out.feats)
    torch.testing.assert_close(torch.cat(parts, 1), whole.feats, atol=1e-5, rtol=1e-5)
    assert whole.weights[0].shape == (3, 6, 9, 9)
    assert whole.weights[0].triu(1).abs().max() == 0


@torch.no_grad()
def test_padding_at_the_left_changes_nothing():
    model = decoder()
    x = model.token(torch.randint(50, (1, 6)))
    junk = torch.randn(1, 4, 24)
    mask = torch.tensor([[False] * 4 + [True] * 6])
    padded = model(torch.cat([junk, x], 1), mask).feats[:, 4:]
    torch.testing.assert_close(padded, model(x).feats, atol=1e-4, rtol=1e-4)
    unmasked = model(torch.cat([junk, x], 1)).feats[:, 4:]
    assert (unmasked - model(x).feats).abs().max() > 0.01


def test_the_head_is_tied_or_its_own():
    feats = torch.randn(2, 24)
    tied, own = decoder(), decoder(tied=False)
    assert torch.equal(tied.next_logits(feats), feats @ tied.token.weight.T)
    torch.testing.assert_close(own.next_logits(feats), feats @ own.head.weight.T)
    assert sum(p.numel() for p in own.parameters()) == 50 * 24 + sum(
        p.numel() for p in tied.parameters()
    )


def test_bad_input():
    with pytest.raises(ValueError, match="40 tokens are more than the 32"):
        decoder()(torch.randn(1, 40, 24))
    memory = decoder()(torch.randn(1, 30, 24)).memory
    with pytest.raises(ValueError, match="33 tokens are more than the 32"):
        decoder()(torch.randn(1, 3, 24), None, memory)
    for sizes in ((24, 5, 1), (24, 6, 4), (18, 6, 2)):
        with pytest.raises(ValueError, match=f"width {sizes[0]}, heads {sizes[1]}"):
            GroupedAttention(*sizes)
