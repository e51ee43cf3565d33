"""Attention and the block: torch's numbers, and no look where the mask says no."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vlmbook.layers import (
    Block,
    MultiHeadAttention,
    QuickGELU,
    TanhGELU,
    attention,
    fused,
    without_weights,
)

B, T, D, HEADS = 3, 7, 24, 4


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def some_mask(*shape):
    """Random, but that each query may attend to something."""
    mask = torch.rand(shape) < 0.5
    mask[..., 0] |= ~mask.any(-1)
    return mask


@pytest.mark.parametrize("batch", [(), (3,), (2, 4)], ids=str)
@pytest.mark.parametrize("masked", [None, "full", "row"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_attention_is_torchs_attention(batch, masked, dtype):
    q, k, v = (torch.randn(*batch, n, 8, dtype=dtype, requires_grad=True) for n in (5, 6, 6))
    shape = {"full": (*batch, 5, 6), "row": (1, 6)}
    mask = some_mask(*shape[masked]) if masked else None
    mean, weights = attention(q, k, v, mask)
    theirs = F.scaled_dot_product_attention(q, k, v, mask)
    torch.testing.assert_close(mean, theirs)
    aim = torch.randn_like(mean)
    ours = torch.autograd.grad((mean * aim).sum(), (q, k, v))
    torch.testing.assert_close(ours, torch.autograd.grad((theirs * aim).sum(), (q, k, v)))

    assert weights.shape == (*batch, 5, 6) and weights.dtype == dtype
    torch.testing.assert_close(weights.sum(-1), torch.ones(*batch, 5, dtype=dtype))
    torch.testing.assert_close(weights @ v, mean)
    assert torch.equal(weights > 0, (weights >= 0) if mask is None else mask.expand_as(weights))


def torchs(ours):
    """torch's own layer with the weights of ours."""
    theirs = nn.MultiheadAttention(D, HEADS, batch_first=True)
    maps = (ours.query, ours.key, ours.value)
    weights = {
        "in_proj_weight": torch.cat([m.weight for m in maps]),
        "in_proj_bias": torch.cat([m.bias for m in maps]),
        "out_proj.weight": ours.out.weight,
        "out_proj.bias": ours.out.bias,
    }
    theirs.load_state_dict(weights)
    return theirs


@pytest.mark.parametrize("cross", [False, True], ids=["self", "cross"])
@pytest.mark.parametrize("masked", [None, "padding", "full"])
def test_multi_head_attention_is_torchs(cross, masked):
    ours = MultiHeadAttention(D, HEADS)
    x, context = torch.randn(B, T, D), torch.randn(B, T + 2, D) if cross else None
    source = x if context is None else context
    num = source.shape[1]
    shape = {"padding": (B, 1, num), "full": (B, T, num)}
    mask = some_mask(*shape[masked]) if masked else None
    barred = {}  # in torch's layer True = may not attend
    if masked == "padding":
        barred = {"key_padding_mask": ~mask[:, 0]}
    elif masked == "full":
        barred = {"attn_mask": (~mask).repeat_interleave(HEADS, 0)}
    theirs = torchs(ours)(x, source, source, average_attn_weights=False, **barred)
    torch.testing.assert_close(ours(x, context, mask), theirs)
    if cross:
        assert not torch.allclose(ours(x)[0], theirs[0])  # the context is read


def theirs_of(kind: str) -> tuple[nn.Module, dict[str, str]]:
    """An attention of transformers, and where it keeps what we call query, key, value and out."""
    heads = {"hidden_size": D, "num_attention_heads": HEADS}
    eager = {"attn_implementation": "eager"}
    if kind == "CLIP":
        from transformers import CLIPVisionConfig
        from transformers.models.clip.modeling_clip import CLIPAttention

        names = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "out_proj"}
        return CLIPAttention(CLIPVisionConfig(**heads, **eager)), names
    if kind == "BLIP, eye":
        from transformers import BlipVisionConfig
        from transformers.models.blip.modeling_blip import BlipAttention

        names = {"query": "qkv", "key": "qkv", "value": "qkv", "out": "projection"}
        return BlipAttention(BlipVisionConfig(**heads, **eager)), names
    inner = {"query": "query", "key": "key", "value": "value"}
    cross = kind.endswith("look")
    if kind.startswith("BLIP"):
        from transformers import BlipTextConfig
        from transformers.models.blip.modeling_blip_text import BlipTextSelfAttention

        config = BlipTextConfig(**heads, encoder_hidden_size=D + 2)
        return BlipTextSelfAttention(config, is_cross_attention=cross), inner
    from transformers import Blip2QFormerConfig
    from transformers.models.blip_2.modeling_blip_2 import Blip2QFormerMultiHeadAttention

    config = Blip2QFormerConfig(**heads, encoder_hidden_size=D + 2)
    return Blip2QFormerMultiHeadAttention(config, is_cross_attention=cross), inner


