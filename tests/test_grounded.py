"""One text transformer in three roles: what each can see, what they share, and how it goes on."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vlmbook.grounded import GroundedText
from vlmbook.layers import without_weights

SIZES = {"vocab_size": 50, "max_tokens": 12, "width": 16, "depth": 2, "heads": 4}
SIZES |= {"hidden": 32, "context_width": 24}
MASK = torch.arange(9) < torch.tensor([9, 6, 4])[:, None]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def text():
    made = GroundedText(**SIZES).eval()
    for weight in made.parameters():
        weight.data += 0.3 * torch.randn_like(weight)
    return made


@pytest.fixture
def given():
    """Ids (3, 9) and a context (3, 5, 24)."""
    return torch.randint(4, 50, (3, 9)), torch.randn(3, 5, 24)


@torch.no_grad()
def test_an_encoder_sees_all_and_a_decoder_only_what_came_before(text, given):
    ids, context = given
    changed = ids.clone()
    changed[:, 5] += 1
    for role, first in (("encode", 0), ("decode", 5)):
        difference = text(ids, role, None, context).feats - text(changed, role, None, context).feats
        moved = difference.abs().amax(-1) > 1e-4
        assert moved[:, first:].all() and not moved[:, :first].any(), role


@torch.no_grad()
def test_padding_makes_no_difference(text, given):
    ids, context = given
    other = torch.where(MASK, ids, 7)
    for role in ("encode", "decode"):
        whole = text(ids, role, MASK, context)
        torch.testing.assert_close(text(other, role, MASK, context).feats[MASK], whole.feats[MASK])
        alone = text(ids[2:, :4], role, None, context[2:])
        torch.testing.assert_close(alone.feats, whole.feats[2:, :4], atol=1e-5, rtol=1e-5)
        for weights in whole.weights:
            assert (weights * ~MASK[:, None, None]).abs().max() == 0
    unmasked = text(other, "encode", None, context).feats
    assert not torch.allclose(unmasked[MASK], text(ids, "encode", None, context).feats[MASK])


@torch.no_grad()
def test_the_context_is_looked_at_where_there_is_one_and_its_mask_hides(text, given):
    ids, context = given
    alone, grounded = text(ids, "encode"), text(ids, "encode", None, context)
    assert alone.looks == () and not torch.allclose(alone.feats, grounded.feats, atol=1e-2)
    assert [looks.shape for looks in grounded.looks] == [(3, 4, 9, 5)] * 2
    torch.testing.assert_close(grounded.looks[0].sum(-1), torch.ones(3, 4, 9))
    hidden = torch.tensor([True, True, True, False, False]).expand(3, 5)
    seen = text(ids, "encode", None, context, hidden)
    torch.testing.assert_close(seen.feats, text(ids, "encode", None, context[:, :3]).feats)
    shuffled = text(ids, "encode", None, context[:, [4, 2, 0, 1, 3]])
    torch.testing.assert_close(shuffled.feats, grounded.feats, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("pieces", [[9], [4, 5], [1] * 9, [3, 1, 4, 1]])
def test_reading_on_is_reading_at_once(text, given, pieces):
    ids, context = given
    hidden = torch.tensor([True, True, True, False, True]).expand(3, 5)
    whole = text(ids, "decode", None, context, hidden).feats
    memory, feats = None, []
    for part in ids.split(pieces, 1):
        about = {"context": context} if memory is None else {"memory": memory}
        read = text(part, "decode", context_mask=hidden, **about)
        memory = read.memory
        feats.append(read.feats)
    torch.testing.assert_close(torch.cat(feats, 1), whole, atol=1e-5, rtol=1e-5)
    forgotten = text(ids[:, 4:], "decode", None, context, hidden).feats
    assert not torch.allclose(forgotten, whole[:, 4:], atol=1e-2)


def test_the_roles_have_their_own_self_attention_and_all_else_in_common(text, given):
    ids, context = given
    used = {}
    for role in ("encode", "decode"):
        text.zero_grad()
        feats = text(ids, role, None, context).feats
        (text.next_logits(feats) if role == "decode" else feats).square().sum().backward()
        used[role] = {n for n, p in text.named_parameters() if p.grad is not None}
    own = {
        role: used[role] - used[other]
        for role, other in (("encode", "decode"), ("decode", "encode"))
    }
    assert {n for n in own["decode"] if not n.startswith("blocks.")} == {
        "bias",
        *(f"head.{n}.{kind}" for n in (0, 2) for kind in ("weight", "bias")),
    }
    for role, other in (("encode", "decode"), ("decode", "encode")):
        blocks = {n for n in own[role] if n.startswith("blocks.")}
        assert blocks and all(f".{role}." in n for n in blocks)
        parts = {n.split(".")[2] for n in blocks}
        assert parts == {"attention", "norm1"}
        assert {n.replace(f".{role}.", f".{other}.") for n in blocks} <= own[other]
    assert used["encode"] | used["decode"] == set(dict(text.named_parameters()))


def test_the_next_token_is_scored_by_the_words_themselves(text):
    feats = torch.randn(2, 16)
    before = text.next_logits(feats)
    text.token.weight.data[7] = 0
    after = text.next_logits(feats)
    torch.testing.assert_close(after[:, 7], text.bias[7].expand(2))
    torch.testing.assert_close(after[:, 8:], before[:, 8:])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda t, i: GroundedText(**SIZES, roles=("encode",))(i, "decode"),
            "built to encode, not",
        ),
        (lambda t, i: t(torch.cat([i, i], 1), "encode"), "18 tokens are more than the 12"),
        (
            lambda t, i: t(
                i[:, :4], "decode", memory=t(i, "decode", None, torch.randn(3, 5, 24)).memory
            ),
            "13 tokens are more than the 12 .* lower max_length",
        ),
    ],
)
def test_what_can_not_be_read_is_refused(text, given, call, message):
    with pytest.raises(ValueError, match=message):
        call(text, given[0])


def test_layers_are_normalised_after_each_step(text, given):
    ids, context = given
    for block in text.blocks:
        for norm in (*block.norm1.values(), block.norm2, block.norm3):
            nn.init.ones_(norm.weight)
            nn.init.zeros_(norm.bias)
    feats = text(ids, "encode", None, context).feats
    torch.testing.assert_close(feats.mean(-1), torch.zeros(3, 9), atol=1e-5, rtol=0)
    torch.testing.assert_close(feats.var(-1, correction=0), torch.ones(3, 9), atol=1e-4, rtol=0)


@torch.no_grad()
def test_without_weights_it_reads_and_goes_on_the_same(text, given):
    ids, context = given
    for role in ("encode", "decode"):
        whole = text(ids, role, MASK, context)
        with without_weights():
            alone = text(ids, role, MASK, context)
        torch.testing.assert_close(alone.feats[MASK], whole.feats[MASK])
        assert alone.weights == alone.looks == (None, None) and None not in whole.looks
    with without_weights():
        first = text(ids[:, :5], "decode", None, context)
        rest = text(ids[:, 5:], "decode", memory=first.memory)
    expected = text(ids, "decode", None, context).feats[:, 5:]
    torch.testing.assert_close(rest.feats, expected, atol=1e-5, rtol=1e-5)
