"""The exercises of the chapter on BLIP, page by page. Book: blip.md and those under it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vlmbook.exercises import Exercise, Mistake, Result, judge
from vlmbook.losses import same_texts


def check(name: str, answer: Any) -> Result:
    """What is right or wrong with an answer to one of this chapter's exercises."""
    return judge(EXERCISES, name, answer)


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- blip.md --------------------------------------------------------------------------------------


def _caption_loss(logits: Tensor, ids: Tensor) -> Tensor:
    told = ids[:, 1:] != 0
    return F.cross_entropy(logits[:, :-1][told], ids[:, 1:][told])


def _each(logits: Tensor, ids: Tensor) -> Tensor:
    """-log p of each predicted token, (B, T - 1)."""
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none")


CAPTION_LOSS = Exercise(
    right=_caption_loss,
    trials=lambda: [
        (
            2 * _random(3, 6, 9),
            torch.tensor([[1, 4, 5, 6, 3, 0], [1, 7, 3, 0, 0, 0], [1, 8, 4, 5, 6, 3]]),
        ),
        (2 * _random(2, 4, 9, seed=1), torch.tensor([[1, 4, 3, 0], [1, 5, 6, 3]])),
    ],
    mistakes=(
        Mistake(
            "not shifted",
            lambda logits, ids: F.cross_entropy(logits.flatten(0, 1), ids.flatten()),
            "each place is compared with its own token, which it has just read. What does it"
            " predict?",
        ),
        Mistake(
            "not shifted, without padding",
            lambda logits, ids: F.cross_entropy(logits[ids != 0], ids[ids != 0]),
            "padding is left out, but each place is compared with its own token, not the next.",
        ),
        Mistake(
            "padding counts",
            lambda logits, ids: _each(logits, ids).mean(),
            "padding is predicted, too. Leave it out of the mean.",
        ),
        Mistake(
            "padding counts as nothing",
            lambda logits, ids: (_each(logits, ids) * (ids[:, 1:] != 0).flatten()).mean(),
            "padding costs nothing, but it is still counted in the number of tokens.",
        ),
        Mistake(
            "a mean of means",
            lambda logits, ids: torch.stack(
                [_caption_loss(a[None], b[None]) for a, b in zip(logits, ids, strict=True)]
            ).mean(),
            "each caption has its own mean first, so tokens of short ones count more.",
        ),
        Mistake(
            "a sum",
            lambda logits, ids: _caption_loss(logits, ids) * (ids[:, 1:] != 0).sum(),
            "that is the sum over all tokens. The mean does not grow with the batch.",
        ),
    ),
)


def _prefix_mask(num_tokens: int, num_prompt: int) -> Tensor:
    mask = torch.ones(num_tokens, num_tokens, dtype=torch.bool).tril()
    mask[:num_prompt, :num_prompt] = True
    return mask


PREFIX_MASK = Exercise(
    right=_prefix_mask,
    trials=lambda: [(6, 3), (5, 2), (4, 4)],
    mistakes=(
        Mistake(
            "causal",
            lambda t, p: torch.ones(t, t, dtype=torch.bool).tril(),
            "the tokens of the prompt don't see those of the prompt that come later.",
        ),
        Mistake(
            "everything",
            lambda t, p: torch.ones(t, t, dtype=torch.bool),
            "written tokens see what comes after them, so there is nothing left to guess.",
        ),
        Mistake(
            "not oneself",
            lambda t, p: _prefix_mask(t, p) & ~torch.eye(t, dtype=torch.bool),
            "no token may look at itself. It may: only the next one has to be guessed.",
        ),
        Mistake(
            "the other way round",
            lambda t, p: _prefix_mask(t, p).T,
            "rows and columns are exchanged: the row looks, the column is looked at.",
        ),
        Mistake(
            "the prompt reads on",
            lambda t, p: _prefix_mask(t, p) | (torch.arange(t) < p)[:, None],
            "the prompt sees what is written after it, and tells it to all who look at the prompt.",
        ),
        Mistake(
            "only the prompt",
            lambda t, p: (torch.arange(t) < p).expand(t, t).clone(),
            "written tokens don't see what was written before them, nor themselves.",
        ),
    ),
)


def _hardest(scores: Tensor, ids: Tensor) -> Tensor:
    return scores.masked_fill(same_texts(ids), float("-inf")).argmax(1)


HARDEST = Exercise(
    right=_hardest,
    trials=lambda: [
        (
            torch.tensor(
                [
                    [9.0, 7.0, 2.0, 9.5],
                    [8.0, 6.0, 4.0, 5.0],
                    [-1.0, -2.0, 9.0, -3.0],
                    [9.0, 3.0, 4.0, 8.0],
                ]
            ),
            torch.tensor([[1, 7, 3], [1, 8, 3], [1, 9, 3], [1, 7, 3]]),
        )
    ],
    mistakes=(
        Mistake(
            "its own",
            lambda scores, ids: scores.argmax(1),
            "some of these are the picture's own caption. What is asked for is a wrong one.",
        ),
        Mistake(
            "an equal one",
            lambda scores, ids: scores.masked_fill(torch.eye(len(ids)).bool(), -torch.inf).argmax(
                1
            ),
            "a caption equal to the picture's own stands elsewhere in the batch, and it is true.",
        ),
        Mistake(
            "of captions",
            lambda scores, ids: _hardest(scores.T, ids),
            "that is the hardest picture for each caption. Pictures are the rows.",
        ),
        Mistake(
            "the easiest",
            lambda scores, ids: scores.masked_fill(same_texts(ids), torch.inf).argmin(1),
            "these are the least similar captions, which teach the least.",
        ),
        Mistake(
            "zero for equal ones",
            lambda scores, ids: scores.masked_fill(same_texts(ids), 0.0).argmax(1),
            "a score of 0 is higher than a negative one. Put equal captions below everything.",
        ),
    ),
)

CACHE_COST = Exercise(
    right=lambda n, cache: sum(k if cache else k * k for k in range(1, n + 1)),
    trials=lambda: [(1, True), (5, True), (5, False), (40, True), (40, False)],
    mistakes=(
        Mistake(
            "one pair a step",
            lambda n, cache: n if cache else sum(k * k for k in range(1, n + 1)),
            "with a cache, one token looks in each step, but at all tokens that are there.",
        ),
        Mistake(
            "the last step alone",
            lambda n, cache: n if cache else n * n,
            "that is what the last step costs. All steps are asked for.",
        ),
        Mistake(
            "only new ones look",
            lambda n, cache: sum(range(1, n + 1)),
            "without a cache all tokens are read anew in each step, so all of them look.",
        ),
        Mistake(
            "half of it is masked",
            lambda n, cache: sum(k if cache else k * (k + 1) // 2 for k in range(1, n + 1)),
            "masked pairs are left out here. They are computed, and then hidden.",
        ),
        Mistake(
            "from nothing",
            lambda n, cache: sum(k if cache else k * k for k in range(n)),
            "the first step reads the prompt, so there is one token then, not none.",
        ),
    ),
)

EXERCISES = {
    "caption-loss": CAPTION_LOSS,
    "prefix-mask": PREFIX_MASK,
    "hardest": HARDEST,
    "cache-cost": CACHE_COST,
}