@torch.no_grad()
@pytest.mark.parametrize(
    "kind", ["CLIP", "BLIP, eye", "BLIP, text", "BLIP, look", "Q-Former", "Q-Former, look"]
)
def test_attention_is_that_of_transformers(kind):
    theirs, names = theirs_of(kind)
    theirs.eval()
    cross = kind.endswith("look")
    ours = MultiHeadAttention(D, HEADS, D + 2 if cross else None)
    for n, (own, name) in enumerate(names.items()):
        part = theirs.get_submodule(name)
        for what in ("weight", "bias"):
            found = getattr(part, what)
            found = found.chunk(3)[n] if name == "qkv" else found
            getattr(getattr(ours, own), what).copy_(found)
    if "out" not in names:  # theirs comes with the layer around it
        ours.out = nn.Identity()
    x, context = torch.randn(B, T, D), torch.randn(B, T + 2, D + 2) if cross else None
    given = {"encoder_hidden_states": context} if cross else {}
    given |= {"output_attentions": True} if kind == "CLIP" else {}  # version 4 returns them then
    mixed, weights = theirs(x, **given)[:2]
    found = ours(x, context)
    torch.testing.assert_close(found[0], mixed, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found[1], weights, atol=1e-6, rtol=1e-5)
    assert weights.shape == (B, HEADS, T, T + 2 if cross else T) and weights.std() > 1e-3


def test_a_block_is_torchs_block():
    ours = Block(D, HEADS)
    theirs = nn.TransformerEncoderLayer(D, HEADS, 4 * D, 0.0, "gelu", 1e-5, True, True)
    for name in ("norm1", "norm2"):
        nn.init.normal_(getattr(ours, name).weight)
        nn.init.normal_(getattr(ours, name).bias)
        getattr(theirs, name).load_state_dict(getattr(ours, name).state_dict())
    theirs.self_attn = torchs(ours.attention)
    theirs.linear1, theirs.linear2 = ours.mlp[0], ours.mlp[2]
    x, mask = torch.randn(B, T, D), some_mask(B, 1, T)
    torch.testing.assert_close(ours(x, mask)[0], theirs(x, src_key_padding_mask=~mask[:, 0]))


def test_a_query_with_nothing_to_attend_to_gets_nothing():
    q, k, v = (torch.randn(2, 4, 8, requires_grad=True) for _ in range(3))
    mask = torch.ones(2, 4, 4, dtype=torch.bool)
    mask[0, 1] = mask[1] = False
    mean, weights = attention(q, k, v, mask)
    assert not mean[0, 1].any() and not weights[0, 1].any() and not mean[1].any()
    assert mean[0, 0].all() and weights[0, 0].all()
    for grad in torch.autograd.grad(mean.square().sum(), (q, k, v)):
        assert grad.isfinite().all() and not grad[1].any() and grad[0].any()
    x = torch.randn(2, 4, D, requires_grad=True)
    out, _ = Block(D, HEADS)(x, mask)
    assert out.isfinite().all() and torch.autograd.grad(out.sum(), x)[0].isfinite().all()


def test_order_makes_no_difference_without_a_mask():
    block, x, order = Block(D, HEADS), torch.randn(B, T, D), torch.randperm(T)
    assert order.tolist() != list(range(T))
    out, weights = block(x)
    moved, moved_weights = block(x[:, order])
    torch.testing.assert_close(moved, out[:, order])
    torch.testing.assert_close(moved_weights, weights[..., order, :][..., order])
    causal = torch.ones(B, T, T, dtype=torch.bool).tril()
    assert not torch.allclose(block(x[:, order], causal)[0], block(x, causal)[0][:, order])


