"""From a decoder's next-token logits to a text: greedy, beam search, nucleus sampling, in a stream.

A decoder is given as step(ids, cache): ids (B, T) are the tokens that it has not read yet, cache
what it keeps of those that it has, None at first; it gives the logits (B, V) of the token that
follows, and the new cache, a tensor with B in front or a list, tuple or dict of such.

B texts, T tokens, V vocabulary. Holtzman et al. 2020 for the nucleus. Book: blip.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vlmbook.tokenizer import END, PAD

Step = Callable[[Tensor, Any], tuple[Tensor, Any]]


class Generated(NamedTuple):
    """ids (B, T) of what was made, the end token included and padded after it, and the logarithm
    of each text's probability under the decoder, (B,).
    """

    ids: Tensor
    log_prob: Tensor


class Answer(NamedTuple):
    """A text, the probability of it under the model, and what a reader should know, if anything."""

    text: str
    probability: float
    note: str = ""


def decode(decoding: str, step: Step, start: Tensor, max_length: int, **how: Any) -> Generated:
    """Greedy, beam or nucleus, by name; how are its own settings."""
    if decoding not in DECODINGS:
        raise ValueError(
            f"decoding {decoding!r} does not exist; choose from {', '.join(DECODINGS)}"
        )
    return DECODINGS[decoding](step, start, max_length, **how)


@torch.no_grad()
def stream(
    step: Step,
    start: Tensor,
    max_length: int,
    end: int = END,
    pad: int = PAD,
    choose: Callable[[Tensor], Tensor] = lambda log_prob: log_prob.argmax(1),
) -> Iterator[tuple[Tensor, Tensor]]:
    """The tokens (B,) of each step as they are made, and their log probabilities (B,).

    A text that has ended goes on with padding of log probability 0. choose picks the tokens from
    the logarithms of all probabilities, (B, V) to (B,); the most probable ones where it is left
    out.
    """
    _check_length(max_length)
    going = torch.ones(len(start), dtype=torch.bool, device=start.device)
    ids, cache = start, None
    for _ in range(max_length):
        logits, cache = step(ids, cache)
        known = logits.float().log_softmax(1)
        token = choose(known)
        log_prob = known.gather(1, token[:, None])[:, 0] * going
        token = token.masked_fill(~going, pad)
        yield token, log_prob
        going = going & (token != end)
        if not going.any():
            return
        ids = token[:, None]


@torch.no_grad()
def greedy(step: Step, start: Tensor, max_length: int, end: int = END, pad: int = PAD) -> Generated:
    """Always the most probable token, from start (B, S) on, for at most max_length tokens."""
    return _whole(stream(step, start, max_length, end, pad))


@torch.no_grad()
def nucleus(
    step: Step,
    start: Tensor,
    max_length: int,
    top_p: float = 0.9,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    end: int = END,
    pad: int = PAD,
) -> Generated:
    """Draw each token from the fewest that have a probability of top_p together.

    Logits are divided by the temperature before. log_prob is that of the decoder itself.
    """
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p {top_p} is not above 0 and at most 1; 0.9 is usual")
    if not temperature > 0:
        raise ValueError(f"temperature {temperature} is not above 0; for 0, use greedy")

    def draw(log_prob: Tensor) -> Tensor:
        prob, order = (log_prob / temperature).softmax(1).sort(dim=1, descending=True)
        before = prob.cumsum(1) - prob  # the first one is always in
        place = torch.multinomial(prob.masked_fill(before >= top_p, 0), 1, generator=generator)
        return order.gather(1, place)[:, 0]

    return _whole(stream(step, start, max_length, end, pad, draw))


@torch.no_grad()
def beam(
    step: Step,
    start: Tensor,
    max_length: int,
    num_beams: int = 4,
    length_penalty: float = 1.0,
    end: int = END,
    pad: int = PAD,
) -> Generated:
    """Keep the num_beams most probable beginnings, and give the best text that has ended.

    Texts are compared by their logarithm of probability over their length to the power of
    length_penalty: 0 compares probabilities, 1 what a token costs on average. The search ends for a
    text when no beginning, at its present length, is better than the num_beams ended ones.
    """
    _check_length(max_length)
    if num_beams < 1:
        raise ValueError(f"num_beams {num_beams} is not 1 or more; 1 is greedy, 4 is usual")
    num = len(start)
    ids = start.repeat_interleave(num_beams, 0)
    total = torch.full((num, num_beams), float("-inf"), device=start.device)
    total[:, 0] = 0.0  # at first all beams are the same
    made = ids[:, :0]
    ended: list[list[tuple[float, float, Tensor]]] = [[] for _ in range(num)]
    open_texts, cache = [True] * num, None
    for length in range(1, max_length + 1):
        logits, cache = step(ids, cache)
        reached = total[:, :, None] + logits.float().log_softmax(1).unflatten(0, (num, num_beams))
        best, place = reached.flatten(1).topk(min(2 * num_beams, reached[0].numel()))
        rows, chosen = [], []
        for n in range(num):
            last = length == max_length
            kept, over = _divide(best[n], place[n], reached.shape[-1], num_beams, end, last)
            kept += [(float("-inf"), 0, pad)] * (num_beams - len(kept))
            if open_texts[n]:
                for value, b, token in over:
                    text = torch.cat([made[n * num_beams + b], made.new_tensor([token])])
                    ended[n].append((value / length**length_penalty, value, text))
                ended[n] = sorted(ended[n], key=lambda one: -one[0])[:num_beams]
                full, hope = len(ended[n]) == num_beams, kept[0][0] / length**length_penalty
                open_texts[n] = not (full and hope <= ended[n][-1][0])
            total[n] = torch.tensor([value for value, _, _ in kept])
            rows += [n * num_beams + b for _, b, _ in kept]
            chosen += [token for _, _, token in kept]
        picked = torch.tensor(rows, device=start.device)
        ids = torch.tensor(chosen, device=start.device)[:, None]
        made = torch.cat([made[picked], ids], 1)
        cache = _pick(cache, picked)
        if not any(open_texts):
            break
    found = [max(texts, key=lambda one: one[0]) for texts in ended]
    _, values, texts = zip(*found, strict=True)
    padded = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=pad)
    return Generated(padded, torch.tensor(values, device=start.device))


def _divide(
    best: Tensor, place: Tensor, size: int, num_beams: int, end: int, last: bool
) -> tuple[list[tuple[float, int, int]], list[tuple[float, int, int]]]:
    """Part the best continuations of a text, the first ones first, into beginnings and ended texts.

    place is beam * size + token. Returns (value, beam, token) of up to num_beams that go on, and of
    those among the first num_beams that end; at the last token, these all do.
    """
    found = [(v, *divmod(i, size)) for v, i in zip(best.tolist(), place.tolist(), strict=True)]
    kept = [one for one in found if one[2] != end][:num_beams]
    over = [one for one in found[:num_beams] if last or one[2] == end]
    return kept, [one for one in over if one[0] > float("-inf")]


def _whole(made: Iterator[tuple[Tensor, Tensor]]) -> Generated:
    """All that a stream gives."""
    tokens, log_probs = zip(*made, strict=True)
    return Generated(torch.stack(tokens, 1), torch.stack(log_probs).sum(0))


def _pick(cache: Any, rows: Tensor) -> Any:
    """The rows of a cache that beams go on with."""
    if isinstance(cache, Tensor):
        return cache[rows]
    if isinstance(cache, dict):
        return {key: _pick(value, rows) for key, value in cache.items()}
    if isinstance(cache, list | tuple):
        return type(cache)(_pick(value, rows) for value in cache)
    return cache


def _check_length(max_length: int) -> None:
    if max_length < 1:
        raise ValueError(f"max_length {max_length} is not 1 or more; it counts the tokens to make")


DECODINGS: dict[str, Callable[..., Generated]] = {
    "greedy": greedy,
    "beam": beam,
    "nucleus": nucleus,
}
