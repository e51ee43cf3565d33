"""Decoding, with decoders so small that every text can be tried."""

import itertools

import pytest
import torch

from vlmbook import generate

V, END_TOKEN, PAD_TOKEN = 4, 3, 0


def markov(seed, num=1, spread=2.0):
    """A step whose logits depend on all tokens; its cache is what was read.

    Every text of the batch has a table of its own, so that mixed-up rows give wrong texts.
    """
    tables = spread * torch.randn(num, 8, V, V, generator=torch.Generator().manual_seed(seed))

    def step(ids, cache):
        read = ids if cache is None else torch.cat([cache["read"], ids], 1)
        which = torch.arange(num).repeat_interleave(len(ids) // num)
        return tables[which, read.sum(1) % 8, read[:, -1]], {"read": read}

    def log_prob(n, text, start=1):
        read, total = [start], 0.0
        for token in text:
            logits = tables[n, sum(read) % 8, read[-1]]
            total += logits.log_softmax(0)[token].item()
            read.append(token)
        return total

    return step, log_prob


def start(num=1):
    return torch.ones(num, 1, dtype=torch.long)


def all_texts(length):
    """All texts that end, or that are cut at a length."""
    for size in range(1, length + 1):
        for text in itertools.product(range(V), repeat=size):
            if END_TOKEN not in text[:-1] and (text[-1] == END_TOKEN or size == length):
                yield text


def shown(ids):
    text = ids.tolist()
    return tuple(text[: text.index(END_TOKEN) + 1] if END_TOKEN in text else text)


HOW = {"end": END_TOKEN, "pad": PAD_TOKEN}


def test_greedy_by_hand():
    step, log_prob = markov(0, num=3)
    found = generate.greedy(step, start(3), 5, **HOW)
    for n in range(3):
        text = []
        while len(text) < 5 and (not text or text[-1] != END_TOKEN):
            text.append(max(range(V), key=lambda t: log_prob(n, [*text, t])))
        assert shown(found.ids[n]) == tuple(text)
        assert found.log_prob[n].item() == pytest.approx(log_prob(n, text), abs=1e-5)


def test_what_follows_the_end_is_padding():
    for decode in (generate.greedy, generate.beam):
        for pad in (PAD_TOKEN, 2):
            found = decode(markov(4, num=16)[0], start(16), 8, end=END_TOKEN, pad=pad)
            sizes = [len(shown(ids)) for ids in found.ids]
            assert len(set(sizes)) > 2
            for ids, size in zip(found.ids, sizes, strict=True):
                assert (ids[size:] == pad).all()


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_enough_beams_find_the_best_text(seed, length_penalty):
    step, log_prob = markov(seed, num=3)
    found = generate.beam(step, start(3), 4, 3**4, length_penalty, **HOW)
    for n in range(3):
        best = max(all_texts(4), key=lambda text: log_prob(n, text) / len(text) ** length_penalty)
        assert shown(found.ids[n]) == best
        assert found.log_prob[n].item() == pytest.approx(log_prob(n, best), abs=1e-5)


def test_one_beam_is_greedy_and_more_are_no_worse():
    gained = 0.0
    for seed in range(20):
        step, _ = markov(seed, num=4)
        greedy = generate.greedy(step, start(4), 6, **HOW)
        one = generate.beam(step, start(4), 6, 1, 0.0, **HOW)
        assert [shown(i) for i in one.ids] == [shown(i) for i in greedy.ids]
        assert one.log_prob == pytest.approx(greedy.log_prob, abs=1e-5)
        many = generate.beam(step, start(4), 6, 4, 0.0, **HOW)
        gained += (many.log_prob - greedy.log_prob).sum().item()
    assert gained > 1


def test_the_nucleus_has_the_fewest_tokens_and_keeps_their_proportions():
    prob = torch.tensor([0.5, 0.3, 0.15, 0.05])

    def step(ids, cache):
        return prob.log().expand(len(ids), -1), cache

    rng = torch.Generator().manual_seed(0)
    for top_p, kept in ((0.4, 1), (0.6, 2), (0.8, 2), (0.9, 3), (1.0, 4)):
        ids = generate.nucleus(step, start(20_000), 1, top_p, generator=rng, **HOW).ids[:, 0]
        share = torch.bincount(ids, minlength=V) / len(ids)
        want = torch.where(torch.arange(V) < kept, prob, 0) / prob[:kept].sum()
        assert share == pytest.approx(want, abs=0.015)


def test_temperature_and_seed():
    step, _ = markov(1, num=64, spread=1.0)

    def draw(seed, temperature):
        rng = torch.Generator().manual_seed(seed)
        return generate.nucleus(step, start(64), 6, 1.0, temperature, rng, **HOW)

    assert (draw(0, 1.0).ids == draw(0, 1.0).ids).all()
    cold, greedy = draw(0, 1e-3), generate.greedy(step, start(64), 6, **HOW)
    assert [shown(i) for i in cold.ids] == [shown(i) for i in greedy.ids]
    assert draw(0, 5.0).log_prob.mean() < draw(0, 0.5).log_prob.mean()


def test_bad_input():
    step, _ = markov(0)
    for max_length in (0, -1):
        with pytest.raises(ValueError, match=f"max_length {max_length} is not 1 or more"):
            generate.greedy(step, start(), max_length)
    with pytest.raises(ValueError, match="num_beams 0 is not 1 or more"):
        generate.beam(step, start(), 3, 0)
    for top_p in (0, 1.5):
        with pytest.raises(ValueError, match=rf"top_p {top_p} is not above 0 and at most 1"):
            generate.nucleus(step, start(), 3, top_p)
    with pytest.raises(ValueError, match="temperature 0 is not above 0"):
        generate.nucleus(step, start(), 3, temperature=0)