@pytest.mark.parametrize("kind", ["padding", "causal"])
def test_nothing_leaks_through_the_mask(kind):
    """What may not be seen is replaced by something random: a constant shift would not do, for the
    norm erases it.
    """
    block, x, seen = Block(D, HEADS), torch.randn(B, T, D), 4
    changed = x.clone()
    changed[:, seen:] = torch.randn(B, T - seen, D)
    full = torch.ones(B, T, T, dtype=torch.bool)
    mask = full.tril() if kind == "causal" else (torch.arange(T) < seen).expand(B, 1, T)
    (before, weights), (after, _) = block(x, mask), block(changed, mask)
    assert torch.equal(before[:, :seen], after[:, :seen])
    assert not weights.masked_select(~mask[:, None]).any()
    assert (before[:, seen:] != after[:, seen:]).any(-1).all()
    for open_mask in (None, full):  # and without the mask it does leak
        leaked = block(x, open_mask)[0] - block(changed, open_mask)[0]
        assert (leaked[:, :seen].abs().amax(-1) > 1e-3).all()


@pytest.mark.parametrize(("width", "heads"), [(100, 3), (64, 5), (2, 3)])
def test_a_width_that_does_not_divide_names_some_that_do(width, heads):
    with pytest.raises(ValueError, match=f"width {width} .* heads {heads}; try") as error:
        MultiHeadAttention(width, heads)
    for other in map(int, re.findall(r"\d+", str(error.value).split("try")[1])):
        assert MultiHeadAttention(other, heads)(torch.randn(1, 2, other))[1].shape[1] == heads


@pytest.mark.parametrize("shape", [(4, 6), (4, 1, 1, 6), (6,)])
def test_a_mask_of_another_shape_is_refused(shape):
    block, x = Block(8, 4), torch.randn(4, 6, 8)  # as many heads as texts: it would broadcast
    with pytest.raises(ValueError, match=r"mask has shape .*; pass \(B, Q, K\) or \(B, 1, K\)"):
        block(x, torch.ones(shape, dtype=torch.bool))


def test_quick_gelu_is_that_of_transformers():
    from transformers.activations import ACT2FN

    x = torch.linspace(-6, 6, 200, dtype=torch.float64)
    torch.testing.assert_close(QuickGELU()(x), ACT2FN["quick_gelu"](x))
    assert (QuickGELU()(x) - torch.nn.functional.gelu(x)).abs().max() > 0.01


@pytest.mark.parametrize("masked", [False, True])
def test_without_weights_the_means_are_the_same(masked):
    layer, x = MultiHeadAttention(D, HEADS), torch.randn(B, T, D)
    mask = some_mask(B, T, T) if masked else None
    if masked:
        mask[0, 2] = False  # one that may look at nothing
    with torch.no_grad():
        mean, weights = layer(x, mask=mask)
        with without_weights():
            alone, none = layer(x, mask=mask)
            keys = layer.keys_values(x)
            again, _ = layer(x, mask=mask, memory=keys)
        assert not fused()
    torch.testing.assert_close(alone, mean)
    torch.testing.assert_close(again, mean)
    assert none is None and weights is not None
    if masked:
        other = mask.clone()
        other[1, 0] = ~mask[1, 0]
        with torch.no_grad(), without_weights():
            assert not torch.allclose(layer(x, mask=other)[0], mean)


def test_where_a_gradient_is_wanted_weights_are_handed_out():
    layer, x = MultiHeadAttention(D, HEADS), torch.randn(B, T, D)
    with without_weights():
        mean, weights = layer(x)
        assert torch.autograd.grad(mean.sum(), weights)[0].shape == weights.shape
        with torch.no_grad():
            assert layer(x)[1] is None
        with pytest.raises(RuntimeError), without_weights():
            raise RuntimeError
        with torch.no_grad():
            assert layer(x)[1] is None  # still inside the first
    with torch.no_grad():
        assert layer(x)[1] is not None


def test_tanh_gelu_is_torchs():
    x = torch.linspace(-4, 4, 50)
    torch.testing.assert_close(TanhGELU()(x), F.gelu(x, approximate="tanh"))
    assert not torch.allclose(TanhGELU()(x), F.gelu(x), atol=1e-6)


def test_a_blocks_epsilon_is_that_of_its_norms():
    block = Block(D, HEADS, epsilon=0.5)
    assert block.norm1.eps == block.norm2.eps == 0.5
