"""Our SigLIP is transformers' SigLIP with the same weights, whichever way they go."""

import pytest
import torch
import torch.nn.functional as F
from theirs import features

from vlmbook import siglip
from vlmbook.layers import without_weights

pytestmark = pytest.mark.usefixtures("small_training")
VOCABULARY, TOKENS = 60, 10


def twins():
    """transformers' model and ours, of the same odd sizes, with weights that are far from 0."""
    from transformers import SiglipConfig, SiglipModel

    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 3}
    words = {"vocab_size": VOCABULARY, "max_position_embeddings": TOKENS, "bos_token_id": 2}
    config = SiglipConfig(
        vision_config=sizes | {"image_size": 24, "patch_size": 8},
        text_config=sizes | words | {"eos_token_id": 1, "pad_token_id": 1},
    )
    theirs = SiglipModel(config).eval()
    for weights in theirs.parameters():
        weights.data += 0.2 * torch.randn_like(weights)
    ours = siglip.build(siglip.Config(VOCABULARY, 24, 8, 24, 40, 2, 3, TOKENS))
    return theirs, ours.eval()


def batch():
    ids = torch.randint(2, VOCABULARY, (4, TOKENS))
    ids[1, 4:] = 1
    return torch.rand(4, 3, 24, 24), ids, torch.ones_like(ids, dtype=torch.bool)


def compare(theirs, ours):
    pixels, ids, mask = batch()
    image, text = ours.encode_image(pixels), ours.encode_text(ids, mask)
    seen, read = ours.prepare(pixels), {"input_ids": ids}
    for one, other in (
        (image, features(theirs.get_image_features(pixel_values=seen))),
        (text, features(theirs.get_text_features(**read))),
    ):
        torch.testing.assert_close(one, F.normalize(other, dim=-1), atol=1e-5, rtol=0)
    out = theirs(pixel_values=seen, **read)
    torch.testing.assert_close(
        ours.log_odds(image, text), out.logits_per_image, atol=2e-5, rtol=1e-5
    )


def test_with_their_weights_ours_says_the_same():
    theirs, ours = twins()
    compare(theirs, siglip.load_transformers(ours, theirs.state_dict()))
    with torch.no_grad(), without_weights():
        compare(theirs, ours)
    with torch.no_grad():
        ours.image.pool.query += 0.5 * torch.randn(24)
    with pytest.raises(AssertionError, match="not close"):
        compare(theirs, ours)


def test_with_our_weights_theirs_says_the_same():
    theirs, ours = twins()
    theirs.load_state_dict(siglip.to_transformers(ours))
    compare(theirs, ours)


def test_weights_survive_the_way_there_and_back():
    theirs, ours = twins()
    state = theirs.state_dict()
    back = siglip.to_transformers(siglip.load_transformers(ours, state))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)
    del state["vision_model.head.probe"]
    with pytest.raises(ValueError, match=r"another model: vision_model.head.probe is missing"):
        siglip.load_transformers(ours, state)


def test_the_picture_is_squeezed_and_the_weights_are_returned():
    _, ours = twins()
    wide = torch.zeros(1, 3, 24, 48)
    wide[..., :12] = 1.0  # would be cropped away
    made = ours.prepare(wide)
    assert made.shape == (1, 3, 24, 24) and (made[..., :4] > 0.9).all()
    seen = ours.image(made)
    assert [tuple(w.shape) for w in seen.weights] == [(1, 3, 9, 9)] * 2 + [(1, 3, 1, 9)]
    torch.testing.assert_close(seen.weights[-1].sum(-1), torch.ones(1, 3, 1))


def test_a_text_that_is_not_padded_is_refused():
    _, ours = twins()
    _, ids, mask = batch()
    with pytest.raises(ValueError, match="texts of 9 tokens; SigLIP pools at the last of 10"):
        ours.encode_text(ids[:, :9], mask[:, :9])
    with pytest.raises(ValueError, match="size 60 is not a multiple of patch 8"):
        siglip.Config(10, 60, 8)
