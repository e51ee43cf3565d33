"""The contrastive loss: its definition as loops, and what must and must not change it."""

import math

import pytest
import torch
import torch.nn.functional as F

from vlmbook.losses import clip_loss

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
