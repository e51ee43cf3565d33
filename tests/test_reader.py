"""Readers choose among answers, by things and words that meet in one of six ways."""

import pytest
import torch

from vlmbook import checkpoint, reader, symbolic, tokenizer, world

WORDS = tokenizer.load()
ANSWERS = ("red", "blue", "빨간색")


def built(joint="concatenation", **changes):
    torch.manual_seed(0)
    config = reader.Config(len(WORDS), ANSWERS, symbolic.NUM_FEATURES, joint, **changes)
    return reader.build(config).eval()


def opened(joint):
    """One whose gates, where there are any, are open."""
    model = built(joint)
    for look in model.joint.looks if joint == "gated" else ():
        torch.nn.init.constant_(look.gates, 0.5)
    return model


@pytest.fixture(scope="module")
def given():
    """Three scenes of one to three things, with questions of different lengths."""
    scenes = [world.sample(1, "full", num_objects=n)[0] for n in (1, 2, 3)]
    texts = [
        "What color is the cube?",
        "무슨 색인가요?",
        "How many are there, all in all, of them?",
    ]
    return *symbolic.vectors(scenes), *WORDS.batch(texts)


@pytest.mark.parametrize("joint", reader.JOINTS)
def test_padding_and_company_make_no_difference(joint, given):
    model = opened(joint)
    logits = model(*given)
    assert logits.shape == (3, len(ANSWERS))
    objects, present, ids, mask = given
    for n in range(3):
        things, tokens = int(present[n].sum()), int(mask[n].sum())
        alone = model(
            objects[n : n + 1, :things],
            present[n : n + 1, :things],
            ids[n : n + 1, :tokens],
            mask[n : n + 1, :tokens],
        )
        torch.testing.assert_close(alone[0], logits[n], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("joint", reader.JOINTS)
def test_it_depends_on_the_things_and_on_the_words_and_not_on_the_order_of_things(joint, given):
    if joint == "gated":  # begins with closed gates, and then sees nothing
        closed = built(joint)
        torch.testing.assert_close(closed(*given), closed(0 * given[0], *given[1:]))
    model = opened(joint)
    objects, present, ids, mask = given
    logits = model(*given)
    turned = model(objects[:, [2, 0, 1]], present[:, [2, 0, 1]], ids, mask)
    torch.testing.assert_close(turned, logits, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(model(objects.roll(1, 2), present, ids, mask), logits, atol=1e-4)
    assert not torch.allclose(model(objects, present, ids.roll(1, 0), mask), logits, atol=1e-4)


def test_joints_have_equally_many_weights():
    sizes = [sum(w.numel() for w in built(joint).parameters()) for joint in reader.JOINTS]
    assert max(sizes) < 1.05 * min(sizes)


def test_the_likeliest_answer_is_told(given):
    model = built()
    questions = ["What color is the cube?"] * 3
    told = model.answer(*given[:2], questions, WORDS)
    chosen = model(*given[:2], *WORDS.batch(questions)).argmax(1)
    assert told == [ANSWERS[n] for n in chosen.tolist()]


def test_a_saved_reader_says_the_same(tmp_path, given):
    model = built("query tokens")
    checkpoint.save(tmp_path / "own", model, model.config, {})
    again, _ = checkpoint.load(tmp_path / "own")
    assert again.config.joint == "query tokens"
    assert torch.equal(again(*given), model(*given))


def test_bad_input_is_explained(given):
    with pytest.raises(ValueError, match="joint 'glue' does not exist; choose from late, conc"):
        built("glue")
    with pytest.raises(ValueError, match="answers is empty"):
        reader.Config(len(WORDS), (), 3)
    with pytest.raises(ValueError, match="3 scenes and 1 question"):
        built().answer(*given[:2], ["What color is the cube?"], WORDS)
    model = built(max_tokens=4)
    with pytest.raises(ValueError, match="are more than the 4 that this model reads; shorten"):
        model(*given)
