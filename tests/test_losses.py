"""The contrastive loss: its definition as loops, and what must and must not change it."""

import math

import pytest
import torch
import torch.nn.functional as F

from vlmbook.losses import clip_loss, mined_negatives, same_texts, siglip_loss

B, E = 6, 5


def embeddings(seed=0, num=B):
    torch.manual_seed(seed)
    image = torch.randn(num, E, dtype=torch.float64)
    text = image + 0.8 * torch.randn(num, E, dtype=torch.float64)  # pairs resemble each other
    return F.normalize(image, dim=-1).requires_grad_(), F.normalize(text, dim=-1).requires_grad_()


def slow_loss(image, text, scale):
    """Each picture among all texts, each text among all pictures; the mean of 2 B surprises."""
    total = 0.0
    for i in range(len(image)):
        own = (scale * image[i] @ text[i]).exp()
        among_texts = sum((scale * image[i] @ text[j]).exp() for j in range(len(image)))
        among_images = sum((scale * image[j] @ text[i]).exp() for j in range(len(image)))
        total = total - (own / among_texts).log() - (own / among_images).log()
    return total / (2 * len(image))


@pytest.mark.parametrize("num", [1, 2, B])
@pytest.mark.parametrize("scale", [0.5, 14.0, 100.0])
def test_the_loss_is_its_definition(num, scale):
    given = *embeddings(num=num), torch.tensor(scale, dtype=torch.float64, requires_grad=True)
    ours, theirs = clip_loss(*given), slow_loss(*given)
    assert ours.shape == ()
    torch.testing.assert_close(ours, theirs)
    grads = torch.autograd.grad(ours, given), torch.autograd.grad(theirs, given)
    torch.testing.assert_close(*grads)
    assert num == 1 or grads[0][2].abs() > 0  # the scale learns
    torch.testing.assert_close(clip_loss(*given[:2], scale), ours)


def test_the_loss_is_that_of_transformers():
    clip = pytest.importorskip("transformers.models.clip.modeling_clip")
    if not hasattr(clip, "image_text_contrastive_loss"):
        pytest.skip("this version of transformers has its loss elsewhere")
    image, text = embeddings()
    theirs = clip.image_text_contrastive_loss(7.0 * text @ image.T)
    torch.testing.assert_close(clip_loss(image, text, 7.0), theirs)


@pytest.mark.parametrize("num", [1, 2, 64])
def test_whoever_can_tell_nothing_pays_log_b(num):
    uniform = F.normalize(torch.ones(num, E), dim=-1)
    assert clip_loss(uniform, uniform, 20.0).item() == pytest.approx(math.log(num), abs=1e-5)
    image, text = embeddings(num=num)
    assert clip_loss(image, text, 0.0).item() == pytest.approx(math.log(num))
    right, wrong = torch.eye(num), torch.eye(num).roll(1, 0)
    assert clip_loss(right, right, 100.0) < 1e-6
    assert num == 1 or clip_loss(right, wrong, 100.0) > 50


def test_the_modalities_may_swap():
    image, text = embeddings()
    torch.testing.assert_close(clip_loss(text, image, 9.0), clip_loss(image, text, 9.0))
    logits, targets = 9.0 * image @ text.T, torch.arange(B)
    one_way = F.cross_entropy(logits, targets)
    assert not torch.isclose(one_way, F.cross_entropy(logits.T, targets))  # half of it does change


@pytest.mark.parametrize("shift", range(1, B))
def test_pairs_may_move_together_but_not_apart(shift):
    image, text = embeddings(seed=shift)
    order, loss = torch.randperm(B), clip_loss(image, text, 9.0)
    torch.testing.assert_close(clip_loss(image[order], text[order], 9.0), loss)
    assert clip_loss(image, text.roll(shift, 0), 9.0) > loss + 1


def test_length_makes_no_difference_before_normalising():
    image, text = (x.detach() for x in embeddings())
    longer = image * torch.tensor([0.1, 1, 3, 7, 20, 0.5])[:, None], 4 * text
    loss = clip_loss(image, text, 9.0)
    normal = (F.normalize(x, dim=-1) for x in longer)
    torch.testing.assert_close(clip_loss(*normal, 9.0), loss)
    assert not torch.isclose(clip_loss(*longer, 9.0), loss)


def test_the_scale_sharpens():
    right, wrong = embeddings(), [x.roll(i, 0) for i, x in enumerate(embeddings())]
    assert clip_loss(*right, 10.0) < clip_loss(*right, 1.0)
    assert clip_loss(*wrong, 10.0) > clip_loss(*wrong, 1.0)


def doubled(num=6):
    """A batch in which captions 0 and 3, and 1, 4 and 5, are the same, and where they are."""
    kinds = torch.tensor([0, 1, 2, 0, 1, 1])[:num]
    image, text = embeddings(num=num)
    return image, text, kinds[:, None] == kinds[None]


def slow_info_nce(image, text, scale, same, masked):
    """InfoNCE in loops: a softmax a row and a column, and its targets one by one."""
    total, num = 0.0, len(image)
    for rows, columns in ((image, text), (text, image)):
        for i in range(num):
            cells = [j for j in range(num) if j == i or not (masked and same[i, j])]
            scores = torch.stack([scale * rows[i] @ columns[j] for j in cells])
            picked = scores.log_softmax(0)
            own = [k for k, j in enumerate(cells) if j == i or (same[i, j] and not masked)]
            total = total - sum(picked[k] for k in own) / len(own)
    return total / (2 * num)


