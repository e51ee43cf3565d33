"""Pictures are cut and laid out again whole; texts are read in order, and only their tokens."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vlmbook.encoders import (
    ConvStem,
    ImageEncoder,
    PatchEmbedding,
    PatchStem,
    TextEncoder,
    mean_of,
    patchify,
    unpatchify,
)

V, D, MOST = 40, 16, 9
SIZES = [(2, 3, 8, 12, 4), (1, 1, 6, 4, 2), (3, 4, 5, 5, 5), (2, 3, 4, 6, 1)]  # B C H W P


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def slow_patches(pixels, patch):
    """Row by row from the top left, each patch channel by channel."""
    height, width = pixels.shape[2:]
    return torch.stack(
        [
            pixels[:, :, top : top + patch, left : left + patch].reshape(len(pixels), -1)
            for top in range(0, height, patch)
            for left in range(0, width, patch)
        ],
        dim=1,
    )


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_patches_are_squares_row_by_row(size):
    *shape, patch = size
    pixels = torch.rand(shape)
    patches = patchify(pixels, patch)
    assert torch.equal(patches, slow_patches(pixels, patch))
    assert torch.equal(patches, F.unfold(pixels, patch, stride=patch).transpose(1, 2))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_unpatchify_undoes_it(size):
    *shape, patch = size
    pixels = torch.rand(shape)
    patches = patchify(pixels, patch)
    assert torch.equal(unpatchify(patches, shape[2], shape[3], shape[1]), pixels)
    if patches.shape[1] > 1:
        moved = unpatchify(patches.roll(1, 1), shape[2], shape[3], shape[1])
        assert not torch.equal(moved, pixels)


@pytest.mark.parametrize("sides", [(8, 10), (10, 8), (2, 8)], ids=str)
def test_sides_that_are_no_multiples_are_refused(sides):
    message = f"{sides[0]} x {sides[1]} pixels .* patches of 4; .* multiples of 4"
    with pytest.raises(ValueError, match=message):
        patchify(torch.rand(1, 3, *sides), 4)
    with pytest.raises(ValueError, match="size 10 is not a multiple of patch 4"):
        PatchEmbedding(10, 4, D)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_patch_embedding_is_a_strided_convolution(channels):
    ours, theirs = PatchEmbedding(12, 4, D, channels), nn.Conv2d(channels, D, 4, stride=4)
    theirs.weight.data = ours.project.weight.data.unflatten(1, (channels, 4, 4))
    theirs.bias.data = ours.project.bias.data
    pixels = torch.rand(2, channels, 12, 12)
    tokens = ours(pixels)
    torch.testing.assert_close(tokens, theirs(pixels).flatten(2).transpose(1, 2) + ours.place)
    assert tokens.shape == (2, 9, D)
    same = ours(torch.ones(1, channels, 12, 12))[0]  # alike patches differ by their places
    assert torch.pdist(same).min() > 0
    torch.testing.assert_close(same - same[0], ours.place - ours.place[0])


def text_encoder(depth=2):
    encoder = TextEncoder(V, MOST, D, depth, heads=2)
    for table in (encoder.token, encoder.place):  # as large as after training
        nn.init.normal_(table.weight)
    return encoder


def test_padding_makes_no_difference():
    encoder, ids = text_encoder(), torch.randint(V, (3, MOST))
    lengths = torch.tensor([2, 5, MOST])
    mask = torch.arange(MOST) < lengths[:, None]
    together = encoder(ids, mask).pooled
    for row, own, num in zip(together, ids, lengths, strict=True):
        alone = encoder(own[None, :num], torch.ones(1, num, dtype=torch.bool)).pooled
        torch.testing.assert_close(alone[0], row)
    other = torch.where(mask, ids, torch.randint(V, ids.shape))
    assert (other != ids).any()
    assert torch.equal(encoder(other, mask).pooled, together)
    everything = torch.ones_like(mask)
    assert not torch.allclose(
        encoder(other, everything).pooled[:2], encoder(ids, everything).pooled[:2]
    )


def test_order_matters_because_of_places():
    encoder, ids = text_encoder(), torch.randperm(V)[None, :MOST]
    mask, order = torch.ones(1, MOST, dtype=torch.bool), torch.arange(MOST).roll(1)
    assert (encoder(ids[:, order], mask).pooled - encoder(ids, mask).pooled).abs().max() > 1e-2
    nn.init.zeros_(encoder.place.weight)
    torch.testing.assert_close(encoder(ids[:, order], mask).pooled, encoder(ids, mask).pooled)


def test_every_token_is_read_both_ways():
    """Without the blocks the mean of tokens would be a sum of what each says alone."""
    encoder, ids = text_encoder(), torch.randperm(V)[None, :4]
    mask = torch.ones(1, 4, dtype=torch.bool)
    for n in range(4):
        changed = ids.clone()
        changed[0, n] = V - 1 if ids[0, n] != V - 1 else 0
        assert not torch.allclose(encoder(changed, mask).pooled, encoder(ids, mask).pooled)
    encoder(ids, mask).pooled.square().sum().backward()
    unused = [name for name, p in encoder.named_parameters() if p.grad is None]
    assert not unused
    assert encoder.place.weight.grad.any(-1).tolist() == [True] * 4 + [False] * (MOST - 4)


def test_too_many_tokens_are_refused():
    encoder = text_encoder()
    ids = torch.randint(V, (1, MOST + 1))
    assert encoder(ids[:, :MOST], ids[:, :MOST] >= 0).pooled.shape == (1, D)
    with pytest.raises(ValueError, match=f"{MOST + 1} tokens .* the {MOST} .* shorten"):
        encoder(ids, ids >= 0)


def test_the_mean_is_of_what_the_mask_marks():
    x = torch.randn(4, 5, D, requires_grad=True)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 1, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]]) == 1
    mean = mean_of(x, mask)
    for own, there, got in zip(x[:3], mask, mean, strict=False):
        torch.testing.assert_close(got, own[there].mean(0))
    assert not mean[3].any() and mean.dtype == x.dtype
    grad = torch.autograd.grad(mean.sum(), x)[0]
    assert torch.equal(grad != 0, mask[..., None].expand_as(grad))


@pytest.mark.parametrize("size", [(8, 8), (16, 64), (64, 64)])
def test_pictures_of_another_size_are_refused(size):
    with pytest.raises(ValueError, match="this model takes 32 x 32, resize them first"):
        PatchEmbedding(32, 8, 12)(torch.rand(1, 3, *size))
    with pytest.raises(ValueError, match="are no batch .*; pass pixels"):
        patchify(torch.rand(3, *size), 8)


def test_a_conv_token_sees_its_neighbourhood_and_keeps_its_place():
    stem, pixels = ConvStem(8, 32), torch.rand(1, 3, 64, 64)
    tokens = stem(pixels)
    assert tokens.shape == (1, 64, 32)
    weights = torch.randn(32)
    for n in (3, 24, 62):
        pixels.requires_grad_()
        (seen,) = torch.autograd.grad((stem.forward(pixels)[0, n] * weights).sum(), pixels)
        # GroupNorm looks at the whole picture, faintly; most of a token comes from near its square.
        strength = seen.abs().sum((0, 1))
        row, column = divmod(int(strength.argmax()), 64)
        assert abs(row - (n // 8 * 8 + 3.5)) < 9 and abs(column - (n % 8 * 8 + 3.5)) < 9


def test_an_image_encoder_counts_its_tokens():
    encoder = ImageEncoder(PatchStem(8, D), 16, D, 1, 2)
    made = encoder(torch.rand(2, 3, 32, 32))
    assert made.pooled.shape == (2, D) and made.feats.shape == (2, 17, D)
    with pytest.raises(ValueError, match="64 image tokens, where this encoder has places for 16"):
        encoder(torch.rand(2, 3, 64, 64))