def slow_siglip(image, text, scale, bias, same, masked):
    """The sigmoid loss in loops, as yes-or-no questions about every cell."""
    total = 0.0
    for i in range(len(image)):
        for j in range(len(text)):
            if masked and same[i, j] and i != j:
                continue
            yes = torch.sigmoid(scale * image[i] @ text[j] + bias)
            total = total - (yes if i == j or (same[i, j] and not masked) else 1 - yes).log()
    return total / len(image)


@pytest.mark.parametrize("masked", [False, True])
def test_equal_captions_share_their_target_or_are_left_out(masked):
    image, text, same = doubled()
    given = [image.requires_grad_(), text.requires_grad_(), torch.tensor(4.0, requires_grad=True)]
    ours, theirs = (loss(*given, same, masked) for loss in (clip_loss, slow_info_nce))
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, given) for loss in (ours, theirs)))
    assert not torch.isclose(ours, clip_loss(*given))
    own = torch.eye(6, dtype=torch.bool)  # no caption occurs twice
    torch.testing.assert_close(clip_loss(*given, own, masked), clip_loss(*given))


@pytest.mark.parametrize("masked", [False, True])
def test_the_sigmoid_loss_asks_about_every_cell(masked):
    image, text, same = doubled()
    given = [t.requires_grad_() for t in (image, text, torch.tensor(4.0), torch.tensor(-2.0))]
    ours, theirs = (loss(*given, same, masked) for loss in (siglip_loss, slow_siglip))
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, given) for loss in (ours, theirs)))
    own = torch.eye(6, dtype=torch.bool)
    plain = siglip_loss(*given)
    torch.testing.assert_close(plain, slow_siglip(*given, own, masked))
    torch.testing.assert_close(siglip_loss(*given, own, masked), plain)
    assert not torch.isclose(ours, plain)


def test_the_sigmoid_loss_is_that_of_transformers():
    from transformers import SiglipConfig, SiglipModel

    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    small["num_attention_heads"] = 2
    seen = small | {"image_size": 16, "patch_size": 8}
    config = SiglipConfig(text_config=small | {"vocab_size": 20}, vision_config=seen)
    model = SiglipModel(config).eval()
    ids, pixels = torch.randint(3, 20, (3, 8)), torch.rand(3, 3, 16, 16)
    out = model(input_ids=ids, pixel_values=pixels, return_loss=True)
    ours = siglip_loss(out.image_embeds, out.text_embeds, model.logit_scale.exp(), model.logit_bias)
    torch.testing.assert_close(ours, out.loss)


def test_equal_texts_are_found():
    ids = torch.tensor([[1, 5, 2], [1, 6, 2], [1, 5, 2], [1, 2, 0]])
    same = same_texts(ids)
    assert same.dtype == torch.bool and same.diagonal().all()
    assert same.nonzero().tolist() == [[0, 0], [0, 2], [1, 1], [2, 0], [2, 2], [3, 3]]


def test_sharing_targets_changes_nothing_where_equal_texts_have_equal_vectors():
    torch.manual_seed(0)
    image, text = (F.normalize(torch.randn(5, 6), dim=1).requires_grad_() for _ in range(2))
    which = torch.tensor([0, 1, 0, 3, 0])  # the vector of each text
    same = which[:, None] == which[None]
    plain, shared = (clip_loss(image, text[which], 7.0, s) for s in (None, same))
    torch.testing.assert_close(plain, shared)
    for one, other in zip(
        *(torch.autograd.grad(x, (image, text)) for x in (plain, shared)), strict=True
    ):
        torch.testing.assert_close(one, other)
    assert clip_loss(image, text[which], 7.0, same, masked=True) < plain - 0.1
    assert not torch.isclose(clip_loss(image, text, 7.0, same), clip_loss(image, text, 7.0))


def test_hard_negatives_are_mined_as_often_as_their_softmax_says():
    torch.manual_seed(0)
    scores = torch.tensor([[9.0, 2.0, 1.0, 0.0], [0.0, 9.0, 0.0, 0.0], [0.0, 0.0, 9.0, 5.0]])
    scores = torch.cat([scores, torch.zeros(1, 4)])
    same = torch.eye(4, dtype=torch.bool)
    same[1, 2] = same[2, 1] = True
    drawn = torch.stack([mined_negatives(scores, same) for _ in range(4000)])
    assert drawn.shape == (4000, 4) and drawn.dtype == torch.int64
    found = torch.stack([(drawn == n).float().mean(0) for n in range(4)], 1)  # row, what it drew
    expected = (scores.softmax(1) + 1e-4).masked_fill(same, 0)
    expected = expected / expected.sum(1, keepdim=True)
    torch.testing.assert_close(found, expected, atol=0.03, rtol=0)
    assert (found[same] == 0).all()
    assert found[0, 1] > 2 * found[0, 2]  # the harder, the more often


def test_a_batch_that_says_one_thing_has_no_negatives():
    same = torch.ones(3, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match="all captions of the batch say the same; use larger"):
        mined_negatives(torch.zeros(3, 3), same)
